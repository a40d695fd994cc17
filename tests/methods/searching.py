"""What tests of searches by alpha share: a tiny space, batches, one iteration.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natjax import spaces
from natjax.training import method as base

SPACE = spaces.cells(
    "tiny", ("max_pool_3x3", "skip_connect", "dil_conv_3x3", "null"),
    num_nodes=2)
SIZES: dict[str, Any] = {"num_classes": 3, "image_size": 8}
CONFIG: dict[str, Any] = {"init_channels": 4, "cells": 3, "batch_size": 4,
                          "epochs": 2}


def batches(count=2, size=4, dtype=jnp.float32):
  """Batches of noise, of which the k-th is always the same."""
  found = []
  for k in range(count):
    rng = np.random.default_rng(k)
    found.append({
        "image": jnp.asarray(rng.normal(size=(size, 8, 8, 3)), dtype),
        "label": jnp.asarray(rng.integers(0, 3, size), jnp.int32)})
  return found


def compiled(function):
  """An update, compiled for one device."""
  one = jax.vmap(lambda _, *args: function(*args), axis_name=base.AXIS,
                 in_axes=(0, *[None] * 3), out_axes=None, axis_size=1)
  return jax.jit(lambda state, *batches: one(jnp.zeros(1), state, *batches))
