"""Run folders that somebody changed: one line, exit code 2, and no more."""

import json
import re
import shutil

import pytest

from natjax import cli
from natjax.pipeline import run_data, run_files, runs

TRAIN = ["train", "darts", "--dataset", "digits", "--image-size", "8",
         "--preset", "demo", "--epochs", "1", "--cells", "1",
         "--init-channels", "2", "--seeds", "1", "--batch-size", "512",
         "--devices", "1", "--out"]
NETWORK = "networks/network-0"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  out = tmp_path_factory.mktemp("damaged") / "run"
  assert cli.main([*TRAIN, str(out)]) == 0
  return out


@pytest.fixture
def copy(finished, tmp_path):
  return shutil.copytree(finished, tmp_path / "copy")


def contents(folder):
  return {path: path.is_file() and path.read_bytes()
          for path in folder.rglob("*")}


def check_refused(capsys, *argv):
  capsys.readouterr()
  assert cli.main(list(map(str, argv))) == 2, argv
  *head, text = capsys.readouterr().err.splitlines()
  assert text.startswith("natjax: ") and len(text) < 600
  assert not head or (len(head) == 3 and head[0].startswith("devices: "))
  return text


@pytest.mark.parametrize("text", ["{}", "[]", "null", '"x"', "", "[" * 10**5])
def test_a_result_of_another_shape(text, copy, capsys):
  (copy / "result.json").write_text(text)
  before = contents(copy)
  assert "result.json" in check_refused(capsys, *TRAIN, copy)
  assert contents(copy) == before
  (copy / NETWORK / "result.json").write_text(text)
  for argv in (["evaluate", copy], [*TRAIN, copy]):
    assert "result.json" in check_refused(capsys, *argv)
  (copy / "result.json").unlink()
  assert f"{NETWORK}/result.json" in check_refused(capsys, *TRAIN, copy)


@pytest.mark.parametrize("text", ["{}", "[]", "null", "{", "[" * 10**5])
def test_a_configuration_of_another_shape(text, copy, capsys):
  (copy / "config.json").write_text(text)
  assert "config.json" in check_refused(capsys, "evaluate", copy)
  assert f"{copy}" in check_refused(capsys, *TRAIN, copy)


@pytest.mark.parametrize("key", ["dataset", "image_size", "classes", "crc32"])
def test_a_configuration_that_lacks_what_evaluation_needs(key, copy, capsys):
  path = copy / "config.json"
  config = json.loads(path.read_text())
  for value in (None, [], {}, 1.5):
    path.write_text(json.dumps({**config, key: value}))
    assert key in check_refused(capsys, "evaluate", copy)
  del config[key]
  path.write_text(json.dumps(config))
  assert f"{key} is missing" in check_refused(capsys, "evaluate", copy)


def test_a_source_of_data_with_settings_of_no_version(copy, capsys):
  path = copy / "config.json"
  config = json.loads(path.read_text())
  run_files.write_kept(
    path, {**config, "source": {**config["source"], "other": 1}})
  text = check_refused(capsys, "evaluate", copy)
  assert "config.json is damaged" in text and "other" in text


def test_folders_and_files_in_the_place_of_each_other(copy, capsys):
  (copy / "result.json").unlink()
  shutil.rmtree(copy / NETWORK)
  shutil.rmtree(copy / "checkpoint")
  (copy / "checkpoint").write_text("x")
  assert "checkpoint is a file and must be a folder" in check_refused(
      capsys, *TRAIN, copy)
  (copy / "checkpoint").unlink()
  (copy / "metrics.jsonl").unlink()
  (copy / "metrics.jsonl").mkdir()
  assert "metrics.jsonl is a folder" in check_refused(capsys, *TRAIN, copy)


@pytest.mark.parametrize("line", [
    "3", "{", '{"run": "x", "epoch": 1, "theta": 3, "weights": 3}',
    '{"run": "x", "epoch": 1, "theta": {"a": [1]}, "weights": {"a": [1]}}'])
def test_rows_of_another_shape(line, copy, capsys):
  path = copy / "metrics.jsonl"
  path.write_text(f"{line}\n{path.read_text()}")
  for flag in ("--theta", "--alpha"):
    text = check_refused(
        capsys, "draw", copy, flag, "--out", copy / "picture.svg")
    assert "metrics.jsonl is damaged" in text and "(--out" not in text


def test_rows_that_a_checkpoint_counts_and_that_are_gone(copy, capsys):
  (copy / "result.json").unlink()
  (copy / NETWORK / "result.json").unlink()
  (copy / "metrics.jsonl").write_text("")
  before = contents(copy)
  text = check_refused(capsys, *TRAIN, copy)
  assert "has 0 of the 1 rows of network-0" in text and "--overwrite" in text
  after = contents(copy)
  assert {path: after[path] for path in before} == before


def test_an_evaluation_names_what_was_changed(copy, capsys):
  said = lambda: (cli.main(["evaluate", str(copy)]), capsys.readouterr().out)
  code, whole = said()
  assert code == 0 and "restore" not in whole
  path = copy / "architecture.json"
  text = path.read_text()
  path.write_text(text.replace(" ", "  ", 1))
  code, other = said()
  assert code == 0 and "architecture.json is not what the run" in other
  assert cli.main(["evaluate", str(copy), "--json"]) == 0
  assert "architecture.json" in json.loads(capsys.readouterr().out)["changed"]
  path.write_text(text)
  (copy / "checksums.json").unlink()
  code, other = said()
  assert code == 0 and "checksums.json is gone, by which" in other


@pytest.mark.long
def test_a_network_that_is_gone_is_said(tmp_path, capsys):
  argv = [*TRAIN, tmp_path / "run"]
  argv[argv.index("--seeds") + 1] = 2
  argv = [*map(str, argv)]
  assert cli.main(argv) == 0
  shutil.rmtree(tmp_path / "run" / "networks" / "network-1")
  capsys.readouterr()
  assert cli.main(["evaluate", argv[-1]]) == 0
  assert ("networks/network-1, which it had when it was finished, is gone"
          ) in " ".join(capsys.readouterr().out.split())
  assert cli.main(["evaluate", argv[-1], "--json"]) == 0
  assert json.loads(capsys.readouterr().out)["gone"] == ["networks/network-1"]


@pytest.mark.parametrize("name", [
    "networks", f"{NETWORK}/weights.npz", "architecture.json", "metrics.jsonl"])
def test_what_a_finished_run_has_no_more_is_said(name, copy, capsys):
  capsys.readouterr()
  assert cli.main([*TRAIN, str(copy)]) == 0
  whole = " ".join(capsys.readouterr().out.split())
  assert "gone" not in whole and "networks/ (" in whole
  path = copy / name
  shutil.rmtree(path) if path.is_dir() else path.unlink()
  before = contents(copy)
  assert cli.main([*TRAIN, str(copy)]) == 0
  text = " ".join(capsys.readouterr().out.split())
  shown = NETWORK if path.name == "networks" else name
  assert f"{shown}, which it had when it was finished, is gone; the" in text
  if "/" not in name and path.suffix != ".jsonl":
    listed, = re.findall(r"result\.json, (.*?) \(", text)
    assert name not in listed
  assert contents(copy) == before


def test_data_that_is_not_the_runs(copy, capsys, monkeypatch):
  config = json.loads((copy / "config.json").read_text())
  assert config["source"] == {"name": "digits", "data_dir": None}
  describe = run_data.describe
  monkeypatch.setattr(run_data, "describe", lambda d: {
      **describe(d), "crc32": config["crc32"] + 1})
  assert "is not what" in check_refused(capsys, "evaluate", copy)
  assert cli.main(["evaluate", str(copy), "--dataset", "digits"]) == 0
  assert "not what they were trained on" in capsys.readouterr().out


def test_a_folder_in_which_another_process_runs(copy, capsys):
  before = contents(copy)
  with runs.locked(copy):
    for flags in ([], ["--overwrite"]):
      assert "another process runs in" in check_refused(
          capsys, *TRAIN, copy, *flags)
  assert contents(copy) == before
  assert cli.main([*TRAIN, str(copy)]) == 0


@pytest.mark.parametrize("damage", [
    lambda folder: [path.unlink() for path in folder.glob("*.seal")] and (
        folder / "0").rename(folder / "5"),
    lambda folder: shutil.rmtree(folder / "0"),
    lambda folder: (folder / "0.seal").write_text("[" * 10**5)])
def test_checkpoints_whose_seals_or_folders_are_gone(damage, copy, capsys):
  (copy / "result.json").unlink()
  (copy / NETWORK / "result.json").unlink()
  damage(copy / NETWORK / "checkpoint")
  before = contents(copy)
  text = check_refused(capsys, *TRAIN, copy)
  assert f"{NETWORK}/checkpoint" in text and "damaged" in text
  assert contents(copy) == before
