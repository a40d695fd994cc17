"""Run directories: opening, resuming, refusing."""

import json
import os
import subprocess
import sys
import types

import jax
import pytest

from natjax import errors, zoo
from natjax.graph import genotype as architecture
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
               "architecture.txt", "architecture.svg", "explanation.svg",
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


def test_overwrite_leaves_a_users_files_that_are_called_like_a_runs(tmp_path):
  runs.open_run(tmp_path, CONFIG)
  for folder in ("seed-3", "architecture-1"):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "config.json").write_text("{}")
  (tmp_path / "seed-4").mkdir()  # Killed before it began.
  for mine in ("seed-notes/a.txt", "seed-5/a.txt", "seed-accuracies.csv",
               "architecture-1.svg", "architecture-2/a.txt"):
    (tmp_path / mine).parent.mkdir(exist_ok=True)
    (tmp_path / mine).write_text("mine")
  runs.open_run(tmp_path, CONFIG | {"seed": 1}, overwrite=True)
  assert {path.name for path in tmp_path.iterdir()} == {
      *BEGUN, "seed-notes", "seed-5", "seed-accuracies.csv",
      "architecture-1.svg", "architecture-2"}


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


def test_a_search_goes_on_in_the_same_space_alone(tmp_path):
  config = lambda content: CONFIG | {"space": {"name": "a", **content}}
  out = runs.open_run(tmp_path / "run", config({"content": 3}))
  assert runs.open_run(out, config({"content": 3}))
  with pytest.raises(errors.InputError, match=r"another .*space"):
    runs.open_run(out, config({"content": 4}))
  older = runs.open_run(tmp_path / "older", config({}))  # Of natjax 0.2.0.
  assert runs.open_run(older, config({"content": 3}))


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


@pytest.mark.skipif(os.name == "nt", reason="makes links")
def test_a_link_to_nothing_is_named(tmp_path):
  (tmp_path / "link").symlink_to("nowhere")
  for out in ("link", "link/run"):
    with pytest.raises(errors.InputError, match=(
        "link is a link to nowhere, which is not there; make that folder")):
      runs.open_run(tmp_path / out, CONFIG)
  (tmp_path / "nowhere").mkdir()
  assert runs.open_run(tmp_path / "link", CONFIG).is_dir()


@pytest.mark.parametrize("name", [
    "networks/mine", "networks", "networks/a/b", "refused/mine", "pareto/mine",
    "checkpoint/mine", "tensorboard/mine", "seed-3", "seed-0/networks/mine",
    "seed-0/seed-0", "architecture-1"])
def test_no_run_lies_in_another_runs_own_folders(name, tmp_path, monkeypatch):
  run = runs.open_run(tmp_path / "run", {**CONFIG, "seeds": [0, 1]})
  runs.open_run(run / "seed-0", CONFIG)
  before = contents(run)
  monkeypatch.chdir(tmp_path)
  for out in (run / name, os.path.join("run", name)):
    with pytest.raises(errors.InputError, match=(
        r"a folder of the run in .*run(/seed-0)?, which would take it")) as e:
      runs.open_run(out, CONFIG)
    assert e.value.field == "out"
  assert contents(run) == before


def test_runs_that_may_lie_in_another(tmp_path):
  run = runs.open_run(tmp_path / "run", {
      **CONFIG, "kind": "union", "seeds": [0, 1]})
  part = runs.open_run(run / "seed-0", {**CONFIG, "kind": "union"})
  runs.open_run(part / "architecture-1", CONFIG)
  runs.open_run(run / "mine", CONFIG)  # A folder of the user's.
  (tmp_path / "config.json").write_text("no run's")
  runs.open_run(tmp_path / "networks" / "mine", CONFIG)


def test_a_folder_is_checked_and_left_as_it_is(tmp_path):
  run = runs.open_run(tmp_path / "run", CONFIG)
  foreign = tmp_path / "foreign"
  foreign.mkdir()
  (foreign / "mine.txt").touch()
  before = contents(tmp_path)
  other = {**CONFIG, "seed": 1}
  assert runs.check(run, CONFIG) and runs.check(run, None)
  assert runs.check(run, other, overwrite=True)
  assert not runs.check(tmp_path / "a" / "b", CONFIG)
  for out, config, words in (
      (run, other, "a run of another configuration"),
      (foreign, CONFIG, "holds no run"), (foreign, None, "holds no run"),
      (foreign / "mine.txt" / "run", CONFIG, "Not a directory")):
    with pytest.raises(errors.InputError, match=words):
      runs.check(out, config)
  assert contents(tmp_path) == before


def test_a_damaged_configuration_is_refused_or_overwritten(tmp_path):
  (tmp_path / "config.json").write_text('{"kind":')
  with pytest.raises(errors.InputError, match="damaged; restore it or over"):
    runs.open_run(tmp_path, CONFIG)
  runs.open_run(tmp_path, CONFIG, overwrite=True)
  assert runs.read_config(tmp_path)["kind"] == "train"


# Two processes.


HOLD = """
import sys
from natjax.pipeline import run_files, runs
with runs.locked(sys.argv[1]):
  print("held", flush=True)
  sys.stdin.read()
"""


def alike(*configs):
  """Asks as processes with these configurations do."""
  told = []

  def gather(own):
    told.append(own)
    return told if len(told) == len(configs) else [own]

  for config in configs:
    runs.check_alike(types.SimpleNamespace(gather=gather), config)


def test_processes_of_one_run_are_given_the_same():
  alike(CONFIG)
  alike(CONFIG, CONFIG, CONFIG)
  elsewhere = {"source": {"name": "x", "data_dir": "/there"},
               "machine": {"cores": 3}, "versions": {"jax": "0.1"}}
  alike(CONFIG, {**CONFIG, **elsewhere})
  for changes, told in (
      ({"seed": 3}, "seed 0 in process 0 and 3 in process 2"),
      ({"crc32": 7}, "images' crc32 None in process 0 and 7 in process 2"),
      ({"train": {"epochs": 3, "cells": 3}}, "train.epochs 2 in process 0"),
      ({"kind": "search"}, "kind 'train' in process 0 and 'search' in pro")):
    with pytest.raises(errors.InputError, match=told):
      alike(CONFIG, CONFIG, {**CONFIG, **changes})


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


def test_a_folder_that_is_not_there_is_held_too(tmp_path):
  out = tmp_path / "a" / "b"
  with runs.locked(out):
    with pytest.raises(errors.InputError, match="another process runs in"), (
        runs.locked(out)):
      pass
    assert out.is_dir() and not contents(out)
  assert not contents(tmp_path)
  with runs.locked(out):
    runs.open_run(out, CONFIG)
  assert runs.read_config(out)["kind"] == CONFIG["kind"]
  with runs.locked(out / "config.json" / "c"):  # Nor can it be made.
    pass


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
