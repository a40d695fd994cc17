"""natjax's sides of the benchmark of searches, one per process.

See `search.py` for what is compared. Import this after XLA's flags are set.
"""

from collections.abc import Callable, Mapping
import dataclasses
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import sides
import workers

from natjax import data, methods, spaces, zoo
from natjax.methods import supervised
from natjax.pipeline import job, plugins
from natjax.training import devices as devices_lib

CLASSES = 10


class Row(NamedTuple):
  """A search that is measured.

  Attributes:
    name: in the tables.
    method: its name in `natjax.methods.METHODS`.
    settings: of the method, those of the size left out.
    space: where it starts; a method that starts from an architecture is given
      DARTS's and chooses.
  """

  name: str
  method: str
  settings: Mapping[str, Any] = {}
  space: str | None = "darts"


# Those of the table. A row whose method does not exist is left out and named.
ROWS = (
    Row("darts", "darts"),
    Row("darts second order", "darts", {"order": "second"}),
    Row("entrannas", "entrannas", {"share_features": False}),
    Row("entrannas shared", "entrannas"),
    Row("entrannas shared bottleneck", "entrannas", {"bottleneck": 4}),
)


def lacks(row: Row) -> str:
  """What the library lacks for a row; empty where it lacks nothing."""
  plugins.load()
  if row.method not in methods.METHODS:
    return f"there is no method '{row.method}'"
  return ""


def make_plan(row: Row, args) -> Any:
  """The `Plan` that the method's entry builds, as a job asks for it."""
  plugins.load()
  entry = methods.METHODS[row.method]
  sizes, only = {"batch_size": args.batch_size}, {}
  if row.space is not None and spaces.get(row.space).chain:
    only = {"chain_layers": args.chain_layers}
  else:
    sizes |= {"init_channels": args.init_channels, "cells": args.cells}
  fields = {field.name for field in dataclasses.fields(entry.settings)}
  given = entry.starts == "given"
  return job.Job(
      zoo.get("darts") if given else None, noise(args), row.method,
      entry.settings(**{
          **{k: v for k, v in (sizes | only).items() if k in fields},
          **row.settings}),
      supervised.TrainConfig(**sizes, cutout=0, auxiliary=False),
      space=None if given else row.space, devices=1).plan


def noise(args) -> data.Dataset:
  """A data set of noise, from which a method takes its sizes alone."""
  rng = np.random.default_rng(args.seed)
  size = (16 * args.batch_size, args.image_size, args.image_size, 3)
  part = (rng.integers(0, 256, size, dtype=np.uint8),
          np.arange(size[0]) % CLASSES)
  return data.make_dataset("noise", part, part, image_size=args.image_size)


class Search:
  """The compiled updates of a method's last stage, one after the other.

  An iteration is a step of each of the stage's phases.

  Attributes:
    facts: parameters, seconds of compilation, temporaries.
  """

  def __init__(self, plan, args):
    """Args:
      plan: of the method.
      args: flags of the script.
    """
    devices, began = tuple(jax.devices()[:1]), time.perf_counter()
    self._state = jax.block_until_ready(devices_lib.replicate(
        plan.method.init(jax.random.key(args.seed)), devices))
    init = time.perf_counter() - began
    rng = np.random.default_rng(args.seed)
    size = (1, plan.batch_size, args.image_size, args.image_size, 3)
    self._updates, costs = [], []
    for phase in plan.method.stages[-1].phases:
      batches = [
          {"image": jax.device_put(rng.standard_normal(size, np.float32)),
           "label": jax.device_put(
               rng.integers(0, CLASSES, size[:2], np.int32))}
          for _ in phase.splits]
      spread = devices_lib.spread(
          phase.update, devices, donate=(0,),
          sharded=(False, *[True] * len(batches)))
      run, _, cost = sides.compile_timed(spread, self._state, *batches)
      self._updates.append((run, batches))
      costs.append(cost)
    self.facts = {
        "parameters": int(plan.estimate(plan.batch_size)["params"]),
        "init_seconds": init,
        "trace_seconds": sum(c.trace for c in costs),
        "lower_seconds": sum(c.trace + c.lower for c in costs),
        "compile_seconds": sum(c.compile for c in costs),
        "temporaries_mb": max(c.temporaries for c in costs)}

  def iterate(self) -> None:
    """Runs every update once and waits.

    Raises:
      AssertionError: a metric is not finite.
    """
    for run, batches in self._updates:
      self._state, metrics = run(self._state, *batches)
      assert all(np.isfinite(float(v)) for v in metrics.values()), metrics
    jax.block_until_ready(self._state)


def start(row: Row, args) -> tuple[dict[str, Any], Callable[[], None]]:
  """Builds a row's search and runs an iteration; see `workers`."""
  devices_lib.configure_compilation()
  jax.devices()
  imported = workers.resident_mb()
  began = time.perf_counter()
  plan = make_plan(row, args)
  planned = time.perf_counter() - began
  search = Search(plan, args)
  began = time.perf_counter()
  search.iterate()
  return {**search.facts, "imported_mb": imported, "plan_seconds": planned,
          "step_seconds": time.perf_counter() - began}, search.iterate
