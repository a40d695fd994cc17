"""Tests of natjax.data.record_file, with files as MXNet writes them."""

import functools
import struct

import numpy as np
import pytest

from natjax import data, errors
from natjax.data import record_file, streamed
from tests import faces

IMAGES, LABELS = faces.people(3, 4, 8)


@pytest.mark.parametrize("index", [True, False])
def test_a_set_of_faces(tmp_path, index):
  folder = faces.write_faces(tmp_path / "web", IMAGES, LABELS, "PNG", index)
  raw = record_file.read(record_file.find(folder), 8)
  np.testing.assert_array_equal(raw.train[0], IMAGES)
  assert raw.train[1].tolist() == LABELS.tolist()
  assert raw.class_names == ("0", "1", "2") and raw.test is None


@pytest.mark.parametrize("index", [True, False])
def test_images_may_stay_in_the_file(tmp_path, index):
  pytest.importorskip("grain", reason="needs grain, of the extra `data`")
  magic, image = struct.pack("<I", faces.MAGIC), faces.encoded(IMAGES[0], "PNG")
  odd = image + bytes(-len(image) % 4) + magic + b"xyz"  # A record in parts.
  folder = faces.write_records(tmp_path, [
      faces.headed(2.0, odd), faces.headed([1.0, 7.0], image),
      faces.headed(0.0, faces.encoded(IMAGES[5], "PNG"))], index=index)
  stream = lambda name: record_file.read(
      folder / name, 8, stream=streamed.Streaming(True)).train
  images, labels = stream("train.rec")
  assert isinstance(images, data.Streamed) and labels.tolist() == [2, 1, 0]
  np.testing.assert_array_equal(images, IMAGES[[0, 0, 5]])
  people = faces.write_faces(tmp_path / "web", IMAGES, LABELS, "PNG", index)
  for path in (people, people / "train.rec"):
    held, kept = (data.load(path, image_size=8, test_fraction=0.25, stream=s)
                  for s in (False, True))
    assert kept.streamed and not held.streamed
    for part in ("train", "test"):
      np.testing.assert_array_equal(*(
          getattr(d, f"{part}_images") for d in (held, kept)))
      assert getattr(kept, f"{part}_labels").tolist() == (
          getattr(held, f"{part}_labels").tolist())
  rows = kept.train_images.rows
  assert kept.train_images.records.name(rows[0]).endswith(
      f"record {1 + rows[0]}")


def test_it_is_loaded_by_its_path_and_mirrored(tmp_path):
  folder = faces.write_faces(tmp_path / "web", IMAGES, LABELS)
  with pytest.raises(errors.InputError, match="test_fraction"):
    data.load(folder, image_size=8)
  for path in (folder, folder / "train.rec"):
    found = data.load(path, image_size=6, test_fraction=0.25)
    assert found.train_images.shape == (9, 6, 6, 3)
    assert sorted(found.test_labels.tolist()) == [0, 1, 2]
    assert found.augmentation == data.Augmentation(0, flip=True)
  assert found.name == "train" and found.source.name == str(path)


def test_other_record_files_beside_are_said(tmp_path):
  folder = faces.write_faces(tmp_path / "web", IMAGES, LABELS)
  assert record_file.read(folder / "train.rec", 8).notes == ()
  (folder / "train.rec").rename(folder / "val.rec")
  assert record_file.read(folder / "val.rec", 8).notes == ()
  faces.write_faces(folder, IMAGES, LABELS)
  assert record_file.read(folder / "train.rec", 8).notes == (
      f"images in other files of {folder} (val.rec) are passed over",)


def test_images_of_a_set_that_is_not_of_faces(tmp_path):
  folder = faces.write_records(tmp_path, [faces.headed(
      float(label), faces.encoded(image, "PNG")) for image, label in zip(
          IMAGES, LABELS, strict=True)])
  raw = record_file.read(folder / "train.rec", 8)
  np.testing.assert_array_equal(raw.train[0], IMAGES)
  assert raw.train[1].tolist() == LABELS.tolist() and raw.class_names is None


@pytest.mark.parametrize("index", [True, False])
def test_a_magic_number_in_the_data_is_put_back(tmp_path, index):
  magic, image = struct.pack("<I", faces.MAGIC), faces.encoded(IMAGES[0], "BMP")
  # Behind the image, where a decoder does not look, twice in a row.
  odd = image + bytes(-len(image) % 4) + magic + magic + b"xyz"
  folder = faces.write_records(tmp_path, [
      faces.headed(1.0, odd), faces.headed(0.0, image)], index=index)
  written = (folder / "train.rec").read_bytes()
  assert written.count(magic) == 2 + 2  # As many parts as records, and two.
  with open(folder / "train.rec", "rb") as file:
    assert record_file._data(file, 0, "it") == faces.headed(1.0, odd)
  raw = record_file.read(folder / "train.rec", 8)
  np.testing.assert_array_equal(raw.train[0], IMAGES[[0, 0]])
  assert raw.train[1].tolist() == [1, 0]


def cut(folder):
  path = folder / "train.rec"
  path.write_bytes(path.read_bytes()[:-400])


def shift(folder):
  path = folder / "train.idx"
  path.write_text(path.read_text().replace("\n2\t", "\n2\t1"))


def no_image(folder):
  faces.write_records(folder, [faces.headed(0.0, b"no image")] * 2)


def half(folder):
  faces.write_records(folder, [faces.headed(
      0.5, faces.encoded(IMAGES[0]))] * 2)


def unheaded(folder):
  faces.write_records(folder, [b"short"] * 2)


def flagged(folder):
  faces.write_records(folder, [struct.pack("<IfQQ", 999, 0, 0, 0)] * 2)


def other(folder):
  (folder / "train.idx").unlink()
  (folder / "train.rec").write_bytes(b"not a file of records")


def empty(folder):
  (folder / "train.idx").write_text("")


def partly(folder):
  path = folder / "train.idx"
  path.write_text("".join(path.read_text().splitlines(True)[:7]))


def gaps(folder):
  (folder / "train.idx").write_text("0\t0\n5\t8\n")


def many(folder):
  faces.write_records(folder, [faces.headed([99, 100], b"")] * 2)


def endless(folder):
  faces.write_records(folder, [faces.headed([np.nan, 100], b"")] * 2)


def nameless(folder):
  (folder / "property").write_text("many people")


def crowded(folder):
  (folder / "property").write_text("200000000,8,8")


def lengthy(folder):
  (folder / "property").write_text("9" * 5000)


def continued(folder):
  path = folder / "train.rec"
  data = bytearray(path.read_bytes())
  data[7] |= 0x40  # A part between, which nothing comes before.
  path.write_bytes(data)


@pytest.mark.parametrize("damage,message", [
    (cut, "ends within"), (shift, "record 2 is not where"),
    (no_image, "record 0 cannot be read as an image"),
    (half, "label 0.5"), (unheaded, "no header"), (flagged, "999 labels"),
    (other, "no file of MXNet's records"), (empty, "idx holds no records"),
    (partly, "train.idx has 7 records, and train.rec holds more from byte"),
    (gaps, "does not number"), (many, "records 1 to 98"),
    (endless, "record 0 has the label nan"),
    (nameless, "number of identities"), (lengthy, "number of identities"),
    (crowded, "200000000 identities, and there are 12 images"),
    (continued, "do not follow")])
def test_what_is_damaged_is_refused_in_a_line(tmp_path, damage, message):
  folder = faces.write_faces(tmp_path, IMAGES, LABELS)
  if damage not in (nameless, lengthy, crowded):
    (folder / "property").unlink()
  damage(folder)
  with pytest.raises(errors.InputError, match=message) as refusal:
    record_file.read(folder / "train.rec", 8)
  assert "\n" not in str(refusal.value)
  # Of images that stay there what is between labels is looked at later.
  kept = functools.partial(record_file.read, folder / "train.rec", 8,
                           stream=streamed.Streaming(True))
  if damage in (cut, no_image):
    message = r"train.rec: record \d+ cannot be read as an image"
    kept = lambda kept=kept: np.asarray(kept().train[0])
  with pytest.raises(errors.InputError, match=message):
    kept()


@pytest.mark.parametrize("stream", [False, True])
def test_numbers_of_more_than_64_bits_are_refused(tmp_path, stream):
  if stream:
    pytest.importorskip("grain", reason="needs grain, of the extra `data`")
  read = lambda folder: record_file.read(
      folder / "train.rec", 8, stream=streamed.Streaming(stream))
  image = faces.encoded(IMAGES[0], "PNG")
  labels = faces.write_records(tmp_path / "a", [
      faces.headed(label, image) for label in (0.0, 1e30)])
  with pytest.raises(errors.InputError, match=r"record 1 has the label 1e\+30"):
    read(labels)
  places = faces.write_records(tmp_path / "b", [
      faces.headed(0.0, image) for _ in range(2)], index=True)
  (places / "train.idx").write_text(f"0\t0\n1\t{2**63}\n")
  with pytest.raises(errors.InputError, match="lies where none can"):
    read(places)
