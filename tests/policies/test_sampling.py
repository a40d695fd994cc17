"""The masked distribution over transformations, against brute force."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import spaces
from natjax.graph import arrays as arrays_lib
from natjax.operations import edges
from natjax.policies import sampling
from natjax.spaces import transitions

CANDIDATES = spaces.SPACES["nat"].candidates
NULL = CANDIDATES.index("null")
SCHEME = transitions.nat_scheme(CANDIDATES)
# Row 0 is of stride 1, row 1 of stride 2, where a skip holds weights.
TABLE = transitions.TransitionTable(
    SCHEME.actions, SCHEME.outcome, np.stack([
        transitions.valid_actions(SCHEME, transitions.may_become(
            CANDIDATES, [edges.Ends(36, 36, stride, 32)]))
        for stride in (1, 2)]), NULL)
NODES = 3
ALL = jnp.asarray(np.array(list(itertools.product(
    range(3), repeat=2 * NODES)), np.int32).reshape(-1, NODES, 2))


def stride_rows(cell, reduction):
  return ((cell.source < 2) & reduction).astype(jnp.int32)


log_probs = jax.jit(jax.vmap(
    lambda logits, cell, reduction, actions: sampling.log_prob(
        logits, cell, stride_rows(cell, reduction), actions, TABLE),
    (None, None, None, 0)))
entropy = jax.jit(lambda logits, cell, reduction: sampling.entropy(
    logits, cell, stride_rows(cell, reduction), TABLE))
samples = jax.jit(jax.vmap(
    lambda rng, logits, cell, reduction: sampling.sample(
        rng, logits, cell, stride_rows(cell, reduction), TABLE),
    (0, None, None, None)))


def make_cell(source, operation, concat=None):
  concat = np.ones(len(source), bool) if concat is None else np.array(concat)
  return arrays_lib.CellArrays(
      source=jnp.array(source, jnp.int32),
      operation=jnp.array(operation, jnp.int32), concat=jnp.array(concat))


def random_cell(rng):
  source = [[int(rng.integers(i + 2)) for _ in range(2)] for i in range(NODES)]
  operation = rng.integers(0, len(CANDIDATES), (NODES, 2))
  # Nulls are what the guards are about.
  operation = np.where(rng.random((NODES, 2)) < 0.3, NULL, operation)
  concat = rng.random(NODES) < 0.7
  concat[-1] = True
  return make_cell(source, operation, concat)


def live(source, operation):
  """Plain graph search: nodes that an input reaches over non-null edges."""
  alive = {0, 1}
  for i, (sources, ops) in enumerate(zip(source, operation, strict=True)):
    if any(op != NULL and s in alive for s, op in zip(sources, ops,
                                                      strict=True)):
      alive.add(i + 2)
  return alive


def breaks_a_guard(cell, reduction, actions):
  source, before = np.asarray(cell.source), np.asarray(cell.operation)
  after = TABLE.outcome[before, np.asarray(actions)]
  wanted = {int(n) + 2 for n in np.flatnonzero(cell.concat)}
  if (live(source, before) & wanted) - live(source, after):
    return True
  stride = 1 + (reduction & (source < 2)).astype(int)
  return not TABLE.valid[stride - 1, before, np.asarray(actions)].all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), reduction=st.booleans())
def test_enumeration_sums_to_one_breaks_no_guard_and_gives_the_entropy(
    seed, reduction):
  rng = np.random.default_rng(seed)
  cell = random_cell(rng)
  logits = jnp.asarray(rng.normal(size=(NODES, 2, 3)) * 2, jnp.float32)
  log_p = np.asarray(log_probs(logits, cell, reduction, ALL))
  p = np.exp(log_p)
  np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-5)
  for actions, possible in zip(ALL, np.isfinite(log_p), strict=True):
    if possible:
      assert not breaks_a_guard(cell, reduction, actions)
  finite = np.isfinite(log_p)
  np.testing.assert_allclose(
      -np.sum(p[finite] * log_p[finite]), entropy(logits, cell, reduction),
      rtol=1e-4, atol=1e-5)


def test_samples_have_their_probabilities():
  cell = make_cell([[0, 1], [1, 2], [0, 3]], [[3, NULL], [2, 4], [0, 8]])
  logits = jnp.asarray(np.random.default_rng(0).normal(size=(NODES, 2, 3)))
  drawn = np.asarray(samples(
      jax.random.split(jax.random.key(0), 20_000), logits, cell, False))
  code = lambda a: (a.reshape(len(a), -1) * 3**np.arange(2 * NODES)).sum(-1)
  share = np.bincount(code(drawn), minlength=3**6) / len(drawn)
  p = np.zeros(3**6)
  p[code(np.asarray(ALL))] = np.exp(log_probs(logits, cell, False, ALL))
  np.testing.assert_allclose(share, p, atol=0.015)


def test_the_last_signal_into_a_concatenated_node_is_never_cut():
  # Node 2 hangs on one edge, node 3 on node 2 alone: nulling is never open.
  cell = make_cell([[0, 1], [2, 2], [0, 1]],
                   [[3, NULL], [3, NULL], [3, 3]], [False, True, True])
  prefer_null = jnp.zeros((NODES, 2, 3)).at[..., 0].set(50.0)
  drawn = np.asarray(samples(
      jax.random.split(jax.random.key(1), 64), prefer_null, cell, False))
  after = TABLE.outcome[np.asarray(cell.operation), drawn]
  assert (after[:, 0, 0] != NULL).all() and (after[:, 1, 0] != NULL).all()
  # Node 4 has two edges and may lose one of them, and the policy wants to.
  assert ((after[:, 2] == NULL).sum(-1) == 1).all()


def test_a_node_that_was_dead_before_may_stay_dead():
  cell = make_cell([[0, 1], [2, 2], [0, 1]],
                   [[NULL, NULL], [3, 3], [3, 3]])
  keep = jnp.ones((1, NODES, 2), jnp.int32)
  logits = jnp.zeros((NODES, 2, 3))
  assert np.isfinite(log_probs(logits, cell, False, keep)).all()


def test_mode_takes_the_likeliest_open_action():
  cell = make_cell([[0, 1], [1, 2], [0, 3]], [[3, 3], [3, 3], [3, 3]])
  logits = jnp.zeros((NODES, 2, 3)).at[..., 2].set(1.0)
  np.testing.assert_array_equal(
      sampling.mode(logits, cell, stride_rows(cell, False), TABLE),
      np.full((NODES, 2), 2))


def test_masked_log_softmax_is_exact_and_finite_in_its_gradient():
  logits = jnp.array([1.0, 2.0, 1e9])
  mask = jnp.array([True, True, False])
  log_p = sampling.masked_log_softmax(logits, mask)
  np.testing.assert_allclose(
      log_p[:2], jax.nn.log_softmax(logits[:2]), rtol=1e-6)
  assert log_p[2] == -jnp.inf
  gradient = jax.grad(lambda x: jnp.sum(jnp.where(
      mask, sampling.masked_log_softmax(x, mask), 0.0)))(logits)
  assert np.isfinite(gradient).all() and gradient[2] == 0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_one_open_action_has_probability_one(dtype):
  mask = jnp.array([False, True, False])
  log_p = sampling.masked_log_softmax(jnp.array([9.0, -9.0, 3.0], dtype), mask)
  assert jnp.exp(log_p).tolist() == [0.0, 1.0, 0.0]


def test_gradient_of_the_entropy_agrees_with_finite_differences():
  rng = np.random.default_rng(3)
  cell = make_cell([[0, 1], [1, 2], [2, 3]], [[3, NULL], [2, 4], [0, 8]])
  logits = jnp.asarray(rng.normal(size=(NODES, 2, 3)), jnp.float32)
  direction = jnp.asarray(rng.normal(size=logits.shape), jnp.float32)
  slope = jnp.vdot(jax.grad(entropy)(logits, cell, True), direction)
  step = 1e-2
  difference = (entropy(logits + step * direction, cell, True)
                - entropy(logits - step * direction, cell, True)) / (2 * step)
  np.testing.assert_allclose(slope, difference, rtol=2e-2, atol=1e-3)


def test_published_log_probability_is_smoothed_and_unmasked():
  table = TABLE._replace(
      valid=np.stack([SCHEME.allowed] * 2), connectivity=False, smoothing=1e-5)
  cell = make_cell([[0, 1], [1, 2], [0, 3]], [[8, 8], [8, 8], [8, 8]])
  logits = jnp.zeros((NODES, 2, 3)).at[..., 0].set(30.0)
  null = jnp.zeros((NODES, 2), jnp.int32)
  other = jnp.ones((NODES, 2), jnp.int32)
  np.testing.assert_allclose(
      sampling.log_prob(
          logits, cell, stride_rows(cell, True), null, table),
      6 * np.log(1 + 1e-5), atol=1e-5)
  np.testing.assert_allclose(
      sampling.log_prob(
          logits, cell, stride_rows(cell, True), other, table),
      6 * np.log(1e-5), rtol=1e-4)


@pytest.mark.parametrize("slots", [1, 3])
def test_nodes_may_have_any_number_of_slots(slots):
  rng = np.random.default_rng(slots)
  source = [[int(rng.integers(i + 2)) for _ in range(slots)] for i in range(2)]
  operation = rng.integers(0, len(CANDIDATES), (2, slots))
  operation[0, 0], operation[1, -1] = 3, NULL
  cell = make_cell(source, operation, [False, True])
  logits = jnp.asarray(rng.normal(size=(2, slots, 3)), jnp.float32)
  every = jnp.asarray(np.array(list(itertools.product(
      range(3), repeat=2 * slots)), np.int32).reshape(-1, 2, slots))
  log_p = np.asarray(log_probs(logits, cell, True, every))
  finite = np.isfinite(log_p)
  np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-5)
  np.testing.assert_allclose(
      -np.sum(np.exp(log_p[finite]) * log_p[finite]),
      entropy(logits, cell, True), rtol=1e-4, atol=1e-5)
  for actions, possible in zip(every, finite, strict=True):
    if possible:
      assert not breaks_a_guard(cell, True, actions)
  drawn = samples(jax.random.split(jax.random.key(0), 32), logits, cell, True)
  assert drawn.shape == (32, 2, slots)
  code = lambda a: (np.asarray(a).reshape(len(a), -1)
                    * 3**np.arange(2 * slots)).sum(-1)
  assert set(code(drawn)) <= set(code(every)[finite])


@pytest.mark.long
def test_nodes_and_slots_that_are_not_there_are_left_alone():
  """Padding is neutral: it keeps null, with probability one."""
  rng = np.random.default_rng(0)
  cell = random_cell(rng)
  logits = jnp.asarray(rng.normal(size=(NODES, 2, 3)) * 2, jnp.float32)
  pad = lambda a, value: jnp.pad(
      a, [(0, 1), (0, 1), (0, 0)][:a.ndim], constant_values=value)
  wide = arrays_lib.CellArrays(
      source=pad(cell.source, 0), operation=pad(cell.operation, NULL),
      concat=jnp.pad(cell.concat, (0, 1)))
  # What may stand on edges that are not there: what does.
  table = TABLE._replace(valid=np.concatenate(
      [TABLE.valid, transitions.keeping(SCHEME)[None]]))
  rows = pad(stride_rows(cell, True), 2)
  more = pad(logits, 5.0)
  np.testing.assert_allclose(
      sampling.entropy(more, wide, rows, table), entropy(logits, cell, True),
      rtol=1e-5)
  drawn = jax.vmap(lambda key: sampling.sample(key, more, wide, rows, table))(
      jax.random.split(jax.random.key(0), 16))
  alpha = sampling.apply_actions(
      jax.tree.map(lambda a: jnp.stack([a] * 16), wide), drawn, table)
  assert (alpha.operation[:, -1] == NULL).all()
  assert (alpha.operation[:, :, -1] == NULL).all()
  log_prob = jax.jit(lambda actions: sampling.log_prob(
      more, wide, rows, actions, table))
  for actions in drawn:
    np.testing.assert_allclose(
        log_prob(actions),
        log_probs(logits, cell, True, actions[None, :-1, :-1])[0], rtol=1e-5)


def test_cells_of_many_edges_are_looped_over_alike(monkeypatch):
  """Three nodes of 11 inputs are more than are unrolled; bit for bit."""
  rng = np.random.default_rng(0)
  source = [[int(rng.integers(i + 2)) for _ in range(11)] for i in range(NODES)]
  cell = make_cell(source, rng.integers(0, len(CANDIDATES), (NODES, 11)),
                   [False, True, True])
  logits = jnp.asarray(rng.normal(size=(NODES, 11, 3)), jnp.float32)

  def run():
    rows = stride_rows(cell, True)
    return jax.jit(lambda key: (
        sampling.sample(key, logits, cell, rows, TABLE),
        sampling.entropy(logits, cell, rows, TABLE)))(jax.random.key(0))

  assert cell.source.size > sampling._UNROLLED
  looped = run()
  monkeypatch.setattr(sampling, "_UNROLLED", cell.source.size)
  for a, b in zip(looped, run(), strict=True):
    np.testing.assert_array_equal(a, b)
  assert not breaks_a_guard(cell, True, looped[0])
