"""Errors, rows, and what the numbers of a self-test are."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax.selftest import comparison

FLOAT32 = comparison.FLOAT32


def test_the_error_is_relative_to_all_arrays_together():
  wanted = {"a": np.array([3.0, 0.0]), "b": np.array([4.0])}
  found = {"a": np.array([3.0, 0.5]), "b": np.array([4.0])}
  assert comparison.error(found, wanted) == pytest.approx(0.1)
  assert comparison.error(wanted, wanted) == 0
  zeros = {"a": np.zeros(2), "b": np.zeros(1)}
  assert comparison.error(wanted, zeros) == 5


@pytest.mark.parametrize("found", [
    np.array([1.0, np.nan]), np.array([1.0, np.inf]), np.array([1.0]),
    np.array([[1.0, 2.0]])])
def test_what_is_not_finite_or_has_another_shape_never_passes(found):
  wanted = np.array([1.0, 2.0])
  assert comparison.error(found, wanted) == math.inf
  assert comparison.error(wanted, np.where(found > 0, found, np.nan).reshape(
      -1)[:1]) == math.inf
  for value in (math.inf, math.nan):
    row = comparison.judged("x", "float32", value, 1e9, 1.0)
    assert row.outcome == "FAILED"


def test_whole_numbers_must_be_equal():
  wanted = {"i": np.arange(4), "b": np.array([True, False])}
  found = {"i": np.array([0, 1, 2, 9]), "b": np.array([True, False])}
  assert comparison.error(found, wanted) == pytest.approx(1 / 6)
  assert comparison.error(wanted, wanted) == 0


def test_other_trees_are_refused():
  with pytest.raises(ValueError):
    comparison.error([np.ones(2)], [np.ones(2), np.ones(2)])


def test_rows_name_the_worst_part():
  wanted = {"op": {"output": np.ones(2), "gradient": np.ones(2)}}
  found = {"op": {"output": np.ones(2), "gradient": np.full(2, 1.5)}}
  row, = comparison.rows(found, wanted, 0.1, FLOAT32, 2.0)
  assert row == ("op", "float32", 0.5, 0.1, 2.0, "FAILED", "gradient", "")
  assert comparison.rows(found, wanted, 0.5, FLOAT32, 2.0)[
      0].outcome == "passed"


@pytest.mark.parametrize("side", [8, 9, 16])
def test_images_have_no_ties_no_zeros_and_are_exact(side):
  found = comparison.images(3, side, 4)
  assert found.shape == (3, side, side, 4)
  assert (found != 0).all()
  np.testing.assert_array_equal(
      found.astype(jnp.bfloat16).astype(np.float32), found)
  for image in found.transpose(0, 3, 1, 2).reshape(12, -1):
    assert len(np.unique(image)) == side * side
  assert len(np.unique(found.reshape(3, -1), axis=0)) == 3


def case(function, **more):
  return comparison.Case(
      "mine", lambda dtype: comparison.Program(
          lambda x: {"mine": {"y": function(x)}},
          (comparison.images(1, 8).astype(dtype),)), {"float32": 1e-6}, **more)


def test_the_reference_is_in_float64_with_plain_derivatives():
  seen = []

  def run(x):
    seen.append((x.dtype, jax.config.jax_enable_x64,
                 jax.config.jax_default_matmul_precision,
                 comparison.primitives.derivatives_are_plain()))
    return x * x

  comparison.compute(comparison.reference(case(run)))
  comparison.compute(comparison.lower(
      case(run), FLOAT32, jax.devices()[0]))
  assert seen == [(jnp.float64, True, "highest", True),
                  (jnp.float32, False, "highest", False)]


def test_what_draws_is_not_compared_in_float64():
  draw = lambda x: x + jax.random.normal(jax.random.key(0), x.shape, x.dtype)
  run = lambda **more: comparison.error(*(
      comparison.compute(lowered) for lowered in (
          comparison.lower(case(draw), FLOAT32, jax.devices()[0]),
          comparison.reference(case(draw, **more)))))
  assert run(draws=True) < 1e-6 < run()


def test_states_are_those_of_a_trained_network():
  shapes = {"params": {"kernel": (3, 3, 4, 8), "scale": (100,), "bias": (9,)},
            "opt_state": {"kernel": (3,)}}
  init = lambda rng: {"step": jnp.zeros((), int), "rng": rng, **jax.tree.map(
      jnp.zeros, shapes, is_leaf=lambda x: isinstance(x, tuple))}
  found = comparison.state(init)
  assert 0.7 < found["params"]["kernel"].std() * 6 < 1.3
  assert 0.5 <= found["params"]["scale"].min() < found["params"][
      "scale"].max() <= 1.5
  assert found["params"]["bias"].any()
  assert not found["opt_state"]["kernel"].any()
  assert found["step"] == 0 and found["step"].dtype == np.int32
