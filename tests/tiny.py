"""A search small enough for tests, shared by them."""

import dataclasses
import functools

import numpy as np
from PIL import Image

from natjax import data, spaces, zoo
from natjax.methods import choice, nat, supervised
from natjax.training import fit

GENOTYPE = zoo.get("darts")
# What DARTS is made of, and null: five operations of NAT's nine to compile.
SPACE = spaces.cells(
    "tiny", ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3",
             "null"))
IMAGE_SIZE = 8

SEARCH = nat.NATConfig(
    init_channels=2, cells=3, epochs=2, batch_size=8, learning_rate=0.05,
    inputs=1, samples=2, candidates=4, weights_fraction=0.5)
TRAIN = supervised.TrainConfig(
    init_channels=2, cells=3, epochs=2, batch_size=8, auxiliary=False,
    cutout=2, drop_path=0.1)


@functools.cache
def digits():
  return data.load("digits", image_size=IMAGE_SIZE)


def splits(count=48):
  d = digits()
  half = count // 2
  return {
      "weights": fit.Split(d.train_images[:half], d.train_labels[:half]),
      "policy": fit.Split(d.train_images[half:count],
                          d.train_labels[half:count]),
      "train": fit.Split(d.train_images[:count], d.train_labels[:count]),
  }


def preparation(cutout=0):
  d = digits()
  return fit.Preparation(
      tuple(map(float, d.mean)), tuple(map(float, d.std)),
      d.augmentation._replace(cutout=cutout))


@functools.cache
def make_nat(num_devices=1, **changes):
  return nat.NAT(
      dataclasses.replace(SEARCH, **changes), SPACE, num_classes=10,
      image_size=IMAGE_SIZE, steps_per_epoch=3, num_devices=num_devices)


def nested(rights, images=1000):
  """Answers of candidates, each right wherever those behind it are."""
  return choice.Answers(images, np.minimum.outer(rights, rights))


def batch(size, *, seed=0):
  rng = np.random.default_rng(seed)
  return {
      "image": rng.normal(size=(size, IMAGE_SIZE, IMAGE_SIZE, 3)).astype("f"),
      "label": rng.integers(0, 10, size).astype(np.int32),
  }


def make_tiny_imagenet(folder, classes, *, train, test, size, seed=0):
  """Makes a set of Tiny-ImageNet's form.

  Args:
    folder: tiny-imagenet-200.
    classes: their WordNet numbers; "n0K" is named "word K", but n02 is not.
    train: images per class.
    test: likewise.
    size: side of the images, in pixels.
    seed: of the images, which are of one colour per class, with noise.
  """
  rng = np.random.default_rng(seed)

  def save(path, k):
    path.parent.mkdir(parents=True, exist_ok=True)
    color = 255 * (k + 1) // (len(classes) + 1)
    pixels = np.clip(color + rng.normal(0, 20, (size, size, 3)), 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(path, "JPEG")

  lines = []
  for k, name in enumerate(classes):
    for i in range(train):
      save(folder / "train" / name / "images" / f"{name}_{i}.JPEG", k)
    for i in range(test):
      file = f"val_{k * test + i}.JPEG"
      save(folder / "val" / "images" / file, k)
      lines.insert(0, f"{file}\t{name}\t0\t0\t{size - 1}\t{size - 1}\n")
  (folder / "val" / "val_annotations.txt").write_text("".join(lines))
  (folder / "wnids.txt").write_text("\n".join(classes) + "\n")
  (folder / "words.txt").write_text("".join(
      f"{name}\tword {name[2:]}, another word\n" for name in classes
      if name != "n02"))
  return folder
