"""Two trained networks, image by image on images that neither has seen."""

import base64
from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from natjax.costs import exact as cost_lib
from natjax.graph import codec, records
from natjax.methods import acceptance
from natjax.methods import bounds as bounds_lib
from natjax.objectives import classification as objectives
from natjax.training import fit as fit_lib
from natjax.training import method as base


class Trained(NamedTuple):
  """A network that has been trained.

  Attributes:
    objective: of it.
    variables: "params" and "batch_stats".
  """

  objective: objectives.Objective
  variables: Any


@dataclasses.dataclass(frozen=True)  # Equal ones share what is compiled.
class Versus:
  """Compares a network with the original, image by image.

  Attributes:
    changed: objective of the network.
    original: of the original.
  """

  changed: objectives.Objective
  original: objectives.Objective

  def __call__(self, variables: Any, batch: base.Batch) -> dict[str, jax.Array]:
    """Of every image, f32[B]: 1 where it counts; of both, their variables."""
    after, before = (objective.is_right(of, batch) for objective, of in zip(
        (self.changed, self.original), variables, strict=True))
    return {"images": jnp.ones_like(after), "right": after,
            "original_right": before, "won": after * (1 - before),
            "lost": before * (1 - after)}


def count(changed: Trained, original: Trained, split: fit_lib.Split, *,
          preparation: fit_lib.Preparing, batch_size: int) -> dict[str, int]:
  """Counts of `Versus` over a split, on one device of this process.

  Args:
    changed: a network.
    original: the one that it is compared with.
    split: images and labels.
    preparation: of the images.
    batch_size: of a walk over them.
  """
  found = fit_lib.walk(
      Versus(changed.objective, original.objective), jax.device_put(
          [changed.variables, original.variables], jax.local_devices()[0]),
      split, preparation=preparation, batch_size=batch_size, total=True)
  return {name: int(number) for name, number in found.items()}


def packed(right: np.ndarray) -> dict[str, Any]:
  """A JSON object of bool[N]: N and, in base64, a bit of each, first to last.
  """
  return {"images": len(right),
          "bits": base64.b64encode(np.packbits(right).tobytes()).decode()}


def pairs(changed: Mapping[str, Any], original: Mapping[str, Any]
          ) -> acceptance.Pairs | None:
  """Two networks on their test images; None where these are not the same.

  Args:
    changed: the result of a network, with "right", which is `packed`; results
      of earlier versions have none.
    original: that of the one it is compared with.
  """
  first, second = (result.get("right") for result in (changed, original))
  if first is None or second is None or first["images"] != second["images"]:
    return None  # Of an earlier version, or another image was damaged.
  after, before = (np.unpackbits(np.frombuffer(
      base64.b64decode(pack["bits"]), np.uint8), count=pack["images"])
                   for pack in (first, second))
  return acceptance.Pairs(first["images"], int((after > before).sum()),
                          int((after < before).sum()))


class Accept(NamedTuple):
  """What a network is compared with before it is returned.

  Attributes:
    original: the network as it was given.
    files: of every seed, its trained weights.
    tolerance: see `acceptance.judge`.
    bounds: the budget.
  """

  original: codec.Architecture
  files: Mapping[int, pathlib.Path]
  tolerance: float
  bounds: bounds_lib.Bounds


def accepted(derived: base.Derived, accept: Accept, variables: Any,
             counted: Mapping[str, int], place: records.Place) -> base.Derived:
  """What was derived, or the original where that is refused.

  Args:
    derived: the changed network.
    accept: what it is compared with.
    variables: of the original.
    counted: what `count` gives of both.
    place: in which skeleton or frame.
  """
  pairs = acceptance.Pairs(
      counted["images"], counted["won"], counted["lost"])
  before, after = (cost_lib.network(a, place) for a in (
      accept.original, derived.architecture))
  verdict = acceptance.judge(
      pairs, before, after, accept.tolerance,
      *accept.bounds.beside(derived.architecture))
  if derived.architecture in (accept.original, codec.pad(accept.original)):
    verdict = acceptance.Verdict(False, "nothing was changed")
  if accept.bounds.exceeded:
    verdict = acceptance.over_budget(verdict)
  report = {**derived.report, "tries": [{
      "params": after.params, "madds": after.madds,
      **accept.bounds.row(derived.architecture),
      **acceptance.report(pairs, verdict)}]}
  if verdict.accepted:
    return derived._replace(report=report)
  return base.Derived(accept.original, variables, {
      **report, **accept.bounds.told(accept.original)})
