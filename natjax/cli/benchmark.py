"""`natjax benchmark`: a policy judged where the truth is known."""

import time

from natjax.benchmarks import nasbench201, policy_report, policy_search
from natjax.cli import inputs, output
from natjax.graph import nasbench201 as cells201
from natjax.training import devices, settings


def run_benchmark(args) -> int:
  """`natjax benchmark nasbench201`."""
  start = time.monotonic()
  devices.configure_compilation()

  config = policy_search.config(**inputs.given(
      args, settings.types(policy_search.SearchConfig)))
  first, count = inputs.seeds(args)
  seeds = list(range(first, first + (count or 1)))
  policy_search.check_seeds(seeds)
  table = nasbench201.read(args.table)
  table.of(config.dataset)
  if not args.json:
    output.err.print(f"{config.method}, {config.policy} policy,"
                     f" {config.dataset}: {config.steps} steps, {len(seeds)}"
                     f" seed(s) at once, cells of"
                     f" {policy_search.train_count(config)} of"
                     f" {cells201.COMPUTATIONS} computations as inputs")
  found = policy_search.train(config, table, seeds)
  report = policy_report.summary(
      config, policy_report.judge(config, table, found), seeds,
      time.monotonic() - start)
  if args.json:
    output.print_json(report)
  else:
    _print_report(report)
  return 0


def _print_report(report):
  rows = (("argmax", "gain_argmax"), ("one sample", "gain_sample"),
          ("best of 10 samples", "gain_best_of_10"),
          ("the oracle", "gain_oracle"), ("random transitions", "gain_random"))
  several = len(report["seeds"]) > 1
  output.print_table(
      "points of test accuracy gained, mean over all cells of"
      f" {report['seeds'][0]['computations_judged']} unseen computations",
      ("", ">gain", ">deviation over seeds"),
      [(name, f"{report[key]:+.3f}",
        f"{report['std'][key]:.3f}" if several else "") for name, key in rows])
  output.out.print(
      f"argmax reaches {100 * report['oracle_share']:.1f} % of the oracle's"
      f" gain in validation accuracy, {100 * report['test_oracle_share']:.1f} %"
      f" in test accuracy, at {report['params_ratio']:.3f} times the"
      f" parameters; {report['cost_violations']} cells came to cost more;"
      f" {report['entries_read']} entries of the table were read;"
      f" {report['seconds']:.0f} s")
