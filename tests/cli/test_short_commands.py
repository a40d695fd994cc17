"""Commands that take no time: cost, list, operations, draw, help."""

import contextlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
from xml.etree import ElementTree

from PIL import Image
import pytest

import natjax
from natjax import cli, data, errors, operations, spaces, zoo
from natjax.costs import exact as cost
from natjax.graph import codec, skeleton
from natjax.graph import genotype as architecture
from natjax.pipeline import presets, run_files
from tests.cli.commands import GENOTYPE, run, run_json, write


def test_cost_of_the_papers_networks():
  darts = run_json("cost", "darts", "--json")
  assert (darts["params"], darts["madds"]) == (3349342, 528359040)
  assert type(darts["params"]) is type(darts["madds"]) is int
  imagenet = run_json("cost", "darts", "--skeleton", "imagenet", "--json")
  assert imagenet["params"] == 4718752
  assert imagenet["skeleton"]["image_size"] == 224


def test_cost_takes_the_skeletons_flags():
  found = run_json("cost", "darts", "--init-channels", 4, "--cells", 3,
                   "--classes", 5, "--image-size", 16, "--json")
  place = skeleton.Skeleton("cifar", 4, 3, 5, 16)
  assert found["skeleton"] == place._asdict()
  assert (found["params"], found["madds"]) == cost.network(
      zoo.get("darts"), place)[:2]


def test_cost_in_words():
  code, out, err = run("cost", "DARTS")
  assert (code, err) == (0, "")
  assert len(out.splitlines()) == 1
  assert "3349342 parameters" in out and "528.4 M" in out


@pytest.mark.parametrize("name", ["g.json", "g.txt", "g.py", "g"])
def test_cost_reads_files_of_both_forms(tmp_path, monkeypatch, name):
  monkeypatch.chdir(tmp_path)
  genotype = zoo.get("darts")
  text = {"g.json": codec.to_json(genotype),
          "g.py": f"DARTS_V2 = {architecture.to_darts(genotype)}\n"}
  write(tmp_path / name, text.get(name, architecture.to_darts(genotype)))
  assert run_json("cost", name, "--json")["params"] == 3349342


def test_paths_are_printed_as_they_are(tmp_path):
  folder = tmp_path / "a[bold]b[red]:smile:"
  folder.mkdir()
  path = write(folder / "g.json", GENOTYPE)
  assert run("cost", path)[1].startswith(f"{path}: ")
  assert run("draw", path, "--out", folder / "g.svg")[1] == (
      f"{folder / 'g.svg'}\n")


def test_version(capsys):
  with pytest.raises(SystemExit) as e:
    cli.main(["--version"])
  assert e.value.code == 0
  assert capsys.readouterr().out == f"natjax {natjax.__version__}\n"


def test_list_names_everything():
  code, out, _ = run("list")
  assert code == 0
  listing = run_json("list", "--json")
  assert list(listing["architectures"]) == list(zoo.names())
  for name in ("darts", "resnet20"):
    facts = listing["architectures"][name]
    assert {k: facts[k] for k in ("params", "madds")} == {
        k: v for k, v in run_json("cost", name, "--json").items()
        if k in ("params", "madds")}
  assert listing["architectures"]["darts"]["kind"] == "cells"
  assert ("darts: 3.35 M parameters, 528 M multiply-adds, cells; DARTS (Liu et"
          " al., 2019)") in out
  assert listing["architectures"]["resnet20"]["source"] == (
      "ResNet (He et al., 2016)")
  assert listing["operations"] == list(operations.names())
  assert listing["datasets"] == data.names()
  assert listing["spaces"] == list(spaces.SPACES)
  assert listing["presets"] == list(presets.PRESETS)
  assert list(listing["methods"]) == [
      "nat", "natpp", "differentiable", "darts", "entrannas", "entrannas-dst",
      "it-nas", "spos", "evolution", "climb", "random", "replace"]
  words = out.replace(",", " ").replace(":", " ").split()
  for names in listing.values():
    assert set(names) <= set(words)


def test_operations_are_figure_4b():
  rows = {r["operation"]: r for r in run_json(
      "operations", "--channels", 128, "--image-size", 32, "--json")}
  assert set(rows) == set(operations.names())
  costs = {n: (r["params"], r["madds"]) for n, r in rows.items()}
  assert costs["sep_conv_3x3"] == (35072, 35913728)
  assert costs["max_pool_5x5"] == (0, 3276800)
  assert costs["skip_connect"] == (0, 131072)
  assert costs["null"] == (0, 0)
  assert rows["sep_conv_3x3"]["kernel_size"] == 3


def test_operations_in_words():
  code, out, _ = run("operations")
  assert code == 0
  assert "35.1" in out and "35.9" in out and "dil_conv_5x5" in out


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_draw(tmp_path, suffix):
  if suffix == "png":
    pytest.importorskip("matplotlib")
  path = tmp_path / f"f.{suffix}"
  code, out, err = run("draw", "darts", "nat_darts", "--out", path)
  assert (code, out, err) == (0, f"{path}\n", "")
  if suffix == "svg":
    assert ElementTree.parse(path).getroot().tag.endswith("svg")
  else:
    with Image.open(path) as image:
      assert image.format == "PNG" and min(image.size) > 100


@pytest.mark.parametrize("command", [
    [], ["transform"], ["search"], ["train"], ["evaluate"], ["draw"], ["cost"],
    ["explain"], ["list"], ["operations"]])
def test_help(command):
  out = io.StringIO()
  with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as exit_info:
    cli.main([*command, "--help"])
  assert exit_info.value.code == 0
  assert out.getvalue().startswith("usage: natjax")


def make_run(folder, architecture, kind="search"):
  folder.mkdir(parents=True)
  write(folder / "config.json", {
      "kind": kind, "dataset": "digits", "image_size": 32, "classes": 10,
      "crc32": 0})
  write(folder / "architecture.json", codec.to_json(architecture))
  return folder


def test_a_run_over_several_seeds_has_one_architecture_per_seed(tmp_path):
  found = {name: zoo.get(name) for name in ("darts", "enas")}
  whole = make_run(tmp_path / "run", found["darts"])
  seeds = [make_run(whole / f"seed-{3 + i}", found[name])
           for i, name in enumerate(found)]
  write(seeds[1] / "result.json", {})
  # A seed that is finished may be taken before all are.
  costs = {name: run_json("cost", name, "--json")["params"] for name in found}
  assert run_json("cost", seeds[1], "--json")["params"] == costs["enas"]
  for folder in (whole, seeds[0]):
    code, _, err = run("cost", folder)
    assert code == 2 and "not finished" in err and len(err.splitlines()) == 1
  write(whole / "result.json", {})
  assert run_json("cost", whole, "--json")["params"] == costs["darts"]


def test_a_run_of_blocks_brings_its_skeleton(tmp_path):
  folder = make_run(tmp_path / "run", zoo.get("resnet20"), "train")
  write(folder / "result.json", {})
  half = run_json("cost", folder, "--width", 0.5, "--json")
  assert half["params"] == run_json(
      "cost", "resnet20", "--width", 0.5, "--json")["params"]
  code, _, err = run("cost", folder, "--skeleton", "imagenet")
  assert code == 2 and "brings its own; leave the option out" in err
  # Cells stand in any.
  write(folder / "architecture.json", codec.to_json(zoo.get("darts")))
  assert run_json("cost", folder, "--skeleton", "imagenet", "--json") | {
      "architecture": "darts"} == run_json(
          "cost", "darts", "--skeleton", "imagenet", "--json")


def test_a_file_of_the_name_of_a_known_architecture_is_said_to_be_read(
    tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  write(tmp_path / "vgg16", architecture.to_darts(zoo.get("enas")))
  params = lambda arch: run_json("cost", arch, "--json")["params"]
  assert params("vgg16") == params("enas")
  capsys.readouterr()
  assert cli.main(["cost", "vgg16"]) == 0
  assert "vgg16 is what the file vgg16 holds" in capsys.readouterr().err


def test_a_folder_does_not_hide_a_known_architecture(
    tmp_path, monkeypatch, capsys):
  """The same command resumes `natjax train darts --out darts`."""
  monkeypatch.chdir(tmp_path)
  folder = make_run(tmp_path / "DARTS", zoo.get("enas"))
  write(folder / "result.json", {})
  params = lambda arch: run_json("cost", arch, "--json")["params"]
  assert params("DARTS") == params("darts")
  assert params("./DARTS") == params("enas") != params("darts")
  assert cli.main(["cost", "DARTS"]) == 0
  assert capsys.readouterr().err == (
      "DARTS is that of `natjax list`, not the run in the folder DARTS; write"
      " ./DARTS for that\n")
  assert cli.main(["cost", "./DARTS"]) == 0
  assert cli.main(["cost", "pdarts"]) == 0
  assert capsys.readouterr().err == ""


@pytest.mark.parametrize("encoding,name", [
    ("ascii", "gr??e.json"), ("utf-8", "größe.json")])
def test_letters_that_the_terminal_does_not_have(
    encoding, name, genotype_file, tmp_path):
  shutil.copy(genotype_file, tmp_path / "größe.json")

  def run(*flags):
    return subprocess.run(
        [sys.executable, "-m", "natjax", "cost", "größe.json", *flags],
        cwd=tmp_path, check=True, capture_output=True, env={
            **os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH":
            str(pathlib.Path(natjax.__file__).parents[1])}).stdout

  assert run().decode(encoding).startswith(f"{name}: ")
  assert json.loads(run("--json"))["architecture"] == "größe.json"


def test_a_file_is_not_damaged_for_what_cannot_be_printed():
  with pytest.raises(UnicodeEncodeError), run_files.reading("result.json"):
    "\xb1".encode("ascii")
  with pytest.raises(errors.InputError, match="is damaged"), (
      run_files.reading("result.json")):
    b"\xb1".decode("ascii")


@pytest.mark.parametrize("out", [["--out=~/a.json"], ["--out", "~/a.json"]])
def test_a_file_in_the_home(out, tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.chdir(tmp_path)
  assert cli.main(["convert", "darts", "--to", "json", *out]) == 0
  assert (tmp_path / "a.json").is_file() and not (tmp_path / "~").exists()
  assert cli.main(["cost", "~/a.json"]) == 0
  assert "3349342 parameters" in " ".join(capsys.readouterr().out.split())
