"""`natjax benchmark`: where the truth is known.

Architectures are looked up in a benchmark's table, evolution or a random search
finds them there, or a policy is trained by that of NAS-Bench-201 or
NAS-Bench-Macro and judged by it.
"""

from collections.abc import Sequence
import dataclasses
import functools
import os.path
import pathlib
import statistics
import time
from typing import Any

from natjax import errors, zoo
from natjax.benchmarks import (
    nasbench101,
    nasbench201,
    nasbench_macro,
    policy_report,
    policy_search,
    table_search,
)
from natjax.cli import console, inputs
from natjax.graph import nasbench101 as cells101
from natjax.graph import nasbench201 as cells201
from natjax.graph import nasbench_macro as chains
from natjax.graph import records
from natjax.methods import evolution
from natjax.spaces import transitions
from natjax.training import devices, settings

_GROUNDS = {ground.name: ground
            for ground in (policy_search.CELLS, policy_search.MACRO)}


def run_benchmark(args) -> int:
  """`natjax benchmark`."""
  policy = inputs.given(args, settings.types(policy_search.SearchConfig))
  evolved = inputs.given(args, settings.types(evolution.EvolutionConfig))
  method = policy.get("method")
  if method is not None:
    errors.known(
        "method", method, (*transitions.SCHEMES, *table_search.METHODS))
  if args.focus not in (None, "general"):
    raise errors.InputError(
        f"focus is {errors.short(args.focus)} and must be general, since one"
        " policy serves all cells and is given none of them; leave it out",
        "focus")
  if args.benchmark != "nasbench201" and policy.get("dataset") is not None:
    _refuse({"dataset": policy["dataset"]}, args.benchmark,
            "it has CIFAR-10 alone")
  ground = _GROUNDS.get(args.benchmark)
  if not args.architectures and ground and method not in table_search.METHODS:
    _refuse(evolved, "training the policy", "pass --method evolution")
    return _run_policy(args, policy, ground)
  if not args.architectures and method in transitions.SCHEMES:
    raise errors.InputError(
        f"method is {method} and trains a policy of transitions, of which"
        f" {args.benchmark} has none: nodes and edges of its cells are searched"
        " together; give evolution or random", "method")
  policy |= {} if args.focus is None else {"focus": args.focus}
  dataset = policy.pop("dataset", None)
  if not args.architectures:
    policy.pop("method", None)
    _refuse(policy, "searching the table")
    return _run_search(args, method or "evolution", evolved,
                       dataset or "cifar10")
  _refuse({**policy, **evolved, **inputs.given(args, ("seed", "seeds"))},
          f"looking up architectures in {args.benchmark}")
  rows = {"nasbench101": _look_up_101, "nasbench-macro": _look_up_macro,
          "nasbench201": lambda table, names: _look_up_201(
              table, names, dataset or "cifar10")}.get(
                  args.benchmark, functools.partial(
                      _look_up_1shot1, args.benchmark))(
                          args.table, args.architectures)
  if args.json:
    console.print_json(rows)
    return 0
  columns = [*dict.fromkeys(key for row in rows for key in row)]
  console.print_table(
      f"{args.benchmark}, accuracies in per cent", [
          column if column == "architecture" else f">{column}"
          for column in columns],
      [[_shown(row.get(column, "")) for column in columns] for row in rows])
  return 0


def _refuse(given, what, advice=""):
  """Refuses settings of something else."""
  for name, value in given.items():
    word = settings.word(name)
    raise errors.InputError(
        f"{word} is {value} and does not apply to {what}; leave --{word} out"
        + f", {advice}" * bool(advice))


def _run_search(args, method, evolved, dataset) -> int:
  """Searches a table by evolution or at random."""
  devices.configure_compilation()
  errors.known("method", method, table_search.METHODS)
  config = evolution.EvolutionConfig(**evolved)
  settings.plain(config)
  if method == "random":
    children = {name: evolved[name] for name in evolution.BREEDING
                if name in evolved}
    _refuse(children, args.benchmark, "random search draws every candidate")
    config = evolution.drawn(config)
  evolution.check(config)
  first, count = inputs.seeds(args)
  seeds = list(range(first, first + (count or 1)))
  policy_search.check_seeds(seeds)
  rows = table_search.search(
      table_search.problem(args.benchmark, args.table, dataset), config, seeds,
      method)
  if args.json:
    console.print_json({
        "benchmark": args.benchmark, "method": method, "dataset": dataset,
        "config": dataclasses.asdict(config), "seeds": rows})
    return 0
  console.print_table(
      f"{method} in the table of {args.benchmark}, accuracies in per cent", [
          name if name == "architecture" else f">{name}" for name in rows[0]],
      [[_shown(value) for value in row.values()] for row in rows])
  regret = statistics.mean(row["regret"] for row in rows)
  console.out.print(
      f"mean regret {regret:.3f} points, {len(rows)} seed(s) of"
      f" {rows[0]['evaluated']} candidates")
  return 0


def _shown(value):
  return f"{value:.3f}" if isinstance(value, float) else str(value)


def _look_up_1shot1(space: str, path: str, names: Sequence[str]
                    ) -> list[dict[str, Any]]:
  """As `_look_up_101`, with the regret in a space: to its best cell."""
  table = nasbench101.read(path)
  rows = _look_up_101(table, names)
  every = table_search.of_1shot1(table, space)
  best = 100 * float(table.columns["test_acc_108ep_mean"][every].max())
  for number, row in enumerate(rows, 1):
    if row["row"] not in every:
      raise errors.InputError(
          f"architecture {number} is no cell of {space}; look it up in"
          " nasbench101")
    row["test regret"] = best - row["test_acc_108ep_mean"]
  return rows


def _look_up_101(path: str | nasbench101.Table, names: Sequence[str]
                 ) -> list[dict[str, Any]]:
  """Rows of cells: texts, JSON, files with either, runs, or #ROW of the table.
  """
  table = path if isinstance(path, nasbench101.Table) else (
      nasbench101.read(path))
  rows = []
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
  given = name
  if os.path.isfile(name):
    path = errors.regular(pathlib.Path(name))
    with open(path, "rb") as file:
      name = file.read(2**16).decode("utf-8", "replace").strip()
  if os.path.isdir(given) or (name.startswith("{") and '"blocks"' in name):
    with errors.naming(where):
      network = inputs.read_architecture(given)
      if not isinstance(network, records.BlockNetwork):
        raise errors.InputError(
            "it is a genotype and no cell of NAS-Bench-101; give what a search"
            " in the spaces of NAS-Bench-1Shot1 finds")
      return zoo.nasbench1shot1.cell_of(network)
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
  """Rows of chains: digits, files, and folders of runs."""
  columns, rows = nasbench_macro.read(path).columns, []
  for number, name in enumerate(names, 1):
    with errors.naming(f"architecture {number}" * os.path.exists(name)):
      layers = zoo.nasbench_macro.layers_of(inputs.read_architecture(name)
                                            ) if os.path.exists(name) else (
          chains.from_text(name, where=f"architecture {number}"))
    code = int(chains.encode(layers))
    rows.append({
        "architecture": chains.to_text(layers),
        "test": float(columns["mean_acc"][code]),
        "deviation": float(columns["std"][code]),
        "parameters": int(columns["params"][code]),
        "multiply-adds": int(columns["flops"][code])})
  return rows


def _run_policy(args, policy, ground) -> int:
  """Trains the policy and judges it."""
  start = time.monotonic()
  devices.configure_compilation()

  config = policy_search.config(ground, **policy)
  first, count = inputs.seeds(args)
  seeds = list(range(first, first + (count or 1)))
  policy_search.check_seeds(seeds)
  read = nasbench_macro if ground == policy_search.MACRO else nasbench201
  table = read.read(args.table)
  ground.columns(table, config.dataset)
  if not args.json:
    console.err.print(f"{config.method}, {config.policy} policy,"
                      f" {config.dataset}: {config.steps} steps, {len(seeds)}"
                      f" seed(s) at once, {ground.word} of"
                      f" {policy_search.train_count(config, ground)} of"
                      f" {ground.computations} computations as inputs")
  found = policy_search.train(config, table, seeds)
  report = policy_report.summary(
      config, policy_report.judge(config, table, found), seeds,
      time.monotonic() - start)
  if args.json:
    console.print_json(report)
  else:
    _print_report(report, ground.word)
  return 0


def _print_report(report, word):
  rows = (("argmax", "gain_argmax"), ("one sample", "gain_sample"),
          ("best of 10 samples", "gain_best_of_10"),
          ("the oracle", "gain_oracle"), ("random transitions", "gain_random"))
  several = len(report["seeds"]) > 1
  console.print_table(
      f"points of test accuracy gained, mean over all {word} of"
      f" {report['seeds'][0]['computations_judged']} unseen computations",
      ("", ">gain", ">deviation over seeds"),
      [(name, f"{report[key]:+.3f}",
        f"{report['std'][key]:.3f}" if several else "") for name, key in rows])
  console.out.print(
      f"argmax reaches {100 * report['oracle_share']:.1f} % of the oracle's"
      f" gain in validation accuracy, {100 * report['test_oracle_share']:.1f} %"
      f" in test accuracy, at {report['params_ratio']:.3f} times the"
      f" parameters; {report['cost_violations']} {word} came to cost more;"
      f" {report['entries_read']} entries of the table were read;"
      f" {report['seconds']:.0f} s")
