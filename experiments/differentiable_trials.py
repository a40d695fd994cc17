"""What the papers on differentiable transformation leave open, tried.

Papers: "Differentiable Neural Architecture Transformation" and "Proxyless
Neural Architecture Adaptation"; neither says by which optimizer and at what
rate theta is trained, nor how long the first stage takes. Every trial changes
the defaults of `methods.differentiable` in what its name says, and transforms
the same networks from the same seeds; the original is trained beside them. The
defaults of the library are chosen by what is recorded here: on a part of the
training images that is held out, so that the test images stay unseen.

Commands, with DATA a folder that holds cifar10.npz or another form that
`natjax.data.load` finds:
  python experiments/differentiable_trials.py --preset smoke --out runs/smoke
  python experiments/differentiable_trials.py --preset small --data-dir DATA \
      --out runs/trials --report experiments/results/differentiable_trials
Hardware and time: `smoke` a minute, `small` half an hour on 2 CPU cores.

A stopped run goes on by the same command.
"""

from collections.abc import Sequence
import dataclasses
import functools
import pathlib
from typing import Any

import recording
import sweeps
import transforming

import natjax
from natjax import data as data_lib
from natjax import pipeline, zoo
from natjax.graph import blocks
from natjax.methods import differentiable, supervised


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the trials.

  Attributes:
    dataset: name or path.
    networks: names of the zoo.
    width: factor of the widths of networks of blocks.
    cells: (channels, cells) around genotypes.
    image_size: side to which images are brought.
    train_images: how many training images to use, drawn; a fifth is held out
      to judge by.
    share: "cell" or "full".
    search: what all trials begin from.
    trials: per trial, what it changes.
    train: of every network.
    seed: of everything random.
  """

  dataset: str
  networks: tuple[str, ...]
  width: float
  cells: tuple[int, int]
  image_size: int
  train_images: int
  share: str
  search: differentiable.DifferentiableConfig
  trials: tuple[dict[str, Any], ...]
  train: supervised.TrainConfig
  seed: int = 0


_TRAIN = supervised.TrainConfig(
    epochs=8, batch_size=64, learning_rate=0.05, final_learning_rate=0.0,
    drop_path=0.0, auxiliary=False, cutout=0, seeds=2)
_TRIALS = (
    *({"theta_learning_rate": rate} for rate in (1e-3, 1e-2, 3e-2, 1e-1)),
    *({"theta_optimizer": "sgd", "theta_learning_rate": rate}
      for rate in (0.025, 0.25)),
    {"architecture_epochs": 2}, {"architecture_epochs": 6}, {"fold": True},
    {"one_backward": True})
PRESETS = {
    "smoke": Config(
        dataset="digits", networks=("resnet20",), width=0.25, cells=(2, 2),
        image_size=8, train_images=160, share="cell",
        search=differentiable.DifferentiableConfig(
            architecture_epochs=1, held_out=0.0),
        trials=({}, {"theta_learning_rate": 0.1}),
        train=dataclasses.replace(_TRAIN, epochs=2, batch_size=32, seeds=1)),
    "small": Config(
        dataset="cifar10", networks=("resnet20",), width=0.5, cells=(8, 5),
        image_size=16, train_images=6000, share="full",
        search=differentiable.DifferentiableConfig(
            architecture_epochs=4, held_out=0.0, theta_learning_rate=1e-2),
        trials=_TRIALS, train=_TRAIN),
}


def held_out(dataset: data_lib.Dataset) -> data_lib.Dataset:
  """A data set whose "test" images are a fifth of the training images."""
  cut = len(dataset.train_labels) * 4 // 5
  return dataclasses.replace(
      dataset, train_images=dataset.train_images[:cut],
      train_labels=dataset.train_labels[:cut],
      test_images=dataset.train_images[cut:],
      test_labels=dataset.train_labels[cut:])


def trials(
    name: str, dataset: data_lib.Dataset, config: Config, out: pathlib.Path
) -> dict[str, sweeps.Part]:
  """By title the original and the trials, of each of which comes a row."""
  architecture = zoo.get(name)
  if architecture.kind == "blocks":
    architecture = blocks.scale(architecture, config.width)
    train = dataclasses.replace(config.train, **supervised.OF_CELLS)
  else:
    train = dataclasses.replace(
        config.train, init_channels=config.cells[0], cells=config.cells[1])

  def trial(title, search):
    job = pipeline.Job(
        architecture, dataset, "differentiable", search, train,
        share=config.share, seed=config.seed, compare=False)
    result = job.run(
        out / title.replace(" ", "_").replace(",", ""),
        listener=transforming.listener(f"{name}, {title}"))
    return {**result["transformed"], "seeds": result["seeds"]}

  found = {"original": lambda: transforming.train(
      name, architecture, dataset, transforming.Settings(
          None, train, config.seed), out / "original")}
  for changes in config.trials:
    title = ", ".join(f"{k} {v}" for k, v in changes.items()) or "as it is"
    found[title] = functools.partial(
        trial, title, dataclasses.replace(config.search, **changes))
  return {title: sweeps.Part(f"{name}, {title}", make)
          for title, make in found.items()}


def readme(config: Config, result: dict[str, Any]) -> str:
  """The record in words."""
  lines = []
  for network, rows in result["networks"].items():
    table = []
    for title, row in rows.items():
      seeds = row.get("seeds", [])
      derivation = ", ".join(
          f"{100 * s['train_accuracy_before_derivation']:.0f} →"
          f" {100 * s['train_accuracy_after_derivation']:.0f}" for s in seeds)
      table.append([
          title, recording.spread(row["accuracies"], 2, 100),
          f"{row['params'] / 1e3:.1f}", f"{row['madds'] / 1e6:.2f}",
          ", ".join(str(s["num_changes"]) for s in seeds), derivation])
    lines += [f"## {network}", "", *recording.table(
        ("trial", "held-out accuracy, %", "parameters, K", "multiply-adds, M",
         "edges changed, by seed", "training accuracy at derivation, %"),
        table), ""]
  search = dataclasses.asdict(config.search)
  return "\n".join([
      "# Differentiable transformation: trials of what the papers leave open",
      "", "Every trial changes what its name says of: "
      + ", ".join(f"{k} {v!r}" for k, v in search.items()) + ". Networks share"
      f" by \"{config.share}\" and are trained for {config.train.epochs} epochs"
      f" on four fifths of {config.train_images} images of {config.dataset},"
      f" {config.image_size} pixels; accuracy is on the others, mean ±"
      f" deviation over {config.train.seeds} seed(s). An edge that blocks share"
      " is counted once.", "", *lines, *recording.in_words(result)])


def main(argv: Sequence[str] | None = None) -> None:
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  recording.add_flags(parser, PRESETS)
  sweeps.add_flags(parser)
  args = parser.parse_args(argv)
  natjax.configure_compilation()

  # Config.
  config = dataclasses.replace(PRESETS[args.preset], seed=args.seed)
  sweep = sweeps.Sweep(__file__, args, argv, dataclasses.asdict(config))
  transforming.say(f"{recording.hardware()}; seed {config.seed};"
                   f" {pipeline.versions()}")

  # Data, trials.
  dataset = held_out(transforming.load(
      config.dataset, args.data_dir, image_size=config.image_size,
      train_images=config.train_images, seed=config.seed))
  parts = {name: trials(name, dataset, config, sweep.out / name)
           for name in config.networks}
  rows = sweep.run([part for some in parts.values() for part in some.values()])
  found = {name: {title: rows[part.name] for title, part in some.items()
                  if part.name in rows} for name, some in parts.items()}

  # Report.
  result = {"networks": found, "config": dataclasses.asdict(config),
            **sweep.circumstances()}
  transforming.report(args.report or sweep.out / "report", result,
                      readme(config, result))
  sweep.end()


if __name__ == "__main__":
  recording.run(main)
