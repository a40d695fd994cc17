"""How fast a device trains a network: a few gradients, timed."""

from collections.abc import Sequence
import statistics
import time

import jax
import jax.numpy as jnp

from natjax.costs import exact as cost_lib
from natjax.graph import records
from natjax.networks import network as network_lib

_TIMES = 3  # Timed, after one that compiles and one that warms up.


def teraflops(architecture: records.Architecture, place: records.Place,
              batch: int, dtype: str, devices: Sequence[jax.Device]) -> float:
  """What one of the devices does a second by a network's gradient.

  Args:
    architecture: of the network.
    place: where it stands.
    batch: images of a step on a device.
    dtype: of the images.
    devices: of which the first is timed; those of a CPU are taken to share it.

  Returns:
    10^12 operations a second, the median of three gradients of noise; a
    multiply-add is two, and a backward pass two forward ones.
  """
  module = network_lib.module(architecture, place)
  keys = jax.random.split(jax.random.key(0), 2)

  def loss(params, others, images):
    (outputs, _), _ = module.apply(
        {**others, "params": params}, images, train=True,
        mutable=["batch_stats"], rngs={"dropout": keys[1], "noise": keys[1]})
    return jnp.mean(jnp.square(outputs))

  with jax.default_device(devices[0]):
    others = dict(jax.jit(lambda: network_lib.init(module, keys[0]))())
    params = others.pop("params")
    images = jax.random.normal(
        keys[1], (batch, place.image_size, place.image_size, 3),
        jnp.dtype(dtype))
    gradient, seconds = jax.jit(jax.grad(loss)), []
    for _ in range(2 + _TIMES):
      began = time.perf_counter()
      jax.block_until_ready(gradient(params, others, images))
      seconds.append(time.perf_counter() - began)
  madds = 3 * batch * cost_lib.network(architecture, place).madds
  shared = len(jax.local_devices()) if devices[0].platform == "cpu" else 1
  return 2e-12 * madds / statistics.median(seconds[2:]) / shared
