"""Tests of natjax.data.tfds_folder.

Most write sets as tensorflow-datasets does, in the format tfrecord; the last
read one that the real one prepared.
"""

import io
import json
import os
import sys

import numpy as np
from PIL import Image
import pytest

from natjax import data, errors
from natjax.data import records, streamed, tfds_folder, tfrecord
from tests.data import test_streamed

_REASON = "needs tensorflow-datasets and array_record"


def _encode(image, format="PNG"):
  file = io.BytesIO()
  Image.fromarray(image).save(file, format)
  return file.getvalue()


def _pixels(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _examples(*images, labels=None):
  labels = [0, 1] * len(images) if labels is None else labels
  return [
    (_encode(image), label)
    for image, label in zip(images, labels, strict=False)
  ]


_IMAGE = {"image": {"shape": {"dimensions": ["4", "4", "3"]}}}


def _described(folder, info=None, features=None):
  """Writes what lies beside a set's files."""
  folder.mkdir(exist_ok=True)
  info = {"fileFormat": "tfrecord", "splits": [
    {"name": "train", "shardLengths": ["2"]}]} | (info or {})
  features = {"image": _IMAGE, "label": {
    "classLabel": {"numClasses": "2"}}} | (features or {})
  (folder / "dataset_info.json").write_text(json.dumps(info))
  (folder / "features.json").write_text(
    json.dumps({"featuresDict": {"features": features}}))
  (folder / "label.labels.txt").write_text("cat\ndog")
  return folder


def _write(folder, splits, features=None, info=None, **keys):
  """Writes a set with a file per split."""
  _described(folder, {"splits": [
    {"name": name, "shardLengths": [str(len(rows))]}
    for name, rows in splits.items()]} | (info or {}), features)
  for name, rows in splits.items():
    (folder / f"a-{name}.tfrecord-00000-of-00001").write_bytes(b"".join(
      tfrecord.frame(test_streamed.example(*row, **keys)) for row in rows))


def _prepare_folder(data_dir, *names):
  for name in names:
    (data_dir / name).mkdir(parents=True)
    (data_dir / name / "dataset_info.json").write_text("{}")


def _refusal(folder, image_size=4):
  with pytest.raises(errors.InputError) as refusal:
    tfds_folder.read(folder, image_size)
  assert "\n" not in str(refusal.value)
  return str(refusal.value)


def test_find_takes_the_latest_version_or_the_one_named(tmp_path):
  _prepare_folder(tmp_path, "some/3.2.0", "some/3.10.0", "some/1.0.0")
  (tmp_path / "some" / "9.0.0").mkdir()  # Begun, and not finished.
  assert tfds_folder.find("some", tmp_path) == tmp_path / "some" / "3.10.0"
  named = tfds_folder.find("some:1.0.0", tmp_path)
  assert named == tmp_path / "some" / "1.0.0"
  assert tfds_folder.find("some:2.0.0", tmp_path) is None
  assert tfds_folder.find("other", tmp_path) is None
  assert tfds_folder.find("some", tmp_path / "none") is None


def test_what_was_stopped_in_preparing_is_no_version(tmp_path):
  stopped = "some/11.0.0.incompleteA1B2C3", "some/incomplete.A1B2C3_12.0.0"
  _prepare_folder(tmp_path, *stopped)
  assert tfds_folder.find("some", tmp_path) is None
  assert tfds_folder.names_of(tmp_path / "some") is None
  _prepare_folder(tmp_path, "some/1.0.0", "other/small/2.0.0.incompleteA1B2C3")
  assert tfds_folder.find("some", tmp_path) == tmp_path / "some" / "1.0.0"
  assert tfds_folder.names_of(tmp_path / "some") == ("some", tmp_path)
  assert tfds_folder.find("other", tmp_path) is None


@pytest.mark.parametrize("place, own", [
  ("some", "some"), ("some/1.0.0", "some"), ("more/a", "more/a")])
def test_the_folder_of_a_set_is_no_data_dir(tmp_path, place, own):
  _prepare_folder(tmp_path, "some/1.0.0", "more/a/1.0.0")
  (tmp_path / "more/a/1.0.0/dataset_info.json").write_text('{"name": "more"}')
  with pytest.raises(errors.InputError) as refusal:
    data.load("flowers", data_dir=tmp_path / place)
  assert str(refusal.value).endswith(
    f"; give its name, {own}, and {tmp_path} as data_dir")
  assert refusal.value.field == "data_dir"


def test_the_folder_of_a_sets_configurations_is_none(tmp_path):
  _prepare_folder(tmp_path, "more/a/1.0.0", "more/b/1.0.0")
  for config in "ab":
    (tmp_path / f"more/{config}/1.0.0/dataset_info.json").write_text(
      '{"name": "more"}')
  with pytest.raises(errors.InputError, match="give its name, more, and"):
    data.load(str(tmp_path / "more"))
  assert tfds_folder.names_of(tmp_path) is None  # Of all sets.


@pytest.mark.parametrize("place", ["mnist", "mnist/3.0.1"])
def test_the_folder_of_a_known_set_is_no_data_dir(tmp_path, place):
  _prepare_folder(tmp_path, "mnist/3.0.1")
  with pytest.raises(errors.InputError, match="; give its name, mnist, and"):
    data.load("mnist", data_dir=tmp_path / place)
  with pytest.raises(errors.NotThere, match="cifar10 not found in"):
    data.load("cifar10", data_dir=tmp_path / place)


def test_find_takes_a_configuration_and_lists_those_there_are(tmp_path):
  _prepare_folder(tmp_path, "some/small/1.0.0", "some/large/1.0.0")
  found = tfds_folder.find("some/small", tmp_path)
  assert found == tmp_path / "some" / "small" / "1.0.0"
  assert tfds_folder.find("some/tiny", tmp_path) is None
  with pytest.raises(errors.InputError, match="of some/large, some/small"):
    tfds_folder.find("some", tmp_path)


def test_default_data_dir_is_that_of_tensorflow_datasets(monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", "/prepared/here")
  assert str(tfds_folder.default_data_dir()) == "/prepared/here"
  monkeypatch.delenv("TFDS_DATA_DIR")
  monkeypatch.setenv("HOME", "/home/someone")
  expected = "/home/someone/tensorflow_datasets"
  assert str(tfds_folder.default_data_dir()) == expected


def test_read_decodes_in_order(tmp_path):
  images = _pixels(5, 4, 4, 3)
  labels = [1, 0, 1, 1, 0]
  _write(tmp_path, {
    "train": _examples(*images, labels=labels), "test": _examples(images[0])})
  raw = tfds_folder.read(tmp_path, 4)
  np.testing.assert_array_equal(raw.train[0], images)
  assert raw.train[1].tolist() == labels
  np.testing.assert_array_equal(raw.test[0], images[:1])
  assert raw.class_names == ("cat", "dog")


def test_read_resizes_images_of_unequal_sizes_each(tmp_path):
  images = [_pixels(6, 9, 3), _pixels(4, 4, 3), _pixels(20, 3, 3)]
  _write(tmp_path, {"train": _examples(*images), "test": _examples(images[0])})
  raw = tfds_folder.read(tmp_path, 4)
  assert raw.train[0].shape == (3, 4, 4, 3)
  for image, found in zip(images, raw.train[0], strict=True):
    expected = data.dataset.resize_all(image[None], 4)[0]
    np.testing.assert_array_equal(found, expected)


def test_grey_images_have_three_equal_channels(tmp_path):
  images = _pixels(2, 4, 4)
  _write(tmp_path, {"train": _examples(*images), "test": _examples(*images)}, {
    "image": {"image": {"shape": {"dimensions": ["4", "4", "1"]}}}})
  (tmp_path / "label.labels.txt").unlink()
  raw = tfds_folder.read(tmp_path, 4)
  np.testing.assert_array_equal(raw.train[0], np.stack([images] * 3, -1))
  assert raw.class_names == ("0", "1")


def test_read_takes_validation_where_there_is_no_test(tmp_path):
  images = _pixels(3, 4, 4, 3)
  splits = {
    "train": _examples(images[0]),
    "validation": _examples(images[1]),
  }
  _write(tmp_path, splits)
  raw = tfds_folder.read(tmp_path, 4)
  np.testing.assert_array_equal(raw.test[0], images[1:2])
  _write(tmp_path, {**splits, "test": _examples(images[2])})
  raw = tfds_folder.read(tmp_path, 4)
  np.testing.assert_array_equal(raw.test[0], images[2:])


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_other_names_of_the_test_split(tmp_path, name):
  images = _pixels(2, 4, 4, 3)
  _write(tmp_path, {"train": _examples(images[0]), name: _examples(images[1])})
  raw = tfds_folder.read(tmp_path, 4)
  np.testing.assert_array_equal(raw.test[0], images[1:])


def test_a_test_split_without_labels_is_passed_over(tmp_path):
  images = _pixels(8, 4, 4, 3)
  splits = {
    "train": _examples(*images[:2]),
    "validation": _examples(*images[2:4]),
    "test": _examples(*images[4:], labels=[-1] * 4),
  }
  _write(tmp_path, splits)
  raw = tfds_folder.read(tmp_path, 4)
  np.testing.assert_array_equal(raw.test[0], images[2:4])
  assert raw.test[1].tolist() == [0, 1]
  (note,) = raw.notes
  assert note.startswith("the images of the split test of ")
  assert note.endswith("have no labels (all are -1), and it is passed over")
  # One that has a label is taken, and another of -1 refused later.
  _write(tmp_path, {
    **splits, "test": _examples(*images[4:], labels=[-1, -1, -1, 1])})
  raw = tfds_folder.read(tmp_path, 4)
  assert (raw.test[1].tolist(), raw.notes) == ([-1, -1, -1, 1], (
    f"of {tmp_path}, images of other splits (validation) are passed over",))


def test_without_labels_in_any_test_split_some_are_held_out(tmp_path):
  images = _pixels(12, 4, 4, 3)
  _prepare_folder(tmp_path, "mine/1.0.0")
  _write(tmp_path / "mine" / "1.0.0", {
    "train": _examples(*images[:10]),
    "test": _examples(*images[10:], labels=[-1, -1])})
  with pytest.raises(errors.InputError, match=r"split test .* no labels") as e:
    data.load("mine", data_dir=tmp_path, image_size=4)
  assert e.value.field == "test_fraction"
  found = data.load("mine", data_dir=tmp_path, image_size=4, test_fraction=0.4)
  assert (len(found.train_labels), len(found.test_labels)) == (6, 4)
  assert "have no labels" in found.notes[0]


@pytest.mark.parametrize("splits", [("train",), ("full",), ("train", "extra")])
def test_a_set_without_test_images(tmp_path, splits):
  images = _pixels(10, 4, 4, 3)
  _prepare_folder(tmp_path, "mine/1.0.0")
  folder = tmp_path / "mine" / "1.0.0"
  _write(folder, dict.fromkeys(splits, _examples(*images)))
  raw = tfds_folder.read(folder, 4)
  assert raw.test is None
  assert raw.notes == (
    f"of {folder}, images of other splits (extra) are passed over",
  ) * ("extra" in splits)
  with pytest.raises(errors.InputError, match="give a test_fraction") as e:
    data.load("mine", data_dir=tmp_path, image_size=4)
  assert e.value.field == "test_fraction"
  found = data.load("mine", data_dir=tmp_path, image_size=4, test_fraction=0.4)
  assert (len(found.train_labels), len(found.test_labels)) == (6, 4)
  assert found.source.test_fraction == 0.4


@pytest.mark.parametrize("splits", [("test", "extra"), ("a", "b")])
def test_read_refuses_splits(tmp_path, splits):
  _write(tmp_path, dict.fromkeys(splits, _examples(_pixels(4, 4, 3))))
  assert f"has the splits {', '.join(splits)}; it needs" in _refusal(tmp_path)


@pytest.mark.parametrize("features", [
  {"image": {"image": {"shape": {"dimensions": ["4", "4", "4"]}}}},
  {"image": {"image": {"dtype": "uint16", **_IMAGE["image"]}}},
  {"label": {"text": {}}}, {"image": {"text": {}}}])
def test_read_refuses_features(tmp_path, features):
  part = _examples(_pixels(4, 4, 3))
  _write(tmp_path, {"train": part, "test": part}, features)
  assert "no set of 8-bit grey or RGB images with one" in _refusal(tmp_path)


@pytest.mark.parametrize("text, said", [
    ('{"splits": [], "name": "a", "splits": []}', "['splits', 'name'] has a"),
    ("[" * 10**5, "dataset_info.json is nested too deeply to be read"),
    ("{", "dataset_info.json cannot be read")])
def test_read_refuses_damaged_descriptions(tmp_path, text, said):
  (tmp_path / "dataset_info.json").write_text(text)
  assert said in _refusal(tmp_path)


def test_read_refuses_an_image_that_cannot_be_decoded(tmp_path):
  part = [(b"no image", 0)]
  _write(tmp_path, {"train": part, "test": part})
  assert "record 0 of" in (said := _refusal(tmp_path))
  assert "cannot be read as an image" in said


def test_what_reading_takes_is_said(monkeypatch, tmp_path):
  (_described(tmp_path, {"fileFormat": "array_record"})
   / "a-train.array_record-00000-of-00001").touch()
  monkeypatch.setitem(sys.modules, "array_record.python", None)
  assert 'pip install "natjax[data]"' in _refusal(tmp_path)


@pytest.mark.parametrize("name", [
  "dataset_info.json", "features.json", "label.labels.txt",
  "a-train.tfrecord-00000-of-00001"])
def test_pipes_are_refused(tmp_path, name):
  folder = _described(tmp_path / "set")
  (folder / name).unlink(missing_ok=True)
  os.mkfifo(folder / name)
  assert f"{name} is a pipe or a device" in _refusal(folder)


_NESTED = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("info", [
  {"splits": [1]}, {"splits": [{}]}, {"splits": [[]]}, {"splits": None},
  *({"splits": [{"name": "train", "shardLengths": lengths}]} for lengths in (
    ["x"], 5, None, [[]], [-1], [1e400], [10**30])),
  {"splits": [{"name": ["train"], "shardLengths": ["2"]}]},
  {"splits": [{"name": 3, "shardLengths": ["2"]}]},
  {"splits": [{"name": "train", "shardLengths": ["2"]},
              {"name": "train", "shardLengths": ["1"]}]}])
@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
def test_splits_of_other_forms_are_refused(tmp_path, info, kind):
  folder = _described(tmp_path / "set", {"fileFormat": kind, **info})
  assert "does not say which splits" in _refusal(folder)


def test_features_that_are_not_there_are_named(tmp_path):
  folder = _described(tmp_path / "set")
  (folder / "features.json").unlink()
  assert _refusal(folder).startswith(f"{folder / 'features.json'} is not there")


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_json_that_is_nested_deeply_is_refused(tmp_path, name):
  folder = _described(tmp_path / "set")
  (folder / name).write_text(_NESTED)
  assert f"{name} is nested too deeply" in _refusal(folder)


@pytest.mark.parametrize("features", [
  {"label": {"classLabel": {}}}, {"label": {"classLabel": 5}}, {"image": 3},
  {"label": {"classLabel": {"numClasses": "x"}}},
  {"label": {"tensor": {"dtype": "float32", "shape": {}}}},
  {"label": {"tensor": {"dtype": "int64", "shape": {"dimensions": ["2"]}}}},
  {"label": {"tensor": 3}}, {"label": {"tensor": {}}},
  {"label": {"tensor": {"dtype": 3}}}])
def test_features_of_other_forms_are_refused(tmp_path, features):
  folder = _described(tmp_path / "set", features=features)
  assert "no set of 8-bit grey or RGB images" in _refusal(folder)


@pytest.mark.parametrize("stream", [streamed.NEVER, streamed.Streaming(True)])
@pytest.mark.parametrize("kind", [None, 3, ["tfrecord"], "csv"])
def test_other_formats_are_refused(tmp_path, kind, stream):
  folder = _described(tmp_path / "set", {"fileFormat": kind})
  with pytest.raises(errors.InputError, match="is in the format") as refusal:
    tfds_folder.read(folder, 4, stream=stream)
  assert "\n" not in str(refusal.value)


@pytest.fixture
def prepared(tmp_path):
  """A folder in which the real tensorflow-datasets prepared a set."""
  tfds = pytest.importorskip("tensorflow_datasets", reason=_REASON)
  pytest.importorskip("array_record", reason=_REASON)
  from tensorflow_datasets.core import registered

  images = _pixels(12, 5, 7, 3)

  def generate(rows):
    for row in rows:
      yield row, {"image": io.BytesIO(_encode(images[row])), "label": row % 3}

  features = tfds.features.FeaturesDict(
    {
      "image": tfds.features.Image(shape=(None, None, 3)),
      "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
    }
  )
  with registered.skip_registration():
    builder_class = type(
      "natjax_tiny",
      (tfds.core.GeneratorBasedBuilder,),
      {
        "name": "natjax_tiny",
        "VERSION": tfds.core.Version("1.0.0"),
        "_info": lambda self: tfds.core.DatasetInfo(
          builder=self, features=features
        ),
        "_split_generators": lambda self, _: {
          "train": generate(range(8)),
          "test": generate(range(8, 12)),
        },
        "_generate_examples": lambda self: None,
      },
    )
  builder_class.name = "natjax_tiny"
  builder = builder_class(data_dir=tmp_path, file_format="array_record")
  builder.download_and_prepare()
  return tmp_path, images


def test_load_reads_what_tfds_prepared_without_tensorflow(prepared):
  data_dir, images = prepared
  before = "tensorflow" in sys.modules
  loaded = data.load("natjax_tiny", data_dir=data_dir, image_size=5)
  assert ("tensorflow" in sys.modules) == before
  assert loaded.class_names == ("a", "b", "c")
  assert len(loaded.train_labels) == 8
  assert len(loaded.test_labels) == 4
  # TFDS shuffles as it prepares: look every image up by its pixels.
  resized = data.dataset.resize_all(images, 5)
  rows = {image.tobytes(): row for row, image in enumerate(resized)}
  found = [rows[image.tobytes()] for image in loaded.train_images]
  assert sorted(found) == list(range(8))
  assert loaded.train_labels.tolist() == [row % 3 for row in found]
  found = [rows[image.tobytes()] for image in loaded.test_images]
  assert sorted(found) == [8, 9, 10, 11]
  assert loaded.test_labels.tolist() == [row % 3 for row in found]


def test_load_refuses_a_set_of_tfds_that_was_damaged(prepared):
  data_dir, _ = prepared
  for shard in data_dir.glob("natjax_tiny/1.0.0/*-test.array_record*"):
    shard.write_bytes(shard.read_bytes()[:100])
  with pytest.raises(errors.InputError, match="copy or prepare"):
    data.load("natjax_tiny", data_dir=data_dir)


def _integers(data):
  """A `tf.train.Example` of whole numbers that are written as given."""
  wrap = lambda key, part: bytes([key << 3 | 2, len(part)]) + part
  return wrap(1, wrap(1, wrap(1, b"label") + wrap(2, wrap(3, data))))


def test_whole_numbers_one_by_one_are_those_that_are_packed():
  last = b"\xff" * 9 + b"\x01"  # -1, of two's complement.
  for data_ in (b"\x08" + last, b"\x0a\x0a" + last):
    assert tfrecord.example(_integers(data_)) == {"label": [-1]}
  long = b"\xff" * 20 + b"\x01"
  for data_ in (b"\x08" + long, b"\x0a\x15" + long):
    with pytest.raises(ValueError, match="64 bits"):
      tfrecord.example(_integers(data_))


@pytest.mark.parametrize("keep", [True, False])
def test_a_set_may_call_image_and_label_otherwise(tmp_path, keep):
  """`supervisedKeys` names them."""
  images = _pixels(3, 4, 4, 3)
  info = {"supervisedKeys": {"tuple": {"items": [
    {"featureKey": "img"}, {"featureKey": "target"}]}}}
  label = {"classLabel": {"numClasses": "2"}}
  _write(tmp_path / "set", {
    "train": _examples(*images), "test": _examples(images[0])},
    {"img": _IMAGE, "target": label}, info, keys=("img", "target"))
  (tmp_path / "set" / "target.labels.txt").write_text("no\nyes")
  found = tfds_folder.read(
    tmp_path / "set", 4, stream=streamed.Streaming(keep))
  np.testing.assert_array_equal(np.asarray(found.train[0]), images)
  assert found.train[1].tolist() == [0, 1, 0]
  assert found.class_names == ("no", "yes")
  _described(tmp_path / "other", info={"splits": [
    {"name": "train", "shardLengths": ["1"]}], "supervisedKeys": None},
    features={"img": _IMAGE, "target": label})
  text = json.loads((tmp_path / "other" / "features.json").read_text())
  del text["featuresDict"]["features"]["image"]
  (tmp_path / "other" / "features.json").write_text(json.dumps(text))
  assert "of label, img, target, none is image" in _refusal(tmp_path / "other")


@pytest.mark.parametrize("kind", ["int64", "int32", "uint8"])
def test_labels_may_be_whole_numbers(tmp_path, kind):
  images = _pixels(4, 4, 4, 3)
  label = {"tensor": {"dtype": kind, "shape": {}, "encoding": "none"}}
  version = tmp_path / "some" / "1.0.0"
  for first, folder in ((0, tmp_path / "set"), (1, version)):
    folder.mkdir(parents=True)
    _write(folder, {"train": _examples(
      *images, labels=[first, first + 2, first + 1, first]),
      "test": _examples(images[0], labels=[first])}, {"label": label})
    (folder / "label.labels.txt").unlink()
  found = tfds_folder.read(tmp_path / "set", 4)
  np.testing.assert_array_equal(np.asarray(found.train[0]), images)
  assert found.train[1].tolist() == [0, 2, 1, 0] and found.class_names is None
  options = {"data_dir": tmp_path, "image_size": 4}
  with pytest.raises(errors.InputError, match="labels are 1, 2, 3, and those"):
    data.load("some", **options)
  numbered = data.load("some", **options, renumber_labels=True)
  assert np.asarray(numbered.train_labels).tolist() == [0, 2, 1, 0]
  assert numbered.class_names == ("1", "2", "3")


def test_a_flipped_bit_of_an_example_ends_in_no_other_error():
  """A whole number may then stand where a part was, or a name."""
  whole = test_streamed.example(b"x", 1)
  found = 0
  for bit in range(8 * len(whole)):
    changed = bytearray(whole)
    changed[bit // 8] ^= 1 << bit % 8
    try:
      records._image_and_label(bytes(changed))
    except (LookupError, ValueError):
      found += 1
  assert found > 4 * len(whole)  # Most.


@pytest.mark.parametrize("kind", [b"\x08\x01", b"\x0a\x02\x08\x01",
                                  b"\x0a\x08\x0a\x06\x08\x03\x12\x02\x08\x01",
                                  b"\x0a\x06\x0a\x04\x0a\x00\x10\x01",
                                  b"\x0a\x08\x0a\x06\x0a\x01a\x12\x01\x08"])
def test_examples_whose_parts_are_numbers(kind):
  with pytest.raises(LookupError):
    tfrecord.example(kind)
