"""Operations as tokens: what an edge adds by the attention of an indicator.

IT-NAS ("Integrating Lite-Transformer into NAS for Architecture Selection",
under review at ICLR 2023), section 3.2. What the n operations of an edge make
of its input are n tokens, the indicator token IT stands before them, and the
edge adds what IT attends to: with weights a_0 ... a_n, the softmax over all
tokens of IT's logits (equation 4), Z = sum_i a_i o_i. The value of IT itself is
0, so that a_0 says how much is left out.

IT's query does not depend on the image. With the tokens x_i = o_i + pos_i and
q = W_q (IT + pos_0), its logits are

  <q, W_k x_i> / sqrt(d) = <u, x_i> / sqrt(d),  u = W_k^T q

and u, of as many numbers as a token, is what is learnt: the same functions as
with W_q and W_k, whose d x d numbers nobody could keep (d = 16384 on the first
cells of DARTS). The tokens attend to each other, too, but nothing reads it. So
the cost is O(n d), and nothing of the tokens is kept for the backward pass.

The paper leaves open how positions are encoded and how the result goes back
into the network. Here a position is a vector of c numbers, the same at every
pixel, learnt; values are the operations' outputs as they are.
"""

from collections.abc import Sequence
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from natjax import operations
from natjax.graph import shapes as shapes_lib
from natjax.networks import rules

TOKENS = ("full", "separable", "gap")
REENTRIES = ("mix", "encoder")
# Parameters of which nothing is a matrix.
VECTORS = ("position", "token", "scale", "bias")

_EPSILON = 1e-6  # Of the layer norms.
_SPREAD = 0.02  # Of what is drawn.


@dataclasses.dataclass(frozen=True)
class Attention:
  """The Lite-Transformer of an edge.

  Attributes:
    tokens: what a token is: the "full" output of an operation, flattened; the
      same with u the outer product of one vector over pixels and one over
      channels ("separable"); or its mean over pixels ("gap").
    reentry: what the edge adds: Z ("mix"), or Z after the rest of an encoder's
      layer: LN(IT + Z), a feed-forward part of 1x1 convolutions and GELU, LN
      ("encoder"). LN is over all numbers of an image.
    temperature: that divides the logits.
    reduction: how many times fewer channels the feed-forward part has inside.
  """

  tokens: str = "full"
  reentry: str = "mix"
  temperature: float = 1.0
  reduction: int = 4

  def init(self, rng: jax.Array, edges: int, candidates: int,
           shape: shapes_lib.Shape) -> dict[str, jax.Array]:
    """Draws the parameters of the edges of a block.

    Args:
      rng: a key.
      edges: E.
      candidates: n.
      shape: of what the edges add, [size, size, width].

    Returns:
      Arrays with leading axis E: "position" f32[n + 1, c], that of IT with IT
      first; "query" f32[s, s, c], or "query" f32[c] and of the form "separable"
      "pixels" f32[s, s]; and of an encoder its parameters.
    """
    size, width = shape.size, shape.width
    keys = iter(jax.random.split(rng, 8))
    draw = lambda *sizes: _SPREAD * jax.random.normal(
        next(keys), (edges, *sizes))
    query = (size, size, width) if self.tokens == "full" else (width,)
    found = {"position": draw(candidates + 1, width), "query": draw(*query)}
    if self.tokens == "separable":
      # Of a product, as spread as the full form.
      found["pixels"] = draw(size, size) / _SPREAD
    if self.reentry == "encoder":
      inner = max(width // self.reduction, 1)
      kernel = lambda *sizes: jax.vmap(
          lambda key: operations.kernel_init(key, sizes, jnp.float32))(
              jax.random.split(next(keys), edges))
      found |= {"token": draw(width), "into": kernel(width, inner),
                "out": kernel(inner, width),
                "bias": jnp.zeros((edges, 2, width)),
                "scale": jnp.ones((edges, 2, width))}
    return found

  def weights(self, params: dict[str, jax.Array], tokens: Sequence[jax.Array],
              allowed: jax.Array) -> jax.Array:
    """Row 0 of the attention, a of equation 4.

    Args:
      params: of one edge.
      tokens: n outputs [B, s, s, c].
      allowed: f32[n], 1 where an operation may stand; others weigh 0.

    Returns:
      f32[B, n + 1], in sum 1.
    """
    size, width = tokens[0].shape[1], tokens[0].shape[-1]
    query, count = params["query"], size * size * width
    if self.tokens == "separable":
      query = params["pixels"][..., None] * query
    if self.tokens == "gap":
      tokens = [jnp.mean(x, (1, 2), keepdims=True, dtype=jnp.float32)
                for x in tokens]
      query, count = query[None, None], width
    # Positions are the same at every pixel: their part is that of its sum.
    places = params["position"] @ jnp.sum(query, (0, 1))
    logits = jnp.stack([jnp.zeros(tokens[0].shape[0])] + [jnp.einsum(
        "bhwc,hwc->b", x.astype(jnp.float32), query) for x in tokens], axis=1)
    logits = (logits + places) / (self.temperature * math.sqrt(count))
    may = jnp.concatenate([jnp.ones(1), allowed]) > 0
    return jax.nn.softmax(jnp.where(may, logits, -jnp.inf), axis=-1)

  def encode(self, params: dict[str, jax.Array], z: jax.Array) -> jax.Array:
    """What the edge adds, of Z [B, s, s, c]."""
    if self.reentry == "mix":
      return z
    dtype, z = z.dtype, z.astype(jnp.float32)
    norm = lambda x, k: params["scale"][k] * _normalize(x) + params["bias"][k]
    z = norm(params["token"] + z, 0)
    z = norm(z + jax.nn.gelu(z @ params["into"]) @ params["out"], 1)
    return z.astype(dtype)

  def rule(self, functions: Sequence[rules.Function],
           columns: Sequence[int] | None = None) -> rules.EdgeRule:
    """The rule of an edge; its data's value is `{"allowed", ...}` (`init`).

    Args:
      functions: per candidate that may stand on the edges.
      columns: their numbers among all candidates; None is all in order.
    """
    forward = self._forward(functions, columns)

    def pullback(params, data, x, g):
      run = lambda params, value, x: forward(
          params, data._replace(value=value), x)[0]
      return jax.vjp(run, params, data.value, x)[1](g)

    return rules.EdgeRule(lambda *args: forward(*args)[0], pullback)

  def telling(self, functions: Sequence[rules.Function],
              columns: Sequence[int] | None = None) -> rules.EdgeRule:
    """As `rule`, that tells its attention to the operations, f32[B, n]."""
    return self.rule(functions, columns)._replace(
        forward=self._forward(functions, columns))

  def path(self, functions: Sequence[rules.Function],
           columns: Sequence[int] | None = None) -> rules.EdgeRule:
    """The rule of an edge on which one operation runs and all are attended to.

    With o_s the operation that was drawn, and sg for no gradient, the edge adds

      o_s + m - sg(m),  m = sum_i a_i sg(o_i)

    which is o_s, and whose gradient is that of o_s but for what it learns of
    a: dL/da_i = <g, o_i>. Of what was not drawn no more than its output is
    computed, in the backward pass alone.

    Args:
      functions: per candidate that may stand on the edges.
      columns: their numbers among all candidates; None is all in order.

    Returns:
      The rule; its data's value is that of `rule` and "chosen", f32[n], 1 for
      the operation that was drawn and 0 for others.
    """
    order = _order(functions, columns)
    drawn = rules.selected(functions)
    which = lambda data: data._replace(
        value=jnp.argmax(data.value["chosen"][order]))

    def pullback(params, data, x, g):
      assert drawn.pullback is not None
      g_params, _, g_x = drawn.pullback(params, which(data), x, g)
      made = [f(params, x, rules.typed(data.key)) for f in functions]
      along = jnp.stack([jnp.sum(
          g.astype(jnp.float32) * y, (1, 2, 3)) for y in made], 1)
      learnt = lambda value: jnp.sum(
          along * self._attend(value, made, order)[:, 1:])
      return g_params, jax.grad(learnt)(data.value), g_x

    return rules.EdgeRule(
        lambda params, data, x: drawn.forward(params, which(data), x), pullback)

  def telling_path(self, functions: Sequence[rules.Function],
                   columns: Sequence[int] | None = None) -> rules.EdgeRule:
    """As `path`, that tells its attention to the operations, f32[B, n]."""
    rule, order = self.path(functions, columns), _order(functions, columns)

    def forward(params, data, x):
      made = [f(params, x, rules.typed(data.key)) for f in functions]
      return rule.forward(params, data, x), {"told": self._told(
          data.value, self._attend(data.value, made, order), order)}

    return rule._replace(forward=forward)

  def _forward(self, functions, columns):
    order = _order(functions, columns)

    def forward(params, data, x):
      value, key = data.value, rules.typed(data.key)
      made = [f(params, x, key) for f in functions]
      a = self._attend(value, made, order)
      z = sum(a[:, k + 1, None, None, None].astype(y.dtype) * y
              for k, y in enumerate(made))
      return self.encode(value, z), {"told": self._told(value, a, order)}

    return forward

  def _attend(self, value, made, order):
    """`weights` of an edge on which only candidates `order` may stand."""
    own = {name: part for name, part in value.items()
           if name not in ("allowed", "chosen")}
    own["position"] = own["position"][np.append(0, order + 1)]
    return self.weights(own, made, value["allowed"][order])

  def _told(self, value, a, order):
    """The attention to all candidates of the space, f32[B, n]."""
    return jnp.zeros((len(a), len(value["allowed"]))).at[:, order].set(a[:, 1:])


def _order(functions, columns):
  """The numbers of candidates, i64[n], for arrays that all edges share."""
  return np.arange(len(functions)) if columns is None else np.array(columns)


def _normalize(x):
  """Every image of mean 0 and variance 1."""
  axes = tuple(range(1, x.ndim))
  mean = jnp.mean(x, axes, keepdims=True)
  spread = jnp.mean(jnp.square(x - mean), axes, keepdims=True)
  return (x - mean) * jax.lax.rsqrt(spread + _EPSILON)
