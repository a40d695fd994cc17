"""Hand-crafted networks, transformed: Table 1.

Paper: Guo et al., 2021, "Towards Accurate and Compact Architectures via Neural
Architecture Transformer", section 5.2. VGG16, ResNet20, ResNet56, ShuffleNet
and MobileNetV2, each: the original; what NAT and NAT++ make of the real network
here, padded with null edges to two inputs per node; and the cells that the
authors published, of a residual block, VGG and MobileNetV2, which stand in a
cell skeleton instead. All are trained from scratch, alike, on CIFAR-10 and
CIFAR-100.

`--representations` transforms each network in a second graph of the same
function, too, every block beginning with a node that repeats its input, as the
authors' encoding has it: section 5.2 says that results are stable across such
graphs.

Commands, with DATA a folder that holds cifar10.npz or another form that
`natjax.data.load` finds:
  python experiments/handcrafted.py --preset smoke --out runs/smoke
  python experiments/handcrafted.py --preset small --networks resnet20 \
      --data-dir DATA --out runs/handcrafted \
      --report experiments/results/handcrafted
  python experiments/handcrafted.py --preset paper --data-dir DATA \
      --out runs/handcrafted_paper
Hardware and time: `smoke` a minute or two, `small` ten minutes for
ResNet20 on 2 CPU cores, `paper` one accelerator and weeks.
Expected, preset `paper` (Table 1, CIFAR-10 / CIFAR-100, %): ResNet20 91.37 /
68.88, NAT 93.05 / 71.67, NAT++ 93.23 / 71.97; not run here.

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
from natjax.graph import blocks, records
from natjax.graph import shapes as shapes_lib
from natjax.methods import nat, supervised
from natjax.pipeline import presets

# Of every network, the cells that the authors published for its like.
NETWORKS = {
    "vgg16": ("vgg-cell", "nat_vgg", "natv2_vgg"),
    "resnet20": ("resblock-cell", "nat_resblock", "natv2_resblock"),
    "resnet56": (),
    "shufflenet": (),
    "mobilenetv2": ("mobilenetv2-cell", "nat_mobilenetv2",
                    "natv2_mobilenetv2"),
}


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the experiment.

  Attributes:
    datasets: names or paths of the data sets.
    networks: of `NETWORKS`.
    representations: whether to transform a second graph of each network.
    width: factor of the networks' widths.
    blocks: numbers of the blocks to keep; none keeps all.
    image_size: side to which images are brought.
    train_images: how many training images to use, drawn; 0 is all.
    search: of NAT and of NAT++.
    train: of every network.
    cells: channels and number of cells around the published cells; none leaves
      them out.
    seed: of everything random.
  """

  datasets: tuple[str, ...]
  networks: tuple[str, ...]
  representations: bool
  width: float
  blocks: tuple[int, ...]
  image_size: int
  train_images: int
  search: nat.NATConfig
  train: supervised.TrainConfig
  cells: tuple[int, int] | None
  seed: int = 0


_PAPER = presets.get("paper", zoo.get("resnet20"))
PRESETS = {
    "smoke": Config(
        datasets=("digits",), networks=("resnet20",), representations=False,
        width=0.25, blocks=(0, 3), image_size=8, train_images=128,
        search=nat.NATConfig(
            epochs=2, warmup_epochs=1, batch_size=32, samples=2, candidates=3,
            weights_fraction=0.5,
            prefer="accuracy", held_out=0.0),
        train=supervised.TrainConfig(epochs=1, batch_size=32, cutout=0),
        cells=(2, 1)),
    "small": Config(
        datasets=("cifar10",), networks=tuple(NETWORKS),
        representations=False, width=0.5, blocks=(), image_size=16,
        train_images=8000,
        search=nat.NATConfig(
            epochs=12, warmup_epochs=8, batch_size=64, learning_rate=0.05,
            final_learning_rate=0.005,
            max_grad_norm=5.0, policy_learning_rate=2e-4, samples=4,
            entropy_weight=0.03, candidates=20, weights_fraction=0.5,
            held_out=0.2),
        train=supervised.TrainConfig(
            epochs=6, batch_size=64, learning_rate=0.1, final_learning_rate=0.0,
            cutout=0, seeds=2),
        cells=None),
    "paper": Config(
        datasets=("cifar10", "cifar100"), networks=tuple(NETWORKS),
        representations=False, width=1.0, blocks=(), image_size=32,
        train_images=0, search=_PAPER.search, train=_PAPER.train,
        cells=(36, 20)),
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  recording.add_flags(parser, PRESETS)
  sweeps.add_flags(parser)
  transforming.add_flags(parser, NETWORKS)
  dry_runs.add_flags(parser)
  parser.add_argument("--share", choices=("cell", "full"), default="cell")
  return parser.parse_args(argv)


def build(name: str, config: Config) -> records.BlockNetwork:
  """The network, narrowed and cut as the settings say."""
  network = blocks.scale(zoo.get(name), config.width)
  if config.blocks:
    network = network._replace(
        blocks=tuple(network.blocks[i] for i in config.blocks))
  return blocks.check(network)


def with_input_nodes(network: records.BlockNetwork) -> records.BlockNetwork:
  """Another graph of the same function.

  Every block begins with a node that repeats its input, from which the block's
  other edges come, as the authors' encoding of a residual block has it.
  """
  changed = []
  for block, shapes in zip(network.blocks, shapes_lib.of(
      network, records.Frame()), strict=True):
    shift = lambda n: n + 1 if n >= records.NUM_INPUTS else n
    edges = [records.Edge("skip_connect", 1, 2), *(
        records.Edge(e.operation, 2 if e.source == 1 else shift(e.source),
                     shift(e.target)) for e in block.edges)]
    changed.append(records.Block(
        (records.Node(shapes.nodes[1].width), *block.nodes), tuple(edges),
        tuple(map(shift, block.concat))))
  return blocks.check(network._replace(blocks=tuple(changed)))


def compare(
    name: str, dataset: data_lib.Dataset, config: Config, share: str,
    out: pathlib.Path,
) -> dict[str, Any]:
  """Trains everything of one network; returns a row per kind."""
  network = build(name, config)
  settings = transforming.Settings(
      config.search, config.train, config.seed, share)
  found = {transforming.KINDS[kind]: row for kind, row in transforming.both(
      name, network, dataset, settings, out / "real").items()}
  if config.representations:
    other = transforming.both(
        f"{name} with input nodes", with_input_nodes(network), dataset,
        settings, out / "with_input_nodes")
    for kind in ("nat", "natpp"):
      found[f"{transforming.KINDS[kind]}, another graph"] = other[kind]
  if config.cells is not None:
    settings = dataclasses.replace(settings, train=_around(config))
    for cell in NETWORKS[name]:
      found[f"cell: {cell}"] = transforming.train(
          cell, zoo.get(cell), dataset, settings, out / cell)
  return found


def _around(config):
  """How the published cells are trained."""
  return dataclasses.replace(
      config.train, skeleton="cifar", init_channels=config.cells[0],
      cells=config.cells[1], auxiliary=False, drop_path=0.0)


def estimate(estimates: dry_runs.Estimates, name: str,
             dataset: data_lib.Dataset, config: Config, share: str) -> None:
  """Adds what `compare` takes."""
  network = build(name, config)
  settings = transforming.Settings(
      config.search, config.train, config.seed, share)
  estimates.both(name, network, dataset, settings)
  if config.representations:
    estimates.both(f"{name} with input nodes", with_input_nodes(network),
                   dataset, settings)
  for cell in NETWORKS[name] if config.cells is not None else ():
    estimates.train(cell, zoo.get(cell), dataset, _around(config))


def readme(config: Config, share: str, result: dict[str, Any]) -> str:
  """The record in words."""
  lines = []
  for name, networks in result["datasets"].items():
    rows = [
        [network if kind == "original" else "", kind,
         f"{row['params'] / 1e3:.1f}", f"{row['madds'] / 1e6:.2f}",
         recording.spread(row["accuracies"], 2, 100), row.get("changes", ""),
         f"{100 * row['original_score']:.1f} → {100 * row['score']:.1f}"
         if "score" in row else ""]
        for network, kinds in networks.items() for kind, row in kinds.items()]
    lines += [f"## {name}", "", *recording.table(
        ("network", "", "parameters, K", "multiply-adds, M",
         "test accuracy, %", "edges changed", "on the supernet, %"), rows), ""]
  train, search = config.train, config.search
  return "\n".join([
      "# Hand-crafted networks, transformed", "",
      "The real networks, transformed with blocks shared by"
      f" \"{share}\"; accuracy is the mean ± deviation over"
      f" {train.seeds} seed(s). Edges changed are counted once per kind of"
      " block; \"on the supernet\" is the accuracy of the original and of the"
      " chosen candidate there.", "", *lines,
      f"Trained: {config.width:g} times the widths, {config.image_size}x"
      f"{config.image_size} pixels, {config.train_images or 'all'} images,"
      f" {train.epochs} epochs. Searched: {search.epochs} epochs"
      f" ({search.warmup_epochs} of them for the weights alone),"
      f" {search.candidates} candidates.", "", *recording.in_words(result)])


def main(argv: Sequence[str] | None = None) -> None:
  args = parse(argv)
  natjax.configure_compilation()

  # Config.
  config = transforming.configured(PRESETS[args.preset], args)
  if dry_runs.asked(args):
    dry_runs.over_datasets(config, args, functools.partial(
        estimate, config=config, share=args.share))
    return
  sweep = sweeps.Sweep(
      __file__, args, argv, {**dataclasses.asdict(config), "share": args.share})
  transforming.say(f"{recording.hardware()}; seed {config.seed};"
                   f" {pipeline.versions()}")

  # Data, search, train, evaluate.
  found = transforming.over_datasets(
      config, args, sweep, lambda network, dataset, folder: compare(
          network, dataset, config, args.share, folder))

  # Report.
  result = {
      "datasets": found, "config": dataclasses.asdict(config),
      "share": args.share,
      **sweep.circumstances()}
  transforming.report(args.report or sweep.out / "report", result,
                      readme(config, args.share, result))
  sweep.end()


if __name__ == "__main__":
  recording.run(main)
