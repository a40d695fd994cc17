"""What another package adds by entry points, from the command line."""

import dataclasses
import importlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pytest

from natjax import cli, data, errors, methods, operations, spaces
from natjax.graph import blocks, codec, genotype
from natjax.pipeline import plugins

TOYS = pathlib.Path(__file__).parents[1] / "toys"
ROOT = TOYS.parents[1]
ALL = """[natjax.methods]
drop = toy_method:ENTRY
[natjax.datasets]
stripes = toy_dataset:stripes
[natjax.operations]
any = toy_operation:OPERATION
[natjax.spaces]
any = toy_space:SPACE
"""
NODE, EDGE = blocks.Node(4, activation="relu"), blocks.Edge
NETWORK = blocks.BlockNetwork(
    "mine", (blocks.Layer("conv", 4, 3, activation="relu"),),
    (blocks.Block((NODE, NODE), (EDGE("conv_3x3", 1, 2),
                                 EDGE("conv_1x1", 2, 3),
                                 EDGE("skip_connect", 1, 3))),))

CELL = genotype.Cell(tuple(genotype.Edge(*edge) for edge in (
    ("toy_scale", 0, 2), ("conv_3x3", 1, 2), ("conv_3x3", 0, 3),
    ("max_pool_3x3", 2, 3), ("toy_scale", 3, 4), ("skip_connect", 1, 4))),
    (2, 3, 4))
CELLS = genotype.Genotype(CELL, CELL)
TRAIN = ["--train-epochs", 1, "--train-batch-size", 16, "--train-seeds", 1,
         "--train-init-channels", 4, "--train-cells", 1, "--devices", 1]


def distribution(folder, points, name="toy"):
  """A package that is installed, as far as Python can tell."""
  info = folder / f"{name}-1.0.dist-info"
  info.mkdir(parents=True)
  (info / "METADATA").write_text(
      f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
  (info / "entry_points.txt").write_text(points)
  return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
  """A folder with the toys, and the environment that finds them."""
  folder = tmp_path_factory.mktemp("toys")
  for file in TOYS.glob("*.py"):
    shutil.copy(file, folder)
  distribution(folder, ALL)
  (folder / "cells.json").write_text(codec.to_json(CELLS))
  (folder / "mine.json").write_text(codec.to_json(blocks.check(NETWORK)))
  return folder, {
      **os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
      "JAX_ENABLE_COMPILATION_CACHE": "true",
      "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def start(installed, *argv):
  folder, environment = installed
  return subprocess.Popen(
      [sys.executable, "-m", "natjax.cli", *map(str, argv)], cwd=folder,
      env=environment, text=True, stdout=subprocess.PIPE,
      stderr=subprocess.PIPE, start_new_session=True)


@pytest.fixture
def fresh():
  """Forgets what a test registers."""
  with (mock.patch.dict(methods.METHODS), mock.patch.dict(spaces.SPACES),
        mock.patch.dict(data.LOADERS),
        mock.patch.dict(operations.registry._REGISTRY)):
    yield


def finish(installed, *argv):
  process = start(installed, *argv)
  _, err = process.communicate(timeout=300)
  assert process.returncode == 0, err[-3000:]


@pytest.fixture
def call(installed, fresh, monkeypatch, capsys):
  """`natjax ARGV` where the toys are installed, in this process.

  Returns its exit code and what it printed to stdout and stderr.
  """
  monkeypatch.chdir(installed[0])
  monkeypatch.syspath_prepend(installed[0])

  def called(*argv):
    try:
      code = cli.main(list(map(str, argv)))
    except SystemExit as e:  # Of --help.
      code = e.code
    return code, *capsys.readouterr()

  return called


@pytest.fixture
def run(call):
  """`call`, of a command that does not fail; returns its stdout."""

  def done(*argv):
    code, out, err = call(*argv)
    assert code == 0, err[-3000:]
    return out

  return done


def test_a_toy_fits_in_eighty_lines():
  assert len((TOYS / "toy_method.py").read_text().splitlines()) < 80


@pytest.mark.long
def test_list_and_help_know_what_a_package_adds(run):
  found = json.loads(run("list", "--json"))
  assert found["methods"]["drop"] == "leaves out the edge that is missed least"
  assert found["datasets"]["stripes"] == "160 pictures of stripes, 2 classes"
  assert "toy_scale" in found["operations"] and "toy_space" in found["spaces"]
  text = " ".join(run("transform", "--help").split())
  assert "nat,natpp,differentiable,evolution,climb,replace,drop" in text
  assert "--drop-epochs INT walks over the images" in text
  assert "method drop, and --held-out (" in text  # NAT's flag, too.


ARGV = ["transform", "mine.json", "--method", "drop", "--dataset", "stripes",
        "--preset", "demo", "--drop-epochs", 6, "--train-epochs", 2,
        "--train-batch-size", 16, "--train-seeds", 1, "--checkpoint-seconds", 0,
        "--chunk-seconds", 0.001]


@pytest.fixture(scope="module")
def finished(installed):
  finish(installed, *ARGV, "--out", "whole")
  return installed[0] / "whole"


@pytest.mark.long
def test_the_method_trains_derives_and_draws(run, finished):
  result = json.loads((finished / "result.json").read_text())
  assert result["method"] == "drop" and len(result["changes"]) == 1
  assert len(result["scores"]) == 3  # An edge each.
  assert result["transformed"]["params"] <= result["original"]["params"]
  config = json.loads((finished / "config.json").read_text())
  assert config["search"] == {"drop_epochs": 6, "held_out": 0.2}
  assert config["dataset"] == "stripes"
  rows = [json.loads(line)
          for line in (finished / "metrics.jsonl").read_text().splitlines()]
  assert [r["run"] for r in rows] == (
      ["search"] * 6 + ["original-0"] * 2 + ["transformed-0"] * 2)
  assert (finished / "architecture.svg").exists()
  run("draw", "mine.json", finished / "architecture.json", "--out",
      "picture.svg")
  found = json.loads(run("evaluate", finished, "--json"))
  assert [n["accuracy"] for n in found["networks"]] == [
      result[n]["accuracy"] for n in ("original", "transformed")]


@pytest.mark.long
def test_killed_and_run_again_it_ends_in_the_same_bits(installed, finished):
  folder = installed[0] / "killed"
  process = start(installed, *ARGV, "--out", "killed")
  metrics = folder / "metrics.jsonl"
  while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
    assert process.poll() is None
    time.sleep(0.002)
  os.killpg(process.pid, signal.SIGKILL)
  process.communicate()
  assert not (folder / "networks").exists()
  finish(installed, *ARGV, "--out", "killed")

  def contents(out):
    plain = lambda row: {k: v for k, v in row.items()
                         if "seconds" not in k and k != "time"}
    weights = {}
    for path in sorted(out.glob("networks/*/weights.npz")):
      with np.load(path) as f:
        weights |= {f"{path.parent.name}/{k}": f[k].tobytes() for k in f}
    return (plain(json.loads((out / "result.json").read_text())), weights,
            [plain(json.loads(line)) for line in
             (out / "metrics.jsonl").read_text().splitlines()])

  assert contents(folder) == contents(finished)


@pytest.mark.long
def test_the_space_and_the_operation_in_it(installed, run):
  folder = installed[0]
  run("transform", "cells.json", "--method", "nat", "--space",
      "toy_space", "--dataset", "stripes", "--preset", "demo", "--epochs", 2,
      "--warmup-epochs", 1, "--samples", 2, "--candidates", 2, "--finalists",
      1, "--batch-size", 16, "--init-channels", 4, "--cells", 1, *TRAIN,
      "--out", "space")
  config = json.loads((folder / "space" / "config.json").read_text())
  assert config["space"]["name"] == "toy_space"
  assert config["space"]["candidates"] == [
      "max_pool_3x3", "skip_connect", "toy_scale", "conv_3x3", "null"]
  result = json.loads((folder / "space" / "result.json").read_text())
  assert {c["after"] for c in result["changes"]} <= {"skip_connect", "null"}
  assert result["transformed"]["params"] <= result["original"]["params"]
  found = json.loads(run("evaluate", "space", "--json"))
  for n in found["networks"]:  # One, where nothing changed.
    assert n["accuracy"] == result[n["network"].split("-")[0]]["accuracy"]
  picture = run("draw", "cells.json", "--out", "cells.svg").strip()
  assert "toy_scale" in (folder / picture).read_text()


@pytest.mark.long
def test_the_operation_in_a_network_and_its_cost(installed, run):
  folder = installed[0]
  argv = ["--init-channels", 4, "--cells", 3, "--image-size", 8, "--json"]
  found = json.loads(run("cost", "cells.json", *argv))
  # A factor per channel where a skip, or at stride 2 a pooling, has none.
  normal, reduce = (cell._replace(edges=tuple(
      edge._replace(operation="max_pool_3x3")
      if edge.operation == "toy_scale" else edge for edge in cell.edges))
                    for cell in CELLS)
  (folder / "without.json").write_text(
      codec.to_json(genotype.Genotype(normal, reduce)))
  without = json.loads(run("cost", "without.json", *argv))
  # Two in each cell, 4 channels in the first and 8 and 16 after reductions.
  assert found["params"] - without["params"] == 2 * (4 + 8 + 16)
  run("transform", "cells.json", "--method", "differentiable",
      "--dataset", "stripes", "--preset", "demo", *TRAIN, "--out", "theta")
  result = json.loads((folder / "theta" / "result.json").read_text())
  assert 0 <= result["transformed"]["accuracy"] <= 1
  run("train", "cells.json", "--dataset", "stripes", "--preset",
      "demo", "--epochs", 1, "--batch-size", 16, "--seeds", 1,
      "--init-channels", 4, "--cells", 3, "--devices", 1, "--out", "alone")
  (weights,) = (folder / "alone").glob("networks/*/weights.npz")
  with np.load(weights) as f:
    assert sum(key.endswith("factors") for key in f) == 6


@pytest.mark.long
def test_settings_of_one_method_are_refused_by_another(call):
  for argv, message in (
      (["--method", "nat", "--drop-epochs", 5], "drop-epochs is 5 and does not"
       " apply to --method nat; leave --drop-epochs out"),
      (["--method", "drop", "--samples", 3], "samples is 3 and does not apply"
       " to --method drop; leave --samples out (those that do apply:"
       " drop-epochs, held-out)"),
      (["--method", "drop", "--held-out", 2],
       "held-out is 2.0 and must lie between 0 and 1 (--held-out)"),
      (["--method", "drop", "--objective", "simclr"],
       "objective is simclr and does not apply to --method drop")):
    code, _, text = call("transform", "mine.json", "--dataset", "stripes",
                         *argv, "--dry-run")
    assert code == 2 and message in text, text
    assert text.startswith("natjax: ") and text.count("\n") == 1


@pytest.mark.parametrize("group,target,message", [
    ("methods", "no_such_module:X", "cannot be imported (ModuleNotFoundError"),
    ("methods", "toy_method:X", "cannot be imported (AttributeError"),
    ("methods", "broken:X", "cannot be imported (ZeroDivisionError"),
    ("methods", "toy_method:build", "of type function and must be an Entry"),
    ("methods", "broken:FLAT", "lacks 'settings', which must be a dataclass"),
    ("methods", "broken:NO_BUILD", "lacks 'build', which must be a function"),
    ("methods", "broken:BEGINS", "lacks 'starts', which must be one of given"),
    ("methods", "broken:LEARNS", "lacks 'objectives', which must be some of"),
    ("operations", "toy_method:ENTRY", "must be Operation"),
    ("spaces", "broken:NOTHING", "of type NoneType and must be"),
    ("datasets", "broken:NOTHING", "must be a function"),
    ("methods", "broken:EXITS", "cannot be imported (SystemExit: 3)"),
    ("methods", "broken:UNRESOLVED", "added (NameError: name 'Nowhere' is not"),
    ("methods", "broken:UNHASHABLE", "cannot be added (TypeError"),
    ("methods", "", "its value '' is not of the form module:attribute"),
    ("methods", "!a b: c", "its value '!a b: c' is not of the form"),
    ("operations", "broken:NAMELESS", "name of operation 3 is 3 and must be"),
    ("operations", "broken:STILL", "strides of operation 'still' is () and"),
    ("spaces", "broken:SHORT", "choices is ("),
])
def test_what_cannot_be_added_is_refused_in_one_line(
    group, target, message, fresh, tmp_path, monkeypatch, capsys):
  name = "broken_" + target.partition(":")[2].lower()
  zero = {"broken:X": "1 / 0", "broken:EXITS": "raise SystemExit(3)"}.get(
      target, "")
  (tmp_path / f"{name}.py").write_text(f"""
import dataclasses
from natjax import operations, spaces
from toy_method import ENTRY
{zero}
FLAT = ENTRY._replace(settings=int)
NO_BUILD = ENTRY._replace(build=None)
BEGINS = ENTRY._replace(starts="here")
LEARNS = ENTRY._replace(objectives=("to fly",))
NOTHING = None
class Unresolved:
  x: "Nowhere" = 3
UNRESOLVED = ENTRY._replace(settings=dataclasses.dataclass(Unresolved))
UNHASHABLE = ENTRY._replace(objectives=([],))
NAMELESS = operations.Operation(3, "x", 1, print, print)
STILL = operations.Operation("still", "x", 1, print, print, strides=())
SHORT = spaces.cells("short", ("conv_1x1", "null"))._replace(choices=((),))
""")
  distribution(tmp_path, f"[natjax.{group}]\nmine = "
               f"{target.replace('broken', name)}\n", "strange")
  monkeypatch.syspath_prepend(TOYS)
  monkeypatch.syspath_prepend(tmp_path)
  assert cli.main(["list"]) == 2
  text = capsys.readouterr().err
  assert text.count("\n") == 1 and message in text
  assert f"entry point 'mine' in natjax.{group} of strange" in text
  assert "mine" not in methods.METHODS


@pytest.mark.parametrize("points", [
    "[natjax.methods]\nmine\n", b"\xff\x00"])
def test_entry_points_that_cannot_be_read_are_refused_by_package(
    points, fresh, tmp_path, monkeypatch, capsys):
  distribution(tmp_path, "", "strange")
  (file,) = tmp_path.glob("*/entry_points.txt")
  file.write_bytes(points if isinstance(points, bytes) else points.encode())
  monkeypatch.syspath_prepend(tmp_path)
  assert cli.main(["list"]) == 2
  text = capsys.readouterr().err
  assert text.count("\n") == 1
  assert "the entry points of strange cannot be read" in text


def test_presets_that_are_no_settings_are_refused(fresh, monkeypatch, capsys):
  monkeypatch.setitem(methods.METHODS, "mine", methods.METHODS["nat"]._replace(
      presets=lambda name, objective, kind: None))
  assert cli.main(["transform", "darts", "--method", "mine", "--dataset",
                   "digits", "--dry-run"]) == 2
  text = capsys.readouterr().err
  assert "presets of method 'mine' gave None for demo and must give" in text


@pytest.mark.parametrize("points,message", [
    ("[natjax.methods]\nnat = toy_method:ENTRY", "another method 'nat'"),
    ("[natjax.datasets]\ndigits = toy_dataset:stripes",
     "another data set 'digits'")])
def test_a_name_that_is_taken_is_refused(
    points, message, fresh, tmp_path, monkeypatch):
  distribution(tmp_path, points)
  monkeypatch.syspath_prepend(TOYS)
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(errors.InputError, match=message):
    plugins.load()


def test_a_notebook_may_load_twice(fresh, tmp_path, monkeypatch):
  distribution(tmp_path, ALL)
  monkeypatch.syspath_prepend(TOYS)
  monkeypatch.syspath_prepend(tmp_path)
  with operations.registered(
      importlib.import_module("toy_operation").OPERATION):
    for _ in range(2):
      plugins.load()
  assert "drop" in methods.METHODS and "toy_space" in spaces.SPACES
  found = data.load("stripes", image_size=8)
  assert (found.name, found.num_classes) == ("stripes", 2)
  assert "toy_scale" not in operations.names()


def test_a_flag_of_another_meaning_is_refused(fresh, capsys):
  entry = methods.METHODS["nat"]
  for name, kind, message in (("seed", int, "another flag already"),
                              ("samples", float, "another flag already")):
    made = dataclasses.make_dataclass("Config", [(name, kind, kind())])
    methods.METHODS["strange"] = entry._replace(settings=made)
    assert cli.main(["list"]) == 2
    text = capsys.readouterr().err
    assert message in text and f"'{name}' of method strange" in text


def test_search_is_offered_where_a_method_starts_from_a_space(fresh, capsys):
  entry = methods.METHODS["nat"]
  methods.METHODS["finds"] = entry._replace(starts="space", settings=(
      dataclasses.make_dataclass("Config", [("rounds", int, 3)])))
  with pytest.raises(SystemExit):
    cli.main(["search", "--help"])
  text = capsys.readouterr().out
  assert "--rounds" in text and "--space" in text and "ARCH" not in text
  assert cli.main(["search", "--dataset", "digits"]) == 2
  assert "--space" in capsys.readouterr().err
  assert cli.main(["transform", "darts", "--method", "finds", "--dataset",
                   "digits"]) == 2
  assert "invalid choice: 'finds'" in capsys.readouterr().err
