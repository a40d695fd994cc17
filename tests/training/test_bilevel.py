"""Phases over pairs of batches, as bilevel methods want them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import data, errors
from natjax.training import devices, fit, metrics, seeds
from natjax.training import method as base
from tests.training import test_fit

SIZES = {"long": 22, "short": 9}  # 5 and 2 batches of 4.
AUGMENTED = test_fit.PREPARATION
PLAIN = AUGMENTED._replace(augmentation=data.Augmentation())


def splits():
  """The label of an image is its number, and all of its pixels."""
  def part(n):
    number = np.arange(n)
    images = np.broadcast_to(number[:, None, None, None], (n, 6, 6, 3))
    return fit.Split(images.astype(np.uint8), number)

  return {name: part(n) for name, n in SIZES.items()}


@functools.cache  # One for all, so that it is compiled once.
def method(first="long", second="short", epochs=2):
  """Keeps the labels of every step, and sums up what it sees and draws."""
  steps = SIZES[first] // 4

  def init(rng):
    return {"seen": jnp.full((2, epochs * steps, 4), -1),
            "total": jnp.zeros(()), "step": jnp.zeros((), jnp.int32),
            "rng": rng}

  def update(state, one, other):
    rng, key = jax.random.split(state["rng"])
    labels = jnp.stack([
        jax.lax.all_gather(b["label"], base.AXIS).reshape(-1)
        for b in (one, other)])
    value = base.mean_over_devices(jnp.sum(
        one["image"][:, 0, 0, 0] * other["image"][:, 1, 1, 1]))
    total = 0.9 * state["total"] + value + jax.random.normal(key)
    return ({"seen": state["seen"].at[:, state["step"]].set(labels),
             "total": total, "step": state["step"] + 1, "rng": rng},
            {"loss": total})

  phase = base.Phase("both", (first, second), update, ("loss",))
  return base.Method(init, (base.Stage("search", epochs, (phase,)),))


def run(record, preparation=AUGMENTED, count=1, **options):
  return fit.fit(
      record, splits(), batch_size=4, preparation=preparation,
      options=fit.Options(devices=devices.choose(count), **options))


def seen(state, epochs=2):
  """Labels i32[split, epoch, step, image]."""
  found = np.asarray(state["seen"])
  return found.reshape(2, epochs, -1, 4)


def test_an_epoch_is_as_long_as_the_first_split_and_the_second_begins_anew():
  one, other = seen(run(method()))
  assert one.shape == (2, 5, 4) and one.min() >= 0 and other.min() >= 0
  for epoch in range(2):
    assert len(np.unique(one[epoch])) == 20
    rounds = other[epoch].reshape(-1)[:16].reshape(2, 8)
    assert all(len(np.unique(r)) == 8 for r in rounds)
    assert (rounds[0] != rounds[1]).any()  # A new permutation.
  assert (other[0] != other[1]).any() and (one[0] != one[1]).any()
  one, other = seen(run(method("short", "long")))
  assert one.shape == (2, 2, 4)
  assert all(len(np.unique(o)) == 8 for o in other)


def test_the_first_split_is_walked_as_if_it_were_alone():
  record = method()
  phase = record.stages[0].phases[0]
  alone = record._replace(stages=(base.Stage("search", 2, (phase._replace(
      splits=("long",), update=lambda state, one: phase.update(
          state, one, one)),)),))
  np.testing.assert_array_equal(seen(run(record))[0], seen(run(alone))[0])


def test_images_are_those_of_the_labels_and_the_orders_differ():
  state = run(method(), preparation=PLAIN)
  one, other = np.asarray(state["seen"], np.float32)
  scale = lambda x: (x / 255 - 0.5) / 0.25
  # Without what is drawn: the sums of products, step by step.
  draws, rng, total = [], jax.random.key(0), 0.0
  for a, b in zip(one, other, strict=True):
    rng, key = jax.random.split(rng)
    draws.append(float(jax.random.normal(key)))
    total = 0.9 * total + np.sum(scale(a) * scale(b)) + draws[-1]
  np.testing.assert_allclose(float(state["total"]), total, rtol=1e-4)
  same = seen(run(method("long", "long"), preparation=PLAIN))
  assert (same[0] != same[1]).any()


@pytest.mark.parametrize("resident_steps", [1, 3])
def test_streaming_and_chunks_leave_no_trace(resident_steps):
  whole = run(method())
  image = 6 * 6 * 3
  test_fit.equal(whole, run(method(), chunk_seconds=1e-6))
  for limit in (image * 4 * resident_steps, image * SIZES["short"]):
    # Both are streamed, then the longer alone.
    test_fit.equal(whole, run(method(), resident_bytes=limit))


def test_four_devices_see_the_same_pairs():
  np.testing.assert_array_equal(
      run(method())["seen"], run(method(), count=4)["seen"])


@pytest.mark.parametrize("count", [1, 4])
def test_stopped_in_the_middle_and_resumed_it_ends_in_the_same_bits(
    tmp_path, count):
  record = method()
  whole = run(record, count=count, metrics_path=tmp_path / "w.jsonl")
  for stop_after in (2, 4, 7):
    chunks = []
    options = {"checkpoint_dir": tmp_path / str(stop_after),
               "chunk_seconds": 1e-6, "checkpoint_seconds": 1e9,
               "metrics_path": tmp_path / f"{stop_after}.jsonl"}
    with pytest.raises(errors.Interrupted):
      run(record, count=count, on_progress=chunks.append,
          should_stop=lambda c=chunks, n=stop_after: len(c) >= n, **options)
    assert chunks[-1].step == (stop_after - 1) % 5
    test_fit.equal(whole, run(record, count=count, **options))
    assert test_fit.plain_rows(tmp_path / f"{stop_after}.jsonl") == (
        test_fit.plain_rows(tmp_path / "w.jsonl"))


def test_seeds_at_once_walk_pairs_of_their_own(tmp_path):
  record, path = method(), tmp_path / "m.jsonl"
  alone = [run(record, seed=seed, run=name)
           for seed, name in enumerate("abc")]
  for count, lanes in ((1, 3), (3, 1)):
    states = seeds.fit_seeds(
        record, splits(), seeds=range(3), runs=tuple("abc"), batch_size=4,
        preparation=AUGMENTED, lanes=lanes, options=fit.Options(
            devices=devices.choose(count), metrics_path=path))
    for state, expected in zip(states, alone, strict=True):
      np.testing.assert_array_equal(state["seen"], expected["seen"])
      np.testing.assert_allclose(state["total"], expected["total"], rtol=1e-5)
  assert len(metrics.read(path)) == 2 * 3
