"""Networks, supernets and objectives: logits, and gradients of the loss."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import operations, spaces, zoo
from natjax.graph import arrays as arrays_lib
from natjax.graph import blocks, records
from natjax.networks import network as network_lib
from natjax.networks import rules
from natjax.networks import supernet as supernet_lib
from natjax.selftest import comparison

# Rounding adds up over layers, and more in gradients.
TOLERANCES = {"float32": 1e-4, "float32 default": 0.1,
              "bfloat16": 0.5}
_CLASSES, _SIDE, _BATCH = 10, 8, 8
_CANDIDATES = ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "null")
_NODES = 2


def cases() -> list[comparison.Case]:
  """The cases of this module."""
  cells = records.Skeleton("cifar", 4, 3, _CLASSES, _SIDE)
  frame = records.Frame(_CLASSES, _SIDE)
  resnet = blocks.scale(zoo.handcrafted.build("resnet20"), 0.5)
  case = lambda name, make: comparison.Case(name, make, TOLERANCES)
  return [
      case("network: DARTS's cells", functools.partial(
          _network, zoo.get("darts"), cells)),
      case("network: ResNet20", functools.partial(_network, resnet, frame)),
      case("supernet, by index", _selected),
      case("supernet, weighted", functools.partial(_weighted, rules.dense)),
      case("supernet, sparse", functools.partial(_weighted, rules.sparse))]


def _loss(apply: Callable[..., jax.Array], name: str) -> Callable[..., Any]:
  """`(params, *others, labels)` -> a row of logits and gradients of the loss.

  Args:
    apply: `(params, *others) -> logits`.
    name: of the row.
  """

  def run(*inputs):
    *args, labels = inputs

    def loss(*args):
      logits = apply(*args)
      return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(
          logits, labels)), logits

    (value, logits), grads = jax.value_and_grad(loss, has_aux=True)(*args)
    return {name: {"logits": logits, "loss": value, "gradient": grads}}

  return run


def _network(architecture, place, dtype):
  network = network_lib.module(architecture, place)
  name = "DARTS's cells" if architecture.kind == "cells" else "ResNet20"
  variables = comparison.state(functools.partial(network_lib.init, network))

  def apply(params, stats, images):
    (logits, _), _ = network.apply(
        {"params": params, "batch_stats": stats}, images, train=True,
        mutable=["batch_stats"])
    return logits

  def run(params, stats, images, labels):
    found = _loss(apply, f"network: {name}")(params, stats, images, labels)
    still, _ = network.apply(
        {"params": params, "batch_stats": stats}, images)
    found[f"network: {name}"]["logits by running statistics"] = still
    return found

  return comparison.Program(run, (
      variables["params"], variables["batch_stats"],
      comparison.images(_BATCH, _SIDE).astype(dtype),
      comparison.labels(_BATCH)))


def supernet(dtype: Any) -> tuple[supernet_lib.Supernet, Any]:
  """One cell, which halves the image: little to compile; and parameters."""
  net = supernet_lib.Supernet(
      spaces.cells("selftest", _CANDIDATES, num_nodes=_NODES),
      records.Skeleton("cifar", 4, 1, _CLASSES, _SIDE), dtype)
  return net, comparison.state(net.init)["params"]


def _cells() -> list[records.Cell]:
  """Two cells of chance, without null edges."""
  rng, found = np.random.default_rng(0), []
  draw = lambda: str(rng.choice(_CANDIDATES[:-1]))
  for _ in range(2):
    edges = [records.Edge(draw(), int(source), target)
             for target in range(2, 2 + _NODES)
             for source in sorted(rng.choice(target, 2, replace=False))]
    found.append(records.Cell(tuple(edges), tuple(range(2, 2 + _NODES))))
  return found


def _selected(dtype):
  """By indices; the reference, in float64, weighs the same edges by 1."""
  net, params = supernet(dtype)
  cells = _cells()
  arrays = arrays_lib.encode(cells, _CANDIDATES)
  name = "supernet, by index"
  if dtype == jnp.float64:
    weights: list[Any] = [np.zeros((len(d.cell.edges), len(_CANDIDATES)))
                          for d in net.plan.decisions]
    for weight, decision, cell in zip(weights, net.plan.decisions, cells,
                                      strict=True):
      numbers = {edge[1:]: e for e, edge in enumerate(decision.cell.edges)}
      for edge in cell.edges:
        o = _CANDIDATES.index(edge.operation)
        weight[numbers[edge[1:]], o] += 1
    how = net.weighed(weights, arrays.concat)
  else:
    how = net.selected(arrays)
  apply = lambda params, images: net.run({"params": params}, how, images)[0]
  return comparison.Program(_loss(apply, name), (
      params, comparison.images(_BATCH, _SIDE), comparison.labels(_BATCH)))


def _weighted(make, dtype):
  """By weights of which half are 0; the reference computes all of them."""
  net, params = supernet(dtype)
  name = f"supernet, {'weighted' if make is rules.dense else 'sparse'}"
  make = rules.dense if dtype == jnp.float64 else make
  rng = np.random.default_rng(1)
  weights = [rng.uniform(0.2, 0.8, (len(d.cell.edges), len(_CANDIDATES)))
             for d in net.plan.decisions]
  weights = [(w * (rng.random(w.shape) < 0.5)).astype(np.float32)
             for w in weights]
  concat: Any = np.ones((len(weights), _NODES), np.float32)
  null = _CANDIDATES.index(operations.NULL)

  def run(params, weights, images, labels):
    apply = lambda both, images: net.run(
        {"params": both[0]}, net.weighed(both[1], concat, make), images)[0]
    found = _loss(apply, name)((params, weights), images, labels)
    parts = found[name]
    params, grads = parts.pop("gradient")
    parts["gradient"] = params
    # What weighs 0 is not computed by the sparse rule, and has no gradient.
    parts["gradient of the weights of edges"] = [
        jnp.where((w != 0) & (np.arange(w.shape[1]) != null), g, 0)
        for w, g in zip(weights, grads, strict=True)]
    return found

  return comparison.Program(run, (
      params, weights, comparison.images(_BATCH, _SIDE),
      comparison.labels(_BATCH)))
