"""Smoke of the face experiment; nothing of accuracy."""

import json

import pytest

from tests.experiments import scripts


def check(folder, done, networks):
  assert done.returncode == 0, done.stderr
  result = json.loads((folder / "report" / "result.json").read_text())
  assert list(result["networks"]) == networks
  for rows in result["networks"].values():
    for row in rows.values():
      (accuracy,) = row["pairs"]["made"]["accuracy"]
      assert 0.3 <= accuracy <= 1 and 0 <= row["accuracy"] <= 1
      assert row["params"] <= rows["original"]["params"]
      assert row["madds"] <= rows["original"]["madds"]
  text = (folder / "report" / "README.md").read_text()
  for part in ("| original |", "The images are made", "99.83 / 96.72 / 98.35",
               "faces.py --preset smoke", "jax 0."):
    assert part in text


@pytest.mark.long
def test_compares_and_records(tmp_path):
  done = scripts.run("-c", scripts.UNTRAINED, "faces",
                     *scripts.flags(tmp_path))
  check(tmp_path, done, ["lresnet34e-ir"])
  assert "original-0" in done.stdout and "search" in done.stdout


@pytest.mark.slow
def test_smoke_trains_both_networks(tmp_path):
  names = ["lresnet34e-ir", "mobilefacenet"]
  done = scripts.run(scripts.EXPERIMENTS / "faces.py",
                     *scripts.flags(tmp_path, "--networks", *names))
  check(tmp_path, done, names)


@pytest.mark.long
def test_the_papers_size_is_estimated(tmp_path):
  done = scripts.run(
      scripts.EXPERIMENTS / "faces.py", "--preset", "paper", "--dry-run",
      "--networks", "mobilefacenet", "--out", tmp_path / "run")
  assert done.returncode == 0, done.stderr
  rows = {row[0]: row[1:] for row in (
      line.strip("| ").split(" | ") for line in done.stdout.splitlines()
      if line.startswith("| mobilefacenet"))}
  runs, steps, memory, hours = rows[
      "mobilefacenet: trained as given and by both"]
  assert (int(runs), int(steps)) == (3, pytest.approx(96_000, rel=0.01))
  assert float(memory) > 1
  # Forward 221.0 M multiply-adds and those of the cosines, thrice in all.
  assert float(hours) == pytest.approx(
      2 * 3 * (221.0e6 + 128 * 10572) * 512 * int(steps) / 10e12 / 3600,
      rel=0.01)
  assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_what_lacks_is_one_line(tmp_path):
  done = scripts.run(scripts.EXPERIMENTS / "faces.py", "--preset", "paper",
                     "--data-dir", tmp_path, "--out", tmp_path / "run")
  assert done.returncode == 2
  assert "lacks lfw.bin, cfp_fp.bin, agedb_30.bin" in done.stderr
