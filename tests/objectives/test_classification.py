"""The answers of a classifier."""

import jax.numpy as jnp

from natjax.objectives import classification


def test_the_label_among_the_first():
  logits = jnp.array([[6.0, 5, 4, 3, 2, 1], [6.0, 5, 4, 3, 2, 1],
                      [1.0, 1, 1, 1, 1, 1], [1.0, 2, 3, 4, 5, 6]])
  labels = jnp.array([4, 5, 5, 5])
  assert classification.among_first(logits, labels).tolist() == [1, 0, 1, 1]
  assert classification.among_first(logits, labels, 1).tolist() == [0, 0, 1, 1]
  assert classification.among_first(jnp.full((1, 6), jnp.nan), labels[:1]) == 0
  assert classification.right(logits, labels).tolist() == [0, 0, 0, 1]
