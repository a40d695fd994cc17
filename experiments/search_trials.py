"""Settings of NAT++'s search, tried where the truth is known.

Learning rates, warm-up, weight of the entropy and the share of steps that goes
to rewards are changed one at a time. What counts is the stand-alone accuracy of
what is returned by the supernet's score, and Kendall's tau of score and truth
among the transitions that were scored. On NAS-Bench-201 that accuracy is the
table's, after 200 epochs, so that a trial costs its search alone; hence these
trials stand on this ground and no other, and say nothing of what suits
architectures that are unlike its cells. Every trial has the same given cells
over the whole range of quality, each with a supernet of its own, and several
seeds; `nasbench201_supernet.py` judges others.

Commands, with DATA a folder that holds cifar10.npz or another form that
`natjax.data.load` finds, and TABLE what `natjax.benchmarks.nasbench201` reads:
  python experiments/search_trials.py --preset smoke --table TABLE \
      --out runs/smoke
  python experiments/search_trials.py --preset small --table TABLE \
      --data-dir DATA --out runs/search_trials \
      --report experiments/results/search_trials
Hardware and time: `smoke` two minutes, most of it compiling; `small` 47 minutes
on 2 CPU cores that others kept busy.

A stopped run goes on by the same command.
"""

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
import shutil
import time
from typing import Any

import known_truth
import nasbench201_supernet
import numpy as np
import recording
import sweeps
import transforming

import natjax
from natjax import errors, pipeline
from natjax.benchmarks import nasbench201
from natjax.graph import nasbench201 as cells
from natjax.methods import nat


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the trials.

  Attributes:
    dataset: name or path of the images.
    image_size: side to which they are brought.
    train_images: how many training images to use, drawn; 0 is all.
    repeats: cells per stage of the supernet, of five in the benchmark.
    drawn: cells that are drawn over the whole range of quality.
    drawn_seed: of that.
    given: numbers of those that are transformed.
    seeds: of every trial.
    search: what all trials begin from.
    trials: per trial, what it changes.
    seed: the first of the seeds.
  """

  dataset: str
  image_size: int
  train_images: int
  repeats: int
  drawn: int
  drawn_seed: int
  given: tuple[int, ...]
  seeds: int
  search: nat.NATConfig
  trials: dict[str, dict[str, Any]]
  seed: int = 0


_SMALL = dataclasses.replace(
    nasbench201_supernet.PRESETS["small"].search, epochs=14, warmup_epochs=12,
    policy_epochs=2, final_learning_rate=0.0, weights_fraction=0.5)
_TRIALS = {
    "as it is": {},
    "learning rate 0.025": {"learning_rate": 0.025},
    "learning rate 0.3": {"learning_rate": 0.3},
    "learning rate of the policy 1e-4": {"policy_learning_rate": 1e-4},
    "lambda 0.03": {"entropy_weight": 0.03},
    "no warm-up, weights and policy in turn": {
        "epochs": 12, "warmup_epochs": 0, "policy_epochs": 0},
    "half a warm-up, then both in turn": {
        "epochs": 12, "warmup_epochs": 6, "policy_epochs": 0},
    "more rewards": {"epochs": 18, "policy_epochs": 6},
    "a shorter warm-up": {"epochs": 6, "warmup_epochs": 4},
    "a longer warm-up": {"epochs": 38, "warmup_epochs": 36}}
PRESETS = {
    "smoke": Config(
        dataset="digits", image_size=8, train_images=128, repeats=1, drawn=2,
        drawn_seed=100, given=(1,), seeds=2,
        search=nasbench201_supernet.PRESETS["smoke"].search,
        trials={"as it is": {}, "lambda 0.03": {"entropy_weight": 0.03}}),
    "small": Config(
        dataset="cifar10", image_size=8, train_images=12000, repeats=1,
        drawn=40, drawn_seed=100, given=(9, 22, 34), seeds=3,
        search=_SMALL, trials=_TRIALS),
}


def run(name: str, truth: known_truth.Truth, dataset: Any, config: Config,
        out: pathlib.Path) -> list[dict[str, Any]]:
  """The rows of a trial, one per given cell and seed."""
  search = dataclasses.replace(config.search, **config.trials[name])
  searches = known_truth.Searches(
      truth, dataset, search, repeats=config.repeats, seed=config.seed)
  codes = known_truth.spread_over_quality(
      truth.accuracy, config.drawn, config.drawn_seed)

  def one(code, seed, folder):
    began = time.monotonic()
    weights = searches.weights(
        searches.start(code, seed), seed, should_stop=recording.asked,
        checkpoint_dir=folder / "weights")
    state = searches.search(
        "natpp", code, weights, seed, should_stop=recording.asked,
        checkpoint_dir=folder / "search")
    found = searches.choose("natpp", code, state, seed)
    return {
        "code": code, "seed": seed, "accuracy": float(truth.accuracy[code]),
        "sure": truth.gain(code, found["sure"]),
        "gain": truth.gain(code, found["code"]),
        "cheapest": truth.gain(code, found["cheapest"]),
        "candidates": float(np.mean([
            truth.gain(code, c) for c in found["candidates"][1:]] or [0.0])),
        "oracle": truth.gain(code, int(truth.best["natpp"][code])),
        "tau": known_truth.kendall(
            found["scores"], truth.accuracy[found["candidates"]]),
        "seconds": round(time.monotonic() - began, 1)}

  rows = []
  for i in config.given:
    for seed in range(config.seed, config.seed + config.seeds):
      folder = out / f"cell-{i}-seed-{seed}"
      rows.append(recording.once(
          folder.with_suffix(".json"),
          lambda i=i, seed=seed, folder=folder: one(codes[i], seed, folder)))
      shutil.rmtree(folder, ignore_errors=True)  # Its checkpoints.
      transforming.say(f"{name}, cell {i}, seed {seed}:"
                       f" {rows[-1]['gain']:+.2f}, tau {rows[-1]['tau']:.2f}")
  return rows


def by_seed(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
  """Per seed, the mean over given cells."""
  seeds = sorted({row["seed"] for row in rows})
  return [float(np.mean([row[key] for row in rows if row["seed"] == seed]))
          for seed in seeds]


def share(rows: Sequence[Mapping[str, Any]]) -> float:
  """What is gained, of what the oracle gains."""
  most = sum(row["oracle"] for row in rows)
  return sum(row["gain"] for row in rows) / most if most else 0.0


def readme(config: Config, result: Mapping[str, Any]) -> str:
  """The record in words."""
  lines = []
  for name, rows in result["trials"].items():
    lines.append([
        name, *(recording.spread(by_seed(rows, key), 2) for key in (
            "gain", "sure", "cheapest", "candidates", "tau")),
        f"{100 * share(rows):.0f} %",
        f"{sum(r['gain'] < 0 for r in rows)} of {len(rows)}",
        f"{np.mean([r['seconds'] for r in rows]):.0f}"])
  first = next(iter(result["trials"].values()))
  given = {row["code"]: row for row in first}.values()
  left = [name for name in config.trials if name not in result["trials"]]
  return "\n".join([
      "# Settings of NAT++'s search, tried where the truth is known", "",
      f"{len(given)} given cells of NAS-Bench-201, which are not among those"
      f" that `nasbench201_supernet.py` judges, and {config.seeds} seeds; focus"
      " given. What is returned by the supernet's score is looked up in the"
      " benchmark's table (test accuracy on CIFAR-10 after 200 epochs), so that"
      " a trial costs its search alone; nothing here says what suits other"
      " architectures.", "", *recording.table(
          ("trial", "gained, points", "if surely better, points",
           "the cheapest of as good a score, points",
           "the policy's candidates, points", "tau of score and truth",
           "of the oracle's gain", "lost in", "seconds"), lines), "",
      "Mean over cells ± deviation over seeds. The policy's candidates: what it"
      " samples at the end, before any score; tau: among them. A trial changes"
      " what its name says of:"
      f" {nasbench201_supernet.report.in_words(config.search)}."
      f" Images: {result['train_images']} of {result['dataset']},"
      f" {config.image_size}x{config.image_size} pixels,"
      f" {config.search.supernet_width or 1:g} times the widths,"
      f" {config.repeats} cell(s) per stage.", "",
      *([f"Not run: {'; '.join(left)}.", ""] if left else []),
      "Given: " + "; ".join(
          f"`{cells.to_string(known_truth.names_of(row['code']))}`"
          f" ({row['accuracy']:.2f} %, oracle {row['oracle']:+.2f})"
          for row in given) + ".", "", *recording.in_words(result)])


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  recording.add_flags(parser, PRESETS)
  sweeps.add_flags(parser)
  parser.add_argument("--table", type=pathlib.Path, required=True,
                      help="NAS-Bench-201's: CSV, or NATS-Bench's folder")
  parser.add_argument("--trials", nargs="+", metavar="NAME",
                      help="of the preset's; the others go on from --out")
  return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
  args = parse(argv)
  natjax.configure_compilation()

  # Config.
  config = dataclasses.replace(PRESETS[args.preset], seed=args.seed)
  for name in args.trials or ():
    errors.known("trial", name, config.trials)
  truth = known_truth.Truth(nasbench201.read(args.table))
  sweep = sweeps.Sweep(__file__, args, argv, dataclasses.asdict(config))
  transforming.say(f"{recording.hardware()}; seed {config.seed};"
                   f" {pipeline.versions()}")

  # Data, trials.
  dataset = transforming.load(
      config.dataset, args.data_dir, image_size=config.image_size,
      train_images=config.train_images, seed=config.seed)
  found = sweep.run([
      sweeps.Part(name, lambda name=name, number=number: run(
          name, truth, dataset, config, sweep.out / f"trial-{number}"))
      for number, name in enumerate(config.trials)
      if args.trials is None or name in args.trials])

  # Report.
  result = {
      "trials": found, "dataset": dataset.name,
      "train_images": len(dataset.train_labels),
      "config": dataclasses.asdict(config),
      **sweep.circumstances()}
  transforming.report(args.report or sweep.out / "report", result,
                      readme(config, result))
  sweep.end()


if __name__ == "__main__":
  recording.run(main)
