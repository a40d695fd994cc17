"""Smoke of EnTranNAS's tables, at sizes that say nothing of accuracy."""

import dataclasses
import importlib
import itertools
import json

import numpy as np
import pytest

from natjax import data, errors, pipeline, spaces, zoo
from natjax.graph import codec
from tests.experiments import scripts


@pytest.fixture
def script(monkeypatch):
  monkeypatch.syspath_prepend(str(scripts.EXPERIMENTS))
  return importlib.import_module("entrannas")


def check_record(script, folder):
  """What holds of every record."""
  result = json.loads((folder / "report" / "result.json").read_text())
  found = result["runs"]
  assert set(found) == {
      "engines-all", "engines-half", "engines-last", "entrannas", "darts",
      "entrannas-dst", "sparsity-0.2"}
  for name, rows in found.items():
    trained = name in script.PAPER[2]
    assert len(rows) == (2 if trained else 1)
    for row in rows:
      assert ("accuracy" in row) == trained
      genotype = codec.from_dict(row["architecture"])
      for cell, kept in (("normal", genotype.normal),
                         ("reduce", genotype.reduce)):
        assert row["connections"][cell] == len(kept.edges)
        assert row["edges"][cell] == len({e[1:] for e in kept.edges})
      assert row["course"][-1] == sum(row["connections"].values())
      assert row["imagenet_params"] > row["params"] > 0
  for method, taus in result["kendall"].items():
    assert method in script.PAPER[2]
    assert all(t is None or abs(t) == 1 for t in taus.values())  # Of two.
  text = (folder / "report" / "README.md").read_text()
  for part in ("| all (DARTS's) |", "| 88.29 | 63.97 |", "| 0.60 |",
               "| 9 / 8 | 5.07 | 580 |", "entrannas.py --preset smoke",
               "CPU cores", "jax 0."):
    assert part in text
  for name in ("ranking", "connections"):
    assert f"({name}.svg)" in text
    assert (folder / "report" / f"{name}.svg").stat().st_size
  return found


@pytest.mark.long
def test_makes_the_tables(script, tmp_path, monkeypatch):
  pytest.importorskip("matplotlib")
  monkeypatch.setitem(spaces.SPACES, script.SMOKE.name, script.SMOKE)
  done = scripts.run("-c", scripts.UNTRAINED, "entrannas",
                     *scripts.flags(tmp_path))
  assert done.returncode == 0, done.stderr
  check_record(script, tmp_path)
  result = json.loads((tmp_path / "report" / "result.json").read_text())
  for name in ("engines-half", "darts", "sparsity-0.2"):
    del result["runs"][name]
  del result["kendall"]["darts"], result["runs"]["entrannas"][0]
  text = script.readme(script.PRESETS["smoke"], result | {
      "missing": {"darts seed 0": "not run"}})
  assert "Missing: darts seed 0 (not run)." in text
  assert "| last |" in text and "| EnTranNAS |" in text and "| 0.1 |" in text
  # Of the first seeds there is none.
  assert not {"| one half |", "| first |", "| DARTS |", "| 0.2 |"} & {
      line[:line.find("|", 2) + 1] for line in text.splitlines()}
  script.draw(script.PRESETS["smoke"], result, tmp_path)
  assert done.stdout.split("trained: ")[1].split().count("search") == 10


@pytest.mark.slow
def test_smoke_trains_and_runs_nothing_again(script, tmp_path, capsys):
  pytest.importorskip("matplotlib")
  argv = [*map(str, scripts.flags(tmp_path))]
  script.main(argv)
  assert "loss" in capsys.readouterr().out
  found = check_record(script, tmp_path)
  script.main(argv)
  assert "loss" not in capsys.readouterr().out
  assert check_record(script, tmp_path) == found


def test_the_best_of_several_searches_is_trained(script, tmp_path, monkeypatch):
  """Table 6, of searches that are made up."""
  config = dataclasses.replace(
      script.PRESETS["smoke"], candidates=2, tables=(6,))
  rows = [{"seed": i, "parent_accuracy": a, "architecture": codec.to_dict(
      zoo.get("darts"))} for i, a in enumerate((0.1, 0.3, 0.9))]

  def train(architecture, dataset, **settings):
    assert architecture == zoo.get("darts")
    return {"accuracies": [0.9, 0.8], "params": 10, "madds": 20,
            "architecture": codec.to_dict(architecture)}

  monkeypatch.setattr(script.pipeline, "train", train)
  best = script.train_best(rows, "entrannas", config, None, tmp_path)
  assert best["seed"] == 1 and best["accuracies"] == [0.9, 0.8]
  lines = script._table_6(config, {"best": {"entrannas": best}})
  assert any("| 15.00 ± 7.07 |" in line for line in lines)


def test_kendalls_tau(script):
  assert script.kendall([1, 2, 3], [4, 5, 6]) == 1
  assert script.kendall([1, 2, 3], [6, 5, 4]) == -1
  assert script.kendall([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(2 / 3)
  # Of six pairs, one is equal in the first: 5 / sqrt(5 * 6).
  assert script.kendall([1, 1, 2, 3], [1, 2, 3, 4]) == pytest.approx(
      5 / np.sqrt(30))
  assert script.kendall([1, 1], [1, 2]) is None
  taus = [script.kendall(range(5), order)
          for order in itertools.permutations(range(5))]
  assert np.mean(taus) == pytest.approx(0, abs=1e-12)
  assert np.std(taus) == pytest.approx(script.chance(5))


@pytest.mark.parametrize("preset", ["small", "paper"])
def test_presets_can_be_run(script, preset):
  config = script.PRESETS[preset]
  size, labels = config.image_size, np.arange(1200) % 10
  images = np.zeros((1200, size, size, 3), np.uint8)
  noise = data.make_dataset(
      "noise", (images, labels), (images, labels), image_size=size)
  found = script.plan(config)
  assert found["entrannas"].trained and found["entrannas"].seeds == 6
  assert found["sparsity-0.05"].search.sparsity == 0.05
  assert found["engines-half"].search.engines == "half"
  for run in found.values():
    job = pipeline.Job(
        None, noise, run.method, run.search, config.train,
        space=run.space or config.space, seeds=run.seeds,
        train_found=run.trained)
    # "half" is not "first".
    normal = job.plan.settings.cells - 2
    assert normal // 2 > 1
  if preset == "paper":
    assert found["entrannas-12"].space == "darts12"
    search = found["entrannas"].search
    assert (search.batch_size, search.learning_rate, search.epochs) == (
        512, 0.2, 50)


def test_what_the_library_cannot_run_is_refused(script, tmp_path):
  with pytest.raises(errors.InputError, match="Table 7"):
    script.main(["--preset", "imagenet", "--out", str(tmp_path / "run")])
  with pytest.raises(errors.InputError, match="invalid choice: 5"):
    script.main(["--tables", "5", "--out", str(tmp_path / "run")])
