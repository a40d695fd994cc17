"""Class activation maps: where in an image a network sees a class.

Selvaraju et al., 2017, "Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization", section 3. Of a layer that global pooling and a
linear classifier follow, it is the map of Zhou et al., 2016, "Learning Deep
Features for Discriminative Localization", without what is negative, divided by
the number of positions.

The modules of a network are not changed for it: what one of them gives is
caught, and shifted by zeros, by which the score is differentiated. In a
supernet (`of_candidates`) a rule on the edge carries both out.
"""

from collections.abc import Callable, Collection
import functools
import numbers
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors, operations
from natjax.graph import arrays as arrays_lib
from natjax.graph import records
from natjax.networks import network as network_lib
from natjax.networks import rules
from natjax.networks import supernet as supernet_lib
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
    Skips and pooling without BN, which are no modules, are called alike.
  """
  found = {}

  def keep(name, output):
    if output.ndim == 4 and max(output.shape[1:3]) > 1:
      found[name] = jax.ShapeDtypeStruct(output.shape, output.dtype)
    return output

  with _catching(keep):
    jax.eval_shape(functools.partial(
        network.apply, edge=_naming(network, keep)), variables, images)
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
          if isinstance(layer, numbers.Integral) and not isinstance(
              layer, bool) else layer)
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
      logits, _ = network.apply(
          variables, images, edge=_naming(network, move))
    # Without the batch's statistics no image acts upon another's logits.
    return jnp.sum(jnp.take_along_axis(logits, labels[:, None], -1)), kept[0]

  return _map(*jax.grad(score, has_aux=True)(zeros))


def of_candidates(supernet: supernet_lib.Supernet, block: int, edge: int
                  ) -> Callable[..., tuple[jax.Array, jax.Array]]:
  """Makes a program for maps of what runs on an edge of a supernet.

  Args:
    supernet: of "calibrated" BN, without bottleneck.
    block: number of the block.
    edge: number of the edge in its cell of the space's graph, one that is
      decided on, and that the path has.

  Returns:
    `(variables, path, images, labels) -> (maps, logits)`, compiled, with maps
    f32[B, h, w] as of `maps`, of f[B, S, S, 3], prepared, and i32[B]; the path
    is `CellArrays` [G, N, K].
  """
  plan = supernet.plan
  cell, group = plan.cell(block), plan.decided[block]
  names, free = plan.space.candidates, plan.space.inputs is not None
  # Of every edge, the numbers of all candidates among its own.
  numbers = np.array([[own.index(name) if name in own else 0 for name in names]
                      for own in (plan.names(block, e)
                                  for e in range(len(cell.edges)))])
  shapes = [plan.shapes[block].nodes[plan.network.prefix + e.target]
            for e in cell.edges]
  like = shapes[edge]
  if any(shape[:2] != like[:2] for shape in shapes):
    raise errors.InputError(
        f"the nodes of block {block} are of several shapes, of which no maps"
        " are made; choose another layer", "layer")

  ends = np.array([list(e[1:]) for e in cell.edges])

  def standing(path):
    """Of every edge what stands there, and whether it has any."""
    operation = path.operation[group]
    if not free:
      return operation[arrays_lib.slots(cell)], jnp.ones(len(numbers), bool)
    # Bool[E, K], which slot of an edge's target has its source.
    nodes = ends[:, 1] - records.NUM_INPUTS
    there = (path.source[group][nodes] == ends[:, :1]) & (
        operation[nodes] != plan.space.candidates.index(operations.NULL))
    return operation[nodes, jnp.argmax(there, 1)], jnp.any(there, 1)

  @jax.jit
  def run(variables, path, images, labels):
    chosen, on = standing(path)
    chosen = jnp.asarray(numbers)[np.arange(len(numbers)), chosen]

    def score(probe):
      how = supernet.selected(path)
      how[block] = how[block]._replace(
          value={"chosen": chosen, "on": on, "probe": probe}, source=None,
          make=_watching)
      logits, _ = supernet.run(variables, how, images, train=False)
      return jnp.sum(jnp.take_along_axis(
          logits, labels[:, None], -1)), logits

    zeros = jnp.zeros((len(cell.edges), len(images), like.size, like.size,
                       like.width), supernet.dtype)
    carried, logits = jax.grad(score, has_aux=True)(
        {"features": zeros, "slopes": zeros})
    return _map(*(carried[key][edge] for key in ("slopes", "features"))), logits

  return run


@jax.custom_vjp
def _carried(y, probe):
  """y; the "derivative" by the probe is y itself, and the gradient of y."""
  del probe
  return y


_carried.defvjp(lambda y, probe: (y, y),
                lambda y, g: (g, {"features": y, "slopes": g}))


def _watching(functions, columns):
  """`rules.stateful`, whose output a probe carries out."""
  inner = rules.stateful(functions, columns)

  def forward(params, data, x):
    y, stats = inner.forward(
        params, data._replace(value=data.value["chosen"]), x)
    y = jnp.where(data.value["on"], y, 0)  # An edge that the path lacks.
    return _carried(y, data.value["probe"]), stats

  return rules.EdgeRule(forward, None)


def _map(slopes, features):
  """Equations 1 and 2, of [B, h, w, C]."""
  slopes, features = map(primitives.at_least_float32, (slopes, features))
  alpha = jnp.mean(slopes, (1, 2), keepdims=True)  # [B, 1, 1, C]
  return jax.nn.relu(jnp.sum(alpha * features, -1))


def _naming(network, change):
  """An edge of a network, `change(name, output)` of what is no module there."""
  called = network_lib.names(network.graph).block

  def edge(site):
    output = network_lib.plain(site)
    if output is None or isinstance(site.made(site.operation), nn.Module):
      return output  # Which is caught as modules are.
    return change(f"{called}{site.block}/" + network_lib.edge_name(
        site.edge, site.operation), output)

  return edge


def _catching(change: Callable[[str, jax.Array], jax.Array]):
  """While entered, `change(name, output)` is what modules give."""

  def intercept(call, args, kwargs, context):
    output = call(*args, **kwargs)
    if context.method_name != "__call__" or not isinstance(output, jax.Array):
      return output
    return change("/".join(context.module.path), output)

  return nn.intercept_methods(intercept)
