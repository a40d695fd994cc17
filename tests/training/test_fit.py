"""The engine: order of images, chunks, resuming, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import data, errors
from natjax.training import batches, devices, fit, metrics
from natjax.training import method as base


def new_method(epochs=3, fail_at=None):
  """Sums pixels and random numbers: cheap, and it notices any difference."""

  def init(rng):
    return {"total": jnp.zeros(()), "count": jnp.zeros((), jnp.int32),
            "rng": rng}

  def update(state, batch):
    rng, key = jax.random.split(state["rng"])
    value = jnp.sum(batch["image"]) + jnp.sum(batch["label"])
    noise = jax.random.normal(key)
    total = state["total"] * 0.9 + base.mean_over_devices(value) + noise
    loss = total
    if fail_at is not None:
      loss = jnp.where(state["count"] == fail_at, jnp.nan, total)
    return ({"total": total, "count": state["count"] + 1, "rng": rng},
            {"loss": loss, "noise": noise})

  def second(state, batch):
    state, metrics = update(state, batch)
    return state, {"loss": metrics["loss"]}

  phases = (base.Phase("first", ("a",), update, ("loss", "noise")),
            base.Phase("second", ("b",), second, ("loss",), augment=False))
  return base.Method(
      init=init, stages=(base.Stage("one", epochs, phases),
                         base.Stage("two", 1, phases[:1])),
      evaluate=lambda state, batch: batch["label"] == 1,
      explain=lambda state: f"count {int(state['count'])}")


# The same one again, so that a program is compiled once for all tests.
toy_method = functools.cache(new_method)


def make_splits(seed=0):
  rng = np.random.default_rng(seed)
  part = lambda n: fit.Split(
      rng.integers(0, 255, (n, 6, 6, 3)).astype(np.uint8),
      rng.integers(0, 10, n).astype(np.int32))
  return {"a": part(21), "b": part(13)}


PREPARATION = fit.Preparation(
    (0.5,) * 3, (0.25,) * 3, data.Augmentation(crop_padding=1, flip=True))


def run(tmp_path=None, method=None, count=1, **options):
  return fit.fit(
      method or toy_method(), make_splits(), batch_size=4,
      preparation=PREPARATION, options=fit.Options(
          devices=devices.choose(count), **options))


def equal(a, b):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      x, y = jax.random.key_data(x), jax.random.key_data(y)
    np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def plain_rows(path):
  return [{k: v for k, v in row.items() if k != "seconds"}
          for row in metrics.read(path)]


def test_every_step_is_taken_once_and_rows_are_written(tmp_path):
  state = run(metrics_path=tmp_path / "m.jsonl", run="toy")
  # 3 epochs of 5 + 3 steps and one more of 5.
  assert int(state["count"]) == 3 * (5 + 3) + 5
  rows = metrics.read(tmp_path / "m.jsonl")
  assert [(r["stage"], r["phase"], r["epoch"]) for r in rows] == [
      *(("one", p, e) for e in range(3) for p in ("first", "second")),
      ("two", "first", 0)]
  assert set(rows[1]) == {"run", "stage", "phase", "epoch", "loss", "seconds"}


def test_chunk_length_leaves_no_trace(tmp_path):
  states = []
  for i, seconds in enumerate((1e-6, 100.0)):
    states.append(run(chunk_seconds=seconds,
                      metrics_path=tmp_path / f"{i}.jsonl", run="toy"))
  equal(*states)
  assert plain_rows(tmp_path / "0.jsonl") == plain_rows(tmp_path / "1.jsonl")


@pytest.mark.parametrize("count", [1, 4])
def test_a_phase_is_compiled_once(count, caplog):
  with jax.log_compiles(True):
    run(method=new_method(), count=count, chunk_seconds=1e-6)
  compiled = [r.getMessage().split()[4] for r in caplog.records
              if r.getMessage().startswith("Finished XLA compilation")]
  # `spread` names its programs so; there are two phases.
  assert len([name for name in compiled if "on_one" in name]) == 2, compiled


def test_streaming_leaves_no_trace():
  image = 6 * 6 * 3
  equal(run(), run(resident_bytes=image * 4 * 2))


def test_the_seed_matters():
  assert float(run(seed=0)["total"]) != float(run(seed=1)["total"])


def test_interrupted_anywhere_and_resumed_is_bit_for_bit_the_same(tmp_path):
  whole = run(metrics_path=tmp_path / "whole.jsonl", run="toy")
  for stop_after in (1, 4, 6, 11, 17):
    folder = tmp_path / str(stop_after)
    chunks = []
    options = {
        "checkpoint_dir": folder, "run": "toy", "chunk_seconds": 1e-6,
        "metrics_path": tmp_path / f"{stop_after}.jsonl",
        "checkpoint_seconds": 1e9}
    with pytest.raises(errors.Interrupted):
      run(on_progress=chunks.append,
          should_stop=lambda c=chunks, n=stop_after: len(c) >= n, **options)
    # A row that was written after the checkpoint is written again.
    with (tmp_path / f"{stop_after}.jsonl").open("a") as f:
      f.write('{"run": "toy", "stage": "one", "epoch": 99}\n{"run": "to')
    resumed = run(**options)
    equal(whole, resumed)
    assert plain_rows(tmp_path / f"{stop_after}.jsonl") == plain_rows(
        tmp_path / "whole.jsonl")


def test_a_finished_run_is_not_run_again(tmp_path):
  first = run(checkpoint_dir=tmp_path / "c")
  seen = []
  again = run(checkpoint_dir=tmp_path / "c", on_progress=seen.append)
  equal(first, again)
  assert not seen


def test_says_that_a_phase_begins_before_its_first_chunk():
  seen = []
  run(on_progress=seen.append)
  first = {}
  for p in seen:
    first.setdefault((p.stage, p.phase), p)
  for p in first.values():
    assert (p.step, p.metrics) == (0, {})
  assert sum(not p.metrics for p in seen) == len(first)


def test_four_devices_walk_the_same_images():
  one = batches.epoch_order(21, 4, 1, [0])
  four = batches.epoch_order(21, 4, 4, [0])
  np.testing.assert_array_equal(
      one.reshape(5, 4), four.transpose(1, 0, 2).reshape(5, 4))
  assert len(np.unique(one)) == 20
  assert int(run(count=4)["count"]) == 29


def test_a_step_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
    tmp_path):
  with pytest.raises(errors.NotFinite, match=r"epoch 1, phase first, step 2.*"
                     r"count 11"):
    run(method=toy_method(fail_at=10), checkpoint_dir=tmp_path / "c",
        checkpoint_seconds=0.0)
  # The last good checkpoint is there and good.
  state = run(method=toy_method(), checkpoint_dir=tmp_path / "c")
  equal(state, run())


@pytest.mark.long
@pytest.mark.parametrize("at", [4, 28])  # In an epoch, and the very last.
def test_an_update_that_leaves_what_is_not_finite_is_not_kept(tmp_path, at):
  method = new_method()

  def ruin(phase):
    def update(state, batch):
      new, metrics = phase.update(state, batch)
      spoilt = jnp.where(state["count"] == at, jnp.inf, new["total"])
      return {**new, "total": spoilt}, metrics

    return phase._replace(update=update)

  method = method._replace(stages=tuple(
      stage._replace(phases=tuple(map(ruin, stage.phases)))
      for stage in method.stages))
  with pytest.raises(errors.NotFinite, match="not finite"):
    run(method=method, checkpoint_dir=tmp_path / "c", checkpoint_seconds=0.0,
        chunk_seconds=0.0)
  resumed = run(method=new_method(), checkpoint_dir=tmp_path / "c")
  np.testing.assert_allclose(resumed["total"], run()["total"], rtol=1e-6)
  assert int(resumed["count"]) == 29


@pytest.mark.parametrize("which", ["array", "position", "seal", "missing"])
def test_damaged_checkpoint_is_refused_and_kept(tmp_path, which):
  run(checkpoint_dir=tmp_path / "c")
  newest = max((p for p in (tmp_path / "c").iterdir() if p.name.isdigit()),
               key=lambda p: int(p.name))
  path = {
      "array": max((p for p in newest.rglob("*") if p.is_file()),
                   key=lambda p: p.stat().st_size),
      "position": next(p for p in newest.rglob("position/*") if p.is_file()),
      "seal": newest.with_name(f"{newest.name}.seal"),
      "missing": next(p for p in newest.rglob("state/*") if p.is_file()),
  }[which]
  damaged = bytearray(path.read_bytes())
  damaged[len(damaged) // 2] ^= 0xFF
  path.write_bytes(bytes(damaged))
  if which == "missing":
    path.unlink()
  with pytest.raises(errors.InputError, match="damaged") as e:
    run(checkpoint_dir=tmp_path / "c")
  assert "\n" not in str(e.value) and e.value.field == "overwrite"
  assert path.exists() == (which != "missing")
  if path.exists():
    assert path.read_bytes() == bytes(damaged)


def test_what_a_file_browser_leaves_in_a_checkpoint_is_passed_over(tmp_path):
  first = run(checkpoint_dir=tmp_path / "c")
  newest = max((p for p in (tmp_path / "c").iterdir() if p.name.isdigit()),
               key=lambda p: int(p.name))
  for folder in (tmp_path / "c", newest, newest / "state"):
    (folder / ".DS_Store").write_bytes(b"Bud1")
  again = run(checkpoint_dir=tmp_path / "c")
  np.testing.assert_array_equal(again["total"], first["total"])
  (newest / "state" / "more").write_bytes(b"")
  with pytest.raises(errors.InputError, match="damaged"):
    run(checkpoint_dir=tmp_path / "c")


def test_a_checkpoint_without_its_seal_was_never_finished(tmp_path):
  with pytest.raises(errors.Interrupted):
    run(checkpoint_dir=tmp_path / "c", chunk_seconds=1e-6,
        checkpoint_seconds=0.0, should_stop=iter(
            [False] * 7 + [True]).__next__)
  newest = max(tmp_path.glob("c/*.seal"), key=lambda p: int(p.stem))
  newest.unlink()
  equal(run(checkpoint_dir=tmp_path / "c"), run())


def test_foreign_checkpoint_is_refused(tmp_path):
  run(checkpoint_dir=tmp_path / "c")
  method = toy_method()
  other = method._replace(init=lambda rng: {
      **method.init(rng), "total": jnp.zeros(7)})
  with pytest.raises(errors.InputError, match="another kind of run"):
    run(method=other, checkpoint_dir=tmp_path / "c")


def test_bad_sizes_are_refused():
  with pytest.raises(errors.InputError, match=r"\(6\).*devices \(4\)"):
    devices.check_batch(6, 4)
  with pytest.raises(errors.InputError, match="at least 1"):
    devices.check_batch(0, 1)
  with pytest.raises(errors.InputError, match="from 1 to 4"):
    devices.choose(5)
  with pytest.raises(errors.InputError, match="devices is '2' and this"):
    devices.choose("2")
  with pytest.raises(errors.InputError, match="fewer than a batch"):
    fit.check_splits(make_splits(), 16)


@pytest.mark.parametrize("whole,expected", [(False, 13), (True, 12)])
def test_evaluate_counts_every_image_once(whole, expected):
  split = make_splits()["b"]
  split = split._replace(labels=np.arange(13) % 2)
  accuracy = fit.evaluate(
      lambda state, batch: (batch["label"] == 1).astype(jnp.float32), None,
      split, preparation=PREPARATION, batch_size=4, whole=whole)
  np.testing.assert_allclose(accuracy, 6 / expected)


def test_evaluation_images_are_not_augmented():
  split = make_splits()["b"]
  seen = fit.evaluate(
      lambda state, batch: batch["image"][:, 0, 0, 0], None, split,
      preparation=PREPARATION, batch_size=13)
  plain = (split.images[:, 0, 0, 0] / 255 - 0.5) / 0.25
  np.testing.assert_allclose(seen, plain.mean(), rtol=1e-4)


def test_means_of_a_walk_are_summed_in_float64():
  """A ranking in the fourth decimal of many images must be right."""
  size = 20_000
  split = fit.Split(np.zeros((size, 1, 1, 3), np.uint8),
                    np.arange(size) % 7)
  value = lambda scale, batch: {
      "one": 1000 + scale * batch["label"], "pair": jnp.stack(
          [batch["label"], 2 * batch["label"]], axis=1)}
  found = fit.walk(value, jnp.float32(0.25), split, preparation=PREPARATION,
                   batch_size=32, whole=True)
  labels = np.arange(size) % 7
  assert found["one"].dtype == np.float64
  np.testing.assert_allclose(found["one"], (1000 + labels / 4).mean(),
                             rtol=1e-7)
  np.testing.assert_allclose(found["pair"], [labels.mean(), 2 * labels.mean()],
                             rtol=1e-12)


def test_only_the_last_stage_may_end_in_another_method():
  method = toy_method()
  first = method.stages[0]._replace(end=lambda state: None)
  with pytest.raises(errors.InputError, match="stage 'one' has an end"):
    run(method=method._replace(stages=(first, method.stages[1])))
