"""Smoke of the searches on NAS-Bench-201, against a table that is made up."""

import importlib
import itertools
import json

import numpy as np
import pytest

from natjax import data, errors, pipeline, zoo
from natjax.benchmarks import nasbench201
from natjax.graph import codec
from natjax.graph import nasbench201 as cells
from natjax.methods import darts, it_nas, random_search, spos
from tests.experiments import scripts

ALPHA = ["darts", "entrannas", "entrannas-dst"]
OTHERS = ["it-nas", "spos"]


@pytest.fixture
def script(monkeypatch):
  monkeypatch.syspath_prepend(str(scripts.EXPERIMENTS))
  return importlib.import_module("nasbench201_search")


def make_table():
  """Accuracies by code, so that a cell is known by what it reaches."""
  params, madds = zoo.nasbench201.costs("cifar10")
  code = np.arange(cells.COUNT, dtype=np.float64)
  columns = dict.fromkeys(cells.COLUMNS[:4], code / 1000.0)
  one = {**columns, "params": params, "flops_M": madds / 1e6}
  return nasbench201.Table(np.arange(cells.COUNT, dtype=np.int32), {
      "cifar10": one, "cifar100": {**one, "test_200ep": code[::-1] / 1e3}})


@pytest.fixture(scope="module")
def table():
  return make_table()


def flags(folder, table, *more):
  path = folder / "table.csv"
  path.write_text(nasbench201.to_csv(table))
  return [*map(str, scripts.flags(folder, "--table", path)), *more]


@pytest.mark.long
def test_smoke_looks_up_what_it_finds_and_runs_nothing_again(
    script, table, tmp_path, capsys):
  pytest.importorskip("matplotlib")
  argv = flags(tmp_path, table, "--methods", "darts")
  script.main(argv)
  assert "loss" in capsys.readouterr().out
  result = json.loads((tmp_path / "report" / "result.json").read_text())
  assert list(result["methods"]) == ["darts"]
  for method, part in result["methods"].items():
    assert [row["seed"] for row in part["seeds"]] == [0, 1]
    for row in part["seeds"]:
      names = cells.from_string(row["cell"])
      found = codec.read(tmp_path / "run" / method / f"seed-{row['seed']}"
                         / "architecture.json")
      assert zoo.nasbench201.names_of(found) == names
      code = cells.encode(cells.to_array(names))
      assert row["accuracy"]["cifar10"] == pytest.approx(code / 1e3)
      assert row["accuracy"]["cifar100"] == pytest.approx(
          (cells.COUNT - 1 - code) / 1e3)
      assert row["skips"] == names.count("skip_connect")
      assert [point["epoch"] for point in row["curve"]] == [1, 2]
      assert row["curve"][-1]["cell"] == row["cell"]
      assert 0 <= row["child_accuracy"] <= 1
  text = (tmp_path / "report" / "README.md").read_text()
  for part in ("| DARTS |", "54.30", "| best cell |",
               "nasbench201_search.py --preset smoke", "--table TABLE",
               "of six edges", "jax 0.",
               "DARTS collapsed to skip connections alone", "CPU cores"):
    assert part in text
  for name in ("accuracy", "skips"):
    assert f"({name}.svg)" in text
    assert (tmp_path / "report" / f"{name}.svg").stat().st_size
  script.main(argv)
  assert "loss" not in capsys.readouterr().out
  again = json.loads((tmp_path / "report" / "result.json").read_text())
  assert again["methods"] == result["methods"]


@pytest.mark.slow  # Each has programs of its own, and the script no more.
@pytest.mark.parametrize("method", [*ALPHA[1:], "it-nas", "random"])
def test_every_method_runs(script, table, tmp_path, method):
  script.main(flags(tmp_path, table, "--methods", method, "--seeds", "1"))
  result = json.loads((tmp_path / "report" / "result.json").read_text())
  row, = result["methods"][method]["seeds"]
  found = codec.read(tmp_path / "run" / method / "seed-0"
                     / "architecture.json")
  assert zoo.nasbench201.names_of(found) == cells.from_string(row["cell"])
  if method != "it-nas":  # Which selects by images of its own.
    assert row["curve"][-1]["cell"] == row["cell"]
  assert [point["epoch"] for point in row["curve"]] == [1, 2]


@pytest.mark.long
def test_another_runs_and_are_merged_with_what_was_recorded(
    script, table, tmp_path, capsys):
  pytest.importorskip("matplotlib")
  argv = flags(tmp_path, table, "--seeds", "1", "--methods", "spos")
  script.main(argv)
  result = json.loads((tmp_path / "report" / "result.json").read_text())
  (method, part), = result["methods"].items()
  row, = part["seeds"]
  found = codec.read(tmp_path / "run" / method / "seed-0"
                     / "architecture.json")
  assert zoo.nasbench201.names_of(found) == cells.from_string(row["cell"])
  assert row["curve"] == [{**row["curve"][-1], "epoch": 2}]
  assert row["curve"][-1]["cell"] == row["cell"]
  assert "run by the library of commit" in (
      tmp_path / "report" / "README.md").read_text()
  # As if IT-NAS had run, too.
  result["methods"] = dict.fromkeys(OTHERS, part)
  result["config"]["search"] |= {"it-nas": {}}
  (tmp_path / "report" / "result.json").write_text(json.dumps(result))
  # A record of before: another method, less settings, no commit.
  old = {**result, "methods": {"random": part},
         "config": {**result["config"], "search": {
             "random": {"candidates": 2, "epochs": 1}}}}
  del old["commit"]

  def record(**changes):
    (tmp_path / "old").mkdir(exist_ok=True)
    (tmp_path / "old" / "result.json").write_text(
        json.dumps({**old, **changes}))

  def merge(*others):
    script.main([*flags(tmp_path, table, "--report", str(tmp_path / "both")),
                 "--merge", *map(str, (tmp_path / "old", *others))])

  record()
  merge(tmp_path / "report")
  both = json.loads((tmp_path / "both" / "result.json").read_text())
  assert list(both["methods"]) == [*OTHERS, "random"]
  assert {m: both["methods"][m] for m in OTHERS} == result["methods"]
  assert [run["methods"] for run in both["runs"]] == [["random"], OTHERS]
  assert both["runs"][1]["commit"] == result["commit"]
  text = (tmp_path / "both" / "README.md").read_text()
  for part in ("| IT-NAS |", "| SPOS |", "random search: recorded in commit",
               "IT-NAS, SPOS: run by the library of commit"):
    assert part in text
  with pytest.raises(errors.InputError, match="two records have it-nas"):
    merge(tmp_path / "report", tmp_path / "report")
  record(train_images=1)
  with pytest.raises(errors.InputError, match="other images, seeds or tables"):
    merge(tmp_path / "report")
  record(config={**old["config"], "search": {"random": {"epochs": 9}}})
  with pytest.raises(errors.InputError, match="other settings than the pre"):
    merge(tmp_path / "report")


def test_the_best_of_random_cells_is_exact(script):
  values = np.array([3.0, 1.0, 2.0, 2.0])
  for n in (1, 2, 3):
    drawn = [max(some) for some in itertools.product(values, repeat=n)]
    assert script.best_of(values, n) == pytest.approx(np.mean(drawn))


def test_the_course_of_a_search_is_what_it_would_have_found(script):
  rows = [{"accuracy": a, "architecture": name}
          for a, name in ((0.2, "a"), (0.1, "b"), (0.4, "c"))]
  rows.insert(1, {"accuracy": 0.9})  # Of the training of a candidate.
  of_random = random_search.RandomConfig(epochs=5)
  assert script.course(rows, of_random, "c") == [
      (5, "a"), (10, "a"), (15, "c")]
  for config in (darts.DartsConfig(), it_nas.ITConfig()):
    assert script.course(rows, config, "d") == [(1, "a"), (2, "b"), (3, "c")]
  assert script.course([{"loss": 1.0}], spos.SPOSConfig(epochs=7), "d") == [
      (7, "d")]


@pytest.mark.parametrize("preset", ["small", "paper"])
@pytest.mark.parametrize("method", [*ALPHA, *OTHERS, "random"])
def test_presets_can_be_run(script, preset, method):
  config = script.PRESETS[preset]
  size, labels = config.image_size, np.arange(300) % 10
  images = np.zeros((300, size, size, 3), np.uint8)
  job = pipeline.Job(
      None, data.make_dataset("noise", (images, labels), (images, labels),
                              image_size=size), method, config.search[method],
      pipeline.presets.get("small", codec.from_dict(codec.to_dict(
          zoo.nasbench201.network(("null",) * 6))), method).train,
      space="nasbench201", seeds=config.seeds, train_found=False)
  settings = job.plan.settings
  assert settings.weight_decay == 5e-4 and config.seeds == 5
  if method == "random":
    return
  assert settings.nesterov and (method in OTHERS or settings.weights_first)
  assert settings.epochs == config.search["darts"].epochs
  if preset == "paper":
    assert (settings.epochs, settings.batch_size, settings.supernet_width) == (
        50, 64, 1)
    assert settings.learning_rate == 0.025 and not config.train_images


def test_refuses(script, table, tmp_path):
  with pytest.raises(errors.InputError, match="seeds: 0 is too few"):
    script.main(flags(tmp_path, table, "--seeds", "0"))
