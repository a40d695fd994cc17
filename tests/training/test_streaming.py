"""Training and evaluation from disk: the same bits as from memory."""

import dataclasses
import pathlib
import types

import jax.numpy as jnp
import numpy as np
import pytest

from natjax import data, errors
from natjax.data import crops, dataset, records, streamed
from natjax.objectives import simclr
from natjax.training import batches, devices, engine, fit, metrics, seeds
from tests.data import test_streamed
from tests.training import test_fit

pytest.importorskip("grain", reason="needs grain, of the extra `data`")
PREPARATION = fit.Preparation(
    (0.5,) * 3, (0.25,) * 3, data.Augmentation(crop_padding=1, flip=True))


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
  """Of the toy method, on disk: 21 and 13 images, as `test_fit` has them."""
  folder = test_streamed.make_folder(
      tmp_path_factory.mktemp("photographs"), 34)
  paths = sorted(folder.glob("*/*"))
  images = streamed.Streamed(
      records.Files(paths), np.arange(len(paths)), 6, "imagenet")
  labels = np.array([test_streamed.CLASSES.index(p.parent.name) for p in paths])
  order = np.random.default_rng(0).permutation(34)
  return {name: fit.Split(images[rows], labels[rows]) for name, rows in (
      ("a", order[:21]), ("b", order[21:]))}


def changed(splits, **changes):
  return {name: split._replace(images=dataclasses.replace(
      split.images, **changes)) for name, split in splits.items()}


def held(splits):
  return {name: split._replace(images=np.asarray(split.images))
          for name, split in splits.items()}


def cropped(splits, workers=0):
  return changed(splits, crop=crops.Crop((0.2, 1.0), (0.75, 1.33)),
                 reading=streamed.Reading(workers))


def run(splits, count=1, **options):
  return fit.fit(
      test_fit.toy_method(), splits, batch_size=4, preparation=PREPARATION,
      options=fit.Options(devices=devices.choose(count), **options))


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 2])
def test_images_on_disk_train_to_the_same_bits(splits, count):
  whole = run(held(splits), count)
  image = 6 * 6 * 3
  for found in (run(splits, count), run(splits, count, chunk_seconds=1e-6),
                run(splits, count, resident_bytes=image * 4 * 2),
                # Arrays that are larger than a device may hold.
                run(held(splits), count, resident_bytes=image * 4 * 2)):
    test_fit.equal(whole, found)


def test_one_split_may_be_in_memory(splits):
  test_fit.equal(run(held(splits)),
                 run({"a": splits["a"], "b": held(splits)["b"]}))


@pytest.mark.long
def test_killed_within_an_epoch_and_resumed_with_other_workers(
    splits, tmp_path, monkeypatch):
  monkeypatch.setattr(streamed, "_FEW", 0)
  whole = run(cropped(splits), metrics_path=tmp_path / "whole.jsonl", run="toy")
  assert float(whole["total"]) != float(run(splits, run="toy")["total"])
  chunks = []
  options = {"checkpoint_dir": tmp_path / "c", "run": "toy",
             "chunk_seconds": 1e-6, "metrics_path": tmp_path / "m.jsonl",
             "checkpoint_seconds": 1e9}
  with pytest.raises(errors.Interrupted):
    run(cropped(splits), on_progress=chunks.append,
        should_stop=lambda: len(chunks) >= 11, **options)
  assert 0 < chunks[-1].step < chunks[-1].steps
  # Workers are started for the rest, few as its images are.
  monkeypatch.setattr(streamed, "_WORTH", 16)
  test_fit.equal(whole, run(cropped(splits, workers=1), **options))
  rows = [[{k: v for k, v in row.items() if k not in ("seconds", "waited")}
           for row in metrics.read(tmp_path / name)]
          for name in ("whole.jsonl", "m.jsonl")]
  assert rows[0] == rows[1]
  assert all(0 <= row["waited"] <= 1
             for row in metrics.read(tmp_path / "m.jsonl"))


@pytest.mark.long
def test_seeds_that_train_together_train_as_alone(splits):
  together = lambda splits, lanes: seeds.fit_seeds(
      test_fit.toy_method(), splits, seeds=(3, 4, 5), runs=("x", "y", "z"),
      batch_size=4, preparation=PREPARATION, lanes=lanes,
      options=fit.Options(devices=devices.choose(2)))
  for lanes in (1, 2):
    for one, other in zip(together(cropped(splits), lanes), [
        run(cropped(splits), seed=seed, run=name)
        for seed, name in ((3, "x"), (4, "y"), (5, "z"))], strict=True):
      # Another program, which may round a mean in another way (jax 0.12).
      assert one["count"] == other["count"]
      test_fit.equal(one["rng"], other["rng"])
      np.testing.assert_allclose(one["total"], other["total"], rtol=1e-6)


def test_every_image_is_read_once_by_one_process(splits, monkeypatch):
  """Also where the processes have unlike shares of the devices."""
  read = []
  monkeypatch.setattr(
      streamed.Streamed, "_decode",
      lambda self, number, key: read.append((number, key)) or np.zeros(
          (6, 6, 3), np.uint8))
  split = cropped(splits)["a"]
  part = batches.Data(split, 6, devices.choose(3), resident_bytes=2**20,
                      runs=1)
  order = batches.order(part, 3, 6, 3, [[1]], 0)
  for mine in ([0], [1, 2]):
    layout = types.SimpleNamespace(
        mine=np.array(mine), divide=lambda tree: tree)
    walked = part.walk(order, layout, 0, True)
    chunk, rows, start = walked.chunk(0, 3)
    assert chunk.images.shape == (len(mine), 3 * 2, 6, 6, 3)
    assert rows.shape == (3, 3, 2) and start == 0
    np.testing.assert_array_equal(
        chunk.labels.reshape(len(mine), 3, 2), split.labels[order.rows[mine]])
  numbers = split.images.rows[order.rows.reshape(-1)]
  assert sorted(number for number, _ in read) == sorted(numbers.tolist())
  assert len({*read}) == 18 and len({key for _, key in read}) == 1


def right(argument, batch):
  return {"right": (batch["label"] == argument).astype(jnp.float32),
          "sum": jnp.sum(batch["image"], (1, 2, 3))}


def walked(split, **options):
  return fit.walk(right, 1, split, preparation=PREPARATION, batch_size=4,
                  **options)


def test_evaluation_counts_every_image_once(splits, monkeypatch):
  whole = walked(held(splits)["a"])
  assert float(whole["right"]) == np.mean(splits["a"].labels == 1)
  for chunk in (2**26, 6 * 6 * 3 * 4 * 2):  # All batches, then two at a time.
    monkeypatch.setattr(fit.evaluation, "_CHUNK", chunk)
    on_device = held(splits)["a"]
    on_device = on_device._replace(images=jnp.asarray(on_device.images))
    for split in (splits["a"], held(splits)["a"], on_device):
      for options in ({}, {"whole": True}, {"total": True}):
        found, plain = walked(split, **options), walked(
            held(splits)["a"], **options)
        assert found == plain
      assert walked(split) == whole


def test_features_are_those_of_every_image(splits, monkeypatch):
  features = lambda weight, x: weight * jnp.mean(x, (1, 2))
  extract = lambda images: simclr.extract(
      features, 2.0, fit.Split(images, split.labels), PREPARATION, batch_size=8)
  split = splits["a"]
  whole, labels = extract(np.asarray(split.images))
  assert whole.shape == (21, 3) and len({row.tobytes() for row in whole}) == 21
  assert labels.tolist() == split.labels.tolist()
  monkeypatch.setattr(fit.evaluation, "_CHUNK", 1)
  np.testing.assert_array_equal(extract(split.images)[0], whole)


def test_damaged_images_are_left_out(splits, tmp_path):
  split = splits["a"]
  paths = [pathlib.Path(split.images.records.name(n))
           for n in split.images.rows]
  other = []
  for i, path in enumerate(paths):
    other.append(tmp_path / f"{i}.jpeg")
    other[-1].write_bytes(path.read_bytes()[:None if i % 7 else 90])
  images = dataclasses.replace(
      split.images, records=records.Files(other), rows=np.arange(21),
      reading=streamed.Reading(skip_damaged=True), skipped=set())
  found = walked(fit.Split(images, split.labels))
  good = np.arange(21) % 7 != 0
  assert float(found["right"]) == np.mean(split.labels[good] == 1)
  assert images.skipped == {0, 7, 14}
  features, labels = simclr.extract(
      lambda weight, x: weight * jnp.mean(x, (1, 2)), 2.0,
      fit.Split(images, split.labels), PREPARATION, batch_size=8)
  assert len(features) == 18 and labels.tolist() == split.labels[good].tolist()
  path = tmp_path / "m.jsonl"
  trained = {"a": fit.Split(images, split.labels), "b": splits["b"]}
  run(trained, metrics_path=path)
  rows = metrics.read(path)
  # An epoch leaves one of 21 images out.
  assert {row.get("skipped", 0) for row in rows if row["phase"] == "first"} <= {
      2, 3}
  assert all("skipped" not in row for row in rows if row["phase"] == "second")
  refusing = dataclasses.replace(images, reading=streamed.Reading())
  with pytest.raises(errors.InputError, match=r"jpeg cannot be read.*or skip"):
    run({**trained, "a": fit.Split(refusing, split.labels)})
  nothing = images[np.zeros(21, int)]
  with pytest.raises(errors.InputError, match="all 21 images to judge by are"):
    walked(fit.Split(nothing, split.labels))
  with pytest.raises(errors.InputError, match="all images that were looked at"):
    dataset.moments(nothing)
  with pytest.raises(errors.InputError, match="all 4 images of a batch are"):
    run({**trained, "a": fit.Split(nothing, split.labels)})


def test_the_share_of_waiting_is_told(splits, monkeypatch):
  """A step that takes longer than reading waits for the first chunk alone."""
  clock = [0.0]
  monkeypatch.setattr(engine, "time", types.SimpleNamespace(
      monotonic=lambda: clock[0]))

  class Slow(batches.Walk):
    def chunk(self, start, stop):
      clock[0] += 1.0
      return super().chunk(start, stop)

  source = engine._Source([Slow(None, None)], ahead=False)
  source.take(0, 1)
  clock[0] += 3.0
  assert source.report() == {}
  source = engine._Source([Slow(None, None)], ahead=True)
  source.take(0, 1)
  source.ask(1, 2)
  source._next.result()
  clock[0] += 2.0
  assert source.asked == 2
  source.take(1, 2)
  assert source.report() == {"waited": 0.25}
