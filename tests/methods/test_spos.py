"""SPOS: its step by hand, its statistics, and what it finds."""

import functools
import itertools
import json
from unittest import mock

import jax
import numpy as np
import pytest

from natjax import data, errors, pipeline, spaces
from natjax.costs import exact
from natjax.graph import codec, records
from natjax.methods import spos, supervised
from natjax.spaces import base as spaces_base
from natjax.training import evaluation, fit
from tests.methods import searching

Block, Edge, Node = records.Block, records.Edge, records.Node
_UNITS = ("mbconv3_3x3", "mbconv6_3x3")


def _layer(width, stride):
  return Block((Node(width, stride),), (Edge("null", 1, 2),))


# Three layers, of which two are alike and may be left out.
CHAIN = spaces_base.Space(
    "chain", records.BlockNetwork(
        "chain", (records.Layer("conv", 4, 3, activation="relu6"),),
        (_layer(6, 2), _layer(6, 1), _layer(6, 1))),
    (*_UNITS, "skip_connect", "null"),
    ((_UNITS,), *[((*_UNITS, "skip_connect"),)] * 2), share="full",
    several=False)
# As NAS-Bench-201: with biases in search, pooling, and null.
EDGES = spaces_base.Space(
    "edges", records.BlockNetwork(
        "edges", (records.Layer("conv", 4, 3),),
        (Block((Node(4), Node(4)), tuple(
            Edge("null", s, t) for s, t in ((1, 2), (1, 3), (2, 3)))),
         Block((Node(6, 2, fixed=True),), (Edge("conv_3x3", 1, 2),)),),
        preactivate=True),
    ("conv_1x1", "avg_pool_3x3", "skip_connect", "null"), several=False,
    search_bias=True)
SPACES = {"cells": searching.SPACE, "chain": CHAIN, "edges": EDGES}


def config(kind, **more):
  sizes = {} if kind == "blocks" else {"init_channels": 4, "cells": 3}
  return spos.resolve(spos.SPOSConfig(**{
      **sizes, "batch_size": 4, "epochs": 2, "calibration": 8, "population": 3,
      "generations": 1, "mutations": 0, "crossovers": 0, "learning_rate": 0.1,
      "weight_decay": 0.05, "max_grad_norm": 0.5} | more), kind)


@functools.cache
def make(name, **more):
  space = SPACES[name]
  return spos.SPOS(config(space.graph.kind, **more), space, target=None,
                   steps_per_epoch=2, **searching.SIZES)


@functools.cache
def step(name):
  return searching.compiled(
      lambda state, batch, _: make(name).update(state, batch))


def names_on(method, path):
  """The (block, edge, operation) of a path, from its architecture alone."""
  plan, found = method.supernet.plan, set()
  decisions = codec.decide(method.paths.decode(path), method.supernet.place,
                           method.connections.space.share)
  for i, g in enumerate(plan.decided):
    pairs = [edge[1:] for edge in plan.cell(i).edges]
    for edge in decisions[g].cell.edges:
      found.add((i, pairs.index(edge[1:]), edge.operation))
  return found


def owned(method, params):
  """Per leaf, with its rows apart, whose it is; None is every path's."""
  plan, found = method.supernet.plan, {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    keys = [getattr(k, "key", getattr(k, "idx", None)) for k in path]
    word = "/".join(map(str, keys))
    run = plan.runs[keys[1]] if keys[0] == "blocks" else ()
    passes = {p.store: p for p in plan.passes(run[0])} if run else {}
    if not run or keys[2] not in passes or passes[keys[2]].fixed:
      found[word] = (leaf, None)
      continue
    edges, name = passes[keys[2]], keys[3]
    for j, i in enumerate(run):
      for e, row in zip(edges.edges, edges.rows[name], strict=True):
        found[f"{word}[{j},{row}]"] = (leaf[j, row], (i, e, name))
  return found


@pytest.mark.long
@pytest.mark.parametrize("name", SPACES)
def test_what_is_not_on_the_path_is_left_as_it_is(name):
  """Against SGD by hand, in which a gradient is there or is not."""
  method, steps = make(name), 4
  batches = searching.batches(steps)
  state = method.init(jax.random.key(3))
  p = {word: np.asarray(leaf, np.float64)
       for word, (leaf, _) in owned(method, state.params).items()}
  buffers: dict[str, np.ndarray] = {}
  gradient = jax.jit(jax.grad(lambda params, path, batch: method.loss(
      params, path, batch, jax.random.key(0))[0]))
  still = moved = 0
  for t, batch in enumerate(batches):
    old, old_params = owned(method, state.params), state.params
    state, metrics = step(name)(state, batch, batch)
    assert np.isfinite(metrics["loss"]) and metrics["within"] == 1
    on = names_on(method, jax.tree.map(np.asarray, state.path))
    grads = {word: np.asarray(g, np.float64) for word, (g, _) in owned(
        method, gradient(old_params, state.path, batch)).items()}
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in grads.values()))
    rate = 0.001 + (0.1 - 0.001) * (1 + np.cos(np.pi * t / steps)) / 2
    for word, (_, owner) in old.items():
      if owner is not None and owner not in on:
        assert not grads[word].any()
        still += 1
        continue
      moved += 1
      g = grads[word] * min(1.0, 0.5 / norm)
      if word.split("[")[0].split("/")[-1] not in ("bias", "scale"):
        g = g + 0.05 * p[word]
      buffers[word] = g + 0.9 * buffers.get(word, 0)
      p[word] = p[word] - rate * buffers[word]
    new = owned(method, state.params)
    for word, (leaf, owner) in new.items():
      if owner is not None and owner not in on:
        np.testing.assert_array_equal(leaf, old[word][0])
      np.testing.assert_allclose(leaf, p[word], rtol=2e-3, atol=2e-5,
                                 err_msg=word)
  assert still > steps and moved > steps


@pytest.mark.long
@pytest.mark.parametrize("name", SPACES)
def test_measured_statistics_of_a_batch_normalise_as_that_batch_does(name):
  method = make(name)
  state = method.init(jax.random.key(0))
  batch, other = searching.batches(2)
  for seed in range(3):
    path = method.paths.draw(jax.random.key(seed))
    stats = jax.tree.map(lambda leaf: leaf[0], jax.jit(method._measure)(
        (state.params, path), batch))
    judge = jax.jit(lambda params, stats, path, images: method.judged.run(
        {"params": params, "batch_stats": stats}, method.judged.selected(path),
        images, train=False)[0])
    logits = jax.jit(method.supernet.apply)(state.params, path, batch["image"])
    np.testing.assert_allclose(
        judge(state.params, stats, path, batch["image"]), logits, rtol=1e-3,
        atol=1e-4)
    # Image by image, whatever else is in the batch.
    whole = judge(state.params, stats, path, other["image"])
    alone = judge(state.params, stats, path, other["image"][:1])
    np.testing.assert_allclose(whole[:1], alone, rtol=1e-4, atol=1e-5)


def walks(splits):
  """A `Walk` over splits of images u8."""
  ready = fit.Preparation((0.5,) * 3, (0.25,) * 3, data.Augmentation())

  def score(function, argument, *, split, images=None, whole=True, **options):
    part = fit.Split(*(p[:images] for p in splits[split]))
    return evaluation.walk(function, argument, part, preparation=ready,
                           batch_size=4, whole=whole, **options)

  return score


@pytest.mark.long
def test_the_most_accurate_candidate_is_found_by_its_own_statistics():
  method, rng = make("chain"), np.random.default_rng(0)
  state = method.init(jax.random.key(0))
  split = lambda count: fit.Split(
      rng.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8),
      rng.integers(0, 3, count).astype(np.int32))
  splits = {"weights": split(12), "architecture": split(27)}
  derived = method.derive(state, None, walks(splits), jax.random.key(7))
  rows = derived.report["tried"]
  assert len(rows) == 3 and len({tuple(r["operations"]) for r in rows}) == 3
  best = max(rows, key=lambda r: r["accuracy"])
  assert [b.edges[0].operation for b in derived.architecture.blocks] == best[
      "operations"]
  assert derived.report["operations"] == best["operations"]
  cost = exact.network(derived.architecture, method.connections.target)
  assert (cost.params, cost.madds) == (best["params"], best["madds"])
  # The first by hand: two batches are measured, and all images are judged by
  # them, also those that fill no batch.
  path = method.paths.encode(filled(rows[0]["operations"]))
  ready = lambda images: (images / 255 - 0.5).astype(np.float32) / 0.25
  images = [ready(splits["weights"].images[i:i + 4]) for i in (0, 4)]
  stats = [jax.tree.map(lambda leaf: leaf[0], method._measure(
      (state.params, path), {"image": x, "label": np.zeros(4)}))
           for x in images]
  mean = jax.tree.map(lambda a, b: (a + b) / 2, *stats)
  right = method._is_right((state.params, mean, path), {
      "image": ready(splits["architecture"].images),
      "label": splits["architecture"].labels})
  assert rows[0]["accuracy"] == pytest.approx(float(np.mean(right)), abs=1e-6)


def filled(names):
  """The network of CHAIN with these operations."""
  graph = CHAIN.graph
  return graph._replace(blocks=tuple(
      block._replace(edges=(block.edges[0]._replace(operation=name),))
      for block, name in zip(graph.blocks, names, strict=True)))


EVERY = [filled(names) for names in itertools.product(
    _UNITS, *[(*_UNITS, "skip_connect")] * 2)]


@pytest.mark.parametrize("search", spos.SEARCHES)
def test_candidates_are_different_and_keep_to_the_budget(search):
  method = make("chain")
  costs = sorted(exact.network(one, method.connections.target).madds
                 for one in EVERY)
  scored = []

  def score(function, argument, *, split, images=None, whole=True):
    if split == "weights":
      return {}
    scored.append(method.paths.decode(argument[-1]))
    return len(scored)  # The last is the best.

  for limit, many in ((costs[-1], 18), (costs[4], sum(
      c <= costs[4] for c in costs))):
    scored.clear()
    found = make("chain", search=search, population=6, generations=20,
                 mutations=3, crossovers=2, parents=2, max_madds=str(limit))
    state = spos.SPOSState(0, {}, {}, None, None)
    derived = found.derive(state, None, score, jax.random.key(0))
    assert len(scored) == len(set(scored)) == many
    assert set(scored) <= set(EVERY)
    assert derived.architecture == scored[-1]
    assert max(r["madds"] for r in derived.report["tried"]) <= limit


def test_paths_are_trained_within_bins_of_a_window():
  method = make("chain")
  costs = sorted(exact.network(one, method.connections.target).madds
                 for one in EVERY)
  low, high = costs[3], costs[12]
  narrow = make("chain", path_min_madds=str(low), path_max_madds=str(high),
                path_bins=2)
  drawn = jax.vmap(narrow.sample)(jax.random.split(jax.random.key(0), 64))
  met = np.asarray(drawn.met) == 1
  madds = np.asarray(drawn.madds)[met] * 1e6
  assert met.mean() > 0.4  # A bin may hold no path.
  assert madds.min() >= low * 0.999 and madds.max() <= high * 1.001


@pytest.mark.parametrize("change, message", [
    ({"schedule": "step"}, "schedule is 'step'; choose one of cosine, linear"),
    ({"search": "grid"}, "search is 'grid'; choose one of evolution, random"),
    ({"population": 0}, "population is 0 and must be at least 1"),
    ({"label_smoothing": 1.0}, r"must lie in \[0, 1\)"),
    ({"calibration": 0}, "calibration is 0 and must be at least 1"),
    ({"path_bins": 2}, "divides a window of multiply-adds, and none is given"),
    ({"path_bins": 2, "path_min_madds": "1K"}, "a window that has no end"),
    ({"path_min_madds": "2K", "path_max_madds": "1K"}, "must be below"),
    ({"path_max_madds": "10"}, "none of 1000 paths drawn"),
    ({"max_params": "10"}, "keeps to the budget"),
    ({"cells": 3}, "does not apply to a space of blocks")])
def test_settings_that_do_not_fit_are_refused(change, message):
  with pytest.raises(errors.InputError, match=message) as e:
    make.__wrapped__("chain", **change)
  assert "\n" not in str(e.value)


def test_a_budget_that_no_uniform_draw_keeps_to_is_kept():
  method = spos.SPOS(
      config("blocks", max_madds="2.3M", population=8),
      spaces.get("proxyless"), target=records.Frame(10, 32),
      steps_per_epoch=1, num_classes=10, image_size=32)
  found = method.evolution.search(
      jax.random.key(0), lambda genes: genes.sum(-1)).genes
  costs = [exact.network(method.places.architecture(genes), records.Frame(
      10, 32)).madds for genes in found]
  assert len(costs) == 8 and len({*costs}) > 3 and max(costs) <= 2.3e6


def test_presets_hold_for_all_kinds_of_spaces():
  for preset in ("demo", "small", "paper"):
    for kind in ("cells", "blocks", "chain"):
      found = spos.ENTRY.presets(preset, "supervised", kind)
      spos.resolve(found, "cells" if kind == "cells" else "blocks")
      assert kind == "chain" or found.chain_layers is found.chain_width is None


@pytest.mark.long
def test_a_search_over_a_chain_resumes_bit_for_bit(tmp_path):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (96, 8, 8)).astype(np.uint8)
  labels = np.arange(96) % 3
  found = data.make_dataset("noise", (images, labels), (images[:40],
                            labels[:40]), image_size=8, class_names=[*"abc"])
  search = functools.partial(
      pipeline.search, "chain", found, method="spos", devices=1, seed=1,
      search=spos.SPOSConfig(epochs=2, batch_size=16, population=2, parents=1,
                             generations=2, mutations=1, crossovers=1,
                             calibration=32),
      train=supervised.TrainConfig(epochs=1, batch_size=32, auxiliary=False,
                                   cutout=0, drop_path=0.0, seeds=1))
  with mock.patch.dict(spaces.SPACES, {"chain": CHAIN}):
    result = search(out=tmp_path / "whole")
    stops = iter([False, True, False, True] + [False] * 99)
    listener = pipeline.Listener(should_stop=lambda: next(stops),
                                 chunk_seconds=0, checkpoint_seconds=0)
    for _ in range(2):
      with pytest.raises(errors.Interrupted):
        search(out=tmp_path / "again", listener=listener)
    again = search(out=tmp_path / "again")
  plain = lambda r: {k: v for k, v in r.items()
                     if "seconds" not in k and "memory" not in k
                     and k != "time"}
  assert plain(again) == plain(result)
  config = json.loads((tmp_path / "whole" / "config.json").read_text())
  assert (config["space"]["name"], config["space"]["share"]) == (
      "chain", "full")
  assert "chain_layers" not in config["search"]
  assert result["derived"]["madds"] in {r["madds"] for r in result["tried"]}
