"""Updates of the methods: what they hand to their optimizers, and measure.

Compared are the optimizers' states, which hold the gradients in proportion: an
Adam step from the start would only show their signs.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

from natjax import spaces
from natjax.graph import arrays as arrays_lib
from natjax.graph import blocks, records
from natjax.methods import darts, differentiable, nat, supervised
from natjax.networks import supernet as supernet_lib
from natjax.objectives import simclr
from natjax.selftest import comparison

TOLERANCES = {"float32": 1e-4, "bfloat16": 0.15}
# As in networks, whose ReLUs have some of their inputs change sides.
OF_NETWORKS = {"float32": 1e-4, "bfloat16": 0.5}
SIZES: dict[str, Any] = {"num_classes": 10, "image_size": 8}
BATCH = 8
_SPACE = spaces.cells(
    "selftest", ("max_pool_3x3", "skip_connect", "dil_conv_3x3", "null"),
    num_nodes=1)
# One cell, which halves the image: little to compile.
_CELLS: dict[str, Any] = {"init_channels": 4, "cells": 1, "batch_size": BATCH,
                          "epochs": 2}
TRAIN = supervised.TrainConfig(epochs=2, batch_size=BATCH, cutout=0,
                               learning_rate=0.05, sync_bn=True)


def network() -> records.BlockNetwork:
  """A residual network of two blocks, the second of half the side."""
  node, edge = records.Node, records.Edge
  same = records.Block(
      (node(8, activation="relu"), node(8, activation="relu")),
      (edge("conv_3x3", 1, 2), edge("sep_conv_3x3", 2, 3),
       edge("skip_connect", 1, 3)))
  half = records.Block(
      (node(16, 2, "relu"),),
      (edge("conv_3x3", 1, 2), edge("avg_pool_3x3", 1, 2)))
  return blocks.check(records.BlockNetwork(
      "selftest", (records.Layer("conv", 8, 3, activation="relu"),),
      (same, half)))


def cases(*, quick: bool = False) -> list[comparison.Case]:
  """The cases of this module.

  Args:
    quick: in float32 alone.
  """

  def case(name, make, tolerances=TOLERANCES, **more):
    if quick or more.get("draws"):
      tolerances = {"float32": tolerances["float32"]}
    return comparison.Case(name, make, tolerances, **more)

  return [
      case("step: NAT's policy", _policy),
      case("draws: NAT's inputs and actions", _draws, draws=True),
      case("step: differentiable transformation", _theta, OF_NETWORKS),
      case("step: DARTS, first order", functools.partial(_darts, "first")),
      case("step: DARTS, second order", functools.partial(_darts, "second")),
      case("step: SimCLR", _simclr, OF_NETWORKS)]


def batch(dtype: Any, seed: int = 0, count: int = BATCH) -> dict[str, Any]:
  """Images of chance and their labels."""
  pixels = comparison.images(count + seed, SIZES["image_size"])[seed:]
  return {"image": pixels.astype(dtype),
          "label": comparison.labels(count + seed)[seed:]}


def _row(name: str, update: Callable[..., Any],
         fields: dict[str, str]) -> Callable[..., Any]:
  """`(state, *batches)` -> a row of some fields of the new state."""

  def run(*args):
    state, metrics = update(*args)
    return {name: {"metrics": metrics} | {
        part: [leaf for leaf in jax.tree.leaves(getattr(state, field))
               if jnp.issubdtype(leaf.dtype, jnp.floating)]
        for field, part in fields.items()}}

  return run


def _in(dtype, supernet):
  """A supernet that computes in another dtype."""
  return supernet_lib.Supernet(
      supernet.space, supernet.place, dtype, supernet.width)


class _Replayed(nat.NAT):
  """NAT whose samples are given: in float64 it would draw other ones.

  Its rewards are of the loss: accuracies jump where rounding decides between
  two classes. They are kept as `seen`.
  """

  replayed: tuple[arrays_lib.CellArrays, Any]
  seen: jax.Array

  def accuracies(self, state, cells, batch):
    losses, self.seen = lax.map(
        lambda one: self.loss(state.params, one, batch), cells)
    return -losses

  def sample_inputs(self, rng):
    return self.replayed[0]

  def sample_actions(self, rng, policy, cells, count, tilt=0.0):
    # Every input of these is the same, and so are its actions.
    return self.replayed[1]


def _nat(kind=nat.NAT):
  return kind(nat.NATConfig(**_CELLS, inputs=1, samples=4), _SPACE, **SIZES)


def _draw(method, rng, policy):
  """An input architecture [1, ...], and four transformations of it."""
  rng_beta, rng_alpha = jax.random.split(rng)
  betas = method.sample_inputs(rng_beta)
  beta = jax.tree.map(lambda a: a[0], betas)
  return betas, method.sample_actions(rng_alpha, policy, beta, 4)


@functools.cache
def _replay():
  """One draw, on the CPU, for all precisions."""
  method = _nat()
  policy = comparison.state(method.init).policy
  with jax.enable_x64(False), jax.default_device(jax.devices("cpu")[0]):
    return jax.device_get(jax.jit(functools.partial(_draw, method))(
        jax.random.key(1), policy))


def _policy(dtype):
  method = _nat(_Replayed)
  state, method.replayed = comparison.state(method.init), _replay()
  method.supernet = _in(dtype, method.supernet)
  name = "step: NAT's policy"
  update = _row(name, method.update_policy, {
      "policy_opt_state": "gradient of the policy", "baseline": "baseline"})

  def run(state, batch):
    found = update(state, batch)
    found[name]["accuracies"] = method.seen
    return found

  return comparison.Program(run, (state, batch(dtype, count=32)), mapped=True)


def _draws(dtype):
  del dtype
  method = _nat()
  state = comparison.state(method.init)

  def run(seed, policy):
    betas, actions = _draw(method, jax.random.key(seed), policy)
    return {"draws: NAT's inputs and actions": {
        "inputs": betas, "actions": actions}}

  return comparison.Program(run, (jnp.zeros((), int), state.policy))


def _theta(dtype):
  method = differentiable.Differentiable(
      differentiable.DifferentiableConfig(), TRAIN, network(), **SIZES)
  return comparison.Program(_row(
      "step: differentiable transformation", method.update, {
          "opt_state": "gradient of the weights",
          "theta_opt_state": "gradient of theta", "batch_stats": "statistics"}),
      (comparison.state(method.init), batch(dtype)), mapped=True)


def _darts(order, dtype):
  method = darts.Darts(
      darts.DartsConfig(**_CELLS, order=order), _SPACE, **SIZES)
  state = comparison.state(method.init)
  method.supernet = _in(dtype, method.supernet)
  return comparison.Program(_row(
      f"step: DARTS, {order} order", method.update, {
          "opt_state": "gradient of the weights",
          "alpha_opt_state": "gradient of alpha"}),
      (state, batch(dtype), batch(dtype, 3)), mapped=True)


def _simclr(dtype):
  place = records.Frame(0, SIZES["image_size"])
  method = supervised.Supervised(
      TRAIN, network(), num_classes=0, image_size=SIZES["image_size"],
      objective=simclr.SimCLR(
          simclr.SimCLRConfig(hidden=16, projection=8), network(), place))
  return comparison.Program(_row(
      "step: SimCLR", method.update, {
          "opt_state": "gradient of the weights", "batch_stats": "statistics"}),
      (comparison.state(method.init, 1), batch(dtype, count=2 * BATCH)),
      mapped=True)
