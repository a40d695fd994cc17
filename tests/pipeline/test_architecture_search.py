"""Searches by alpha and at random, as jobs: files, resuming, devices, seeds."""

import dataclasses
import json
import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import cli, errors, methods, pipeline, spaces
from natjax.cli import output
from natjax.graph import codec
from natjax.methods import bilevel
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import runs
from tests.methods import searching
from tests.pipeline import test_pipeline

SIZES = {"init_channels": 4, "cells": 3, "batch_size": 16, "epochs": 3}
MORE = {"random": {"candidates": 2, "epochs": 1}}
NAMES = ("darts", "entrannas", "entrannas-dst", "it-nas", "random")
TRAIN = dataclasses.replace(test_pipeline.TRAIN, seeds=1)


@pytest.fixture(autouse=True, scope="module")
def tiny():
  with mock.patch.dict(spaces.SPACES, {"tiny": searching.SPACE}):
    yield


def settings(method, **more):
  return methods.METHODS[method].settings(
      **SIZES | MORE.get(method, {}) | more)


def search(method, out, devices=1, train_found=False, **more):
  options = {k: more.pop(k) for k in ("listener", "seeds", "seed") if k in more}
  return pipeline.search(
      "tiny", test_pipeline.dataset(size=8), out=out, method=method,
      search=settings(method, **more), train=TRAIN, train_found=train_found,
      devices=devices, **options)


def rows_of(out, run="search"):
  rows = [json.loads(line)
          for line in (out / "metrics.jsonl").read_text().splitlines()]
  return [row for row in rows if row["run"] == run]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
  """A run of every method; that of DARTS trains what it found."""
  folder = tmp_path_factory.mktemp("found")
  return {name: (folder / name, search(name, folder / name,
                                       train_found=name == "darts"))
          for name in NAMES}


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_search_gives_an_architecture_its_cost_and_its_picture(found, name):
  out, result = found[name]
  assert result == json.loads((out / "result.json").read_text())
  architecture = codec.read(out / "architecture.json")
  assert codec.to_dict(architecture) == result["architectures"]["derived"]
  assert result["derived"]["params"] > 0
  assert ("accuracy" in result["derived"]) == (name == "darts")
  assert (out / "architecture.svg").exists()
  assert result["peak_memory_bytes"] > 2**20
  config = runs.read_config(out)
  assert (config["kind"], config["method"]) == ("search", name)
  assert config.get("no_train", False) == (name != "darts")
  if name == "random":
    best = max(result["tried"], key=lambda row: row["accuracy"])
    assert best["architecture"] == result["architectures"]["derived"]
    assert len(result["tried"]) == 2
  else:
    assert 0 <= result["child_accuracy"] <= 1
    assert 0 <= result["parent_accuracy"] <= 1
    skips = sum(edge.operation == "skip_connect"
                for edge in architecture.normal.edges)
    assert result["skips"]["normal"] == skips
    assert result["connections"]["normal"] == len(architecture.normal.edges)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES[:4])
def test_every_epoch_has_alpha_and_what_would_be_derived(found, name):
  out, result = found[name]
  rows = rows_of(out)
  assert len(rows) == 3
  for row in rows:
    weights = np.array(row["weights"]["normal"])
    assert weights.shape == (5, 4) == np.array(row["weights"]["reduce"]).shape
    assert ("alpha" in row) == (name != "it-nas")
    assert row["candidates"] == [*searching.SPACE.candidates]
    architecture = codec.from_dict(row["architecture"])
    kept = np.argwhere(row["kept"]["normal"]).tolist()
    assert [(row["candidates"][o], *row["edges"]["normal"][e])
            for e, o in kept] == [*architecture.normal.edges]
    assert row["skips"]["normal"] == sum(
        e.operation == "skip_connect" for e in architecture.normal.edges)
    assert ("temperature" in row) == name.startswith("entrannas")
    assert ("thresholds" in row) == (name == "entrannas-dst")
  if name == "it-nas":  # It selects by images of its own.
    assert result["ties"].keys() == {"normal", "reduce"}
    strongest = {(*row["edge"], row["strongest"])
                 for row in result["attention"]["normal"]}
    edges = result["architectures"]["derived"]["normal"]
    assert {(s, t, name) for name, s, t in edges} <= strongest
  else:
    assert rows[-1]["architecture"] == result["architectures"]["derived"]


@pytest.mark.long
def test_alpha_is_drawn_where_there_is_matplotlib(found, tmp_path, capsys):
  pytest.importorskip("matplotlib")
  out, target = str(found["darts"][0]), str(tmp_path / "a.svg")
  assert cli.main(["draw", out, "--alpha", "--out", target]) == 0
  assert cli.main(["draw", "darts", "--alpha", "--out", target]) == 2
  assert "that of a `natjax search`" in capsys.readouterr().err
  assert cli.main(["draw", out, "darts", "--alpha", "--out", target]) == 2
  assert cli.main(
      ["draw", out, "--theta", "--alpha", "--out", target]) == 2
  assert len(capsys.readouterr().err.strip().splitlines()) == 2
  for name in NAMES[:4]:
    text = (found[name][0] / "alpha.svg").read_text()
    assert "normal 0 -&gt; 2" in text and "dil_conv_3x3" in text


@pytest.fixture(scope="module")
def several(tmp_path_factory):
  """A run of two seeds, its numbers numpy's; how often it was traced."""
  out, calls = tmp_path_factory.mktemp("several") / "run", []
  update = bilevel.Search.update

  def counted(self, *args):
    calls.append(self)
    return update(self, *args)

  with mock.patch.object(bilevel.Search, "update", counted):
    result = search("entrannas", out, seeds=2, seed=np.int64(0),
                    epochs=np.int64(SIZES["epochs"]))
  return out, result, len(calls)


# All of DARTS and EnTranNAS is in EnTranNAS-DST.
@pytest.mark.long
@pytest.mark.parametrize("name", NAMES[2:])
def test_a_stopped_search_goes_on_in_the_same_bits(found, name, tmp_path):
  stopped_goes_on(name, tmp_path, *found[name])


@pytest.mark.long
def test_a_stopped_evolution_of_what_is_trained_goes_on_in_the_same_bits(
    tmp_path):
  more = {"search": "evolution", "candidates": 4, "generations": 2}
  whole = search("random", tmp_path / "whole", **more)
  assert len(whole["tried"]) == 4
  stopped_goes_on("random", tmp_path, tmp_path / "whole", whole, **more)


@pytest.mark.long
def test_an_evolution_by_a_zero_cost_score_trains_nothing(tmp_path, capsys):
  result = search("random", tmp_path / "run", search="evolution",
                  candidates=4, generations=2, score="naswot", epochs=10)
  best = max(result["tried"], key=lambda row: row["naswot"])
  assert best["architecture"] == result["architectures"]["derived"]
  assert len(result["tried"]) == 4
  output.print_transformed(result, tmp_path / "run", methods.METHODS["random"])
  assert (f"4 candidates were scored by NASWOT, and the best has"
          f" {best['naswot']:.4g}; search") in " ".join(
              capsys.readouterr().out.split())


@pytest.mark.parametrize("more,steps", [
    ([], 8 * 6 * 11), (["--search", "evolution"], 8 * 6 * 11),
    (["--search", "evolution", "--population", 3, "--generations", 5],
     15 * 6 * 11), (["--score", "synflow", "--search", "evolution"], 0)])
def test_a_dry_run_counts_what_is_trained(more, steps, capsys, tmp_path):
  assert cli.main([*map(str, argv(
      "--method", "random", *more, *["--epochs", 5] * (steps > 0),
      "--dry-run", "--json", "--out", tmp_path / "run"))]) == 0
  shown = json.loads(capsys.readouterr().out)
  assert shown["estimate"]["search"]["steps"] == steps
  assert shown["estimate"]["search"]["memory_bytes"] > 0


def stopped_goes_on(name, tmp_path, out, whole, **more):
  """A search that is stopped twice comes to what a whole one did."""
  stops = iter([False, True] + [False, False, True] + [False] * 99)
  listener = pipeline.Listener(should_stop=lambda: next(stops),
                               chunk_seconds=0, checkpoint_seconds=0)
  for _ in range(2):
    with pytest.raises(errors.Interrupted):
      search(name, tmp_path / "run", listener=listener, **more)
  result = search(name, tmp_path / "run", listener=listener, **more)
  # Earlier starts, which compiled, count.
  assert result["search_seconds"] + 0.1 >= rows_of(
      tmp_path / "run")[-1]["seconds"]
  times = ("seconds", "time", "search_seconds", "peak_memory_bytes", "derived")
  plain = lambda r: {k: v for k, v in r.items() if k not in times}
  assert plain(result) == plain(whole)
  plain = lambda row: {k: v for k, v in row.items() if k != "seconds"}
  assert [*map(plain, rows_of(tmp_path / "run"))] == [
      *map(plain, rows_of(out))]


@pytest.mark.long
def test_several_seeds_are_several_searches(found, several):
  out, result, traced = several
  assert traced == 1, "a seed traced its iteration anew"
  assert [row["seed"] for row in result["seeds"]] == [0, 1]
  one, two = (codec.read(out / f"seed-{s}" / "architecture.json")
              for s in (0, 1))
  assert one == codec.read(found["entrannas"][0] / "architecture.json")
  assert codec.to_dict(one) == result["architectures"]["derived"]
  first, second = result["seeds"]
  assert first["parent_accuracy"] == found["entrannas"][1]["parent_accuracy"]
  assert first["skips"] != second["skips"] or one != two


@pytest.mark.long
def test_all_devices_hold_one_alpha():
  name = "entrannas-dst"
  job = pipeline.Job(
      None, test_pipeline.dataset(size=8), name, settings(name), TRAIN,
      space="tiny", devices=4, train_found=False)
  update = job.plan.method.stages[-1].phases[0].update
  each = jax.pmap(update, axis_name="devices", in_axes=(None, 0, 0))
  state = job.plan.method.init(jax.random.key(0))
  many = jax.tree.map(lambda *x: jnp.stack(x), *searching.batches(4))
  other = jax.tree.map(lambda *x: jnp.stack(x), *searching.batches(8)[4:])
  state, metrics = each(state, many, other)
  for leaf in jax.tree.leaves((state.alpha, state.params, metrics)):
    leaf = np.asarray(leaf)
    for device in range(1, 4):
      np.testing.assert_array_equal(leaf[device], leaf[0])


@pytest.mark.long
def test_a_loss_that_is_not_finite_names_the_architecture(tmp_path):
  with pytest.raises(errors.NotFinite, match="it ran the supernet of Genotype"):
    search("darts", tmp_path / "run", learning_rate=1e30,
           final_learning_rate=1e30, max_grad_norm=0.0, momentum=0.0)


@pytest.mark.long
def test_an_untrained_network_is_not_found_by_load(found):
  out, _ = found["entrannas"]
  with pytest.raises(errors.InputError, match="holds no trained network"):
    networks_lib.load(out)
  assert networks_lib.load(found["darts"][0]).test_accuracy == (
      found["darts"][1]["derived"]["accuracy"])


# The command line.


def argv(*more):
  return ["search", "--space", "tiny", "--dataset", "digits", "--devices", "1",
          "--preset", "demo", *more]


@pytest.mark.parametrize("more,message", [
    (["--method", "guess"], "invalid choice: 'guess'"),
    (["--method", "nat"], "invalid choice: 'nat'"),
    (["--method", "entrannas", "--order", "second"],
     "order is second and does not apply to --method entrannas"),
    (["--method", "entrannas", "--engines", "half", "--cells", "3"],
     "there is one normal cell"),
    (["--method", "entrannas-dst", "--sparsity", "-1"],
     "must not be negative; give 0 or more (--sparsity)"),
    (["--method", "entrannas", "--temperature-decay", "1e-9"],
     "brings the temperature to 0"),
    (["--method", "darts", "--max-params", "many"],
     "give a number above 0"),
    (["--method", "darts", "--width", "2"],
     "leave it out, or give --supernet-width"),
])
def test_refusals_are_one_line(more, message, capsys, tmp_path):
  assert cli.main(argv(*more, "--out", str(tmp_path / "run"))) == 2
  text = capsys.readouterr().err
  assert message in text and len(text.strip().splitlines()) == 1
  assert not (tmp_path / "run").exists()


def test_a_budget_that_nothing_meets_ends_before_compilation(capsys, tmp_path):
  code = cli.main(argv("--method", "entrannas", "--max-params", "10", "--out",
                       str(tmp_path / "run")))
  text = capsys.readouterr().err
  assert code == 2 and "the cheapest that was found has" in text
  assert not (tmp_path / "run").exists()


def test_a_dry_run_shows_everything(capsys, tmp_path):
  assert cli.main(argv("--method", "darts", "--no-train", "--dry-run", "--json",
                       "--out", str(tmp_path / "run"))) == 0
  shown = json.loads(capsys.readouterr().out)
  assert shown["configuration"]["search"]["order"] == "first"
  assert shown["configuration"]["no_train"] is True
  assert shown["estimate"]["search"]["params"] > 0
  assert math.isfinite(shown["estimate"]["search"]["memory_bytes"])
  assert bilevel.REPORTS


@pytest.mark.parametrize("seeds", [0, -1, 1.5, "3"])
def test_seeds_are_a_number_of_them(seeds, tmp_path):
  with pytest.raises(errors.InputError, match="seeds is") as e:
    search("entrannas", tmp_path / "run", seeds=seeds)
  assert e.value.field == "seeds" and not (tmp_path / "run").exists()


@pytest.mark.parametrize("width", [0.0, -1.0])
def test_widths_are_above_zero(width, tmp_path):
  for method in ("darts", "random"):
    with pytest.raises(errors.InputError, match="must be above 0"):
      pipeline.search(
          "nasbench201", test_pipeline.dataset(size=8), out=tmp_path / "run",
          method=method, search=methods.METHODS[method].settings(
              supernet_width=width), train=dataclasses.replace(
                  TRAIN, init_channels=None, cells=None, auxiliary=None,
                  drop_path=None))


@pytest.mark.long
def test_numbers_of_numpy_are_numbers(several, tmp_path):
  config = runs.read_config(several[0])
  assert config["search"]["epochs"] == SIZES["epochs"]
  with pytest.raises(errors.InputError, match="learning-rate is nan"):
    search("entrannas", tmp_path / "other", learning_rate=np.float32("nan"))


@pytest.mark.long
def test_alpha_of_several_seeds_is_the_first_ones(several, tmp_path, capsys):
  pytest.importorskip("matplotlib")
  run = several[0]
  assert cli.main(["draw", str(run), "--alpha", "--out",
                   str(tmp_path / "a.svg")]) == 0
  assert cli.main(["draw", str(run / "seed-0"), "--alpha", "--out",
                   str(tmp_path / "b.svg")]) == 0
  capsys.readouterr()
  assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
