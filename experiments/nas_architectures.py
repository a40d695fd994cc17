"""Architectures that were found by search, transformed: Table 3.

Paper: Guo et al., 2021, "Towards Accurate and Compact Architectures via Neural
Architecture Transformer", section 5.4. ENAS, DARTS, NAONet and PC-DARTS, each:
the original; what NAT and NAT++ make of it here; and the transformed genotypes
that the authors published (none for PC-DARTS, whose original is that of its
own authors). All are trained from scratch, alike, on CIFAR-10 and CIFAR-100.
The original is trained once for both methods.

`--representations` transforms each network in a second graph of the same
function, too, its nodes in another order and each node's edges exchanged:
section 5.2 says that results are stable across such graphs.

Commands, with DATA a folder that holds cifar10.npz or another form that
`natjax.data.load` finds:
  python experiments/nas_architectures.py --preset smoke --out runs/smoke
  python experiments/nas_architectures.py --preset small --networks darts \
      --data-dir DATA --out runs/nas \
      --report experiments/results/nas_architectures
  python experiments/nas_architectures.py --preset paper --data-dir DATA \
      --out runs/nas_paper
Hardware and time: `smoke` two minutes; `small` was made for half an hour per
network on 2 CPU cores and took 41 minutes where other work had more than half
of them; `paper` one accelerator and weeks: 18 trainings of 600 epochs per data
set and seed, 3 seeds.
Expected, preset `paper` (Table 3, CIFAR-10 / CIFAR-100, %): DARTS 97.06 /
83.03, NAT 97.28 / 83.49, NAT++ 97.30 / 83.56; not run here. Some of the paper's
costs are of other skeletons than C=36 with 20 cells (ENAS, NAONet); the columns
"at C=36" give ours.

A stopped run goes on by the same command.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import functools
import pathlib
from typing import Any

import dry_runs
import recording
import sweeps
import transforming

import natjax
from natjax import data as data_lib
from natjax import pipeline, zoo
from natjax.costs import exact as cost_lib
from natjax.graph import codec
from natjax.graph import genotype as architecture
from natjax.graph import skeleton as skeleton_lib
from natjax.methods import nat, supervised
from natjax.pipeline import presets

# Of every network, what the authors published as made of it.
NETWORKS = {
    "enas": {"nat": "nat_enas", "natpp": "natv2_enas"},
    "darts": {"nat": "nat_darts", "natpp": "natv2_darts"},
    "naonet": {"nat": "nat_naonet", "natpp": "natv2_naonet"},
    "pc_darts_cifar": {},
}
KINDS = {**transforming.KINDS, "nat_another_graph": "NAT, another graph",
         "natpp_another_graph": "NAT++, another graph"}


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the experiment.

  Attributes:
    datasets: names or paths of the data sets.
    networks: of `NETWORKS`.
    representations: whether to transform a second graph of each network.
    image_size: side to which images are brought.
    train_images: how many training images to use, drawn; 0 is all.
    search: of NAT and of NAT++.
    train: of every network.
    seed: of everything random.
  """

  datasets: tuple[str, ...]
  networks: tuple[str, ...]
  representations: bool
  image_size: int
  train_images: int
  search: nat.NATConfig
  train: supervised.TrainConfig
  seed: int = 0


PRESETS = {
    "smoke": Config(
        datasets=("digits",), networks=("darts",), representations=False,
        image_size=8,
        train_images=128,
        search=nat.NATConfig(
            init_channels=2, cells=1, epochs=2, warmup_epochs=1, batch_size=32,
            samples=2, candidates=3, weights_fraction=0.5,
            prefer="accuracy", held_out=0.0),
        train=supervised.TrainConfig(
            init_channels=2, cells=1, epochs=1, batch_size=32, auxiliary=False,
            drop_path=0.0, cutout=0)),
    "small": Config(
        datasets=("cifar10",), networks=tuple(NETWORKS),
        representations=False, image_size=16,
        train_images=8000,
        search=nat.NATConfig(
            init_channels=8, cells=3, epochs=8, warmup_epochs=5,
            batch_size=64, learning_rate=0.05, final_learning_rate=0.005,
            max_grad_norm=5.0, policy_learning_rate=1e-3, samples=4,
            candidates=10, weights_fraction=0.5,
            held_out=0.2),
        train=supervised.TrainConfig(
            init_channels=8, cells=3, epochs=4, batch_size=64,
            learning_rate=0.05, auxiliary=False, drop_path=0.0, cutout=0)),
    "paper": Config(
        datasets=("cifar10", "cifar100"), networks=tuple(NETWORKS),
        representations=False, image_size=32, train_images=0,
        search=presets.get("paper").search, train=presets.get("paper").train),
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  recording.add_flags(parser, PRESETS)
  sweeps.add_flags(parser)
  transforming.add_flags(parser, NETWORKS)
  dry_runs.add_flags(parser)
  return parser.parse_args(argv)


def another_graph(
    genotype: architecture.Genotype,
) -> architecture.Genotype:
  """Another graph of the same function.

  The two edges of every node change places, and nodes that do not depend on
  each other change their order where the cell leaves a choice.
  """
  return architecture.check(architecture.Genotype(*map(_renumbered, genotype)))


def _renumbered(cell: architecture.Cell) -> architecture.Cell:
  first = architecture.NUM_INPUTS
  order, waiting = list(range(first)), set(
      range(first, first + cell.num_nodes))
  while waiting:  # Of the nodes whose sources are placed, the last comes next.
    order.append(max(n for n in waiting if all(
        e.source in order for e in cell.incoming(n))))
    waiting.remove(order[-1])
  number = {old: new for new, old in enumerate(order)}
  return architecture.Cell(
      tuple(architecture.Edge(e.operation, number[e.source], number[n])
            for n in order[first:] for e in reversed(cell.incoming(n))),
      tuple(number[n] for n in cell.concat))


def compare(
    network: str, dataset: data_lib.Dataset, config: Config, out: pathlib.Path
) -> dict[str, Any]:
  """Trains everything of one network; returns a row per kind."""
  settings = transforming.Settings(config.search, config.train, config.seed)
  genotype = zoo.get(network)
  found = transforming.both(network, genotype, dataset, settings, out)
  for method, name in NETWORKS[network].items():
    kind = f"published_{method}"
    found[kind] = transforming.train(
        name, zoo.get(name), dataset, settings, out / kind)
  if config.representations:
    other = transforming.both(
        f"{network} in another graph", another_graph(genotype), dataset,
        settings, out / "another_graph")
    for method in ("nat", "natpp"):
      found[f"{method}_another_graph"] = other[method]
  for row in found.values():
    cost = cost_lib.network(codec.from_dict(row["architecture"]),
                            skeleton_lib.Skeleton())
    row |= {"params_c36": cost.params, "madds_c36": cost.madds}
  return {kind: found[kind] for kind in KINDS if kind in found}


def estimate(
    estimates: dry_runs.Estimates, network: str, dataset: data_lib.Dataset,
    config: Config) -> None:
  """Adds what `compare` takes."""
  settings = transforming.Settings(config.search, config.train, config.seed)
  for name, given in ((network, zoo.get(network)), *([
      (f"{network} in another graph", another_graph(zoo.get(network)))]
          if config.representations else [])):
    estimates.both(name, given, dataset, settings)
  for name in NETWORKS[network].values():
    estimates.train(name, zoo.get(name), dataset, config.train)


def readme(config: Config, result: dict[str, Any]) -> str:
  """The record in words."""
  lines = []
  for name, networks in result["datasets"].items():
    rows = [
        [network if kind == "original" else "", KINDS[kind],
         f"{row['params'] / 1e3:.1f}", f"{row['madds'] / 1e6:.2f}",
         f"{row['params_c36'] / 1e6:.2f}", f"{row['madds_c36'] / 1e6:.0f}",
         recording.spread(row["accuracies"], 2, 100), row.get("changes", "")]
        for network, kinds in networks.items() for kind, row in kinds.items()]
    lines += [f"## {name}", "", *recording.table(
        ("network", "", "parameters, K", "multiply-adds, M",
         "parameters at C=36, M", "multiply-adds at C=36, M",
         "test accuracy, %", "edges changed"), rows), ""]
  train, search = config.train, config.search
  return "\n".join([
      "# NAS architectures, transformed", "",
      "\"Published\" are the genotypes that the authors released, retrained"
      " here; accuracy is the mean ± deviation over"
      f" {train.seeds} seed(s).", "", *lines,
      f"Trained: {train.init_channels} channels, {train.cells} cells,"
      f" {config.image_size}x{config.image_size} pixels,"
      f" {config.train_images or 'all'} images, {train.epochs} epochs."
      f" Searched: {search.init_channels} channels, {search.cells} cells,"
      f" {search.epochs} epochs ({search.warmup_epochs} of them for the weights"
      " alone).", "", *recording.in_words(result)])


def main(argv: Sequence[str] | None = None) -> None:
  args = parse(argv)
  natjax.configure_compilation()

  # Config.
  config = transforming.configured(PRESETS[args.preset], args)
  if dry_runs.asked(args):
    dry_runs.over_datasets(config, args, functools.partial(
        estimate, config=config))
    return
  sweep = sweeps.Sweep(__file__, args, argv, dataclasses.asdict(config))
  transforming.say(f"{recording.hardware()}; seed {config.seed};"
                   f" {pipeline.versions()}")

  # Data, search, train, evaluate.
  found = transforming.over_datasets(
      config, args, sweep, lambda network, dataset, folder: compare(
          network, dataset, config, folder))

  # Report.
  result = {
      "datasets": found, "config": dataclasses.asdict(config),
      **sweep.circumstances()}
  transforming.report(args.report or sweep.out / "report", result,
                      readme(config, result))
  sweep.end()


if __name__ == "__main__":
  recording.run(main)
