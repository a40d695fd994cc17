"""Zero-cost scores, against NumPy that is slow and plain."""

import jax
import numpy as np
import pytest

from natjax import errors, zoo
from natjax.graph import blocks as blocks_lib
from natjax.graph import records
from natjax.methods import zero_cost
from natjax.networks import network as network_lib

SIZE, CLASSES = 4, 3
LAYERS = ("stem", "edge", "linear")


def build(activation="relu", norm=True):
  """A convolution, and a node of a 1x1 convolution and a skip."""
  edges = (records.Edge("conv_1x1", 1, 2), records.Edge("skip_connect", 1, 2))
  graph = blocks_lib.check(records.BlockNetwork(
      "small", (records.Layer("conv", 5, 3, activation=activation),),
      (records.Block((records.Node(5, activation=activation),), edges),),
      blocks_lib.CLASSIFIER, preactivate=False,
      norm="batch" if norm else "bias"))
  network = network_lib.Network(graph, records.Frame(CLASSES, SIZE))
  return network, network_lib.init(network, jax.random.key(1))


def kernels(variables):
  """The three kernels, by `LAYERS`."""
  found = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
    if path[-1].key == "kernel":
      words = "/".join(entry.key for entry in path)
      name, = (n for n in LAYERS if n in words)
      found[name] = np.asarray(leaf, np.float64)
  assert sorted(found) == sorted(LAYERS)
  return found


def conv(x, kernel):
  """A convolution that keeps the size, pixel by pixel."""
  k = len(kernel)
  padded = np.pad(x, ((0, 0), (k // 2,) * 2, (k // 2,) * 2, (0, 0)))
  out = np.zeros((*x.shape[:3], kernel.shape[-1]))
  for i in range(x.shape[1]):
    for j in range(x.shape[2]):
      out[:, i, j] = np.tensordot(padded[:, i:i + k, j:j + k], kernel, 3)
  return out


def by_batch(x):
  """BN."""
  return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)


def forward(weights, x, norm):
  """The inputs of both ReLUs, and the logits, without a bias."""
  first = norm(conv(x, weights["stem"]))
  stem = np.maximum(first, 0)
  second = norm(conv(stem, weights["edge"])) + stem
  return first, second, np.maximum(second, 0).mean((1, 2)) @ weights["linear"]


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_naswot_counts_where_codes_agree(activation):
  network, variables = build(activation)
  images = np.random.default_rng(0).normal(
      size=(6, SIZE, SIZE, 3)).astype(np.float32)
  first, second, _ = forward(kernels(variables), images, by_batch)
  codes = [[bool(v > 0) for part in (first[b], second[b])
            for v in part.ravel()] for b in range(6)]
  wanted = np.array([[sum(p == q for p, q in zip(a, b, strict=True))
                      for b in codes] for a in codes], np.float64)
  np.testing.assert_array_equal(zero_cost.kernel(np.array(codes)), wanted)
  assert wanted[0, 0] == 2 * SIZE * SIZE * 5
  assert zero_cost.naswot(network, variables, images) == pytest.approx(
      np.log(abs(np.linalg.det(wanted))))


def test_naswot_drops_nothing():
  network, variables = build()
  images = np.random.default_rng(0).normal(
      size=(6, SIZE, SIZE, 3)).astype(np.float32)
  drops = records.Layer("dropout", rate=0.9)
  head = network.graph.head  # Behind its parts, whose names are numbers.
  other = network_lib.Network(network.graph._replace(
      head=(*head, drops)), network.frame)
  assert zero_cost.naswot(other, variables, images) == zero_cost.naswot(
      network, variables, images)


@pytest.mark.parametrize("activation,norm", [
    ("relu", True), ("relu6", True), ("relu", False)])
def test_synflow_is_the_flow_through_every_kernel(activation, norm):
  network, variables = build(activation, norm)
  weights = {name: np.abs(k) for name, k in kernels(variables).items()}
  ones = np.ones((1, SIZE, SIZE, 3))
  flow = lambda weights: forward(weights, ones, lambda x: x)[-1].sum()
  # R is linear in each kernel: theta * dR/dtheta is what goes with it.
  total = sum(flow(weights) - flow({**weights, name: 0 * weights[name]})
              for name in LAYERS)
  score = zero_cost.synflow(network, variables)
  assert score == pytest.approx(np.log(total), abs=1e-9)
  # Signs of weights, and what BN has learnt, do not matter.
  other = jax.tree_util.tree_map_with_path(
      lambda path, x: -x if path[-1].key == "kernel" else x, variables)
  assert zero_cost.synflow(network, other) == pytest.approx(score, abs=1e-9)


def test_cells_of_which_nothing_comes_are_last():
  images = np.random.default_rng(0).normal(
      size=(4, 8, 8, 3)).astype(np.float32)
  found = {}
  for name in ("null", "conv_1x1"):
    graph = zoo.nasbench201.network((name,) * 6)
    graph = graph._replace(blocks=graph.blocks[:1])
    network = network_lib.Network(graph, records.Frame(CLASSES, 8))
    variables = network_lib.init(network, jax.random.key(0))
    found[name] = (zero_cost.naswot(network, variables, images),
                   zero_cost.synflow(network, variables))
  assert found["null"] == (-np.inf, -np.inf)
  assert np.isfinite(found["conv_1x1"]).all()


def test_naswot_refuses_no_images():
  network, variables = build("relu")
  with pytest.raises(errors.InputError, match="compares images, and none is"):
    zero_cost.naswot(network, variables, np.zeros((0, SIZE, SIZE, 3)))


def test_naswot_refuses_a_network_without_relu():
  network, variables = build("none")
  with pytest.raises(errors.InputError, match="has no ReLU"):
    zero_cost.naswot(network, variables, np.zeros(
        (2, SIZE, SIZE, 3), np.float32))
