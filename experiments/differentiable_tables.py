"""What the experiments on differentiable transformation share.

Paper: "Differentiable Neural Architecture Transformation", section 4. Every
network is trained as it is, as what NAT makes of it, and as what the
differentiable transformation makes of it, blocks or cells decided on together
("Cell") or each by itself ("Full"); all of them by the same settings, once per
seed. Of NAT, every seed is a search of its own and one training. "NAT,
published" has the authors' policy and trains what it draws, even where the
supernet prefers the given network; "NAT, default" is this library's.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import dry_runs
import numpy as np
import recording
import sweeps
import transforming

import natjax
from natjax import data as data_lib
from natjax import drawing, errors, pipeline, zoo
from natjax.costs import exact as cost_lib
from natjax.graph import blocks, codec, genotype, records
from natjax.methods import differentiable, nat, supervised
from natjax.pipeline import run_files
from natjax.training import settings as settings_lib

KINDS = {"original": "original", "published": "NAT, published",
         "nat": "NAT, default", "cell": "Cell", "full": "Full"}


class Entry(NamedTuple):
  """How a network takes part.

  Attributes:
    kinds: its rows, of `KINDS`.
    share: which blocks NAT decides on together, "cell" or "full".
    searched: whether it was found by a search; it is trained with cutout then.
  """

  kinds: tuple[str, ...] = tuple(KINDS)
  share: str = "cell"
  searched: bool = False


NETWORKS = {
    "resnet20": Entry(),
    "mobilenetv2": Entry(),
    "darts": Entry(searched=True),
    # A chain of unlike blocks: nothing to decide on together.
    "proxyless-cpu": Entry(("original", "published", "nat", "full"),
                           share="full", searched=True),
}


class Published(NamedTuple):
  """A row of the paper's tables.

  Attributes:
    accuracy: mean over five seeds, %.
    deviation: likewise.
    hours: of a GPU.
    seeds: accuracies by seed, %, where the paper has them.
  """

  accuracy: float
  deviation: float
  hours: float
  seeds: tuple[float, ...] = ()


Paper = Mapping[str, Mapping[str, Published]]


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of an experiment.

  Attributes:
    datasets: names or paths of the data sets.
    networks: of `NETWORKS`.
    kinds: of `KINDS`.
    width: factor of the widths of networks of blocks.
    blocks: numbers of the blocks to keep of them; none keeps all.
    cells: (channels, cells) around genotypes.
    search_cells: likewise, of NAT's supernet.
    image_size: side to which images are brought.
    train_images: how many training images to use, drawn; 0 is all.
    published: of NAT with the authors' policy.
    nat: of NAT as the library has it.
    theta: of the differentiable transformation.
    train: of every network, without what depends on the network.
    epochs: of networks that are trained for longer or shorter than the others;
      theta's share of them stays the same.
    cutout: side in pixels, for networks found by a search; 0 is none.
    seed: the first of `train.seeds`.
  """

  datasets: tuple[str, ...]
  networks: tuple[str, ...]
  width: float
  cells: tuple[int, int]
  search_cells: tuple[int, int]
  image_size: int
  train_images: int
  published: nat.NATConfig
  nat: nat.NATConfig
  theta: differentiable.DifferentiableConfig
  train: supervised.TrainConfig
  kinds: tuple[str, ...] = tuple(KINDS)
  blocks: tuple[int, ...] = ()
  epochs: dict[str, int] = dataclasses.field(default_factory=dict)
  cutout: int = 0
  seed: int = 0


class Case(NamedTuple):
  """A network on a data set, and how everything of it is run.

  Attributes:
    name: of the network.
    network: itself; one of blocks is padded, so that all rows are alike.
    dataset: the images.
    config: of the experiment.
    train: of this network.
    out: folder of the parts.
  """

  name: str
  network: codec.Architecture
  dataset: data_lib.Dataset
  config: Config
  train: supervised.TrainConfig
  out: pathlib.Path

  @property
  def seeds(self) -> range:
    """All seeds."""
    return range(self.config.seed, self.config.seed + self.train.seeds)


def build(
    name: str, config: Config
) -> tuple[codec.Architecture, supervised.TrainConfig]:
  """A network as the settings want it, and how it is trained."""
  network = zoo.get(name)
  train = dataclasses.replace(
      config.train, epochs=config.epochs.get(name, config.train.epochs),
      cutout=config.cutout if NETWORKS[name].searched else 0)
  if network.kind != "blocks":
    return network, dataclasses.replace(
        train, init_channels=config.cells[0], cells=config.cells[1])
  network = blocks.scale(network, config.width)
  if config.blocks:
    network = network._replace(
        blocks=tuple(network.blocks[i] for i in config.blocks))
  return (blocks.pad(blocks.check(network)),
          dataclasses.replace(train, **supervised.OF_CELLS))


def compare(
    name: str, dataset: data_lib.Dataset, config: Config, out: pathlib.Path
) -> dict[str, dict[str, Any]]:
  """Trains everything of one network; returns a row per kind."""
  network, train = build(name, config)
  case = Case(name, network, dataset, config, train, out)
  found = {}
  for kind in config.kinds:
    if kind not in NETWORKS[name].kinds:
      continue
    try:
      job = job_of(case, kind)
    except errors.InputError as error:
      if kind != "published":  # Which cannot look at every network.
        raise
      found[kind] = {"refused": str(error)}
      continue
    if kind in ("published", "nat"):
      networks = [_nat(case, kind, seed) for seed in case.seeds]
    else:
      job.run(out / kind, listener=transforming.listener(f"{name} {kind}"))
      title = "network" if kind == "original" else "transformed"
      networks = [_trained(out / kind, f"{title}-{seed}")
                  for seed in case.seeds]
    found[kind] = _row(case, job.architecture, networks,
                       len(job.trainer.devices))
  return found


def estimate(estimates: dry_runs.Estimates, name: str,
             dataset: data_lib.Dataset, config: Config) -> None:
  """Adds what `compare` takes."""
  network, train = build(name, config)
  case = Case(name, network, dataset, config, train, pathlib.Path())
  for kind in config.kinds:
    what = f"{name}: {KINDS[kind]}"
    if kind not in NETWORKS[name].kinds:
      continue
    try:
      job = job_of(case, kind, devices=1)
    except errors.InputError:
      if kind != "published":
        raise
      continue
    if kind == "original":
      estimates.add(what, job.estimate(estimates.teraflops))
      continue
    runs = 1 if kind in ("cell", "full") else len(case.seeds)
    found = estimates.search(what, job, runs)
    if kind in ("published", "nat"):
      estimates.add(f"{what}, trained", found["train"], runs)


def job_of(case: Case, kind: str, devices: int | None = None
           ) -> pipeline.Job | pipeline.TrainJob:
  """The job of a row; of NAT, that of the first seed.

  Raises:
    InputError: the published policy cannot look at the network.
  """
  config, network, train = case.config, case.network, case.train
  if kind == "original":
    return pipeline.TrainJob(network, case.dataset, train, seed=config.seed,
                             devices=devices)
  if kind in ("published", "nat"):
    settings = _nat_settings(case, kind, config.seed)
    return pipeline.Job(
        network, case.dataset, "nat", settings.search, settings.train,
        share=settings.share, seed=settings.seed, devices=devices)
  if kind == "full" and network.kind != "blocks":
    full = supervised.resolve(train, "cells")
    network = genotype.unshared(network, records.Skeleton(
        full.skeleton, full.init_channels, full.cells))._replace(
            name=case.name)
    train = dataclasses.replace(train, **supervised.OF_CELLS)
  epochs = max(1, config.theta.architecture_epochs * train.epochs
               // config.train.epochs)
  return pipeline.Job(
      network, case.dataset, "differentiable",
      dataclasses.replace(config.theta, architecture_epochs=epochs), train,
      share=kind, seed=config.seed, compare=False, devices=devices)


def _nat_settings(case, kind, seed):
  """How NAT transforms the network with a seed."""
  search = getattr(case.config, kind)
  if case.network.kind != "blocks":
    channels, cells = case.config.search_cells
    search = dataclasses.replace(search, init_channels=channels, cells=cells)
  return transforming.Settings(
      search, dataclasses.replace(case.train, seeds=1), seed,
      NETWORKS[case.name].share)


def _nat(case, kind, seed):
  """One search and training; the seconds are those of both."""
  folder = case.out / kind / f"seed-{seed}"
  settings = _nat_settings(case, kind, seed)
  title = f"{case.name} {kind} seed {seed}"
  result = transforming.transform(
      title, case.network, "nat", case.dataset, settings, folder,
      case.out / "original")
  drawn = [c for c in result["candidates"] if not c["original"]]
  chosen = next(c for c in result["candidates"] if c["chosen"])
  if not chosen["original"]:
    found = _trained(folder, f"transformed-{seed}")
  elif kind == "published" and drawn:
    best = max(drawn, key=lambda c: c["score"])
    folder = case.out / kind / f"seed-{seed}-drawn"
    transforming.train(
        f"{title} drawn", codec.from_dict(best["architecture"]), case.dataset,
        settings, folder)
    found = _trained(folder, f"network-{seed}")
  else:
    found = _trained(folder, f"original-{seed}")
  return {**found, "seconds": found["seconds"] + result["search_seconds"]}


def _trained(folder, name):
  """What a run says of one of its trained networks."""
  return recording.read(folder / run_files.NETWORKS / name / run_files.RESULT)


def _row(case, before, networks, devices):
  """The row of what was trained, from `before`, seed by seed."""
  seeds = []
  for seed, network in zip(case.seeds, networks, strict=True):
    architecture = codec.from_dict(network["architecture"])
    is_blocks = architecture.kind == "blocks"
    place = (records.Frame if is_blocks else records.Skeleton)(
        **network["place"])
    cost = cost_lib.network(architecture, place)
    seeds.append({
        "seed": seed, "accuracy": network["accuracy"], "params": cost.params,
        "madds": cost.madds,
        "changes": len(drawing.changes(before, architecture)),
        "hours": network["seconds"] * devices / 3600,
        "architecture": network["architecture"], "place": network["place"]})
  return _joined(seeds)


def _joined(seeds):
  """A row of several seeds."""
  mean = lambda key: float(np.mean([s[key] for s in seeds]))
  return {
      "accuracies": [s["accuracy"] for s in seeds],
      "accuracy": mean("accuracy"),
      "accuracy_std": float(np.std([s["accuracy"] for s in seeds], ddof=1))
      if len(seeds) > 1 else 0.0,
      **{key: mean(key) for key in ("params", "madds", "changes", "hours")},
      "seeds": seeds}


def readme(
    title: str, config: Config, paper: Paper, result: dict[str, Any]
) -> str:
  """The record in words."""
  lines = []
  for name, networks in result["datasets"].items():
    rows, by_seed, refused = [], [], []
    for network, kinds in networks.items():
      for i, (kind, row) in enumerate(kinds.items()):
        head = ["" if i else network, KINDS[kind]]
        known = paper.get(network, {}).get(kind)
        if "refused" in row:
          refused.append(f"- {network}, {KINDS[kind]}: {row['refused']}")
        rows.append([*head, *_summary(row, known)])
        by_seed.append([*head, *_by_seed(row, known, config.train.seeds)])
    lines += [
        f"## {name}", "", *recording.table(
            ("network", "", "test accuracy, %", "of the paper",
             "parameters, K", "multiply-adds, M", "edges changed, by seed",
             "device hours", "of the paper"), rows), "",
        "Test accuracy by seed, %:", "", *recording.table(
            ("network", "", *(str(config.seed + i)
                              for i in range(config.train.seeds)),
             "of the paper"), by_seed), ""]
    if refused:
      lines += ["\"-\" is where natjax refuses:", "", *refused, ""]
  train, theta = config.train, config.theta
  longer = "".join(f" ({name}: {epochs})"
                   for name, epochs in config.epochs.items())
  of_nat = searches = ""
  if {"published", "nat"} & {*config.kinds}:
    of_nat = (" Those of NAT include its search. \"NAT, published\" trains what"
              " the authors' policy draws; \"NAT, default\" keeps the given"
              " network where the supernet prefers it.")
    searches = (f" NAT: {_search_in_words(config.published)} (published);"
                f" {_search_in_words(config.nat)} (default).")
  return "\n".join([
      f"# {title}", "",
      "Accuracy is the mean ± deviation over"
      f" {train.seeds} seed(s); parameters, multiply-adds and device hours are"
      " means. A part that was stopped counts its hours from where it went"
      f" on.{of_nat} An edge that changes alike in several blocks is counted"
      " once. Figures of the paper are of its own data and settings (preset"
      " `paper`).", "", *lines,
      f"Trained: {config.width:g} times the widths of networks of blocks,"
      f" genotypes with {config.cells[0]} channels and {config.cells[1]} cells,"
      f" {config.image_size}x{config.image_size} pixels,"
      f" {config.train_images or 'all'} images, {train.epochs} epochs{longer}"
      f" at a rate of {train.learning_rate:g}. Theta:"
      f" {theta.theta_optimizer} at {theta.theta_learning_rate:g} for the first"
      f" {theta.architecture_epochs} of these epochs.{searches}", "",
      *([result["note"], ""] if result.get("note") else []),
      *recording.in_words(result)])


def _summary(row, known):
  """A row's cells, with those of the paper."""
  accuracy = (f"{known.accuracy:.2f} ± {known.deviation:.2f}" if known else "")
  hours = f"{known.hours:g}" if known else ""
  if "refused" in row:
    return ["-", accuracy, "-", "-", "-", "-", hours]
  changes = [s["changes"] for s in row["seeds"]]
  return [
      recording.spread(row["accuracies"], 2, 100), accuracy,
      f"{row['params'] / 1e3:.1f}", f"{row['madds'] / 1e6:.2f}",
      ", ".join(map(str, changes)) if any(changes) else 0,
      f"{row['hours']:.3g}", hours]


def _by_seed(row, known, count):
  """Accuracies seed by seed, with those of the paper."""
  ours = (["-"] * count if "refused" in row
          else [f"{100 * value:.2f}" for value in row["accuracies"]])
  return [*ours, ", ".join(f"{v:g}" for v in known.seeds) if known else ""]


def _search_in_words(search):
  """A search's length."""
  return (f"{search.epochs} epochs, {search.warmup_epochs} of them for the"
          f" weights alone, {search.candidates} candidate(s)")


def main(
    script: str, title: str, presets: Mapping[str, Config], paper: Paper,
    argv: Sequence[str] | None,
) -> None:
  """Runs or resumes an experiment and records it.

  Args:
    script: name of its file.
    title: of the record.
    presets: settings by name.
    paper: rows of its tables, by network and kind.
    argv: the command line; None is the process's.
  """
  args = _parse(script, title, presets, argv)
  if args.merge:
    _merge(title, presets[args.preset], paper, args)
    return
  natjax.configure_compilation()

  # Config.
  config = _configured(presets[args.preset], args)
  for name in config.networks:
    build(name, config)  # What cannot be built is said before anything runs.
  if dry_runs.asked(args):
    dry_runs.over_datasets(config, args, functools.partial(
        estimate, config=config))
    return
  sweep = sweeps.Sweep(str(pathlib.Path(__file__).with_name(script)), args,
                       argv, dataclasses.asdict(config))
  transforming.say(f"{recording.hardware()}; seed {config.seed};"
                   f" {pipeline.versions()}")

  # Data, search, train, evaluate.
  found = transforming.over_datasets(
      config, args, sweep, lambda network, dataset, folder: compare(
          network, dataset, config, folder))

  # Report.
  result = {
      "datasets": found, "config": dataclasses.asdict(config),
      "note": args.note,
      "paper": {network: {kind: row._asdict() for kind, row in rows.items()}
                for network, rows in paper.items()},
      **sweep.circumstances()}
  transforming.report(args.report or sweep.out / "report", result,
                      readme(title, config, paper, result))
  sweep.end()


def _merge(title, preset, paper, args):
  """Joins the records of runs that differ in their seeds and rows alone.

  Raises:
    InputError: they differ in more, or the same seed was run twice.
  """
  parts = [recording.read(folder / "result.json") for folder in args.merge]
  own = lambda config: {**config, "seed": 0, "kinds": [],
                        "train": {**config["train"], "seeds": 0}}
  for folder, part in zip(args.merge, parts, strict=True):
    if own(part["config"]) != own(parts[0]["config"]):
      raise errors.InputError(f"{folder} holds a record of other settings than"
                              f" {args.merge[0]}; merge runs of the same")
  found: dict[str, Any] = {}
  for part in parts:
    for dataset, networks in part["datasets"].items():
      for network, kinds in networks.items():
        for kind, row in kinds.items():
          place = found.setdefault(dataset, {}).setdefault(network, {})
          place.setdefault(kind, []).extend(row.get("seeds", []))
  kinds = [kind for kind in KINDS if any(
      kind in rows for networks in found.values()
      for rows in networks.values())]
  numbers = sorted({s["seed"] for networks in found.values()
                    for rows in networks.values()
                    for seeds in rows.values() for s in seeds})
  for networks in found.values():
    for network, rows in networks.items():
      for kind, seeds in rows.items():
        if sorted(s["seed"] for s in seeds) != numbers:
          raise errors.InputError(
              f"{network}, {kind}: seeds {[s['seed'] for s in seeds]} of"
              f" {numbers} are there; merge one run of each")
      networks[network] = {
          kind: _joined(sorted(rows[kind], key=lambda s: s["seed"]))
          for kind in kinds if kind in rows}
  first = parts[0]["config"]
  config = dataclasses.replace(
      preset, seed=numbers[0], kinds=tuple(kinds), epochs=first["epochs"],
      theta=differentiable.DifferentiableConfig(
          **{"held_out": 0.0, **first["theta"]}),  # Of records from before.
      train=supervised.TrainConfig(
          **{**first["train"], "seeds": len(numbers)}))
  result = {
      **parts[0], "datasets": found, "config": dataclasses.asdict(config),
      "note": args.note,
      "command": "`, `".join(part["command"] for part in parts),
      "seconds": sum(part["seconds"] for part in parts),
      "hardware": "; ".join(sorted({part["hardware"] for part in parts}))}
  transforming.report(args.report or args.out, result,
                      readme(title, config, paper, result))


def _parse(script, title, presets, argv):
  """Reads the command line."""
  parser = recording.Parser(prog=script, description=title)
  recording.add_flags(parser, presets)
  sweeps.add_flags(parser)
  dry_runs.add_flags(parser)
  parser.add_argument("--networks", nargs="+", choices=tuple(NETWORKS),
                      help="default: the preset's")
  parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS),
                      help="rows; default: the preset's")
  parser.add_argument("--theta-learning-rate", type=float,
                      help="default: the preset's")
  parser.add_argument("--note", default="", help="a line for the record")
  parser.add_argument("--merge", nargs="+", type=pathlib.Path,
                      metavar="REPORT", help="run nothing, and join records of"
                      " other seeds and rows, with the same --preset")
  parser.add_argument("--epochs", type=recording.at_least(1),
                      help="of every training, theta's share of them as it is;"
                      " default: the preset's")
  parser.add_argument("--seeds", type=recording.at_least(1),
                      help="how many; default: the preset's")
  return parser.parse_args(argv)


def _configured(config, args):
  """A preset's settings with what the arguments change of them."""
  theta, train = config.theta, config.train
  if args.theta_learning_rate is not None:
    theta = dataclasses.replace(
        theta, theta_learning_rate=args.theta_learning_rate)
    settings_lib.not_negative(theta, "theta_learning_rate")
  if args.epochs is not None:
    theta = dataclasses.replace(theta, architecture_epochs=max(
        1, theta.architecture_epochs * args.epochs // train.epochs))
    train = dataclasses.replace(train, epochs=args.epochs)
    config = dataclasses.replace(config, epochs={})
  if args.seeds is not None:
    train = dataclasses.replace(train, seeds=args.seeds)
  return dataclasses.replace(
      config, seed=args.seed, theta=theta, train=train,
      networks=tuple(args.networks or config.networks),
      kinds=tuple(args.kinds or config.kinds))
