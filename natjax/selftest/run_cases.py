"""Whole runs: over devices, of several seeds, interrupted and resumed."""

from collections.abc import Iterator
import contextlib
import functools
import tempfile
import time
from typing import Any

import jax
import numpy as np

from natjax import data, errors
from natjax.methods import supervised
from natjax.selftest import comparison, step_cases
from natjax.training import devices as devices_lib
from natjax.training import fit, seeds
from natjax.training import method as base

_STEP, _RUN = 1e-4, 2e-3  # Tolerances; in a run, rounding grows.
_SEEDS = (0, 1, 2)
_STEPS = 3  # Per epoch.
Rows = Iterator[comparison.Row]
_PREPARATION = fit.Preparation(
    (0.5,) * 3, (0.25,) * 3, data.Augmentation(crop_padding=1, flip=True))


class _Timed:
  """Seconds since it was made."""

  def __init__(self):
    self._began = time.monotonic()

  def __call__(self) -> float:
    return time.monotonic() - self._began


@functools.cache
def _method() -> supervised.Supervised:
  return supervised.Supervised(
      step_cases.TRAIN, step_cases.network(), **step_cases.SIZES,
      steps_per_epoch=_STEPS)


@functools.cache
def _record() -> base.Method:
  """Made once, so that a program is compiled once for all runs of it."""
  return _method().method()


def _splits() -> dict[str, fit.Split]:
  rng, count = np.random.default_rng(0), _STEPS * step_cases.BATCH
  side = step_cases.SIZES["image_size"]
  return {"train": fit.Split(
      rng.integers(0, 256, (count, side, side, 3)).astype(np.uint8),
      comparison.labels(count))}


def _fit(**options: Any) -> Any:
  return fit.fit(
      _record(), _splits(), batch_size=step_cases.BATCH,
      preparation=_PREPARATION, options=fit.Options(
          devices=jax.devices()[:1], **options))


def _numbers(state: Any) -> Any:
  return devices_lib.plain(jax.device_get(state))


def devices() -> Rows:
  """An update over all devices, and on one."""
  all_of_them, method, spent = jax.devices(), _method(), _Timed()
  count, state = len(all_of_them), comparison.state(method.init)
  batch = step_cases.batch(np.float32, count=step_cases.BATCH * count)

  def over(used):
    run = devices_lib.spread(
        method.update, used, sharded=(False, True))
    return _numbers(run(devices_lib.replicate(state, used), jax.tree.map(
        lambda x: x.reshape(len(used), -1, *x.shape[1:]), batch)))

  with jax.default_matmul_precision("highest"):
    found = over(all_of_them)
    if count > 1:
      name = f"spread: {count} devices as one"
      wanted = over(all_of_them[:1])
    else:
      name = "spread: the only device as jit"
      plain = jax.vmap(method.update, (None, 0), None, axis_name=base.AXIS)
      wanted = _numbers(jax.jit(plain)(*jax.device_put(
          (state, jax.tree.map(lambda x: x[None], batch)), all_of_them[0])))
  yield comparison.judged(
      name, comparison.FLOAT32.name, comparison.error(found, wanted),
      _STEP, spent(), "state and metrics after a step")


def many_seeds() -> Rows:
  """Several seeds in one program by `vmap`, and one by one."""
  spent, runs = _Timed(), [f"seed-{seed}" for seed in _SEEDS]
  with jax.default_matmul_precision("highest"):
    together = seeds.fit_seeds(
        _record(), _splits(), seeds=_SEEDS, runs=runs,
        batch_size=step_cases.BATCH, preparation=_PREPARATION,
        options=fit.Options(devices=jax.devices()[:1]), lanes=len(_SEEDS))
    single = [_fit(seed=seed, run=run)
              for seed, run in zip(_SEEDS, runs, strict=True)]
  yield comparison.judged(
      f"{len(_SEEDS)} seeds: vmap as one by one",
      comparison.FLOAT32.name, comparison.error(
          _numbers(together), _numbers(single)), _RUN, spent(),
      f"states after {2 * _STEPS} steps")


def resumed() -> Rows:
  """A run that is interrupted and resumed, and one that is not.

  Where a device is not deterministic, whole runs differ too: then what was
  resumed may differ ten times as much, and the row says so.
  """
  spent = _Timed()
  with jax.default_matmul_precision(
      "highest"), tempfile.TemporaryDirectory() as folder:
    whole, *again = (_numbers(_fit()) for _ in range(3))
    chunks: list[Any] = []
    options = {"checkpoint_dir": folder, "chunk_seconds": 1e-6,
               "checkpoint_seconds": 1e9}
    # The first call says that the phase begins, each other one a step's end.
    with contextlib.suppress(errors.Interrupted):
      _fit(on_progress=chunks.append,
           should_stop=lambda: len(chunks) > _STEPS + 2, **options)
    stopped = len(chunks)
    found = _numbers(_fit(**options))
  apart, *others = (comparison.error(state, whole)
                    for state in (found, *again))
  spread = max(others)
  if stopped > 2 * _STEPS:
    raise RuntimeError("the run was not interrupted before its end")
  note = "bit for bit" if not apart else "whole runs agree in their bits"
  if spread:
    note = (f"whole runs differ by {spread:.1e} here: the device is not"
            " deterministic")
  yield comparison.judged(
      "a run interrupted and resumed",
      comparison.FLOAT32.name, apart, 10 * spread, spent(), note)


CASES = {"several devices": devices, "several seeds": many_seeds,
         "interrupted and resumed": resumed}
