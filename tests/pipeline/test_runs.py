"""Run directories: opening, resuming, refusing, and loading networks."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest

from natjax import data, errors, zoo
from natjax.data import dataset
from natjax.graph import genotype as architecture
from natjax.graph import skeleton
from natjax.networks import network
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import run_files, runs
from natjax.training import checkpoints, distributed

BEGUN = {"config.json", "checksums.json"}
CONFIG = {"kind": "train", "seed": 0, "train": {"epochs": 2, "cells": 3},
          "nodes": (2, 3)}
CELL = architecture.Cell(
    (architecture.Edge("max_pool_3x3", 0, 2),
     architecture.Edge("skip_connect", 1, 2)), (2,))
GENOTYPE = architecture.Genotype(CELL, CELL)


def contents(folder):
  return {str(path.relative_to(folder)): path.is_file() and path.read_bytes()
          for path in folder.rglob("*")}


def fill(folder):
  """Writes what a finished run leaves, and a file of the user's."""
  for name in ("result.json", "metrics.jsonl", "architecture.json",
               "architecture.txt", "architecture.svg",
               "networks/n-0/weights.npz",
               "checkpoint/search/0/state", "tensorboard/events", "mine.txt"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")


# Opening.


def test_a_new_folder_is_made_with_its_parents(tmp_path):
  out = runs.open_run(str(tmp_path / "a" / "b"), CONFIG)
  assert out == tmp_path / "a" / "b"
  assert set(contents(out)) == BEGUN
  assert runs.read_config(out) == json.loads(json.dumps(CONFIG))


def test_an_empty_folder_is_taken(tmp_path):
  runs.open_run(tmp_path, CONFIG)
  assert set(contents(tmp_path)) == BEGUN


def test_the_same_configuration_changes_nothing(tmp_path):
  runs.open_run(tmp_path, CONFIG)
  fill(tmp_path)
  before = contents(tmp_path)
  runs.open_run(tmp_path, dict(reversed(CONFIG.items())))
  assert contents(tmp_path) == before


def test_overwrite_removes_what_a_run_wrote_and_no_more(tmp_path):
  runs.open_run(tmp_path, CONFIG)
  fill(tmp_path)
  runs.open_run(tmp_path, CONFIG | {"seed": 1}, overwrite=True)
  assert set(contents(tmp_path)) == {*BEGUN, "mine.txt"}
  assert runs.read_config(tmp_path)["seed"] == 1


def test_an_architecture_also_in_the_words_of_the_field(tmp_path):
  text = tmp_path / "architecture.txt"
  runs.write_architecture(tmp_path, GENOTYPE)
  assert text.read_text() == (
      "Genotype(normal=[('max_pool_3x3', 0), ('skip_connect', 1)],"
      " normal_concat=[2], reduce=[('max_pool_3x3', 0), ('skip_connect', 1)],"
      " reduce_concat=[2])\n")
  runs.write_architecture(tmp_path, zoo.get("resnet20"))
  assert not text.exists()
  runs.write_architecture(tmp_path, zoo.nasbench201.network(["null"] * 6))
  assert text.read_text() == "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|\n"


def test_overwrite_of_a_new_folder(tmp_path):
  runs.open_run(tmp_path / "run", CONFIG, overwrite=True)
  assert set(contents(tmp_path / "run")) == BEGUN


def test_overwrite_killed_midway_still_leaves_a_run(tmp_path, monkeypatch):
  runs.open_run(tmp_path, CONFIG)
  fill(tmp_path)

  def killed(path):
    raise KeyboardInterrupt

  monkeypatch.setattr(runs.shutil, "rmtree", killed)
  with pytest.raises(KeyboardInterrupt):
    runs.open_run(tmp_path, CONFIG, overwrite=True)
  monkeypatch.undo()
  assert not (tmp_path / "result.json").exists()
  runs.open_run(tmp_path, CONFIG)
  runs.open_run(tmp_path, CONFIG, overwrite=True)
  assert set(contents(tmp_path)) == {*BEGUN, "mine.txt"}


@pytest.mark.parametrize("name", ["checksums.json", "config.json"])
def test_a_start_killed_before_its_first_file_was_whole(
    tmp_path, monkeypatch, name):
  replace = os.replace

  def killed(source, target):
    if os.path.basename(target) == name:
      raise KeyboardInterrupt
    replace(source, target)

  monkeypatch.setattr(os, "replace", killed)
  with pytest.raises(KeyboardInterrupt):
    runs.open_run(tmp_path, CONFIG)
  monkeypatch.undo()
  assert contents(tmp_path)
  runs.open_run(tmp_path, CONFIG)
  assert set(contents(tmp_path)) == BEGUN


def test_a_configuration_changed_before_the_run_wrote_anything(tmp_path):
  runs.open_run(tmp_path, CONFIG)
  path = tmp_path / "config.json"
  path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
  with pytest.raises(errors.InputError, match="is not what the run"):
    runs.open_run(tmp_path, {**CONFIG, "seed": 1})


@pytest.mark.parametrize("other,difference", [
    ({"seed": 1}, "seed 0 there and 1 here"),
    ({"train": {"epochs": 3, "cells": 3}}, "train.epochs 2 there and 3 here"),
    ({"nodes": [2]}, "nodes [2, 3] there and [2] here"),
    ({"space": "nat"}, "space None there and 'nat' here"),
    ({"train": {}}, "train.cells 3 there and None here"),
])
def test_another_configuration_is_refused_by_key(tmp_path, other, difference):
  runs.open_run(tmp_path, CONFIG)
  fill(tmp_path)
  before = contents(tmp_path)
  with pytest.raises(errors.InputError) as e:
    runs.open_run(tmp_path, CONFIG | other)
  assert difference in str(e.value) and e.value.field == "overwrite"
  assert contents(tmp_path) == before


def test_many_differences_are_counted(tmp_path):
  runs.open_run(tmp_path, CONFIG | dict.fromkeys("abcde", 0))
  with pytest.raises(errors.InputError, match=r"a 0 .*, c 0 .* and 2 more"):
    runs.open_run(tmp_path, CONFIG | dict.fromkeys("abcde", 1))


def test_an_unfinished_run_of_another_version_is_refused(tmp_path):
  now = {**CONFIG, "version": "0.2.0"}
  for old, words in ((CONFIG, "natjax 0.1.0 (commit 729c84a)"),
                     ({**CONFIG, "version": "0.1.9"}, "natjax 0.1.9,")):
    out = runs.open_run(tmp_path / words, old)
    fill(out)
    before = contents(out)
    runs.open_run(out, now)  # It is finished, and its result is shown.
    (out / "result.json").unlink()
    with pytest.raises(errors.InputError) as e:
      runs.open_run(out, now)
    assert words in str(e.value) and "finish it with" in str(e.value)
    assert "\n" not in str(e.value) and e.value.field == "overwrite"
    with pytest.raises(errors.InputError, match="another configuration"):
      runs.open_run(out, now | {"seed": 1})
    assert contents(out) == {k: v for k, v in before.items()
                             if k != "result.json"}
    runs.open_run(out, now, overwrite=True)
    assert runs.read_config(out) == json.loads(json.dumps(now))


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name,text", [
    ("notes.txt", "mine"), (".hidden", ""), ("result.json", "{}"),
    ("config.json", '{"model_type": "bert"}'), ("config.json", "[1]")])
def test_a_folder_without_a_run_is_never_touched(
    tmp_path, name, text, overwrite):
  (tmp_path / name).write_text(text)
  (tmp_path / "networks").mkdir()
  before = contents(tmp_path)
  with pytest.raises(errors.InputError, match="holds no run of natjax"):
    runs.open_run(tmp_path, CONFIG, overwrite=overwrite)
  assert contents(tmp_path) == before


def test_a_folder_at_a_path_that_is_not_in_unicode(tmp_path):
  out = tmp_path / os.fsdecode(b"caf\xe9") / "run"
  with pytest.raises(errors.InputError, match="not in utf-8"):
    runs.open_run(out, CONFIG)
  assert not out.parent.exists()
  with pytest.raises(errors.InputError, match="not in utf-8"):
    checkpoints.Checkpoints(out)
  assert not out.parent.exists()


def test_a_file_is_no_folder(tmp_path):
  path = tmp_path / "file"
  path.write_text("mine")
  for out in (path, path / "run"):
    with pytest.raises(errors.InputError, match=r"name (a|another) folder"):
      runs.open_run(out, CONFIG, overwrite=True)
  assert path.read_text() == "mine"


def test_a_damaged_configuration_is_refused_or_overwritten(tmp_path):
  (tmp_path / "config.json").write_text('{"kind":')
  with pytest.raises(errors.InputError, match="damaged; restore it or over"):
    runs.open_run(tmp_path, CONFIG)
  runs.open_run(tmp_path, CONFIG, overwrite=True)
  assert runs.read_config(tmp_path)["kind"] == "train"


# Files.


def test_json_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
  path = tmp_path / "result.json"
  run_files.write_json(path, {"accuracy": 0.1})
  with pytest.raises(TypeError):
    run_files.write_json(path, {"accuracy": object()})
  assert run_files.read_json(path) == {"accuracy": 0.1}
  path.write_bytes(b'\xef\xbb\xbf{"accuracy": 0.2}')  # As Windows writes it.
  assert run_files.read_json(path) == {"accuracy": 0.2}
  assert set(contents(tmp_path)) == {"result.json"}


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-300, 359 / 360])
def test_json_keeps_every_bit(tmp_path, value):
  run_files.write_json(tmp_path / "f.json", {"x": value})
  assert run_files.read_json(tmp_path / "f.json") == {"x": value}


@pytest.mark.parametrize("text,match", [
    (b"{", "not JSON"), (b"", "not JSON"), (b"\xff\xfe", "not JSON"),
    (None, "No such file")])
def test_unreadable_json(tmp_path, text, match):
  path = tmp_path / "f.json"
  if text is not None:
    path.write_bytes(text)
  with pytest.raises(errors.InputError, match=match):
    run_files.read_json(path)


def test_weights_round_trip(tmp_path):
  rng = np.random.default_rng(0)
  tree = {"params": {"a": {"kernel": rng.normal(size=(3, 2)).astype("f")},
                     "b": np.float32(2)},
          "batch_stats": {"a": {"mean": np.zeros(0, np.float32)}}}
  networks_lib.save_weights(tmp_path / "w.npz", tree)
  jax.tree.map(np.testing.assert_array_equal,
               networks_lib.load_weights(tmp_path / "w.npz"), tree)
  assert set(contents(tmp_path)) == {"w.npz"}


@pytest.mark.parametrize("damage", [
    lambda b: b[:-50], lambda b: b[:10], lambda b: b"", lambda b: b"not zip",
    lambda b: b[:200] + bytes([b[200] ^ 1]) + b[201:], None])
def test_damaged_weights(tmp_path, damage):
  path = tmp_path / "w.npz"
  if damage is not None:
    networks_lib.save_weights(path, {"a": np.ones(100, np.float32)})
    path.write_bytes(damage(path.read_bytes()))
  with pytest.raises(errors.InputError, match=(
      "is not there;" if damage is None else "is damaged, or no file of wei")):
    networks_lib.load_weights(path)


def test_weights_that_stand_twice_in_a_file(tmp_path):
  path = tmp_path / "w.npz"
  networks_lib.save_weights(path, {"a": np.ones(2, np.float32)})
  with zipfile.ZipFile(path) as file:
    array = file.read("a.npy")
  with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning):
    file.writestr("a.npy", array)
  with pytest.raises(errors.InputError, match="is damaged, or no file of wei"):
    networks_lib.load_weights(path)


def test_pickled_weights_are_not_executed(tmp_path):
  class Evil:
    def __reduce__(self):
      return os.mkdir, (str(tmp_path / "executed"),)

  np.savez(tmp_path / "w.npz", a=np.array([Evil()], object))
  with pytest.raises(errors.InputError):
    networks_lib.load_weights(tmp_path / "w.npz")
  assert not (tmp_path / "executed").exists()


# Networks.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A run whose networks nobody trained."""
  out = runs.open_run(tmp_path_factory.mktemp("runs") / "run", CONFIG)
  place = skeleton.Skeleton("cifar", 2, 1, 3, 4)
  variables = network.init(network.module(GENOTYPE, place), jax.random.key(0))
  for name in ("original-0", "original-1", "transformed-0", "transformed-1"):
    folder = out / "networks" / name
    folder.mkdir(parents=True)
    networks_lib.save_weights(folder / "weights.npz", variables)
    run_files.write_json(folder / "result.json", {
        "accuracy": 0.25, "seed": int(name[-1]),
        "architecture": architecture.to_dict(GENOTYPE),
        "place": place._asdict(), "auxiliary": False, "dtype": "float32",
        "mean": [0.5] * 3, "std": [0.25] * 3, "class_names": list("abc")})
  (out / "networks" / "unfinished-0").mkdir()
  return out, variables


def test_load(trained):
  out, variables = trained
  net = networks_lib.load(out)
  assert net.architecture == GENOTYPE
  assert net.class_names == ("a", "b", "c")
  assert net.test_accuracy == 0.25
  jax.tree.map(np.testing.assert_array_equal, net.variables, variables)
  images = np.random.default_rng(0).integers(
      0, 256, (5, 4, 4, 3)).astype(np.uint8)
  normalised = data.normalize(images, (0.5,) * 3, (0.25,) * 3)
  expected, _ = jax.jit(net.module.apply)(variables, normalised)
  logits = net.logits(images)
  np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(net.predict(images), np.argmax(logits, -1))


def test_an_imagenet_stem_that_natjax_0_1_named_otherwise(tmp_path):
  place = skeleton.Skeleton("imagenet", 2, 1, 3, 32)
  variables = network.init(network.module(GENOTYPE, place), jax.random.key(0))
  old = {}
  for kind, layers in variables.items():
    stems = {n: layer for n, layer in layers.items() if n.startswith("stem")}
    assert set(stems) == {"stem0", "stem1", "stem2"}
    rest = {n: layer for n, layer in layers.items() if n not in stems}
    old[kind] = rest | {"stem": {
        f"{part}{name[-1]}": value for name, layer in stems.items()
        for part, value in layer.items()}}
  networks_lib.save_weights(tmp_path / "weights.npz", old)
  jax.tree.map(np.testing.assert_array_equal,
               networks_lib.load_weights(tmp_path / "weights.npz"), variables)


@pytest.mark.parametrize("damage", [
    lambda r: [], lambda r: {**r, "place": None}, lambda r: {**r, "dtype": 3},
    lambda r: {k: v for k, v in r.items() if k != "mean"}])
def test_a_result_that_is_damaged_is_refused(trained, damage, tmp_path):
  out, _ = trained
  path = out / "networks" / "original-0" / "result.json"
  text = path.read_text()
  try:
    path.write_text(json.dumps(damage(json.loads(text))))
    with pytest.raises(errors.InputError, match="is damaged"):
      networks_lib.load(out, "original-0")
  finally:
    path.write_text(text)


def test_the_first_of_the_transformed_is_loaded(trained, tmp_path):
  out, _ = trained
  found = networks_lib.networks(out)
  assert [f.name for f in found.values()] == list(found) == [
      "original-0", "original-1", "transformed-0", "transformed-1"]
  result = out / "networks" / "transformed-0" / "result.json"
  text = result.read_text()
  result.write_text(text.replace("0.25,", "0.75,", 1))
  try:
    assert networks_lib.load(out).test_accuracy == 0.75
    assert networks_lib.load(str(out), "original-1").test_accuracy == 0.25
  finally:
    result.write_text(text)


def test_unknown_network(trained):
  with pytest.raises(errors.InputError, match="no network 'n'; it has orig"):
    networks_lib.load(trained[0], "n")


@pytest.mark.parametrize("make", [False, True])
def test_no_trained_network(tmp_path, make):
  if make:
    runs.open_run(tmp_path / "run", CONFIG)
  with pytest.raises(errors.InputError, match="holds no trained network"):
    networks_lib.load(tmp_path / "run")


def test_images_of_another_kind_are_refused(trained):
  net = networks_lib.load(trained[0])
  images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
  for call in (net.logits, net.predict):
    for wrong, message in (
        (images, "uint8.5, 8, 8, 3. and the network was trained on 4 x 4"),
        (images[:, :4], "trained on 4 x 4 pixels; .* pass resize=True"),
        (images / 255, "images are float64.* must be uint8.B, 4, 4, 3."),
        (images[0], "must be uint8"), (images[..., :1], "must be uint8"),
        (images[:0], "hold no pixels; give at"), ([[1]], "must be uint8")):
      with pytest.raises(errors.InputError, match=message):
        call(wrong)
    with pytest.raises(errors.InputError, match="resize is 'no' and must be"):
      call(images, resize="no")
  small = dataset.resize_all(images, 4)
  np.testing.assert_array_equal(
      net.logits(images, resize=True), net.logits(small))
  np.testing.assert_array_equal(
      net.predict(jax.numpy.asarray(images), resize=True), net.predict(small))


@pytest.mark.parametrize("change,message", [
    (lambda w: {}, "does not hold the weights of its network"),
    (lambda w: {k: v for k, v in w.items() if "head" not in k},
     "they lack .*head"),
    (lambda w: {k: v[..., :1] for k, v in w.items()}, "of another shape"),
])
def test_weights_of_another_network_are_refused(trained, change, message):
  path = trained[0] / "networks" / "original-1" / "weights.npz"
  content = path.read_bytes()
  try:
    with np.load(path) as f:
      np.savez(path, **change(dict(f)))
    with pytest.raises(errors.InputError, match=message):
      networks_lib.load(trained[0], "original-1")
  finally:
    path.write_bytes(content)


@pytest.mark.parametrize("name", [5, [], b"original-0"])
def test_names_that_are_no_text(trained, name):
  with pytest.raises(errors.InputError, match=r"has no network .* it has orig"):
    networks_lib.load(trained[0], name)


# Two processes.


HOLD = """
import sys
from natjax.pipeline import run_files, runs
with runs.locked(sys.argv[1]):
  print("held", flush=True)
  sys.stdin.read()
"""


def test_one_process_at_a_time_and_a_dead_one_holds_nothing(tmp_path):
  other = subprocess.Popen(
      [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE,
      stdout=subprocess.PIPE, text=True)
  assert other.stdout.readline() == "held\n"
  with (pytest.raises(errors.InputError, match="another process runs in") as e,
        runs.locked(tmp_path)):
    pass
  assert e.value.field == "out" and not contents(tmp_path)
  other.kill()
  other.communicate()
  for _ in range(2):
    with runs.locked(tmp_path):
      pass
  with runs.locked(tmp_path / "not there"):
    assert not contents(tmp_path)


# What is not as a run left it.


ONE = distributed.Processes(jax.devices()[:1])
PART = {"params": 1, "madds": 2.0, "accuracy": 0.5, "accuracy_std": 0,
        "accuracies": [0.5]}
RESULTS = {
    "train": {**PART, "seconds": 1.0, "dataset": "digits"},
    "search": {"derived": {"params": 1, "madds": 2}, "architectures": {},
               "dataset": "digits", "seconds": 1},
    "transform": {"original": PART, "transformed": PART, "architectures": {},
                  "dataset": "digits", "seconds": 1}}


@pytest.mark.parametrize("kind", RESULTS)
def test_results_are_found_as_they_were_written(kind, tmp_path):
  out = runs.open_run(tmp_path, {"kind": kind})
  assert runs.find_result(ONE, out) is None
  run_files.write_json(out / "result.json", RESULTS[kind])
  assert runs.find_result(ONE, out) == RESULTS[kind]


@pytest.mark.parametrize("text", [
    "{}", "[]", "null", "3", '"x"', "", "{", "[" * 10**5, "\0",
    '{"params": 1, "params": 2}'])
@pytest.mark.parametrize("kind", RESULTS)
def test_results_of_another_shape_are_refused(kind, text, tmp_path):
  out = runs.open_run(tmp_path, {"kind": kind})
  network = out / "networks" / "n-0"
  network.mkdir(parents=True)
  for folder in (out, network):
    (folder / "result.json").write_text(text)
    with pytest.raises(errors.InputError, match=r"result.json.*damaged") as e:
      runs.find_result(ONE, folder)
    assert "restore it or overwrite the run" in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("kind,key", [
    (kind, key) for kind, result in RESULTS.items() for key in result])
def test_parts_of_results_of_another_type_are_named(kind, key, tmp_path):
  out = runs.open_run(tmp_path, {"kind": kind})
  for value in (["x"], {"a": 3}, None):
    run_files.write_json(out / "result.json", {**RESULTS[kind], key: value})
    with pytest.raises(errors.InputError, match=f"is damaged: {key}"):
      runs.find_result(ONE, out)


@pytest.mark.parametrize("name,folder", [
    ("metrics.jsonl", True), ("result.json", True), ("architecture.json", True),
    ("checkpoint", False), ("networks", False),
    ("networks/n-0/weights.npz", True), ("networks/n-0/checkpoint", False)])
def test_files_in_the_place_of_folders_and_folders_of_files(
    name, folder, tmp_path):
  out = runs.open_run(tmp_path, CONFIG)
  path = out / name
  path.parent.mkdir(parents=True, exist_ok=True)
  if folder:
    path.mkdir()
  else:
    path.write_text("x")
  with pytest.raises(errors.InputError, match=f"{name} is a .* and must be a"):
    runs.open_run(tmp_path, CONFIG)
  runs.open_run(tmp_path, CONFIG, overwrite=True)
  assert set(contents(tmp_path)) == BEGUN


@pytest.mark.parametrize("name, value", [
    ("threefry_partitionable", False), ("enable_x64", True)])
def test_other_random_numbers_are_another_configuration(name, value, tmp_path):
  usual = {**CONFIG, **runs.randomness()}
  assert usual == CONFIG
  runs.open_run(tmp_path / "run", usual)
  with getattr(jax, name)(value):
    other = {**CONFIG, **runs.randomness()}
  assert other["randomness"] == {name: value}
  with pytest.raises(errors.InputError, match=f"{name} None there"):
    runs.open_run(tmp_path / "run", other)
  runs.open_run(tmp_path / "other", other)
  with pytest.raises(errors.InputError, match=f"{name} {value} there"):
    runs.open_run(tmp_path / "other", usual)


def test_a_network_of_another_run_or_name_is_refused(tmp_path):
  def run(name, seed):
    out = runs.open_run(tmp_path / name, {**CONFIG, "seed": seed})
    for part in ("original-0", "transformed-0"):
      (out / "networks" / part).mkdir(parents=True)
      run_files.write_kept(out / "networks" / part / "result.json", {"seed": 0})
    return out

  mine, other = run("mine", 0), run("other", 1)
  result = lambda name: mine / "networks" / name / "result.json"
  run_files.check_sum(result("original-0"))
  source = {**runs.read_config(mine), "source": {"name": "/elsewhere"}}
  run_files.write_json(mine / "config.json", source)  # Data may move.
  run_files.check_sum(result("original-0"))
  shutil.rmtree(mine / "networks" / "original-0")
  shutil.copytree(other / "networks" / "original-0",
                  mine / "networks" / "original-0")
  with pytest.raises(errors.InputError, match="original-0 is not what the run"):
    run_files.check_sum(result("original-0"))
  shutil.rmtree(mine / "networks" / "original-0")
  (mine / "networks" / "transformed-0").rename(mine / "networks" / "original-0")
  with pytest.raises(errors.InputError, match="has another network's name"):
    run_files.check_sum(result("original-0"))
  run_files.adopt(other / "networks" / "original-0",
                  mine / "networks" / "original-0")
  run_files.check_sum(result("original-0"))


def test_a_finished_run_knows_which_networks_it_had(tmp_path):
  out = runs.open_run(tmp_path / "run", CONFIG)
  assert run_files.gone(out) == []
  for name in ("network-0", "network-1"):
    (out / "networks" / name).mkdir(parents=True)
    run_files.write_kept(out / "networks" / name / "result.json", {"seed": 0})
  shutil.rmtree(out / "networks" / "network-1")
  assert run_files.gone(out) == []  # Not finished: it may be trained again.
  run_files.write_result(out, {})
  assert run_files.gone(out) == []
  part = shutil.copytree(out, out / "seed-3")
  for folder in (out, part):
    shutil.rmtree(folder / "networks")
  assert run_files.gone(out) == [
      "networks/network-0", "seed-3/networks/network-0"]
  assert runs.open_run(out, CONFIG) == out


def test_rows_of_a_finished_run_that_were_changed(tmp_path):
  out = runs.open_run(tmp_path / "run", CONFIG)
  (out / "metrics.jsonl").write_text("1\n2\n")
  run_files.write_result(out, {})
  runs.open_run(out, CONFIG)
  (out / "metrics.jsonl").write_text("1\n")
  before = contents(out)
  with pytest.raises(errors.InputError, match="jsonl is not what the"):
    runs.open_run(out, CONFIG)
  assert contents(out) == before
  (out / "result.json").unlink()  # A run that goes on adds to them.
  runs.open_run(out, CONFIG)
