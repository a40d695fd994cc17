"""No method returns what was seen to be worse than what it was given."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, methods, pipeline
from natjax.cli import output
from natjax.graph import codec
from natjax.methods import replace_fresh, replace_tune, supervised
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import versus
from tests.methods import test_replace
from tests.pipeline import test_union

NETWORK = test_union.network("conv_1x1", "conv_1x1")
# Of every method those that it has; something has to be changed.
SETTINGS = {
    "epochs": 1, "batch_size": 16, "candidates": 3, "finalists": 1,
    "trial_epochs": 1, "population": 6, "generations": 1, "parents": 2,
    "mutations": 3, "crossovers": 2, "architecture_epochs": 1,
    "distil_epochs": 1, "price_images": 16, "price_checks": 0,
    "max_madds": "0.9x", "held_out": 0.2}
TRANSFORM = sorted(
    name for name, entry in methods.METHODS.items() if entry.starts != "space")
TRAIN = supervised.TrainConfig(
    epochs=2, batch_size=16, learning_rate=0.05, cutout=0, seeds=1,
    drop_path=0.0, auxiliary=False)


def transform(method, out, **options):
  kind = methods.METHODS[method].settings
  names = {f.name for f in dataclasses.fields(kind)}
  return pipeline.transform(
      NETWORK, test_replace.dataset(100), out=out, method=method, share="full",
      search=kind(**{k: v for k, v in SETTINGS.items() if k in names}),
      **{"train": TRAIN, "devices": 1, "listener": None, **options})


def planted(monkeypatch, lost):
  """Has all comparisons of 100 images end so."""
  monkeypatch.setattr(versus, "count", lambda *args, **more: {
      "images": 100, "right": 80 - lost, "original_right": 80, "won": 0,
      "lost": lost})
  for owner in (replace_tune.Tuning, replace_fresh.Fresh):
    monkeypatch.setattr(
        owner, "update_pairs", lambda *args: (
            args[-2]._replace(pairs=jnp.array([100, 0, lost], jnp.int32)),
            {"difference": jnp.zeros(())}))


@pytest.mark.long
@pytest.mark.parametrize("method,train_from", [
    *((name, None) for name in TRANSFORM), ("replace", "scratch")])
def test_what_is_seen_to_be_worse_is_not_returned(
    method, train_from, tmp_path, monkeypatch, capsys):
  planted(monkeypatch, 10)
  out = tmp_path / "run"
  result = transform(method, out, train_from=train_from)
  refused = result.get("acceptance") or result["seeds"][0]["tries"][-1]
  assert (refused["accepted"], refused["lost"]) == (False, 10)
  said = assert_kept(result, out, method, refused, capsys)
  assert ("the architecture trained from scratch is refused, too:" in said) == (
      train_from == "scratch")


def assert_kept(result, out, method, refused, capsys):
  """That files, tables, the result and the network are of one mind."""
  assert json.loads((out / "result.json").read_text()) == result
  assert result.kept and result["changes"] == []
  assert result["transformed"] == result["original"]
  assert codec.pad(codec.read(out / "architecture.json")) == codec.pad(NETWORK)
  shown = [*map(codec.from_dict, result["architectures"].values())]
  assert codec.pad(shown[0]) == codec.pad(shown[1]) == codec.pad(NETWORK)
  assert codec.pad(result.network.architecture) == codec.pad(NETWORK)
  loaded = networks_lib.networks(out)
  original, *others = (networks_lib.load_weights(folder / "weights.npz")
                       for folder in loaded.values())
  for other in others:
    jax.tree.map(np.testing.assert_array_equal, original, other)
  output.print_transformed(result, out, methods.METHODS[method])
  for said in (capsys.readouterr().out, str(result)):
    said = " ".join(said.split())
    assert "The original was kept" in said and refused["reason"] in said
    assert ("worse by more than the tolerance of 0.5, where one image counts"
            ) in said
    assert "more of them (held-out) or a larger tolerance help" in said
  return said


@pytest.mark.long
@pytest.mark.parametrize("method", sorted(
    name for name in TRANSFORM if not methods.METHODS[name].trained))
def test_what_ends_worse_than_its_trial_is_not_returned(
    method, tmp_path, monkeypatch, capsys):
  planted(monkeypatch, 0)
  out, promised = tmp_path / "run", versus.count
  accepted = transform(method, tmp_path / "other")
  assert not accepted.kept and accepted["confirmation"]["accepted"]
  trials = [0]

  def worse(*args, **more):
    """As good in its one trial, then worse."""
    found = promised(*args, **more)
    trials[0] += 1
    return found if trials[0] == 1 else {
        **found, "right": 79, "lost": 1}

  monkeypatch.setattr(versus, "count", worse)
  # Ended at each of the first moments, and resumed.
  for number in (2, 5, 9, 14):
    stops = iter([False] * number + [True])
    with pytest.raises(errors.Interrupted):
      transform(method, out, listener=pipeline.Listener(
          should_stop=lambda stops=stops: next(stops), chunk_seconds=0,
          checkpoint_seconds=0))
  result = transform(method, out)
  refused = result["confirmation"]
  assert result["acceptance"]["accepted"] and trials == [2]
  assert (refused["accepted"], refused["lost"], refused["seeds"]) == (
      False, 1, 1)
  assert_kept(result, out, method, refused, capsys)
  assert [path.name for path in (out / "refused").iterdir()] == [
      "transformed-0"]
  assert [row["original"] for row in result["candidates"] if row["chosen"]] in (
      [], [True])  # Over the budget it is no candidate.
