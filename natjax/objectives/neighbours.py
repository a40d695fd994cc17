"""Classification by the nearest neighbours of features.

"Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (Wu
et al., 2018, section 3.4), as the common implementations of SimCLR on CIFAR
have it, with k = 200 and a temperature of 0.5. Nothing is trained.
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp

from natjax import errors

_TINY = 1e-12  # Least squared length of a feature vector that is normalised.


def predict(bank: jax.Array, labels: jax.Array, queries: jax.Array,
            num_classes: int, *, k: int = 200, temperature: float = 0.5,
            block: int = 256) -> jax.Array:
  """Computes the class of every query, a vote of its k nearest neighbours.

  Wu et al., 2018, section 3.4: with s_i the cosine between the query and
  neighbour i, class c has the votes sum_i exp(s_i / temperature) [y_i = c].

  Args:
    bank: f[N, F], features of known class.
    labels: i32[N], in [0, num_classes).
    queries: f[M, F], features to classify.
    num_classes: number of classes.
    k: neighbours that vote; all N where there are fewer than k.
    temperature: above 0.
    block: queries at a time, which take 8 * block * N bytes.

  Returns:
    i32[M]; of classes with equal votes the first.

  Raises:
    InputError: shapes that do not fit together, an empty bank, or a k, block
      or temperature that is not above 0.

  Example, a query between its two classes, nearer to the second:
    >>> bank, labels = jnp.eye(2), jnp.array([0, 1])
    >>> predict(bank, labels, jnp.array([[1.0, 1.1]]), 2).tolist()
    [1]
  """
  if not (bank.ndim == queries.ndim == 2 and labels.shape == bank.shape[:1]
          and bank.shape[1] == queries.shape[1] and len(bank)):
    raise errors.InputError(
        f"bank {list(bank.shape)}, labels {list(labels.shape)} and queries"
        f" {list(queries.shape)} do not fit together; give [N, F], [N] and"
        " [M, F], with N at least 1")
  for name, value in (("k", k), ("block", block), ("temperature", temperature)):
    if not value > 0:
      raise errors.InputError(f"{name} is {value} and must be above 0")
  return _predict(bank, labels, queries, num_classes, min(k, len(bank)),
                  temperature, min(block, max(len(queries), 1)))


@functools.partial(jax.jit, static_argnums=(3, 4, 5, 6))
def _predict(bank, labels, queries, num_classes, k, temperature, block):
  bank, queries = (x.astype(jnp.float32) for x in (bank, queries))
  scale = _inverse_length(bank)  # Apart: a bank of unit length is a copy of it.

  def vote(query):
    s = jnp.matmul(bank, query, precision=lax.Precision.HIGHEST)
    s, neighbour = lax.top_k(s * scale * _inverse_length(query), k)
    # Relative to the nearest, so that no temperature overflows. Its place is
    # known, but with s[0] XLA sorts all N, which takes 20 times as long.
    weight = jnp.exp((s - jnp.max(s)) / temperature)
    votes = jnp.zeros(num_classes).at[labels[neighbour]].add(weight)
    return jnp.argmax(votes).astype(jnp.int32)

  return lax.map(vote, queries, batch_size=block)


def _inverse_length(x):
  """One over the length of the last axis of f32[..., F]."""
  return lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1), _TINY))
