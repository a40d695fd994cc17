"""What is kept, by its names, and that no method changes it."""

import dataclasses
import functools

import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from natjax import errors, spaces, zoo
from natjax.costs import budget
from natjax.graph import blocks, codec, keeping, records
from natjax.methods import (
    aims,
    differentiable,
    evolved,
    inference,
    nat,
    natpp,
    replace_config,
    replacements,
    theta_space,
)
from natjax.spaces import ground as ground_lib
from natjax.spaces import inputs
from natjax.training import settings as settings_lib
from tests import architectures, tiny
from tests.methods import test_evolved

FRAME = records.Frame(10, 8)
SKELETON = records.Skeleton("cifar", 4, 3, 10, 8)
RESNET = blocks.scale(zoo.get("resnet20"), 0.25)
DARTS = zoo.get("darts")
SOME = {"blocks:0-2": dict.fromkeys(range(3)),
        "block 5": {5: None}, "stem,head": {},
        "blocks:3/edge:1-2, blocks:8": {3: (1, 2), 8: None}}
OF_CELLS = {"normal": {"normal": None}, "reduce/edge:1-2, stem": {
    "reduce": (1, 2)}, "normal/edge:0-3,reduce": {
        "normal": (0, 3), "reduce": None}}


def stands(architecture, kept):
  """What stands on the edges that are to be kept."""
  cell = lambda part: architecture.blocks[part] if isinstance(
      part, int) else getattr(architecture, part)
  return {part: [edge for edge in cell(part).edges
                 if ends is None or edge[1:] == ends]
          for part, ends in kept.items()}


@pytest.mark.parametrize("shown, name, of", [
    ("block 3 1 -> 2", "blocks:3/edge:1-2", RESNET),
    ("block 3/1->2", "blocks:3/edge:1-2", RESNET),
    ("normal 0 -> 2", "normal/edge:0-2", DARTS),
    ("reduce/edge 0 -> 4", "reduce/edge:0-4", DARTS)])
def test_what_tables_show_is_a_name(shown, name, of):
  assert keeping.read(shown, of) == keeping.read(name, of)


@pytest.mark.parametrize("keep, kept", [*SOME.items(), *OF_CELLS.items()])
def test_names_are_read(keep, kept):
  of = DARTS if keep in OF_CELLS else RESNET
  found = keeping.read(keep, of)
  assert found == {part: {edge[1:] for edge in edges}
                   for part, edges in stands(of, kept).items()}


@pytest.mark.parametrize("keep, of, there", [
    ("blocks:0-9", RESNET, "blocks:0-8, of these edges such as"),
    ("blocks:2-1", RESNET, "blocks:0-8"), ("layer3", RESNET, "stem, head"),
    ("stem,,head", RESNET, "''"), ("normal", RESNET, "blocks:0-8"),
    ("blocks:0", DARTS, "normal, reduce"),
    ("blocks:3/edge:1-9", RESNET, "blocks:3/edge:1-2, blocks:3/edge:2-3")])
def test_what_is_not_there_is_refused_in_one_line(keep, of, there):
  with pytest.raises(errors.InputError) as e:
    keeping.read(keep, of)
  assert there in str(e.value) and "\n" not in str(e.value)
  assert e.value.field == "keep" and f"keep is '{keep}'" in str(e.value)


def test_only_what_is_named_is_kept_of_blocks_decided_on_together():
  found = keeping.decide(RESNET, FRAME, "cell", "blocks:1,blocks:6/edge:1-2")
  assert [(d.name, d.members, any(d.fixed)) for d in found] == [
      ("blocks 0, 2, 4-5, 7-8", (0, 2, 4, 5, 7, 8), False),
      ("block 1", (1,), True), ("block 3", (3,), False),
      ("block 6", (6,), True)]
  assert found[3].fixed == (True, False, False)
  assert keeping.decide(RESNET, FRAME, "cell") == codec.decide(
      RESNET, FRAME, "cell")


def test_the_order_of_decisions_does_not_depend_on_what_stands_there():
  other = RESNET._replace(blocks=tuple(
      block._replace(edges=tuple(
          edge._replace(operation="skip_connect") for edge in block.edges))
      if i == 4 else block for i, block in enumerate(RESNET.blocks)))
  members = [d.members for d in keeping.decide(
      other, FRAME, "full", "blocks:7")]
  assert members == [(i,) for i in range(9)]


@functools.cache
def replaced(keep, share="full"):
  return replacements.Replacements(
      RESNET if keep in SOME else architectures.UNEQUAL,
      FRAME if keep in SOME else SKELETON, share, keep)


@pytest.mark.parametrize("keep, share", [
    ("blocks:0-2", "cell"), ("blocks:3/edge:1-2, blocks:8", "full"),
    ("normal/edge:0-3,reduce", "cell")])
@hypothesis.given(st.integers(0, 2**32 - 1), st.floats(0.85, 0.95))
@hypothesis.settings(max_examples=4, deadline=None)
def test_no_replacement_changes_what_is_kept(keep, share, seed, factor):
  space = replaced(keep, share)
  kept = {**SOME, **OF_CELLS}[keep]
  before = stands(space.architecture, kept)
  prices = space.by_place(
      np.random.default_rng(seed).random(len(space.alone())))
  limits = budget.Budget(madds=factor * space.cost.madds)
  choices = [*space.drawn(3, seed), space.choose(prices, limits)]
  assert choices[-1].any()
  for choice in choices:
    assert stands(space.apply(choice), kept) == before


@functools.cache
def weighed(keep, share):
  return theta_space.ThetaSpace(
      RESNET if keep in SOME else architectures.UNEQUAL,
      FRAME if keep in SOME else SKELETON, share, keep)


@pytest.mark.parametrize("keep, share", [
    ("blocks:0-2", "cell"), ("blocks:3/edge:1-2, blocks:8", "full"),
    ("normal/edge:0-3,reduce", "cell")])
@hypothesis.given(st.integers(0, 2**32 - 1))
@hypothesis.settings(max_examples=4, deadline=None)
def test_no_theta_changes_what_is_kept(keep, share, seed):
  space = weighed(keep, share)
  kept = {**SOME, **OF_CELLS}[keep]
  before = stands(space.architecture, kept)
  rng = np.random.default_rng(seed)
  theta = [rng.normal(size=np.shape(t)) for t in space.init()]
  for limits in (None, space.reachable(budget.read("0.98x", "", space.cost))):
    found = space.apply(space.choose(theta, limits))
    assert stands(found, kept) == before
    assert limits is None or found != space.architecture


@functools.cache
def searching(kind, keep, **changes):
  of = codec.pad(RESNET) if keep in SOME else DARTS
  space = spaces.space_for(of, method=kind.scheme, share="cell")
  sizes = {"init_channels": None, "cells": None} if keep in SOME else {}
  config = nat.NATConfig(**{
      **{"init_channels": 2, "cells": 3, "samples": 2, "candidates": 4},
      **sizes, "keep": keep, **changes})
  return of, kind(config, space._replace(keep=keep), num_classes=10,
                  image_size=8, given=of)


@pytest.mark.long
@pytest.mark.parametrize("kind, keep, changes", [
    (natpp.NATpp, "blocks:0-2", {"max_madds": "0.85x"}),
    (nat.NAT, "normal", {"policy": "published", "samples": 1})])
def test_no_candidate_of_a_policy_changes_what_is_kept(kind, keep, changes):
  of, method = searching(kind, keep, **changes)
  kept = {**SOME, **OF_CELLS}[keep]
  before = stands(of, kept)
  if method.published:  # As if what is smoothed were drawn often.
    method.table = method.table._replace(smoothing=1.0)
  _, report = inference.derive(
      method, method.policy.init(jax.random.key(0)), of,
      lambda cells: tiny.nested([1] * len(cells)), jax.random.key(1))
  changed = 0
  for row in report["candidates"]:
    found = codec.from_dict(row["architecture"])
    assert stands(found, kept) == before
    changed += found != of
  assert changed


@pytest.mark.long
@pytest.mark.parametrize("keep, changes", [
    ("blocks:0-2", {"max_madds": "0.85x"}), ("normal/edge:0-3,reduce", {})])
def test_no_candidate_of_evolution_changes_what_is_kept(keep, changes):
  of = codec.pad(RESNET) if keep in SOME else DARTS
  config = dataclasses.replace(
      test_evolved.CHAIN if keep in SOME else test_evolved.CONFIG,
      keep=keep, **changes)
  space = spaces.space_for(of, method="natpp", share="cell")
  method = evolved.Evolved(config, space._replace(keep=keep), num_classes=10,
                           image_size=8, given=of)
  kept = {**SOME, **OF_CELLS}[keep]
  # What changes most scores most.
  derived, _ = test_evolved.derive(method, of, sign=-1)
  found = [codec.from_dict(row["architecture"])
           for row in derived.report["candidates"]]
  assert len({*found} - {of}) > 1
  assert all(stands(one, kept) == stands(of, kept) for one in found)


@pytest.mark.parametrize("keep, of", [
    ("normal/edge:0-3,reduce", DARTS), ("blocks:0-2", codec.pad(RESNET))])
def test_inputs_around_an_architecture_hold_what_is_kept(keep, of):
  space = spaces.space_for(of, method="nat", share="cell")._replace(keep=keep)
  ground = ground_lib.Ground(
      space, FRAME if keep in SOME else SKELETON, scheme="nat")
  given = ground.encode(of)
  draw = jax.jit(jax.vmap(inputs.sampler(ground, given=[given])))
  drawn = draw(jax.random.split(jax.random.key(0), 64))
  kept = ground.kept(given)
  assert kept.any() and not kept.all()
  same = {name: np.asarray(getattr(drawn, name)) == getattr(given, name)
          for name in ("source", "operation")}
  assert same["source"][:, kept].all() and same["operation"][:, kept].all()
  assert not same["operation"][:, ~kept].all()


def test_where_sources_must_differ_what_is_kept_stays_too():
  space = spaces.space_for(DARTS)._replace(several=False, keep="normal")
  ground = ground_lib.Ground(space, SKELETON, scheme="nat")
  given = ground.encode(DARTS)
  draw = jax.jit(jax.vmap(inputs.sampler(ground, given=[given])))
  drawn = draw(jax.random.split(jax.random.key(1), 64))
  assert (np.asarray(drawn.source)[:, 0] == given.source[0]).all()
  assert (np.asarray(drawn.operation)[:, 0] == given.operation[0]).all()


@pytest.mark.parametrize("make", [
    lambda: replacements.Replacements(RESNET, FRAME, "full", "blocks:0-8"),
    lambda: theta_space.ThetaSpace(RESNET, FRAME, "cell", "blocks:0-8"),
    lambda: theta_space.ThetaSpace(
        architectures.UNEQUAL, SKELETON, keep="normal,reduce")])
def test_to_keep_everything_is_refused(make):
  with pytest.raises(errors.InputError) as e:
    make()
  assert e.value.field == "keep"


def test_a_policy_must_have_something_left():
  of, method = searching(nat.NAT, "blocks:0-2")
  assert aims.changeable(method, of)
  space = spaces.space_for(of)._replace(keep="blocks:0-8")
  method.ground = ground_lib.Ground(space, FRAME, scheme="nat")
  method.table, before = method.ground.table, method.table
  assert not aims.changeable(method, of)
  method.table = before


@pytest.mark.parametrize("config", [
    nat.NATConfig, replace_config.ReplaceConfig,
    differentiable.DifferentiableConfig])
def test_runs_made_before_there_was_such_a_setting_are_resumed(config):
  plain = settings_lib.describe(config())
  assert "keep" not in plain and "max_latency" not in plain
  assert {**plain, "keep": "stem"} == settings_lib.describe(
      config(keep="stem"))
  assert {f.name for f in dataclasses.fields(config)} - {*plain} <= {
      "keep", "max_memory", "max_latency", "inference_batch", "policy_epochs",
      "operations"}


def test_a_budget_that_what_is_kept_forbids_says_so():
  space = replaced("blocks:0-2")
  with pytest.raises(errors.NotMet, match="keep is 'blocks:0-2', which stands"):
    space.choose(space.by_place(np.zeros(len(space.alone()))),
                 budget.Budget(madds=0.1 * space.cost.madds))
  with pytest.raises(errors.NotMet, match="keep less, or allow more"):
    weighed("blocks:0-2", "full").reachable(budget.Budget(params=10))
