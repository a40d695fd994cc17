"""Searches on NAS-Bench-201, where what every cell reaches is known.

Dong & Yang, 2020, "NAS-Bench-201: Extending the Scope of Reproducible Neural
Architecture Search": all 15,625 cells of the space were trained there. Every
method searches on CIFAR-10's images with five seeds; what it finds is looked up
in the table (test accuracy after 200 epochs), and so is what it would have
found after every epoch. Beside them stand a random cell, the best of n random
ones (expected, exactly, over draws that may repeat), and the best of all.
Nothing is trained but supernets, and the candidates of random search.

Commands, with DATA a folder that holds cifar10.npz or another form that
`natjax.data.load` finds, and TABLE what `natjax.benchmarks.nasbench201` reads:
  python experiments/nasbench201_search.py --preset smoke --table TABLE \
      --out runs/smoke
  python experiments/nasbench201_search.py --preset small --table TABLE \
      --data-dir DATA --out runs/nasbench201_search \
      --report experiments/results/nasbench201_search
  python experiments/nasbench201_search.py --preset paper --table TABLE \
      --data-dir DATA --out runs/nasbench201_search_paper
Hardware and time: `smoke` a minute, all of it compiling. `small` took 64
minutes on 2 CPU cores while other processes ran, IT-NAS 38 and SPOS 8 minutes
more on one of them. `paper`: one accelerator and days, 30 searches of 50 epochs
or of ten candidates.
Expected, preset `paper`: DARTS of first order keeps skip connections alone and
so reaches 54.30 % on CIFAR-10, 15.61 % on CIFAR-100 and 16.32 % on
ImageNet16-120 (Dong & Yang, Table 5), and IT-NAS 93.65, 70.31 and 43.88 % (its
paper, Table 5, six searches); the others are in neither. Not run here.

A stopped run goes on by the same command. --methods runs some of them, and
--merge joins the records of runs of others with the same settings:
  python experiments/nasbench201_search.py --preset small --table TABLE \
      --merge RECORD OTHER --out REPORT
"""

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

import dry_runs
import figures
import numpy as np
import recording
import sweeps
import transforming

import natjax
from natjax import data as data_lib
from natjax import errors, operations, pipeline, spaces, zoo
from natjax.benchmarks import nasbench201
from natjax.graph import codec
from natjax.graph import nasbench201 as cells
from natjax.methods import (
  bilevel,
  darts,
  entrannas,
  entrannas_dst,
  it_nas,
  random_search,
  spos,
)
from natjax.pipeline import presets, run_files
from natjax.training import metrics

TITLES = {"darts": "DARTS", "entrannas": "EnTranNAS",
          "entrannas-dst": "EnTranNAS-DST", "it-nas": "IT-NAS",
          "spos": "SPOS", "random": "random search"}
COUNTS = (10, 100)  # n, of random cells.
# DARTS of first order, as the benchmark's authors found (Dong & Yang, Table 5),
# and IT-NAS, by the paper's own Table 5.
PUBLISHED = {
    "DARTS as Dong & Yang have it": {
        "cifar10": 54.30, "cifar100": 15.61, "imagenet16-120": 16.32},
    "IT-NAS as its paper has it": {
        "cifar10": 93.65, "cifar100": 70.31, "imagenet16-120": 43.88}}


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the experiment.

  Attributes:
    dataset: name or path of the images that are searched on.
    image_size: side to which they are brought.
    train_images: how many training images to use, drawn; 0 is all.
    seeds: searches of every method.
    search: settings by method.
    seed: the first of the seeds.
  """

  dataset: str
  image_size: int
  train_images: int
  seeds: int
  search: dict[str, Any]
  seed: int = 0


def _methods(plain: Mapping[str, Any], supernets: Mapping[str, Any],
             alpha: Mapping[str, Any], evolution: Mapping[str, Any],
             candidates: Mapping[str, Any], **decay: Any) -> dict[str, Any]:
  """The settings of all methods.

  Args:
    plain: of all of them.
    supernets: of those with a supernet, besides.
    alpha: of those by alpha, besides.
    evolution: of SPOS, besides.
    candidates: of random search, besides.
    **decay: of those with a temperature, besides.
  """
  # As the programs of the benchmark's authors, from which the defaults differ.
  plain, own = {**plain, "weight_decay": 5e-4}, {"nesterov": True, **supernets}
  alpha = {**own, "weights_first": True, **alpha}
  return {"darts": darts.DartsConfig(**plain, **alpha),
          "entrannas": entrannas.EnTranConfig(**plain, **alpha, **decay),
          "entrannas-dst": entrannas_dst.DSTConfig(**plain, **alpha, **decay),
          "it-nas": it_nas.ITConfig(**plain, **own),
          "spos": spos.SPOSConfig(**plain, **own, **evolution),
          "random": random_search.RandomConfig(**plain, **candidates)}


PRESETS = {
    "smoke": Config(
        dataset="digits", image_size=8, train_images=128, seeds=2,
        search=_methods(
            {"batch_size": 32, "supernet_width": 0.125}, {"epochs": 2}, {},
            {"population": 2, "generations": 2, "parents": 1, "mutations": 1,
             "crossovers": 1, "calibration": 32},
            {"candidates": 2, "epochs": 1})),
    # What SPOS asks of its candidates, 30 times 3200 images forwards, is about
    # what alpha costs others, 12 epochs of 2560 images with their gradients.
    "small": Config(
        dataset="cifar10", image_size=16, train_images=5120, seeds=5,
        search=_methods(
            {"batch_size": 64, "supernet_width": 0.25, "learning_rate": 0.05},
            {"epochs": 12}, {"alpha_learning_rate": 3e-3},
            {"population": 10, "generations": 3, "parents": 5, "mutations": 5,
             "crossovers": 5, "calibration": 640},
            {"candidates": 4, "epochs": 3}, temperature_decay=0.7)),
    "paper": Config(
        dataset="cifar10", image_size=32, train_images=0, seeds=5,
        search=_methods({}, {}, {}, {}, {"candidates": 10, "epochs": 12})),
}


# What is known.


def best_of(values: np.ndarray, n: int) -> float:
  """The expected maximum of n values drawn uniformly, with repetition.

  Of N values in order, the i-th is the largest of n draws with probability
  (i / N)^n - ((i - 1) / N)^n.

  Args:
    values: f64[N].
    n: draws.
  """
  share = np.arange(len(values) + 1) / len(values)
  return float(np.diff(share ** n) @ np.sort(values))


def truths(table: nasbench201.Table) -> dict[str, np.ndarray]:
  """Test accuracy after 200 epochs, f64[15625] by code, per data set."""
  return {name: np.asarray(columns["test_200ep"])
          for name, columns in table.columns.items()}


def baselines(known: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
  """What random cells reach, and the best, per data set, %."""
  return {name: {
      "mean": float(values.mean()), "deviation": float(values.std()),
      **{f"best_of_{n}": best_of(values, n) for n in COUNTS},
      "optimum": float(values.max())} for name, values in known.items()}


def look_up(architecture: Mapping[str, Any],
            known: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """A cell's string, its skip connections, and what it reaches, %.

  Args:
    architecture: the JSON form of a network.
    known: as `truths`.
  """
  names = zoo.nasbench201.names_of(codec.from_dict(architecture))
  code = int(cells.encode(cells.to_array(names)))
  return {"cell": cells.to_string(names),
          "skips": names.count(operations.SKIP),
          "accuracy": {name: float(values[code])
                       for name, values in known.items()}}


# What is found.


def course(rows: Sequence[Mapping[str, Any]], search: Any,
           found: Mapping[str, Any]) -> list[tuple[int, Mapping[str, Any]]]:
  """What would have been derived after so many epochs.

  Of random search, the most accurate candidate so far; the epochs are those of
  all candidates. Of IT-NAS, by the attention on an epoch's training images; of
  SPOS, which looks for candidates once, what was found.

  Args:
    rows: of `metrics.jsonl`, of one search.
    search: its settings.
    found: the JSON form of what it found.

  Returns:
    Epochs, and the JSON form of a network.
  """
  if isinstance(search, spos.SPOSConfig):
    return [(search.epochs, found)]
  rows = [row for row in rows if "architecture" in row]
  if not isinstance(search, random_search.RandomConfig):
    return [(i + 1, row["architecture"]) for i, row in enumerate(rows)]
  best = np.maximum.accumulate([row["accuracy"] for row in rows])
  first = [next(row for row in rows if row["accuracy"] == b) for b in best]
  return [((i + 1) * search.epochs, row["architecture"])
          for i, row in enumerate(first)]


def searches(method: str, config: Config, dataset: data_lib.Dataset,
             known: Mapping[str, np.ndarray], out: pathlib.Path
             ) -> list[sweeps.Part]:
  """The searches of a method, one per seed, each of which gives a row."""
  search = config.search[method]

  def row(seed, folder):
    result = recording.read(folder / run_files.RESULT)
    derived = result["architectures"]["derived"]
    curve = [{"epoch": epoch, **look_up(architecture, known)}
             for epoch, architecture in course(
                 metrics.read(folder / run_files.METRICS), search, derived)]
    row = {"seed": seed, **look_up(derived, known),
           **{key: result[key] for key in (
               "parent_accuracy", "child_accuracy", "search_seconds")
              if key in result}, "curve": curve}
    transforming.say(f"{method} seed {seed}: {row['cell']} {row['accuracy']}")
    return row

  return transforming.searches(
      method, out, "nasbench201", dataset, row, method=method, search=search,
      train=None, train_found=False, seed=config.seed, seeds=config.seeds)


def dry_run(config: Config, args: argparse.Namespace) -> None:
  """Prints what the searches would take."""
  estimates = dry_runs.Estimates(args.teraflops)
  dataset = dry_runs.load(
      config.dataset, args.data_dir, image_size=config.image_size,
      train_images=config.train_images)
  graph = spaces.get("nasbench201").graph
  for method, search in config.search.items():
    estimates.search(TITLES[method], pipeline.Job(
        None, dataset, method, search, presets.get("demo", graph, method).train,
        space="nasbench201", seed=config.seed, devices=1), config.seeds)
  estimates.show()


# The report.


def parts_of(result: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The runs that a record is of: which methods, by which commit, how."""
  keys = ("commit", "recorded", "missing", "seconds", "command", "hardware",
          "load", "versions")
  return result.get("runs") or [{
      "methods": [*result["methods"]],
      **{key: result[key] for key in keys if key in result}}]


def merge(preset: Config, folders: Sequence[pathlib.Path]
          ) -> tuple[Config, dict[str, Any]]:
  """Joins the records of runs that differ in their methods alone.

  Args:
    preset: that all ran with.
    folders: their reports.

  Returns:
    The settings and the record of one run of all these methods.

  Raises:
    InputError: they differ in more, have a method twice, or one that ran by
      other settings than the preset's.
  """
  found: dict[str, Any] = {}
  parts = [recording.read(folder / "result.json") for folder in folders]
  own = lambda part: {**part["config"], "search": None, "images": [
      part["dataset"], part["train_images"]], "known": {
          name: {key: round(value, 6) for key, value in values.items()}
          for name, values in part["baselines"].items()}}
  every = []
  for folder, part in zip(folders, parts, strict=True):
    if own(part) != own(parts[0]):
      raise errors.InputError("the records are of other images, seeds or"
                              " tables; merge runs of the same")
    for method, rows in part["methods"].items():
      if method in found:
        raise errors.InputError(f"two records have {method}; merge one of each")
      wanted = dataclasses.asdict(preset.search[method])
      # Settings that came later are the preset's.
      if {**wanted, **part["config"]["search"][method]} != wanted:
        raise errors.InputError(
            f"{method} of {folder} ran by other settings than the preset's;"
            " run it again, or merge with the preset that it ran with")
      found[method] = rows
    # Runs that did not write down their commit: when they were recorded.
    every += [run if "commit" in run or "recorded" in run else {
        **run, "recorded": recording.commit(folder / "result.json")}
              for run in parts_of(part)]
  first = parts[0]["config"]
  order = [method for method in TITLES if method in found]
  config = dataclasses.replace(
      preset, seed=first["seed"], seeds=first["seeds"],
      dataset=first["dataset"], search={m: preset.search[m] for m in order})
  return config, {
      "baselines": parts[0]["baselines"], "methods": {
          method: found[method] for method in order},
      "dataset": parts[0]["dataset"], "train_images": parts[0]["train_images"],
      "config": dataclasses.asdict(config), "runs": every}


def readme(config: Config, result: Mapping[str, Any]) -> str:
  """The record in words."""
  known, found = result["baselines"], result["methods"]
  names = list(known)
  rows = [[TITLES[method], *(recording.spread(
      [seed["accuracy"][name] for seed in part["seeds"]], 2) for name in names)]
          for method, part in found.items()]
  rows += [
      *([title, *(f"{values[name]:.2f}" for name in names)]
        for title, values in PUBLISHED.items()),
      ["a random cell", *(
          f"{known[name]['mean']:.2f} ± {known[name]['deviation']:.2f}"
          for name in names)],
      *([f"best of {count} random cells", *(
          f"{known[n][f'best_of_{count}']:.2f}" for n in names)]
        for count in COUNTS),
      ["best cell", *(f"{known[n]['optimum']:.2f}" for n in names)]]
  cells_found = [
      ["" if i else TITLES[method], seed["seed"], f"`{seed['cell']}`".replace(
          "|", "\\|"), seed["skips"], f"{seed['accuracy'][names[0]]:.2f}",
       *(f"{100 * seed[key]:.1f}" if key in seed else "-"
         for key in ("parent_accuracy", "child_accuracy"))]
      for method, part in found.items() for i, seed in enumerate(part["seeds"])]
  return "\n".join([
      f"# Searches on NAS-Bench-201, images of {result['dataset']}", "",
      *recording.table(("test accuracy, %", *names), rows), "",
      f"Mean ± deviation over {config.seeds} searches, of what the cells that"
      " were found reach after 200 epochs (the benchmark's table); of a random"
      " cell, over all 15,625. The best of n random cells is the expectation,"
      " by true test accuracy.", "", *_skips_in_words(found), "",
      "![true accuracy over epochs](accuracy.svg)", "",
      "True test accuracy of the cell that would be derived after every epoch;"
      " thin lines are seeds, the thick one their mean. Of random search: the"
      " best candidate so far, over the epochs of all; of IT-NAS: by the"
      " attention on that epoch's training images, where what is found is by"
      " that on the other half; of SPOS: what evolution found at the end.", "",
      "![skip connections over epochs](skips.svg)", "",
      "Every cell:", "", *recording.table(
          ("", "seed", "cell", "skips", f"true accuracy, {names[0]}, %",
           "of the supernet, %", "of the cell in it, %"), cells_found), "",
      _in_words(config, result), "", *(
          line for run in parts_of(result) for line in (
              ", ".join(TITLES[m] for m in run["methods"]) + ": "
              + _commit_in_words(run), "", *recording.in_words(run)))])


def _commit_in_words(run):
  """Of which commit a run is."""
  if "recorded" in run:
    return f"recorded in commit {run['recorded'] or 'unknown'}."
  return f"run by the library of commit {run['commit'] or 'unknown'}."


def _skips_in_words(found):
  """How many of what was found are skip connections."""
  lines = []
  for method, part in found.items():
    skips = [seed["skips"] for seed in part["seeds"]]
    bare = sum("conv" not in seed["cell"] for seed in part["seeds"])
    lines.append(
        f"- {TITLES[method]}: {', '.join(map(str, skips))} skip connections of"
        f" six edges, by seed; {bare} of {len(skips)} cells have no"
        " convolution.")
  skips = [seed["skips"] for seed in found.get("darts", {"seeds": []})["seeds"]]
  if skips:
    alone = skips.count(len(cells.EDGES))
    lines += ["", "DARTS collapsed to skip connections alone, as its authors'"
              f" settings do in the benchmark's paper, in {alone} of"
              f" {len(skips)} searches."]
  return lines


def _in_words(config, result):
  """How it was searched."""
  one = next(iter(config.search.values()))
  alpha = next((s for s in config.search.values()
                if isinstance(s, bilevel.SearchConfig)), None)
  drawn, bred = config.search.get("random"), config.search.get("spos")
  return (
      f"Searched: {config.image_size}x{config.image_size} pixels,"
      f" {result['train_images']} images, one half for the weights and one"
      f" for alpha, attention or to judge, {one.supernet_width or 1:g} times"
      f" the widths, batches of {one.batch_size}, SGD from"
      f" {one.learning_rate:g}."
      + (f" By alpha: {alpha.epochs} epochs, Adam at"
         f" {alpha.alpha_learning_rate:g}, the weights"
         f" {'first' if alpha.weights_first else 'last'}." if alpha else "")
      + (f" SPOS: {bred.epochs} epochs, then"
         f" {bred.population * bred.generations} candidates, of each the"
         f" statistics of BN on {bred.calibration} images." if bred else "")
      + (f" IT-NAS: {config.search['it-nas'].epochs} epochs, then the attention"
         " on the second half." if "it-nas" in config.search else "")
      + (f" Random: {drawn.candidates} candidates, {drawn.epochs} epochs each."
         if drawn else ""))


def draw(result: Mapping[str, Any], folder: pathlib.Path) -> None:
  """Draws true accuracy and skip connections over epochs."""
  known, found = result["baselines"], result["methods"]
  name = next(iter(known))
  levels = {"best": known[name]["optimum"], "random": known[name]["mean"]}
  of = lambda value: {
      TITLES[method]: [[(row["epoch"], value(row)) for row in seed["curve"]]
                       for seed in part["seeds"]]
      for method, part in found.items()}
  for suffix in ("svg", "png"):
    figures.over_epochs(
        of(lambda row: row["accuracy"][name]), folder / f"accuracy.{suffix}",
        f"true accuracy, {name}, %", levels)
    figures.over_epochs(of(lambda row: row["skips"]),
                        folder / f"skips.{suffix}", "skip connections", {})


# The command line.


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  recording.add_flags(parser, PRESETS)
  sweeps.add_flags(parser)
  dry_runs.add_flags(parser)
  parser.add_argument("--table", type=pathlib.Path,
                      help="NAS-Bench-201's: CSV, or NATS-Bench's folder")
  parser.add_argument("--dataset", help="of the images; default: the preset's")
  parser.add_argument("--methods", nargs="+", choices=tuple(TITLES),
                      default=list(TITLES))
  parser.add_argument("--seeds", type=recording.at_least(1),
                      help="default: the preset's")
  parser.add_argument("--merge", nargs="+", type=pathlib.Path,
                      metavar="REPORT", help="run nothing, and join records of"
                      " other methods, with the same --preset")
  return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
  args = parse(argv)
  natjax.configure_compilation()

  # Config.
  config = PRESETS[args.preset]
  if args.merge:
    config, result = merge(config, args.merge)
    _record(args.report or args.out, config, result)
    return
  config = dataclasses.replace(
      config, seed=args.seed, dataset=args.dataset or config.dataset,
      seeds=args.seeds or config.seeds,
      search={method: config.search[method] for method in args.methods})
  if dry_runs.asked(args):
    dry_run(config, args)
    return
  if args.table is None:
    raise errors.InputError("what is found is looked up; pass --table")
  table = nasbench201.read(args.table)
  sweep = sweeps.Sweep(__file__, args, argv, dataclasses.asdict(config))
  transforming.say(f"{recording.hardware()}; seed {config.seed};"
                   f" {pipeline.versions()}")

  # Data, search.
  known = truths(table)
  commit = recording.once(sweep.out / "commit.json", recording.commit)
  dataset = transforming.load(
      config.dataset, args.data_dir, image_size=config.image_size,
      train_images=config.train_images, seed=config.seed)
  parts = {method: searches(method, config, dataset, known, sweep.out / method)
           for method in config.search}
  sweep.run([part for some in parts.values() for part in some])
  found = {method: {"seeds": rows} for method, some in parts.items()
           if (rows := [*sweep.finished(some).values()])}

  # Report.
  result = {
      "baselines": baselines(known), "methods": found, "dataset": dataset.name,
      "train_images": len(dataset.train_labels),
      "config": dataclasses.asdict(config), "commit": commit,
      **sweep.circumstances()}
  _record(args.report or sweep.out / "report", config, result)
  sweep.end()


def _record(folder, config, result):
  """Writes the record and its pictures."""
  folder.mkdir(parents=True, exist_ok=True)
  draw(result, folder)
  transforming.report(folder, result, readme(config, result))


if __name__ == "__main__":
  recording.run(main)
