"""Linear evaluation: a softmax regression on features that stay as they are.

Chen et al., 2020, section 4.1, judge features so. Theirs is trained by SGD on
augmented images; here the features are of the images as they are, computed
once, and the regression is solved by L-BFGS on all of them, which is
deterministic and has no rate to be tuned.
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import errors


def accuracy(
    features: jax.Array,
    labels: jax.Array,
    test_features: jax.Array,
    test_labels: jax.Array,
    num_classes: int,
    *,
    steps: int = 200,
    weight_decay: float = 1e-4,
) -> float:
  """Trains a linear classifier and computes its accuracy on other features.

  It minimises mean cross-entropy + weight_decay / 2 * |W|^2, W being that of
  features brought to mean 0 and deviation 1 over the training images.

  Args:
    features: f[N, F], to train on.
    labels: i32[N], in [0, num_classes).
    test_features: f[M, F].
    test_labels: i32[M].
    num_classes: K.
    steps: of L-BFGS.
    weight_decay: see above.

  Returns:
    The share of the M that is right, in [0, 1].

  Raises:
    InputError: shapes that do not fit together.
  """
  if np.ndim(features) != 2 or len(features) != len(labels) or (
      np.shape(test_features)[1:] != np.shape(features)[1:]):
    raise errors.InputError(
        f"features have shape {np.shape(features)}, labels {np.shape(labels)},"
        f" test features {np.shape(test_features)}; give [N, F], [N] and"
        " [M, F]")
  mean = jnp.mean(features, 0)
  scale = 1 / jnp.maximum(jnp.std(features, 0), 1e-6)
  weights, bias = _solve((features - mean) * scale, jnp.asarray(labels),
                         num_classes, steps, weight_decay)
  logits = ((test_features - mean) * scale) @ weights + bias
  return float(jnp.mean(jnp.argmax(logits, -1) == jnp.asarray(test_labels)))


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _solve(x, labels, num_classes, steps, weight_decay):
  """Weights f32[F, K] and bias f32[K]."""
  def loss(params):
    weights, bias = params
    entropy = optax.softmax_cross_entropy_with_integer_labels(
        x @ weights + bias, labels)
    return jnp.mean(entropy) + weight_decay / 2 * jnp.sum(weights**2)

  solver = optax.lbfgs()
  value_and_grad = optax.value_and_grad_from_state(loss)

  def step(_, carry):
    params, state = carry
    value, grad = value_and_grad(params, state=state)
    updates, state = solver.update(
        grad, state, params, value=value, grad=grad, value_fn=loss)
    return optax.apply_updates(params, updates), state

  params = (jnp.zeros((x.shape[1], num_classes)), jnp.zeros(num_classes))
  return lax.fori_loop(0, steps, step, (params, solver.init(params)))[0]
