"""Several given architectures that share one search."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from natjax import cli, errors, methods, pipeline, spaces, zoo
from natjax.cli import output
from natjax.graph import blocks, codec, records
from natjax.methods import evolved, nat, supervised
from natjax.pipeline import job as job_lib
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import runs
from natjax.spaces import ground as ground_lib
from natjax.spaces import inputs
from natjax.training import metrics
from tests import tiny

Edge = records.Edge
PLACE = records.Frame(10, 8)


def network(*names):
  """A network of two blocks, alike in all but their operations."""
  first, second = (records.Block(
      (records.Node(4, activation="relu"),),
      (Edge(name, 1, 2), Edge("conv_1x1", 1, 2))) for name in names)
  return blocks.check(records.BlockNetwork(
      "mine", (records.Layer("conv", 4, 3, activation="relu"),),
      (first, second)))


GIVEN = (network("conv_3x3", "conv_1x1"), network("conv_1x1", "conv_3x3"))
SEARCH = nat.NATConfig(
    epochs=2, warmup_epochs=1, batch_size=64, samples=2, candidates=3,
    finalists=1, trial_epochs=1, max_madds="0.9x", tolerance=100.0)
EVOLVED = evolved.EvolvedConfig(
    **{name: getattr(SEARCH, name) for name in (
        "epochs", "batch_size", "candidates", "finalists", "trial_epochs",
        "max_madds", "tolerance")},
    population=6, generations=2, parents=3, mutations=3, crossovers=1)
SEARCHES = {"nat": SEARCH, "evolution": EVOLVED}
TRAIN = supervised.TrainConfig(
    epochs=1, batch_size=64, learning_rate=0.1, drop_path=0.0,
    auxiliary=False, cutout=0)


def dataset():
  whole = tiny.digits()
  return dataclasses.replace(
      whole, train_images=whole.train_images[:640],
      train_labels=whole.train_labels[:640],
      test_images=whole.test_images[:64], test_labels=whole.test_labels[:64])


def transform(out, given=GIVEN, method="nat", **options):
  return pipeline.transform(
      given, dataset(), out=out, method=method, search=SEARCHES[method],
      train=TRAIN, share="full", **{"devices": 1, **options})


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
  out = tmp_path_factory.mktemp("union") / "run"
  return out, transform(out)


@pytest.fixture(scope="module")
def an_evolved_run(tmp_path_factory):
  out = tmp_path_factory.mktemp("union") / "run"
  return out, transform(out, method="evolution")


@pytest.fixture(params=SEARCHES)
def either(request):
  """A run, and its method."""
  return *request.getfixturevalue(
      "a_run" if request.param == "nat" else "an_evolved_run"), request.param


def weights(out):
  found = {}
  for name, folder in networks_lib.networks(out).items():
    with np.load(folder / "weights.npz") as held:
      found |= {f"{name}/{key}": held[key] for key in held.files}
  return found


def plain(tree):
  if isinstance(tree, dict):
    return {k: plain(v) for k, v in tree.items()
            if "seconds" not in k and k != "time"}
  return [*map(plain, tree)] if isinstance(tree, list) else tree


@pytest.mark.long
def test_each_is_transformed_within_its_own_budget(either):
  out, result, _ = either
  assert json.loads((out / "result.json").read_text()) == result
  assert len(result["union"]) == 2
  for number, (given, part) in enumerate(
      zip(GIVEN, result["union"], strict=True), 1):
    assert part["architectures"]["original"] == codec.to_dict(codec.pad(given))
    assert part["transformed"]["madds"] <= 0.9 * part["original"]["madds"]
    assert part["changes"] and part["candidates"]
    assert part["acceptance"]["images"] == 64  # A tenth of 640.
    folder = out / f"architecture-{number}"
    assert json.loads((folder / "result.json").read_text()) == part
    assert codec.to_dict(runs.read_architecture(folder)) == (
        part["architectures"]["transformed"])
  rows = [*metrics.read(out / "metrics.jsonl")]
  assert {row["run"] for row in rows} == {"search"}  # One for both.
  assert result["seconds"] >= sum(r["seconds"] for r in result["union"])
  for name, seconds in result["time"].items():  # The search, once, and both.
    parts = sum(part["time"][name] for part in result["union"])
    assert seconds > parts - 0.01 if name == "search" else (
        seconds >= parts - 0.01), name


@pytest.mark.long
def test_its_networks_are_found_and_loaded(a_run):
  out, result = a_run
  assert [*networks_lib.networks(out)] == [
      f"architecture-{n}/{name}-0" for n in (1, 2)
      for name in ("original", "transformed")]
  for n, part in enumerate(result["union"], 1):
    for name in ("original", "transformed"):
      loaded = networks_lib.load(out, f"architecture-{n}/{name}-0")
      assert codec.to_dict(loaded.architecture) == part["architectures"][name]
      assert loaded.test_accuracy == part[name]["accuracy"]
  with pytest.raises(errors.InputError, match="architecture-1, architecture-2"):
    runs.read_architecture(out)


@pytest.mark.long
def test_the_original_is_trained_as_in_a_run_of_one(a_run, tmp_path):
  out, _ = a_run
  transform(tmp_path / "one", GIVEN[1:])
  config = runs.read_config(tmp_path / "one")
  assert config["kind"] == "transform" and "union" not in config
  transform(tmp_path / "one", GIVEN[1])  # The same run, which is finished.
  found, expected = weights(tmp_path / "one"), weights(out)
  for key in [key for key in found if key.startswith("original")]:
    np.testing.assert_array_equal(found[key], expected[f"architecture-2/{key}"])


@pytest.mark.long
def test_stopped_anywhere_it_ends_in_the_same_bits(either, tmp_path):
  out, result, method = either
  asked: list[None] = []

  def stop():
    asked.append(None)
    return len(asked) % 17 == 0

  listener = pipeline.Listener(
      should_stop=stop, chunk_seconds=0, checkpoint_seconds=0)
  stops = 0
  while not (tmp_path / "run" / "result.json").exists():
    try:
      transform(tmp_path / "run", method=method, listener=listener)
    except errors.Interrupted:
      stops += 1
      assert stops < 200
  assert stops > 2
  again = json.loads((tmp_path / "run" / "result.json").read_text())
  assert plain(again) == plain(result)
  found, expected = weights(tmp_path / "run"), weights(out)
  assert found.keys() == expected.keys()
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.long
@pytest.mark.parametrize("method", SEARCHES)
def test_of_several_seeds_on_several_devices(tmp_path, method):
  job = job_lib.Job(
      GIVEN, dataset(), method, dataclasses.replace(
          SEARCHES[method], held_out=0.0, tolerance=0.5, finalists=3,
          trial_epochs=0, prefer="sure"),
      TRAIN, share="full", seeds=2)
  result = job.run(tmp_path / "run")
  assert len(result["union"]) == 2
  for number, part in enumerate(result["union"], 1):
    assert [row["seed"] for row in part["seeds"]] == [0, 1]
    each = [json.loads((tmp_path / "run" / f"seed-{seed}" / (
        f"architecture-{number}") / "result.json").read_text())
            for seed in (0, 1)]
    assert part["transformed"]["accuracies"] == [
        r["transformed"]["accuracy"] for r in each]
    for own in each:  # Over the budget, it need not be surpassed.
      rows = own["candidates"]
      chosen = rows[own["preferred"]["sure"]]
      assert chosen["chosen"] and not any(row["original"] for row in rows)
      assert chosen["score"] == max(row["score"] for row in rows)
      assert own["architectures"]["transformed"] == chosen["architecture"]
  assert "seed-1/architecture-2/original-1" in networks_lib.networks(
      tmp_path / "run")
  assert job.run(tmp_path / "run") == result
  # What stands there is removed, as of every run.
  (tmp_path / "run" / "config.json").write_text("{")
  job.open(tmp_path / "run", overwrite=True)
  assert {p.name for p in (tmp_path / "run").iterdir()} == {
      "config.json", "checksums.json"}


@pytest.mark.long
def test_a_table_has_a_row_for_each(a_run, capsys):
  out, result = a_run
  output.print_union(result, out, methods.METHODS["nat"], ["first", "second"])
  text = capsys.readouterr().out
  for words in ("1: first", "2: second", "one search for all",
                "architecture-1/, architecture-2/", "1: first, edges that",
                "2: second, edges that", *(
                    f"{name}, {len(part['candidates'])} candidates"
                    for name, part in zip(("1: first", "2: second"), (
                        result["union"]), strict=True))):
    assert words in text
  assert text.count("the transformed one is cheaper") == 2


def test_the_command_line_asks_for_several(tmp_path, capsys):
  files = []
  for number, given in enumerate(GIVEN):
    files.append(str(tmp_path / f"{number}.json"))
    (tmp_path / f"{number}.json").write_text(codec.to_json(given))
  assert cli.main(["transform", *files, "--dataset", "digits", "--preset",
                   "demo", "--image-size", "8", "--dry-run", "--json"]) == 0
  shown = json.loads(capsys.readouterr().out)
  config = shown["configuration"]
  assert config["kind"] == "union" and "architecture" not in config
  assert config["union"] == [codec.to_dict(codec.pad(g)) for g in GIVEN]
  assert {*shown["estimate"]} == {
      "search", "architecture-1", "architecture-2", "all"}
  assert shown["estimate"]["architecture-2"]["train"]["steps"] > 0


@pytest.mark.parametrize("args,message", [
    (["darts", "enas"], "1 and 2 are in no common space: their cells have 4"),
    (["darts", "resnet20"], "one is a genotype, the other a network of blocks"),
    (["resnet20", "resnet56"], "they have 9 and 27 blocks"),
    (["darts", "pdarts", "darts"], "3 architectures are given, 2 of them diff"),
    (["darts", "pdarts", "--method", "differentiable"],
     "2 architectures are given and method 'differentiable' transforms one;"
     " give one, or choose method nat or natpp"),
    (["darts", "pdarts", "--init-channels", "x"], "invalid int")])
def test_refusals_are_one_line(args, message, capsys):
  assert cli.main(["transform", *args, "--dataset", "digits",
                   "--dry-run"]) == 2
  text = capsys.readouterr().err
  assert message in text and len(text.splitlines()) == 1


def test_a_budget_that_one_cannot_keep_to_names_it():
  cheap = network("null", "null")
  with pytest.raises(errors.NotMet, match=r"^architecture 2: no trans"):
    job_lib.Job((GIVEN[0], cheap), dataset(), "nat", dataclasses.replace(
        SEARCH, max_madds="0.5x"), TRAIN, share="full", devices=1)


def draw(given, space, count=2000, **options):
  ground = ground_lib.Ground(space, records.Skeleton("cifar", 2, 3, 10, 8) if (
      space.inputs) else PLACE, scheme="nat", **options)
  starts = [ground.encode(a) for a in given]
  sample = jax.jit(jax.vmap(inputs.sampler(ground, given=starts)))
  return ground, starts, jax.device_get(sample(
      jax.random.split(jax.random.key(0), count)))


def test_inputs_are_drawn_around_all_of_them():
  given = [codec.pad(a) for a in GIVEN]
  space = spaces.space_for(given[0], others=given[1:], share="full")
  _, starts, drawn = draw(given, space, others=given[1:])
  # Each of four edges stays by chance: all of them with probability 1 / 5, and
  # by a draw of few candidates now and then.
  for start in starts:
    same = np.mean((drawn.operation == start.operation).all((1, 2, 3)))
    assert 0.1 < same < 0.25
  # What one has and the other may not become is in the supernet's space.
  only = spaces.space_for(given[1], share="full")
  union, one = (ground_lib.Ground(
      space, PLACE, scheme="nat", others=others).around().choices
                for space, others in ((space, given[1:]), (only, ())))
  assert {*one[0][0]} < {*union[0][0]}


def test_cells_of_which_one_concatenates_all_its_nodes():
  full = zoo.get("darts")
  cut = functools.partial(lambda cell: cell._replace(concat=cell.concat[1:]))
  loose = codec.check(records.Genotype(*map(cut, zoo.get("pdarts"))))
  space = spaces.space_for(full, others=[loose])
  assert space.name == "nat_loose_end" and "dil_conv_3x3" in space.candidates
  _, starts, drawn = draw([full, loose], space)
  around_full = drawn.concat.all((1, 2))
  assert 0.4 < around_full.mean() < 0.6
  for number, start in enumerate(starts):
    same = (drawn.operation == start.operation).all((1, 2, 3)) & (
        drawn.source == start.source).all((1, 2, 3))
    assert same.sum() > 20
    np.testing.assert_array_equal(around_full[same], number == 0)
