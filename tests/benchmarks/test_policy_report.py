"""The oracle against brute force, and the report's figures by hand."""

import itertools

import numpy as np
import pytest

from natjax.benchmarks import policy_report, policy_search
from natjax.graph import nasbench201 as cells201


def everything(code, reach):
  """Codes of all cells that valid transitions reach, one by one."""
  outcomes = [np.flatnonzero(reach[o]) for o in cells201.decode(code)]
  return np.array([cells201.encode(np.array(alpha))
                   for alpha in itertools.product(*outcomes)])


@pytest.mark.parametrize("method", ["nat", "natpp"])
def test_oracle_and_random_mean_equal_brute_force(method, invented):
  config = policy_search.config(method=method)
  reach = policy_report.reachable(policy_search.transition_table(config))
  valid = invented.columns["cifar10"]["val_200ep"]
  best = policy_report.oracle(valid, reach)
  mean = policy_report.random_mean(valid, reach)
  rng = np.random.default_rng(0)
  all_3x3 = cells201.encode(np.full(6, 3))
  for code in [0, *rng.integers(0, cells201.COUNT, 12)] + (
      [all_3x3] if method == "nat" else []):
    alphas = everything(np.int32(code), reach)
    assert valid[best[code]] == valid[alphas].max()
    assert best[code] in alphas
    np.testing.assert_allclose(mean[code], valid[alphas].mean())
  if method == "natpp":  # From here everything is reached.
    assert best[all_3x3] == valid.argmax()


def test_the_real_oracle_gains_what_is_known(table):
  config = policy_search.config()
  reach = policy_report.reachable(policy_search.transition_table(config))
  columns = table.of("cifar10")
  valid, test = columns["val_200ep"], columns["test_200ep"]
  best = policy_report.oracle(valid, reach)
  np.testing.assert_allclose((test[best] - test).mean(), 4.78, atol=0.005)
  random = policy_report.random_mean(test, reach)
  np.testing.assert_allclose((random - test).mean(), -11.65, atol=0.05)
  assert policy_report.violations(
      np.arange(cells201.COUNT), best, columns) == 0


def test_violations_are_found():
  columns = {"params": np.array([1, 2, 3]), "flops_M": np.array([3, 2, 2])}
  beta = np.array([0, 1, 2])
  count = lambda *alpha: policy_report.violations(
      beta, np.array(alpha), columns)
  assert count(0, 1, 2) == 0
  assert count(1, 1, 1) == 1  # More parameters than cell 0.
  assert count(0, 0, 0) == 2  # More multiply-adds than cells 1 and 2.
  assert policy_report.violations(
      beta, np.array([[1, 1, 1], [0, 0, 0]]), columns) == 3


def test_a_report_by_hand(invented):
  config = policy_search.config()
  columns = invented.columns["cifar10"]
  valid, test = columns["val_200ep"], columns["test_200ep"]
  count = cells201.COUNT
  beta = np.array([7, 100, 4000])
  argmax = np.zeros(count, int)  # All null: reached from everywhere.
  samples = np.tile(np.arange(count), (10, 1))
  samples[3, beta] = 0
  trained = ~np.isin(np.arange(count), beta)
  found = policy_search.Found(
      trained[None], argmax[None], samples[None], np.array([42]), None, None)
  (report,) = policy_report.judge(config, invented, found)
  np.testing.assert_allclose(
      report["gain_argmax"], np.mean(test[0] - test[beta]))
  np.testing.assert_allclose(report["gain_sample"], 0, atol=1e-9)
  better = np.where(valid[0] > valid[beta], test[0] - test[beta], 0)
  np.testing.assert_allclose(report["gain_best_of_10"], better.mean())
  np.testing.assert_allclose(
      report["oracle_share"] * report["valid_gain_oracle"],
      np.mean(valid[0] - valid[beta]))
  np.testing.assert_allclose(
      report["params_ratio"], np.mean(73_306 / columns["params"][beta]))
  assert report["entries_read"] == 42 and report["cost_violations"] == 0
  assert report["inputs_trained"] == 15_622 and report["inputs_judged"] == 3
  other = {**report, "gain_argmax": report["gain_argmax"] + 2}
  summary = policy_report.summary(config, [report, other], [5, 6], 30.0)
  np.testing.assert_allclose(
      summary["gain_argmax"], report["gain_argmax"] + 1)
  np.testing.assert_allclose(
      summary["std"]["gain_argmax"], 2**0.5)
  assert summary["std"]["gain_oracle"] == 0
  assert [s["seed"] for s in summary["seeds"]] == [5, 6]
  assert summary["seconds_per_seed"] == 15
