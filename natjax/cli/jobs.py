"""The commands that run long: transform and train."""

import contextlib
import dataclasses
import math
import pathlib
import re
import signal
import sys

from natjax import errors
from natjax.cli import inputs
from natjax.cli import output


def _prepare(args, prefix):
  """What the two long commands do first; returns (preset, architecture).

  Args:
    args: the arguments; what was left out is filled in.
    prefix: of the options of training.
  """
  from natjax.graph import blocks
  from natjax.pipeline import presets
  from natjax.training import devices

  devices.configure_compilation()
  for flag, seconds in (("checkpoint-seconds", args.checkpoint_seconds),
                        ("chunk-seconds", args.chunk_seconds)):
    if not 0 <= seconds < math.inf:
      raise errors.InputError(
          f"{flag} is {seconds} and must be a finite number of 0 or more; pass"
          f" --{flag} 10")
  if args.tensorboard:
    output.tensorboard_module()
  architecture = inputs.read_architecture(
      args.architecture, getattr(args, f"{prefix}skeleton"), args.width)
  if isinstance(architecture, blocks.BlockNetwork):
    # It has chosen the network; the setting is what cells stand in.
    setattr(args, f"{prefix}skeleton", None)
  if args.preset is None:
    args.preset = "demo" if args.dataset == "digits" else "small"
  if args.out is None:
    words = (args.command, pathlib.Path(args.architecture).stem,
             getattr(args, "method", ""), pathlib.Path(args.dataset).stem)
    args.out = "runs/" + "-".join(
        re.sub(r"[^\w.]+", "_", word).strip("_") for word in words if word)
  method = getattr(args, "method", "")
  preset = presets.get(args.preset, architecture, method, args.objective)
  return preset, architecture


def _simclr(args, preset, given):
  """Settings of the self-supervised objective; None where labels are learnt."""
  names = [f.name for f in dataclasses.fields(preset.simclr)]
  if args.objective == "simclr":
    return inputs.settings(args, preset.simclr, "simclr-", given)
  for name in names:
    value = given.get(name, getattr(args, f"simclr-{name}"))
    if value is not None:
      option = name.replace("_", "-")
      raise errors.InputError(
          f"simclr-{option} is {value} and does not apply to the objective"
          f" {args.objective}; leave it out, or pass --objective simclr")
  return None


def run_transform(args) -> int:
  """`natjax transform`."""
  preset, architecture = _prepare(args, "train-")
  from natjax import pipeline
  from natjax.graph import blocks
  from natjax.pipeline import presets

  extra = inputs.file_settings(args, ("search", "train", "simclr"))
  simclr = _simclr(args, preset, extra["simclr"])
  train = inputs.settings(args, preset.train, "train-", extra["train"])
  if args.share == "full" and not isinstance(
      architecture, blocks.BlockNetwork):
    architecture, train = _unshared(args, architecture, train, extra["train"])
    preset = presets.get(args.preset, architecture, args.method,
                         args.objective)
  dataset = inputs.load_dataset(args, preset.image_size)
  first, count = inputs.seeds(args)
  common = {"share": args.share, "devices": args.devices}
  if args.method == pipeline.DifferentiableJob.method:
    inputs.refuse(args, preset.search, preset.theta, space=args.space)
    if count is not None:
      train = _with_seeds(args, train, count)
    job = pipeline.DifferentiableJob(
        architecture, dataset,
        inputs.settings(args, preset.theta, "", extra["search"]), train,
        seed=first, compare=args.compare is not False, simclr=simclr,
        **common)
  else:
    inputs.refuse(args, preset.theta, preset.search, compare=args.compare,
                  objective=None if simclr is None else args.objective)
    search = inputs.settings(args, preset.search, "", extra["search"])
    if count is not None:
      train = _with_seeds(args, train, 1)
    make = lambda seed: pipeline.TransformJob(
        architecture, dataset, search, train, method=args.method,
        space=args.space, seed=seed, **common)
    job = make(first) if count is None else pipeline.SeedsJob(
        range(first, first + count), make)
  return _run_job(args, job, output.print_transformed)


def _with_seeds(args, train, count):
  """The settings of training with as many seeds as --seeds says."""
  if getattr(args, "train-seeds") is not None:
    raise errors.InputError(
        f"train-seeds is {getattr(args, 'train-seeds')} and seeds"
        f" {args.seeds}, by which every seed trains its own network; leave one"
        " of them out")
  return dataclasses.replace(train, seeds=count)


def _unshared(args, genotype, train, given):
  """A genotype's cells as blocks of their own, and how those are trained."""
  from natjax.graph import blocks
  from natjax.graph import skeleton
  from natjax.methods import supervised

  for name in ("auxiliary", "drop_path"):
    if name in given or getattr(args, f"train-{name}") is not None:
      option = name.replace("_", "-")
      raise errors.InputError(
          f"{option} does not apply to cells that are not shared; leave"
          f" --train-{option} out, or --share full")
  network = blocks.from_genotype(genotype, skeleton.Skeleton(
      train.skeleton, train.init_channels, train.cells))
  return (network._replace(name=args.architecture),
          supervised.for_blocks(train))


def run_train(args) -> int:
  """`natjax train`."""
  preset, architecture = _prepare(args, "")
  from natjax import pipeline

  extra = inputs.file_settings(args, ("train", "simclr"))
  first, count = inputs.seeds(args)
  args.seeds = count
  config = inputs.settings(args, preset.train, "", extra["train"])
  job = pipeline.TrainJob(
      architecture, inputs.load_dataset(args, preset.image_size), config,
      seed=first, devices=args.devices,
      simclr=_simclr(args, preset, extra["simclr"]))
  return _run_job(args, job, output.print_trained)


def _run_job(args, job, show) -> int:
  from natjax import pipeline
  from natjax.pipeline import runs

  first = job.group.first  # Of several processes, one shows what happens.
  if args.dry_run:
    if first:
      output.out.print_json(pipeline.to_json(
          {"configuration": job.describe(), "estimate": job.estimate()}))
    return 0
  runs.open_job(job, args.out, overwrite=args.overwrite)
  interrupt = _Interrupt()
  listener = pipeline.Listener(
      should_stop=lambda: interrupt.asked,
      checkpoint_seconds=args.checkpoint_seconds,
      chunk_seconds=args.chunk_seconds)
  display = contextlib.nullcontext()
  if first:
    output.print_head(job)
    display = output.Display(args)
    listener = dataclasses.replace(
        listener, on_progress=display.progress, on_row=display.row)
  try:
    with interrupt, display:
      result = job.run(args.out, overwrite=False, listener=listener)
  except errors.Interrupted:
    output.err.print("Interrupted and saved; the same command resumes it from"
                     f" {args.out}.")
    return 130
  except errors.NotFinite as e:
    sys.stderr.write(f"natjax: {e}\n")
    return 1
  if first:
    show(result, args.out)
  return 0


class _Interrupt:
  """Ctrl-C asks the run to save and stop; a second one stops at once."""

  def __init__(self):
    self.asked = False
    self._old = None

  def __enter__(self):
    self._old = signal.signal(signal.SIGINT, self._handle)
    return self

  def __exit__(self, *exc_info):
    signal.signal(signal.SIGINT, self._old)

  def _handle(self, number, frame):
    del number, frame
    if self.asked:
      raise KeyboardInterrupt
    self.asked = True
    output.err.print(
        "Stopping after this chunk of steps; again to stop at once.")
