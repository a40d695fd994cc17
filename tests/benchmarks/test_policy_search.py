"""Training on the table: guards, what it sees, and that it learns."""

import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors
from natjax.benchmarks import nasbench_macro, policy_report, policy_search
from natjax.graph import nasbench201 as cells201
from natjax.graph import nasbench_macro as chains

TINY = {"steps": 8, "inputs": 4, "samples": 3, "features": 8}


def tiny(**settings):
  own = {"features": 128} if settings.get("policy") == "published" else {}
  return policy_search.config(**{**TINY, **own, **settings})


@pytest.mark.parametrize(("settings", "message"), [
    ({"method": "x"}, "nat, natpp"), ({"policy": "x"}, "default, published"),
    ({"dataset": "x"}, "imagenet16-120"), ({"baseline": "x"}, "moving_average"),
    ({"steps": 0}, "steps: "), ({"inputs": 0}, "inputs: "),
    ({"samples": 0}, "samples: "), ({"features": 0}, "features: "),
    ({"learning_rate": 0.0}, "learning_rate: "),
    ({"learning_rate": float("nan")}, "learning_rate: "),
    ({"entropy_weight": -1.0}, "entropy_weight: "),
    ({"entropy_decay": 0.0}, "entropy_decay: "),
    ({"train_fraction": 1.0}, "train_fraction: "),
    ({"train_fraction": 1e-9}, "leaves 0 to train"),
    ({"train_fraction": 1 - 1e-9}, "and 0 to judge"),
    ({"samples": 1, "baseline": "leave_one_out"}, "samples: .*give 2"),
    ({"policy": "published", "features": 8}, "features: "),
    ({"samples": 10**5, "inputs": 11}, "samples: .* makes more than 1000000 a"),
    ({"gcn_layers": 3}, "1, 2, 5, 10")])
def test_settings_that_cannot_be_run_are_refused(settings, message):
  with pytest.raises(errors.InputError) as e:
    tiny(**settings)
  # The field comes first, for whoever knows its flag.
  assert re.search(message, f"{e.value.field}: {e.value}")


def test_the_published_policy_has_its_own_defaults():
  own = policy_search.config(policy="published")
  assert own.learning_rate == 3e-4 != policy_search.config().learning_rate
  assert policy_search.config(
      policy="published", learning_rate=0.1).learning_rate == 0.1


@pytest.mark.parametrize("seeds", [[], [-1], [2**32]])
def test_seeds_that_cannot_be_used_are_refused(seeds, invented):
  with pytest.raises(errors.InputError, match="seed"):
    policy_search.train(tiny(), invented, seeds)


def test_transitions_are_those_of_the_methods():
  names = cells201.CANDIDATES
  reach = {
      method: {names[i]: {names[j] for j in np.flatnonzero(row)}
               for i, row in enumerate(policy_report.reachable(
                   policy_search.transition_table(tiny(method=method))))}
      for method in ("nat", "natpp")}
  null, skip = "null", "skip_connect"
  assert reach["natpp"] == {
      null: {null, skip}, skip: {null, skip},
      "conv_1x1": {null, skip, "conv_1x1"},
      "conv_3x3": set(names),
      "avg_pool_3x3": {null, skip, "avg_pool_3x3"}}
  assert reach["nat"] == {name: {null, skip, name} for name in names}


def test_node_cell_by_hand():
  cell = policy_search.node_cell(jnp.array([3, 1, 2, 4, 1, 3]))
  np.testing.assert_array_equal(
      cell.source, [[0, 0, 0], [0, 1, 0], [0, 1, 2]])
  np.testing.assert_array_equal(
      cell.operation, [[3, 0, 0], [1, 2, 0], [4, 1, 3]])


def test_the_published_policy_is_blind_to_an_edge_of_its_own():
  # No self-loops: the edges into node 3 see those into node 1, and no more.
  search = policy_search.Search(tiny(policy="published"))
  params = jax.jit(search.policy.init)(jax.random.key(0))
  base = np.full(6, 3)
  changed = np.stack([np.where(np.arange(6) == e, 1, base) for e in range(6)])
  logits = jax.jit(search.policy.apply)(
      params, jnp.asarray(np.stack([base, *changed])))
  moved = np.abs(logits[1:] - logits[0]).max(-1) > 1e-7  # [changed, edge]
  expected = np.zeros((6, 6), bool)
  expected[0, 3:] = True
  np.testing.assert_array_equal(moved, expected)


def test_drawn_actions_have_their_probabilities_and_none_is_forbidden():
  log_p = jnp.log(jnp.array([[0.0, 0.5, 0.0, 0.3, 0.2], [1.0, 0, 0, 0, 0],
                             [0, 0, 0, 0, 1.0]]))
  drawn = np.asarray(policy_search.draw(jax.random.key(0), log_p, 20_000))
  shares = [np.bincount(drawn[:, i], minlength=5) / len(drawn)
            for i in range(3)]
  np.testing.assert_allclose(shares, np.exp(log_p), atol=0.015)
  assert shares[0][0] == shares[0][2] == 0


def stays_reachable(config, found):
  """Checks transformations against the transitions, not the policy's mask."""
  reach = policy_report.reachable(policy_search.transition_table(config))
  before = cells201.all_operations()
  for alpha in (found.argmax[0], *found.samples[0]):
    assert reach[before, cells201.decode(alpha)].all()


@pytest.mark.parametrize("count", [1, 49, 493, 2465, 4929])
def test_no_computation_is_on_both_sides(count):
  number = cells201.computations()
  found = [np.asarray(policy_search.divide(jax.random.key(seed), count))
           for seed in (0, 1, 0)]
  for trained in found:
    assert trained.shape == (15_625,)
    assert len(np.unique(number[trained])) == count
    assert len(np.unique(number[~trained])) == 4930 - count
    assert not np.isin(number[trained], number[~trained]).any()
  np.testing.assert_array_equal(found[0], found[2])
  assert (found[0] != found[1]).any()


def test_the_fraction_is_of_computations_and_about_that_of_cells():
  for fraction, count in ((0.5, 2465), (0.1, 493), (0.01, 49)):
    assert policy_search.train_count(
        policy_search.config(train_fraction=fraction)) == count
    sizes = [int(policy_search.divide(jax.random.key(s), count).sum())
             for s in range(100)]
    np.testing.assert_allclose(np.mean(sizes), fraction * 15_625, rtol=0.15)


def split(seed, fraction):
  """The division of a seed of `train`."""
  rng_split = jax.random.split(jax.random.key(seed), 5)[0]
  return np.asarray(policy_search.divide(rng_split, policy_search.train_count(
      policy_search.config(train_fraction=fraction))))


@pytest.mark.long
def test_seeds_divide_as_they_say(invented):
  found = policy_search.train(tiny(train_fraction=0.1), invented, [2, 3])
  for seed, trained in zip((2, 3), found.trained, strict=True):
    np.testing.assert_array_equal(trained, split(seed, 0.1))


def test_by_the_cell_most_others_would_compute_what_an_input_does():
  number = cells201.computations()
  order = np.random.default_rng(0).permutation(cells201.COUNT)
  inputs, others = np.split(number[order], [cells201.COUNT // 2])
  np.testing.assert_allclose(np.isin(others, inputs).mean(), 0.72, atol=0.01)


def exact_form(operation):
  """What a cell computes, with poolings linear and BN taking factors out.

  Returns:
    Per term, a base and how often it is pooled, its factor.
  """
  nodes = [{("input", 0): 1}, {}, {}, {}]
  for o, (source, target) in zip(operation, cells201.EDGES, strict=True):
    name, value = cells201.CANDIDATES[o], nodes[source]
    if name.startswith("conv") and value:
      divisor = math.gcd(*value.values())
      base = name, frozenset((t, k // divisor) for t, k in value.items())
      value = {(base, 0): 1}
    elif name.startswith("avg"):
      value = {(base, times + 1): k for (base, times), k in value.items()}
    for term, factor in value.items() if name != "null" else ():
      nodes[target][term] = nodes[target].get(term, 0) + factor
  return frozenset(nodes[3].items())


@pytest.mark.parametrize(("fraction", "alike"), [
    (0.5, 0.26), (0.1, 0.05), (0.01, 0.003)])
def test_what_the_division_leaves_alike_is_what_is_said(fraction, alike):
  forms = {}
  number = np.array([forms.setdefault(exact_form(o), len(forms))
                     for o in cells201.all_operations().tolist()])
  assert len(forms) == 4450
  shares = []
  for seed in range(5):
    trained = split(seed, fraction)
    shares.append(np.isin(number[~trained], number[trained]).mean())
  np.testing.assert_allclose(np.mean(shares), alike, rtol=0.1)


def test_seeds_do_not_depend_on_each_other_and_never_cost_more(invented):
  # One computation per seed: all that is read lies in its neighbourhood.
  config = tiny(train_fraction=1 / 4930)
  both = policy_search.train(config, invented, [3, 4])
  other = policy_search.train(config, invented, [4, 5])
  np.testing.assert_array_equal(both.trained[1], other.trained[0])
  np.testing.assert_allclose(both.reward[1], other.reward[0], atol=1e-5)
  assert (both.argmax[1] == other.argmax[0]).mean() > 0.999
  stays_reachable(config, both)
  reach = policy_report.reachable(policy_search.transition_table(config))
  inputs = []
  for seed, report in enumerate(policy_report.judge(config, invented, both)):
    assert report["cost_violations"] == 0 and report["params_ratio"] <= 1
    assert report["computations_trained"] == 1
    assert report["computations_judged"] == 4929
    betas = np.flatnonzero(both.trained[seed])
    assert report["inputs_trained"] == len(betas)
    assert report["inputs_judged"] == 15_625 - len(betas)
    near = reach[cells201.decode(betas)[:, None],
                 cells201.all_operations()].all(-1).any(0)
    assert 1 < report["entries_read"] <= near.sum()
    # At most the inputs and every sample of every step.
    assert report["entries_read"] <= len(betas) + 8 * 4 * 3
    inputs.append(betas.tolist())
  assert inputs[0] != inputs[1]


def chain_table(accuracy):
  """A table of NAS-Bench-Macro, where later operations cost more."""
  layers = chains.all_chains()
  return nasbench_macro.Table({
      "mean_acc": accuracy, "std": np.zeros(chains.COUNT),
      "params": 100.0 + layers.sum(1), "flops": 1e6 * (1.0 + layers.sum(1))})


def test_chains_that_compute_the_same_are_known():
  number = chains.computations()
  assert len(np.unique(number)) == chains.COMPUTATIONS == number.max() + 1
  code = lambda text: int(chains.encode(chains.from_text(text)))
  for one, other, same in (
      ("11101122", "11110122", True), ("11111022", "11111202", False),
      ("00000102", "00000120", True), ("01000000", "10000000", False),
      ("11011111", "11101111", False), ("00012000", "00021000", False)):
    assert bool(number[code(one)] == number[code(other)]) == same
  np.testing.assert_array_equal(
      chains.decode(np.arange(chains.COUNT)), chains.all_chains())


@pytest.mark.parametrize("method", ["nat", "natpp"])
def test_the_oracle_of_chains_is_that_of_brute_force(method):
  table = chain_table(np.random.default_rng(0).uniform(0, 100, chains.COUNT))
  accuracy = table.columns["mean_acc"]
  reach = policy_report.reachable(policy_search.transition_table(
      tiny(method=method), policy_search.MACRO))
  assert reach.tolist() == [
      [True, False, False], [True, True, False],
      [True, method == "natpp", True]]
  best = policy_report.oracle(accuracy, reach)
  for code in (0, 17, chains.COUNT - 1):
    alphas = [chains.encode(np.array(alpha)) for alpha in itertools.product(*(
        np.flatnonzero(reach[o]) for o in chains.decode(np.array(code))))]
    assert accuracy[best[code]] == accuracy[alphas].max()
    assert best[code] in alphas
  assert policy_report.violations(np.arange(chains.COUNT), best, {
      "params": table.columns["params"],
      "flops_M": table.columns["flops"]}) == 0


@pytest.mark.long
def test_it_learns_what_is_the_same_for_all_chains():
  # An identity in the last layer is worth ten points, all else nothing.
  table = chain_table(np.where(chains.all_chains()[:, 7] == 0, 60.0, 50.0))
  config = policy_search.config(policy_search.MACRO, **{
      **TINY, "steps": 80, "inputs": 16, "learning_rate": 0.01,
      "entropy_weight": 0.1})
  found = policy_search.train(config, table, [0])
  (report,) = policy_report.judge(config, table, found)
  assert report["oracle_share"] > 0.98 and report["cost_violations"] == 0
  np.testing.assert_allclose(report["gain_oracle"], 20 / 3, atol=0.2)
  assert report["computations_judged"] == 3969 - round(3969 / 2)
  number = chains.computations()
  trained = found.trained[0]
  assert not np.isin(number[trained], number[~trained]).any()
  with pytest.raises(errors.InputError, match="cells of nasbench201 alone"):
    policy_search.train(tiny(policy="published"), table, [0])
  with pytest.raises(errors.InputError, match="dataset"):
    policy_search.train(tiny(dataset="cifar100"), table, [0])


@pytest.mark.long
@pytest.mark.parametrize("policy", ["default", "published"])
def test_it_learns_what_is_the_same_for_all(policy, invented):
  # A skip on the last edge is worth ten points, all else nothing.
  skip = cells201.all_operations()[:, 5] == 1
  values = np.where(skip, 60.0, 50.0)
  columns = {**invented.columns["cifar10"], "val_200ep": values,
             "test_200ep": values}
  table = invented._replace(columns={"cifar10": columns})
  config = tiny(policy=policy, steps=80, inputs=16, learning_rate=0.01,
                entropy_weight=0.1)
  (report,) = policy_report.judge(
      config, table, policy_search.train(config, table, [0]))
  assert report["oracle_share"] > 0.98 and report["gain_sample"] > 6
  np.testing.assert_allclose(report["gain_oracle"], 8.0, atol=0.15)


def test_the_entropy_term_makes_the_policy_more_random():
  search = policy_search.Search(tiny(learning_rate=0.05, steps=1000))
  rng = jax.random.key(0)
  params = jax.tree.map(lambda a: a + 0.5 * jax.random.normal(rng, a.shape),
                        search.policy.init(rng))
  carry = policy_search._Carry(
      params, search.optimizer.init(params), jnp.zeros(()), jnp.zeros(()),
      jnp.zeros(cells201.COUNT, bool), rng)
  update = jax.jit(search.update)
  entropy = []
  for _ in range(40):  # All rewards are equal.
    carry, (reward, value) = update(
        carry, jnp.array([3, 70, 15_000, 9_999]), 1.0,
        jnp.full(cells201.COUNT, 0.9))
    assert reward == 0
    entropy.append(float(value))
  assert entropy[0] < 0.5 * entropy[-1]
  valid = search.table.valid[0].sum(1)
  uniform = np.log(valid)[cells201.decode(
      np.array([3, 70, 15_000, 9_999]))].sum(1).mean()
  assert entropy[-1] < uniform * (1 + 1e-5)


@pytest.mark.parametrize("settings", [
    {"baseline": "leave_one_out"}, {"baseline": "none"},
    {"baseline": "moving_average"}, {"scale_advantages": False},
    {"samples": 1}])
def test_advantages_by_hand(settings):
  search = policy_search.Search(tiny(**settings))
  rewards = np.array([[0.1, 0.3, 0.2], [0.0, 0.0, -0.6]], np.float32)
  rewards = rewards[:, :search.config.samples]
  carry = policy_search._Carry(
      None, None, average=np.float32(0.05), square=np.float32(0.04), read=None,
      rng=None)
  found, square = search.advantages(jnp.asarray(rewards), carry)
  if settings in ({"baseline": "leave_one_out"}, {"scale_advantages": False}):
    expected = np.array([[-0.15, 0.15, 0], [0.3, 0.3, -0.6]])
  else:
    expected = rewards - (0 if settings == {"baseline": "none"} else 0.05)
  next_square = 0.99 * 0.04 + 0.01 * np.mean(expected**2)
  np.testing.assert_allclose(square, next_square, rtol=1e-5)
  if settings == {"samples": 1}:
    expected = expected / (np.sqrt(next_square) + 3e-4)
  elif settings != {"scale_advantages": False}:
    expected = expected / (rewards.std(1, keepdims=True) + 3e-4)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
