"""The commands on a user's own network of blocks, from end to end."""

import json
import shutil
import types

import numpy as np
import pytest

from natjax import cli, data
from natjax.costs import exact as cost
from natjax.graph import blocks, codec
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import run_files

EDGE = blocks.Edge
PLAIN = blocks.Block(
    (blocks.Node(8, activation="relu"), blocks.Node(8, activation="prelu")),
    (EDGE("conv_3x3", 1, 2), EDGE("conv_3x3", 2, 3),
     EDGE("skip_connect", 1, 3)))
STRIDED = blocks.Block((blocks.Node(16, 2, "relu"),),
                       (EDGE("conv_3x3", 1, 2),))
MINE = blocks.BlockNetwork(
    "mine", stem=(blocks.Layer("conv", 8, 3, activation="relu"),),
    blocks=(PLAIN, PLAIN, PLAIN, STRIDED))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp("blocks")
  (path / "mine.json").write_text(codec.to_json(blocks.check(MINE)))
  return path


def command(folder, *more):
  return ["transform", str(folder / "mine.json"), "--method", "natpp",
          "--dataset", "digits", "--out", str(folder / "run"), "--devices", "1",
          "--epochs", "2", "--warmup-epochs", "1", "--candidates", "4",
          "--finalists", "1", "--train-epochs", "2", "--train-seeds", "1",
          "--max-params", "0.9x", *more]


@pytest.fixture(scope="module")
def run(folder):
  assert cli.main(command(folder)) == 0
  out = folder / "run"
  return types.SimpleNamespace(
      out=out, result=run_files.read_json(out / "result.json"))


@pytest.mark.long
def test_the_transformed_network_keeps_to_the_budget(run):
  result, frame = run.result, blocks.Frame(10, 8)
  before, after = (codec.from_dict(result["architectures"][k])
                   for k in ("original", "transformed"))
  assert before == blocks.pad(blocks.check(MINE))
  assert codec.read(run.out / "architecture.json") == after
  for name, network in (("original", before), ("transformed", after)):
    found = cost.network(network, frame)
    assert result[name]["params"] == found.params
    assert result[name]["madds"] == found.madds
  assert result["transformed"]["params"] <= 0.9 * result["original"]["params"]
  # Blocks of one topology are transformed alike.
  assert len(set(after.blocks[:3])) == 1
  assert all(row["params"] <= 0.9 * result["original"]["params"]
             for row in result["candidates"])
  assert {c["cell"] for c in result["changes"]} <= {"blocks 0-2", "block 3"}


@pytest.mark.long
def test_the_same_command_finds_the_result(run, folder, capsys):
  before = (run.out / "result.json").read_bytes()
  assert cli.main(command(folder)) == 0
  assert "edges that changed" in capsys.readouterr().out
  assert (run.out / "result.json").read_bytes() == before


@pytest.mark.long
def test_trained_networks_are_evaluated_and_applied(run, capsys):
  assert cli.main(["evaluate", str(run.out), "--json"]) == 0
  found = json.loads(capsys.readouterr().out)["networks"]
  assert [n["network"] for n in found] == ["original-0", "transformed-0"]
  for row, name in zip(found, ("original", "transformed"), strict=True):
    assert row["accuracy"] == run.result[name]["accuracy"]
  net = networks_lib.load(run.out)
  assert isinstance(net.architecture, blocks.BlockNetwork)
  digits = data.load("digits", image_size=8)
  right = np.mean(net.predict(digits.test_images) == digits.test_labels)
  assert right == pytest.approx(run.result["transformed"]["accuracy"])


@pytest.mark.long
def test_a_run_is_costed_at_its_own_size(run, folder, capsys):
  counted = lambda *args: [cli.main(["cost", *map(str, args), "--json"]), (
      json.loads(capsys.readouterr().out))][1]
  found = counted(run.out)
  assert {k: found[k] for k in ("params", "madds")} == {
      k: run.result["transformed"][k] for k in ("params", "madds")}
  assert found["skeleton"] == {
      "num_classes": 10, "image_size": 8, "embedding": 0}
  # A network of it, too; a file knows nothing, and flags overrule.
  of_network = counted(run.out / "networks" / "original-0")
  assert of_network["madds"] == run.result["original"]["madds"]
  assert counted(folder / "mine.json")["skeleton"]["image_size"] == 32
  flags = ("--image-size", "16", "--classes", "3")
  assert counted(run.out, *flags)["skeleton"] == {
      "num_classes": 3, "image_size": 16, "embedding": 0}


@pytest.mark.long
@pytest.mark.parametrize("name, change", [
    ("config.json", {"image_size": 0}), ("config.json", {"classes": -1}),
    ("networks/original-0/result.json", {"place": {}}),
    ("networks/original-0/result.json", {"place": {
        "image_size": "8", "num_classes": 10}})])
def test_a_run_of_no_size_is_refused(run, name, change, tmp_path, capsys):
  path = shutil.copytree(run.out, tmp_path / "run") / name
  path.with_name("checksums.json").unlink()
  config = tmp_path / "run" / "config.json"  # As of an earlier version.
  for file, values in ((config, {"checksums": False}), (path, change)):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
  assert cli.main(["cost", str(path.parent)]) == 2
  error = capsys.readouterr().err
  assert f"{path} is damaged: a network for" in error
  assert error.count("\n") == 1


@pytest.mark.parametrize("flags, words", [
    (["--max-madds", "1.5x"], "max-madds is 1.5x and bounds nothing: the given"
     " network has"),
    (["--max-params", "1x", "--max-madds", "900G"],
     "max-params is 1x and bounds nothing"),
    (["--max-params", "0.9x"], "")])
def test_a_budget_that_bounds_nothing_is_said(flags, words, capsys, tmp_path):
  assert cli.main([
      "transform", "resnet20", "--method", "replace", "--dataset", "digits",
      "--dry-run", "--json", "--tolerance", "1", *flags,
      "--out", str(tmp_path / "run")]) == 0
  text = capsys.readouterr().err
  assert len(text.splitlines()) == bool(words) and words in text


@pytest.mark.long
def test_pictures_show_every_kind_of_block_once(run, folder):
  picture = folder / "picture.svg"
  # Side by side with what it became, which is padded: another graph.
  assert cli.main(["draw", str(folder / "mine.json"),
                   str(run.out / "architecture.json"), "--out",
                   str(picture)]) == 0
  assert "not a transformation" in picture.read_text()
  assert cli.main(["draw", str(folder / "mine.json"), "--out",
                   str(picture)]) == 0
  text = picture.read_text()
  assert "blocks 0-2" in text and "block 3" in text
  assert "blocks 0-2" in (run.out / "architecture.svg").read_text()


@pytest.mark.long
@pytest.mark.parametrize("more, message", [
    (["--init-channels", "4"], "--init-channels"),
    (["--train-cells", "3"], "--train-cells"),
    (["--train-auxiliary"], "--train-auxiliary"),
    (["--train-drop-path", "0.1"], "--train-drop-path"),
    (["--space", "natpp"], "--space"), (["--share", "some"], "cell, full"),
    (["--train-skeleton", "imagenet"], "its own"),
    (["--width", "0"], "--width 0.5"), (["--max-params", "many"], "0.8x"),
    (["--policy", "published", "--share", "full", "--held-out", "0.1"],
     "use the default policy, or share cell"),
])
def test_what_does_not_apply_is_refused(folder, capsys, more, message):
  out = folder / "refused"
  args = [*command(folder), *more, "--out", str(out)]
  assert cli.main(args) == 2
  error = capsys.readouterr().err
  assert message in error and error.count("\n") == 1
  assert not out.exists()


@pytest.mark.long
def test_a_budget_that_nothing_meets_has_its_own_code(folder, capsys):
  out = folder / "over"
  assert cli.main([*command(folder, "--max-params", "10"), "--out",
                   str(out)]) == 3
  error = capsys.readouterr().err
  assert "parameters" in error and error.count("\n") == 1
  assert not out.exists()


def test_names_strings_and_unshared_cells(tmp_path, capsys):
  string = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|none~2|"
  for arch, more, blocks_count in (
      ("resnet20", [], 9), (string, [], 17),
      ("darts", ["--share", "full"], 4)):
    assert cli.main(["transform", arch, "--method", "natpp", "--dataset",
                     "digits", "--dry-run", "--json", *more]) == 0
    shown = json.loads(capsys.readouterr().out)["configuration"]
    network = codec.from_dict(shown["architecture"])
    assert len(network.blocks) == blocks_count
  assert cli.main(["cost", string, "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["flops"] == found["madds"] + 10
  assert cli.main(["transform", "darts", "--dataset", "digits", "--share",
                   "full", "--train-drop-path", "0.1", "--dry-run"]) == 2
