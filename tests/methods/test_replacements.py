"""What may replace an operation, and the choice of replacements."""

import dataclasses
import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import drawing, errors, operations, zoo
from natjax.costs import budget, exact
from natjax.graph import codec, live, records
from natjax.methods import lessons as lessons_lib
from natjax.methods import replacements
from natjax.networks import network as network_lib
from tests import architectures
from tests.toys import toy_operation

FRAME = records.Frame(10, 8)
SKELETON = records.Skeleton("cifar", 4, 3, 10, 8)
# A residual block and one that makes images smaller; a name of few operations.
RESIDUAL = records.BlockNetwork(
    "residual", (records.Layer("conv", 4, 3, activation="relu"),), (
        records.Block(
            (records.Node(4, activation="relu"),
             records.Node(4, activation="relu")),
            (records.Edge("conv_3x3", 1, 2), records.Edge("conv_3x3", 2, 3),
             records.Edge("skip_connect", 1, 3))),
        records.Block(
            (records.Node(8, 2, "relu"), records.Node(8, 2, "relu")),
            (records.Edge("conv_3x3", 1, 2), records.Edge("conv_1x1", 2, 3),
             records.Edge("skip_connect", 1, 3)))))


@functools.cache
def residual():
  return replacements.Replacements(RESIDUAL, FRAME)


@functools.cache
def drawn(make):
  space = make()
  return network_lib.init(
      space.network, jax.random.key(0), edge=space.every)


def cells():
  return replacements.Replacements(architectures.UNEQUAL, SKELETON, "cell")


def images(count=4):
  return jax.random.normal(jax.random.key(1), (count, 8, 8, 3))


def test_only_what_saves_something_may_stand_there():
  space = residual()
  names = {place[:2]: place.names for place in space.places}
  assert names[0, 0] == ("conv_3x3", "max_pool_3x3", "avg_pool_3x3",
                         "skip_connect", "sep_conv_3x3", "dil_conv_3x3",
                         "conv_1x1", "null")
  assert (0, 2) not in names  # A copy costs nothing.
  assert names[1, 2] == ("skip_connect", "null")  # A projection does.
  assert names[1, 1] == ("conv_1x1", "skip_connect", "null")


def test_fixed_nodes_are_left_alone():
  places = replacements.Replacements(
      architectures.PADDED, records.Frame(10, 32)).places
  assert all(place.edge != 0 for place in places if place.decision > 0)


@pytest.mark.long
@pytest.mark.parametrize("make", [residual, cells])
def test_a_choice_as_data_computes_what_its_architecture_does(make):
  space, variables = make(), drawn(make)
  x = images()

  @functools.partial(jax.jit, static_argnums=1)
  def selected(choice, train):
    (logits, _), _ = space.network.apply(
        variables, x, train=train, mutable=["batch_stats"],
        edge=space.chosen(choice))
    return logits

  for choice in (*space.drawn(4, seed=3), np.zeros(len(space.places), int)):
    architecture = space.apply(choice)
    alone = network_lib.module(architecture, space.place)
    like = jax.eval_shape(
        lambda rng, m=alone: network_lib.init(m, rng), jax.random.key(0))
    own = jax.tree_util.tree_map_with_path(
        lambda path, _: functools.reduce(
            lambda tree, key: tree[key.key], path, variables), like)
    for train in (False, True):
      (logits, _), _ = jax.jit(functools.partial(
          alone.apply, train=train, mutable=["batch_stats"]))(own, x)
      np.testing.assert_allclose(
          selected(choice, train), logits, rtol=2e-4, atol=2e-4)


def heard(space, variables):
  """The lessons of a batch, and what the network gave meanwhile."""
  lessons = []
  (logits, _), _ = space.network.apply(
      variables, images(), train=True, mutable=["batch_stats"],
      edge=space.listen(variables["params"], lessons))
  return lessons, logits


@pytest.mark.long
def test_replacements_learn_beside_the_network_as_if_alone():
  space, variables = residual(), drawn(residual)
  given = network_lib.init(space.network, jax.random.key(0))
  plain = space.network.apply(
      variables, images(), train=True, mutable=["batch_stats"])[0][0]
  lessons, logits = heard(space, variables)
  np.testing.assert_allclose(logits, plain, rtol=1e-6)
  losses, grads, stats = lessons_lib.learn(
      lessons, variables["params"], variables["batch_stats"],
      jax.random.key(1))
  # What has no parameters (pooling, a copy) learns nothing.
  wanted = {(f"block{place.decision}", f"edge{place.edge}_{name}")
            for place in space.places for name in place.names[1:]}
  wanted &= {(block, module) for block, parts in variables["params"].items()
             for module in parts}
  found = {(block, module) for block, parts in grads.items()
           for module in parts}
  assert found == wanted and len(losses) == len(wanted)
  assert not any(module in given["params"][block] for block, module in found)
  # Places that take turns in a loop, and those that are alone: each by itself.
  sizes = [len(lesson.path) for lesson in lessons]
  assert len({(lesson.ends, *lesson.path) for lesson in lessons}) < len(sizes)
  for lesson in lessons:
    for name, (block, module) in lesson.path.items():
      own = variables["params"][block][module]

      def loss(own, lesson=lesson, name=name, block=block, module=module):
        y, new = lesson.made(name).apply(
            {"params": own, "batch_stats": variables["batch_stats"].get(
                block, {}).get(module, {})}, lesson.source,
            mutable=["batch_stats"])
        relative = jnp.mean(jnp.square(y - lesson.wanted)) / (
            jnp.var(lesson.wanted) + 1e-6)
        return relative, new.get("batch_stats", {})

      (value, new), grad = jax.value_and_grad(loss, has_aux=True)(own)
      assert float(jnp.abs(losses - value).min()) <= 1e-5 * float(value)
      jax.tree.map(functools.partial(
          np.testing.assert_allclose, rtol=1e-4, atol=1e-5), grad,
          grads[block][module])
      jax.tree.map(functools.partial(
          np.testing.assert_allclose, rtol=1e-5, atol=1e-6), new,
          stats.get(block, {}).get(module, {}))


def test_a_loss_is_relative():
  space, variables = residual(), drawn(residual)
  outputs = {}

  def edge(site):
    y = site.run(site.operation)
    outputs[site.block, site.edge] = y, site.run("conv_1x1") if (
        site.edge == 0) else None
    return y

  space.network.apply(variables, images(), train=True, mutable=["batch_stats"],
                      edge=edge)
  lesson = next(
      lesson for lesson in heard(space, variables)[0]
      if lesson.path.get("conv_1x1") == ("block0", "edge0_conv_1x1"))
  wanted, given = outputs[0, 0]
  found, _, _ = lessons_lib.learn([lesson], variables["params"],
                                  variables["batch_stats"], jax.random.key(0))
  np.testing.assert_allclose(
      found[list(lesson.path).index("conv_1x1")],
      np.mean((wanted - given)**2) / (np.var(wanted) + 1e-6), rtol=1e-4)


def least(space, prices, limits):
  """The least price in sum, by trying every choice."""
  best = np.inf
  for choice in itertools.product(*(
      range(len(place.names)) for place in space.places)):
    price = sum(p[c] for p, c in zip(prices, choice, strict=True))
    if price < best and fed(space, choice) and limits.allows(exact.network(
        space.apply(choice), space.place)):
      best = price
  return best


def fed(space, choice):
  """Whether every node that something reads has an input."""
  cells = [list(d.cell.edges) for d in codec.decide(
      space.architecture, space.place, space.share)]
  for place, o in zip(space.places, choice, strict=True):
    edges = cells[place.decision]
    edges[place.edge] = edges[place.edge]._replace(operation=place.names[o])
  for edges, block in zip(cells, RESIDUAL.blocks, strict=True):
    some = [edge for edge in edges if edge.operation != operations.NULL]
    read = {edge.source for edge in some} | {*block.outputs}
    if any(node >= 2 and node not in {edge.target for edge in some}
           for node in read):
      return False
  return True


@pytest.mark.parametrize("share", [0.9, 0.6, 0.45, 0.3])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_choice_is_the_best_of_all(share, seed):
  space = residual()
  rng = np.random.default_rng(seed)
  prices = space.by_place(rng.random(len(space.alone()))**2)
  limits = budget.Budget(madds=share * space.cost.madds)
  choice = space.choose(prices, limits)
  total = sum(p[c] for p, c in zip(prices, choice, strict=True))
  assert total == pytest.approx(least(space, prices, limits), abs=1e-6)
  assert limits.allows(exact.network(space.apply(choice), FRAME))
  assert fed(space, choice)


@pytest.mark.parametrize("name, place, share", [
    ("resnet20", records.Frame(10, 16), "full"),
    ("mobilenetv2", records.Frame(10, 16), "full"),
    ("darts", records.Skeleton("cifar", 4, 5, 10, 16), "cell"),
    ("resnet20", records.Frame(10, 16), "cell")])
def test_real_networks_keep_to_their_budgets(name, place, share):
  space = replacements.Replacements(zoo.get(name), place, share)
  prices = space.by_place(
      np.random.default_rng(0).random(len(space.alone())))
  for limits in (budget.Budget(madds=0.8 * space.cost.madds),
                 budget.Budget(0.9 * space.cost.params,
                               0.85 * space.cost.madds)):
    found = space.apply(space.choose(prices, limits))
    assert limits.allows(exact.network(found, place))
    assert live_outputs(found, space)


def live_outputs(architecture, space):
  """Whether every node of an output that was fed is fed still."""
  for before, after in zip(*(codec.decide(a, space.place, space.share)
                             for a in (space.architecture, architecture)),
                           strict=True):
    for node in before.cell.concat:
      into = [e for e, edge in enumerate(before.cell.edges)
              if edge.target == node]
      if into and live.nulls(after.cell)[into].all():
        return False
  return True


@pytest.mark.parametrize("field", ["params", "madds"])
def test_what_no_choice_keeps_to_is_said(field):
  prices = residual().by_place(np.ones(len(residual().alone())))
  with pytest.raises(errors.NotMet) as e:
    residual().choose(prices, budget.Budget(**{field: 1}))
  # What it names is reachable, and nothing less is; the other is not named.
  (named, least), = re.findall(r"max-(\w+) (\d+)", str(e.value))
  assert named == field
  limits = budget.Budget(**{field: int(least)})
  assert limits.allows(exact.network(residual().apply(
      residual().choose(prices, limits)), FRAME))
  with pytest.raises(errors.NotMet):
    residual().choose(prices, budget.Budget(**{field: int(least) - 1}))


def test_places_are_called_as_in_the_table_of_changes():
  cell = records.Cell(tuple(records.Edge(*edge) for edge in (
      ("sep_conv_5x5", 0, 2), ("sep_conv_3x3", 0, 2), ("conv_3x3", 1, 3),
      ("conv_3x3", 2, 3))), (2, 3))
  space = replacements.Replacements(
      codec.check(records.Genotype(cell, cell)), SKELETON, "cell")
  named = [name for name, _ in space.named()]
  ends = ["0 -> 2", "0 -> 2 (2)", "1 -> 3", "2 -> 3"]
  assert named == [f"{kind}, {end}" for kind in ("normal", "reduce")
                   for end in ends]
  for p, (name, _) in enumerate(space.named()):
    choice = np.zeros(len(named), np.int32)
    choice[p] = 1
    change, = drawing.changes(space.architecture, space.apply(choice))
    assert name.removesuffix(" (2)") == (
        f"{change.cell}, {change.source} -> {change.target}")


def test_nothing_to_replace_is_said():
  block = records.Block((records.Node(4),), (records.Edge(
      "skip_connect", 1, 2),))
  copies = RESIDUAL._replace(blocks=(block,))
  with pytest.raises(errors.InputError, match="nothing to replace"):
    replacements.Replacements(copies, FRAME)


def test_only_what_is_named_may_take_a_place():
  space = replacements.Replacements(
      RESIDUAL, FRAME, allowed="Conv 1x1, skip_connect")
  names = {place[:2]: place.names for place in space.places}
  assert names[0, 0] == ("conv_3x3", "skip_connect", "conv_1x1")
  assert names[1, 1] == ("conv_1x1", "skip_connect")
  assert (1, 2) not in names  # Nothing but null is cheaper than a projection.


@pytest.mark.parametrize("allowed, words", [
    ("conv_1x1,sep_conv_9x9", "unknown operation"), (",", "unknown operation"),
    ("conv_5x5", "none of these saves anything")])
def test_names_of_no_use_are_refused(allowed, words):
  with pytest.raises(errors.InputError, match=words) as e:
    replacements.Replacements(RESIDUAL, FRAME, allowed=allowed)
  assert e.value.field == "operations"


@pytest.mark.parametrize("kind, takes", [("scale", False), ("sep_conv", True)])
def test_what_takes_the_place_of_an_operation_of_ones_own(kind, takes):
  own = dataclasses.replace(
      toy_operation.OPERATION, type=kind, kernel_size=3)
  place = records.Skeleton("cifar", 8, 4, 10, 8)
  with operations.registered(own):
    with pytest.raises(errors.InputError, match=f"names {own.name}, and only"):
      replacements.Replacements(
          zoo.get("darts"), place, "cell", allowed=f"conv_1x1,{own.name}")
    cells = zoo.get("darts")
    first, *others = cells.normal.edges
    cells = cells._replace(normal=cells.normal._replace(edges=(
        first._replace(operation=own.name), *others)))
    names = [where.names for where in replacements.Replacements(
        cells, place, "cell").places]
    here, = [some for some in names if some[0] == own.name]
    assert {"skip_connect", "null"} <= {*here}
    assert ("max_pool_3x3" in here) == takes
    assert any(own.name in some[1:] for some in names) == takes


def test_the_solver_prints_nothing(capfd):
  space = replacements.Replacements(zoo.get("darts"), records.Skeleton(
      "cifar", 8, 4, 10, 8), "cell")
  for seed in range(20):  # Some of these make HiGHS print.
    prices = space.by_place(
        np.random.default_rng(seed).random(len(space.alone()))**2)
    for share in (0.9, 0.8):
      space.choose(prices, budget.Budget(madds=share * space.cost.madds))
  print("afterwards")
  assert capfd.readouterr().out == "afterwards\n"
