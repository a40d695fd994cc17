"""A data set in one file: stripes, across or down."""

import numpy as np

from natjax import data


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
