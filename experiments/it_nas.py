"""IT-NAS beside its baselines: Tables 2 to 6, Figures 2, 3, 5, 6 and 9 to 19.

"IT-NAS: Integrating Lite-Transformer into NAS for Architecture Selection"
(under review at ICLR 2023), section 4 and appendix. Parts of the experiment,
each of which can run by itself (--parts):
- nasbench201: Table 5, searches by IT-NAS, DARTS, EnTranNAS, EnTranNAS-DST,
  SPOS and at random, whose cells are looked up in the benchmark's table; what
  would have been found after every epoch (Figure 2); and whether an edge's
  operations are ranked by the indicator as by accuracy (Kendall's tau): by that
  of the cell that was found with the operation on this edge (Figure 3; the
  paper takes the supernet's, here it is the true one), and by that of the best
  cell of all with the operation there (Figure 6, equation 9; by test accuracy,
  and not by validation); Figures 9 to 14 are a table of both.
- nasbench1shot1: Figure 5, in the three spaces of NAS-Bench-1Shot1.
- darts: Table 2 and Figure 15.
- s1-s4: Table 4 and Figures 17 to 19, by --dataset cifar10, cifar100 and
  svhn_cropped; networks are as large as the table's caption has them.
- chains: what Tables 3 and 6 and Figure 16 have of ImageNet, on the data set of
  all parts, beside SPOS.
The report has every cell and chain that was found as text and as a picture.

Elsewhere: Table 1, `benchmarks/it_nas.py`; Figure 4, where the candidates of a
chain's last layer see a class, of a search on all images (preset `paper`, or
`natjax search --space proxyless --method it-nas`):
  natjax explain RUN --candidates --image 3
scores without training (appendix A.7), `nasbench201_zero_cost.py`, which ranks
whole cells: Zero-Cost-PT (Figures 7 and 8), which prunes a supernet by them, is
not here.

Commands, with DATA a folder that holds cifar10.npz or another form that
`natjax.data.load` finds, TABLE and TABLE101 what `nasbench201` and
`nasbench101` of `natjax.benchmarks` read:
  python experiments/it_nas.py --preset smoke --table TABLE --out runs/smoke
  python experiments/it_nas.py --preset small --table TABLE \
      --table101 TABLE101 --data-dir DATA --out runs/it_nas \
      --report experiments/results/it_nas
  python experiments/it_nas.py --preset paper --table TABLE \
      --table101 TABLE101 --data-dir DATA --out runs/it_nas_paper
Hardware and time: `smoke` is nearly all compiling: part nasbench201 took 42
minutes on 2 CPU cores that some fifteen others wanted, where two methods of it
and darts had taken nine minutes beside less. Of `small`, on 2 CPU cores that
others kept busy, the parts nasbench201 (IT-NAS and DARTS alone) and
nasbench1shot1 took 65 minutes, in two calls, and the other methods in
nasbench201 28; darts, s1-s4 and chains 3.6 hours
(experiments/results/it_nas_spaces).
`paper`: accelerators and weeks.
Expected, preset `paper`: `it_nas_report.PAPER`; not run here.

A stopped run goes on by the same command, also one of fewer methods. --merge
makes the report again of a record, or of several of other parts or methods:
  python experiments/it_nas.py --preset small --merge RECORD OTHER --out REPORT
"""

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import dry_runs
import it_nas_report as report
import nasbench201_search
import numpy as np
import recording
import sweeps
import transforming

import natjax
from natjax import data as data_lib
from natjax import errors, pipeline, spaces, zoo
from natjax.benchmarks import nasbench101, nasbench201, table_search
from natjax.graph import codec, nasbench1shot1
from natjax.graph import nasbench101 as cells101
from natjax.graph import nasbench201 as cells
from natjax.methods import (
  darts,
  entrannas,
  entrannas_dst,
  it_nas,
  random_search,
  spos,
  supervised,
)
from natjax.pipeline import presets, run_files
from natjax.training import metrics

# What parts are judged by: the flag of its table.
TABLES = {"nasbench201": "table", "nasbench1shot1": "table101"}
NOT_RUN = "not run"


class Part(NamedTuple):
  """Settings of a part.

  Attributes:
    spaces: that are searched.
    search: settings by method.
    seeds: searches of every method.
    train: of every network that is found; None trains none.
    sizes: what of `train` differs, by data set and space.
  """

  spaces: tuple[str, ...]
  search: dict[str, Any]
  seeds: int
  train: supervised.TrainConfig | None = None
  sizes: Mapping[tuple[str, str], Mapping[str, int]] = {}

  def trained(self, dataset: str, space: str) -> supervised.TrainConfig | None:
    """How networks of a space are trained on a data set."""
    return self.train and dataclasses.replace(
        self.train, **self.sizes.get((report.base(dataset), space), {}))


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the experiment.

  Attributes:
    dataset: name or path of the data set.
    image_size: side to which images are brought.
    train_images: how many training images to use, drawn; 0 is all.
    parts: by name, those of `report.PARTS`.
    seed: the first of the seeds.
  """

  dataset: str
  image_size: int
  train_images: int
  parts: dict[str, Part]
  seed: int = 0


def _cells(**settings: Any) -> dict[str, Any]:
  return {"it-nas": it_nas.ITConfig(**settings),
          "darts": darts.DartsConfig(**settings)}


def _chains(settings: Mapping[str, Any], **bred: Any) -> dict[str, Any]:
  return {"it-nas": it_nas.ITConfig(**settings),
          "spos": spos.SPOSConfig(**settings, **bred)}


def _every(settings: Mapping[str, Any], bred: Mapping[str, Any],
           drawn: Mapping[str, Any], **decay: Any) -> dict[str, Any]:
  """The settings of all methods: of all, of SPOS, of random search besides, and
  of those with a temperature."""
  return {**_cells(**settings),
          "entrannas": entrannas.EnTranConfig(**settings, **decay),
          "entrannas-dst": entrannas_dst.DSTConfig(**settings, **decay),
          "spos": spos.SPOSConfig(**settings, **bred),
          "random": random_search.RandomConfig(**{**settings, **drawn})}


# Of what is no network of DARTS's cells.
_PLAIN = {"skeleton": None, "init_channels": None, "cells": None,
          "drop_path": None, "auxiliary": None}
_ALL = {"s1-s4": ("s1", "s2", "s3", "s4"),
        "chains": ("proxyless", "proxyless-se"),
        "nasbench1shot1": tuple(nasbench1shot1.PARENTS)}
_SMOKE = {"epochs": 1, "batch_size": 32}
_FEW = {"epochs": 8, "batch_size": 32, "learning_rate": 0.05}
_LITTLE = {"init_channels": 4, "cells": 4, **_FEW}
_NARROW = {"supernet_width": 0.25, **_FEW, "batch_size": 64}
_BRED = {"population": 10, "generations": 3, "parents": 5, "mutations": 5,
         "crossovers": 5, "calibration": 640}
_CHAIN = {"chain_layers": 2, "chain_width": 0.25, **_FEW, "epochs": 40}
_TRAIN = supervised.TrainConfig(
    init_channels=8, cells=4, epochs=8, batch_size=32, learning_rate=0.05,
    auxiliary=False, drop_path=0.0, cutout=0)
_PAPER = supervised.TrainConfig(
    skeleton="cifar", init_channels=36, cells=20, final_learning_rate=0.0,
    drop_path=0.2, auxiliary=True)
# Table 4's caption, after RobustDARTS.
_SIZES = {
    **{("cifar10", space): {"init_channels": 16} for space in ("s2", "s4")},
    **{(dataset, space): {"init_channels": 16, "cells": 8}
       for dataset in ("cifar100", "svhn_cropped") for space in _ALL["s1-s4"]}}
PRESETS = {
    "smoke": Config(
        dataset="digits", image_size=8, train_images=128, parts={
            "nasbench201": Part(("nasbench201",), _every(
                {**_SMOKE, "supernet_width": 0.125}, {
                    "population": 2, "generations": 2, "parents": 1,
                    "mutations": 1, "crossovers": 1, "calibration": 32},
                {"candidates": 2}), 2),
            "darts": Part(
                ("darts",), _cells(**_SMOKE, init_channels=2, cells=3), 1,
                dataclasses.replace(_TRAIN, init_channels=2, cells=2,
                                    epochs=1))}),
    "small": Config(
        dataset="cifar10", image_size=16, train_images=4096, parts={
            # A candidate of random search is trained for a quarter of what a
            # supernet is, and they are four.
            "nasbench201": Part(("nasbench201",), _every(
                _NARROW, _BRED, {"candidates": 4, "epochs": 2},
                temperature_decay=0.6), 6),
            "nasbench1shot1": Part(
                _ALL["nasbench1shot1"][:1], _cells(**_NARROW), 3),
            "darts": Part(("darts",), _cells(**_LITTLE), 3, _TRAIN),
            "s1-s4": Part(_ALL["s1-s4"], _cells(**_LITTLE), 1, _TRAIN),
            "chains": Part(_ALL["chains"][:1], _chains(
                _CHAIN, **_BRED), 2,
                dataclasses.replace(_TRAIN, **_PLAIN))}),
    "paper": Config(
        dataset="cifar10", image_size=32, train_images=0, parts={
            "nasbench201": Part(("nasbench201",), _every(
                {}, {}, {"candidates": 10, "epochs": 12}), 6),
            "nasbench1shot1": Part(_ALL["nasbench1shot1"], _cells(), 3),
            "darts": Part(("darts",), _cells(), 3, _PAPER),
            "s1-s4": Part(_ALL["s1-s4"], _cells(), 4, _PAPER, _SIZES),
            "chains": Part(_ALL["chains"], _chains({
                "epochs": 240, "batch_size": 512, "learning_rate": 0.25,
                "final_learning_rate": 5e-4, "weight_decay": 4e-5}), 1,
                dataclasses.replace(_PAPER, **_PLAIN, epochs=240))}),
}


# What is run.


def _row(folder, seed, search):
  """What a search by these settings came to."""
  result = recording.read(folder / run_files.RESULT)
  rows = metrics.read(folder / run_files.METRICS)
  found = result["architectures"]["derived"]
  course = nasbench201_search.course(rows, search, found)
  return {
      "seed": seed, "architecture": found,
      "course": [architecture for _, architecture in course],
      "epochs": [epoch for epoch, _ in course],
      "strengths": _strengths(result, [
          row for row in rows if "architecture" in row]),
      **{key: result["derived"][key] for key in (
          "params", "madds", "accuracy") if key in result["derived"]},
      **{key: result[key] for key in (
          "parent_accuracy", "child_accuracy", "skips", "ties",
          "search_seconds") if key in result}}


def _strengths(result, course):
  """Of every group and edge the operations' indicators, by name.

  Those of IT-NAS are of the images that decide, those by alpha of the end of
  the training; SPOS and random search have none.
  """
  if "attention" in result:
    return {group: [edge and edge["weights"] for edge in edges]
            for group, edges in result["attention"].items()}
  if not course or "weights" not in course[-1]:
    return {}
  names = course[-1]["candidates"]
  return {group: [dict(zip(names, edge, strict=True)) for edge in edges]
          for group, edges in course[-1]["weights"].items()}


def look_up(row: Mapping[str, Any], known: Mapping[str, np.ndarray]
            ) -> dict[str, Any]:
  """Adds what the table of NAS-Bench-201 says of a search; accuracies in %.

  Returns:
    The row with "cell" and "accuracy" of what was found, "curve" of what would
    have been after its "epochs", and "ranks", per edge the operations'
    "indicator" and the accuracies of `RANKS`; none without indicators.
  """
  found = nasbench201_search.look_up(row["architecture"], known)
  curve = [nasbench201_search.look_up(architecture, known)["accuracy"]
           for architecture in row["course"]]
  accuracy = known[report.TRUE]
  every = cells.all_operations()  # [15625, 6], in the order of codes.
  own = np.asarray(cells.to_array(cells.from_string(found["cell"])))
  edges, = row["strengths"].values() or [()]
  ranks = []
  for e, strengths in enumerate(edges):
    numbers = [int(cells.to_array([name] * len(own))[0]) for name in strengths]
    chosen = np.repeat(own[None], len(numbers), 0)
    chosen[:, e] = numbers
    ranks.append({
        "operations": [*strengths], "indicator": [*strengths.values()],
        "chosen": accuracy[np.asarray(cells.encode(chosen))].tolist(),
        "best": [float(accuracy[every[:, e] == n].max()) for n in numbers]})
  return {**{key: value for key, value in row.items() if key not in (
      "course", "strengths", "architecture")}, **found, "curve": curve,
          "ranks": ranks}


class Truth(NamedTuple):
  """What tables know.

  Attributes:
    known: of NAS-Bench-201, as `nasbench201_search.truths`; None without it.
    table: NAS-Bench-101; None without it.
    best: test accuracy of the best cell of each of NAS-Bench-1Shot1's spaces.
  """

  known: dict[str, np.ndarray] | None = None
  table: nasbench101.Table | None = None
  best: Mapping[str, float] = {}


def regrets(row: Mapping[str, Any], space: str, truth: Truth
            ) -> dict[str, Any]:
  """Adds what the table of NAS-Bench-101 says of a search.

  Returns:
    The row with "cell", and "regret": by how many points what would have been
    found after every epoch, and was, lies behind the best cell of the space.
  """
  table, cell_of = truth.table, zoo.nasbench1shot1.cell_of
  at = [table.find(cell_of(codec.from_dict(found)))
        for found in (*row["course"], row["architecture"])]
  accuracy = 100 * table.columns["test_acc_108ep_mean"][at]
  return {**{key: value for key, value in row.items() if key not in (
      "course", "epochs", "strengths", "architecture")},
          "cell": cells101.to_text(table.cell(at[-1])),
          "regret": (truth.best[space] - accuracy).tolist()}


def plan(name: str, config: Config, dataset: data_lib.Dataset, truth: Truth,
         out: pathlib.Path) -> dict[tuple[str, str], list[sweeps.Part]]:
  """The searches of a part, by space and method; a row for each seed."""
  part, found = config.parts[name], {}
  for space in part.spaces:
    judge = {"nasbench201": lambda row: look_up(row, truth.known),
             "nasbench1shot1": lambda row, space=space: regrets(
                 row, space, truth)}.get(name, lambda row: {
                     key: value for key, value in row.items()
                     if key not in ("course", "epochs", "strengths")})
    for method, search in part.search.items():
      found[space, method] = transforming.searches(
          f"{name} {space} {method}", out / space / method, space, dataset,
          lambda seed, folder, judge=judge, search=search: judge(
              _row(folder, seed, search)),
          method=method, search=search,
          train=part.trained(dataset.name, space),
          train_found=part.train is not None, seed=config.seed,
          seeds=part.seeds)
  return found


def dry_run(config: Config, names: Sequence[str],
            args: argparse.Namespace) -> None:
  """Prints what parts would take; networks of the zoo stand for others."""
  estimates = dry_runs.Estimates(args.teraflops)
  dataset = dry_runs.load(
      config.dataset, args.data_dir, image_size=config.image_size,
      train_images=config.train_images)
  for name in names:
    part = config.parts[name]
    search = {method: one for method, one in part.search.items()
              if method in args.methods}
    stand_in = zoo.get("proxyless-cpu" if name == "chains" else "darts")
    for space in part.spaces:
      train = part.trained(dataset.name, space)
      for method, one in search.items():
        estimates.search(f"{space}: {report.TITLES[method]}", pipeline.Job(
            None, dataset, method, one, train or presets.get(
                "demo", spaces.get(space).graph, method).train, space=space,
            seed=config.seed, devices=1), part.seeds)
      if train is not None:
        estimates.train(f"{space}: trained", stand_in, dataset, train,
                        part.seeds * len(search))
  estimates.show()


# The report.


def merge(preset: Config, folders: Sequence[pathlib.Path]
          ) -> tuple[Config, dict[str, Any]]:
  """Joins the records of runs that differ in their parts or methods alone.

  Args:
    preset: that all ran with.
    folders: their reports; one is reported again.

  Returns:
    The settings and the record of one run of all these searches.

  Raises:
    InputError: they differ in more, have the same searches, or some by other
      settings than the preset's.
  """
  given = [recording.read(folder / "result.json") for folder in folders]
  own, parts = given[0]["config"], {**given[0]["config"]["parts"]}
  same = ("dataset", "image_size", "train_images", "seed")
  config = dataclasses.replace(preset, **{key: own[key] for key in same})
  wanted, rows = json.loads(json.dumps(_describe(config)))["parts"], {}
  for folder, one in zip(folders, given, strict=True):
    if any(one["config"][key] != own[key] for key in same):
      raise errors.InputError("the records are of other images or seeds; merge"
                              " runs of the same")
    for name, found in one["parts"].items():
      part = one["config"]["parts"][name]
      for space, method in [(s, m) for s, some in found.items() for m in some]:
        if (name, space, method) in rows:
          raise errors.InputError(f"two records have {method} in {space}; merge"
                                  " one of each")
        if not _alike(part, wanted.get(name, {}), method):
          raise errors.InputError(
              f"{method} in {space} of {folder} ran by other settings than the"
              " preset's; run it again, or merge with the preset that it ran"
              " with")
        rows[name, space, method] = found[space][method]
        parts[name] = {**part, "search": {
            **parts.get(name, part)["search"],
            method: part["search"][method]}}
  found = {}
  for name, part in config.parts.items():
    for place in [(s, m) for s in part.spaces for m in part.search]:
      if (name, *place) in rows:
        space, method = place
        found.setdefault(name, {}).setdefault(space, {})[method] = rows[
            name, space, method]
  runs = [run for one in given for run in report.runs_of(one)]
  result = {
      "parts": found, "baselines": next(
          (one["baselines"] for one in given if one["baselines"]), {}),
      "dataset": given[0]["dataset"], "train_images": given[0]["train_images"],
      "config": {**own, "parts": parts},
      "missing": {name: why for run in runs for name, why in run.pop(
          "missing", {}).items() if why != NOT_RUN}}
  result["missing"] = lacking(config, result)
  return config, {**result, **(runs[0] if len(runs) == 1 else {"runs": runs})}


def _alike(found, wanted, method):
  """Whether a part ran by the same settings, but for some that came later."""
  same = lambda a, b: a == b or bool(a and b and {**b, **a} == b)
  return found["seeds"] == wanted.get("seeds") and all(
      same(found.get(key), wanted.get(key)) for key in ("train", "sizes")
  ) and same(found["search"][method], wanted["search"].get(method))


# The command line.


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  recording.add_flags(parser, PRESETS)
  sweeps.add_flags(parser)
  dry_runs.add_flags(parser)
  parser.add_argument("--table", type=pathlib.Path,
                      help="NAS-Bench-201's: CSV, or NATS-Bench's folder")
  parser.add_argument("--table101", type=pathlib.Path,
                      help="NAS-Bench-101's: .npz or .tfrecord")
  parser.add_argument("--dataset", help="of the images; default: the preset's")
  parser.add_argument("--parts", nargs="+", choices=report.PARTS,
                      help="that are run or gone on with; default: all; the"
                      " report has all that were ever run in --out")
  parser.add_argument("--methods", nargs="+", choices=tuple(report.TITLES),
                      default=list(report.TITLES),
                      help="of these parts, likewise")
  parser.add_argument("--merge", nargs="+", type=pathlib.Path,
                      metavar="REPORT", help="run nothing; report one record"
                      " again, or join those of other parts or methods, with"
                      " the same --preset")
  return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
  args = parse(argv)
  natjax.configure_compilation()

  # Config.
  preset = PRESETS[args.preset]
  if args.merge:
    config, result = merge(preset, args.merge)
    _record(args.report or args.out, config, result)
    return
  config = dataclasses.replace(
      preset, seed=args.seed, dataset=args.dataset or preset.dataset)
  names = [name for name in args.parts or config.parts
           if name in config.parts and {*args.methods} & {
               *config.parts[name].search}]
  if not names:
    raise errors.InputError("none of these parts has one of the methods"
                            f" {', '.join(args.methods)}; give other --parts"
                            " or --methods")
  if dry_runs.asked(args):
    dry_run(config, names, args)
    return
  for name in names:
    if name in TABLES and getattr(args, TABLES[name]) is None:
      raise errors.InputError(f"the part {name} is judged by its table; pass"
                              f" --{TABLES[name]}, or other --parts")
  truth = Truth()
  if "nasbench201" in names:
    truth = truth._replace(known=nasbench201_search.truths(
        nasbench201.read(args.table)))
  if "nasbench1shot1" in names:
    table = nasbench101.read(args.table101)
    test = 100 * table.columns["test_acc_108ep_mean"]
    truth = truth._replace(table=table, best={
        space: float(test[table_search.of_1shot1(table, space)].max())
        for space in config.parts["nasbench1shot1"].spaces})
  if not args.overwrite:
    widen(args.out / recording.CONFIG, config)
  sweep = sweeps.Sweep(__file__, args, argv, _describe(config))
  out = sweep.out
  transforming.say(f"{recording.hardware()}; seed {config.seed};"
                   f" {pipeline.versions()}")

  # Data, searches.
  dataset = transforming.load(
      config.dataset, args.data_dir, image_size=config.image_size,
      train_images=config.train_images, seed=config.seed)
  plans = {name: plan(name, config, dataset, truth, out / name)
           for name in config.parts}
  sweep.run([part for name in names for (_, method), some in plans[name].items()
             if method in args.methods for part in some])
  found: dict[str, Any] = {}
  for name, methods in plans.items():
    for (space, method), parts in methods.items():
      if rows := [*sweep.finished(parts).values()]:
        found.setdefault(name, {}).setdefault(space, {})[method] = rows

  # Report.
  result = {
      "parts": found,
      "baselines": recording.once(out / "baselines.json", lambda: (
          nasbench201_search.baselines(truth.known))) if truth.known or (
              out / "baselines.json").exists() else {},
      "dataset": dataset.name, "train_images": len(dataset.train_labels),
      "config": _describe(config),
      **sweep.circumstances()}
  result["missing"] = lacking(config, result)
  _record(args.report or out / "report", config, result)
  sweep.end()


def _record(folder, config, result):
  """Writes the record and its pictures."""
  folder.mkdir(parents=True, exist_ok=True)
  report.draw(result, folder)
  transforming.report(folder, {key: value for key, value in result.items()
                               if key != "missing" or value},
                      report.readme(config, result))


def widen(path: pathlib.Path, config: Config) -> None:
  """Lets a folder go on whose run compared fewer methods, else by the same.

  Args:
    path: of what the folder says of its settings.
    config: the settings now.
  """
  if not path.exists():
    return
  found, now = recording.read(path), _describe(config)
  if found.keys() != now.keys() or found["parts"].keys() != now["parts"].keys():
    return
  fewer = {**now, "parts": {name: {**part, "search": {
      method: search for method, search in part["search"].items()
      if method in found["parts"][name]["search"]}}
                            for name, part in now["parts"].items()}}
  if found == json.loads(json.dumps(fewer)):
    recording.write(path, now)


def lacking(config: Config, result: Mapping[str, Any]) -> dict[str, str]:
  """Why searches are not there, by name, of spaces of which some are there.

  Args:
    config: the settings.
    result: with "parts" and perhaps "missing", of what was asked for.
  """
  missing, left, there = result.get("missing", {}), {}, set()
  for name, found in result["parts"].items():
    part = config.parts[name]
    for space, methods in found.items():
      for method in part.search:
        whole = f"{name} {space} {method}"
        of = lambda seed, whole=whole: f"{whole} seed {seed}"
        there |= {of(row["seed"]) for row in methods.get(method, [])}
        some = dict.fromkeys(map(of, range(
            config.seed, config.seed + part.seeds)), NOT_RUN)
        if not {*some} & ({*missing} | there):
          some = {whole: NOT_RUN}
        left |= some
  return {name: why for name, why in {**left, **missing}.items()
          if name not in there}


def _describe(config):
  """The settings as JSON."""
  part = lambda own: {
      "spaces": own.spaces, "seeds": own.seeds,
      "train": own.train and dataclasses.asdict(own.train),
      "search": {method: dataclasses.asdict(one)
                 for method, one in own.search.items()},
      **({"sizes": {" ".join(key): size for key, size in own.sizes.items()}}
         if own.sizes else {})}
  return {**dataclasses.asdict(config), "parts": {
      name: part(own) for name, own in config.parts.items()}}


if __name__ == "__main__":
  recording.run(main)
