"""Every operation of the registry, forward and backward."""

from collections.abc import Sequence
import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from natjax import operations
from natjax.networks import layers
from natjax.operations import edge_modules, edges
from natjax.selftest import comparison

TOLERANCES = {"float32": 2e-5, "float32 default": 5e-3, "bfloat16": 2e-2}
# Where a ReLU stands between two convolutions, rounding has some of its inputs
# change sides.
_RELU_INSIDE = ("sep_conv", "mbconv", "shuffle")
INNER_RELU = {"float32": 2e-5, "float32 default": 3e-2, "bfloat16": 0.15}
_CHANNELS, _BATCH = 16, 4
_SIDES = {1: 8, 2: 9}  # By stride; an odd side has pixels to spare.


def cases(names: Sequence[str] | None = None,
          together: int = 10) -> list[comparison.Case]:
  """The cases of all operations.

  Args:
    names: of the operations; None is all that are known.
    together: how many make a program.
  """
  kinds: dict[Any, list[str]] = {}
  for name in operations.names() if names is None else names:
    operation = operations.get(name)
    kinds.setdefault((operation.random, operation.type in _RELU_INSIDE),
                     []).append(name)
  parts = [kind[i:i + together] for kind in kinds.values()
           for i in range(0, len(kind), together)]
  return [_case(part)._replace(
      alone=[_case([name]) for name in part] if len(part) > 1 else [])
          for part in parts]


def representatives() -> list[str]:
  """Of operations that differ in a number alone, that of a window of 3."""
  families: dict[str, list[str]] = {}
  for name in operations.names():
    families.setdefault(re.sub(r"\d+", "k", name), []).append(name)
  return [next((n for n in names if operations.get(n).kernel_size == 3),
               names[0]) for names in families.values()]


def _case(names):
  first = operations.get(names[0])
  tolerances = INNER_RELU if first.type in _RELU_INSIDE else TOLERANCES
  if first.random:
    tolerances = {"float32": TOLERANCES["float32"]}
  return comparison.Case(
      names[0] if len(names) == 1 else f"operations {names[0]} to {names[-1]}",
      functools.partial(_program, tuple(names)), tolerances, draws=first.random)


def _program(names, dtype):
  """{operation: {what, at every stride}}, gradients of a weighted sum."""
  modules = {(name, stride): edge_modules.module(
      operations.get(name), edges.Ends(_CHANNELS, _CHANNELS, stride, side),
      norm=functools.partial(layers.RunningBatchNorm, True))
             for name in names for stride, side in _SIDES.items()
             if stride in operations.get(name).strides}
  images = {stride: comparison.images(_BATCH, side, _CHANNELS)
            for stride, side in _SIDES.items()}
  variables = {
      (name, stride): comparison.state(functools.partial(
          m.init, x=jnp.asarray(images[stride])))
      if isinstance(m, nn.Module) else {}
      for (name, stride), m in modules.items()}

  def apply(key, params, x):
    module = modules[key]
    if not isinstance(module, nn.Module):
      return module(x)
    return module.apply({**variables[key], "params": params}, x,
                        mutable=["batch_stats"])[0]

  def run(params, images):
    found: dict[str, Any] = {name: {} for name in names}
    for name, stride in modules:
      key = name, stride
      y, pull = jax.vjp(functools.partial(apply, key), params[key],
                        images[stride])
      # Which bfloat16 holds exactly, as it does the images.
      weights = np.random.default_rng(stride).integers(-64, 64, y.shape) + 0.5
      g_params, g_x = pull(jnp.asarray(weights / 32, y.dtype))
      found[name] |= {f"output, stride {stride}": y,
                      f"gradient of the input, stride {stride}": g_x}
      if jax.tree.leaves(g_params):
        found[name][f"gradient of the weights, stride {stride}"] = g_params
    return found

  return comparison.Program(run, (
      {key: v.get("params", {}) for key, v in variables.items()},
      {stride: x.astype(dtype) for stride, x in images.items()}))
