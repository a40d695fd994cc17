"""Splits of images that stand class by class, and of those that do not."""

import numpy as np
import pytest

from natjax import data
from natjax.data import dataset as dataset_lib
from natjax.pipeline import feed
from natjax.training import fit


def split(labels):
  return fit.Split(np.arange(len(labels)).reshape(-1, 1, 1, 1), labels)


@pytest.mark.parametrize("labels", [
    np.repeat(np.arange(4), 100), np.repeat([0, 1], [300, 20]),
    np.repeat(np.arange(10), 20)[::-1]])
def test_parts_of_a_folder_are_mixed(labels):
  whole, fractions = split(labels), (0.5, 0.3, 0.2)
  parts = feed.divide(whole, fractions, 1)
  for part, rows in zip(parts, data.split(
      len(labels), fractions, seed=1), strict=True):
    # The same images, in another order, each with its label.
    assert sorted(part.images.ravel()) == rows.tolist()
    np.testing.assert_array_equal(labels[part.images.ravel()], part.labels)
    assert dataset_lib.mixed(part.labels) is None
    # Of few, too, all that are frequent are there.
    shares = [np.bincount(x, minlength=10) / len(x) for x in (
        part.labels[:32], part.labels)]
    assert np.abs(shares[0] - shares[1]).max() < 0.25
  again = feed.divide(whole, fractions, 1)
  for one, other in zip(parts, again, strict=True):
    np.testing.assert_array_equal(one.images, other.images)


@pytest.mark.parametrize("labels", [
    np.random.default_rng(0).integers(0, 10, 500), np.arange(99) % 3,
    np.random.default_rng(0).permutation(np.repeat([0, 1], [450, 50])),
    np.zeros(20, int), np.array([0]), data.load("digits").train_labels])
def test_what_is_mixed_stays_in_its_order(labels):
  assert dataset_lib.mixed(labels) is None
  if len(labels) > 1:
    for part, rows in zip(feed.divide(split(labels), (0.5, 0.5), 0), data.split(
        len(labels), (0.5, 0.5), seed=0), strict=True):
      np.testing.assert_array_equal(part.images.ravel(), rows)


def test_the_first_images_of_all_are_of_all_classes():
  labels = np.repeat(np.arange(4), 100).astype(np.int32)
  images = np.zeros((400, 2, 2, 3), np.uint8)
  walked = feed.Feed(
      {"train": fit.Split(images, labels)}, 32,
      fit.Preparation((0.5,) * 3, (0.5,) * 3, data.Augmentation(), np.float32))
  found = walked.score(lambda argument, batch: batch["label"], (),
                       split="train", images=64, each=True)
  assert len(found) == 64 and np.bincount(found.astype(int)).min() > 5
