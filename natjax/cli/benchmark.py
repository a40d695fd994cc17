"""`natjax benchmark`: where the truth is known.

Architectures are looked up in a benchmark's table, or a policy is trained by
NAS-Bench-201's and judged by it.
"""

from collections.abc import Sequence
import os.path
import pathlib
import time
from typing import Any

from natjax import errors, zoo
from natjax.benchmarks import (
    nasbench101,
    nasbench201,
    nasbench_macro,
    policy_report,
    policy_search,
)
from natjax.cli import inputs, output
from natjax.graph import nasbench101 as cells101
from natjax.graph import nasbench201 as cells201
from natjax.graph import records
from natjax.training import devices, settings

BENCHMARKS = ("nasbench101", "nasbench201", "nasbench-macro")


def run_benchmark(args) -> int:
  """`natjax benchmark`."""
  policy = inputs.given(args, settings.types(policy_search.SearchConfig))
  if not args.architectures and args.benchmark == "nasbench201":
    return _run_policy(args, policy)
  if not args.architectures:
    raise errors.InputError(
        f"no architecture is given; name those to look up in {args.benchmark},"
        " or train a policy by nasbench201")
  dataset = policy.pop("dataset", None)
  more = {**policy, **inputs.given(args, ("seed", "seeds"))}
  if dataset is not None and args.benchmark != "nasbench201":
    more["dataset"] = dataset
  for name, value in more.items():
    raise errors.InputError(
        f"{settings.word(name)} is {value} and does not apply to looking up"
        f" architectures in {args.benchmark}; leave --{settings.word(name)} out"
    )
  rows = {"nasbench101": _look_up_101, "nasbench-macro": _look_up_macro,
          "nasbench201": lambda table, names: _look_up_201(
              table, names, dataset or "cifar10")}[args.benchmark](
                  args.table, args.architectures)
  if args.json:
    output.print_json(rows)
    return 0
  columns = [*dict.fromkeys(key for row in rows for key in row)]
  output.print_table(
      f"{args.benchmark}, accuracies in per cent", [
          column if column == "architecture" else f">{column}"
          for column in columns],
      [[_shown(row.get(column, "")) for column in columns] for row in rows])
  return 0


def _shown(value):
  return f"{value:.3f}" if isinstance(value, float) else str(value)


def _look_up_101(path: str, names: Sequence[str]) -> list[dict[str, Any]]:
  """Rows of cells: texts, JSON, files with either, or #ROW of the table."""
  table, rows = nasbench101.read(path), []
  for number, name in enumerate(names, 1):
    where = f"architecture {number}"
    if name.startswith("#") and name[1:].isdecimal() and len(name) < 9:
      row = int(name[1:])
      if row >= len(table.bits):
        raise errors.InputError(
            f"{where}: the table has the cells #0 to #{len(table.bits) - 1},"
            f" and {name} is none; name one of them")
    else:
      row = table.find(_cell(name, where), where=where)
    found: dict[str, Any] = {
        "architecture": cells101.to_text(table.cell(row)), "row": row}
    for column, values in table.columns.items():
      if column == "params":
        found["parameters"] = int(values[row])
      elif column.startswith("seconds"):
        found[column] = float(values[row])
      else:
        found[column] = 100 * float(values[row])
    rows.append(found)
  return rows


def _cell(name, where):
  """A cell of NAS-Bench-101 from what an argument says."""
  if os.path.isfile(name):
    path = errors.regular(pathlib.Path(name))
    with open(path, "rb") as file:
      name = file.read(2**16).decode("utf-8", "replace").strip()
  if name.startswith("{"):
    return cells101.from_json(name, where=where)
  return cells101.from_text(name, where=where)


def _look_up_201(path: str, names: Sequence[str], dataset: str
                 ) -> list[dict[str, Any]]:
  """Rows of cells: strings, files, and folders of runs."""
  columns, rows = nasbench201.read(path).of(dataset), []
  for number, name in enumerate(names, 1):
    with errors.naming(f"architecture {number}"):
      network = inputs.read_architecture(name)
      if not isinstance(network, records.BlockNetwork):
        raise errors.InputError(
            f"'{cells201.short(name)}' is a genotype and no cell of"
            " NAS-Bench-201; give a string such as |nor_conv_3x3~0|+...")
      cell = zoo.nasbench201.names_of(network)
    code = int(cells201.encode(cells201.to_array(cell)))
    rows.append({
        "architecture": cells201.to_string(cell), **{
            column: float(columns[column][code])
            for column in cells201.COLUMNS[:4]},
        "parameters": int(columns["params"][code]),
        "multiply-adds": round(1e6 * float(columns["flops_M"][code]))})
  return rows


def _look_up_macro(path: str, names: Sequence[str]) -> list[dict[str, Any]]:
  """Rows of chains by their digits."""
  columns, rows = nasbench_macro.read(path).columns, []
  for number, name in enumerate(names, 1):
    layers = nasbench_macro.from_text(name, where=f"architecture {number}")
    code = int(nasbench_macro.encode(layers))
    rows.append({
        "architecture": name.strip(), "test": float(columns["mean_acc"][code]),
        "deviation": float(columns["std"][code]),
        "parameters": int(columns["params"][code]),
        "multiply-adds": int(columns["flops"][code])})
  return rows


def _run_policy(args, policy) -> int:
  """Trains the policy and judges it."""
  start = time.monotonic()
  devices.configure_compilation()

  config = policy_search.config(**policy)
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
