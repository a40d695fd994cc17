"""The main jobs: transform an architecture, search for one, train one.

`transform` and `search` run a method of `methods.METHODS` and train what it
comes to, beside the given architecture where there is one; `train` is the last
part alone. All are resumed by calling them again with the same arguments.
"""

import os
from typing import Any

from natjax import data as data_lib
from natjax import errors, methods, spaces
from natjax.graph import codec
from natjax.methods import supervised
from natjax.objectives import arcface as arcface_lib
from natjax.objectives import simclr as simclr_lib
from natjax.pipeline import judge as judge_lib
from natjax.pipeline import presets, results, run_files
from natjax.pipeline import weights as weights_lib
from natjax.pipeline.checks import Given, given
from natjax.pipeline.job import Job
from natjax.pipeline.progress import Printed
from natjax.pipeline.runs import versions
from natjax.pipeline.work import TrainJob
from natjax.training.fit import Listener

__all__ = ["Job", "Listener", "Printed", "TrainJob", "search", "train",
           "transform", "versions"]

_PRINTED = Printed()


def transform(
    architecture: Given, dataset: data_lib.Dataset, *,
    out: str | os.PathLike[str], method: str = "nat", search: Any = None,
    train: supervised.TrainConfig | None = None, space: str | None = None,
    share: str | None = None, simclr: simclr_lib.SimCLRConfig | None = None,
    arcface: arcface_lib.ArcFaceConfig | None = None,
    weights: weights_lib.Source | None = None,
    train_from: str | None = None, start: str = "drawn", seed: int = 0,
    devices: int | None = None, overwrite: bool = False, strict: bool = False,
    listener: Listener | None = _PRINTED) -> results.Result:
  """Transforms an architecture and trains it and what became of it.

  Args:
    architecture: what to transform: a genotype, or a network of blocks; or
      several of one space, for NAT, NAT++ and evolution, which share one search
      around all of them; None searches in a space.
    dataset: images; the test images are looked at once, by trained networks.
    out: the run directory; an interrupted run there is resumed.
    method: of `methods.METHODS`.
    search: settings of the method; None is the preset "small".
    train: settings of the final training; None is the preset "small".
    space: of `spaces.SPACES`, for methods that take one beside a genotype;
      None chooses by the genotype.
    share: "cell" transforms blocks of one topology alike, "full" each by
      itself; None is the method's usual; a genotype's cells are shared by all
      layers ("cell"), and `blocks.from_genotype` makes a network of them that
      are not.
    simclr: settings of the self-supervised objective, for methods that take
      it; None learns labels.
    arcface: settings by which labels are learnt as identities of faces are, by
      angles with a margin, for methods that take it.
    weights: of the trained given network, which the method begins with: a run's
      folder, a file of weights, or its variables; None trains the network
      first ("replace"), or draws the weights.
    train_from: of NAT, NAT++ and evolution, whether the networks at the end are
      trained from "scratch" (None) or fine-tuned, from what the supernet holds
      for them ("inherited"); where weights are given, the original is not
      trained. The networks of "replace" and "differentiable" inherit theirs
      (None, or "inherited"); with "scratch", "replace" also trains what it
      chose from drawn weights, compares both on the held-out images, and
      returns the better ("fresh" of every row of "seeds").
    start: of NAT, NAT++, evolution and theta, how operations begin that the
      given network has not: "drawn", or "replace", having learnt to give what
      the trained network gives.
    seed: of everything random.
    devices: how many to spread over; None is all.
    overwrite: remove an earlier run in `out`.
    strict: refuse to resume under other versions of the packages or on another
      kind of device, which else warns.
    listener: who hears of the course; by default a line per phase is printed
      to standard error (`Printed`), and None is silent.

  Returns:
    What `result.json` holds, which a notebook shows as tables and a picture:
    "original" and "transformed" with "params", "madds", "accuracy" (mean over
    seeds, in [0, 1]), "accuracy_std" and "accuracies"; "changes";
    "architectures", "seed", "versions", "seconds"; of NAT, NAT++ and evolution
    "candidates" with their scores, the numbers of those that every `prefer`
    chooses, "preferred", and where some were tried on held-out
    images, "acceptance" and "trial_seconds", and where what trials accepted
    was compared when trained in full, "confirmation"; of a method that trains
    what it derives, where every seed derives an architecture of its own,
    "seeds" ("changes", "architectures" and the files are then the first seed's,
    and costs are means). Of several given architectures "union" has all this of
    each, in their order, whose files lie in `architecture-1` and so on, and
    "search_seconds" are those of the search that they share.

  Raises:
    InputError: anything that does not fit, before anything is compiled.
    errors.NotMet: nothing that was found keeps to the budget of the settings.
  """
  default = _default(given(architecture)[0], method,
                     judge_lib.one_of(simclr, arcface))
  job = Job(architecture, dataset, method,
            default.search if search is None else search,
            weights_lib.usual_seeds(weights, default.train)
            if train is None else train, space=space,
            share=share, seed=seed, devices=devices, simclr=simclr,
            arcface=arcface,
            weights=weights, train_from=train_from, start=start)
  return _run(job, out, overwrite, strict, listener)


def search(space: str, dataset: data_lib.Dataset, *,
           out: str | os.PathLike[str], method: str, search: Any = None,
           train: supervised.TrainConfig | None = None,
           train_found: bool = True,
           simclr: simclr_lib.SimCLRConfig | None = None,
           arcface: arcface_lib.ArcFaceConfig | None = None, seed: int = 0,
           seeds: int | None = None, devices: int | None = None,
           overwrite: bool = False, strict: bool = False,
           listener: Listener | None = _PRINTED) -> results.Result:
  """Searches in a space and trains what is found; see `transform`.

  Args:
    space: of `spaces.SPACES`.
    dataset: as for `transform`, and so the arguments that are not named here.
    out: the run directory.
    method: of `methods.METHODS`, one that starts from a space.
    search: settings of the method; None is the preset "small".
    train: settings of the final training; None is the preset "small".
    train_found: whether to train what was found from scratch.
    simclr: as for `transform`.
    arcface: as for `transform`.
    seed: of everything random.
    seeds: how many searches, from `seed` on, each of which trains one network
      of what it finds; None is one, of which `train.seeds` are trained.
    devices: how many to spread over; None is all.
    overwrite: remove an earlier run in `out`.
    strict: refuse to resume under other versions of the packages or on another
      kind of device, which else warns.
    listener: who hears of the course; by default a line per phase is printed
      to standard error (`Printed`), and None is silent.

  Returns:
    What `result.json` holds: "derived" with "params", "madds" and, where it was
    trained, "accuracy", "accuracy_std" and "accuracies"; "architectures",
    "seed", "versions", "seconds", "search_seconds", "peak_memory_bytes"; what
    the method reports, for example "parent_accuracy" of the supernet when the
    search ended and "child_accuracy" of what was found in it. Of several seeds
    "seeds" has a row for each.

  Raises:
    InputError: anything that does not fit, or a budget that nothing in the
      space keeps to, before anything is compiled.
  """
  graph = spaces.get(space).graph
  default = _default(graph, method, judge_lib.one_of(simclr, arcface))
  job = Job(None, dataset, method, default.search if search is None else search,
            default.train if train is None else train, space=space, seed=seed,
            seeds=seeds, devices=devices, simclr=simclr, arcface=arcface,
            train_found=train_found)
  return _run(job, out, overwrite, strict, listener)


def train(architecture: codec.Architecture, dataset: data_lib.Dataset, *,
          out: str | os.PathLike[str],
          config: supervised.TrainConfig | None = None,
          simclr: simclr_lib.SimCLRConfig | None = None,
          arcface: arcface_lib.ArcFaceConfig | None = None,
          weights: weights_lib.Source | None = None, held_out: float = 0.0,
          seed: int = 0, devices: int | None = None, overwrite: bool = False,
          strict: bool = False,
          listener: Listener | None = _PRINTED) -> results.Result:
  """Trains the network of an architecture, once per seed; see `transform`.

  With `simclr` it learns without labels: "accuracy" is then that of the nearest
  neighbours, and "linear_accuracy" stands beside it. With `arcface` it learns
  embeddings, which `verify` judges by pairs. With `weights`, a run's
  folder, a file or variables, it begins with those instead of drawing some.
  With `held_out`, a part of the training images, in [0, 1), these are not
  trained on; the accuracy on up to 10,000 of them is told after every epoch.

  Returns:
    What `result.json` holds: "params", "madds", "accuracy", "accuracy_std",
    "accuracies", "architecture", "seed", "versions", "seconds".
  """
  default = _default(architecture, None,
                     judge_lib.one_of(simclr, arcface))
  job = TrainJob(
      architecture, dataset, weights_lib.usual_seeds(weights, default.train)
      if config is None else config,
      seed=seed, devices=devices, simclr=simclr, arcface=arcface,
      weights=weights, held_out=held_out)
  return _run(job, out, overwrite, strict, listener)


def _run(job, out, overwrite, strict, listener):
  """Runs a job; who hears of its course hears what to know and its end."""
  out = errors.path(out, "out")
  prints = isinstance(listener, Printed) and job.trainer.processes.first
  if prints:
    for text in filter(None, (job.note, job.coarse)):
      listener.noted(text)
  result = results.Result(
      job.run(out, overwrite=overwrite, strict=strict, listener=listener),
      len(job.trainer.dataset.test_labels), out)
  if prints:
    text = run_files.lacking(out)
    listener.ended("\n".join([*result.told(), (
        f"{os.fspath(out)}: result.json" + (text and f"; {text}"))]))
  return result


def _default(architecture, method, objective):
  """The preset "small"; of an unknown method, that of training alone."""
  known = isinstance(method, str) and method in methods.METHODS
  return presets.get(
      "small", architecture, method if known else None,
      judge_lib.name(objective))
