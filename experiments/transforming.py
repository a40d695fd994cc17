"""What the experiments share that transform given networks and train them."""

import argparse
from collections.abc import Callable, Iterable
import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np
import recording
import sweeps

from natjax import data as data_lib
from natjax import pipeline, spaces
from natjax.graph import codec
from natjax.methods import nat, supervised
from natjax.objectives import arcface as arcface_lib
from natjax.pipeline import presets, run_files, runs
from natjax.training import metrics

KINDS = {"original": "original", "nat": "NAT", "natpp": "NAT++",
         "published_nat": "NAT, published",
         "published_natpp": "NAT++, published"}


@dataclasses.dataclass(frozen=True)
class Settings:
  """How a network is transformed and trained.

  Attributes:
    search: of NAT and of NAT++.
    train: of every network.
    seed: of everything random.
    share: "cell" or "full".
    arcface: settings by which identities of faces are learnt; None learns
      labels.
  """

  search: nat.NATConfig
  train: supervised.TrainConfig
  seed: int = 0
  share: str = "cell"
  arcface: arcface_lib.ArcFaceConfig | None = None


def load(
    name: str, data_dir: str | None, *, image_size: int, train_images: int,
    seed: int,
) -> data_lib.Dataset:
  """The data set, with `train_images` of its training images drawn, 0 for all.
  """
  dataset = data_lib.load(name, data_dir=data_dir, image_size=image_size)
  if not train_images:
    return dataset
  rows = np.random.default_rng([seed, 1]).permutation(
      len(dataset.train_labels))[:train_images]
  return dataclasses.replace(
      dataset, train_images=dataset.train_images[rows],
      train_labels=dataset.train_labels[rows])


def transform(
    name: str, architecture: codec.Architecture, method: str,
    dataset: data_lib.Dataset, settings: Settings, out: pathlib.Path,
    originals: pathlib.Path | None,
) -> dict[str, Any]:
  """Transforms a network and trains it and what became of it.

  Args:
    name: of the network, for the progress.
    architecture: the network.
    method: "nat" or "natpp".
    dataset: the images.
    settings: how.
    out: the run's folder.
    originals: a finished run that trained the same originals, by `transform`
      or by itself, or None.

  Returns:
    What `pipeline.transform` returns.
  """
  job = pipeline.Job(
      architecture, dataset, method, settings.search, settings.train,
      share=settings.share, seed=settings.seed, arcface=settings.arcface)
  runs.open_run(out, job.describe())
  if originals is not None:
    # The same settings and seeds: these very networks would be trained again.
    for source in (originals / run_files.NETWORKS).glob(
        f"*/{run_files.RESULT}"):
      kind, _, seed = source.parent.name.rpartition("-")
      target = out / run_files.NETWORKS / f"original-{seed}"
      if kind in ("original", "network") and not (
          target / run_files.RESULT).exists():
        run_files.adopt(source.parent, target)
  return job.run(out, listener=listener(f"{name} {method}"))


def both(
    name: str, architecture: codec.Architecture, dataset: data_lib.Dataset,
    settings: Settings, out: pathlib.Path,
) -> dict[str, dict[str, Any]]:
  """The original, and what NAT and NAT++ make of it: a row per kind."""
  found, first = {}, None
  for method in ("nat", "natpp"):
    result = transform(name, architecture, method, dataset, settings,
                       out / method, first)
    first = out / method
    for kind, key in (("original", "original"), (method, "transformed")):
      found[kind] = result[key] | {
          "architecture": result["architectures"][key]}
    chosen = next(c for c in result["candidates"] if c["chosen"])
    original = next(c for c in result["candidates"] if c["original"])
    found[method] |= {
        "candidates": len(result["candidates"]),
        "changes": len(result["changes"]),
        "score": chosen["score"], "original_score": original["score"],
        "search_seconds": result["search_seconds"]}
  return found


def train(
    name: str, architecture: codec.Architecture, dataset: data_lib.Dataset,
    settings: Settings, out: pathlib.Path,
) -> dict[str, Any]:
  """Trains a network; returns its row."""
  result = pipeline.train(
      architecture, dataset, out=out, config=settings.train,
      seed=settings.seed, listener=listener(name))
  return {k: result[k] for k in (
      "params", "madds", "accuracy", "accuracy_std", "accuracies",
      "architecture")}


def searches(
    name: str, out: pathlib.Path, space: str, dataset: data_lib.Dataset,
    row: Callable[[int, pathlib.Path], Any], *, method: str, search: Any,
    train: supervised.TrainConfig | None, train_found: bool, seed: int,
    seeds: int,
) -> list[sweeps.Part]:
  """Searches with several seeds, as parts, a run each.

  Args:
    name: of the method among all.
    out: holds the run of each, `seed-N`.
    space: as `pipeline.search`, and so the arguments that are not named here.
    dataset: the images.
    row: a part's result, of its seed and its run's folder.
    method: that searches.
    search: its settings.
    train: of what is found.
    train_found: whether it is trained.
    seed: the first.
    seeds: how many.
  """
  def make():
    own = train or presets.get("small", spaces.get(space).graph, method).train
    return pipeline.Job(
        None, dataset, method, search, own, space=space, seed=seed, seeds=seeds,
        train_found=train_found)

  return [sweeps.Part(f"{name} seed {one}", functools.partial(
      _search, name, one, out / f"seed-{one}", make, row))
          for one in range(seed, seed + seeds)]


@functools.lru_cache(maxsize=1)
def _made(make):
  """The job of the parts of one method, which share its program."""
  return make()


def _search(name, seed, folder, make, row):
  _made(make).of_seed(seed).run(
      folder, listener=listener(f"{name} seed {seed}"))
  return row(seed, folder)


def listener(name: str) -> pipeline.Listener:
  """Prints the end of every epoch, without what is no number, such as theta.
  """
  return pipeline.Listener(
      should_stop=recording.asked,
      on_row=lambda row: say(f"{name}: " + " ".join(
          f"{k} {v:.4f}" if isinstance(v, float) else str(v)
          for k, v in row.items() if not isinstance(v, dict | list))))


def say(text: str) -> None:
  """Prints a line at once."""
  print(text, flush=True)


def add_flags(parser: argparse.ArgumentParser, networks: Iterable[str], *,
              representations: bool = True) -> None:
  """Adds the arguments of the experiments that transform given networks."""
  parser.add_argument("--networks", nargs="+", choices=tuple(networks),
                      help="default: the preset's")
  parser.add_argument("--datasets", nargs="+", help="default: the preset's")
  if representations:
    parser.add_argument("--representations", action="store_true", default=None,
                        help="transform a second graph of each network")


def configured(config: Any, args: argparse.Namespace) -> Any:
  """A preset's `config` with what the arguments change of it."""
  given = getattr(args, "representations", None)
  return dataclasses.replace(
      config, seed=args.seed, networks=tuple(args.networks or config.networks),
      datasets=tuple(args.datasets or config.datasets),
      **({} if given is None else {"representations": given}))


def over_datasets(
    config: Any,
    args: argparse.Namespace,
    sweep: sweeps.Sweep,
    compare: Callable[[str, data_lib.Dataset, pathlib.Path], dict[str, Any]],
) -> dict[str, Any]:
  """Compares every network on every data set: a part of the sweep for each.

  Returns:
    The rows of what is finished, by names of data sets and networks.
  """
  get = functools.lru_cache(maxsize=1)(lambda name: load(
      name, args.data_dir, image_size=config.image_size,
      train_images=config.train_images, seed=config.seed))

  def part(given, dataset, network):
    return sweeps.Part(f"{dataset} {network}", lambda: compare(
        network, get(given), sweep.out / dataset / network))

  parts = {(name, network): part(given, name, network)
           for given in config.datasets for name in (get(given).name,)
           for network in config.networks}
  rows, found = sweep.run([*parts.values()]), {}
  for (name, network), one in parts.items():
    if one.name in rows:
      found.setdefault(name, {})[network] = rows[one.name]
  return found


def report(folder: pathlib.Path, result: dict[str, Any], text: str) -> None:
  """Writes and prints a record."""
  folder.mkdir(parents=True, exist_ok=True)
  recording.write(folder / "result.json", result)
  metrics.write_text(folder / "README.md", text)
  say(text)
  say(f"recorded in {folder}")
