"""The commands that run long: transform, search and train."""

import contextlib
import dataclasses
import functools
import math
import pathlib
import re
import signal

from natjax import data, errors, methods, pipeline, spaces
from natjax.cli import console, dry_run, inputs, output, processes
from natjax.graph import codec, records
from natjax.graph import genotype as genotype_lib
from natjax.methods import entry as entry_lib
from natjax.methods import supervised
from natjax.pipeline import presets, run_files
from natjax.pipeline import weights as weights_lib
from natjax.training import devices, interrupts, settings

_SECONDS = {"checkpoint_seconds": 60.0, "chunk_seconds": 10.0}


def _prepare(args, prefix, method):
  """What the long commands do first; returns (preset, architectures).

  Args:
    args: the arguments; what was left out is filled in.
    prefix: of the options of training.
    method: its name, or None.
  """
  devices.configure_compilation()
  several = processes.join(args)
  for name in ("teraflops", "json"):
    if getattr(args, name) and not args.dry_run:
      settings.refuse(args, name, "is of --dry-run alone; leave it out")
  for name in ("overwrite", "strict", "tensorboard", *_SECONDS):
    if args.dry_run and (value := getattr(args, name)) is not None and (
        value is not False):  # Of seconds 0 is a value, too.
      settings.refuse(args, name, "has no effect with --dry-run, which runs"
                      " nothing; leave one of them out")
  for name, usual in _SECONDS.items():
    if getattr(args, name) is None:
      setattr(args, name, usual)
    if not 0 <= getattr(args, name) < math.inf:
      settings.refuse(args, name, "must be a finite number of 0 or more")
  if args.tensorboard:
    output.tensorboard_module()
  for name in ("dataset", "out"):
    if (value := getattr(args, name)) is not None:
      errors.path(value, name)
  starts = _given(args)
  architectures: list[codec.Architecture] = []
  if args.command == "search":
    graph = spaces.get(args.space).graph
    if args.width is not None:
      settings.refuse(args, "width", "scales networks that are given; leave it"
                      " out, or give --supernet-width")
  else:
    skeleton = f"{prefix}skeleton"
    named = getattr(args, skeleton)
    architectures = [inputs.read_architecture(
        start, inputs.skeleton_of(start, args.preset) if named is None else (
            named), args.width) for start in starts]
    graph = architectures[0]
    if graph.kind == "blocks":
      # It has chosen the network; the setting is what cells stand in.
      setattr(args, skeleton, None)
  if args.preset is None:
    args.preset = "demo" if args.dataset == "digits" else "small"
  if several and args.dry_run:
    console.err.print("A dry run joins no other processes: it counts the"
                      " devices of this one alone.")
  if args.out is None and not args.dry_run:
    words = (args.command, *(pathlib.Path(start).stem for start in starts),
             method, pathlib.Path(args.dataset).stem)
    args.out = "runs/" + "-".join(
        re.sub(r"[^\w.]+", "_", word).strip("_")[:40] for word in words if word)
  preset = presets.get(args.preset, graph, method, args.objective)
  if args.image_size is None:
    own = inputs.sizes(starts[0]) if inputs.names_factory(starts[0]) else None
    args.image_size = own["image_size"] if own else preset.image_size
  if args.resize is None:
    args.resize = preset.resize
  if args.train_fraction is None:
    args.train_fraction = preset.train_fraction
  return preset, architectures


def _given(args):
  """What is searched, or transformed or trained, as the arguments name it."""
  return [args.space] if args.command == "search" else [
      args.architecture, *args.others]


def _load(args):
  """The data that the arguments name; what is to be said of them is said."""
  asked = {name: getattr(args, name) for name in (
      "image_size", "resize", "train_fraction", "normalize", "stream",
      "renumber_labels", "workers", "skip_damaged", "test_fraction")}
  try:
    found = data.load(args.dataset, data_dir=args.data_dir, **asked)
  except errors.NotThere:
    # Where a folder is named, that it holds the set is a part of the question.
    if not args.dry_run or args.data_dir is not None:
      raise
    found = data.absent(args.dataset, **asked)
  for note in found.notes:
    console.err.print(f"{found.name}: {note}")
  return _varied(args, found)


def _varied(args, found):
  """The data, whose training images' colours vary as the arguments say."""
  asked = {name: value for name in ("jitter", "lighting")
           if (value := getattr(args, name)) is not None}
  if not asked:
    return found
  if args.objective == "simclr":
    settings.refuse(args, next(iter(asked)), "does not apply to the objective"
                    " simclr, whose views vary by settings of its own; leave it"
                    " out")
  augmentation = found.augmentation._replace(**asked)
  data.dataset.check_augmentation(augmentation, found.image_size)
  return dataclasses.replace(found, augmentation=augmentation)


def run_transform(args) -> int:
  """`natjax transform` and `natjax search`."""
  preset, architectures = _prepare(args, "train-", args.method)
  extra = inputs.file_settings(args, ("search", "train", *inputs.OBJECTIVES))
  objectives = inputs.objectives(args, preset, extra)
  first, count = inputs.seeds(args)
  weights = inputs.weights(args)
  # With --seeds every seed trains a network of its own.
  usual = preset.train if count else weights_lib.usual_seeds(
      weights, preset.train)
  train = inputs.settings(args, usual, "train-", extra["train"])
  if args.share == "full" and architectures and all(
      architecture.kind == "cells" for architecture in architectures):
    architectures, train = _unshared(args, architectures, train, extra["train"])
    preset = presets.get(
        args.preset, architectures[0], args.method, args.objective)
  dataset = _load(args)
  inputs.refuse(args)
  search = inputs.settings(args, preset.search, "", extra["search"])
  entry_lib.refuse_idle(methods.METHODS[args.method], search, {
      *inputs.given(args, vars(search)), *extra["search"]})
  if args.no_train:
    inputs.refuse_untrained(args, extra["train"])
  if count is not None and getattr(args, "train-seeds") is not None:
    raise errors.InputError(
        f"train-seeds is {getattr(args, 'train-seeds')} and seeds {args.seeds},"
        " by which every seed trains its own network; leave one of them out")
  job = pipeline.Job(
      architectures or None, dataset, args.method,
      search, train,
      space=args.space, share=args.share, seed=first, seeds=count,
      devices=args.devices, compare=args.compare is not False, **objectives,
      train_found=not args.no_train, weights=weights,
      train_from=args.train_from, start=args.start)
  show = output.print_transformed if not job.union else functools.partial(
      output.print_union, names=_given(args))
  return _run_job(args, job, show)


def _unshared(args, genotypes, train, given):
  """Genotypes' cells as blocks of their own, and how those are trained."""
  for name in ("auxiliary", "drop_path"):
    if name in given or getattr(args, f"train-{name}") is not None:
      raise errors.InputError(
          f"{settings.word(name)} does not apply to cells that are not shared;"
          " leave it out, or --share full", f"train.{name}")
  skeleton = records.Skeleton(train.skeleton, train.init_channels, train.cells)
  return [
      genotype_lib.unshared(genotype, skeleton)._replace(name=name)
      for genotype, name in zip(
          genotypes, _given(args), strict=True)
  ], dataclasses.replace(train, **supervised.OF_CELLS)


def run_train(args) -> int:
  """`natjax train`."""
  preset, (architecture,) = _prepare(args, "", None)
  extra = inputs.file_settings(args, ("train", *inputs.OBJECTIVES))
  first, count = inputs.seeds(args)
  args.seeds = count
  weights = inputs.weights(args)
  config = inputs.settings(args, weights_lib.usual_seeds(
      weights, preset.train), "", extra["train"])
  dataset = _load(args)
  job = pipeline.TrainJob(
      architecture, dataset, config, seed=first, devices=args.devices,
      **inputs.objectives(args, preset, extra),
      weights=weights, held_out=args.held_out)
  return _run_job(args, job, output.print_trained)


def _run_job(args, job, show) -> int:
  if args.dry_run:
    if args.out is not None:  # No folder is looked at that was not named.
      job.check(args.out, whole=args.coordinator is None)
    dry_run.show(job, _given(args), args.teraflops, json=args.json)
    return 0
  # Of several processes, one shows what happens.
  first = job.trainer.processes.first
  finished = job.open(
      args.out, overwrite=args.overwrite, strict=args.strict) is not None
  if first:
    output.print_head(job)
  asked: list[int] = []  # Signals.
  try:
    with contextlib.ExitStack() as stack:
      stack.enter_context(interrupts.interruptible(
          asked, lambda: _stopping(asked[-1])))
      hears = {}
      if first:
        display = stack.enter_context(output.Display(args))
        hears = {"on_progress": display.progress, "on_row": display.row,
                 "on_resume": display.resumed}
      result = job.run(args.out, listener=pipeline.Listener(
          should_stop=lambda: bool(asked),
          checkpoint_seconds=args.checkpoint_seconds,
          chunk_seconds=args.chunk_seconds, **hears))
  except errors.Interrupted:
    console.tell("Interrupted and saved; the same command resumes it from"
                 f" {args.out}.")
    # Another of several processes may have been asked.
    others = job.trainer.processes.gather(asked[:1])
    return 128 + next(iter(sum(others, asked)), signal.SIGINT)
  if first:
    path = pathlib.Path(args.out) / run_files.RESULT
    with run_files.reading(path) if finished else contextlib.nullcontext():
      show(result, args.out, job.entry)
    if finished and (text := run_files.lacking(args.out)):
      console.out.print(f"{args.out}: {text}; the run is not trained again"
                        " unless you overwrite it (--overwrite)")
  return 0


def _stopping(number):
  gone = signal.Signals(number).name == "SIGHUP"  # The terminal, perhaps.
  if gone:
    console.err.quiet = console.out.quiet = True
  (console.tell if gone else console.err.print)(
      "Stopping after this chunk of steps, or once a program that is being"
      " compiled is done; again to stop at once.")
