"""Searches in a space, by a method that hands over to another on the way."""

import dataclasses
import functools
import json
from unittest import mock

import jax
import jax.numpy as jnp
import pytest

from natjax import errors, methods, pipeline, spaces
from natjax.graph import codec
from natjax.methods import entry
from natjax.pipeline import checks, presets, runs
from natjax.pipeline import networks as networks_lib
from natjax.training import method as base
from tests.pipeline import test_pipeline


@dataclasses.dataclass(frozen=True)
class GuessConfig:
  """Settings of a search that guesses."""

  epochs: int = 2


def counting(name, epochs, **more):
  """A method that adds up labels and random numbers."""

  def update(state, batch):
    rng, key = jax.random.split(state["rng"])
    total = 0.9 * state["total"] + base.mean_over_devices(
        jnp.sum(batch["label"]) + jax.random.normal(key))
    return {"total": total, "rng": rng}, {"loss": total}

  phase = base.Phase("count", ("half",), update, ("loss",))
  return base.Method(
      lambda rng: {"total": jnp.zeros(()), "rng": rng},
      (base.Stage(name, epochs, (phase,), more.pop("end", None)),), **more)


def build(request):
  assert request.architecture is None
  space = spaces.get(request.space)

  def derive(state, given, score, rng):
    mean = score(lambda total, batch: batch["label"] + total,
                 state["total"] * 0, split="other")
    return base.Derived(given, None, {
        "total": float(state["total"]), "mean": float(mean)})

  second = counting("second", 1, derive=derive)
  first = counting(
      "first", request.settings.epochs, end=lambda state: base.Handover(
          second, state, test_pipeline.GENOTYPE, {"handed": float(
              state["total"])}))
  return entry.Plan(
      first, request.settings, None, space.describe(),
      {"half": 0.5, "other": 0.5}, 16,
      lambda batch: {"params": 1, "memory_bytes": batch}, "float32")


@pytest.fixture(autouse=True)
def guess():
  made = entry.check(entry.Entry(
      GuessConfig, build, lambda *what: GuessConfig(), "guesses",
      starts="space"))
  with mock.patch.dict(methods.METHODS, {"guess": made}):
    yield


search = functools.partial(
    pipeline.search, "nat", method="guess", devices=1,
    train=dataclasses.replace(test_pipeline.TRAIN, seeds=1))


@pytest.mark.long
def test_a_search_hands_over_derives_and_trains_what_it_found(tmp_path):
  data = test_pipeline.dataset()
  out = tmp_path / "whole"
  result = search(data, out=out)
  assert set(result["architectures"]) == {"derived"}
  assert codec.read(out / "architecture.json") == test_pipeline.GENOTYPE
  assert "original" not in result and result["derived"]["accuracies"]
  assert result["mean"] != 0 and result["handed"] != result["total"]
  config = runs.read_config(out)
  assert (config["kind"], config["space"]["name"]) == ("search", "nat")
  assert "architecture" not in config
  rows = [json.loads(line)
          for line in (out / "metrics.jsonl").read_text().splitlines()]
  assert [(r["run"], r["stage"]) for r in rows] == [
      ("search", "first"), ("search", "first"), ("search2", "second"),
      ("derived-0", "train"), ("derived-0", "train")]
  assert networks_lib.load(out).test_accuracy == result["derived"]["accuracy"]
  # Stopped after each program in turn, and resumed.
  stops = iter([False] * 4 + [True, False, True] + [False] * 99)
  listener = pipeline.Listener(should_stop=lambda: next(stops),
                               chunk_seconds=0, checkpoint_seconds=0)
  for _ in range(2):
    with pytest.raises(errors.Interrupted):
      search(data, out=tmp_path / "again", listener=listener)
  again = search(data, out=tmp_path / "again", listener=listener)
  plain = lambda r: {k: v for k, v in r.items()
                     if "seconds" not in k and "memory" not in k
                     and k != "time"}
  assert plain(again) == plain(result)


@pytest.mark.parametrize("fractions", [{"half": 1.0}, {"all": 1.0}])
def test_a_plan_names_the_splits_that_its_phases_walk(fractions):
  def other(request):
    return build(request)._replace(fractions=fractions)

  known = methods.METHODS["guess"]
  with mock.patch.dict(methods.METHODS, guess=known._replace(build=other)):
    make = functools.partial(
        pipeline.Job, None, test_pipeline.dataset(), "guess", GuessConfig(),
        test_pipeline.TRAIN, space="nat", devices=1)
    if "half" in fractions:
      assert len(make().feed.splits["half"].labels) == 96
    else:
      with pytest.raises(errors.InputError, match="walks the split 'half'"):
        make()


def test_several_seeds_search_on_their_own():
  job = pipeline.Job(
      None, test_pipeline.dataset(), "guess", GuessConfig(),
      test_pipeline.TRAIN, space="nat", seed=2, seeds=3, devices=1)
  config, estimate = job.describe(), job.estimate()
  assert config["seeds"] == [2, 3, 4] and config["train"]["seeds"] == 1
  assert estimate["search"]["steps"] == 3 * (2 * 3)
  assert "train" not in estimate  # What will be found is not known.


@pytest.mark.parametrize("change,message", [
    ({"space": None}, "none is given; name one of nat"),
    ({"space": "big"}, "'big' is unknown"),
    ({"method": "nat", "search": methods.METHODS["nat"].settings()},
     "starts from a given architecture"),
    ({"architecture": test_pipeline.GENOTYPE}, "starts from a space"),
])
def test_starts_that_do_not_fit_are_refused(change, message):
  arguments = {"architecture": None, "method": "guess",
               "search": GuessConfig(), "space": "nat", **change}
  space = arguments.pop("space")
  with pytest.raises(errors.InputError, match=message):
    pipeline.Job(dataset=test_pipeline.dataset(), train=test_pipeline.TRAIN,
                 devices=1, space=space, **arguments)


@pytest.mark.parametrize("method, by, chosen, used, idle", [
    ("random", "score", "naswot", "trained", {"epochs": 3}),
    ("random", "score", "synflow", "trained", {"momentum": 0.5}),
    ("random", "search", "random", "evolution", {"population": 3}),
    ("spos", "search", "random", "evolution", {"mutations": 1})])
def test_what_another_setting_leaves_idle_is_refused(
    method, by, chosen, used, idle):
  (name, value), = idle.items()
  for preset in presets.get("demo", method=method), presets.get(
      "paper", method=method):
    search = dataclasses.replace(preset.search, **{by: chosen})
    checks.entry(method, search, None, ())
    with pytest.raises(errors.InputError, match=(
        f"^{name} is {value} and does nothing with {by} {chosen}; leave it"
        )) as refused:
      checks.entry(method, dataclasses.replace(search, **idle), None, ())
    assert refused.value.field == f"search.{name}"
    checks.entry(method, dataclasses.replace(
        search, **idle, **{by: used}), None, ())
