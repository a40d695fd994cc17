"""Tests of `natjax.graph.skeleton`."""

import pytest

from natjax import errors
from natjax.graph import records
from natjax.graph import skeleton as skeleton_lib

Skeleton = skeleton_lib.Skeleton


@pytest.mark.parametrize("cells, reductions", [
    (20, (6, 13)), (14, (4, 9)), (8, (2, 5)), (3, (1, 2)), (2, (0, 1)),
    (1, (0,)),
])
def test_reductions(cells, reductions):
  assert Skeleton(cells=cells).reductions == reductions


def test_channels_of_the_paper():
  """The supernet's widths, section 5.1, and DARTS's two skeletons."""
  assert Skeleton(init_channels=20, cells=8).channels == (
      20, 20, 40, 40, 40, 80, 80, 80)
  cifar, imagenet = (skeleton_lib.DEFAULTS[k] for k in skeleton_lib.KINDS)
  assert cifar.channels == (36,) * 6 + (72,) * 7 + (144,) * 7
  assert imagenet.channels == (48,) * 4 + (96,) * 5 + (192,) * 5
  assert (cifar.reductions[-1], imagenet.reductions[-1]) == (13, 9)


def test_stems():
  """DARTS's, and where node 0 of the first cell branches off."""
  cifar, imagenet = (skeleton_lib.DEFAULTS[k] for k in skeleton_lib.KINDS)
  assert skeleton_lib.stem(cifar) == (records.Layer("conv", 108, 3),)
  assert skeleton_lib.stem(imagenet) == (
      records.Layer("conv", 24, 3, 2, activation="relu"),
      records.Layer("conv", 48, 3, 2, activation="relu"),
      records.Layer("conv", 48, 3, 2))
  assert (skeleton_lib.early(cifar), skeleton_lib.early(imagenet)) == (-1, 1)


@pytest.mark.parametrize("change, field, parts", [
    ({"kind": "mnist"}, "skeleton", ("'mnist'", "cifar, imagenet")),
    ({"init_channels": 5}, "init_channels", ("init-channels is 5", "even")),
    ({"init_channels": 0}, "init_channels", (
        "init-channels is 0", "at least 2")),
    ({"cells": 0}, "cells", ("cells is 0", "at least 1")),
    ({"num_classes": -1}, "num_classes", ("num-classes is -1", "at least 0")),
    ({"image_size": 0}, "image_size", ("image-size is 0", "at least 1")),
    ({"embedding": -4}, "embedding", ("embedding is -4", "at least 0")),
    ({"cells": True}, "cells", ("cells is True", "an integer up to 1000")),
    ({"image_size": 7}, "image_size", (
        "image-size 7", "2 reduction(s)", "at least 8")),
    ({"image_size": 3, "cells": 1}, "image_size", (
        "image-size 3", "at least 4")),
    ({"kind": "imagenet", "image_size": 63}, "image_size",
     ("image-size 63", "imagenet", "at least 64")),
])
def test_refusals_in_one_line(change, field, parts):
  with pytest.raises(errors.InputError) as e:
    skeleton_lib.check(Skeleton()._replace(**change))
  assert all(part in str(e.value) for part in parts), str(e.value)
  assert "\n" not in str(e.value)
  assert e.value.field == field  # The command line names the flag by it.
