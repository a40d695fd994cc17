"""`climb` on NAS-Bench-201's cells, where the truth is known.

`natjax transform --method climb` (`natjax/methods/climb.py`) changes one edge
after another, while untrained networks surely score more by NASWOT. Here it
may change what NAT++ may in this space (`known_truth`), and what it comes to is
looked up in the table: that on whose way nothing is tried on held-out images
("climb"), as of the other methods. Nothing is trained, so that the images are
larger than those of the experiment's supernet, and the networks as wide as the
benchmark's.

Of the rule by which a change is surely better, the share of 99 % was chosen by
40 other cells, those that `--tried` tries scores on; the 40 cells that are
judged were seen by no choice.
"""

from collections.abc import Mapping
import time
from typing import Any

import jax
import known_truth
import numpy as np
import recording

from natjax import data as data_lib
from natjax.graph import codec
from natjax.methods import climb


def one(truth: known_truth.Truth, dataset: data_lib.Dataset, code: int,
        seed: int, *, repeats: int, config: climb.ClimbConfig
        ) -> dict[str, Any]:
  """What a climb makes of a cell.

  Args:
    truth: what is known.
    dataset: whose training images score.
    code: of the cell.
    seed: of everything random.
    repeats: cells per stage.
    config: of the climb.

  Returns:
    "code", that it ends at; "path", codes on its way; "evaluated", networks
    that a first draw scored; "seconds".
  """
  began = time.monotonic()
  given = known_truth.network(known_truth.names_of(code), repeats)
  method = climb.Climb(
      config, known_truth.space(repeats), num_classes=dataset.num_classes,
      image_size=dataset.image_size, given=given)
  rows = np.random.default_rng([seed, 2]).permutation(
      len(dataset.train_labels))

  def walk(function, argument, *, split, images, each):
    del split, each  # There is but one, and every image is asked for.
    some = data_lib.normalize(
        dataset.train_images[rows[:images]], dataset.mean, dataset.std)
    return function(argument, {"image": some})

  found = method.derive(
      method.init(jax.random.key(seed)), given, walk, jax.random.key(seed))
  path = [known_truth.code_of(codec.from_dict(row["architecture"]))
          for row in found.report["candidates"]]
  return {"code": known_truth.code_of(found.architecture), "path": path,
          "evaluated": found.report["evaluated"],
          "seconds": round(time.monotonic() - began, 1)}


def alone(result: Mapping[str, Any]) -> list[str]:
  """The climbs where nothing stands beside them."""
  if not (found := result.get("climbed")):
    return []
  gained, most = (np.array([row[key] for row in found["rows"]])
                  for key in ("gain", "oracle"))
  return [*recording.table(
      ("method", "cells", "gained, points (95 % over cells)",
       "of the oracle's gain", "lost in"), [[
           "climb", len(gained), recording.paired(
               np.zeros(len(gained)), gained / 100),
           f"{100 * gained.sum() / most.sum():.0f} %" if most.sum() else "-",
           f"{(gained < 0).sum()} of {len(gained)}"]]), "",
          *lines(result)]


def lines(result: Mapping[str, Any]) -> list[str]:
  """What is to be known of the climbs beside their row."""
  if not (found := result.get("climbed")):
    return []
  rows, size = found["rows"], found["config"]["image_size"]
  took = np.array([row["evaluated"] for row in rows])
  worst = min(row["gain"] for row in rows)
  return [
      "`climb` has no supernet: it scored"
      f" {took.mean():.0f} untrained networks a cell ({took.min()} to"
      f" {took.max()}), of {size}x{size} pixels and the benchmark's widths, by"
      " NASWOT; nothing was tried on held-out images. Where it loses most it"
      f" loses {-min(worst, 0.0):.2f} points. Of its rule the share of 99 % was"
      " chosen on the 40 cells that are left out.", "",
      *(recording.in_words(found) if "command" in found else []), ""]
