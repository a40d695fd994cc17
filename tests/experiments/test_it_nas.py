"""IT-NAS's experiment: what is looked up, ranked and said."""

import dataclasses
import importlib
import json
import re

import numpy as np
import pytest

from natjax import data, drawing, errors, pipeline, spaces, zoo
from natjax.benchmarks import nasbench201
from natjax.graph import codec, nasbench101
from natjax.graph import nasbench201 as cells
from tests.benchmarks import test_nasbench101
from tests.experiments import scripts

NAMES = [*cells.CANDIDATES[1:], "null"]


@pytest.fixture
def script(monkeypatch):
  monkeypatch.syspath_prepend(str(scripts.EXPERIMENTS))
  return importlib.import_module("it_nas")


@pytest.fixture(scope="module")
def table():
  """Accuracies by code, so that a cell is known by what it reaches."""
  params, madds = zoo.nasbench201.costs("cifar10")
  code = np.arange(cells.COUNT, dtype=np.float64)
  return nasbench201.Table(np.arange(cells.COUNT, dtype=np.int32), {
      "cifar10": {**dict.fromkeys(cells.COLUMNS[:4], code / 1e3),
                  "params": params, "flops_M": madds / 1e6}})


def network(names):
  return codec.to_dict(zoo.nasbench201.network(names))


def found(seed, names, strengths):
  """What a search came to, as `_row` gives it."""
  return {"seed": seed, "architecture": network(names), "params": 1e3,
          "madds": 1e6, "search_seconds": 1.0, "skips": {"a": 1},
          "parent_accuracy": 0.5, "child_accuracy": 0.25,
          "course": [network(["null"] * 6), network(names)], "epochs": [1, 2],
          "strengths": {"a": strengths}}


def by_code(names, e):
  """Indicators that rank the operations of an edge as codes do."""
  code = cells.encode(np.array([
      cells.to_array([*names[:e], name, *names[e + 1:]]) for name in NAMES]))
  return dict(zip(NAMES, map(float, code), strict=True))


def test_ranks_operations_by_the_truth(script, table):
  known = {"cifar10": table.columns["cifar10"]["test_200ep"]}
  names = ["conv_3x3", "null", "skip_connect", "conv_1x1", "null", "conv_3x3"]
  strengths = [by_code(names, e) for e in range(6)]
  strengths[1] = {name: -value for name, value in strengths[1].items()}
  strengths[2] = dict.fromkeys(NAMES, 0.2)  # Says nothing.
  row = script.look_up(found(0, names, strengths), known)
  assert row["accuracy"]["cifar10"] == pytest.approx(
      cells.encode(cells.to_array(names)) / 1e3)
  assert row["curve"][1] == row["accuracy"] and row["curve"][0] != row[
      "accuracy"]
  for e, ranks in enumerate(row["ranks"]):
    assert ranks["operations"] == NAMES
    for name, chosen, best in zip(
        NAMES, ranks["chosen"], ranks["best"], strict=True):
      other = [*names[:e], name, *names[e + 1:]]
      assert chosen == pytest.approx(cells.encode(cells.to_array(other)) / 1e3)
      assert best == pytest.approx(max(
          code for code, operations in enumerate(cells.all_operations())
          if operations[e] == cells.to_array([name] * 6)[0]) / 1e3)
  for kind in script.report.RANKS:
    assert script.report.taus([row], kind) == [
        pytest.approx(some) for some in ([1], [-1], [], [1], [1], [1])]


@pytest.fixture
def searched(script, table, tmp_path, monkeypatch):
  """The script with its searches replaced; what ran, and a command line."""
  names, ran = ["conv_3x3"] * 6, []

  def search(name, seed, folder, make, row):
    ran.append(name)
    if name == "darts darts it-nas" and len(ran) == 1:
      raise errors.NotFinite("loss")
    return row(seed, folder)

  def row(folder, seed, search):
    weighs = folder.parts[-2] not in ("spos", "random")
    course = {"course": [network(names)], "epochs": [7]}
    return found(seed, names, [by_code(names, e) for e in range(6)]) | (
        {} if weighs else {"strengths": {}, **course}) | (
            {"accuracy": 0.75, "architecture": codec.to_dict(zoo.get("darts"))}
            if folder.parts[-3] == "darts" else {})

  monkeypatch.setattr(script.transforming, "_search", search)
  monkeypatch.setattr(script, "_row", row)
  path = tmp_path / "table.csv"
  path.write_text(nasbench201.to_csv(table))
  return ran, [*map(str, scripts.flags(tmp_path))], ["--table", str(path)]


@pytest.fixture
def undrawn(script, monkeypatch):
  """The script without what matplotlib draws for seconds."""
  for name in ("over_epochs", "rankings"):
    monkeypatch.setattr(script.report.figures, name, lambda *_: None)


@pytest.mark.long
def test_records_every_part_once(script, searched, tmp_path, capsys):
  pytest.importorskip("matplotlib")
  ran, argv, of_table = searched
  with pytest.raises(errors.InputError, match="judged by its table"):
    script.main(argv)
  with pytest.raises(errors.InputError, match="none of these parts has one of"):
    script.main([*argv, "--parts", "darts", "--methods", "spos"])
  with pytest.raises(SystemExit):
    script.main([*argv, "--parts", "darts"])
  assert ran == ["darts darts it-nas", "darts darts darts"]
  text = (tmp_path / "report" / "README.md").read_text()
  assert "| darts | DARTS | 25.00 | " in text
  assert "Missing: darts darts it-nas seed 0 (NotFinite: loss)." in text
  assert "## DARTS's space (as Table 2, Figure 15 on cifar10)" in text
  script.main([*argv, *of_table])
  methods = ["it-nas", "darts", "entrannas", "entrannas-dst", "spos", "random"]
  assert ran[2:] == [*(f"nasbench201 nasbench201 {method}"
                       for method in methods for _ in range(2)), ran[0]]
  result = json.loads((tmp_path / "report" / "result.json").read_text())
  assert list(result["parts"]) == ["nasbench201", "darts"]
  assert list(result["parts"]["nasbench201"]["nasbench201"]) == methods
  assert "missing" not in result
  text = (tmp_path / "report" / "README.md").read_text()
  code = cells.encode(cells.to_array(["conv_3x3"] * 6)) / 1e3
  for part in ("| darts | IT-NAS | 25.00 | - |",
               *(f"| {script.report.TITLES[method]} | {code:.2f} ± 0.00 |"
                 for method in methods),
               "IT-NAS, of the best cell with the operation | 1.00 ± 0.00",
               "it_nas.py --preset smoke", "jax 0."):
    assert part in text
  assert "SPOS, of the best cell" not in text
  pictures = re.findall(r"\(([^()]*\.svg)\)", text)
  assert {"accuracy-cifar10.svg", "ranks-chosen.svg", "ranks-best.svg",
          "cells/darts-it-nas-0.svg", *(
              f"cells/nasbench201-{method}-{seed}.svg"
              for method in methods for seed in range(2))} <= {*pictures}
  for name in pictures:
    assert "</svg>" in (tmp_path / "report" / name).read_text()
  assert "recorded in" in capsys.readouterr().out


@pytest.mark.long
def test_records_of_fewer_methods_are_read(
    script, searched, undrawn, tmp_path):
  _, argv, of_table = searched
  argv = [*argv, *of_table]
  script.main([*argv, "--parts", "nasbench201", "--methods", "it-nas", "darts"])
  # As a run was recorded before there were others.
  kept = {"it-nas", "darts"}
  for path in (tmp_path / "run" / "experiment.json",
               tmp_path / "report" / "result.json"):
    old = json.loads(path.read_text())
    config = old.get("config", old)["parts"]["nasbench201"]["search"]
    for method in {*config} - kept:
      del config[method]
    del config["darts"]["order"]  # A setting that came later.
    old.pop("missing", None)
    for seeds in old.get("baselines", {}) and old["parts"]["nasbench201"][
        "nasbench201"].values():
      for row in seeds:
        del row["epochs"]
    path.write_text(json.dumps(old))
  lacks = "; ".join(
      f"nasbench201 nasbench201 {method} (not run)"
      for method in ("entrannas", "entrannas-dst", "spos", "random"))
  again = tmp_path / "again"
  script.main(["--preset", "smoke", "--out", str(again), "--merge",
               str(tmp_path / "report")])
  text = (again / "README.md").read_text()
  assert f"Missing: {lacks}." in text and "EnTranNAS |" not in text
  assert "--methods it-nas darts" in text
  assert (again / "cells" / "nasbench201-darts-1.svg").stat().st_size
  # Others are joined to it, which its own folder does not go on with.
  with pytest.raises(errors.InputError, match="of another configuration"):
    script.main([*argv, "--parts", "nasbench201", "--methods", "spos"])
  other = tmp_path / "other"
  script.main([*argv, "--parts", "nasbench201", "--methods", "spos", "--out",
               str(other), "--report", str(other / "report")])
  reports = [str(tmp_path / "report"), str(other / "report")]
  script.main(["--preset", "smoke", "--out", str(again), "--merge", *reports])
  both = json.loads((again / "result.json").read_text())
  assert list(both["parts"]["nasbench201"]["nasbench201"]) == [
      "it-nas", "darts", "spos"]
  assert [("it-nas darts" in run["command"], "spos" in run["command"])
          for run in both["runs"]] == [(True, False), (False, True)]
  text = (again / "README.md").read_text()
  assert "Missing: nasbench201 nasbench201 entrannas (not run)" in text
  assert text.count("Command: ") == 2 and "spos (not run)" not in text
  for folders, words in ((reports[:1] * 2, "two records have it-nas"),
                         (["small", *reports[:1]], "by other settings than")):
    preset = folders.pop(0) if folders[0] == "small" else "smoke"
    with pytest.raises(errors.InputError, match=words):
      script.main(["--preset", preset, "--out", str(again), "--merge",
                   *folders])


@pytest.mark.long
def test_a_folder_of_fewer_methods_goes_on(
    script, searched, undrawn, tmp_path):
  ran, argv, of_table = searched
  argv = [*argv, *of_table, "--parts", "nasbench201", "--methods"]
  script.main([*argv, "it-nas", "darts"])
  path = tmp_path / "run" / "experiment.json"
  old = json.loads(path.read_text())
  search = old["parts"]["nasbench201"]["search"]
  old["parts"]["nasbench201"]["search"] = {
      method: search[method] for method in ("it-nas", "darts")}
  path.write_text(json.dumps(old))
  script.main([*argv, "spos"])
  assert ran == [f"nasbench201 nasbench201 {method}" for method in (
      "it-nas", "darts", "spos") for _ in range(2)]
  text = (tmp_path / "report" / "README.md").read_text()
  assert "| IT-NAS | " in text and "| SPOS | " in text
  assert "nasbench201 random (not run)." in text
  old["parts"]["nasbench201"]["search"]["darts"]["epochs"] = 9
  for other in (old, {"of": "another experiment"}):
    path.write_text(json.dumps(other))
    with pytest.raises(errors.InputError, match="of another configuration"):
      script.main([*argv, "spos"])


def test_headings_claim_what_was_made(script):
  rows = {"it-nas": [{"ranks": [1]}]}
  for name, spaces_of, dataset, words in (
      ("nasbench201", ["nasbench201"], "cifar10",
       "NAS-Bench-201 (Table 5, Figure 2, Figures 3, 6 and 9 to 14)"),
      ("s1-s4", ["s1", "s3"], "cifar100",
       "RobustDARTS's spaces: s1, s3 (Table 4, Figure 18)"),
      ("chains", ["proxyless"], "cifar10",
       "Chains: proxyless (as Table 3, Figure 16 on imagenet2012)"),
      ("chains", ["proxyless", "proxyless-se"], "imagenet2012",
       "Chains: proxyless, proxyless-se (Table 3, Figure 16, Table 6)"),
      ("darts", ["darts"], "cifar100",
       "DARTS's space (as Table 2, Figure 15 on cifar10)")):
    assert script.report.heading(
        name, dict.fromkeys(spaces_of, rows), dataset) == words
  assert script.report.heading("nasbench201", {"nasbench201": {
      "spos": [{"ranks": []}]}}, "cifar10") == (
          "NAS-Bench-201 (Table 5, Figure 2)")


def test_what_was_found_is_written_and_drawn(script):
  text = ("011111001000000100000010000001000000:input,conv3x3-bn-relu,"
          "maxpool3x3,conv1x1-bn-relu,conv3x3-bn-relu,output")
  cell = script.report.architecture({"cell": text})
  edges = [*cell.blocks[0].edges]
  assert [edge.operation for edge in edges if edge.source % 2 == 0] == [
      "conv_3x3", "max_pool_3x3", "conv_1x1", "conv_3x3"]
  assert [edge[1:] for edge in edges if edge.operation == "skip_connect"] == [
      (3, 4), (5, 6), (7, 8), (9, 10)]
  assert [edge.target for edge in edges if edge.source == 1] == [
      2, 4, 6, 8, 10]
  assert "max_pool_3x3" in drawing.draw(cell)
  space, every = spaces.get("proxyless-se"), (
      "mbconv3_3x3_se", "mbconv6_7x7_se", "skip_connect")
  chosen = [every[i % 3] if every[i % 3] in some else every[0]
            for i, (some,) in enumerate(space.choices[1:])]
  chain = space.written(space.graph._replace(blocks=(
      space.graph.blocks[0], *(
          block._replace(edges=(block.edges[0]._replace(operation=name),))
          for block, name in zip(
              space.graph.blocks[1:], chosen, strict=True)))))
  said = script.report.in_text(
      {"architecture": codec.to_dict(chain)}).split(") ")
  assert [word.split("(")[0] for word in said] == [
      "mbconv1_3x3", *(name for name in chosen if name != "skip_connect")]
  assert said[1] == "mbconv3_3x3_se(24, /2"


def test_regret_is_that_of_the_space(script):
  genes = [np.array([2, 3, 9, 0, 1, 2, 0]), np.array([0, 1, 2, 2, 1, 0, 0])]
  networks = [zoo.nasbench1shot1.network("nasbench1shot1-1", g) for g in genes]
  table = test_nasbench101.rows_of(*(nasbench101.to_text(
      zoo.nasbench1shot1.cell_of(network)) for network in networks))
  truth = script.Truth(None, table, {"nasbench1shot1-1": 95.0})
  row = script.regrets({"seed": 0, "strengths": {}, "course": [
      codec.to_dict(networks[1])], "architecture": codec.to_dict(networks[0])},
      "nasbench1shot1-1", truth)
  assert row["regret"] == pytest.approx([95 - 90, 95 - 10])
  assert row["cell"] == nasbench101.to_text(zoo.nasbench1shot1.cell_of(
      networks[0]))


def test_what_a_search_lacks_is_left_open(script):
  row = {"accuracy": 0.5, "params": 2000, "madds": 3e6, "child_accuracy": 0.25,
         "search_seconds": 9.0, "seed": 0, "architecture": codec.to_dict(
             zoo.get("proxyless-cpu"))}
  # SPOS has no parent, and counts nothing.
  both = {"spos": [row, row], "it-nas": [row | {
      "parent_accuracy": 0.75, "skips": {"a": 1}, "ties": {"a": 2}}]}
  text = "\n".join(script.report._trained({"proxyless": both}, "imagenet2012"))
  assert ("| SPOS | 50.00 ± 0.00 | 25.20 | 2.0 ± 0.0 | 3.00 ± 0.00 | - |"
          " 25.0 ± 0.0 | -, - | -, - | 9 |") in text
  assert ("| IT-NAS | 50.00 | 24.10 | 2.0 | 3.00 | 75.0 | 25.0 | 1 | 2 | 9 |"
          ) in text
  for name in ("s1-s4", "chains"):
    said = script.report._in_words(
        script.PRESETS["small"].parts[name], {"proxyless": both}, "cifar10")
    assert "None" not in said and "1 search" not in said


def test_what_presets_ask_for_is_known(script):
  for config in script.PRESETS.values():
    assert {*config.parts} <= {*script.report.PARTS}
    for name, part in config.parts.items():
      assert part.seeds and {*part.search} <= {*script.report.TITLES}
      assert (part.train is None) == (name in script.TABLES)
      assert {*part.spaces} <= {*spaces.SPACES}


# Channels and cells of Table 4, by its caption, and its errors of S1.
TABLE4 = {"cifar10": ([(36, 20), (16, 20)] * 2, 2.57, 3.84),
          "cifar100": ([(16, 8)] * 4, 23.31, 29.46),
          "svhn_cropped": ([(16, 8)] * 4, 2.44, 4.58)}


@pytest.mark.parametrize("dataset", TABLE4)
def test_table_4_goes_by_data_set_and_space(script, dataset):
  part, (sizes, ours, theirs) = script.PRESETS["paper"].parts["s1-s4"], TABLE4[
      dataset]
  for space, size in zip(part.spaces, sizes, strict=True):
    train = part.trained(f"{dataset}:3.*.*", space)
    assert (train.init_channels, train.cells) == size
    assert (train.epochs, train.batch_size, train.auxiliary) == (600, 96, True)
  said = script.report._in_words(part, {
      space: {"it-nas": []} for space in part.spaces}, dataset)
  assert ("16 channels, 8 cells, 600" if len({*sizes}) == 1 else "36 channels,"
          " 20 cells (s1, s3); 16 channels, 20 cells (s2, s4), 600") in said
  row = {"accuracy": 0.5, "params": 2000, "madds": 3e6, "search_seconds": 9.0}
  row |= {"seed": 0, "architecture": codec.to_dict(zoo.get("darts"))}
  text = "\n".join(script.report._trained({
      space: {"it-nas": [row], "darts": [row]}
      for space in ("s1", "darts", "proxyless")}, dataset))
  assert f"| s1 | IT-NAS | 50.00 | {ours:.2f} |" in text
  assert f"| s1 | DARTS | 50.00 | {theirs:.2f} |" in text
  assert "| proxyless | IT-NAS | 50.00 | - |" in text  # ImageNet's is another.
  error = "2.41" if dataset == "cifar10" else "-"
  assert f"| darts | IT-NAS | 50.00 | {error} |" in text


@pytest.mark.long
@pytest.mark.parametrize("dataset", TABLE4)
def test_dry_runs_train_networks_of_table_4(script, dataset, tmp_path, capsys):
  script.main(["--preset", "paper", "--parts", "s1-s4", "--dataset", dataset,
               "--dry-run", "--out", str(tmp_path / "run")])
  rows = {row[1]: row[2:-1] for row in (
      [cell.strip() for cell in line.split("|")]
      for line in capsys.readouterr().out.splitlines() if line[0] == "|")}
  known, part = data.absent(dataset), script.PRESETS["paper"].parts["s1-s4"]
  for space, (channels, count) in zip(
      part.spaces, TABLE4[dataset][0], strict=True):
    one = pipeline.TrainJob(
        zoo.get("darts"), known, dataclasses.replace(
            part.train, init_channels=channels, cells=count), devices=1
    ).estimate(10.0)
    assert rows[f"{space}: trained"] == [
        "8", str(8 * one["steps"]), f"{one['memory_bytes'] / 2**30:.2f}",
        f"{8 * one['hours']:.3g}"]
