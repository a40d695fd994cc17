"""`natjax benchmark`: a policy judged where the truth is known."""

import argparse
import dataclasses
import time

from natjax.cli import inputs
from natjax.cli import output

_HELP = {
    "method": "nat or natpp, which transitions there are (natpp)",
    "policy": "default or published (default)",
    "dataset": "cifar10, cifar100 or imagenet16-120 (cifar10)",
    "train_fraction": "of all cells, how many may be inputs while training"
                      " (0.5); the report is on all others",
    "steps": "updates of the policy (4000; published policy 2000)",
    "inputs": "input architectures per step (64; published policy 32)",
    "samples": "transformations sampled per input (8)",
    "learning_rate": "of Adam, at first (0.003; published policy 0.0003)",
    "entropy_weight": "lambda, at first (1)",
    "entropy_decay": "what is left of lambda at the last step (0.02)",
    "scale_advantages": "divide an input's advantages by the deviation of its"
                        " rewards (yes)",
    "baseline": "leave_one_out, moving_average, none or auto (auto)",
    "gcn_layers": "graph convolutions: 1, 2, 5 or 10 (2)",
    "features": "of every layer of the default policy (128)",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the arguments of `natjax benchmark`."""
  from natjax.benchmarks import policy_search

  parser.add_argument("benchmark", choices=("nasbench201",))
  parser.add_argument("--table", required=True, metavar="FILE",
                      help="NAS-Bench-201's accuracies, .csv or .csv.gz with"
                      " the columns that natjax.benchmarks.nasbench201 says,"
                      " or the folder NATS-tss-v1_0-3ffb9-simple")
  parser.add_argument("--seed", type=int, default=None, metavar="N",
                      help="(0)")
  parser.add_argument("--seeds", metavar="A:B",
                      help="policies trained at once, of the seeds A to B - 1;"
                      " K is K of them from N on (1)")
  parser.add_argument("--json", action="store_true",
                      help="accuracies in points, means over unseen inputs and"
                      " seeds")
  for field in dataclasses.fields(policy_search.SearchConfig):
    flag = f"--{field.name.replace('_', '-')}"
    if field.type is bool:
      parser.add_argument(flag, action=argparse.BooleanOptionalAction,
                          default=None, help=_HELP[field.name])
    else:
      parser.add_argument(flag, type=field.type, default=None,
                          metavar=field.type.__name__.upper(),
                          help=_HELP[field.name])


def run_benchmark(args) -> int:
  """`natjax benchmark nasbench201`."""
  start = time.monotonic()
  from natjax.training import devices

  devices.configure_compilation()
  from natjax.benchmarks import nasbench201
  from natjax.benchmarks import policy_report
  from natjax.benchmarks import policy_search
  from natjax.graph import nasbench201 as cells201

  given = {f.name: getattr(args, f.name)
           for f in dataclasses.fields(policy_search.SearchConfig)}
  config = policy_search.config(
      **{name: value for name, value in given.items() if value is not None})
  first, count = inputs.seeds(args)
  seeds = list(range(first, first + (count or 1)))
  policy_search.check_seeds(seeds)
  table = nasbench201.read(args.table)
  table.of(config.dataset)
  if not args.json:
    output.err.print(
        f"{config.method}, {config.policy} policy, {config.dataset}:"
        f" {config.steps} steps, {len(seeds)} seed(s) at once,"
        f" {policy_search.train_count(config)} of {cells201.COUNT} cells as"
        " inputs")
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
  table = output.table(
      "points of test accuracy gained, mean over"
      f" {report['seeds'][0]['inputs_judged']} unseen cells", [""], "gain",
      "deviation over seeds")
  several = len(report["seeds"]) > 1
  for name, key in rows:
    table.add_row(name, f"{report[key]:+.3f}",
                  f"{report['std'][key]:.3f}" if several else "")
  output.out.print(table)
  output.out.print(
      f"argmax reaches {100 * report['oracle_share']:.1f} % of the oracle's"
      f" gain in validation accuracy, {100 * report['test_oracle_share']:.1f} %"
      f" in test accuracy, at {report['params_ratio']:.3f} times the"
      f" parameters; {report['cost_violations']} cells came to cost more;"
      f" {report['entries_read']} entries of the table were read;"
      f" {report['seconds']:.0f} s")
