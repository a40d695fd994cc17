"""Which method searches which space: what README's table says."""

import pathlib
import re

import pytest

from natjax import data, errors, methods, spaces
from natjax.methods import supervised
from natjax.pipeline import job

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"
SEARCHES = [name for name, entry in methods.METHODS.items()
            if entry.starts in ("space", "both")]


def table():
  """README's rows: per space, whether each method takes it."""
  lines = README.read_text().splitlines()
  head = next(i for i, line in enumerate(lines)
              if line.startswith("| space | `"))
  names = re.findall(r"`([^`]+)`", lines[head])
  found = {}
  for line in lines[head + 2:]:
    if not line.startswith("|"):
      break
    first, *cells = [part.strip() for part in line.strip("|").split("|")]
    for space in re.findall(r"`([^`]+)`", first):
      found[space] = dict(zip(names, cells, strict=True))
  return found


def test_the_table_has_every_pair():
  found = table()
  assert set(found) == set(spaces.SPACES)
  for row in found.values():
    assert list(row) == SEARCHES and set(row.values()) <= {"yes", "no"}


@pytest.mark.parametrize("space", spaces.SPACES)
def test_a_pair_is_there_or_refused_by_name(space):
  images = data.load("digits", image_size=8)
  sizes = {} if spaces.get(space).graph.kind == "blocks" else {
      "init_channels": 4, "cells": 3}
  train = supervised.TrainConfig(
      batch_size=16, cutout=0, auxiliary=None if not sizes else False)
  for method, answer in table()[space].items():
    make = lambda method=method: job.Job(
        None, images, method, methods.METHODS[method].settings(
            batch_size=16, **sizes), train, space=space, train_found=False)
    if answer == "yes":
      make()
      continue
    with pytest.raises(errors.InputError, match=f"search space '{space}'") as e:
      make()
    assert "\n" not in str(e.value) and e.value.field == "search.space"
