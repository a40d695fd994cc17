"""Several seeds in one program end as each does alone on one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, zoo
from natjax.methods import supervised
from natjax.training import devices, fit, metrics, seeds
from natjax.training import method as base
from tests import tiny
from tests.training import test_fit

RUNS = ("a", "b", "c", "d", "e")
METHOD = test_fit.toy_method()


def together(method=None, num_seeds=3, count=1, **options):
  lanes = options.pop("lanes", 1)
  return seeds.fit_seeds(
      method or METHOD, test_fit.make_splits(),
      seeds=range(num_seeds), runs=RUNS[:num_seeds], batch_size=4,
      preparation=test_fit.PREPARATION, lanes=lanes,
      options=fit.Options(devices=devices.choose(count), **options))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """Of every seed, the state and the rows where it trains alone."""
  path = tmp_path_factory.mktemp("alone") / "metrics.jsonl"
  states = [test_fit.run(method=METHOD, seed=seed, run=run, metrics_path=path)
            for seed, run in enumerate(RUNS)]
  rows = test_fit.plain_rows(path)
  return [(state, [row for row in rows if row["run"] == run])
          for state, run in zip(states, RUNS, strict=True)]


def close(a, b, **tolerance):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      np.testing.assert_array_equal(
          jax.random.key_data(x), jax.random.key_data(y))
    else:
      np.testing.assert_allclose(x, y, **tolerance)


@pytest.mark.long
@pytest.mark.parametrize("num_seeds,count,lanes", [
    (3, 1, 3), (4, 4, 1), (5, 2, 2), (3, 1, 1)])
def test_each_seed_ends_as_it_does_alone(
    num_seeds, count, lanes, alone, tmp_path):
  path = tmp_path / "metrics.jsonl"
  states = together(num_seeds=num_seeds, count=count, lanes=lanes,
                    metrics_path=path)
  assert len(states) == num_seeds
  for run, state, (expected, rows) in zip(RUNS, states, alone, strict=False):
    mine = [row for row in test_fit.plain_rows(path) if row["run"] == run]
    if (count, lanes) == (1, 1):
      test_fit.equal(state, expected)
      assert mine == rows
    else:  # Another program, which rounds otherwise.
      close(state, expected, rtol=1e-5)
      for a, b in zip(mine, rows, strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)


@pytest.mark.long
def test_a_network_ends_as_it_does_alone():
  config = supervised.TrainConfig(
      init_channels=2, cells=1, epochs=1, batch_size=16, auxiliary=False,
      cutout=0, drop_path=0.3)
  method = supervised.Supervised(
      config, zoo.get("vgg-cell"), num_classes=10, image_size=8,
      steps_per_epoch=3).method()
  splits = {"train": tiny.splits(48)["train"]}
  common = {"batch_size": 16, "preparation": tiny.preparation()}
  expected = [fit.fit(method, splits, options=fit.Options(
      devices=devices.choose(1), seed=seed, run=run), **common)
              for seed, run in zip((1, 5), "ab", strict=True)]
  for count, lanes in ((2, 1), (1, 2)):
    states = seeds.fit_seeds(
        method, splits, seeds=(1, 5), runs=("a", "b"), lanes=lanes,
        options=fit.Options(devices=devices.choose(count)), **common)
    close(states, expected, rtol=1e-3, atol=1e-5)


def test_chunks_streaming_and_resuming_leave_no_trace(tmp_path):
  whole = together(lanes=3, metrics_path=tmp_path / "whole.jsonl")
  image = 6 * 6 * 3
  for state, streamed in zip(
      whole, together(lanes=3, resident_bytes=image * 4 * 3 * 2), strict=True):
    test_fit.equal(state, streamed)
  for stop_after in (1, 6, 30):
    chunks = []
    options = {"checkpoint_dir": tmp_path / str(stop_after),
               "chunk_seconds": 1e-6, "checkpoint_seconds": 1e9,
               "metrics_path": tmp_path / f"{stop_after}.jsonl", "lanes": 3}
    with pytest.raises(errors.Interrupted, match="a, b, c"):
      together(on_progress=chunks.append, should_stop=lambda c=chunks,
               n=stop_after: len(c) >= n, **options)
    for state, resumed in zip(whole, together(**options), strict=True):
      test_fit.equal(state, resumed)
    assert test_fit.plain_rows(tmp_path / f"{stop_after}.jsonl") == (
        test_fit.plain_rows(tmp_path / "whole.jsonl"))
    again = []
    together(on_progress=again.append, **options)
    assert not again


@pytest.mark.parametrize("count,lanes", [(1, 3), (3, 1)])
def test_a_seed_that_is_not_finite_is_named(count, lanes):
  def init(rng):
    # Seed 1 alone, whatever its key is.
    mine = jnp.all(jax.random.key_data(rng) == jax.random.key_data(
        jax.random.key(1)))
    return {"count": jnp.zeros((), jnp.int32), "bad": mine}

  def update(state, batch):
    loss = jnp.where(state["bad"] & (state["count"] == 7), jnp.nan, 1.0)
    return ({**state, "count": state["count"] + 1},
            {"loss": base.mean_over_devices(loss)})

  phase = base.Phase("p", ("a",), update, ("loss",))
  method = base.Method(
      init=init, evaluate=None, stages=(base.Stage("one", 3, (phase,)),),
      explain=lambda state: f"count {int(state['count'])}")
  with pytest.raises(
          errors.NotFinite,
      match=r"b, seed 1, one, epoch 1, phase p, step 2.*count 8"):
    together(method=method, count=count, lanes=lanes)


def test_a_choice_by_an_index_stays_one_where_a_device_holds_a_seed():
  def update(state, batch):
    index = jax.random.randint(
        base.device_key(jax.random.fold_in(state["rng"], state["step"])), (),
        0, 2)
    value = jax.lax.switch(
        index, (jnp.sum, lambda x: jnp.sum(jnp.sin(x))), batch["image"])
    return ({**state, "step": state["step"] + 1},
            {"loss": base.mean_over_devices(value)})

  phase = base.Phase("p", ("a",), update, ("loss",))
  state = {"rng": jax.random.split(jax.random.key(0), 2),
           "step": np.zeros(2, np.int32)}
  images = np.zeros((8, 6, 6, 3), np.uint8)

  def text(count, lanes):
    chunk = seeds.make_chunk(phase, test_fit.PREPARATION,
                             tuple(devices.choose(count)), lanes)
    return chunk.lower(
        state, np.zeros((2, 1), np.float32),
        (fit.Split(images, np.zeros(8, np.int32)),),
        (np.zeros((2, 2, 4), np.int32),), np.zeros(3, np.int32),
        jax.random.split(jax.random.key(0), 2)).as_text()

  assert "stablehlo.case" in text(2, 1)
  assert "stablehlo.case" not in text(1, 2)


@pytest.mark.parametrize("together", [False, True])
def test_a_phase_observes_each_run(together, tmp_path):
  method = test_fit.toy_method(epochs=2)
  first = method.stages[0].phases[0]._replace(
      observe=lambda state, epoch: {
          "seen": [int(state["count"]), epoch], "total": float(state["total"])})
  method = method._replace(stages=(base.Stage("one", 2, (first,)),))
  path, heard = tmp_path / "m.jsonl", []
  options = {"devices": devices.choose(1), "metrics_path": path,
             "on_progress": heard.append}
  common = {"batch_size": 4, "preparation": test_fit.PREPARATION}
  if together:
    states = seeds.fit_seeds(
        method, test_fit.make_splits(), seeds=(0, 1), runs=("a", "b"), lanes=2,
        options=fit.Options(**options), **common)
  else:
    states = [fit.fit(method, test_fit.make_splits(), options=fit.Options(
        seed=s, run="ab"[s], **options), **common) for s in (0, 1)]
  for run, state in zip("ab", states, strict=True):
    rows = [row for row in metrics.read(path) if row["run"] == run]
    assert [row["seen"] for row in rows] == [[5, 0], [10, 1]]
    assert rows[-1]["total"] == float(state["total"])
    assert list(rows[0])[-1] == "seconds"
    # Of what is seen, progress tells the numbers.
    ends = [p.metrics for p in heard if p.run == run and p.step == p.steps]
    assert ends == [{name: row[name] for name in ("loss", "noise", "total")}
                    for row in rows]


def test_bad_seeds_are_refused():
  with pytest.raises(errors.InputError, match="a name of its own"):
    seeds.fit_seeds(
        METHOD, test_fit.make_splits(), seeds=(0, 1),
        runs=("a", "a"), batch_size=4, preparation=test_fit.PREPARATION,
        options=fit.Options())
  with pytest.raises(errors.InputError, match="lanes is 0"):
    together(lanes=0)


def test_the_cheapest_way():
  one, four = devices.choose(1), devices.choose(4)
  assert seeds.seeds_together(3, one) == "one by one"
  assert seeds.seeds_together(1, four) == "one by one"
  assert seeds.seeds_together(3, four) == "one by one"
  assert seeds.seeds_together(4, four) == "spread"
  assert seeds.seeds_together(9, four) == "spread"


@pytest.mark.parametrize("arguments,expected", [
    ((3, 1, 3), [(1, 3)]), ((4, 4, 1), [(4, 1)]), ((5, 4, 1), [(4, 1), (1, 1)]),
    ((10, 4, 8), [(4, 2), (2, 1)]), ((2, 8, 4), [(2, 1)])])
def test_every_seed_has_its_round(arguments, expected):
  assert seeds._rounds(*arguments) == expected
  assert sum(a * b for a, b in expected) == arguments[0]
