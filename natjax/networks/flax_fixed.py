"""Operations that a flax module holds and that no block expresses.

They run as the module has them, in evaluation form, and are known by a name of
their content as long as the process lives.
"""

import functools
from typing import Any
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors, operations
from natjax.networks import flax_program
from natjax.networks.flax_program import Path
from natjax.operations import edges, primitives


def register(program: flax_program.Program, region: flax_program.Region,
             where: str, sizes: tuple[int, int], widths: tuple[int, int],
             stride: int) -> tuple[str, tuple[Path, ...]]:
  """Makes a part of a module an operation, if it is not known already.

  Args:
    program: of the module.
    region: the part.
    where: the path at which it stands, of which its name is made.
    sizes: sides of the images that it takes and gives, in pixels.
    widths: channels of both.
    stride: how many times smaller it makes images.

  Returns:
    The operation's name, and the paths of its variables in the module's.
  """
  run, paths, jaxpr = program.part(region)
  held = dict(program.weights.values())
  arrays = [held[path] for path in paths]
  content = zlib.crc32("\n".join([str(jaxpr), *map(str, paths), *(
      _content(c) for c in program.constants.values())]).encode())
  name = f"fixed_{where}_{content:08x}".lower().replace("/", ".")
  if name not in operations.names():
    params = sum(leaf.size for path, leaf in zip(
        paths, arrays, strict=True) if path[0] == "params")
    own = operations.Cost(params, flax_program.convolutions(jaxpr))

    def cost(channels, size, stride, in_channels=None):
      _check_widths(name, (in_channels or channels, channels), widths)
      return own

    parts = tuple((path[0], ".".join(path[1:]), leaf.shape)
                  for path, leaf in zip(paths, arrays, strict=True))
    operations.register(operations.Operation(
        name, "fixed", 0, functools.partial(
            _FixedModule, name, run, parts, sizes, widths),
        cost, strides=(stride,), widens=True, side=sizes[0],
        output_size=lambda size, stride: sizes[1] if size == sizes[0] else (
            primitives.output_size(size, stride))))
  return name, paths


class _FixedModule(nn.Module):
  """A part of another module, as that was traced, in evaluation form.

  Attributes:
    called: its name.
    run: `(arrays, x)` of one image, [1, H, H, C].
    parts: collection, name and shape of each of the arrays.
    sizes: sides of what it takes and of what it gives, in pixels.
    widths: channels of both.
    features: channels of the result.
    stride: of the result.
    norm: not used: what it has of its own is in `run`.
  """

  called: str
  run: Any
  parts: tuple[tuple[str, str, tuple[int, ...]], ...]
  sizes: tuple[int, int]
  widths: tuple[int, int]
  features: int
  stride: int
  norm: operations.NormFactory

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    after = self.sizes[1]
    _check_widths(self.called, (x.shape[-1], self.features), self.widths)
    edges.check_side(operations.get(self.called), x.shape[1])
    arrays = []
    for kind, name, shape in self.parts:
      draw = functools.partial(_drawn, name, shape)
      arrays.append(
          self.param(name, draw) if kind == "params" else
          self.variable("batch_stats", name, draw, None).value)
    whole = jax.vmap(lambda image: self.run(arrays, image[None])[0])
    y = whole(x.astype(jnp.float32)).astype(x.dtype)
    return y.reshape(x.shape[0], after, after, self.features)


def _check_widths(name, given, widths):
  if given != widths:
    raise errors.InputError(
        f"{name} takes {widths[0]} channels and gives {widths[1]}, and is given"
        f" {given[0]} for {given[1]}; keep the network's width", "width")


def _content(constant):
  """The bytes of a constant, which may be a key, in words."""
  if jnp.issubdtype(constant.dtype, jax.dtypes.prng_key):
    constant = jax.random.key_data(constant)
  return np.asarray(constant).tobytes().hex()


def _drawn(name, shape, rng):
  """How a variable of a fixed operation begins where no weights are given."""
  if name.rpartition(".")[2] in ("scale", "var"):
    return jnp.ones(shape)
  if len(shape) < 2 or rng is None:
    return jnp.zeros(shape)
  return nn.initializers.lecun_normal()(rng, shape)
