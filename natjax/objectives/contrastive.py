"""The contrastive loss NT-Xent, on one device or over several.

"A Simple Framework for Contrastive Learning of Visual Representations" (Chen et
al., 2020, arXiv:2002.05709, section 2.1, equation 1, and algorithm 1). Every
view is an anchor; the other view of its image is the positive, and all other
views of the batch, of all devices, are negatives.

**Over devices.** Anchors are those of the device, candidates are gathered from
all. A device's loss then depends on the projections of the others. Autodiff of
the gather sends their share back: the gradient with respect to a device's own
projections is that of the *sum* of all devices' losses. So one backpropagates
through the network and takes the mean over devices, as for any loss that is a
mean over a device's images, and has the gradient of the mean loss, which is the
loss of the joined batch.
"""

import jax
from jax import lax
import jax.numpy as jnp

from natjax import errors
from natjax.operations import primitives


def nt_xent(projections: jax.Array, *, temperature: float = 0.5,
            axis_name: str | None = None) -> jax.Array:
  """Computes NT-Xent, equation 1 of Chen et al., 2020, meaned over anchors.

  With z the projections brought to length 1 and s_ij = z_i z_j / temperature,
  an anchor i with the positive j has the loss
  log(sum_{k != i} exp(s_ik)) - s_ij.

  Args:
    projections: f[2B, D], the first views of B images, then their second views.
    temperature: above 0.
    axis_name: device axis over which negatives are gathered; the mean over it
      of the losses is the loss of the joined batch. None is one device.

  Returns:
    f32[], computed in float32 whatever the dtype of the projections.

  Raises:
    InputError: projections of another shape, or a temperature of 0 or less.

  Example, two images whose views agree and which are at right angles, so that
  an anchor sees its positive at 1 / 0.5 and two negatives at 0:
    >>> z = jnp.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 3.0]])
    >>> loss = nt_xent(z)
    >>> bool(jnp.isclose(loss, jnp.log(jnp.exp(2.0) + 2) - 2))
    True
  """
  s, positive = similarities(projections, temperature, axis_name)
  s_positive = jnp.take_along_axis(s, positive[:, None], axis=1)[:, 0]
  return jnp.mean(jax.nn.logsumexp(s, axis=1) - s_positive)


def accuracy(projections: jax.Array, *,
             axis_name: str | None = None) -> jax.Array:
  """Computes the share of anchors to which their positive is most similar.

  Args:
    projections: f[2B, D], the first views of B images, then their second views.
    axis_name: device axis over which negatives are gathered.

  Returns:
    f32[], without a gradient.
  """
  s, positive = similarities(lax.stop_gradient(projections), 1.0, axis_name)
  return jnp.mean((jnp.argmax(s, axis=1) == positive).astype(jnp.float32))


def similarities(projections: jax.Array, temperature: float,
                 axis_name: str | None) -> tuple[jax.Array, jax.Array]:
  """Computes the similarity of this device's views to the views of all.

  Args:
    projections: f[2B, D], the first views of B images, then their second views.
    temperature: that divides similarities.
    axis_name: device axis; N is 2B times the number of devices.

  Returns:
    Cosines over temperature, f32[2B, N], -inf of a view and itself; and which
    of the N is the positive, i32[2B].

  Raises:
    InputError: see `nt_xent`.
  """
  views = len(projections) if projections.ndim == 2 else 0
  if views % 2 or not views:
    raise errors.InputError(
        f"projections have shape {list(projections.shape)}; give [2B, D], the"
        " first views of B images, then their second views")
  if not temperature > 0:
    raise errors.InputError(
        f"temperature is {temperature} and must be above 0; give 0.5")
  z = primitives.unit(projections.astype(jnp.float32))
  candidates, first = z, jnp.zeros((), jnp.int32)
  if axis_name is not None:
    candidates = lax.all_gather(z, axis_name, tiled=True)
    first = views * lax.axis_index(axis_name)
  # Accelerators would round the factors of a product.
  s = jnp.matmul(z, candidates.T, precision=lax.Precision.HIGHEST) / temperature
  anchor = jnp.arange(views)
  itself = jnp.arange(candidates.shape[0]) == (first + anchor)[:, None]
  positive = first + (anchor + views // 2) % views
  return jnp.where(itself, -jnp.inf, s), positive
