"""Nodes of one to five inputs, parallel ones among them, in every part.

`architectures.MANY` is what is read, costed, drawn, trained and transformed;
what concerns one part alone stands in that part's tests.
"""

import functools
import itertools
import json
from unittest import mock

import jax
import numpy as np
import pytest

from natjax import cli, drawing, operations, spaces
from natjax.costs import exact as cost
from natjax.graph import codec, records
from natjax.graph import genotype as genotype_lib
from natjax.methods import inference, nat, natpp
from natjax.networks import network as network_lib
from natjax.pipeline import networks as networks_lib
from natjax.training import fit
from tests import architectures, tiny
from tests.drawing import pictures
from tests.networks import oracle

MANY = architectures.MANY
PLACE = records.Skeleton("cifar", 4, 3, 10, 8)
# Of the operations that stand there alone, few to compile.
NAMES = ("max_pool_3x3", "conv_1x1", "skip_connect", "sep_conv_3x3", "null")
NAT = {"nat": nat.NAT, "natpp": natpp.NATpp}


def test_the_genotype_has_what_a_search_may_find():
  inputs = [[len(cell.incoming(n)) for n in range(2, 6)] for cell in MANY]
  assert inputs == [[1, 2, 3, 5], [3, 5, 1, 2]]
  for cell in MANY:
    pairs = [edge[1:] for edge in cell.edges]
    assert any(
        a.operation != b.operation
        for a, b in itertools.combinations(cell.edges, 2) if a[1:] == b[1:])
    assert len(pairs) == 11


@pytest.mark.parametrize("write", [codec.to_json, codec.to_line])
def test_files_of_both_texts(write, tmp_path):
  path = tmp_path / "cells"
  path.write_text(write(MANY), "utf-8")
  assert codec.read(path) == MANY


def test_the_darts_text_names_every_target():
  text = codec.to_line(MANY)
  assert text.startswith(
      "Genotype(normal=[('sep_conv_3x3', 1, 2), ('conv_1x1', 2, 3),"
      " ('max_pool_3x3', 2, 3), ")
  assert "('conv_1x1', 0, 3), ('conv_1x1', 0, 3)" in text


def edge_cost(operation, channels, size, stride):
  """Parameters, those of BN among them, and multiply-adds, by the papers."""
  c, pixels = channels, (size // stride)**2
  weights, norms = {
      "conv_1x1": (c * c, 1), "sep_conv_3x3": (2 * (9 * c + c * c), 2),
      "skip_connect": (c * c, 1) if stride == 2 else (0, 0),
      "max_pool_3x3": (0, 0)}[operation]
  return weights + 2 * c * norms, weights * pixels


def test_costs_are_sums_over_all_edges():
  """Cells of 4, 8 and 16 channels on 8, 8 and 4 pixels; the last two reduce."""
  stem, head = (27 * 12 + 24, 27 * 12 * 64), (64 * 10 + 10, 640)
  parts = [stem, head]
  for c, size, cell, sources in (
      (4, 8, MANY.normal, ((12, 8), (12, 8))),
      (8, 8, MANY.reduce, ((12, 8), (16, 8))),
      (16, 4, MANY.reduce, ((16, 4), (32, 4)))):
    parts += [(width * c + 2 * c, width * c * pixels**2)
              for width, pixels in sources]
    parts += [edge_cost(e.operation, c, size, 2 if (
        cell is MANY.reduce and e.source < 2) else 1) for e in cell.edges]
    if cell is MANY.reduce:  # Between nodes the images are smaller.
      for e in cell.edges:
        if e.source >= 2:
          whole, half = (edge_cost(e.operation, c, s, 1)
                         for s in (size, size // 2))
          parts.append((0, half[1] - whole[1]))
  found = cost.network(MANY, PLACE)
  assert found[:2] == tuple(map(sum, zip(*parts, strict=True)))


def test_every_edge_is_drawn_beside_those_parallel_to_it():
  svg = drawing.draw(MANY)
  pictures.check_nothing_overlaps(svg)
  edges = [edge for cell in MANY for edge in cell.edges]
  assert sorted(pictures.texts(svg, "operation")) == sorted(
      edge.operation for edge in edges)
  curves = [np.array(list(pictures.sampled(path)))
            for path in pictures.elements(svg, "path", "edge")]
  labels = pictures.boxes(svg, "label")
  assert len(curves) == len(labels) == len(edges)
  parallel = [
      (i, j) for i, j in itertools.combinations(range(len(edges)), 2)
      if edges[i][1:] == edges[j][1:] and (i < 11) == (j < 11)]
  assert len(parallel) == 5
  for i, j in parallel:
    assert curves[i].shape == curves[j].shape
    apart = np.abs(curves[i] - curves[j])[:, 1]
    assert apart.min() > 5 and apart.max() > 17
    assert (labels[i][3] <= labels[j][1]) or (labels[j][3] <= labels[i][1])


def test_a_change_of_one_of_two_parallel_edges_is_shown():
  edges = list(MANY.reduce.edges)
  edges[4] = edges[4]._replace(operation="null")  # The second of two equal.
  other = records.Genotype(
      MANY.normal, MANY.reduce._replace(edges=tuple(edges)))
  assert drawing.changes(MANY, other) == [("reduce", 0, 3, "conv_1x1", "null")]
  svg = drawing.draw(MANY, other)
  pictures.check_nothing_overlaps(svg)
  dashes = [e.get("stroke-dasharray")
            for e in pictures.elements(svg, "path", "edge")]
  # Rows of a normal and of a reduction cell, each as it was and as it is.
  assert [i for i, dash in enumerate(dashes) if dash] == [3 * 11 + 4]


@pytest.mark.parametrize("train", [True, False])
def test_the_network_equals_a_plain_recomputation(train):
  network = network_lib.module(MANY, PLACE)
  variables = oracle.random_weights(jax.eval_shape(
      functools.partial(network_lib.init, network), jax.random.key(0)), 1)
  images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("f")
  (logits, _), _ = jax.jit(lambda v, x: network.apply(
      v, x, train=train, mutable=["batch_stats"]))(variables, images)
  expected, _, _ = oracle.network(
      MANY, PLACE, variables, images, train=train)
  np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
  assert sum(name.startswith("edge") for name in variables["params"]["cell1"]
             ) == 6  # Those with weights, each its own.


# Transformations.


def check_guards(before, after, place=PLACE):
  """Nothing costs more, no output dies, nothing leads nowhere."""
  old, new = (cost.network(a, place) for a in (before, after))
  assert new.params <= old.params and new.madds <= old.madds
  for a, b in zip(before, after, strict=True):
    assert [e[1:] for e in a.edges] == [e[1:] for e in b.edges]
    assert a.concat == b.concat
    assert architectures.alive(a) & set(a.concat) <= architectures.alive(b)
    for node in {e.target for e in b.edges} - set(b.concat):
      used = any(e.source == node and e.operation != operations.NULL
                 for e in b.edges)
      assert used or all(e.operation == operations.NULL
                         for e in b.incoming(node))


# Node 2 and node 3 are read by node 4 alone, which has two operations on one
# edge; node 5 is all of the output.
LOOSE = records.Genotype(*[architectures.cell(
    ("sep_conv_3x3", 0, 2), ("conv_1x1", 0, 3), ("max_pool_3x3", 1, 3),
    ("conv_1x1", 2, 4), ("max_pool_3x3", 2, 4), ("skip_connect", 3, 4),
    ("conv_1x1", 1, 5), ("sep_conv_3x3", 4, 5), concat=(5,))] * 2)


@pytest.mark.long
@pytest.mark.parametrize("scheme", NAT)
@pytest.mark.parametrize("given, inputs", [(MANY, 5), (LOOSE, 3)],
                         ids=["many", "loose"])
def test_candidates_are_scored_as_the_architectures_that_they_are(
    given, inputs, scheme):
  """A slot without an edge stays without: nothing may come to stand there."""
  space = spaces.cells("tiny", NAMES, inputs=inputs, scheme=scheme)
  config = nat.NATConfig(init_channels=4, cells=3, epochs=2, candidates=40)
  method = NAT[scheme](config, space, num_classes=10, image_size=8)
  assert method.ground.shape == (2, 4, inputs)
  scored = []

  def answer(arrays):
    if not scored:  # Then every change by itself.
      scored.extend(arrays)
    return tiny.nested([10 * i for i in range(len(arrays))])

  best, report = inference.derive(
      method, method.policy.init(jax.random.key(0)), given, answer,
      jax.random.key(1))
  found = [codec.from_dict(c["architecture"]) for c in report["candidates"]]
  assert found[0] == given and best == found[-1]
  assert len(set(found)) == len(found) == len(scored) > 20
  for architecture, arrays in zip(found, scored, strict=True):
    jax.tree.map(np.testing.assert_array_equal,
                 method.ground.encode(architecture), arrays)
    check_guards(given, architecture)
  if given is LOOSE:  # Some lost node 4, and with it nodes 2 and 3.
    pruned = [a for a in found if a.normal.edges[7].operation == "null"]
    assert pruned and all(e.operation == "null" for a in pruned
                          for e in a.normal.edges[:6])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  path = tmp_path_factory.mktemp("many") / "cells.txt"
  path.write_text(codec.to_line(MANY))
  return path


# One cell, which is a reduction cell, to compile the least; both kinds of cells
# are decided about above.
TRAINING = ["--train-init-channels", "2", "--train-cells", "1",
            "--train-batch-size", "512", "--train-seeds", "1"]
COMMON = ["--dataset", "digits", "--image-size", "8", "--preset", "demo",
          "--devices", "1", *TRAINING]


def transform(file, out, *flags):
  """Runs the command; returns the result and what came out."""
  assert cli.main(["transform", str(file), *COMMON, "--out", str(out),
                   *flags]) == 0
  result = json.loads((out / "result.json").read_text())
  assert codec.from_dict(result["architectures"]["original"]) == MANY
  found = codec.read(out / "architecture.json")
  place = records.Skeleton("cifar", 2, 1, 10, 8)
  for name, architecture in (("original", MANY), ("transformed", found)):
    if name in result:
      assert (result[name]["params"], result[name]["madds"]) == cost.network(
          architecture, place)[:2]
  check_guards(MANY, found, place)
  assert len(result["changes"]) == len(drawing.changes(MANY, found))
  return result, found


@pytest.mark.long
def test_the_command_transforms_it_by_theta(file, tmp_path):
  """With a step so large that edges go."""
  out = tmp_path / "out"
  result, found = transform(
      file, out, "--method", "differentiable", "--no-compare",
      "--train-epochs", "2", "--architecture-epochs", "1",
      "--theta-learning-rate", "0.5", "--train-drop-path", "0.2")
  assert result["changes"]
  net = networks_lib.load(out)
  assert net.architecture == found
  assert net.logits(np.zeros((2, 8, 8, 3), np.uint8)).shape == (2, 10)


def skip(method, splits, *, options, **settings):
  """What `fit` begins with."""
  options.checkpoint_dir.mkdir(parents=True)
  return method.init(jax.random.key(options.seed))


@pytest.mark.long
@pytest.mark.parametrize("method", NAT)
def test_the_command_transforms_it_by_nat(method, file, tmp_path, monkeypatch):
  if method == "natpp":  # It is trained as NAT is.
    monkeypatch.setattr(fit, "fit", skip)
  space = spaces.cells(method, NAMES, scheme=method)
  with mock.patch.dict(spaces.SPACES, {method: space}):
    result, _ = transform(
        file, tmp_path / "out", "--method", method, "--init-channels", "2",
        "--cells", "1", "--epochs", "2", "--warmup-epochs", "1",
        "--batch-size", "256", "--samples", "2", "--candidates", "3",
        "--train-epochs", "1", "--train-drop-path", "0")
  assert len(result["candidates"]) > 1
  for candidate in result["candidates"]:
    check_guards(MANY, codec.from_dict(candidate["architecture"]))


def test_unshared_it_is_a_network_of_blocks():
  network = genotype_lib.unshared(MANY, PLACE)
  frame = records.Frame(10, 8)
  assert codec.pad(network) == network and network.num_inputs_per_node == 5
  assert cost.network(network, frame)[:2] == cost.network(MANY, PLACE)[:2]
  assert codec.from_dict(json.loads(codec.to_json(network))) == network
