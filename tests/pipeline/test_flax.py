"""People's own flax modules in the jobs and on the command line."""

import dataclasses
import json

import flax
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import natjax
from natjax import cli, errors, pipeline
from natjax.cli import inputs
from natjax.methods import replace, supervised
from natjax.networks import flax_blocks
from natjax.operations import registry
from natjax.pipeline import networks as networks_lib
from tests.methods import test_replace
from tests.toys import flax_networks

STILL = supervised.TrainConfig(
    epochs=1, batch_size=16, learning_rate=0.0, final_learning_rate=0.0,
    weight_decay=0.0, cutout=0)
MODULE = flax_networks.ResNet((1,), filters=4)


def own():
  """A module, its variables and an example, as a user's function gives them."""
  return MODULE, *flax_networks.drawn(MODULE, 8)


def unseen():
  """As `own`, without variables."""
  return own()[::2]


def neither():
  return 3


class _Living(nnx.Module):

  def __init__(self, rngs):
    self.first = nnx.Conv(3, 4, (3, 3), rngs=rngs)
    self.second = nnx.Conv(4, 8, (3, 3), strides=2, rngs=rngs)
    self.head = nnx.Linear(8, 10, rngs=rngs)

  def __call__(self, x):
    x = nnx.relu(self.second(nnx.relu(self.first(x))))
    return self.head(jnp.mean(x, (1, 2)))


def living():
  """A module of nnx and an example."""
  return _Living(nnx.Rngs(0)), jnp.zeros((1, 8, 8, 3))


class _Curved(_Living):

  def __call__(self, x):
    x = nnx.gelu(self.second(nnx.relu(self.first(x))))
    return self.head(jnp.mean(x, (1, 2)))


def curved():
  """A module with a part that no block expresses."""
  return _Curved(nnx.Rngs(0)), jnp.zeros((1, 8, 8, 3))


@pytest.fixture(scope="module")
def mine():
  return flax_blocks.from_flax(*own())


def train(out, given, **options):
  return pipeline.train(
      given.network, test_replace.dataset(), out=out, config=STILL,
      listener=None, **options)


def test_a_training_begins_with_variables(mine, tmp_path):
  result = train(tmp_path / "run", mine, weights=mine.variables)
  jax.tree.map(np.testing.assert_array_equal, result.variables["params"],
               mine.variables["params"])
  # What comes out is a flax module, which needs nothing of the training.
  module, variables, images = own()
  given = {**result.variables, "batch_stats": mine.variables["batch_stats"]}
  np.testing.assert_allclose(
      result.module.apply(given, images)[0],
      module.apply(variables, images, train=False), rtol=1e-5, atol=1e-5)
  kept = json.loads((tmp_path / "run" / "config.json").read_text())["weights"]
  assert set(kept["0"]) == {"crc32"}
  # The same again is there already; others are another run.
  again = jax.tree.map(np.array, mine.variables)
  assert train(tmp_path / "run", mine, weights=again) == result
  other = jax.tree.map(lambda leaf: leaf + 1, mine.variables)
  with pytest.raises(errors.InputError, match="another configuration"):
    train(tmp_path / "run", mine, weights=other)


def test_other_variables_are_refused(mine, tmp_path):
  for given, words in (
      (own()[1], "they lack batch_stats/block0"),
      ({"kernel": 1}, "without 'params'"),
      ({"params": {}}, "they lack")):
    with pytest.raises(errors.InputError, match=words):
      train(tmp_path / "run", mine, weights=given)
  assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_replacement_begins_with_them(mine, tmp_path):
  """Nearly nothing is learnt, so that what is kept is what was given."""
  still = dataclasses.replace(
      STILL, learning_rate=1e-9, epochs=1, batch_size=64)
  result = natjax.transform(
      mine.network, test_replace.dataset(), out=tmp_path / "run",
      method="replace", weights=mine.variables, train=still, listener=None,
      search=replace.ReplaceConfig(
          max_madds="0.7x", held_out=0.0, price_images=64, price_checks=0))
  assert result["transformed"]["madds"] <= 0.7 * result["original"]["madds"]
  assert result.network.architecture != mine.network
  original = natjax.load(tmp_path / "run", "original-0")
  jax.tree.map(np.testing.assert_array_equal, original.variables,
               mine.variables)
  flat = flax.traverse_util.flatten_dict
  given, found = (flat(v["params"]) for v in (mine.variables, result.variables))
  assert len(given.keys() & found.keys()) >= 5
  for path in given.keys() & found.keys():
    np.testing.assert_allclose(found[path], given[path], atol=1e-6)


FLAG = [f"{__name__}:own", "--dataset", "digits", "--dry-run", "--json",
        "--method", "replace"]


def config(capsys, *command):
  capsys.readouterr()
  assert cli.main([*map(str, command)]) == 0
  return json.loads(capsys.readouterr().out)["configuration"]


def test_the_command_line_takes_a_function(mine, tmp_path, capsys):
  found = config(capsys, "transform", *FLAG)
  given = found["weights"]
  assert found["image_size"] == 8 and set(given["0"]) == {"crc32"}
  assert found["train"]["seeds"] == 1  # As many as there are networks.
  assert natjax.codec.from_dict(found["architecture"]) == mine.network
  # Of a file, whether of the module or as natjax writes it, they are the same.
  (tmp_path / "own.msgpack").write_bytes(
      flax.serialization.to_bytes(own()[1]))
  networks_lib.save_weights(tmp_path / "own.npz", own()[1])
  (tmp_path / "OWN.MSGPACK").write_bytes(
      (tmp_path / "own.msgpack").read_bytes())
  (tmp_path / "state.msgpack").write_bytes(flax.serialization.to_bytes({
      "step": 3, **own()[1], "opt_state": {"0": {"count": 3}}}))
  for file in ("own.msgpack", "OWN.MSGPACK", "own.npz", "state.msgpack"):
    assert config(capsys, "transform", f"{__name__}:unseen", *FLAG[1:],
                  "--weights", tmp_path / file)["weights"] == given
  networks_lib.save_weights(tmp_path / "natjax.npz", mine.variables)
  kept = config(capsys, "transform", f"{__name__}:unseen", *FLAG[1:],
                "--weights", tmp_path / "natjax.npz")["weights"]["0"]
  assert kept["path"].endswith("natjax.npz")
  drawn = config(capsys, "transform", f"{__name__}:unseen", *FLAG[1:])
  assert "weights" not in drawn and drawn["train"]["seeds"] == 3
  assert config(capsys, "train", f"{__name__}:own", "--dataset", "digits",
                "--dry-run", "--json")["train"]["seeds"] == 1


def test_the_command_line_takes_a_module_of_nnx(tmp_path, capsys):
  command = ("transform", f"{__name__}:living", *FLAG[1:])
  found = config(capsys, *command)
  assert found["image_size"] == 8 and set(found["weights"]["0"]) == {"crc32"}
  # It holds its weights; those of natjax's file are taken in their place.
  given = flax_blocks.from_flax(living()[0], None, living()[1])
  networks_lib.save_weights(tmp_path / "own.npz", given.variables)
  kept = config(capsys, *command, "--weights", tmp_path / "own.npz")
  assert kept["weights"]["0"]["path"].endswith("own.npz")


def test_a_run_with_fixed_operations_in_another_process(
    tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(registry, "_REGISTRY", {**registry._REGISTRY})
  out, module = str(tmp_path / "run"), f"{__name__}:curved"
  assert cli.main(["train", module, "--dataset", "digits", "--epochs", "1",
                   "--batch-size", "256", "--out", out]) == 0
  trained = json.loads((tmp_path / "run/result.json").read_text())["accuracy"]
  fixed = [n for n in registry._REGISTRY if n.startswith("fixed_")]
  assert fixed

  def forget():
    """As it is when another process begins."""
    for name in fixed:
      registry._REGISTRY.pop(name, None)
    inputs.imported.cache_clear()
    capsys.readouterr()

  for words in (["cost", out], ["draw", out, "--out", f"{out}/again.svg"],
                ["evaluate", out]):
    forget()
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "--module package.module:function" in said and said.count("\n") == 1
    assert cli.main([*words, "--module", module]) == 0
  forget()
  assert cli.main(["evaluate", out, "--json", "--module", module]) == 0
  network, = json.loads(capsys.readouterr().out)["networks"]
  assert network["accuracy"] == pytest.approx(trained)
  for wrong, words in ((f"{__name__}:gone", "no attribute 'gone'"),
                       (f"{__name__}:living", "leave it out"),
                       ("resnet20", "names no function")):
    capsys.readouterr()
    assert cli.main(["evaluate", out, "--module", wrong]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1, said


@pytest.mark.parametrize("name, more, words", [
    (f"{__name__}:gone", (), "has no attribute 'gone'"),
    ("no.such_module:net", (), "No module named 'no'"),
    ("sys:exit", (), "does not give a flax module (SystemExit)"),
    ("leaving:net", (), "does not give a flax module (SystemExit: 3)"),
    (f"{__name__}:neither", (), "must give (module, variables, example)"),
    (f"{__name__}:own", ("--weights", "damaged.msgpack"), "is damaged"),
    (f"{__name__}:own", ("--weights", "other.msgpack"), "they lack"),
    (f"{__name__}:own", ("--weights", "gone.npz"), "no such file"),
    (f"{__name__}:own", ("--train-skeleton", "cifar"), "brings its own"),
])
def test_the_command_line_refuses(name, more, words, tmp_path, monkeypatch,
                                  capsys):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "damaged.msgpack").write_bytes(b"\x81\xa6par")
  (tmp_path / "leaving.py").write_text("raise SystemExit(3)")
  (tmp_path / "other.msgpack").write_bytes(flax.serialization.to_bytes(
      {"params": {"Dense_0": {"kernel": np.zeros((2, 2), "f")}}}))
  assert cli.main(["transform", name, *FLAG[1:], *more]) == 2
  said = capsys.readouterr().err
  assert words in said and said.count("\n") == 1, said


def test_a_function_that_exits_is_refused(capsys):
  assert cli.main(["cost", "sys:exit"]) == 2
  assert cli.main(["cost", "darts", "--module", "sys:exit"]) == 2
  assert capsys.readouterr().err.count("\n") == 2
