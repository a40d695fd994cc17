"""Cells of a supernet whose operations have fewer channels.

Yang et al., 2021, EnTranNAS, section 2.5: a 1x1 convolution reduces the
channels of a node before it is fed into all candidate operations, and another
one recovers them to form each intermediate node. Each is followed by BN.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from natjax import operations
from natjax.graph import shapes as shapes_lib
from natjax.networks import rules, scan

_INPUTS = 2


class Pass(NamedTuple):
  """Features of equal shapes, as `scan.scan_edges` takes them.

  Attributes:
    rule: what they are.
    names: of the rule's choices.
    variables: of the candidates.
    data: with leading axis F, the value a constant.
    source: i32[F], a constant, in order.
    weights: f32[F, N], what every node takes of them.
    rows: of the features.
    live: bool[F].
  """

  rule: rules.EdgeRule
  names: tuple[str, ...]
  variables: Any
  data: rules.Data
  source: np.ndarray
  weights: jax.Array
  rows: scan.Rows
  live: jax.Array


class _Pointwise(nn.Module):
  """A 1x1 convolution and BN."""

  features: int
  norm: operations.NormFactory

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return self.norm(name="norm")(
        operations.Conv(self.features, (1, 1), name="conv")(x))


def init(make: Any, rng: jax.Array, count: int, nodes: int, width: int,
         shape: shapes_lib.Shape) -> dict[str, Any]:
  """Variables of the convolutions of cells of one shape.

  Args:
    make: the supernet's runner.
    rng: a key.
    count: J, cells.
    nodes: N, nodes of a cell.
    width: channels of the operations.
    shape: of the cells' nodes.

  Returns:
    "reduce" with leading axes [J, 2 + N - 1], "recover" with [J, N].
  """
  def draw(rng, features, channels, number):
    module = _Pointwise(features, make.norm)
    one = lambda key: module.init(key, jnp.zeros((1, 1, 1, channels)))
    return jax.vmap(jax.vmap(one))(jax.random.split(rng, (count, number)))

  rng_reduce, rng_recover = jax.random.split(rng)
  return {"reduce": draw(rng_reduce, width, shape.width, _INPUTS + nodes - 1),
          "recover": draw(rng_recover, shape.width, width, nodes)}


def run(make: Any, variables: Any, inputs: tuple[jax.Array, ...],
        passes: list[Pass], nodes: int, inner: tuple[int, int]) -> jax.Array:
  """Runs a cell.

  Args:
    make: the supernet's runner.
    variables: of the cell.
    inputs: its two inputs, [B, H', W', C].
    passes: from the inputs, then between nodes, where there are any.
    nodes: N.
    inner: channels and image side of the operations' results.

  Returns:
    [N, B, H, W, C], what the nodes hold.
  """
  width, size = inner
  params = variables["params"]
  of = lambda part, n: {"params": jax.tree.map(lambda a: a[n], params[part])}
  reduce = _Pointwise(width, make.norm)
  recover = _Pointwise(inputs[0].shape[-1], make.norm)
  narrow = jnp.stack([make.apply(reduce, of("reduce", n), x)[0]
                      for n, x in enumerate(inputs)])
  sums = jnp.zeros((nodes, len(inputs[0]), size, size, width), narrow.dtype)
  sums = _add(passes[0], narrow, sums, passes[0].source, passes[0].weights,
              passes[0].live, passes[0].data, passes[0].rows)
  if nodes == 1:
    return make.apply(recover, of("recover", 0), sums[0])[0][None]
  between = passes[1]
  at = _by_source(between.source - _INPUTS, nodes - 1)
  pad = jnp.asarray(at < 0)
  take = lambda a: jnp.asarray(a)[np.maximum(at, 0)]  # [N - 1, most, ...]

  # One node after the other is formed, and given to those behind it.
  @jax.checkpoint
  def step(sums, xs):
    n, forms, narrows, (data, weights, live, rows) = xs
    full = make.apply(recover, {"params": forms}, sums[n])[0]
    x = make.apply(reduce, {"params": narrows}, full)[0]
    sums = _add(between, x[None], sums, np.zeros(at.shape[1], np.int32),
                weights, live, data, dict.fromkeys(between.rows, rows))
    return sums, full

  row = next(iter(between.rows.values()))
  sums, full = lax.scan(step, sums, (
      jnp.arange(nodes - 1),
      jax.tree.map(lambda a: a[:-1], params["recover"]),
      jax.tree.map(lambda a: a[_INPUTS:], params["reduce"]),
      (jax.tree.map(take, between.data), take(between.weights),
       take(between.live) & ~pad, take(row))))
  last = make.apply(recover, of("recover", nodes - 1), sums[-1])[0]
  return jnp.concatenate([full, last[None]])


def _add(part, inputs, sums, source, weights, live, data, rows):
  return scan.scan_edges(
      part.rule, inputs, sums, part.variables, rows, data, source, weights,
      names=part.names, live=live)


def _by_source(source, count):
  """i32[count, most], the numbers of every source's features; -1 where none."""
  found = [np.flatnonzero(source == n) for n in range(count)]
  result = np.full((count, max(map(len, found))), -1)
  for n, numbers in enumerate(found):
    result[n, :len(numbers)] = numbers
  return result
