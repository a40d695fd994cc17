"""The data of a run: found again, moved, or other data in its place."""

import dataclasses

import numpy as np
from PIL import Image
import pytest

from natjax import data, errors
from natjax.pipeline import run_data, run_files, runs

CONFIG = {"kind": "train"}


def test_the_data_of_a_run_is_found_again(tmp_path, monkeypatch):
  digits = data.load("digits", image_size=8)
  arrays = {"x_train": digits.train_images, "y_train": digits.train_labels,
            "x_test": digits.test_images, "y_test": digits.test_labels}
  monkeypatch.chdir(tmp_path)
  np.savez("digits.npz", **{**arrays, "x_train": 255 - arrays["x_train"]})
  np.savez("other.npz", **arrays)
  mine = data.load("./digits.npz", image_size=8)
  config = {**CONFIG, **run_data.describe(mine)}
  out = runs.open_run(tmp_path / "run", config)
  (tmp_path / "elsewhere").mkdir()
  monkeypatch.chdir("elsewhere")
  found, own = run_data.load(out)
  assert own and found.source == mine.source
  np.testing.assert_array_equal(found.train_images, mine.train_images)
  assert run_data.load(out, "digits")[1] is False  # Of the same name.
  # The same images elsewhere are the same data, to resume with, too.
  (tmp_path / "digits.npz").rename("moved.npz")
  assert run_data.load(out, "moved.npz")[1]
  moved = data.load("moved.npz", image_size=8)
  runs.open_run(out, {**config, **run_data.describe(moved),
                      "dataset": "digits"})
  with pytest.raises(errors.InputError, match=r"no such file; .* by --dataset"):
    run_data.load(out)
  (tmp_path / "other.npz").rename(tmp_path / "digits.npz")
  with pytest.raises(errors.InputError, match=r"is not what .* checksums"):
    run_data.load(out)


def test_data_of_a_run_is_read_again_as_it_was_read(tmp_path):
  images = np.random.default_rng(0).integers(0, 256, (20, 8, 12, 3), np.uint8)
  np.savez(tmp_path / "mine.npz", x_train=images, y_train=np.arange(20) % 2 * 5)
  mine = data.load(tmp_path / "mine.npz", image_size=8, resize="crop",
                   renumber_labels=True, test_fraction=0.3)
  described = run_data.describe(mine)
  assert described["source"] == {
      "name": str(tmp_path / "mine.npz"), "data_dir": None, "resize": "crop",
      "renumber_labels": True, "test_fraction": 0.3}
  out = runs.open_run(tmp_path / "run", {**CONFIG, **described})
  found, own = run_data.load(out)
  assert own and found.class_names == ("0", "5")
  np.testing.assert_array_equal(found.test_images, mine.test_images)


def labelled(folder, names, seed=0, sides=(8, 8), count=20):
  """A folder of images, one folder per class."""
  rng = np.random.default_rng(seed)
  for name in names:
    (folder / name).mkdir(parents=True)
    for i in range(count):
      Image.fromarray(rng.integers(0, 256, (*sides, 3), np.uint8)).save(
          folder / name / f"{i:02}.png")
  return folder


def of_classes(out, names):
  """A run's network, as far as its classes go."""
  folder = out / "networks" / "network-0"
  folder.mkdir(parents=True)
  run_files.write_json(folder / "result.json", {
      "accuracy": 0.25, "seed": 0, "architecture": {}, "place": {},
      "auxiliary": False, "dtype": "float32", "mean": [0.5] * 3,
      "std": [0.25] * 3, "class_names": [*names]})


def test_data_that_moved_is_read_as_it_was_read(tmp_path):
  images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
  file = tmp_path / "mine.npz"
  np.savez(file, x_train=images, y_train=np.arange(20) % 2 * 5)
  folder = labelled(tmp_path / "pets", ("cat", "dog"))
  for path, settings in (
      (file, {"renumber_labels": True, "test_fraction": 0.5}),
      (folder, {"test_fraction": 0.1}),
      (folder, {"test_fraction": 0.1, "train_fraction": 0.5}),
      (folder, {"stream": True, "test_fraction": 0.3})):
    mine = data.load(path, image_size=8, **settings)
    out = runs.open_run(tmp_path / f"run-{len([*tmp_path.iterdir()])}", {
        **CONFIG, **run_data.describe(mine)})
    moved = path.rename(tmp_path / f"moved{path.suffix}")
    try:
      with pytest.raises(errors.InputError, match="the run's set by --datas"):
        run_data.load(out)
      found, own = run_data.load(out, str(moved))
    finally:
      moved.rename(path)
    assert own and len(found.test_labels) == len(mine.test_labels)
    assert found.class_names == mine.class_names
    np.testing.assert_array_equal(found.test_labels, mine.test_labels)


def test_other_data_is_read_as_it_can_be(tmp_path):
  pets = data.load(labelled(tmp_path / "pets", ("cat", "dog")), image_size=8,
                   test_fraction=0.1)
  out = runs.open_run(tmp_path / "run", {**CONFIG, **run_data.describe(pets)})
  # It has a test set, which is not divided.
  both = tmp_path / "both"
  for part, count in (("train", 6), ("test", 4)):
    labelled(both / part, ("cat", "dog"), 1, count=count)
  found, own = run_data.load(out, str(both))
  assert not own and len(found.test_labels) == 8
  with pytest.raises(errors.InputError, match=r"^(?!.*trained on)"):
    run_data.load(out, str(tmp_path / "gone"))


def test_other_classes_of_the_same_number_are_refused(tmp_path):
  pets = data.load(labelled(tmp_path / "pets", ("cat", "dog")), image_size=8)
  out = runs.open_run(tmp_path / "run", {**CONFIG, **run_data.describe(pets)})
  other = labelled(tmp_path / "other", ("dog", "kitten"), 1)
  assert run_data.load(out, str(other))[1] is False  # There is no network.
  of_classes(out, ("cat", "dog"))
  with pytest.raises(errors.InputError, match=(
      "other classes than other: 'cat' there, 'dog' here; name a set")):
    run_data.load(out, str(other))
  assert run_data.load(out)[1]
  alike = labelled(tmp_path / "alike", ("cat", "dog"), 2)
  assert run_data.load(out, str(alike))[1] is False
  numbers = labelled(tmp_path / "numbers", ("0", "1"), 3)
  assert run_data.load(out, str(numbers))[1] is False


def test_numbers_in_another_order_are_refused(tmp_path):
  names = [*map(str, range(12))]
  images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)
  file = tmp_path / "mine.npz"
  np.savez(file, x_train=images, y_train=np.arange(24) % 12, x_test=images,
           y_test=np.arange(24) % 12)
  mine = data.load(file, image_size=8)
  out = runs.open_run(tmp_path / "run", {**CONFIG, **run_data.describe(mine)})
  of_classes(out, names)
  folder = labelled(tmp_path / "folder", names, count=2)
  with pytest.raises(errors.InputError, match="'2' there, '10' here; name a"):
    run_data.load(out, str(folder))
  padded = labelled(tmp_path / "padded", [f"{i:02}" for i in range(12)],
                    count=2)
  assert run_data.load(out, str(padded))[1] is False


def test_data_of_a_run_that_kept_no_path(tmp_path):
  digits = data.load("digits", image_size=8)
  described = run_data.describe(digits)
  assert described.pop("source") == {"name": "digits", "data_dir": None}
  out = runs.open_run(tmp_path, {**CONFIG, **described})
  assert run_data.load(out)[1]
  run_files.write_kept(out / "config.json", {
      **runs.read_config(out), "crc32": 7})
  with pytest.raises(errors.InputError, match="by --dataset"):
    run_data.load(out)


def test_other_data_is_read_as_the_own_but_for_what_it_refuses(tmp_path):
  images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
  labels = np.arange(20) % 2 + 1
  np.savez(tmp_path / "whole.npz", x_train=images, y_train=labels)
  np.savez(tmp_path / "parts.npz", x_train=images[:10], y_train=labels[:10],
           x_test=images[10:], y_test=labels[10:])
  mine = data.load(tmp_path / "whole.npz", image_size=8, test_fraction=0.3,
                   renumber_labels=True)
  out = runs.open_run(
      tmp_path / "run", {**CONFIG, **run_data.describe(mine)})
  found, own = run_data.load(out, str(tmp_path / "parts.npz"))
  assert not own and found.test_labels.tolist() == (labels[10:] - 1).tolist()


def test_damaged_images_of_other_data_are_left_out_as_of_the_own(tmp_path):
  pytest.importorskip("grain", reason="needs grain, of the extra `data`")
  whole = labelled(tmp_path / "whole", "ab")
  for part in ("train", "test"):
    labelled(tmp_path / "parts" / part, "ab")
  (tmp_path / "parts" / "test" / "a" / "0.png").write_text("damaged")
  mine = data.load(whole, image_size=8, test_fraction=0.3, skip_damaged=True)
  out = runs.open_run(
      tmp_path / "run", {**CONFIG, **run_data.describe(mine)})
  found, _ = run_data.load(out, str(tmp_path / "parts"))
  assert found.streamed and found.test_images.reading.skip_damaged


@pytest.mark.parametrize("field, value", [
    ("mean", (0.5, 0.5, 0.5)), ("std", (0.2, 0.25, 0.3))])
def test_a_run_goes_on_with_images_normalised_alike_alone(
    tmp_path, field, value):
  read = lambda **options: {**CONFIG, **run_data.describe(
      data.make_dataset("mine", (images, labels), (images, labels),
                        image_size=8, **options))}
  images = np.random.default_rng(0).integers(
      0, 256, (20, 8, 8, 3)).astype(np.uint8)
  labels = np.arange(20) % 2
  usual = read()
  # What else computes them, may round the last bit otherwise.
  close = [x + 1e-9 for x in data.make_dataset(
      "mine", (images, labels), (images, labels), image_size=8).mean]
  assert read(mean=close) == usual
  out = runs.open_run(tmp_path / "run", usual)
  assert runs.open_run(out, usual)
  with pytest.raises(errors.InputError, match=(
      f"of another configuration \\(normalization.{field} .* there and")):
    runs.open_run(out, read(**{field: value}))
  del usual["normalization"]  # As of natjax 0.2.0.
  older = runs.open_run(tmp_path / "older", usual)
  assert runs.open_run(older, read())


def test_a_runs_own_data_is_normalised_as_the_run_was_trained(tmp_path):
  digits = data.load("digits", image_size=8)
  changed = dataclasses.replace(digits, mean=(0.5,) * 3, std=(0.25,) * 3)
  for given in (digits, changed):
    config = {**CONFIG, **run_data.describe(given)}
    found, own = run_data.load(runs.open_run(
        tmp_path / str(given.mean[0]), config))
    assert own and found.mean == given.mean and found.std == given.std


@pytest.mark.parametrize("part", ["train", "test"])
def test_other_images_on_disk_of_the_same_sizes_are_known(tmp_path, part):
  pytest.importorskip("grain", reason="needs grain, of the extra `data`")
  for name in ("train", "test"):
    for label in "ab":
      (folder := tmp_path / "mine" / name / label).mkdir(parents=True)
      for i in range(3):
        pixels = np.full((8, 8, 3), 40 * i + 20 * (label == "b"), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.bmp")
  read = lambda: data.load(tmp_path / "mine", image_size=8, stream=True)
  config = {**CONFIG, **run_data.describe(read())}
  out = runs.open_run(tmp_path / "run", config)
  assert run_data.load(out)[1] and runs.open_run(out, config)
  changed = tmp_path / "mine" / part / "a" / "1.bmp"
  size = changed.stat().st_size
  Image.new("RGB", (8, 8), (200, 0, 0)).save(changed)
  assert changed.stat().st_size == size
  with pytest.raises(errors.InputError, match=r"is not what .* trained on"):
    run_data.load(out)
  now = {**CONFIG, **run_data.describe(read())}
  with pytest.raises(errors.InputError, match="the crc32 of some images"):
    runs.open_run(out, now)
  del config["sampled"], config["normalization"]  # As of natjax 0.2.0.
  older = runs.open_run(tmp_path / "older", config)
  assert runs.open_run(older, now) and run_data.load(older)[1]


def test_images_on_disk_are_not_resumed_in_another_form(tmp_path):
  pytest.importorskip("grain", reason="needs grain, of the extra `data`")
  folder = labelled(tmp_path / "mine", "ab", sides=(8, 12))
  kinds = {how: {**CONFIG, **run_data.describe(data.load(
      folder, image_size=8, stream=True, resize=how))}
           for how in ("stretch", "crop")}
  assert len({config["crc32"] for config in kinds.values()}) == 1
  for one, other in (("stretch", "crop"), ("crop", "stretch")):
    out = runs.open_run(tmp_path / one, kinds[one])
    runs.open_run(out, kinds[one])
    with pytest.raises(errors.InputError, match=f"resize '{one}' there and"):
      runs.open_run(out, kinds[other])
