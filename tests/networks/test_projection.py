"""The projection head against its plain form, and its size."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np

from natjax.networks import projection
from tests.networks import oracle

HEAD = projection.ProjectionHead(hidden=5, projection=3)


def draw(batch=8, features=6):
  return np.random.default_rng(0).normal(size=(batch, features)).astype("f")


def variables():
  shapes = jax.eval_shape(HEAD.init, jax.random.key(0), draw())
  return oracle.random_weights(shapes, 1)


def plain(variables, x, mean, var):
  params = variables["params"]
  x = x @ params["linear0"]["kernel"]
  bn = params["norm"]["bn"]
  x = (x - mean) / np.sqrt(var + 1e-5) * bn["scale"] + bn["bias"]
  last = params["linear1"]
  return np.maximum(x, 0) @ last["kernel"] + last["bias"]


def test_training_normalises_by_the_batch():
  v, x = variables(), draw()
  inside = x @ v["params"]["linear0"]["kernel"]
  y, changed = HEAD.apply(v, x, train=True, mutable=["batch_stats"])
  np.testing.assert_allclose(
      y, plain(v, x, inside.mean(0), inside.var(0)), rtol=1e-3, atol=1e-4)
  new, old = (s["batch_stats"]["norm"]["bn"] for s in (changed, v))
  np.testing.assert_allclose(
      new["mean"], 0.9 * old["mean"] + 0.1 * inside.mean(0), rtol=1e-4,
      atol=1e-5)


def test_inference_normalises_by_running_statistics():
  v, x = variables(), draw()
  stats = v["batch_stats"]["norm"]["bn"]
  np.testing.assert_allclose(
      HEAD.apply(v, x), plain(v, x, stats["mean"], stats["var"]), rtol=1e-3,
      atol=1e-4)


def test_joined_statistics_are_those_of_the_whole_batch():
  v, x = variables(), draw()
  expected, _ = HEAD.apply(v, x, train=True, mutable=["batch_stats"])
  joined = HEAD.clone(axis_name="devices")
  y, _ = jax.vmap(
      lambda x: joined.apply(v, x, train=True, mutable=["batch_stats"]),
      axis_name="devices")(x.reshape(2, 4, 6))
  np.testing.assert_allclose(y.reshape(8, 3), expected, rtol=1e-3, atol=1e-4)


def test_computed_in_float32():
  y = HEAD.apply(variables(), jnp.asarray(draw(), jnp.bfloat16))
  assert y.dtype == jnp.float32


def test_cost_is_that_of_the_head():
  shapes = jax.eval_shape(HEAD.init, jax.random.key(0), draw())["params"]
  cost = projection.cost(6, 5, 3)
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == cost.params
  assert cost.madds == 6 * 5 + 5 * 3
  assert (shapes["linear0"].keys(), shapes["linear1"].keys()) == (
      {"kernel"}, {"kernel", "bias"})


def test_example():
  assert doctest.testmod(projection) == (0, 1)
