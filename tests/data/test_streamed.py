"""Images that stay on disk: the same pixels however they are read."""

import dataclasses
import errno
import io
import json
import pathlib
from unittest import mock

import numpy as np
from PIL import Image
import pytest

from natjax import data, errors
from natjax.data import crops, records, streamed, tfrecord

pytest.importorskip("grain", reason="needs grain, of the extra `data`")
SIZE, CLASSES = 12, ("ant", "bee", "cow")
PHOTOGRAPHS = crops.Crop((0.08, 1.0), (3 / 4, 4 / 3))


def picture(rng, kind="JPEG"):
  """An encoded photograph of 30 to 60 pixels a side."""
  height, width = rng.integers(30, 60, 2)
  pixels = rng.integers(0, 256, (4, 5, 3), np.uint8)
  file = io.BytesIO()
  Image.fromarray(pixels).resize((width, height)).save(file, kind)
  return file.getvalue()


def make_folder(folder, count=60, seed=0, kind="JPEG"):
  """Class folders, of which a fifth is held out as they are read."""
  rng = np.random.default_rng(seed)
  for i in range(count):
    path = folder / CLASSES[i % 3] / f"{i:04}.{kind.lower()}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(rng, kind))
  return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return make_folder(tmp_path_factory.mktemp("photographs"), 150)


@pytest.fixture(scope="module")
def images(folder):
  paths = sorted(folder.glob("*/*"))
  return streamed.Streamed(records.Files(paths), np.arange(len(paths)), SIZE,
                           "imagenet", PHOTOGRAPHS)


def walk(images, rows, size=32, key=7):
  keys = np.full(len(rows), key, np.uint64)
  return [*images.batches(rows, size, keys)]


def test_a_set_on_disk_is_the_same_as_in_memory(folder):
  held = data.load(folder, image_size=SIZE, stream=False)
  found = data.load(folder, image_size=SIZE, stream=True)
  assert found.streamed and not held.streamed
  assert held.train_images.shape == found.train_images.shape == (120, 12, 12, 3)
  np.testing.assert_array_equal(held.train_images, found.train_images)
  np.testing.assert_array_equal(held.test_images, found.test_images)
  np.testing.assert_array_equal(held.train_images[5], found.train_images[5])
  for name in ("train_labels", "test_labels"):
    np.testing.assert_array_equal(getattr(held, name), getattr(found, name))
  assert (held.mean, held.std) == (found.mean, found.std)
  assert held.augmentation == found.augmentation


def test_rows_of_rows_are_not_read(images):
  some = images[np.arange(0, 150, 2)][10:][np.arange(65) % 2 == 0]
  assert isinstance(some, data.Streamed) and len(some) == 33
  assert some.nbytes == 33 * SIZE * SIZE * 3
  np.testing.assert_array_equal(some[3], images[2 * (10 + 6)])
  assert some.checksum != images.checksum
  np.testing.assert_array_equal(some[np.array(3)], some[3])
  np.testing.assert_array_equal(some[3, ...], some[3])
  assert len(some[...]) == 33 and len(some[2:5, ...]) == 3
  # The last axis of an array, and not the rows of it, is what they choose.
  for key in (None, np.array([[0, 1]]), (slice(None), 0), (..., 0),
              (..., slice(2))):
    with pytest.raises(IndexError):
      some[key]


def test_workers_and_where_a_walk_begins_leave_no_trace(images, monkeypatch):
  monkeypatch.setattr(streamed, "_WORTH", 100)
  rows = np.random.default_rng(0).permutation(150)
  whole = walk(images, rows)
  assert [len(batch.images) for batch in whole] == [32] * 4 + [22]
  workers = walk(dataclasses.replace(
      images, reading=streamed.Reading(workers=2)), rows)
  later = walk(images, rows[64:])
  for one, other in (*zip(whole, workers, strict=True),
                     *zip(whole[2:], later, strict=True)):
    np.testing.assert_array_equal(one.images, other.images)
  # Another key, other crops; without a key, none.
  assert (walk(images, rows[:8], key=8)[0].images != whole[0].images[:8]).any()
  plain = next(iter(images.batches(rows[:8], 8)))
  np.testing.assert_array_equal(plain.images[0], images[rows[0]])


def test_pixels_do_not_pile_up(images, monkeypatch):
  alive, most = [0], [0]

  class Counted(np.ndarray):
    def __array_finalize__(self, parent):
      self.counts = parent is not None and self.ndim == 4 and (
          not isinstance(parent, Counted))
      alive[0] += len(self) if self.counts else 0
      most[0] = max(most)

    def __del__(self):
      alive[0] -= len(self) if self.counts else 0

  read = streamed.Streamed._piece

  def piece(self, *args):
    found = read(self, *args)
    counted = found.images.view(Counted)
    most[0] = max(most[0], alive[0])
    return found._replace(images=counted)

  monkeypatch.setattr(streamed.Streamed, "_piece", piece)
  monkeypatch.setattr(streamed, "_PIECE", 4)
  monkeypatch.setattr(streamed.os, "cpu_count", lambda: 2)
  seen = 0
  for batch in images.batches(np.arange(3000) % 150, 8):
    seen += len(batch.images)
  # Two threads and two pieces ahead, and as many under way, of 4 images each.
  assert seen == 3000 and most[0] <= 4 * (2 * 4 + 4)


def torchvision_box(rng, width, height):
  """`RandomResizedCrop.get_params`, by another generator."""
  for _ in range(10):
    area = width * height * rng.uniform(0.08, 1)
    ratio = np.exp(rng.uniform(*np.log((3 / 4, 4 / 3))))
    w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
    if 0 < w <= width and 0 < h <= height:
      left, upper = rng.integers(width - w + 1), rng.integers(height - h + 1)
      return left, upper, left + w, upper + h
  wide = round(height * 4 / 3)  # Of an image that is wider than that.
  left = (width - wide) // 2
  return left, 0, left + wide, height


def test_a_random_crop_is_as_torchvision_draws_it():
  rng, count = np.random.default_rng(0), 3000
  own, other = (np.array(found) for found in zip(*(
      (crops.draw(3, n, 200, 100, PHOTOGRAPHS), torchvision_box(rng, 200, 100))
      for n in range(count)), strict=True))
  assert own.min() >= 0 and (own.max(0) <= [200, 100, 200, 100]).all()
  assert own[7].tolist() == [*crops.draw(3, 7, 200, 100, PHOTOGRAPHS)]
  for of in (lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]),
             lambda b: (b[:, 2] - b[:, 0]) / (b[:, 3] - b[:, 1]),
             lambda b: b[:, 0], lambda b: b[:, 1]):
    one, two = (np.sort(of(found).astype(float)) for found in (own, other))
    # Kolmogorov and Smirnov's distance; of 3000 draws each, one in 10,000 runs
    # is above 0.057, and the seeds are fixed.
    places = np.concatenate([one, two])
    assert np.abs(np.searchsorted(one, places, "right") - np.searchsorted(
        two, places, "right")).max() / count < 0.057
  # What never fits: the largest box in the middle, of the next ratio.
  whole = crops.Crop((1.0, 1.0), (0.5, 0.5))
  assert crops.draw(3, 0, 200, 100, whole) == (75, 0, 125, 100)


def test_a_test_image_is_the_middle_of_one_that_was_resized():
  rows, columns = np.mgrid[:300, :400]
  ramp = np.stack([rows * 0.8, columns * 0.6, rows * 0], -1).astype(np.uint8)
  found = crops.resize_image(Image.fromarray(ramp), 28, "imagenet")
  # torchvision: the shorter side to 32, then 28 of the middle.
  across, down = round(400 * 32 / 300), 32
  small = Image.fromarray(ramp).resize(
      (across, down), Image.Resampling.BILINEAR)
  corner = round((across - 28) / 2), round((down - 28) / 2)
  small = small.crop((*corner, corner[0] + 28, corner[1] + 28))
  assert np.abs(np.asarray(found, int) - np.asarray(small, int)).max() <= 4


def test_a_jpeg_is_decoded_at_no_more_pixels_than_a_view_takes():
  rows, columns = np.mgrid[:512, :512]
  smooth = np.stack([127 + 100 * np.sin(rows / 90), columns / 2, rows / 3],
                    -1).astype(np.uint8)
  file = io.BytesIO()
  Image.fromarray(smooth).save(file, "JPEG", quality=95)
  box = (64, 128, 448, 512)
  with Image.open(file) as image:
    found = crops.view(image, 32, "imagenet", lambda w, h: box)
    assert image.size == (64, 64)  # An eighth, of which the box is 48 x 48.
  plain = Image.fromarray(smooth).resize(
      (32, 32), Image.Resampling.BILINEAR, box)
  assert np.abs(found.astype(int) - np.asarray(plain, int)).max() <= 6


def test_damaged_images_are_named_or_left_out_and_counted(tmp_path):
  make_folder(tmp_path)
  load = lambda **more: data.load(
      tmp_path, image_size=SIZE, stream=True, resize="imagenet", **more)
  first = load().train_images
  bad = pathlib.Path(first.records.name(first.rows[21]))
  bad.write_bytes(bad.read_bytes()[:80])
  images = load(skip_damaged=True).train_images
  assert images.skipped == {21}  # As mean and deviation were measured.
  # Also where so few images would be held in memory.
  assert data.load(tmp_path, image_size=SIZE,
                   skip_damaged=True).train_images.skipped == {21}
  good = np.concatenate([b.good for b in images.batches(np.arange(48), 16)])
  assert np.flatnonzero(~good).tolist() == [21]
  for read in (lambda: np.asarray(images), lambda: images[21]):
    with pytest.raises(errors.InputError, match=(
        f"{bad.name} cannot be read as an image; .* or look at rows without")):
      read()
  assert len(np.asarray(images[:21])) == 21
  with pytest.raises(errors.InputError, match=f"{bad.name}.*or skip damaged"):
    load()
  bad.unlink()
  with pytest.raises(errors.InputError, match="No such file or directory; put"):
    _ = first[21]


@pytest.mark.parametrize(("settings", "message"), [
    ({"stream": False, "resize": "imagenet"}, "resize is imagenet, which"),
    ({"stream": False, "workers": 2}, "workers is 2, and the images of"),
    ({"stream": False, "skip_damaged": True}, "skip_damaged is True, and"),
    ({"workers": -1}, "workers is -1 and must lie in"),
    ({"stream": True, "skip_damaged": "no"}, "must be True or False"),
    ({"stream": "yes"}, "stream is .yes. and must be"),
])
def test_what_does_not_fit_together_is_refused(folder, settings, message):
  with pytest.raises(errors.InputError, match=message):
    data.load(folder, image_size=SIZE, **settings)


def test_a_part_of_every_class_is_trained_on(folder):
  found = data.load(folder, image_size=SIZE, stream=True, train_fraction=0.25)
  whole = data.load(folder, image_size=SIZE, stream=False)
  assert np.bincount(found.train_labels).tolist() == [10] * 3
  assert len(found.test_labels) == 30
  all_of_them = {image.tobytes() for image in whole.train_images}
  assert {image.tobytes() for image in np.asarray(found.train_images)} < (
      all_of_them)
  with pytest.raises(errors.InputError, match="above 0 and at most 1; give"):
    data.load(folder, image_size=SIZE, train_fraction=1.5)


def test_arrays_are_not_streamed(tmp_path):
  for settings in ({"stream": True}, {"resize": "imagenet"}):
    with pytest.raises(errors.InputError, match=r"memory|arrays"):
      data.load("digits", image_size=8, **settings)
  assert not data.load("digits", image_size=8).streamed


def test_what_would_take_half_of_the_memory_stays_on_disk(folder, monkeypatch):
  monkeypatch.setattr(streamed, "machine_bytes", lambda: 150 * 432 * 2)
  assert not data.load(folder, image_size=SIZE).streamed
  monkeypatch.setattr(streamed, "machine_bytes", lambda: 150 * 432 * 2 - 1)
  assert data.load(folder, image_size=SIZE).streamed


def test_no_more_than_a_gibibyte_is_read_at_once(images):
  many = images[np.zeros(2**30 // (3 * SIZE**2) + 1, int)]
  with pytest.raises(errors.InputError, match="take fewer, or walk over them"):
    np.asarray(many)


# What tensorflow-datasets prepares.


def varint(number):
  found = b""
  while number > 127:
    found += bytes([number & 127 | 128])
    number >>= 7
  return found + bytes([number])


def field(number, content):
  return varint(number << 3 | 2) + varint(len(content)) + content


def example(image, label, keys=("image", "label")):
  """A `tf.train.Example` with an image, its label and its name."""
  features = {keys[0]: field(1, field(1, image)),
              keys[1]: field(3, field(1, varint(label % 2**64))),
              "file_name": field(1, field(1, b"x.jpg"))}
  return field(1, b"".join(
      field(1, field(1, name.encode()) + field(2, value))
      for name, value in features.items()))


def prepare(data_dir, form, parts, shards=2):
  """Writes a set as tensorflow-datasets does; returns its folder.

  Args:
    data_dir: the folder of all sets.
    form: "tfrecord" or "array_record".
    parts: of every split, encoded images and labels.
    shards: files of a split.
  """
  folder = data_dir / "made" / "1.0.0"
  folder.mkdir(parents=True)
  splits = []
  for name, rows in parts.items():
    cuts = np.array_split(np.arange(len(rows)), shards)
    for i, cut in enumerate(cuts):
      path = folder / f"made-{name}.{form}-{i:05}-of-{shards:05}"
      whole = [example(*rows[k]) for k in cut]
      if form == "tfrecord":
        path.write_bytes(b"".join(map(tfrecord.frame, whole)))
      else:
        module = pytest.importorskip(
            "array_record.python.array_record_module")
        writer = module.ArrayRecordWriter(str(path), "group_size:1")
        for record in whole:
          writer.write(record)
        writer.close()
    splits.append({"name": name, "shardLengths": [str(len(c)) for c in cuts]})
  (folder / "dataset_info.json").write_text(json.dumps(
      {"name": "made", "fileFormat": form, "splits": splits}))
  (folder / "features.json").write_text(json.dumps({"featuresDict": {
      "features": {
          "image": {"image": {"dtype": "uint8", "shape": {
              "dimensions": ["-1", "-1", "3"]}}},
          "label": {"classLabel": {"numClasses": "3"}}}}}))
  (folder / "label.labels.txt").write_text("\n".join(CLASSES) + "\n")
  return folder


def parts(train=20, test=7):
  rng = np.random.default_rng(1)
  make = lambda count: [(picture(rng), i % 3) for i in range(count)]
  return {"train": make(train), "test": make(test)}


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_prepared_sets_are_read_without_tensorflow(tmp_path, form):
  rows = parts()
  prepare(tmp_path, form, rows)
  found = data.load("made", data_dir=tmp_path, image_size=SIZE, stream=True)
  assert found.class_names == CLASSES
  assert found.train_labels.tolist() == [label for _, label in rows["train"]]
  for images, split in ((found.train_images, "train"),
                        (found.test_images, "test")):
    expected = [np.asarray(crops.resize_image(
        Image.open(io.BytesIO(image)), SIZE)) for image, _ in rows[split]]
    np.testing.assert_array_equal(images, expected)
  assert "of" in found.train_images.records.name(13)


@pytest.mark.parametrize("form", ["tfrecord", "array_record", None])
def test_prepared_sets_are_read_into_memory_too(tmp_path, form):
  rows = parts()
  path = prepare(tmp_path, form or "tfrecord", rows) / "dataset_info.json"
  if form is None:  # As before there were other formats.
    info = json.loads(path.read_text())
    del info["fileFormat"]
    path.write_text(json.dumps(info))
  held = data.load("made", data_dir=tmp_path, image_size=SIZE, stream=False)
  kept = data.load("made", data_dir=tmp_path, image_size=SIZE, stream=True)
  assert isinstance(held.train_images, np.ndarray)
  np.testing.assert_array_equal(held.train_images, kept.train_images)


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_prepared_test_split_without_labels_is_passed_over(
    tmp_path, monkeypatch, form, stream):
  rows = parts()
  rows["validation"] = rows["test"]
  rows["test"] = [(image, -1) for image, _ in rows["train"]]
  prepare(tmp_path, form, rows)
  load = lambda: data.load(
      "made", data_dir=tmp_path, image_size=SIZE, stream=stream)
  if stream:  # Of such a split the first records alone are read.
    opened = []
    kind = {"tfrecord": records.TFRecords,
            "array_record": records.ArrayRecords}[form]
    whole = kind.__init__
    monkeypatch.setattr(kind, "__init__", lambda self, paths, keys: (
        opened.append(paths[0].name), whole(self, paths, keys))[1])
  found = load()
  assert found.test_labels.tolist() == [k for _, k in rows["validation"]]
  (note,) = found.notes
  assert "split test of" in note and "is passed over" in note
  if stream:
    assert [name.split(".")[0] for name in opened] == [
        "made-train", "made-validation"]


def test_a_record_that_is_damaged_is_named(tmp_path):
  rows = parts()
  rows["train"][13] = (b"no image", 1)
  folder = prepare(tmp_path, "tfrecord", rows)
  found = data.load("made", data_dir=tmp_path, image_size=SIZE, stream=True,
                    skip_damaged=True)
  with pytest.raises(
      errors.InputError,
      match=r"record 3 of .*made-train.tfrecord-00001-of-00002 cannot be"):
    np.asarray(found.train_images)
  shard = folder / "made-test.tfrecord-00000-of-00002"
  whole = shard.read_bytes()
  for content, message in (
      (whole[:-9], "ends within a record"), (b"x" * 40, "no file of such rec"),
      (tfrecord.frame(b"\x0a\x02ab"), "record 0 is no example"),
      (b"", "has 3 examples of the split test and must have 7")):
    shard.write_bytes(content)
    with pytest.raises(errors.InputError, match=message):
      data.load("made", data_dir=tmp_path, image_size=SIZE, stream=True)
  shard.unlink()
  with pytest.raises(errors.InputError, match="has 1 of 2 files of tfrecord"):
    data.load("made", data_dir=tmp_path, image_size=SIZE, stream=True)


@pytest.mark.parametrize("stream", [True, False])
def test_a_label_that_is_damaged_is_found_by_its_sum(tmp_path, stream):
  rows = parts()
  noise = np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)
  file = io.BytesIO()
  Image.fromarray(noise).save(file, "PNG")  # A long record beside it.
  rows["train"][12] = (file.getvalue(), 0)
  folder = prepare(tmp_path, "tfrecord", rows)
  shard = folder / "made-train.tfrecord-00001-of-00002"
  with shard.open("rb") as file:
    spans = [*tfrecord.spans(file)]
  whole, (at, length) = bytearray(shard.read_bytes()), spans[3]
  record = bytes(whole[at:at + length])
  for i in range(length):  # One bit of the label.
    other = bytes([*record[:i], record[i] ^ 1, *record[i + 1:]])
    try:
      if records._image_and_label(other) == (
          records._image_and_label(record)[0],
          records._image_and_label(record)[1] ^ 1):
        break
    except (LookupError, ValueError):
      continue
  whole[at + i] ^= 1
  shard.write_bytes(whole)
  load = lambda **more: data.load(
      "made", data_dir=tmp_path, image_size=SIZE, **more)
  with pytest.raises(errors.InputError, match=r"record 3 of .*made-train.tfrec"
                     r"ord-00001-of-00002 cannot be read as an image"):
    np.asarray(load(stream=stream).train_images)
  found = load(stream=True, skip_damaged=True).train_images
  good = [found.records.encoded(i) for i in range(len(found))]
  assert [i for i, image in enumerate(good) if not image] == [13]


def test_the_index_of_a_large_set_is_kept_or_has_no_place(
    tmp_path, monkeypatch):
  monkeypatch.setattr(records, "_KEPT", 4)
  monkeypatch.setenv("NATJAX_CACHE", str(tmp_path / "cache"))
  prepare(tmp_path, "tfrecord", parts())
  load = lambda: data.load(
      "made", data_dir=tmp_path, image_size=SIZE, stream=True)
  before = load()
  kept = [*(tmp_path / "cache" / "indices").iterdir()]
  assert len(kept) == 2
  made = []
  for how in ("a", "b", "a"):  # By other keys it finds other things.
    records.index([str(kept[0])], lambda how=how: [made.append(
        how) or 5, *range(8)], how)
  assert made == ["a", "b"]
  monkeypatch.setattr(records, "_spans", None)  # It is not called again.
  np.testing.assert_array_equal(before.train_images, load().train_images)
  monkeypatch.undo()
  monkeypatch.setattr(records, "_KEPT", 4)
  monkeypatch.setenv("NATJAX_CACHE", str(tmp_path / "full"))

  # Of a file that does not grow NumPy gives no number.
  for given, kind in (
      ((errno.ENOSPC, "No space left on device"), OSError),
      (("9 requested and 8 written",), OSError),
      ((errno.EROFS, "Read-only file system"), errors.InputError)):
    monkeypatch.setattr(records.np, "save", mock.Mock(
        side_effect=OSError(*given)))
    with pytest.raises(kind, match="no place for the index of 2 files") as e:
      load()
    if kind is OSError:
      assert errors.disk_full(e.value)
      assert e.value.filename == str(tmp_path / "full" / "indices")
    assert [*(tmp_path / "full" / "indices").iterdir()] == []


def test_numbers_of_examples_are_read_in_both_forms():
  for numbers, content in (
      ([5], field(1, varint(5))), ([300, 1], field(1, varint(300) + b"\x01")),
      ([7], b"\x08\x07"), ([-1], field(1, varint(2**64 - 1)))):
    entry = field(1, b"n") + field(2, field(3, content))
    assert tfrecord.example(field(1, field(1, entry))) == {"n": numbers}


@pytest.mark.parametrize("change, names", [
    (lambda path: path.unlink(), ("0", "1", "2")),
    (lambda path: path.write_bytes(
        b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n")), CLASSES),
    (lambda path: path.write_text("\n".join(CLASSES)), CLASSES),
    (lambda path: path.write_text("ant\nbee\n"), "2 names of 3 classes"),
    (lambda path: path.write_text("a\nb\nc\nd\n"), "4 names of 3 classes")])
def test_a_name_per_class_of_a_prepared_set(tmp_path, change, names):
  folder = prepare(tmp_path, "tfrecord", parts())
  change(folder / "label.labels.txt")
  load = lambda: data.load(
      "made", data_dir=tmp_path, image_size=SIZE, stream=True)
  if isinstance(names, tuple):
    assert load().class_names == names
    return
  with pytest.raises(errors.InputError, match=names):
    load()


def test_the_folder_of_a_prepared_set_is_no_folder_of_images(tmp_path):
  folder = prepare(tmp_path, "tfrecord", parts())
  for given in (folder, folder.parent):
    with pytest.raises(errors.InputError, match=(
        f"give its name, made, and {tmp_path} as data_dir")):
      data.load(given)
  (tmp_path / "made" / "small").mkdir()
  folder = folder.rename(tmp_path / "made" / "small" / "1.0.0")
  for given in (folder, folder.parent):
    with pytest.raises(errors.InputError, match=(
        f"give its name, made/small, and {tmp_path} as data_dir")):
      data.load(given)
