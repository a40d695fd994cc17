"""EnTranNAS and EnTranNAS-DST on CIFAR-10: Tables 1, 2, 4 and 6.

Paper: Yang et al., 2021, "Towards Improving the Consistency, Efficiency, and
Flexibility of Differentiable Neural Architecture Search", section 4.
- Table 1: what the supernet loses when only the connections run that are
  derived, by which cells are Engine cells. Both accuracies are on the images
  that trained alpha.
- Table 2: whether the searches of a method, with different seeds, are ranked by
  the supernet as by test accuracy after training (Kendall's tau).
- Table 4: edges, parameters and multiply-adds by lambda, of EnTranNAS-DST. The
  paper searches them on ImageNet; here on CIFAR-10, and costs are given also of
  a network for ImageNet with these cells.
- Table 6: of several searches that with the best accuracy in search is trained,
  once per seed (preset `paper`, or `--tables 6`).

Table 5 (DeepLabV3 on Pascal VOC) is experiments/segmentation.py. What is not
run here is Table 7, whose settings preset `imagenet` has and which is refused:
`natjax search --space darts --method entrannas-dst --preset imagenet-search
--no-train` searches on ImageNet, and `natjax train RUN --preset
imagenet-pcdarts` trains what was found. Of Table 3 the seconds of a search
stand beside Table 1.

Commands, with DATA a folder that holds cifar10.npz or another form that
`natjax.data.load` finds:
  python experiments/entrannas.py --preset smoke --out runs/smoke
  python experiments/entrannas.py --preset small --data-dir DATA \
      --out runs/entrannas --report experiments/results/entrannas
  python experiments/entrannas.py --preset paper --data-dir DATA \
      --out runs/entrannas_paper
Hardware and time: `smoke` two minutes, nearly all of it compiling. `small` took
about 45 minutes on 2 CPU cores beside other work, in two starts: 28 searches of
192 iterations, 18 trainings of 320 steps. `paper`: one accelerator and weeks,
33 trainings of 600 epochs.
Expected, preset `paper`: `PAPER` below; not run here.

A stopped run goes on by the same command.
"""

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import math
import pathlib
from typing import Any, NamedTuple

import dry_runs
import figures
import numpy as np
import recording
import sweeps
import transforming

import natjax
from natjax import data as data_lib
from natjax import errors, pipeline, spaces, zoo
from natjax.costs import exact as cost_lib
from natjax.graph import codec, records
from natjax.methods import darts, entrannas, entrannas_dst, supervised
from natjax.pipeline import run_files
from natjax.training import metrics

TITLES = {"darts": "DARTS", "entrannas": "EnTranNAS",
          "entrannas-dst": "EnTranNAS-DST",
          "entrannas-12": "EnTranNAS, 12 operations"}
ENGINES = {"all": "all (DARTS's)", "half": "one half", "last": "last",
           "first": "first"}
TABLES = (1, 2, 4, 6)
# By table and row. Accuracies, %, of supernet and child; tau; edges of normal
# and reduction cell, parameters and multiply-adds, M; error, %, parameters, M.
PAPER: dict[int, dict[Any, tuple[Any, ...]]] = {
    1: {"all": (88.29, 63.97), "half": (87.45, 65.51), "last": (84.02, 83.35),
        "first": (86.68, 86.24)},
    2: {"darts": (-0.47,), "entrannas": (0.33,), "entrannas-dst": (0.60,)},
    4: {0.2: (9, 8, 5.07, 580), 0.1: (11, 6, 5.88, 673),
        0.05: (13, 14, 6.99, 779)},
    6: {"entrannas": (2.53, 0.06, 3.45), "entrannas-dst": (2.48, 0.08, 3.20),
        "entrannas-12": (2.22, 0.05, 7.68)},
}
IMAGENET = records.Skeleton("imagenet", 48, 14, 1000, 224)
# Of the preset `smoke`: little to compile.
SMOKE = spaces.cells("smoke", ("max_pool_3x3", "skip_connect", "conv_3x3",
                               "null"), num_nodes=1)


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the experiment.

  Attributes:
    dataset: name or path of the data set.
    image_size: side to which images are brought.
    train_images: how many training images to use, drawn; 0 is all.
    tables: of the paper's.
    searches: with different seeds, of Tables 1 and 4.
    ranked: likewise, of every method of Table 2.
    candidates: likewise, of Table 6, of which the best is trained.
    darts: of DARTS.
    entrannas: of EnTranNAS.
    dst: of EnTranNAS-DST.
    train: of every network; its seeds are those of Table 6.
    sparsities: lambda, of Table 4.
    space: that is searched in.
    larger: likewise, the one with more operations (Table 6).
    seed: the first of the seeds.
  """

  dataset: str
  image_size: int
  train_images: int
  tables: tuple[int, ...]
  searches: int
  ranked: int
  candidates: int
  darts: darts.DartsConfig
  entrannas: entrannas.EnTranConfig
  dst: entrannas_dst.DSTConfig
  train: supervised.TrainConfig
  sparsities: tuple[float, ...] = (0.2, 0.1, 0.05)
  space: str = "darts"
  larger: str = "darts12"
  seed: int = 0


def _methods(**settings: Any) -> dict[str, Any]:
  """The settings of all methods, by the fields of `Config`."""
  decay = {key: settings.pop(key) for key in (
      "temperature", "temperature_decay") if key in settings}
  return {"darts": darts.DartsConfig(**settings),
          "entrannas": entrannas.EnTranConfig(**settings, **decay),
          "dst": entrannas_dst.DSTConfig(**settings, **decay)}


_ONE = {"momentum": 0.9, "weight_decay": 3e-4, "alpha_weight_decay": 1e-3,
        "alpha_momentum": 0.5}
PRESETS = {
    "smoke": Config(
        dataset="digits", image_size=8, train_images=128, tables=(1, 2, 4),
        searches=1, ranked=2, candidates=1, sparsities=(0.2, 0.1),
        space=SMOKE.name, larger=SMOKE.name,
        **_methods(**_ONE, init_channels=2, cells=4, epochs=1, batch_size=32),
        train=supervised.TrainConfig(
            init_channels=2, cells=2, epochs=1, batch_size=32,
            auxiliary=False, drop_path=0.0, cutout=0)),
    "small": Config(
        dataset="cifar10", image_size=16, train_images=2048, tables=(1, 2, 4),
        searches=2, ranked=6, candidates=6,
        **_methods(**_ONE, init_channels=4, cells=6, epochs=6, batch_size=32,
                   learning_rate=0.05, alpha_learning_rate=5e-3,
                   temperature_decay=0.5),
        train=supervised.TrainConfig(
            init_channels=4, cells=4, epochs=5, batch_size=32,
            learning_rate=0.05, auxiliary=False, drop_path=0.0, cutout=0)),
    "paper": Config(
        dataset="cifar10", image_size=32, train_images=0, tables=TABLES,
        searches=5, ranked=6, candidates=5,
        **_methods(**_ONE, epochs=50, batch_size=512, learning_rate=0.2,
                   final_learning_rate=0.0, alpha_learning_rate=6e-4),
        train=supervised.TrainConfig(
            skeleton="cifar", init_channels=36, cells=20, epochs=600,
            batch_size=96, final_learning_rate=0.0, drop_path=0.2,
            auxiliary=True, cutout=16, seeds=5)),
    # Table 7, refused (see above): EnTranNAS's temperature; that of
    # EnTranNAS-DST is 1 and 0.9. Half of a tenth of the images for alpha.
    "imagenet": Config(
        dataset="imagenet2012", image_size=224, train_images=0, tables=(7,),
        searches=5, ranked=6, candidates=5, sparsities=(0.2,),
        **_methods(**_ONE, epochs=50, batch_size=1024, learning_rate=0.5,
                   final_learning_rate=0.0, alpha_learning_rate=6e-3),
        train=supervised.TrainConfig(
            skeleton="imagenet", init_channels=48, cells=14, epochs=250,
            batch_size=1024, learning_rate=0.5, final_learning_rate=0.0,
            weight_decay=3e-5, label_smoothing=0.1, drop_path=0.0,
            auxiliary=True, cutout=0)),
}


# What is run.


class Run(NamedTuple):
  """Searches of one method with several seeds.

  Attributes:
    method: its name.
    search: its settings.
    seeds: how many.
    trained: whether what is found is trained.
    space: of `spaces.SPACES`; None is that of the experiment.
  """

  method: str
  search: Any
  seeds: int
  trained: bool = False
  space: str | None = None


def engines_run(engines: str) -> str:
  """The run of a row of Table 1; the last one is EnTranNAS itself."""
  return "entrannas" if engines == "first" else f"engines-{engines}"


def sparsity_run(config: Config, sparsity: float) -> str:
  """The run of a row of Table 4."""
  return ("entrannas-dst" if sparsity == config.dst.sparsity
          else f"sparsity-{sparsity:g}")


def plan(config: Config) -> dict[str, Run]:
  """All runs by name; one serves several tables."""
  found: dict[str, Run] = {}

  def need(name, run):
    old = found.get(name, run)
    found[name] = run._replace(seeds=max(run.seeds, old.seeds),
                               trained=run.trained or old.trained)

  settings = {"darts": config.darts, "entrannas": config.entrannas,
              "entrannas-dst": config.dst}
  if 1 in config.tables:
    for engines in ENGINES:
      need(engines_run(engines), Run("entrannas", dataclasses.replace(
          config.entrannas, engines=engines), config.searches))
  if 2 in config.tables:
    for method in PAPER[2]:
      need(method, Run(method, settings[method], config.ranked, True))
  if 4 in config.tables:
    for sparsity in config.sparsities:
      need(sparsity_run(config, sparsity), Run(
          "entrannas-dst", dataclasses.replace(config.dst, sparsity=sparsity),
          config.searches))
  if 6 in config.tables:
    for method in ("entrannas", "entrannas-dst"):
      need(method, Run(method, settings[method], config.candidates))
    need("entrannas-12", Run("entrannas", config.entrannas, config.candidates,
                             space=config.larger))
  return found


def searches(name: str, run: Run, config: Config, dataset: data_lib.Dataset,
             out: pathlib.Path) -> list[sweeps.Part]:
  """The searches of a run, one per seed, each of which gives a row."""
  return transforming.searches(
      name, out, run.space or config.space, dataset,
      lambda seed, folder: _row(folder, seed), method=run.method,
      search=run.search, train=config.train, train_found=run.trained,
      seed=config.seed, seeds=run.seeds)


def _row(folder, seed):
  """What a search came to."""
  result = recording.read(folder / run_files.RESULT)
  architecture = result["architectures"]["derived"]
  genotype = codec.from_dict(architecture)
  imagenet = cost_lib.network(genotype, IMAGENET)
  cells = {"normal": genotype.normal, "reduce": genotype.reduce}
  course = [sum(float(np.sum(mask)) for mask in row["kept"].values())
            for row in metrics.read(folder / run_files.METRICS)
            if "kept" in row]
  return {
      "seed": seed,
      **{key: result[key] for key in (
          "parent_accuracy", "child_accuracy", "connections", "skips",
          "search_seconds")},
      "edges": {name: len({edge[1:] for edge in cell.edges})
                for name, cell in cells.items()},
      **{key: result["derived"][key] for key in (
          "params", "madds", "accuracy") if key in result["derived"]},
      "imagenet_params": imagenet.params, "imagenet_madds": imagenet.madds,
      "course": course, "architecture": architecture}


def train_best(rows: Sequence[Mapping[str, Any]], name: str, config: Config,
               dataset: data_lib.Dataset, out: pathlib.Path) -> dict[str, Any]:
  """Trains the best of several searches, once per seed (section 4.2)."""
  best = max(_first(rows, config, config.candidates),
             key=lambda row: row["parent_accuracy"])
  result = pipeline.train(
      codec.from_dict(best["architecture"]), dataset, out=out,
      config=config.train, seed=config.seed,
      listener=transforming.listener(f"{name} best"))
  return {"seed": best["seed"], **{key: result[key] for key in (
      "accuracies", "params", "madds", "architecture")}}


def _first(rows, config, count):
  """Of the searches of a run those with the first seeds, if finished."""
  return [row for row in rows if row["seed"] < config.seed + count]


def dry_run(config: Config, args: argparse.Namespace) -> None:
  """Prints what the experiment would take; DARTS's cells stand for others."""
  estimates = dry_runs.Estimates(args.teraflops)
  dataset = dry_runs.load(
      config.dataset, args.data_dir, image_size=config.image_size,
      train_images=config.train_images)
  once = dataclasses.replace(config.train, seeds=1)
  for name, run in plan(config).items():
    estimates.search(name, pipeline.Job(
        None, dataset, run.method, run.search, once,
        space=run.space or config.space, seed=config.seed, devices=1),
                     run.seeds)
    if run.trained:
      estimates.train(f"{name}: trained", zoo.get("darts"), dataset, once,
                      run.seeds)
  for name in PAPER[6] if 6 in config.tables else ():
    estimates.train(f"{name}: the best trained", zoo.get("darts"), dataset,
                    config.train)
  estimates.show()


def kendall(x: Sequence[float], y: Sequence[float]) -> float | None:
  """Kendall's tau-b, the correlation of two rankings of the same things.

  Returns:
    From -1, reversed, to 1, alike; pairs that are equal in one of them count
    for neither. None where all of one are equal.
  """
  pairs = np.triu_indices(len(x), 1)
  first, second = (np.sign(np.subtract.outer(v, v))[pairs] for v in (x, y))
  scale = math.sqrt(float(first @ first) * float(second @ second))
  return float(first @ second) / scale if scale else None


def chance(n: int) -> float:
  """The deviation of tau of n things whose two rankings are unrelated."""
  return math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1))) if n > 1 else 0.0


# The report.


def readme(config: Config, result: Mapping[str, Any]) -> str:
  """The record in words."""
  make = {1: _table_1, 2: _table_2, 4: _table_4, 6: _table_6}
  lines = [line for table in config.tables
           for line in make[table](config, result)]
  search, train = config.entrannas, config.train
  return "\n".join([
      f"# EnTranNAS on {result['dataset']}", "", *lines,
      f"Searched: {config.image_size}x{config.image_size} pixels,"
      f" {result['train_images']} images, one half for alpha;"
      f" {search.init_channels or 16} channels, {search.cells or 8} cells,"
      f" {search.epochs} epochs, batches of {search.batch_size}, SGD from"
      f" {search.learning_rate:g}, Adam at {search.alpha_learning_rate:g};"
      f" temperature {search.temperature:g}, times"
      f" {search.temperature_decay:g} an epoch. Trained: {train.init_channels}"
      f" channels, {train.cells} cells, {train.epochs} epochs, all images."
      " Figures of the paper are of its own data and settings.", "",
      *recording.in_words(result)])


def _column(rows, key, digits=2, scale=100.0):
  """Mean and deviation of a column, in words."""
  return recording.spread([row[key] for row in rows], digits, scale)


def _of_paper(table, row, i, digits=2):
  """A figure of the paper, where it has one."""
  known = PAPER[table].get(row)
  return f"{known[i]:.{digits}f}" if known else ""


def _table_1(config, result):
  rows = []
  for engines, title in ENGINES.items():
    found = _first(result["runs"].get(engines_run(engines), ()), config,
                   config.searches)
    if not found:
      continue
    lost = [100 * (r["parent_accuracy"] - r["child_accuracy"]) for r in found]
    rows.append([
        title, _column(found, "parent_accuracy"),
        _column(found, "child_accuracy"), recording.spread(lost, 2),
        *(_of_paper(1, engines, i) for i in (0, 1)),
        _column(found, "search_seconds", 0, 1)])
  return ["## Engine cells (Table 1)", "", *recording.table(
      ("Engine cells", "supernet, %", "child, %", "lost, points",
       "supernet of the paper", "child of the paper", "s per search"), rows),
      "", f"Mean ± deviation over {config.searches} searches; the first search"
      " of a row includes compiling.", ""]


def _table_2(config, result):
  rows = []
  for method in PAPER[2]:
    if not (found := result["runs"].get(method)):
      continue
    tau = [result["kendall"][method][key] for key in (
        "parent_accuracy", "child_accuracy")]
    rows.append([
        TITLES[method], *("-" if t is None else f"{t:+.2f}" for t in tau),
        _of_paper(2, method, 0), _column(found, "parent_accuracy"),
        _column(found, "child_accuracy"), _column(found, "accuracy"),
        _column(found, "params", 1, 1e-3), ", ".join(
            str(sum(row["skips"].values())) for row in found)])
  return ["## Search and training (Table 2)", "", *recording.table(
      ("", "Kendall's τ, supernet", "τ, child", "of the paper", "supernet, %",
       "child, %", "trained, test, %", "parameters, K", "skips, by seed"),
      rows), "", f"{config.ranked} searches each, every one trained once. Of so"
      " many whose rankings are unrelated, τ is 0 ±"
      f" {chance(config.ranked):.2f}.", "", "![ranking](ranking.svg)", ""]


def _table_4(config, result):
  rows = []
  for sparsity in config.sparsities:
    found = _first(result["runs"].get(sparsity_run(config, sparsity), ()),
                   config, config.searches)
    if not found:
      continue
    each = lambda key, found=found: ", ".join(
        f"{row[key]['normal']} / {row[key]['reduce']}" for row in found)
    known = PAPER[4].get(sparsity)
    rows.append([
        f"{sparsity:g}", each("edges"), each("connections"),
        _column(found, "params", 1, 1e-3), _column(found, "madds", 2, 1e-6),
        _column(found, "imagenet_params", 2, 1e-6),
        _column(found, "imagenet_madds", 0, 1e-6),
        f"{known[0]} / {known[1]}" if known else "",
        *(_of_paper(4, sparsity, i, d) for i, d in ((2, 2), (3, 0)))])
  return ["## Flexibility (Table 4)", "", *recording.table(
      ("λ", "edges, normal / reduction", "connections", "parameters, K",
       "multiply-adds, M", "for ImageNet: parameters, M", "multiply-adds, M",
       "edges of the paper", "parameters", "multiply-adds"), rows), "",
      f"By search, or mean ± deviation over {config.searches}; of at most"
      f" {_most(config)[0]} edges and {_most(config)[1]} connections of a cell."
      f" For ImageNet: {IMAGENET.init_channels}"
      f" channels, {IMAGENET.cells} cells, 224x224 pixels.", "",
      "![connections over epochs](connections.svg)", ""]


def _most(config):
  """The edges and connections of a cell of the space."""
  space = spaces.get(config.space)
  edges = len(space.graph.normal.edges)
  return edges, edges * (len(space.candidates) - 1)


def _table_6(config, result):
  rows = [[
      TITLES[name], f"{100 - 100 * np.mean(row['accuracies']):.2f} ±"
      f" {_deviation(row['accuracies']):.2f}", f"{row['params'] / 1e6:.3f}",
      f"{_of_paper(6, name, 0)} ± {_of_paper(6, name, 1)}",
      _of_paper(6, name, 2), row["seed"]]
          for name, row in result["best"].items()]
  return ["## The best of several searches (Table 6)", "", *recording.table(
      ("", "test error, %", "parameters, M", "error of the paper",
       "parameters of the paper", "seed"), rows), "",
      f"Of {config.candidates} searches that with the best accuracy of the"
      f" supernet, trained {config.train.seeds} time(s).", ""]


def _deviation(values):
  return 100 * float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def draw(config: Config, result: Mapping[str, Any],
         folder: pathlib.Path) -> None:
  """Draws rankings, and connections over epochs."""
  found = result["runs"]
  for suffix in ("svg", "png"):
    if 2 in config.tables:
      figures.rankings(
          {TITLES[name]: [(100 * row["parent_accuracy"], 100 * row["accuracy"])
                          for row in found[name]]
           for name in PAPER[2] if name in found},
          folder / f"ranking.{suffix}", "accuracy of the supernet, %",
          "test accuracy after training, %")
    if 4 in config.tables:
      figures.over_epochs(
          {f"λ = {sparsity:g}": [
              list(enumerate(row["course"], 1))
              for row in found[sparsity_run(config, sparsity)]]
           for sparsity in config.sparsities
           if sparsity_run(config, sparsity) in found},
          folder / f"connections.{suffix}", "connections", {})


# The command line.


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  recording.add_flags(parser, PRESETS)
  sweeps.add_flags(parser)
  dry_runs.add_flags(parser)
  parser.add_argument("--dataset", help="default: the preset's")
  parser.add_argument("--tables", nargs="+", type=int, choices=TABLES,
                      help="default: the preset's")
  return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
  args = parse(argv)
  natjax.configure_compilation()
  spaces.SPACES.setdefault(SMOKE.name, SMOKE)

  # Config.
  config = PRESETS[args.preset]
  if args.preset == "imagenet":
    raise errors.InputError(
        "preset imagenet holds the paper's settings of Table 7, which this"
        " script does not run; search by natjax search --space darts --preset"
        " imagenet-search, and train what it finds, or choose another preset")
  config = dataclasses.replace(
      config, seed=args.seed, dataset=args.dataset or config.dataset,
      tables=tuple(sorted(set(args.tables or config.tables))))
  if dry_runs.asked(args):
    dry_run(config, args)
    return
  sweep = sweeps.Sweep(__file__, args, argv, dataclasses.asdict(config))
  transforming.say(f"{recording.hardware()}; seed {config.seed};"
                   f" {pipeline.versions()}")

  # Data, search, train, evaluate.
  dataset = transforming.load(
      config.dataset, args.data_dir, image_size=config.image_size,
      train_images=config.train_images, seed=config.seed)
  parts = {name: searches(name, run, config, dataset, sweep.out / name)
           for name, run in plan(config).items()}
  sweep.run([part for some in parts.values() for part in some])
  found = {name: rows for name, some in parts.items()
           if (rows := [*sweep.finished(some).values()])}
  complete = [  # Of which the best is known.
      name for name in (PAPER[6] if 6 in config.tables else ()) if len(_first(
          found.get(name, ()), config, config.candidates)) == config.candidates]
  best = sweep.run([sweeps.Part(f"{name} best", lambda name=name: train_best(
      found[name], name, config, dataset, sweep.out / f"{name}-best"))
                    for name in complete])

  # Report.
  result = {
      "runs": found, "best": {
          name.removesuffix(" best"): row for name, row in best.items()},
      "kendall": {name: {key: kendall(
          [row[key] for row in found[name]],
          [row["accuracy"] for row in found[name]])
          for key in ("parent_accuracy", "child_accuracy")}
          for name in (PAPER[2] if 2 in config.tables else ())
          if name in found},
      "dataset": dataset.name, "train_images": len(dataset.train_labels),
      "config": dataclasses.asdict(config),
      **sweep.circumstances()}
  folder = args.report or sweep.out / "report"
  folder.mkdir(parents=True, exist_ok=True)
  draw(config, result, folder)
  transforming.report(folder, result, readme(config, result))
  sweep.end()


if __name__ == "__main__":
  recording.run(main)
