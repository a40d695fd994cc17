"""Tests of natjax.data.sources; those of the readers stand beside it."""

import dataclasses
import importlib.util
import os
import pathlib

import numpy as np
from PIL import Image
import pytest
from sklearn import datasets as sklearn_datasets

from natjax import data, errors
from natjax.data import cache, image_folder
from natjax.pipeline import run_data


@pytest.fixture(autouse=True)
def _no_prepared_sets(tmp_path, monkeypatch):
  """Keeps what lies on this machine out of the tests."""
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing_prepared"))


def _arrays(num_classes=10, size=8):
  labels = np.arange(2 * num_classes) % num_classes
  images = np.random.default_rng(0).integers(
    0, 256, (2 * num_classes, size, size, 3), np.uint8
  )
  return {
    "x_train": images,
    "y_train": labels,
    "x_test": images[::-1],
    "y_test": labels[::-1],
  }


def _refusal(name, **options):
  with pytest.raises(errors.InputError) as refusal:
    data.load(name, **options)
  assert "\n" not in str(refusal.value)
  return str(refusal.value)


def test_digits_are_read_with_and_without_scikit_learn(monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(sklearn_datasets, "load_digits", None)
    found = data.load("digits", image_size=8)
  with monkeypatch.context() as patch:
    patch.setattr(importlib.util, "find_spec", lambda name: None)
    other = data.load("digits", image_size=8)
  assert np.array_equal(found.train_images, other.train_images)
  assert np.array_equal(found.test_labels, other.test_labels)
  assert found.train_labels.dtype == other.train_labels.dtype


def test_digits_are_those_of_scikit_learn():
  digits = data.load("digits", image_size=8)
  assert digits.name == "digits"
  assert digits.num_classes == 10
  assert digits.augmentation == data.Augmentation(1, False, 0)
  # scikit-learn has 178, 182, 177, ... of every class: a fifth, rounded.
  assert np.bincount(digits.test_labels).tolist() == [
    *(36, 36, 35, 37, 36, 36, 36, 36, 35, 36)
  ]
  assert len(digits.train_labels) == 1797 - 359
  source = sklearn_datasets.load_digits()
  expected = sorted(
    (int(label), np.rint(image / 16 * 255).astype(int).tolist())
    for image, label in zip(source.images, source.target, strict=True)
  )
  images = np.concatenate([digits.train_images, digits.test_images])
  labels = np.concatenate([digits.train_labels, digits.test_labels])
  found = sorted(
    (int(label), image[..., 0].astype(int).tolist())
    for image, label in zip(images, labels, strict=True)
  )
  assert found == expected


def test_digits_are_always_divided_alike():
  first = data.load("digits", image_size=8)
  again = data.load("digits", image_size=8)
  np.testing.assert_array_equal(first.test_images, again.test_images)
  # Recorded: the first of the test set.
  assert first.test_labels[:10].tolist() == [2, 3, 1, 3, 5, 0, 1, 5, 0, 8]


def test_digits_grow_to_the_size_asked_for():
  digits = data.load("digits", image_size=16)
  assert digits.train_images.shape == (1438, 16, 16, 3)
  assert digits.test_images.shape == (359, 16, 16, 3)
  assert digits.augmentation.crop_padding == 2


def test_load_an_npz_file_by_its_path(tmp_path):
  arrays = _arrays(3)
  np.savez(tmp_path / "mine.v2.npz", **arrays)
  for path in (tmp_path / "mine.v2.npz", str(tmp_path / "mine.v2.npz")):
    mine = data.load(path, image_size=8)
    assert mine.name == "mine.v2"
    assert mine.num_classes == 3
    assert mine.augmentation == data.Augmentation(1, False, 0)
    np.testing.assert_array_equal(mine.train_images, arrays["x_train"])
    np.testing.assert_array_equal(mine.test_images, arrays["x_test"])
    assert mine.test_labels.tolist() == arrays["y_test"].tolist()
    pixels = arrays["x_train"].reshape(-1, 3) / 255
    assert mine.mean == pytest.approx(pixels.mean(axis=0))


@pytest.mark.parametrize("as_file", [True, False])
def test_load_a_known_name_from_an_npz_file(tmp_path, as_file):
  np.savez(tmp_path / "cifar10.npz", **_arrays())
  where = tmp_path / "cifar10.npz" if as_file else tmp_path
  cifar = data.load("cifar10", data_dir=where, image_size=8)
  assert cifar.name == "cifar10"
  assert cifar.class_names[3] == "cat"
  assert cifar.mean == (0.49139968, 0.48215827, 0.44653124)
  assert cifar.std == (0.24703233, 0.24348505, 0.26158768)
  assert cifar.augmentation == data.Augmentation(1, True, 0)


@pytest.mark.parametrize(
  ("name", "flip", "classes"),
  [
    ("cifar10", True, 10),
    ("cifar100", True, 100),
    ("fashion_mnist", True, 10),
    ("imagenette", True, 10),
    ("svhn_cropped", False, 10),
    ("mnist", False, 10),
    ("emnist", False, 47),
    ("something_else", False, 4),
  ],
)
def test_crop_and_flip_are_those_of_the_set(tmp_path, name, flip, classes):
  np.savez(tmp_path / f"{name}.npz", **_arrays(classes))
  loaded = data.load(name, data_dir=tmp_path)
  assert loaded.augmentation == data.Augmentation(4, flip, 0)
  assert loaded.train_images.shape[1:] == (32, 32, 3)
  assert loaded.num_classes == classes


def test_labels_of_a_known_set_must_fit_its_classes(tmp_path):
  np.savez(tmp_path / "cifar10.npz", **_arrays(11))
  message = _refusal("cifar10", data_dir=tmp_path)
  assert "from 0 to 10; with 10 classes" in message


def test_load_a_folder_of_images(tmp_path, monkeypatch):
  for label in ("ant", "bee"):
    for i in range(5):
      path = tmp_path / "insects" / label / f"{i}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(np.full((6, 6, 3), 20 * i, np.uint8)).save(path)
  insects = data.load(tmp_path / "insects", image_size=6)
  assert insects.name == "insects"
  assert insects.class_names == ("ant", "bee")
  assert len(insects.train_labels) == 8
  assert insects.augmentation == data.Augmentation(0, False, 0)
  monkeypatch.chdir(tmp_path)
  assert data.load("insects", image_size=6).class_names == ("ant", "bee")
  # A known name is the set, unless it is written as a path.
  os.rename("insects", "mnist")
  assert "mnist not found in" in _refusal("mnist")
  assert data.load("./mnist").class_names == ("ant", "bee")
  monkeypatch.chdir("mnist")
  assert data.load(".", image_size=6).name == "mnist"


def test_a_set_that_is_not_there_is_known_by_its_numbers():
  found = data.absent("cifar100", image_size=24, train_fraction=0.5)
  assert found.train_images.shape == (25_000, 24, 24, 3)
  assert len(found.test_images) == len(found.test_labels) == 10_000
  assert np.bincount(found.train_labels).tolist() == [250] * 100
  assert found.train_images[:7].cropped(None).shape[0] == 7
  with pytest.raises(errors.InputError, match="cifar100 is not there"):
    found.train_images[3]
  with pytest.raises(errors.InputError, match="how many images"):
    data.absent("caltech101")


def test_load_finds_the_batches_of_cifar(tmp_path):
  (tmp_path / "cifar-10-batches-py").mkdir()
  (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"")
  message = _refusal("cifar10", data_dir=tmp_path)
  assert "lacks data_batch_2" in message
  # A file of arrays goes first.
  np.savez(tmp_path / "cifar10.npz", **_arrays())
  assert data.load("cifar10", data_dir=tmp_path).num_classes == 10


def test_names_are_known_each_with_one_line():
  names = data.names()
  expected = {"digits", "fashion_mnist", "cifar10", "cifar100", "svhn_cropped"}
  assert expected <= set(names)
  for line in names.values():
    assert line
    assert "\n" not in line


def test_load_refuses_an_unknown_name_and_lists_the_known(tmp_path):
  for options in ({}, {"data_dir": tmp_path}):
    message = _refusal("cifra10", **options)
    assert "unknown data set 'cifra10'" in message
    assert "digits, cifar10, cifar100" in message
    assert "path to an .npz file or to a folder" in message


def test_load_says_how_to_get_a_known_set(tmp_path):
  message = _refusal("svhn_cropped", data_dir=tmp_path)
  assert f"not found in {tmp_path}; put svhn_cropped.npz" in message
  assert "x_train, y_train, x_test, y_test" in message
  assert "tfds build svhn_cropped --file_format=array_record" in message
  assert "python batches" not in message
  assert "python batches" in _refusal("cifar100", data_dir=tmp_path)
  assert "nothing_prepared" in _refusal("cifar100")


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("", "empty name; give one of digits"),
    ("./none", "none: no such file or folder"),
    ("/none/some.npz", "/none/some.npz: no such file"),
    ("some/none", "unknown data set 'some/none'"),
  ],
)
def test_load_refuses_names(name, message):
  assert message in _refusal(name)


def test_load_refuses_a_file_that_is_not_npz(tmp_path):
  for name, how in (("some.csv", "numpy.savez"), ("a.mat", "numpy.savez"),
                    ("some.tar.gz", "unpack this one"), ("a.ZIP", "unpack")):
    (tmp_path / name).write_text("1,2")
    message = _refusal(tmp_path / name)
    assert "is no .npz file" in message and how in message
  assert "; give an .npz file" in _refusal(tmp_path / "none.csv")


def test_load_refuses_a_data_dir_that_would_be_ignored(tmp_path):
  message = _refusal("digits", data_dir=tmp_path)
  assert "comes with scikit-learn; leave data_dir out" in message
  message = _refusal(tmp_path, data_dir=tmp_path)
  assert "is a path; leave data_dir out" in message


def test_load_refuses_a_data_dir_that_is_not_there(tmp_path):
  message = _refusal("cifar10", data_dir=tmp_path / "none")
  assert "no such folder; give the folder that holds cifar10" in message
  assert "no such file" in _refusal("cifar10", data_dir=tmp_path / "none.npz")


def test_images_are_normalised_as_they_are_to_be(tmp_path):
  np.savez(tmp_path / "mine.npz", **_arrays(3))
  own = data.load(tmp_path / "mine.npz", image_size=8)
  assert own.source.normalize is None
  for name, mean, std in (
      ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
      ("unit", (0, 0, 0), (1, 1, 1)),
      ("0.1,0.2,0.3/0.5,0.6,1", (0.1, 0.2, 0.3), (0.5, 0.6, 1))):
    found = data.load(tmp_path / "mine.npz", image_size=8, normalize=name)
    assert (found.mean, found.std) == (mean, std)
    assert found.source.normalize == name
    assert run_data.describe(found)["normalize"] == name
  assert "normalize" not in run_data.describe(own)


@pytest.mark.parametrize("name", ["digits", "grey.npz"])
def test_arrays_are_not_cropped_as_photographs(tmp_path, monkeypatch, name):
  monkeypatch.chdir(tmp_path)
  arrays = _arrays(3)
  np.savez("grey.npz", **{
      k: v[..., 0] if k.startswith("x") else v for k, v in arrays.items()})
  assert "are arrays; give crop" in _refusal(
      name, image_size=16, resize="imagenet")


@pytest.mark.parametrize("name", [
    "imagnet", "0.5/0.5", "1,2,3/1,1,1", "0,0,0/0,1,1", "a,b,c/1,1,1", 3, "",
    "0,0,0", "0,0,0/1,1,1/1", "nan,0,0/1,1,1"])
def test_other_normalisations_are_refused(name):
  with pytest.raises(errors.InputError, match="normalize is") as caught:
    data.load("digits", image_size=8, normalize=name)
  assert caught.value.field == "normalize"


def test_load_refuses_an_image_size():
  assert "image_size -8" in _refusal("digits", image_size=-8)


def test_cifar10_itself_has_the_published_mean_and_std(shared_data, tmp_path):
  spec = importlib.util.spec_from_file_location(
    "unpack", shared_data / "unpack.py"
  )
  unpack = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(unpack)
  keys = ("x_train", "y_train", "x_test", "y_test")
  arrays = dict(zip(keys, unpack.cifar10(), strict=True))
  np.savez(tmp_path / "copy.npz", **arrays)
  copy = data.load(tmp_path / "copy.npz")
  assert copy.mean == pytest.approx([0.491400, 0.482158, 0.446531], abs=1e-6)
  assert copy.std == pytest.approx([0.247032, 0.243485, 0.261588], abs=1e-6)
  assert np.bincount(copy.train_labels).tolist() == [5000] * 10
  assert np.bincount(copy.test_labels).tolist() == [1000] * 10
  np.testing.assert_array_equal(copy.test_images, arrays["x_test"])


def test_a_set_says_where_it_was_loaded_from(tmp_path, monkeypatch):
  assert data.load("digits", image_size=8).source[:2] == ("digits", None)
  np.savez(tmp_path / "mine.npz", **_arrays(3))
  monkeypatch.chdir(tmp_path)
  for name in ("mine.npz", "./mine.npz", tmp_path / "mine.npz"):
    found = data.load(name, image_size=8).source
    assert found[:2] == (str(tmp_path / "mine.npz"), None)
  found = data.load("mnist", data_dir="mine.npz", image_size=8)
  assert found.source[:2] == ("mnist", str(tmp_path / "mine.npz"))
  assert found.num_classes == 10 and len(set(found.train_labels)) == 3


@pytest.mark.parametrize("name", [
  "x" * 300, "a/" + "x" * 300 + ".npz", "a\0b", 5, None, []])
def test_load_refuses_what_no_path_can_be(name):
  assert "dataset is " in _refusal(name)
  if name is not None:
    assert "data_dir is " in _refusal("cifar10", data_dir=name)


def _raise(error):
  raise error


@pytest.mark.parametrize("load,message", [
  (lambda *_: None, "gave a NoneType and must give a Dataset"),
  (lambda *_: _raise(KeyError("a\nb")), r"failed (KeyError: 'a\nb'); mend"),
  (lambda *_: _raise(SystemExit(3)), "failed (SystemExit: 3)"),
  (lambda: None, "failed (TypeError: "),
  (lambda *_: _raise(errors.InputError("no such file")), "no such file"),
  (lambda where, size: data.load("digits", image_size=2 * size),
   "gave a wrong Dataset (ValueError: 16 pixels"),
  (lambda *_: data.Dataset("a", *[None] * 4, 2, (), (), (), None),
   "gave a wrong Dataset ("),
  (lambda *_: data.Dataset(*_arrays(), *[()] * 5), "failed (TypeError: "),
])
def test_loaders_of_others_are_not_taken_on_trust(monkeypatch, load, message):
  monkeypatch.setitem(data.LOADERS, "mine", load)
  assert message in _refusal("mine", image_size=8)


def test_what_a_loader_says_of_its_set_is_kept(monkeypatch):
  images = np.random.default_rng(0).integers(0, 256, (8, 8, 16, 3)).astype("u1")
  labels = np.arange(8) % 2 + 5
  load = lambda where, size: data.make_dataset(
      "mine", (images, labels), (images, labels), image_size=size,
      resize="crop", renumber_labels=True)
  monkeypatch.setitem(data.LOADERS, "mine", load)
  found, own = data.load("mine", image_size=8), load(None, 8)
  assert found.resize == "crop" and found.notes[:1] == own.notes
  assert "renumbered 0 to 1" in own.notes[0]
  assert len({*found.notes}) == len(found.notes)


def test_a_loader_whose_labels_are_not_its_classes(monkeypatch):
  digits = data.load("digits", image_size=8)
  for changes, message in (
      ({"train_labels": digits.train_labels + 1}, "labels run from 1 to 10"),
      ({"num_classes": 9}, "9 classes and 10 names"),
      ({"train_images": digits.train_images / 255}, "give uint8"),
      ({"std": (0, 0, 0)}, "std (0.0, 0.0, 0.0)")):
    monkeypatch.setitem(data.LOADERS, "mine", lambda where, size, new=changes: (
      dataclasses.replace(digits, **new)))
    refusal = _refusal("mine", image_size=8)
    assert "the loader of data set 'mine' gave a wrong Dataset" in refusal
    assert message in refusal


def test_a_set_that_the_user_may_not_read_is_named(tmp_path, monkeypatch):
  def denied(*args):
    raise PermissionError(13, "Permission denied", str(tmp_path / "a"))

  monkeypatch.setattr(image_folder, "read", denied)
  with pytest.raises(errors.InputError, match="a: Permission denied; let") as e:
    data.load(tmp_path, image_size=4)
  assert e.value.field == "dataset"


@pytest.mark.parametrize("place", [
    "gs://bucket/cache", os.fsdecode(b"caf\xe9")])
def test_a_cache_where_none_can_be(place, monkeypatch):
  monkeypatch.setenv("NATJAX_CACHE", place)
  with pytest.raises(errors.InputError, match=r"^NATJAX_CACHE: the path"):
    cache.folder()
  monkeypatch.setenv("NATJAX_CACHE", "~/cache")
  assert cache.folder() == pathlib.Path.home() / "cache"
