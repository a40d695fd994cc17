"""What searches in a space share: sizes, and images in two parts.

The weights learn from one part of the training images ("weights"), and the
other ("architecture") says which architecture is better.
"""

from collections.abc import Callable, Collection
import dataclasses
from typing import Any

from natjax import data as data_lib
from natjax import spaces
from natjax.methods import entry as entry_lib
from natjax.methods import memory
from natjax.networks import supernet as supernet_lib
from natjax.spaces import chains
from natjax.training import method as base
from natjax.training import settings

USUAL = {"cells": {"init_channels": 16, "cells": 8, "supernet_width": 1.0},
         "blocks": {"init_channels": 0, "cells": 0, "supernet_width": 1.0}}


def sized(config: Any, kind: str) -> Any:
  """Settings with the usual sizes of a kind of architecture where None stood.

  Args:
    config: has the fields of `USUAL`.
    kind: "cells" or "blocks", of the space's graph.

  Raises:
    InputError: sizes that do not apply to the kind.
  """
  for name, value in USUAL[kind].items():
    given = getattr(config, name)
    foreign = (name == "supernet_width") == (kind == "cells")
    if foreign and given not in (None, value):
      settings.refuse(config, name, f"does not apply to a space of {kind};"
                      " leave it out")
    if given is None:
      config = dataclasses.replace(config, **{name: value})
  return config


def check_fraction(config: Any) -> None:
  """Refuses a share of the images that leaves one of two splits none."""
  if not 0 < config.weights_fraction < 1:
    settings.refuse(config, "weights_fraction", "must lie between 0 and 1; the"
                    " rest of the images judges architectures")


def space_of(request: entry_lib.Request) -> spaces.Space:
  """The space of a search (InputError)."""
  assert request.space is not None  # As the entry says.
  return chains.of_settings(spaces.get(request.space), request.settings,
                            request.image_size, request.share)


# Of chains, where a preset says nothing else: what its images can carry.
_CHAINS: dict[str, dict[str, Any]] = {
    "demo": {"chain_layers": 2, "chain_width": 0.25},
    "small": {"chain_width": 0.5}, "paper": {}}


def preset(config: Any, kind: str, name: str = "paper") -> Any:
  """A preset's settings, without the sizes that do not apply to the kind.

  Args:
    config: the settings.
    kind: "cells", "blocks" or "chain", of the space's graph.
    name: of the preset, by which chains are made smaller.
  """
  foreign = ["supernet_width"] if kind == "cells" else [
      "init_channels", "cells"]
  return dataclasses.replace(config, **dict.fromkeys(foreign), **(
      _CHAINS[name] if kind == "chain" else {}))


def _fractions(config):
  return {"weights": config.weights_fraction,
          "architecture": 1 - config.weights_fraction}


def steps(request: entry_lib.Request, config: Any) -> dict[str, int]:
  """The batches of both parts."""
  fractions = _fractions(config)
  parts = data_lib.split(request.num_images, tuple(fractions.values()), seed=0,
                         field="weights_fraction")
  return {name: len(part) // config.batch_size
          for name, part in zip(fractions, parts, strict=True)}


def plan(method: base.Method, supernet: supernet_lib.Supernet,
         space: spaces.Space, config: Any,
         params: Callable[[base.State], Any] | None = None,
         dense: Collection[int] = ()) -> entry_lib.Plan:
  """The plan of a search by a supernet.

  Args:
    method: what runs.
    supernet: what it trains.
    space: that is searched.
    config: its settings.
    params: the supernet's parameters in a state; None where they are not those
      of one supernet that all candidates share.
    dense: the blocks in which all candidates run.
  """

  def estimate(batch):
    return {**memory.supernet(supernet, batch),
            "madds": round(supernet.plan.madds(dense))}

  return entry_lib.Plan(
      method, config, None,
      {**supernet.space.describe(), "content": space.checksum()},
      _fractions(config), config.batch_size, estimate, config.dtype,
      held=params and (lambda state: (supernet, params(state))))
