"""The job of several seeds: a whole search and two networks for each."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import numpy as np

from natjax import drawing
from natjax.graph import codec
from natjax.pipeline import common
from natjax.pipeline import runs
from natjax.pipeline import transform_job
from natjax.training import metrics as metrics_lib


class SeedsJob:
  """Transformations that differ in their seeds alone, one after another.

  Every seed has a folder `seed-N` with a run of its own; the run's own files
  say what they came to, and show the first seed's architecture. Searches by
  sampled operations are not joined in one program: under `vmap` every operation
  would be computed.

  Attributes:
    jobs: one per seed.
  """

  def __init__(
      self, seeds: Sequence[int],
      make: Callable[[int], transform_job.TransformJob],
  ):
    """Args:
      seeds: different ones.
      make: makes the job of a seed.
    """
    self.jobs = [make(seed) for seed in seeds]
    self.seed, self.devices = seeds[0], self.jobs[0].devices
    self.group = self.jobs[0].group

  def describe(self) -> dict[str, Any]:
    """The whole configuration, as `config.json` holds it."""
    return {**self.jobs[0].describe(), "seeds": [j.seed for j in self.jobs]}

  def estimate(self) -> dict[str, Any]:
    """Size of the job; memory is that of one seed."""
    found, count = self.jobs[0].estimate(), len(self.jobs)
    return {name: {**part, "steps": count * part["steps"]}
            for name, part in found.items()}

  def run(self, out, *, overwrite, listener) -> dict[str, Any]:
    """Runs or resumes all seeds in `out`."""
    out, result = runs.open_job(self, out, overwrite=overwrite)
    if result is not None:
      return result
    found = [job.run(out / f"seed-{job.seed}", overwrite=False,
                     listener=_named(listener, f"seed {job.seed}"))
             for job in self.jobs]
    first = found[0]
    result = {
        **{k: first[k] for k in ("changes", "architectures", "method",
                                 "dataset", "versions", "devices")},
        **{k: _summary([r[k] for r in found])
           for k in ("original", "transformed")},
        "seeds": [{
            "seed": r["seed"], "num_changes": len(r["changes"]),
            "original_accuracy": r["original"]["accuracy"],
            **{k: r["transformed"][k] for k in (
                "accuracy", "params", "madds")}} for r in found],
        "seed": self.seed,
        "seconds": round(sum(r["seconds"] for r in found), 1)}
    architectures = [codec.from_dict(first["architectures"][k])
                     for k in ("original", "transformed")]
    if self.group.first:
      metrics_lib.write_text(out / runs.ARCHITECTURE,
                             codec.to_json(architectures[1]) + "\n")
      drawing.save(out / "architecture.svg", *architectures)
      runs.write_json(out / runs.RESULT, result)
    return result


def _summary(parts):
  """Mean costs, and accuracies over the seeds."""
  return {**{k: float(np.mean([p[k] for p in parts]))
             for k in ("params", "madds")},
          **common.over_seeds(parts)}


def _named(listener, name):
  """A listener that hears the name before every run's."""
  on_row = listener.on_row
  return dataclasses.replace(
      listener,
      on_progress=lambda p: listener.on_progress(
          p._replace(run=f"{name} {p.run}")),
      on_row=None if on_row is None else lambda row: on_row(
          {**row, "run": f"{name} {row['run']}"}))
