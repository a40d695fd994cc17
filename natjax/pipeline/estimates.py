"""How large a job is before it runs: multiply-adds, steps, hours, memory."""

from collections.abc import Iterable, Mapping
from typing import Any

from natjax import errors
from natjax.graph import codec
from natjax.methods import entry as entry_lib
from natjax.methods import memory
from natjax.pipeline import feed as feed_lib
from natjax.pipeline import trainer as trainer_lib
from natjax.training import devices as devices_lib
from natjax.training import method as base


def hours(trainer: trainer_lib.Trainer, architecture: codec.Architecture,
          steps: float, teraflops: float | None) -> float:
  """Hours of steps of a training, a backward pass as two forward ones."""
  images = steps * trainer.config.batch_size * trainer.judge.views
  return devices_lib.hours(3 * images * trainer.cost(architecture)["madds"],
                           trainer.devices, teraflops)


def training(trainer: trainer_lib.Trainer, architecture: codec.Architecture,
             teraflops: float | None = None) -> dict[str, float]:
  """Of a training: "params", "madds", "steps", "hours", "memory_bytes".

  Args:
    trainer: of the network.
    architecture: of the network.
    teraflops: of a device; see `devices.hours`.
  """
  trainer.objective(architecture)  # Refuses what it cannot learn.
  config = trainer.config
  steps = trainer.steps * config.epochs * config.seeds
  return {
      **trainer.cost(architecture), "steps": steps,
      "hours": hours(trainer, architecture, steps, teraflops),
      "memory_bytes": memory.network_bytes(
          architecture, trainer.place, config.batch_size // trainer.together
          // config.accumulate * trainer.judge.views, config.dtype)}


def search(trainer: trainer_lib.Trainer, plan: entry_lib.Plan,
           feed: feed_lib.Feed, times: int,
           teraflops: float | None = None) -> dict[str, Any]:
  """Of a method: what its plan says, "steps" and, where known, "hours".

  Args:
    trainer: of the networks.
    plan: what is run.
    feed: what it walks over.
    times: how often.
    teraflops: of a device; see `devices.hours`.
  """
  views, devices = trainer.judge.views, trainer.devices
  size = plan.estimate(plan.batch_size // len(devices) * views)
  steps, madds = base.work(plan.method, {
      name: len(split.labels) // plan.batch_size
      for name, split in feed.splits.items()}, size.get("madds", 0))
  further = size.pop("further_steps", 0)  # Of what it hands over to.
  madds += size.pop("further_madds", 3 * further * size.get("madds", 0))
  found = {**size, "steps": times * (steps + further)}
  if "madds" in size:
    found["hours"] = devices_lib.hours(
        madds * plan.batch_size * views * times, devices, teraflops)
  return found


def total(parts: Iterable[tuple[Mapping[str, Any], int]]) -> dict[str, float]:
  """The sum over parts, each so many times; memory is that of the largest."""
  parts = [*parts]
  return {
      "steps": sum(times * part["steps"] for part, times in parts),
      "hours": sum(times * part.get("hours", 0) for part, times in parts),
      "memory_bytes": max(part.get("memory_bytes", 0) for part, _ in parts)}


def check_memory(estimate: Mapping[str, Any],
                 trainer: trainer_lib.Trainer) -> None:
  """Refuses what no device can hold, by counts that are rough.

  Parameters and their gradients must fit into all devices together, and so
  must a tenth of all that a step on each is counted to take, images between
  operations with it. XLA's temporaries were 0.13 of that count for `replace`,
  and 0.7 to 1.3 for ResNets, MobileNetV2, NAT and `differentiable`.

  Args:
    estimate: of a job, as its `estimate` gives it.
    trainer: of its networks.

  Raises:
    InputError: they cannot.
  """
  def most(name, part):
    return max([part.get(name, 0), *(
        most(name, p) for p in part.values() if isinstance(p, Mapping))])

  has = devices_lib.memory(trainer.devices)
  needs = 8 * most("params", estimate)
  if needs > has:
    raise errors.InputError(
        f"{needs // 8} parameters and their gradients take"
        f" {needs / 2**30:.0f} GiB, and what they are to be trained on has"
        f" {has / 2**30:.0f} GiB; give a smaller network or supernet")
  needs = len(trainer.devices) * most("memory_bytes", estimate)
  if needs > 10 * has:
    raise errors.InputError(
        f"a step takes about {needs / 2**30:.0f} GiB, and what it is to be"
        f" taken on has {has / 2**30:.0f} GiB; give a smaller batch, or a"
        " smaller network or supernet")
