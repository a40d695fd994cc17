"""Linear evaluation: a linear classifier on frozen features.

Chen et al., 2020 (SimCLR), section 2.3 and appendix B: multinomial logistic
regression, penalised by the squares of its weights and trained by L-BFGS on the
whole set, as they do for transfer (appendix B.8). Features are brought to mean
0 and variance 1 by the training set's statistics, so that one penalty suits all
networks. Nothing is random; one program serves sets of equal shapes.
"""

import functools
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import optax

from natjax import errors

_TINY = 1e-12  # A feature of less variance is constant, and left out.


class LinearProbe(NamedTuple):
  """A linear classifier of features as they are.

  Attributes:
    kernel: f32[F, K].
    bias: f32[K].
  """

  kernel: jax.Array
  bias: jax.Array


def fit(features: jax.Array, labels: jax.Array, num_classes: int, *,
        penalty: float = 1e-3, steps: int = 200) -> LinearProbe:
  """Trains the classifier.

  Minimises mean cross-entropy + penalty / 2 * sum of squared weights, of
  standardised features and without the bias, from 0, by L-BFGS (10 pairs, line
  search by zooming).

  Args:
    features: f[N, F].
    labels: i32[N], in [0, num_classes).
    num_classes: K.
    penalty: at least 0.
    steps: of L-BFGS; fewer where the gradient's norm falls below 1e-5 before.

  Raises:
    InputError: shapes that do not fit together, no examples, or settings out of
      range.
  """
  if features.ndim != 2 or labels.shape != features.shape[:1] or not len(
      labels):
    raise errors.InputError(
        f"features {list(features.shape)} and labels {list(labels.shape)} do"
        " not fit together; give [N, F] and [N], with N at least 1")
  if not penalty >= 0 or steps < 1:
    raise errors.InputError(
        f"penalty is {penalty} and steps {steps}; give at least 0 and 1")
  return _fit(features, labels, num_classes, penalty, steps)


def predict(probe: LinearProbe, features: jax.Array) -> jax.Array:
  """The class of features f[M, F], i32[M]."""
  logits = _logits(probe, features.astype(jnp.float32))
  return jnp.argmax(logits, axis=1).astype(jnp.int32)


def accuracy(train: tuple[jax.Array, jax.Array],
             test: tuple[jax.Array, jax.Array], num_classes: int, *,
             steps: int = 200) -> float:
  """Computes the share of a test set that a trained classifier gets right.

  Args:
    train: features f[N, F] and labels i32[N].
    test: features f[M, F] and labels i32[M].
    num_classes: K.
    steps: see `fit`.

  Example, where the first feature tells the classes apart:
    >>> x = jnp.array([[-1.0, 3.0], [-2.0, 5.0], [1.0, 4.0], [2.0, 3.0]])
    >>> y = jnp.array([0, 0, 1, 1])
    >>> accuracy((x, y), (x, y), 2)
    1.0
  """
  probe = fit(*train, num_classes, steps=steps)
  return float(jnp.mean(predict(probe, test[0]) == test[1]))


@functools.partial(jax.jit, static_argnums=2)
def _fit(features, labels, num_classes, penalty, steps):
  features = features.astype(jnp.float32)
  mean = jnp.mean(features, axis=0)
  variance = jnp.var(features, axis=0)
  scale = jnp.where(variance > _TINY, lax.rsqrt(variance + _TINY), 0.0)

  def unstandardised(probe):
    # In the weights and not in the features, lest there be a copy of these.
    kernel = scale[:, None] * probe.kernel
    return LinearProbe(kernel, probe.bias - mean @ kernel)

  def loss(probe):
    logits = _logits(unstandardised(probe), features)
    each = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.mean(each) + penalty / 2 * jnp.sum(probe.kernel**2)

  optimizer = optax.lbfgs()
  value_and_grad = optax.value_and_grad_from_state(loss)

  def step(carry):
    probe, state, count, _ = carry
    value, grad = value_and_grad(probe, state=state)
    updates, state = optimizer.update(
        grad, state, probe, value=value, grad=grad, value_fn=loss)
    return (optax.apply_updates(probe, updates), state, count + 1,
            optax.tree.norm(grad))

  start = LinearProbe(jnp.zeros((features.shape[1], num_classes)),
                      jnp.zeros(num_classes))
  probe, *_ = lax.while_loop(
      lambda carry: (carry[2] < steps) & (carry[3] > 1e-5), step,
      (start, optimizer.init(start), 0, jnp.inf))
  return unstandardised(probe)


def _logits(probe, features):
  return jnp.matmul(features, probe.kernel,
                    precision=lax.Precision.HIGHEST) + probe.bias
