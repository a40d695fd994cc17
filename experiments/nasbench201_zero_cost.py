"""Zero-cost scores on NAS-Bench-201, where what every cell reaches is known.

NASWOT and SynFlow (`natjax.methods.zero_cost`) of untrained networks, with
which IT-NAS compares itself (appendix A.7, Figures 7 and 8; there as parts of
Zero-Cost-PT, which is not here). How do they order cells drawn from the whole
space, beside the parameters, the multiply-adds, and the supernet of
`nasbench201_supernet.py`, which ordered the same cells? And what does evolution
find by them?

Commands, with DATA a folder that holds cifar10.npz or another form that
`natjax.data.load` finds, and TABLE what `natjax.benchmarks.nasbench201` reads:
  python experiments/nasbench201_zero_cost.py --preset smoke --table TABLE \
      --out runs/smoke
  python experiments/nasbench201_zero_cost.py --preset small --table TABLE \
      --data-dir DATA --out runs/nasbench201_zero_cost \
      --supernet experiments/results/nasbench201_supernet \
      --report experiments/results/nasbench201_zero_cost
  python experiments/nasbench201_zero_cost.py --preset paper --table TABLE \
      --data-dir DATA --out runs/nasbench201_zero_cost_paper
Hardware and time: `smoke` a minute; `small` took 6 minutes of a CPU core;
`paper` hours, not run here.
Expected: IT-NAS's appendix has pictures, by operations of edges, no number that
is of whole cells; Mellor et al. and Abdelfattah et al. find both scores
correlated with the truth.

A stopped run goes on by the same command. Its parts are some cells by a score,
and a search by a score with a seed.
"""

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

import jax
import known_truth
import numpy as np
import recording
import sweeps
import transforming

import natjax
from natjax import data as data_lib
from natjax import errors, pipeline
from natjax.benchmarks import nasbench201
from natjax.graph import nasbench201 as cells
from natjax.graph import records
from natjax.methods import evolution, zero_cost
from natjax.networks import network as network_lib

TITLES = {"naswot": "NASWOT", "synflow": "SynFlow"}
_AT_ONCE = 50  # Cells that are a part.


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the experiment.

  Attributes:
    dataset: name or path of the images.
    image_size: side to which they are brought.
    images: training images whose codes NASWOT compares, drawn.
    repeats: cells per stage of the networks, of five in the benchmark.
    ranked: cells by which score and truth are compared.
    draws: of the weights of every network.
    evolution: the search by a score.
    seeds: searches by every score.
    seed: of everything random.
  """

  dataset: str
  image_size: int
  images: int
  repeats: int
  ranked: int
  draws: int
  evolution: evolution.EvolutionConfig
  seeds: int
  seed: int = 0


# As many candidates as SPOS has in `nasbench201_search.py`.
_FEW = evolution.EvolutionConfig(
    population=10, generations=3, parents=5, mutations=5, crossovers=5)
PRESETS = {
    "smoke": Config(
        dataset="digits", image_size=8, images=8, repeats=1, ranked=4, draws=2,
        evolution=evolution.EvolutionConfig(
            population=2, generations=2, parents=1, mutations=1, crossovers=1),
        seeds=1),
    "small": Config(
        dataset="cifar10", image_size=16, images=64, repeats=1, ranked=200,
        draws=2, evolution=_FEW, seeds=5),
    "paper": Config(
        dataset="cifar10", image_size=32, images=128, repeats=5, ranked=1000,
        draws=5, evolution=evolution.EvolutionConfig(), seeds=5),
}


# Scores.


class Scores:
  """Scores of untrained cells."""

  def __init__(self, config: Config, dataset: data_lib.Dataset):
    """Args:
      config: the settings.
      dataset: the images.
    """
    self.config = config
    self.frame = records.Frame(dataset.num_classes, config.image_size)
    self.images = data_lib.normalize(
        dataset.train_images[:config.images], dataset.mean, dataset.std)

  def score(self, name: str, code: int, draw: int) -> float:
    """A score of a cell.

    Args:
      name: of `TITLES`.
      code: of the cell.
      draw: of the weights.
    """
    network = network_lib.Network(known_truth.network(
        known_truth.names_of(code), self.config.repeats), self.frame)
    variables = network_lib.init(network, jax.random.key(draw))
    if name == "naswot":
      return zero_cost.naswot(network, variables, self.images)
    return zero_cost.synflow(network, variables)

  def kept(self, path: pathlib.Path, name: str, code: int,
           draws: Sequence[int]) -> list[float | None]:
    """Scores of a cell by draw, as a file has them, or makes it have them.

    Raises:
      Interrupted: asked to stop, and the file is not there.
    """
    def make():
      if recording.asked():
        raise errors.Interrupted(name)
      return finite([self.score(name, code, draw) for draw in draws])

    return recording.once(path, make)

  def rank(self, name: str, codes: Sequence[int], out: pathlib.Path
           ) -> list[list[float | None]]:
    """Scores of cells, by draw."""
    draws = range(self.config.seed, self.config.seed + self.config.draws)
    return [self.kept(out / name / f"cell-{code}.json", name, code, draws)
            for code in codes]

  def evolve(self, name: str, seed: int, out: pathlib.Path) -> dict[str, Any]:
    """The cell that evolution finds by a score, and all that it scored."""
    folder = out / f"evolution-{name}-{seed}"
    search = evolution.Evolution(
        [len(cells.CANDIDATES)] * len(cells.EDGES), self.config.evolution)
    found = search.search(jax.random.key(seed), lambda genes: [
        values(self.kept(folder / f"cell-{code}.json", name, code, [seed]))[0]
        for code in cells.encode(genes).tolist()])
    codes = cells.encode(found.genes).tolist()
    return {"code": codes[found.best(1)[0]], "candidates": codes,
            "scores": finite(found.scores)}


def finite(scores: Sequence[float]) -> list[float | None]:
  """Scores as JSON has them, None for -inf."""
  return [float(s) if np.isfinite(s) else None for s in scores]


def values(scores: Sequence[float | None]) -> np.ndarray:
  """f64[R], what `finite` was given."""
  return np.array([-np.inf if s is None else s for s in scores])


def taus(scores: np.ndarray, known: np.ndarray) -> dict[str, float]:
  """Kendall's tau with the truth, of all cells and of the better half.

  Args:
    scores: f64[R].
    known: f64[R], true accuracies.
  """
  fine = known > np.median(known)
  return {"tau": known_truth.kendall(scores, known),
          "tau_better_half": known_truth.kendall(scores[fine], known[fine])}


def agreement(rows: Sequence[Sequence[float | None]], known: np.ndarray
              ) -> dict[str, Any]:
  """Scores of all ranked cells, by draw, and how they agree with the truth."""
  by_draw = [values(column) for column in zip(*rows, strict=True)]
  return {"draws": [taus(one, known) for one in by_draw],
          "mean": taus(np.mean(by_draw, 0), known), "scores": rows}


def run(config: Config, scores: Scores, truth: known_truth.Truth,
        sweep: sweeps.Sweep, codes: Sequence[int]
        ) -> tuple[dict[str, Any], dict[str, Any]]:
  """How scores of which all cells are ranked agree with the truth, and rows of
  the searches that are finished, by score.
  """
  out, seeds = sweep.out, range(config.seed, config.seed + config.seeds)
  ranks = {name: [sweeps.Part(
      f"{title}, cells {i + 1} to {i + len(some)}",
      lambda name=name, some=some: scores.rank(name, some, out))
                  for i in range(0, len(codes), _AT_ONCE)
                  for some in (codes[i:i + _AT_ONCE],)]
           for name, title in TITLES.items()}
  bred = {(name, seed): sweeps.Part(
      f"evolution by {title}, seed {seed}",
      lambda name=name, seed=seed: scores.evolve(name, seed, out),
      out / f"evolution-{name}-{seed}.json")
          for name, title in TITLES.items() for seed in seeds}
  rows = sweep.run([
      *(part for some in ranks.values() for part in some), *bred.values()])
  ranked = {name: agreement(
      [row for part in some for row in rows[part.name]],
      truth.accuracy[[*codes]]) for name, some in ranks.items()
            if {part.name for part in some} <= {*rows}}
  found: dict[str, Any] = {}
  for (name, seed), part in bred.items():
    if part.name in rows:
      row = rows[part.name]
      found.setdefault(name, []).append({
          "seed": seed,
          "cell": cells.to_string(known_truth.names_of(row["code"])),
          "accuracy": float(truth.accuracy[row["code"]]),
          "best": float(truth.accuracy[row["candidates"]].max()), **row})
  return ranked, found


def supernet(folder: pathlib.Path, codes: Sequence[int]) -> dict[str, float]:
  """How a recorded supernet of the whole space orders the same cells.

  Args:
    folder: a record of `nasbench201_supernet.py`.
    codes: of the cells.

  Raises:
    InputError: it ordered others.
  """
  last = recording.read(folder / "result.json")["taus"][-1]
  if last["codes"] != [*codes]:
    raise errors.InputError(
        f"{folder} ordered {len(last['codes'])} other cells than the"
        f" {len(codes)} of this run; give a record of the same --seed and as"
        " many cells, or leave out --supernet")
  return {key: last[key] for key in ("tau", "tau_better_half")}


# The report.


def readme(config: Config, result: Mapping[str, Any]) -> str:
  """The record in words."""
  both = ("tau", "tau_better_half")
  rows = []
  for name, part in result["ranked"].items():
    title = TITLES[name]
    rows.append([title, *(recording.spread(
        [draw[key] for draw in part["draws"]], 2) for key in both)])
    rows.append([f"{title}, mean of {config.draws} draws", *(
        f"{part['mean'][key]:.2f}" for key in both)])
  rows += [[title, *(f"{result['beside'][name][key]:.2f}" for key in both)]
           for name, title in (
               ("params", "parameters"), ("madds", "multiply-adds"),
               ("supernet", "supernet of the whole space"))
           if name in result["beside"]]
  column = lambda part, key: [row[key] for row in part]
  found = [[TITLES[name], recording.spread(column(part, "accuracy"), 2),
            ", ".join(f"{x:.2f}" for x in column(part, "accuracy")),
            recording.spread(column(part, "best"), 2)]
           for name, part in result["evolution"].items()]
  each = [[TITLES[name] if not i else "", row["seed"], "`{}`".format(
      row["cell"]).replace("|", "\\|"), f"{row['accuracy']:.2f}"]
          for name, part in result["evolution"].items()
          for i, row in enumerate(part)]
  bred = config.evolution
  return "\n".join([
      "# Zero-cost scores on NAS-Bench-201, judged by the truth", "",
      f"Kendall's tau with the true accuracy (test accuracy on CIFAR-10 after"
      f" 200 epochs, the benchmark's table) over {config.ranked} cells drawn"
      " from the whole space, and over the better half of them:", "",
      *recording.table(("", "tau", "of the better half"), rows), "",
      f"Mean ± deviation over {config.draws} draws of the initial weights."
      " Parameters and multiply-adds are the counts, taken as scores."
      + (" The supernet's is the record of `nasbench201_supernet.py`, by its"
         " accuracy on training images after all its epochs."
         if "supernet" in result["beside"] else ""), "",
      f"Evolution over all cells by a score, {config.seeds} searches of"
      f" {bred.population * bred.generations} candidates, one draw of the"
      " weights each:", "",
      *recording.table(("by", "true accuracy of what was found, %", "by seed",
                        "best of the candidates"), found), "",
      f"A random cell reaches {truth_in_words(result)}; the best cell"
      f" {result['optimum']:.2f}.", "",
      *recording.table(("by", "seed", "cell", "true accuracy, %"), each), "",
      f"Networks: {config.repeats} cells per stage, {config.image_size}x"
      f"{config.image_size} pixels of {result['dataset']}; NASWOT by"
      f" {config.images} training images. Nothing was trained, and none of the"
      " settings was chosen by the table.", "",
      f"Library: commit {result['commit'] or 'unknown'}.", "",
      *recording.in_words(result)])


def truth_in_words(result: Mapping[str, Any]) -> str:
  """What random cells reach."""
  return f"{result['random']['mean']:.2f} ± {result['random']['deviation']:.2f}"


# The command line.


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  recording.add_flags(parser, PRESETS)
  sweeps.add_flags(parser)
  parser.add_argument("--table", type=pathlib.Path, required=True,
                      help="NAS-Bench-201's: CSV, or NATS-Bench's folder")
  parser.add_argument("--supernet", type=pathlib.Path, metavar="REPORT",
                      help="a record of nasbench201_supernet.py, to compare"
                      " with")
  return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
  args = parse(argv)
  natjax.configure_compilation()

  # Config.
  config = dataclasses.replace(PRESETS[args.preset], seed=args.seed)
  truth = known_truth.Truth(nasbench201.read(args.table))
  # The cells that `nasbench201_supernet.py` draws.
  codes = np.random.default_rng([config.seed, 200]).choice(
      cells.COUNT, config.ranked, replace=False).tolist()
  known = truth.accuracy[codes]
  beside = {"params": taus(truth.params[codes], known),
            "madds": taus(truth.madds[codes], known),
            **({"supernet": supernet(args.supernet, codes)}
               if args.supernet else {})}
  sweep = sweeps.Sweep(__file__, args, argv, dataclasses.asdict(config))
  commit = recording.once(sweep.out / "commit.json", recording.commit)
  transforming.say(f"{recording.hardware()}; seed {config.seed};"
                   f" {pipeline.versions()}")

  # Data, scores, searches.
  dataset = transforming.load(
      config.dataset, args.data_dir, image_size=config.image_size,
      train_images=config.images, seed=config.seed)
  ranked, found = run(config, Scores(config, dataset), truth, sweep, codes)

  # Report.
  result = {
      "codes": codes, "ranked": ranked, "beside": beside, "evolution": found,
      "random": {"mean": float(truth.accuracy.mean()),
                 "deviation": float(truth.accuracy.std())},
      "optimum": float(truth.accuracy.max()), "dataset": dataset.name,
      "commit": commit, "config": dataclasses.asdict(config),
      **sweep.circumstances()}
  transforming.report(
      args.report or sweep.out / "report", result, readme(config, result))
  sweep.end()


if __name__ == "__main__":
  recording.run(main)
