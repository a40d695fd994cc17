"""Class activation maps: where in an image a network sees a class.

Selvaraju et al., 2017, "Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization", section 3. Of a layer that global pooling and a
linear classifier follow, it is the map of Zhou et al., 2016, "Learning Deep
Features for Discriminative Localization", without what is negative, divided by
the number of positions.

The modules of a network are not changed for it: what one of them gives is
caught, and shifted by zeros, by which the score is differentiated.
"""

from collections.abc import Callable, Collection
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from natjax import errors
from natjax.networks import network as network_lib
from natjax.operations import primitives


def layers(network: network_lib.Network, variables: Any,
           images: jax.Array) -> dict[str, jax.ShapeDtypeStruct]:
  """What has more than one position, in the order in which it is run.

  Args:
    network: the module.
    variables: of it.
    images: f[B, S, S, 3], prepared.

  Returns:
    Shapes [B, h, w, C] of what modules give, by their names: "cell3" or
    "block3", layers of the stem and the head, and parts of all these, such as
    "cell3/edge0_sep_conv_3x3", which come before what they are parts of.
    What is no module has no name: skips, and pooling without BN.
  """
  found = {}

  def keep(name, output):
    if output.ndim == 4 and max(output.shape[1:3]) > 1:
      found[name] = jax.ShapeDtypeStruct(output.shape, output.dtype)
    return output

  with _catching(keep):
    jax.eval_shape(network.apply, variables, images)
  return found


def choose(network: network_lib.Network, among: Collection[str],
           layer: str | int | None = None) -> str:
  """The name of a layer.

  Args:
    network: the module.
    among: the names of its `layers`, in their order.
    layer: a name, or the number of a cell or a block; None is the last one
      outside of others, which is what the head pools.

  Raises:
    InputError: there is no such layer, or it has a single position.
  """
  outer = [name for name in among if "/" not in name]
  if not outer:
    raise errors.InputError("no layer of this network has more than one"
                            " position, so there is no map to make", "layer")
  if layer is None:
    return outer[-1]
  inner = min((name for name in among if "/edge" in name), default=outer[0],
              key=lambda name: name.count("/"))
  name = (f"{network_lib.names(network.graph).block}{layer}"
          if type(layer) is int else layer)
  if not isinstance(name, str) or name not in among:
    raise errors.InputError(
        f"layer is {errors.short(layer)}, and the layers of more than one"
        f" position are {outer[0]} to {outer[-1]}, in them for example {inner};"
        " name one of them, or the number of a cell or a block", "layer")
  return name


def maps(network: network_lib.Network, variables: Any, images: jax.Array,
         labels: jax.Array, layer: str | int | None = None) -> jax.Array:
  """Computes the maps of a class each; Selvaraju et al., 2017, eq. 1 and 2.

  Args:
    network: the module, with a classifier.
    variables: of it.
    images: f[B, S, S, 3], prepared.
    labels: i32[B], the classes c.
    layer: the layer A, as `choose` takes it.

  Returns:
    f32[B, h, w], of at least 0, in logits per position.

  Raises:
    InputError: see `choose`.
  """
  among = layers(network, variables, images)
  layer = choose(network, among, layer)
  return _maps(network, layer, variables, images, labels,
               jnp.zeros(among[layer].shape, among[layer].dtype))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _maps(network, layer, variables, images, labels, zeros):

  def score(shift):
    kept = []

    def move(name, output):
      if name == layer:
        kept.append(output := output + shift)
      return output

    with _catching(move):
      logits, _ = network.apply(variables, images)
    # Without the batch's statistics no image acts upon another's logits.
    return jnp.sum(jnp.take_along_axis(logits, labels[:, None], -1)), kept[0]

  slopes, features = map(primitives.at_least_float32,
                         jax.grad(score, has_aux=True)(zeros))
  alpha = jnp.mean(slopes, (1, 2), keepdims=True)  # [B, 1, 1, C]
  return jax.nn.relu(jnp.sum(alpha * features, -1))


def _catching(change: Callable[[str, jax.Array], jax.Array]):
  """While entered, `change(name, output)` is what modules give."""

  def intercept(call, args, kwargs, context):
    output = call(*args, **kwargs)
    if context.method_name != "__call__" or not isinstance(output, jax.Array):
      return output
    return change("/".join(context.module.path), output)

  return nn.intercept_methods(intercept)
