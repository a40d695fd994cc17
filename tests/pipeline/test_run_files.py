"""Files of runs: JSON, and the checksums of what a run wrote."""

import shutil

import pytest

from natjax import errors
from natjax.pipeline import run_files, runs
from tests.pipeline.test_runs import CONFIG, contents


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
