"""A data set, an operation and a space of another package."""

import dataclasses

import numpy as np

from natjax import data
from natjax import operations
from natjax import spaces


def stripes(data_dir, image_size):
  """160 pictures of stripes, 2 classes"""
  rng = np.random.default_rng(0)
  labels = np.arange(160) % 2
  side = np.arange(8) % 2 * 200
  images = np.where(labels[:, None, None] == 0, side[:, None], side[None])
  images = (images + rng.integers(0, 56, images.shape)).astype(np.uint8)
  return data.make_dataset(
      "stripes", (images[:120], labels[:120]), (images[120:], labels[120:]),
      image_size=image_size, class_names=("across", "down"))


CONV = dataclasses.replace(operations.get("conv_3x3"), name="toy_conv")
SPACE = spaces.SPACES["nat"]._replace(name="toy_space")
NOTHING = None
