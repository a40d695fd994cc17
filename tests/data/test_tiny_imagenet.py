"""Tests of natjax.data.tiny_imagenet, on a small folder of its form."""

import os

import numpy as np
from PIL import Image
import pytest

from natjax import data, errors
from natjax.data import dataset, image_folder
from tests import tiny

CLASSES = ("n02", "n01", "n03")  # In another order than sorted.


@pytest.fixture
def folder(tmp_path):
  return tiny.make_tiny_imagenet(
    tmp_path / "tiny-imagenet-200", CLASSES, train=3, test=2, size=64
  )


def _refusal(name="tiny_imagenet", **options):
  with pytest.raises(errors.InputError) as refusal:
    data.load(name, **options)
  assert "\n" not in str(refusal.value)
  return str(refusal.value)


def test_reads_the_authors_folder(folder):
  for where in (folder, folder.parent):
    found = data.load("tiny_imagenet", data_dir=where, image_size=64)
    assert found.name == "tiny_imagenet"
    assert found.class_names == ("word 1", "n02", "word 3")
    assert found.num_classes == 3
    assert found.augmentation == data.Augmentation(8, True, 0)
    assert found.train_images.shape == (9, 64, 64, 3)
    assert found.train_labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    first = folder / "train" / "n01" / "images" / "n01_0.JPEG"
    np.testing.assert_array_equal(
      found.train_images[0], image_folder.read_image(first)
    )
    # The annotations list them backwards.
    assert found.test_labels.tolist() == [2, 2, 0, 0, 1, 1]
    last = folder / "val" / "images" / "val_0.JPEG"
    np.testing.assert_array_equal(
      found.test_images[-1], image_folder.read_image(last)
    )


def test_grey_images_become_rgb(folder):
  path = folder / "train" / "n03" / "images" / "n03_2.JPEG"
  grey = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
  Image.fromarray(grey).save(path)
  with Image.open(path) as image:
    assert image.mode == "L"
  found = data.load("tiny_imagenet", data_dir=folder, image_size=64)
  image = found.train_images[8].astype(int)
  assert (image == image[..., :1]).all()
  assert (image[..., 0] != image[0, 0, 0]).any()


def test_images_are_brought_to_the_size_asked_for(folder, monkeypatch):
  whole = data.load("tiny_imagenet", data_dir=folder, image_size=64)
  monkeypatch.setattr(image_folder, "_CHUNK", 2)
  found = data.load("tiny_imagenet", data_dir=folder, image_size=16)
  assert found.train_images.shape == (9, 16, 16, 3)
  np.testing.assert_array_equal(
    found.train_images, dataset.resize_all(whole.train_images, 16)
  )
  np.testing.assert_array_equal(
    found.test_images, dataset.resize_all(whole.test_images, 16)
  )


def test_a_file_of_arrays_goes_first(folder):
  images, labels = np.zeros((4, 8, 8, 3), np.uint8), np.arange(4)
  np.savez(
    folder.parent / "tiny_imagenet.npz",
    x_train=images, y_train=labels, x_test=images, y_test=labels,
  )
  found = data.load("tiny_imagenet", data_dir=folder.parent)
  assert len(found.train_labels) == 4
  assert found.num_classes == 200  # The set's, whatever the file has of it.


def test_says_how_to_get_it(tmp_path, monkeypatch):
  assert "110,000" in data.names()["tiny_imagenet"]
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
  for options in ({}, {"data_dir": tmp_path}):
    message = _refusal(**options)
    assert "tiny_imagenet not found in" in message
    for part in ("tiny-imagenet-200.zip", "CS231n", "unpack", "as data_dir"):
      assert part in message
    assert "tfds" not in message


def test_refuses_what_is_incomplete(folder):
  annotations = folder / "val" / "val_annotations.txt"
  annotations.write_text("val_0.JPEG\tn09\t0\t0\t9\t9\n")
  assert "val_0.JPEG is of class 'n09'" in _refusal(data_dir=folder)
  annotations.write_text("val_9.JPEG\tn01\t0\t0\t9\t9\n")
  assert "val_9.JPEG: No such file" in _refusal(data_dir=folder)
  annotations.write_text("\n")
  assert "val_annotations.txt is empty" in _refusal(data_dir=folder)
  annotations.unlink()
  assert "val_annotations.txt cannot be read" in _refusal(data_dir=folder)
  for path in (folder / "train" / "n02" / "images").iterdir():
    path.unlink()
  assert "images holds no images" in _refusal(data_dir=folder)


@pytest.mark.parametrize("name", ["words.txt", "val/val_annotations.txt"])
def test_pipes_are_refused(folder, name):
  (folder / name).unlink()
  os.mkfifo(folder / name)
  assert f"{name} is a pipe or a device" in _refusal(data_dir=folder)


def test_test_images_that_somebody_moved_into_folders(folder):
  expected = data.load("tiny_imagenet", data_dir=folder, image_size=64)
  lines = (folder / "val" / "val_annotations.txt").read_text().splitlines()
  for line in lines:
    name, number = line.split("\t")[:2]
    # Some leave the folder images within a class, some do not.
    inner = folder / "val" / number / ("images" if number == "n01" else "")
    inner.mkdir(parents=True, exist_ok=True)
    (folder / "val" / "images" / name).rename(inner / name)
  (folder / "val" / "val_annotations.txt").unlink()
  found = data.load("tiny_imagenet", data_dir=folder, image_size=64)
  assert found.test_labels.tolist() == [0, 0, 1, 1, 2, 2]
  images = lambda made: {x.tobytes() + bytes([label]) for x, label in zip(
    made.test_images, made.test_labels, strict=True)}
  assert images(found) == images(expected)


def test_images_that_are_passed_over_are_said(folder):
  load = lambda: data.load("tiny_imagenet", data_dir=folder, image_size=64)
  assert not load().notes
  annotations = folder / "val" / "val_annotations.txt"
  lines = annotations.read_text().splitlines()
  annotations.write_text("\n".join(lines[:4]))
  found = load()
  assert len(found.test_labels) == 4
  (note,) = found.notes
  assert note.startswith("2 image(s) in ") and "says no class" in note
  annotations.write_text("\n".join([*lines, lines[2]]))
  name = lines[2].split("\t")[0]
  assert f"{name} stands in it twice" in _refusal(data_dir=folder)
  annotations.write_text("\n".join(lines))
  # What was saved again counts like the others.
  first = folder / "train" / "n01" / "images" / "n01_0.JPEG"
  Image.open(first).save(first.with_suffix(".png"))
  first.unlink()
  tiny.make_tiny_imagenet(
    folder.parent / "more", ("n01", "n09"), train=3, test=2, size=64)
  (folder.parent / "more/train/n09").rename(folder / "train" / "n09")
  found = load()
  assert len(found.train_labels) == 9
  (note,) = found.notes
  assert "n09 are passed over" in note


def test_test_images_that_somebody_left_beside_folders_are_said(folder):
  lines = (folder / "val" / "val_annotations.txt").read_text().splitlines()
  for line in lines[:-1]:
    name, number = line.split("\t")[:2]
    (folder / "val" / number).mkdir(exist_ok=True)
    (folder / "val" / "images" / name).rename(folder / "val" / number / name)
  found = data.load("tiny_imagenet", data_dir=folder, image_size=64)
  assert len(found.test_labels) == 5
  (note,) = found.notes
  assert f"images in {folder / 'val' / 'images'} are passed over" in note
