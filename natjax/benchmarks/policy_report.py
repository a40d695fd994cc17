"""Judges a policy against everything that valid transitions reach.

The oracle is exact: of all cells alpha that valid transitions of beta's six
edges reach, the one with the best validation accuracy. Which outcomes an edge
has does not depend on the other edges, so the best is found by maximising over
one edge after the other.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from natjax.benchmarks import policy_search
from natjax.spaces import transitions

# Accuracies are in points; all but `cost_violations` are means over inputs.
KEYS = ("gain_argmax", "gain_sample", "gain_best_of_10", "gain_oracle",
        "gain_random", "gap_to_oracle", "valid_gain_argmax",
        "valid_gain_oracle", "oracle_share", "test_oracle_share",
        "params_ratio")


def reachable(table: transitions.TransitionTable) -> np.ndarray:
  """bool[O, O], whether a valid transition turns one operation into another."""
  before, action = np.nonzero(table.valid[0])
  reach = np.zeros((len(table.outcome),) * 2, bool)
  reach[before, table.outcome[before, action]] = True
  return reach


def oracle(valid: np.ndarray, reach: np.ndarray) -> np.ndarray:
  """The best reachable cell of every cell.

  Args:
    valid: f[C], validation accuracy by code.
    reach: bool[O, O], see `reachable`.

  Returns:
    i[C], by code of beta the code of its best alpha.
  """
  edges = _edges(valid, reach)
  best = np.arange(valid.size).reshape((len(reach),) * edges)
  open_ = np.expand_dims(reach, tuple(range(2, edges + 1)))
  for axis in range(edges):
    rows = np.moveaxis(best, axis, 0)  # By the edge's outcome.
    values = np.where(open_, valid[rows], -np.inf)  # By operation and outcome.
    best = np.moveaxis(
        np.take_along_axis(rows, np.argmax(values, axis=1), 0), 0, axis)
  return best.reshape(-1)


def _edges(values, reach):
  """E, of C = O^E values."""
  return round(np.log(values.size) / np.log(len(reach)))


def random_mean(values: np.ndarray, reach: np.ndarray) -> np.ndarray:
  """The exact mean f[C] of `values` over uniform valid transitions."""
  weights = reach / reach.sum(1, keepdims=True)
  mean = values.reshape((len(reach),) * _edges(values, reach))
  for axis in range(mean.ndim):
    mean = np.moveaxis(np.tensordot(weights, mean, (1, axis)), 0, axis)
  return mean.reshape(-1)


def violations(beta: np.ndarray, alpha: np.ndarray,
               columns: Mapping[str, np.ndarray]) -> int:
  """How many cells cost more, in parameters or multiply-adds, than before.

  Args:
    beta: i[U], codes before.
    alpha: i[..., U], codes after.
    columns: `params` and `flops_M` by code.
  """
  dearer = [columns[name][alpha] > columns[name][beta]
            for name in ("params", "flops_M")]
  return int(np.any(dearer, axis=0).sum())


def judge(config: policy_search.SearchConfig, table: policy_search.Table,
          found: policy_search.Found) -> list[dict[str, Any]]:
  """Compares each seed's policy with the oracle, on all unseen cells.

  Args:
    config: the settings of the search.
    table: the truth.
    found: what the search found.

  Returns:
    Per seed: gains in points of test accuracy by argmax, by one sample, by the
    best of ten samples (by validation accuracy), by the oracle and by uniform
    valid transitions; `gap_to_oracle`, what argmax gains less than the oracle,
    which varies over seeds by the policy alone, where the gains vary by the
    cells that are judged too; argmax's share of the oracle's gain in validation
    (`oracle_share`) and in test accuracy; `params_ratio`, of argmax;
    `cost_violations` among argmax and samples; `entries_read`; and how many
    cells could be inputs and are judged, and how many computations they have.
  """
  ground = policy_search.ground_of(table)
  columns = ground.columns(table, config.dataset)
  valid, test, params = (
      columns[c] for c in ("val_200ep", "test_200ep", "params"))
  reach = reachable(policy_search.transition_table(config, ground))
  best, random = oracle(valid, reach), random_mean(test, reach)
  reports = []
  count = policy_search.train_count(config, ground)
  for seed, trained in enumerate(np.asarray(found.trained)):
    beta = np.flatnonzero(~trained)
    argmax = np.asarray(found.argmax)[seed, beta]
    samples = np.asarray(found.samples)[seed][:, beta]  # [10, U]
    top = samples[np.argmax(valid[samples], axis=0), np.arange(len(beta))]
    gain = lambda alpha, values, beta=beta: float(
        np.mean(values[alpha] - values[beta]))
    report = {
        "gain_argmax": gain(argmax, test),
        "gain_sample": gain(samples[0], test),
        "gain_best_of_10": gain(top, test),
        "gain_oracle": gain(best[beta], test),
        "gain_random": float(np.mean(random[beta] - test[beta])),
        "valid_gain_argmax": gain(argmax, valid),
        "valid_gain_oracle": gain(best[beta], valid),
        "params_ratio": float(np.mean(params[argmax] / params[beta])),
        "cost_violations": violations(beta, argmax, columns) + violations(
            beta, samples, columns),
        "entries_read": int(found.entries_read[seed]),
        "inputs_trained": int(trained.sum()), "inputs_judged": len(beta),
        "computations_trained": count,
        "computations_judged": ground.computations - count}
    report["gap_to_oracle"] = report["gain_oracle"] - report["gain_argmax"]
    for share, gained, possible in (
        ("oracle_share", "valid_gain_argmax", "valid_gain_oracle"),
        ("test_oracle_share", "gain_argmax", "gain_oracle")):
      report[share] = (report[gained] / report[possible]
                       if report[possible] else float("nan"))
    reports.append(report)
  return reports


def summary(config: policy_search.SearchConfig, reports: list[dict[str, Any]],
            seeds: list[int], seconds: float) -> dict[str, Any]:
  """The means over seeds, their deviations, and every seed's report.

  `cost_violations` is the sum over seeds; `seconds` is the whole run's, so
  that a seed took `seconds_per_seed`.
  """
  return {
      **{key: float(np.mean([r[key] for r in reports])) for key in KEYS},
      "cost_violations": sum(r["cost_violations"] for r in reports),
      "entries_read": round(np.mean([r["entries_read"] for r in reports])),
      "seconds": seconds,
      "seconds_per_seed": seconds / len(reports),
      # One seed has no deviation.
      "std": {key: float(np.std([r[key] for r in reports], ddof=1))
              if len(reports) > 1 else None for key in KEYS},
      "seeds": [{"seed": s, **r} for s, r in zip(seeds, reports, strict=True)],
      "config": dataclasses.asdict(config)}
