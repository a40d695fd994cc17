"""Tests of natjax.data.image_folder."""

import ast
import json
import os
import re
import struct
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from natjax import data, errors
from natjax.data import dataset, face_pairs, image_folder, streamed


def _pixels(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _save(path, image=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(_pixels(4, 6, 3) if image is None else image).save(path)


def _refusal(folder):
  with pytest.raises(errors.InputError) as refusal:
    _read(folder)
  assert "\n" not in str(refusal.value)
  return str(refusal.value)


def _read(folder, image_size=4, **options):
  return image_folder.read(folder, image_size, **options)


@pytest.mark.parametrize(
  "test_name", ["test", "testing", "val", "valid", "validation"])
@pytest.mark.parametrize("train_name", ["train", "training"])
def test_read_a_divided_folder(tmp_path, train_name, test_name):
  images = _pixels(5, 4, 4, 3)
  _save(tmp_path / train_name / "dog" / "b.png", images[2])
  _save(tmp_path / train_name / "dog" / "a.PNG", images[1])
  _save(tmp_path / train_name / "cat" / "z.bmp", images[0])
  _save(tmp_path / test_name / "cat" / "1.png", images[3])
  _save(tmp_path / test_name / "dog" / "1.png", images[4])
  (tmp_path / train_name / "cat" / "notes.txt").write_text("no image")
  (tmp_path / train_name / ".hidden").mkdir()
  raw = _read(tmp_path)
  assert raw.class_names == ("cat", "dog")
  np.testing.assert_array_equal(raw.train[0], images[:3])
  assert raw.train[1].tolist() == [0, 1, 1]
  np.testing.assert_array_equal(raw.test[0], images[3:])
  assert raw.test[1].tolist() == [0, 1]


def test_parts_in_capitals(tmp_path):
  for part in ("Training", "TESTING"):
    for i, label in enumerate(("a", "b")):
      _save(tmp_path / part / label / "1.png", np.full((2, 2, 3), i, np.uint8))
  raw = _read(tmp_path)
  assert raw.class_names == ("a", "b") and raw.notes == ()
  assert raw.train[0][:, 0, 0, 0].tolist() == raw.test[1].tolist() == [0, 1]
  for label in ("c", "d"):
    _save(tmp_path / "training" / label / "1.png")
    _save(tmp_path / "testing" / label / "1.png")
  assert _read(tmp_path).class_names == ("c", "d")
  assert len(_read(tmp_path).notes) == 2


def test_test_is_preferred_to_val(tmp_path):
  for i, part in enumerate(["train", "test", "val"]):
    for label in ("a", "b"):
      image = np.full((2, 2, 3), 100 * i, np.uint8)
      _save(tmp_path / part / label / "1.png", image)
  assert (_read(tmp_path).test[0] == 100).all()


def test_an_undivided_folder_gives_up_a_fixed_fifth(tmp_path):
  images = _pixels(15, 4, 4, 3)
  for i, image in enumerate(images):
    label = "a" if i < 10 else "b"
    _save(tmp_path / label / f"{i:02}.png", image)
  raw = _read(tmp_path)
  assert raw.class_names == ("a", "b")
  assert np.bincount(raw.train[1]).tolist() == [8, 4]
  assert np.bincount(raw.test[1]).tolist() == [2, 1]
  together = {x.tobytes() for x in (*raw.train[0], *raw.test[0])}
  assert together == {x.tobytes() for x in images}
  for part in (raw.train, raw.test):
    for image, label in zip(*part, strict=True):
      index = (images == image).all(axis=(1, 2, 3)).argmax()
      assert label == (index >= 10)
  again = _read(tmp_path)
  np.testing.assert_array_equal(again.test[0], raw.test[0])


def test_grey_palette_and_transparent_images_become_rgb(tmp_path):
  grey, colour = _pixels(4, 4), _pixels(4, 4, 3)
  _save(tmp_path / "grey.png", grey)
  np.testing.assert_array_equal(
    image_folder.read_image(tmp_path / "grey.png"),
    np.stack([grey] * 3, axis=-1),
  )
  alpha = np.full((4, 4, 1), 100, np.uint8)
  _save(tmp_path / "alpha.png", np.concatenate([colour, alpha], axis=-1))
  np.testing.assert_array_equal(
    image_folder.read_image(tmp_path / "alpha.png"), colour
  )
  # Palette entries 0 and 1; Pillow warns of the transparency given as bytes.
  palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
  palette.putpalette([10, 20, 30, 40, 50, 60])
  palette.save(tmp_path / "palette.png", transparency=bytes([0, 128]))
  assert image_folder.read_image(tmp_path / "palette.png").tolist() == [
    [[10, 20, 30], [40, 50, 60]]
  ]


def test_jpeg_is_read_nearly(tmp_path):
  image = np.full((8, 8, 3), (200, 100, 50), np.uint8)
  _save(tmp_path / "some.jpg", image)
  found = image_folder.read_image(tmp_path / "some.jpg").astype(int)
  assert np.abs(found - image).max() <= 4


@pytest.mark.parametrize("how", ["stretch", "crop"])
def test_images_of_unequal_size_are_resized_as_they_are_read(tmp_path, how):
  shapes = {"a/1": (4, 6), "a/2": (9, 4), "b/1": (6, 4), "b/2": (4, 4)}
  images = {}
  for i, (name, shape) in enumerate(shapes.items()):
    images[name] = _pixels(*shape, 3, seed=i)
    _save(tmp_path / f"{name}.png", images[name])
  raw = _read(tmp_path, 4, resize=how)
  found = {x.tobytes() for x in (*raw.train[0], *raw.test[0])}
  if how == "crop":
    images |= {"a/1": images["a/1"][:, 1:5], "a/2": images["a/2"][2:6],
               "b/1": images["b/1"][1:5]}
    assert found == {x.tobytes() for x in images.values()}
  else:
    assert found == {
      dataset.resize_all(x[None], 4)[0].tobytes() for x in images.values()}


def test_the_memory_of_reading_is_bounded(tmp_path):
  # A set of 9 MiB of images that take 112 MiB as they are on disk.
  first = tmp_path / "0" / "0.png"
  _save(first, np.zeros((886, 886, 3), np.uint8))
  (tmp_path / "1").mkdir()
  for i in range(1, 50):
    os.link(first, tmp_path / str(i % 2) / f"{i}.png")
  found = subprocess.run([sys.executable, "-c", _MEASURE, str(tmp_path)],
                         capture_output=True, text=True, check=True)
  grown = int(found.stdout)
  batch = os.cpu_count() * 3 * 2.25  # MiB: an image as read, as RGB, as array.
  assert grown <= 1.5 * 9.4 + batch + 8  # And what threads and Pillow keep.


_MEASURE = """
import resource, sys
from natjax import data
data.load("digits", image_size=8)  # What is imported late.
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
found = data.load(sys.argv[1], image_size=256)
assert found.train_images.shape == (40, 256, 256, 3)
print(peak() - before)
"""


def test_images_in_a_folder_of_their_class(tmp_path):
  images = _pixels(4, 4, 4, 3)
  for i, image in enumerate(images):
    _save(tmp_path / "ab"[i % 2] / "images" / f"{i}.png", image)
    (tmp_path / "ab"[i % 2] / "boxes.txt").write_text("")
  raw = _read(tmp_path)
  np.testing.assert_array_equal(
    np.sort(np.concatenate([raw.train[0], raw.test[0]]), axis=0),
    np.sort(images, axis=0))


def test_test_images_without_labels_are_passed_over(tmp_path):
  images = _pixels(4, 4, 4, 3)
  for i, label in enumerate("ab"):
    _save(tmp_path / "train" / label / "1.png", images[i])
    _save(tmp_path / "val" / label / "1.png", images[2 + i])
  for secret in ("test/1.png", "test/unknown/1.png"):
    _save(tmp_path / secret)
    raw = _read(tmp_path)
    np.testing.assert_array_equal(raw.test[0], images[2:])
    assert raw.notes == (
      f"{tmp_path / 'test'} holds no folders of the classes and is passed over",
    )


def test_test_images_of_some_classes(tmp_path):
  for path in ("train/a", "train/b", "train/c", "test/c", "test/a"):
    _save(tmp_path / path / "1.png")
  (tmp_path / "test" / "b").mkdir()
  raw = _read(tmp_path)
  assert raw.class_names == ("a", "b", "c") and raw.test[1].tolist() == [0, 2]
  assert raw.notes == (f"{tmp_path / 'test'} has no images of b",)


def test_the_part_that_is_held_out(tmp_path):
  for i in range(20):
    _save(tmp_path / "train" / "ab"[i % 2] / f"{i:02}.png", _pixels(4, 4, 3))
  raw = _read(tmp_path, test_fraction=0.4)
  assert np.bincount(raw.test[1]).tolist() == [4, 4]
  whole = data.load(tmp_path / "train", image_size=4, test_fraction=0.4)
  np.testing.assert_array_equal(whole.test_labels, raw.test[1])
  _save(tmp_path / "test" / "a" / "1.png")
  with pytest.raises(errors.InputError, match=r"and .* has a test set") as e:
    data.load(tmp_path, image_size=4, test_fraction=0.4)
  assert e.value.field == "test_fraction"
  for fraction in (0, 1, -0.1, float("nan"), "x"):
    with pytest.raises(errors.InputError, match="must be above 0 and below 1"):
      data.load(tmp_path, image_size=4, test_fraction=fraction)


def test_a_pipe_and_a_link_to_nothing_are_named(tmp_path):
  _save(tmp_path / "a" / "1.png")
  _save(tmp_path / "b" / "1.png")
  _save(tmp_path / "b" / "2.png")
  (tmp_path / "a" / "2.png").symlink_to(tmp_path / "gone.png")
  assert "2.png: No such file" in _refusal(tmp_path)
  _save(tmp_path / "a" / "4.png")
  (tmp_path / "a" / "2.png").unlink()
  os.mkfifo(tmp_path / "a" / "3.png")
  assert "3.png is a pipe or a device" in _refusal(tmp_path)


def test_train_without_test_is_refused(tmp_path):
  _save(tmp_path / "train" / "a" / "1.png")
  assert f"or give {tmp_path / 'train'}" in _refusal(tmp_path)


def test_test_without_train_is_refused(tmp_path):
  _save(tmp_path / "val" / "a" / "1.png")
  assert "has val but no train" in _refusal(tmp_path)


def test_other_classes_in_test_are_refused(tmp_path):
  for path in ("train/a", "train/b", "test/a", "test/c"):
    _save(tmp_path / path / "1.png")
  assert "test holds c, which the training images" in _refusal(tmp_path)
  (tmp_path / "test" / "a").rename(tmp_path / "test" / "d")
  assert "test must hold folders of the classes a, b" in _refusal(tmp_path)


def test_classes_that_look_alike_are_told_apart(tmp_path):
  for path in ("train/caf\xe9", "train/b", "test/cafe\u0301", "test/b"):
    _save(tmp_path / path / "1.png")
  with_b = _refusal(tmp_path)
  (tmp_path / "test" / "b").rename(tmp_path / "b")
  for line in with_b, _refusal(tmp_path):
    assert line.endswith(
        "; caf\xe9 is written in other characters there that look alike"
        " (another form of Unicode): rename it")


def test_classes_keep_their_names_where_the_locale_is_of_ascii(tmp_path):
  for path in ("train/caf\xe9", "train/b", "test/caf\xe9", "test/b"):
    _save(tmp_path / path / "1.png")
  done = subprocess.run(
      [sys.executable, "-c", "import os, sys; from natjax import data;"
       " names = data.load(sys.argv[1], image_size=4).class_names;"
       " print(sys.getfilesystemencoding(), ascii(names))", str(tmp_path)],
      env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0",
           "PYTHONCOERCECLOCALE": "0"},
      capture_output=True, text=True, check=True)
  encoding, names = done.stdout.split(" ", 1)
  assert encoding in ("ascii", "utf-8")  # macOS has no other.
  assert ast.literal_eval(names) == ("b", "caf\xe9")


@pytest.mark.parametrize("names", [
    ("train_images", "test_images"), ("images", "masks"),
    ("train2017", "val2017", "annotations"), ("Train Set", "Test-Data"),
    ("imagesTr", "imagesTs", "labelsTr")])
def test_parts_of_a_set_are_no_classes(tmp_path, names):
  for name in names:
    _save(tmp_path / name / "1.png")
    _save(tmp_path / name / "2.png")
  said = _refusal(tmp_path)
  assert "the parts of a set and no classes" in said and names[0] in said
  assert "csv" not in said
  (tmp_path / "train.csv").write_text("1,cat")
  assert "(labels in train.csv are not read)" in _refusal(tmp_path)
  # CIFAR-100 has trains.
  (tmp_path / names[0]).rename(tmp_path / "truck")
  (tmp_path / names[1]).rename(tmp_path / "train_images")
  assert "truck" in _read(tmp_path).class_names


@pytest.mark.parametrize("names", [
    ("label_0", "label_1"), ("sample1", "sample2"), ("train", "truck"),
    ("mask", "no_mask")])
def test_classes_may_be_called_almost_as_parts_are(tmp_path, names):
  for name in names:
    for part in ("train", "test"):
      _save(tmp_path / part / name / "1.png")
  assert _read(tmp_path).class_names == names


def test_fewer_than_two_classes_are_refused(tmp_path):
  assert "has 0 class folders" in _refusal(tmp_path)
  _save(tmp_path / "a" / "1.png")
  assert "has 1 class folders" in _refusal(tmp_path)


def test_a_class_without_images_is_refused(tmp_path):
  _save(tmp_path / "a" / "1.png")
  _save(tmp_path / "b" / "deeper" / "1.png")
  message = _refusal(tmp_path)
  assert f"{tmp_path / 'b'} holds no images" in message
  assert ".png" in message
  assert "those of its folders deeper are not read" in message


@pytest.mark.parametrize("paths,said", [
    (("cat.0.png", "dog.0.png"), "2 images lie in it directly"),
    (("set/train/a/1.png", "set/test/a/1.png"), "set has test, train: name"),
    (("a/images/1.png", "a/labels/1.png"), "1 class folders; it must hold at"
     " least 2 folders of images, one per class, directly or in train and test"
     "$")], ids=["flat", "outer", "one"])
def test_what_else_a_folder_without_classes_holds_is_told(
    tmp_path, paths, said):
  for path in paths:
    _save(tmp_path / path)
  assert re.search(said, _refusal(tmp_path))


@pytest.mark.parametrize("name", ["data_batch_1.bin", "train.bin"])
def test_the_binary_version_of_cifar_is_called_that(tmp_path, name):
  (tmp_path / name).write_bytes(bytes(3073))
  assert "the one for Python is" in _refusal(tmp_path)


def test_a_single_image_cannot_be_held_out(tmp_path):
  _save(tmp_path / "a" / "1.png")
  _save(tmp_path / "b" / "1.png")
  assert "class 'a' has 1 example" in _refusal(tmp_path)


@pytest.mark.parametrize("content", [b"no image", b""])
def test_a_file_that_is_no_image_is_refused(tmp_path, content):
  (tmp_path / "some.png").write_bytes(content)
  with pytest.raises(errors.InputError, match="cannot be read as an image"):
    image_folder.read_image(tmp_path / "some.png")


def test_an_image_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
  _save(tmp_path / "some.png", _pixels(32, 32, 3))
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
  with pytest.raises(errors.InputError, match=(
      r"some\.png has more than 1,000 pixels, the most that Pillow reads; make"
      " it smaller")):
    image_folder.read_image(tmp_path / "some.png")


def test_a_truncated_image_is_refused(tmp_path):
  _save(tmp_path / "some.png", _pixels(32, 32, 3))
  content = (tmp_path / "some.png").read_bytes()
  (tmp_path / "some.png").write_bytes(content[:1000])
  with pytest.raises(errors.InputError, match="cannot be read as an image"):
    image_folder.read_image(tmp_path / "some.png")


def test_an_image_of_16_bits_is_refused(tmp_path):
  _save(tmp_path / "some.png", np.full((4, 4), 40000, np.uint16))
  with pytest.raises(errors.InputError, match="more than 8 bits"):
    image_folder.read_image(tmp_path / "some.png")


def _divided(folder):
  for part in ("train", "test"):
    for label in ("a", "b"):
      _save(folder / part / label / "1.png")


@pytest.mark.parametrize("where, words", [
    ("x.png", "1 image(s) that lie in {} itself"),
    ("train/x.png", "1 image(s) that lie in {}/train itself"),
    ("test/x.png", "1 image(s) that lie in {}/test itself"),
    ("train/a/more/x.png", "images in {}/train/a/more are passed over"),
    ("train/a/very/deep/x.png", "images in {}/train/a/very are passed over"),
    ("test/b/images/x.png", "images in {}/test/b/images are passed over"),
    ("c/x.png", "images in {}/c are passed over"),
    ("val/a/x.png", "{}/val is passed over, since {}/test is the test set")])
def test_images_that_lie_elsewhere_are_said(tmp_path, where, words):
  _divided(tmp_path)
  assert _read(tmp_path).notes == ()
  _save(tmp_path / where)
  note, = _read(tmp_path).notes
  assert words.format(tmp_path, tmp_path) in note
  assert len(_read(tmp_path).train[0]) == len(_read(tmp_path).test[0]) == 2


def test_images_beside_class_folders_are_said(tmp_path):
  for label in ("a", "b"):
    for i in range(5):
      _save(tmp_path / label / f"{i}.png")
  _save(tmp_path / "stray.png")
  _save(tmp_path / "other.JPG")
  (tmp_path / "notes.txt").write_text("no image")
  note, = _read(tmp_path).notes
  assert "2 image(s) that lie in" in note


@pytest.mark.parametrize("inner", ["", "train"])
@pytest.mark.parametrize("out, classes", [
    ("out", ("a", "b")), ("runs/first", ("a", "b")), ("a/out", ("a", "b")),
    ("c/out", ("a", "b", "c"))])
def test_runs_among_the_classes_are_none(tmp_path, inner, out, classes):
  for label in classes:
    for part in ("train", "test") if inner else ("",):
      for i in range(2):
        _save(tmp_path / part / label / f"{i}.png")
  before = _read(tmp_path)
  run = tmp_path / inner / out
  run.mkdir(parents=True)
  (run / "config.json").write_text(
      json.dumps({"kind": "train", "dataset": "mine", "image_size": 4}))
  (run / "networks").mkdir()
  after = _read(tmp_path)
  assert after.class_names == before.class_names == classes
  assert after.notes == before.notes == ()
  np.testing.assert_array_equal(after.train[0], before.train[0])


def test_other_folders_with_a_configuration_are_classes(tmp_path):
  for label in ("a", "b"):
    (tmp_path / label).mkdir()
    (tmp_path / label / "config.json").write_text('{"kind": "camera"}')
    for i in range(2):
      _save(tmp_path / label / f"{i}.png")
  assert _read(tmp_path).class_names == ("a", "b")


@pytest.mark.parametrize("stream", [False, True])
def test_a_turn_that_exif_asks_for_is_not_made(tmp_path, stream):
  images = np.zeros((16, 16, 3), np.uint8)
  images[:8] = 255
  for part in ("train", "test"):
    for label in ("a", "b"):
      place = tmp_path / part / label / "1.JPG"
      place.parent.mkdir(parents=True)
      exif = Image.Exif()
      exif[0x112] = 6 if label == "a" else 3
      Image.fromarray(images).save(place, exif=exif, quality=100)
  found = data.load(tmp_path, image_size=16, stream=stream)
  for image in np.asarray(found.train_images):
    assert image[:8].min() > 240 and image[8:].max() < 16


def test_images_of_other_suffixes_are_said(tmp_path):
  _divided(tmp_path)
  for name in ("x.jfif", "y.JPE", "z.heic", "notes.txt"):
    (tmp_path / "train" / "a" / name).write_bytes(b"any")
  note, = _read(tmp_path).notes
  assert note.startswith(f"3 image(s) in {tmp_path}/train/a of suffixes")
  assert len(_read(tmp_path).train[0]) == 2


@pytest.mark.parametrize("suffix, content", [
    (".ppm", b"P6 4 4 2)5\n" + 48 * b"a"), (".pgm", b"P5 4\xff4 255\n"),
    (".ppm", b"P6 4 4")])
def test_headers_that_are_damaged_are_refused(tmp_path, suffix, content):
  _divided(tmp_path)
  damaged = tmp_path / "train" / "a" / f"2{suffix}"
  damaged.write_bytes(content)
  with pytest.raises(errors.InputError, match="cannot be read as an image"):
    image_folder.read_image(damaged)
  with pytest.raises(errors.InputError, match="cannot be read as an image"):
    _read(tmp_path)


def test_a_link_to_itself_is_named(tmp_path):
  _divided(tmp_path)
  link = tmp_path / "train" / "a" / "self.png"
  link.symlink_to("self.png")
  (tmp_path / "train" / "also").symlink_to("also")
  with pytest.raises(errors.InputError, match=r"self\.png cannot be read"):
    data.load(tmp_path, image_size=4)


@pytest.mark.parametrize("kind", [
    EOFError, IndexError, KeyError, NotImplementedError, OverflowError,
    RuntimeError, TypeError, ZeroDivisionError, struct.error])
@pytest.mark.parametrize("stream", [False, True])
def test_whatever_pillow_raises_of_a_bad_file_is_one_line(
    tmp_path, kind, stream, monkeypatch):
  if stream:
    pytest.importorskip("grain", reason="needs grain, of the extra `data`")
  _divided(tmp_path)

  def raises(*args, **more):
    raise kind("odd")

  monkeypatch.setattr(Image, "open", raises)
  with pytest.raises(errors.InputError, match=r"\.png cannot be read as an im"):
    data.load(tmp_path, image_size=4, stream=stream)


@pytest.mark.parametrize("stream", [False, True])
def test_images_that_no_memory_holds_are_refused_before_any_is_read(
    tmp_path, stream, monkeypatch):
  if stream:
    pytest.importorskip("grain", reason="needs grain, of the extra `data`")
  _divided(tmp_path)
  monkeypatch.setattr(streamed, "machine_bytes", lambda: 3 * 2**20)
  monkeypatch.setattr(Image, "open", None)
  with pytest.raises(errors.InputError, match="this machine has") as e:
    data.load(tmp_path, image_size=2**10, stream=stream)
  assert e.value.field == "image_size"


@pytest.mark.parametrize("how", ["stretch", "crop", "imagenet"])
def test_one_image_is_read_as_those_of_a_set(tmp_path, how):
  pytest.importorskip("grain", reason="needs grain, of the extra `data`")
  for part in ("train", "test"):
    for label in ("a", "b"):
      path = tmp_path / part / label / "1.jpg"
      _save(path, np.kron(_pixels(9, 12, 3), np.ones((8, 8, 1), np.uint8)))
  found = data.load(tmp_path, image_size=8, resize=how).test_images[1]
  np.testing.assert_array_equal(image_folder.read_image(path, 8, how), found)
  pairs = face_pairs.Pairs([path.read_bytes()] * 2, np.array([True]), "")
  images, = pairs.decoded(8, resize=how)
  np.testing.assert_array_equal(images[1], found)


def test_a_class_or_part_whose_link_leads_to_nothing_is_named(tmp_path):
  _divided(tmp_path)
  whole = data.load(tmp_path, image_size=4)
  (tmp_path / "train" / "README.md").symlink_to(tmp_path / "gone.md")
  (tmp_path / "train" / ".cache").symlink_to(tmp_path / "gone")
  assert data.load(tmp_path, image_size=4).class_names == whole.class_names
  for where in ("train/c", "test/c", "test/001.Albatross", "val"):
    link = tmp_path / where
    link.symlink_to(tmp_path / "unmounted")
    with pytest.raises(errors.InputError, match="the link leads to nothing"):
      data.load(tmp_path, image_size=4)
    link.unlink()


@pytest.mark.parametrize("name", [
    "__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found",
    "System Volume Information"])
def test_what_systems_put_beside_the_classes_is_none(tmp_path, name):
  for label in ("a", "b"):
    for i in range(2):
      _save(tmp_path / label / f"{i}.png")
  for folder in (tmp_path, tmp_path / "a"):  # Beside images, too.
    (folder / name / "a").mkdir(parents=True)
    (folder / name / "a" / "0.png").write_bytes(b"Mac OS X")
  assert data.load(tmp_path, image_size=4).class_names == ("a", "b")


def test_a_folder_of_cifars_batches_says_how_it_is_named(tmp_path):
  assert "by data_dir" not in _refusal(tmp_path)
  (tmp_path / "data_batch_1").write_bytes(b"")
  assert "name cifar10, and this folder by data_dir" in _refusal(tmp_path)
