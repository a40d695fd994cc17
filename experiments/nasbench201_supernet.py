"""NAT by a supernet on NAS-Bench-201's cells, judged by the known truth.

Given cells over the whole range of quality, the same for all methods, are
transformed; the reward is the supernet's accuracy on images, and what is
returned is looked up in the table. Beside NAT and NAT++ stand uniform random
valid transitions (the exact mean), evolution over valid transitions with the
same supernet, the differentiable transformation, "keep", and the exact oracle:
the best true accuracy of all that NAT++'s valid transitions reach. With focus
"general" one supernet of the whole space and one policy serve all cells; with
"given" this supernet is trained further around the cell, for which policies are
trained then. Where NAT++ loses is found
by replacing the rewards, or the scores of the choice, by the truth.

`replace` answers another question, how to become cheaper at little loss, and
has a section of its own: restricted to the table's operations, under stated
budgets, beside the exact oracle and the mean under the same ones
(`replaced_cells.py` says how, and what is fair). It needs no supernet, and nor
does `climb` (`climbed_cells.py`): with `--only replace` or `--only climb` these
rows alone are run, and added to the record that lies in --report.

Commands, with DATA a folder that holds cifar10.npz or another form that
`natjax.data.load` finds, and TABLE what `natjax.benchmarks.nasbench201` reads:
  python experiments/nasbench201_supernet.py --preset smoke --table TABLE \
      --out runs/smoke
  python experiments/nasbench201_supernet.py --preset small --table TABLE \
      --data-dir DATA --out runs/nasbench201_supernet \
      --report experiments/results/nasbench201_supernet
  python experiments/nasbench201_supernet.py --preset small --table TABLE \
      --data-dir DATA --out runs/nasbench201_replaced --only replace \
      --report experiments/results/nasbench201_supernet
  python experiments/nasbench201_supernet.py --preset small --table TABLE \
      --data-dir DATA --out runs/nasbench201_climbed --only climb \
      --report experiments/results/nasbench201_supernet
  python experiments/nasbench201_supernet.py --preset paper --table TABLE \
      --data-dir DATA --out runs/nasbench201_supernet_paper
Hardware and time: `smoke` two minutes, most of it compiling; 20 cells of
`small` took 33 minutes on 2 CPU cores that others kept busy, 8 of one core's
time; `paper` accelerators and days, not run here.
Expected: no figure is published; nothing but this library's own.

A stopped run goes on by the same command. Its parts are the supernet of the
whole space with the policies that serve all, and then every cell with a focus,
and every cell of the differentiable transformation, of `replace` and of
`climb`.
"""

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import functools
import pathlib
import shutil
import time
from typing import Any

import climbed_cells
import known_truth
import nasbench201_supernet_report as report
import numpy as np
import recording
import replaced_cells
import score_trials
import sweeps
import transforming

import natjax
from natjax import data as data_lib
from natjax import errors, pipeline
from natjax.benchmarks import nasbench201
from natjax.graph import blocks, codec
from natjax.graph import nasbench201 as cells
from natjax.methods import (
    climb,
    differentiable,
    nat,
    replace_config,
    supervised,
)


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the experiment.

  Attributes:
    dataset: name or path of the images.
    image_size: side to which they are brought.
    train_images: how many training images to use, drawn; 0 is all.
    repeats: cells per stage of the supernet, of five in the benchmark.
    given: cells that are transformed.
    without_seed: cells that this seed draws are not among them, as those by
      which settings were chosen (`search_trials.py`); None leaves out nothing.
    ranked: cells by which score and truth are compared.
    search: of NAT and NAT++; the warm-up is that of the supernet of the whole
      space.
    around_epochs: with focus given, the epochs that this supernet is trained
      further around a given cell.
    differentiable: of the differentiable transformation.
    train: of its networks.
    transformed: how many of the given cells it transforms, since for each of
      them a program is compiled; 0 leaves it out.
    replace: of `replace`.
    budgets: under which it is judged, shares of the multiply-adds.
    replaced: how many of the given cells it makes cheaper, likewise.
    climb: of `climb`.
    climb_size: the side of its images.
    climbed: how many of the given cells it transforms.
    seed: of everything random.
  """

  dataset: str
  image_size: int
  train_images: int
  repeats: int
  given: int
  without_seed: int | None
  ranked: int
  search: nat.NATConfig
  around_epochs: int
  differentiable: differentiable.DifferentiableConfig
  train: supervised.TrainConfig
  transformed: int
  replace: replace_config.ReplaceConfig
  replaced: int
  climb: climb.ClimbConfig
  climb_size: int
  climbed: int
  budgets: tuple[float, ...] = (0.75, 0.5)
  seed: int = 0


_SMOKE = nat.NATConfig(
    supernet_width=0.125, epochs=5, warmup_epochs=4, policy_epochs=1,
    batch_size=16, samples=2, candidates=3, weights_fraction=0.5,
    prefer="accuracy")
_SMALL = nat.NATConfig(
    supernet_width=0.5, epochs=82, warmup_epochs=80, policy_epochs=2,
    batch_size=64, learning_rate=0.1, final_learning_rate=0.01,
    max_grad_norm=5.0, policy_learning_rate=1e-3, samples=8, candidates=30,
    weights_fraction=0.8, prefer="accuracy")
_PAPER = dataclasses.replace(
    _SMALL, supernet_width=1.0, epochs=420, warmup_epochs=400,
    policy_epochs=20, weights_fraction=0.5)
_TRAIN = supervised.TrainConfig(
    epochs=8, batch_size=64, learning_rate=0.05, final_learning_rate=0.0,
    cutout=0)
PRESETS = {
    "smoke": Config(
        dataset="digits", image_size=8, train_images=128, repeats=1, given=2,
        without_seed=100, ranked=5, search=_SMOKE, around_epochs=1,
        differentiable=differentiable.DifferentiableConfig(
            theta_learning_rate=1e-2),
        train=dataclasses.replace(_TRAIN, epochs=2, batch_size=32),
        transformed=1, replace=replace_config.ReplaceConfig(
            price_images=32, price_checks=3), replaced=1,
        climb=climb.ClimbConfig(batch_size=4, draws=2, evaluations=6),
        climb_size=8, climbed=1),
    "small": Config(
        dataset="cifar10", image_size=8, train_images=20000, repeats=1,
        given=40, without_seed=100, ranked=200, search=_SMALL, around_epochs=2,
        differentiable=differentiable.DifferentiableConfig(
            theta_learning_rate=1e-2), train=_TRAIN, transformed=8,
        replace=replace_config.ReplaceConfig(), replaced=8,
        climb=climb.ClimbConfig(), climb_size=16, climbed=40),
    "paper": Config(
        dataset="cifar10", image_size=32, train_images=0, repeats=5, given=40,
        without_seed=100, ranked=200, search=_PAPER, around_epochs=50,
        differentiable=differentiable.PRESETS["paper"],
        train=dataclasses.replace(_TRAIN, epochs=600, learning_rate=0.025),
        transformed=40, replace=replace_config.ReplaceConfig(), replaced=40,
        climb=climb.PRESETS["paper"], climb_size=32, climbed=40),
}


# What is found.


def judged(truth: known_truth.Truth, before: int, after: int,
           seconds: float) -> dict[str, Any]:
  """A cell that a method returned."""
  return {"code": after, "gain": truth.gain(before, after),
          "dearer": truth.dearer(before, after),
          "params": float(truth.params[after] / truth.params[before]),
          "seconds": round(seconds, 2)}


def transform(searches: known_truth.Searches, code: int, seed: int,
              states: Mapping[str, Any], epochs: int, keep: score_trials.Keep
              ) -> dict[str, Any]:
  """What all methods that use a supernet make of a cell.

  Args:
    searches: the searches.
    code: of the cell.
    seed: of everything random.
    states: by method, trained supernets and policies for all cells.
    epochs: that the supernet is trained further, around this cell, for which
      policies are then trained, NAT++'s besides by the truth; 0 takes the
      policies that there are.
    keep: options of the trainings, by which a stopped one goes on; seconds are
      those of the last process.
  """
  truth, began = searches.truth, time.monotonic()
  row: dict[str, Any] = {
      "code": code, "accuracy": float(truth.accuracy[code]),
      "oracle": {m: truth.gain(code, int(truth.best[m][code]))
                 for m in truth.best},
      "random": {m: float(truth.random[m][code] - truth.accuracy[code])
                 for m in truth.random}}
  weights = states["natpp"]
  if epochs:
    weights = searches.weights(searches.start(code, seed, "given", weights),
                               seed, epochs, **keep("weights"))
  shared = time.monotonic() - began
  found: dict[str, Any] = {}
  for name in known_truth.METHODS:
    began = time.monotonic()
    state = searches.search(name, code, weights, seed, **keep(name)
                            ) if epochs else states[name]
    found[name] = choice = searches.choose(name, code, state, seed)
    seconds = shared + time.monotonic() - began
    for key, end in (("code", ""), ("sure", "_sure"), ("cheapest", "_cheapest")
                     ):
      row[name + end] = judged(truth, code, choice[key], seconds)
  began = time.monotonic()
  choice = searches.evolve(code, weights.params, seed)
  row["evolution"] = judged(
      truth, code, choice["code"], shared + time.monotonic() - began)
  row["tau"] = known_truth.kendall(
      choice["scores"], truth.accuracy[choice["candidates"]])
  if epochs:
    alone = score_trials.by_themselves(searches, weights, seed, epochs, keep)
    for prefer, end in (("sure", "_sure"), ("cost", "_cheapest")):
      began = time.monotonic()
      order = score_trials.ordered(truth, found["natpp"], prefer)
      assert order[0] == row[f"natpp{end}"]["code"]
      after = score_trials.tried(searches, order, code, prefer, alone)
      row[f"natpp{end}_tried"] = judged(
          truth, code, after, row["natpp"]["seconds"] + (
              time.monotonic() - began))
    state = searches.search("natpp", code, weights, seed, by_truth=True,
                            **keep("by-truth"))
    by_truth = searches.choose("natpp", code, state, seed)
    best = lambda some: max(truth.gain(code, c) for c in some["candidates"])
    row["losses"] = {
        "natpp": row["natpp"]["gain"], "choice": best(found["natpp"]),
        "policy": truth.gain(code, by_truth["code"]), "both": best(by_truth)}
  transforming.say(
      f"{cells.to_string(known_truth.names_of(code))} {row['accuracy']:.2f}:"
      + "".join(f" {report.TITLES[name]} {row[name]['gain']:+.2f};"
                for name in report.TITLES if "code" in (row.get(name) or {}))
      + f" oracle {row['oracle']['natpp']:+.2f}, tau {row['tau']:.2f}")
  return row


def general(searches: known_truth.Searches, config: Config, out: pathlib.Path
            ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
  """A supernet of the whole space, and policies that serve all cells.

  Returns:
    States by method, and after each quarter of the warm-up, how score and
    truth agree.
  """
  ranked = np.random.default_rng([config.seed, 200]).choice(
      cells.COUNT, config.ranked, replace=False).tolist()
  known = searches.truth.accuracy[ranked]
  fine = known > np.median(known)
  # A quarter of the warm-up at a time: the schedule stands in the state.
  state, taus = searches.start(0, config.seed, "general"), []
  for quarter in range(report.QUARTERS):
    state = searches.weights(
        state, config.seed + quarter,
        epochs=config.search.warmup_epochs // report.QUARTERS,
        **kept(out, f"quarter-{quarter}"))

    def rank(params=state.params):
      scores = searches.score(params, ranked)
      tau = known_truth.kendall
      return {"tau": tau(scores, known), "tau_better_half": tau(
          scores[fine], known[fine]), "codes": ranked,
              "scores": scores.tolist()}

    taus.append(recording.once(out / f"tau-{quarter}.json", rank))
    transforming.say(f"quarter {quarter + 1}: tau {taus[-1]['tau']:.3f}, of the"
                     f" better half {taus[-1]['tau_better_half']:.3f}")
  return {name: searches.search(
      name, 0, state, config.seed, **kept(out, name))
          for name in known_truth.METHODS}, taus


def kept(folder: pathlib.Path, name: str) -> dict[str, Any]:
  """Options of a training that is saved when it should stop."""
  return {"checkpoint_dir": folder / name, "should_stop": recording.asked}


def differ(truth: known_truth.Truth, dataset: data_lib.Dataset, code: int,
           config: Config, out: pathlib.Path) -> dict[str, Any]:
  """What the differentiable transformation makes of a cell."""
  width = config.search.supernet_width or 1.0
  network = blocks.scale(known_truth.network(
      known_truth.names_of(code), config.repeats), width)
  result = pipeline.Job(
      network, dataset, "differentiable", config.differentiable, config.train,
      share="cell", seed=config.seed, compare=False).run(
          out, listener=transforming.listener("differentiable"))
  after = known_truth.code_of(codec.from_dict(
      result["architectures"]["transformed"]))
  return judged(truth, code, after, result["seconds"])


def spread_first(count: int) -> list[int]:
  """Numbers below a count in an order whose every beginning is spread evenly.

  Example:
    >>> spread_first(5)
    [0, 4, 2, 1, 3]
  """
  bits = max(count - 1, 1).bit_length()
  return sorted(range(count), key=lambda i: f"{i:0{bits}b}"[::-1])


def given_cells(truth: known_truth.Truth, config: Config
                ) -> tuple[list[int], list[int]]:
  """The codes of the given cells, and of those that are left out."""
  without = [] if config.without_seed is None else (
      known_truth.spread_over_quality(
          truth.accuracy, config.given, config.without_seed))
  return known_truth.spread_over_quality(
      truth.accuracy, config.given, config.seed, without), without


def replacing(truth: known_truth.Truth, dataset: data_lib.Dataset,
              config: Config, out: pathlib.Path, count: int
              ) -> dict[int, sweeps.Part]:
  """Parts in which replace makes cells cheaper, by their numbers.

  Args:
    truth: what is known.
    dataset: the images.
    config: the settings.
    out: the experiment's folder.
    count: how many of the given cells, of those that can be judged.
  """
  codes, _ = given_cells(truth, config)
  now = [i for i in spread_first(len(codes)) if replaced_cells.can_be_judged(
      truth, codes[i], config.budgets)][:count]

  def make(i):
    return replaced_cells.one(
        truth, dataset, codes[i], config.seed + i, repeats=config.repeats,
        width=config.search.supernet_width or 1.0, budgets=config.budgets,
        config=config.replace, train=config.train, out=out / f"replace-{i}")

  return {i: sweeps.Part(f"replace cell {i}", functools.partial(make, i),
                         out / f"replace-{i}.json") for i in now}


def replaced(config: Config, parts: Mapping[int, sweeps.Part],
             rows: Mapping[str, Any], **more: Any) -> dict[str, Any]:
  """What is recorded of replace: the rows of what is finished, in order."""
  return {"replaced": {
      "rows": [{"number": i, **rows[parts[i].name]} for i in sorted(parts)
               if parts[i].name in rows],
      "config": {"replace": dataclasses.asdict(config.replace),
                 "budgets": [*config.budgets]}, **more}}


def climbing(truth: known_truth.Truth, images: data_lib.Dataset,
             config: Config, out: pathlib.Path, count: int
             ) -> dict[int, sweeps.Part]:
  """Parts in which cells are climbed from, by their numbers.

  Args:
    truth: what is known.
    images: by which networks are scored.
    config: the settings.
    out: the experiment's folder.
    count: of the given cells.
  """
  codes, _ = given_cells(truth, config)

  def make(i):
    found = climbed_cells.one(
        truth, images, codes[i], config.seed + i, repeats=config.repeats,
        config=config.climb)
    after = judged(truth, codes[i], found["code"], found["seconds"])
    return {**found, **after, "oracle": truth.gain(
        codes[i], int(truth.best["natpp"][codes[i]]))}

  return {i: sweeps.Part(f"climb cell {i}", functools.partial(make, i),
                         out / f"climb-{i}.json")
          for i in spread_first(len(codes))[:count]}


def climbed(config: Config, parts: Mapping[int, sweeps.Part],
            rows: Mapping[str, Any], **more: Any) -> dict[str, Any]:
  """What is recorded of climbs, as of `replaced`."""
  return {"climbed": {
      "rows": [{"number": i, **rows[parts[i].name]} for i in sorted(parts)
               if parts[i].name in rows],
      "config": {"climb": dataclasses.asdict(config.climb),
                 "image_size": config.climb_size}, **more}}


def run(truth: known_truth.Truth, dataset: data_lib.Dataset, config: Config,
        sweep: sweeps.Sweep, count: int, tried: int = 0,
        images: data_lib.Dataset | None = None) -> dict[str, Any]:
  """Rows by focus, of the first `count` of the given cells.

  Args:
    truth: what is known.
    dataset: the images.
    config: the settings.
    sweep: whose parts the supernet is, and then every cell with a focus.
    count: of the given cells.
    tried: of those that are left out, by which ways to score are tried.
    images: by which untrained networks are scored; None are those of all.

  Returns:
    "taus"; "given" and "general", rows of what is finished, each with the
    "number" of its cell, in their order; "tried", "replaced" and "climbed" if
    there are any.
  """
  codes, without = given_cells(truth, config)
  searches = known_truth.Searches(
      truth, dataset, config.search, repeats=config.repeats, seed=config.seed)
  out, epochs = sweep.out, config.around_epochs
  # Trained by the first part; read by those that follow, in whatever process.
  whole = functools.cache(lambda: general(searches, config, out / "general"))
  taus = sweep.run([sweeps.Part("supernet", lambda: whole()[1])])
  if not taus:
    return {"taus": [], "given": [], "general": []}

  def part(name, focus, i, make):
    folder = out / focus / f"cell-{i}"

    def run():
      found = make(functools.partial(kept, folder))
      shutil.rmtree(folder, ignore_errors=True)  # Its checkpoints.
      return found

    return sweeps.Part(name, run, folder.with_suffix(".json"))

  tries = [part(f"tried on cell {i}", "tried", i, lambda keep, i=i: (
      score_trials.one(searches, without[i], config.seed + i,
                       whole()[0]["natpp"], epochs, keep)))
           for i in spread_first(len(without))[:tried]]
  now = spread_first(len(codes))[:count]
  parts = {(focus, i): part(
      f"{focus} cell {i}", focus, i, lambda keep, i=i, own=own: transform(
          searches, codes[i], config.seed + i, whole()[0], own, keep))
           for i in now for focus, own in (("given", epochs), ("general", 0))}
  others = {i: sweeps.Part(
      f"differentiable cell {i}", lambda i=i: differ(
          truth, dataset, codes[i], config, out / f"differentiable-{i}"),
      out / f"differentiable-{i}.json") for i in now[:config.transformed]}
  cheaper = replacing(truth, dataset, config, out, min(count, config.replaced))
  climbs = climbing(truth, images or dataset, config, out,
                    min(count, config.climbed))
  rows = sweep.run([
      *tries, *parts.values(), *others.values(), *cheaper.values(),
      *climbs.values()])
  found: dict[str, Any] = {
      "taus": taus["supernet"], "given": [], "general": []}
  if tries:
    found["tried"] = [rows[one.name] for one in tries if one.name in rows]
  for focus, i in sorted(parts):
    if parts[focus, i].name in rows:
      found[focus].append({"number": i, **rows[parts[focus, i].name]})
  for row in found["given"]:
    other = others.get(row["number"])
    if other is not None and other.name in rows:
      row["differentiable"] = rows[other.name]
  if any(part.name in rows for part in cheaper.values()):
    found |= replaced(config, cheaper, rows)
  if any(part.name in rows for part in climbs.values()):
    found |= climbed(config, climbs, rows)
  return found


def earlier(folder: pathlib.Path, config: Config) -> dict[str, Any]:
  """The record that lies in a folder, which rows of a method are added to.

  Raises:
    InputError: it is one of other cells or images.
  """
  path = folder / "result.json"
  if not path.exists():
    return {}
  found = recording.read(path)
  own = dataclasses.asdict(config)
  for name in ("dataset", "image_size", "train_images", "repeats", "given",
               "without_seed", "seed"):
    if found["config"].get(name) != own[name]:
      raise errors.InputError(
          f"{folder} holds a record with {name} {found['config'].get(name)},"
          f" not {own[name]}; name another --report")
  return found


# The command line.


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  recording.add_flags(parser, PRESETS)
  sweeps.add_flags(parser)
  parser.add_argument("--table", type=pathlib.Path, required=True,
                      help="NAS-Bench-201's: CSV, or NATS-Bench's folder")
  parser.add_argument("--cells", type=recording.at_least(1), help="of the given"
                      " cells, spread over their quality; the others go on from"
                      " --out")
  parser.add_argument("--tried", type=recording.at_least(0), default=0,
                      metavar="N", help="first try other ways to score, on N"
                      " cells that are not judged")
  parser.add_argument("--only", choices=("replace", "climb"),
                      help="run its rows alone,"
                      " without a supernet, on --cells cells, and add them to"
                      " the record in --report")
  return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
  args = parse(argv)
  natjax.configure_compilation()

  # Config.
  config = PRESETS[args.preset]
  config = dataclasses.replace(config, seed=args.seed)
  count = config.given if args.cells is None else args.cells
  if not 1 <= count <= config.given:
    raise errors.InputError(f"cells is {count} and must lie in [1,"
                            f" {config.given}]; pass --cells {config.given}")
  most = 0 if config.without_seed is None else config.given
  if not 0 <= args.tried <= most:
    raise errors.InputError(f"tried is {args.tried} and must lie in [0,"
                            f" {most}]; pass --tried {min(6, most)}")
  truth = known_truth.Truth(nasbench201.read(args.table))
  sweep = sweeps.Sweep(__file__, args, argv, dataclasses.asdict(config))
  transforming.say(f"{recording.hardware()}; seed {config.seed};"
                   f" {pipeline.versions()}")

  # Data, searches.
  dataset = transforming.load(
      config.dataset, args.data_dir, image_size=config.image_size,
      train_images=config.train_images, seed=config.seed)
  folder = args.report or sweep.out / "report"
  images = dataset if config.climb_size == config.image_size else (
      transforming.load(
          config.dataset, args.data_dir, image_size=config.climb_size,
          train_images=config.train_images, seed=config.seed))
  if args.only:
    before = earlier(folder, config)
    make, keep, data, most = {
        "replace": (replacing, replaced, dataset, config.replaced),
        "climb": (climbing, climbed, images, config.climbed)}[args.only]
    parts = make(truth, data, config, sweep.out, args.cells or most)
    rows = sweep.run([*parts.values()])
    record(folder, config, dataset, before | keep(
        config, parts, rows, **sweep.circumstances()))
    sweep.end()
    return
  found = run(truth, dataset, config, sweep, count, args.tried, images)
  if not (found["given"] and found["general"]):
    transforming.say("no cell is finished with either focus; the same command"
                     " goes on")
    sweep.end()
    return

  # Report.
  record(folder, config, dataset, {**found, **sweep.circumstances()})
  sweep.end()


def record(folder: pathlib.Path, config: Config, dataset: data_lib.Dataset,
           found: Mapping[str, Any]) -> None:
  """Writes what was found, beside what it was found by."""
  result = {"dataset": dataset.name,
            "train_images": len(dataset.train_labels),
            "config": dataclasses.asdict(config), **found}
  transforming.report(folder, result, report.readme(config, result))


if __name__ == "__main__":
  recording.run(main)
