"""Tests of `natjax.graph.skeleton`."""

import itertools

import hypothesis
from hypothesis import strategies as st
import pytest

from natjax import errors
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
  assert (cifar.stem_channels, imagenet.stem_channels) == (108, 48)
  assert (cifar.auxiliary_layer, imagenet.auxiliary_layer) == (13, 9)
  assert skeleton_lib.output_channels(cifar, (4, 4)) == 576
  assert skeleton_lib.output_channels(imagenet, (1, 4)) == 192


def test_stem_sizes():
  assert skeleton_lib.stem_sizes(Skeleton()) == (32,)
  imagenet = skeleton_lib.DEFAULTS["imagenet"]
  assert skeleton_lib.stem_sizes(imagenet) == (112, 56, 28)
  odd = imagenet._replace(image_size=75)
  assert skeleton_lib.stem_sizes(odd) == (38, 19, 10)


def test_layers_literal():
  """Four cells, 30 pixels; the reduction cells concatenate three nodes."""
  Layer = skeleton_lib.Layer
  assert skeleton_lib.layers(Skeleton(
      init_channels=4, cells=4, image_size=30), (2, 3)) == (
          Layer(False, False, 4, (12, 12), 30, 30),
          Layer(True, False, 8, (12, 8), 30, 15),
          Layer(True, True, 16, (8, 24), 15, 8),
          Layer(False, True, 16, (24, 48), 8, 8),
      )
  assert skeleton_lib.layers(Skeleton(
      "imagenet", init_channels=4, cells=1, image_size=40), (2, 3)) == (
          Layer(True, True, 8, (4, 4), 5, 3),)


@hypothesis.settings(deadline=None)
@hypothesis.given(
    st.sampled_from(skeleton_lib.KINDS), st.integers(1, 24), st.integers(1, 20),
    st.integers(64, 300), st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_layers_fit_together(kind, cells, half_channels, size, widths):
  """What a cell takes is what the two before it give."""
  skeleton = Skeleton(kind, 2 * half_channels, cells, 10, size)
  places = skeleton_lib.layers(skeleton, widths)
  channels = [skeleton.stem_channels] * 2
  stem = skeleton_lib.stem_sizes(skeleton)
  sizes = [stem[-1] if kind == "cifar" else stem[-2], stem[-1]]
  width = 2 * half_channels
  for i, place in enumerate(places):
    assert place.reduction == (i in (cells // 3, 2 * cells // 3))
    width *= 1 + place.reduction
    assert place.channels == skeleton.channels[i] == width
    assert place.in_channels == tuple(channels[-2:])
    assert place.in_size == sizes[-1]
    # ceil(size / 2), what padded convolutions of stride 2 leave.
    halved = (place.in_size + 1) // 2
    assert place.out_size == (halved if place.reduction else place.in_size)
    if place.reduction_prev:
      assert (sizes[-2] + 1) // 2 == sizes[-1]
    else:
      assert sizes[-2] == sizes[-1]
    channels.append(width * widths[int(place.reduction)])
    sizes.append(place.out_size)
  assert skeleton_lib.output_channels(skeleton, widths) == channels[-1]


@hypothesis.settings(deadline=None)
@hypothesis.given(st.integers(1, 24), st.sampled_from(skeleton_lib.KINDS))
def test_groups_are_runs_of_normal_cells(cells, kind):
  skeleton = Skeleton(kind, 4, cells, 10, 64)
  groups = skeleton_lib.groups(skeleton_lib.layers(skeleton, (4, 4)))
  assert sum(groups, ()) == tuple(range(cells))
  reductions = {cells // 3, 2 * cells // 3}
  for group in groups:
    assert len(group) == 1 or not reductions & set(group)
  # No two neighbouring groups could be one.
  for left, right in itertools.pairwise(groups):
    assert reductions & {left[-1], right[0]}


@pytest.mark.parametrize("change, parts", [
    ({"kind": "mnist"}, ("'mnist'", "cifar or imagenet")),
    ({"init_channels": 5}, ("init-channels is 5", "even")),
    ({"init_channels": 0}, ("init-channels is 0", "at least 2")),
    ({"cells": 0}, ("cells is 0", "at least 1", "--cells")),
    ({"num_classes": -1}, ("num-classes is -1", "at least 0")),
    ({"image_size": 0}, ("image-size is 0", "at least 1")),
    ({"image_size": 7}, ("image-size 7", "2 reduction(s)", "at least 8")),
    ({"image_size": 3, "cells": 1}, ("image-size 3", "at least 4")),
    ({"kind": "imagenet", "image_size": 63},
     ("image-size 63", "imagenet", "at least 64")),
])
def test_refusals_in_one_line(change, parts):
  with pytest.raises(errors.InputError) as e:
    skeleton_lib.layers(Skeleton()._replace(**change), (4, 4))
  assert all(part in str(e.value) for part in parts), str(e.value)
  assert "\n" not in str(e.value)


@pytest.mark.parametrize("kind, size", [("cifar", 8), ("imagenet", 64)])
def test_smallest_image_leaves_two_pixels(kind, size):
  places = skeleton_lib.layers(Skeleton(kind, 4, 3, 10, size), (1, 1))
  assert places[-1].out_size == 2
