"""What an edge of a supernet computes, forward and backward.

A rule turns the candidate operations of an edge, and data that say what to make
of them, into what the edge adds to its target. Its backward pass is written out
(`pullback`), so that only what an edge did is computed again there, and nothing
of it is kept: `lax.switch` under `grad` would keep the residuals of every
branch. A rule that is `plain` is left to JAX, which can then differentiate it
twice and forward, as exact second order needs.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from natjax.operations import primitives

# `(variables of all candidates, x, key or None) -> y`, or `(y, statistics)`.
Function = Callable[..., Any]


class EdgeRule(NamedTuple):
  """What an edge computes.

  Attributes:
    forward: `(params, data, x) -> y` for one edge; `(y, aux)` where
      `aux` is asked for, through which no gradient flows.
    pullback: `(params, data, x, g_y) -> (g_params, g_data, g_x)`; `g_data` is
      None where `data` holds integers. None leaves it to JAX.
    choices: of a rule that runs one of several functions, by its number, these;
      `scan` then hands each of them its own variables alone.
  """

  forward: Callable[[Any, Any, jax.Array], Any]
  pullback: Callable[[Any, Any, jax.Array, jax.Array],
                     tuple[Any, Any, Any]] | None
  choices: Sequence[Function] | None = None


# `(functions, columns) -> rule`: the functions are those of the candidates with
# the numbers `columns` among all candidates of the space.
MakeRule = Callable[[Sequence[Function], Sequence[int]], EdgeRule]


class Data(NamedTuple):
  """What a rule is told of an edge.

  Attributes:
    value: of the rule's own: an index, weights, ...
    key: u32[2] of what an operation may draw, or None.
  """

  value: Any
  key: jax.Array | None = None


def typed(key: jax.Array | None) -> jax.Array | None:
  """A typed key from u32[2]."""
  return None if key is None else jax.random.wrap_key_data(key)


def selected(functions: Sequence[Function],
             columns: Sequence[int] | None = None) -> EdgeRule:
  """The rule that runs only the candidate whose number `data.value` is.

  Args:
    functions: per candidate that may stand on the edge.
    columns: their numbers among all candidates; None is all in order.
  """
  del columns  # Where candidates differ by edge, `local` translates.
  return _selected(functions, functions)._replace(choices=functions)


def stateful(functions: Sequence[Function],
             columns: Sequence[int] | None = None) -> EdgeRule:
  """As `selected`, of functions that return `(y, statistics)`."""
  del columns
  return _selected(functions, [
      lambda v, x, key, f=f: f(v, x, key)[0] for f in functions])


def _selected(functions, differentiable):
  def pull(function):
    def pulled(params, x, key, g):
      return jax.vjp(lambda p, x: function(p, x, key), params, x)[1](g)

    return pulled

  pullbacks = [pull(f) for f in differentiable]

  def forward(params, data, x):
    return lax.switch(data.value, functions, params, x, typed(data.key))

  def pullback(params, data, x, g):
    g_params, g_x = lax.switch(
        data.value, pullbacks, params, x, typed(data.key), g)
    return g_params, None, g_x

  return EdgeRule(forward, pullback)


def dense(functions: Sequence[Function],
          columns: Sequence[int] | None = None) -> EdgeRule:
  """The rule that weighs candidates: sum over o of data.value[o] * f_o(x).

  Args:
    functions: per candidate that may stand on the edge.
    columns: their numbers among the weights; None is all in order.
  """
  columns = range(len(functions)) if columns is None else columns

  def mix(params, weights, x, key):
    return sum(weights[o].astype(x.dtype) * f(params, x, key)
               for o, f in zip(columns, functions, strict=True))

  def forward(params, data, x):
    return mix(params, data.value, x, typed(data.key))

  def pullback(params, data, x, g):
    return jax.vjp(lambda p, w, x: mix(p, w, x, typed(data.key)), params,
                   data.value, x)[1](g)

  return EdgeRule(forward, pullback)


def sparse(functions: Sequence[Function],
           columns: Sequence[int] | None = None) -> EdgeRule:
  """As `dense`, and what weighs 0 need not be computed (`running`).

  It then adds nothing and gets no gradient, nor does its weight.
  """
  return dense(functions, columns)


def plain(make: MakeRule) -> MakeRule:
  """A rule whose derivatives are JAX's own, of every order and direction."""

  def made(functions, columns):
    alone = [primitives.plain_derivatives()(f) for f in functions]
    return make(alone, columns)._replace(pullback=None)

  return made


def apply(rule: EdgeRule, params: Any, data: Data, x: jax.Array, *,
          aux: bool = False) -> Any:
  """Runs one edge by a rule.

  Args:
    rule: what the edge computes.
    params: of its candidates.
    data: of the rule.
    x: [B, H, W, C].
    aux: whether the rule's forward returns `(y, aux)`.
  """
  pullback = rule.pullback
  if pullback is None or primitives.derivatives_are_plain():
    return rule.forward(params, data, x)
  run = jax.custom_vjp(rule.forward)

  def forward(*args):
    return rule.forward(*args), args

  def backward(args, g):
    params, data, x = args
    g_params, g_value, g_x = pullback(params, data, x, g[0] if aux else g)
    return g_params, cotangent(data, g_value), g_x

  run.defvjp(forward, backward)
  return run(params, data, x)


def cotangent(data: Data, g_value: Any) -> Data:
  """The cotangent of data, given that of its value (None of integers)."""
  zeros = lambda tree: jax.tree.map(
      lambda a: np.zeros(a.shape, jax.dtypes.float0), tree)
  integers = all(jnp.issubdtype(a.dtype, jnp.integer)
                 for a in jax.tree.leaves(data.value))
  return Data(zeros(data.value) if integers else g_value, zeros(data.key))
