"""The command line. The only module that prints or exits.

Exit codes: 0 done, 1 a step was not finite, 2 the input was refused, 130
interrupted (the run is saved and resumes by the same command).
"""

import argparse
from collections.abc import Sequence
import dataclasses
import functools
import json
import math
import os
import pathlib
import signal
import sys
import time
from typing import Any
from typing import NoReturn

from rich import console as rich_console
from rich import progress as rich_progress
from rich import table as rich_table

from natjax import errors

# jax is imported by the commands that need it, after its compiler is set up.

_HELP = {
    "transform": "replace an architecture's operations by cheaper ones (NAT)",
    "train": "train the network of an architecture",
    "evaluate": "test accuracy of the networks that a run trained",
    "draw": "draw an architecture, or what changed between two",
    "cost": "parameters and multiply-adds of an architecture",
    "list": "architectures, operations, data sets and presets",
    "operations": "parameters and multiply-adds of every operation",
}

# Paths and names are printed as they are, brackets and colons too.
_PLAIN = {"highlight": False, "soft_wrap": True, "markup": False,
          "emoji": False}
out = rich_console.Console(**_PLAIN)
err = rich_console.Console(stderr=True, **_PLAIN)


class Parser(argparse.ArgumentParser):
  """A parser whose refusals are one line."""

  def error(self, message: str) -> NoReturn:
    raise errors.InputError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command; returns the exit code."""
  try:
    args = make_parser().parse_args(argv)
    return args.run(args)
  except errors.InputError as e:
    sys.stderr.write(f"natjax: {' '.join(str(e).splitlines())}\n")
    return 2
  except KeyboardInterrupt:
    return 130
  except BrokenPipeError:  # The reader of our output left.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def make_parser() -> Parser:
  """Builds the parser of all commands."""
  from natjax.methods import nat
  from natjax.methods import supervised

  parser = Parser(prog="natjax", description="Takes a network's architecture "
                  "and returns a better or cheaper one.", allow_abbrev=False)
  commands = parser.add_subparsers(dest="command", required=True,
                                   metavar="COMMAND")

  def add(name, run):
    sub = commands.add_parser(name, help=_HELP[name], allow_abbrev=False,
                              description=_HELP[name])
    sub.set_defaults(run=run)
    return sub

  transform = add("transform", run_transform)
  transform.add_argument("architecture", metavar="ARCH")
  transform.add_argument("--method", default="nat", choices=("nat",))
  _add_run_flags(transform)
  transform.add_argument("--space", help="nat or nat_loose_end (default: by "
                         "the architecture)")
  _add_settings(transform, nat.NATConfig, "", "search")
  _add_settings(transform, supervised.TrainConfig, "train-",
                "final training of both networks")

  train = add("train", run_train)
  train.add_argument("architecture", metavar="ARCH")
  _add_run_flags(train)
  _add_settings(train, supervised.TrainConfig, "", "training")

  evaluate = add("evaluate", run_evaluate)
  evaluate.add_argument("directory", metavar="DIR")
  evaluate.add_argument("--dataset", help="default: the run's own")
  evaluate.add_argument("--data-dir", help="where the data set lies")
  evaluate.add_argument("--json", action="store_true")

  draw = add("draw", run_draw)
  draw.add_argument("architecture", metavar="ARCH")
  draw.add_argument("other", metavar="OTHER", nargs="?")
  draw.add_argument("--out", required=True, metavar="FILE.svg|.png")

  cost = add("cost", run_cost)
  cost.add_argument("architecture", metavar="ARCH")
  cost.add_argument("--skeleton", default="cifar",
                    choices=("cifar", "imagenet"))
  for flag in ("init-channels", "cells", "classes", "image-size"):
    cost.add_argument(f"--{flag}", type=int, metavar="N")
  cost.add_argument("--json", action="store_true")

  listing = add("list", run_list)
  listing.add_argument("--json", action="store_true")

  operations = add("operations", run_operations)
  operations.add_argument("--channels", type=int, default=128, metavar="N")
  operations.add_argument("--image-size", type=int, default=32, metavar="N")
  operations.add_argument("--json", action="store_true")
  return parser


def _add_run_flags(parser):
  parser.add_argument("--dataset", required=True,
                      help="a name of `natjax list`, of tensorflow-datasets, an"
                      " .npz file, or a folder of images per class")
  parser.add_argument("--data-dir", help="where the data set lies")
  parser.add_argument("--image-size", type=int, metavar="N",
                      help="side to which images are brought")
  parser.add_argument("--preset", default="small", help="demo, small or paper")
  parser.add_argument("--config", metavar="FILE", help="JSON with settings; "
                      "flags take precedence")
  parser.add_argument("--out", required=True, metavar="DIR")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--devices", type=int, metavar="N",
                      help="how many to use (default: all)")
  parser.add_argument("--overwrite", action="store_true",
                      help="remove the run in --out and start anew")
  parser.add_argument("--dry-run", action="store_true",
                      help="print the configuration and its size, and stop")
  parser.add_argument("--checkpoint-seconds", type=float, default=60.0,
                      metavar="S", help="least time between checkpoints")
  parser.add_argument("--chunk-seconds", type=float, default=10.0,
                      metavar="S", help="time between looks at the run")
  parser.add_argument("--tensorboard", action="store_true",
                      help="also write the metrics for TensorBoard")


def _add_settings(parser, config_class, prefix, title):
  group = parser.add_argument_group(
      f"{title} (defaults: the preset's)")
  for field in dataclasses.fields(config_class):
    flag = f"--{prefix}{field.name.replace('_', '-')}"
    options: dict[str, Any] = {"dest": f"{prefix}{field.name}",
                               "default": None}
    if field.type is bool:
      options["action"] = argparse.BooleanOptionalAction
    else:
      options["type"] = field.type
      options["metavar"] = field.type.__name__.upper()
    group.add_argument(flag, **options)


def read_architecture(name: str):
  """A genotype from a file, where one is named, or from the zoo."""
  from natjax import architecture
  from natjax import zoo

  path = pathlib.Path(name)
  if path.is_file() or path.suffix in (".json", ".txt", ".py") or (
      len(path.parts) > 1):
    return architecture.read(path)
  return zoo.get(name)


def _settings(args, config, prefix, extra):
  """The preset's settings, then a file's, then flags'."""
  fields = {f.name: f.type for f in dataclasses.fields(config)}
  changed = {}
  for name, value in extra.items():
    if name not in fields:
      raise errors.InputError(
          f"{args.config}: unknown setting '{name}'; known are"
          f" {', '.join(fields)}")
    wanted = fields[name]
    if wanted is float and type(value) is int:
      value = float(value)
    if type(value) is not wanted:
      raise errors.InputError(
          f"{args.config}: '{name}' is {value!r} and must be of type"
          f" {wanted.__name__}; correct it")
    changed[name] = value
  for name in fields:
    value = getattr(args, f"{prefix}{name}", None)
    if value is not None:
      changed[name] = value
  return dataclasses.replace(config, **changed)


def _file_settings(args, parts):
  """The parts of --config: {"search": {...}, "train": {...}}."""
  from natjax import runs

  if args.config is None:
    return {part: {} for part in parts}
  data = runs.read_json(
      args.config, missing="name a file with --config",
      damaged="correct it, or pass flags instead")
  if not isinstance(data, dict) or not set(data) <= set(parts) or not all(
      isinstance(v, dict) for v in data.values()):
    raise errors.InputError(
        f"{args.config}: must be an object with the keys {', '.join(parts)},"
        " each an object of settings; `--dry-run` shows them all")
  return {part: data.get(part, {}) for part in parts}


def _load_dataset(args, image_size):
  from natjax import data

  if args.image_size is not None:
    image_size = args.image_size
  return data.load(args.dataset, data_dir=args.data_dir, image_size=image_size)


def _prepare(args):
  """What the two long commands do first; returns (preset, genotype)."""
  from natjax import presets
  from natjax.training import devices

  devices.configure_compilation()
  for flag, seconds in (("checkpoint-seconds", args.checkpoint_seconds),
                        ("chunk-seconds", args.chunk_seconds)):
    if not 0 <= seconds < math.inf:
      raise errors.InputError(
          f"{flag} is {seconds} and must be a finite number of 0 or more; pass"
          f" --{flag} 10")
  if args.tensorboard:
    _tensorboard_module()
  return presets.get(args.preset), read_architecture(args.architecture)


def run_transform(args) -> int:
  """`natjax transform`."""
  preset, genotype = _prepare(args)
  from natjax import pipeline

  extra = _file_settings(args, ("search", "train"))
  search = _settings(args, preset.search, "", extra["search"])
  train = _settings(args, preset.train, "train-", extra["train"])
  job = pipeline.TransformJob(
      genotype, _load_dataset(args, preset.image_size), search, train,
      space=args.space, seed=args.seed, devices=args.devices)
  return _run_job(args, job, _print_transformed)


def run_train(args) -> int:
  """`natjax train`."""
  preset, genotype = _prepare(args)
  from natjax import pipeline

  extra = _file_settings(args, ("train",))
  config = _settings(args, preset.train, "", extra["train"])
  job = pipeline.TrainJob(
      genotype, _load_dataset(args, preset.image_size), config,
      seed=args.seed, devices=args.devices)
  return _run_job(args, job, _print_trained)


def _run_job(args, job, show) -> int:
  from natjax import pipeline
  from natjax import runs
  from natjax.training import fit

  if args.dry_run:
    out.print_json(pipeline.to_json(
        {"configuration": job.describe(), "estimate": job.estimate()}))
    return 0
  runs.open_run(args.out, job.describe(), overwrite=args.overwrite)
  _print_head(job)
  interrupt = _Interrupt()
  display = _Display(args)
  try:
    with interrupt, display:
      result = job.run(args.out, overwrite=False, listener=pipeline.Listener(
          on_progress=display.progress, on_row=display.row,
          should_stop=lambda: interrupt.asked,
          checkpoint_seconds=args.checkpoint_seconds,
          chunk_seconds=args.chunk_seconds))
  except fit.Interrupted:
    err.print(f"Interrupted and saved; the same command resumes it from"
              f" {args.out}.")
    return 130
  except fit.NotFinite as e:
    sys.stderr.write(f"natjax: {e}\n")
    return 1
  show(result, args.out)
  return 0


def _print_head(job):
  from natjax import pipeline

  estimate = job.estimate()
  kinds = ", ".join(sorted({d.device_kind for d in job.devices}))
  err.print(f"devices: {len(job.devices)} ({kinds}); seed {job.seed}; "
            + ", ".join(f"{k} {v}" for k, v in pipeline.versions().items()))
  for name, part in (("supernet", estimate.get("search")),
                     ("network", estimate.get("train", estimate))):
    if part:
      madds = (f", {part['madds'] / 1e6:.1f} M multiply-adds"
               if "madds" in part else "")
      err.print(f"{name}: {part['params']} parameters{madds},"
                f" {part['steps']} steps, about"
                f" {part['memory_bytes'] / 2**20:.0f} MB")


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
    err.print("Stopping after this chunk of steps; again to stop at once.")


class _Display:
  """Progress on a terminal; one line per row of metrics elsewhere."""

  def __init__(self, args):
    self._bar = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.TaskProgressColumn(),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[metrics]}"),
        console=err, disable=not err.is_terminal)
    self._tasks: dict[str, Any] = {}
    self._writer = None
    if args.tensorboard:
      self._writer = _tensorboard_module().SummaryWriter(
          str(pathlib.Path(args.out) / "tensorboard"))

  def __enter__(self):
    self._bar.start()
    return self

  def __exit__(self, *exc_info):
    self._bar.stop()
    if self._writer is not None:
      self._writer.close()

  def progress(self, p):
    """Shows a chunk's end, or that a phase begins."""
    if not p.metrics and not err.is_terminal:
      err.print(f"{p.run} {p.stage} {p.phase}: starts; compiles where the cache"
                " does not have it")
    if p.run not in self._tasks:
      self._tasks[p.run] = self._bar.add_task(p.run, total=1.0, metrics="")
    metrics = " ".join(f"{k} {v:.3f}" for k, v in p.metrics.items())
    metrics = metrics or "compiles where the cache does not have it"
    self._bar.update(
        self._tasks[p.run], completed=p.done,
        metrics=f"epoch {p.epoch + 1}/{p.epochs} {p.phase}: {metrics}")

  def row(self, row):
    """Shows a phase's end where there is no terminal."""
    values = {k: v for k, v in row.items() if isinstance(v, float)}
    if not err.is_terminal:
      text = " ".join(f"{k} {v:.4f}" for k, v in values.items())
      err.print(f"{row['run']} {row['stage']} epoch {row['epoch'] + 1}"
                f" {row['phase']}: {text}")
    if self._writer is not None:
      for key, value in values.items():
        self._writer.add_scalar(
            f"{row['run']}/{row['phase']}/{key}", value, row["epoch"],
            walltime=time.time())


def _tensorboard_module():
  try:
    import tensorboardX
  except ImportError as e:
    raise errors.InputError(
        "--tensorboard needs tensorboardX; pip install"
        " \"natjax[tensorboard]\"") from e
  return tensorboardX


def _millions(value):
  return f"{value / 1e6:.3f} M"


def _percent(summary):
  if len(summary["accuracies"]) == 1:
    return f"{100 * summary['accuracy']:.2f} %"
  return (f"{100 * summary['accuracy']:.2f} ± "
          f"{100 * summary['accuracy_std']:.2f} %")


def _print_transformed(result, folder):
  before, after = result["original"], result["transformed"]
  seeds = len(before["accuracies"])
  table = rich_table.Table(
      title=f"test accuracy on {result['dataset']}, {seeds} seed(s) each")
  for column in ("", "accuracy", "parameters", "multiply-adds"):
    table.add_column(column, justify="left" if not column else "right")
  for name, summary in (("original", before), ("transformed", after)):
    table.add_row(name, _percent(summary), _millions(summary["params"]),
                  _millions(summary["madds"]))
  gain = after["accuracy"] - before["accuracy"]
  ratios = [after[k] / before[k] - 1 for k in ("params", "madds")]
  table.add_row("difference", f"{100 * gain:+.2f}",
                *(f"{100 * r:+.1f} %" for r in ratios))
  out.print(table)
  out.print(_verdict(result, gain, ratios))
  if result["changes"]:
    changes = rich_table.Table(title="edges that changed")
    for column in ("cell", "edge", "before", "after"):
      changes.add_column(column)
    for c in result["changes"]:
      changes.add_row(c["cell"], f"{c['source']} -> {c['target']}",
                      c["before"], c["after"])
    out.print(changes)
  out.print(f"{folder}: result.json, architecture.json, architecture.svg,"
            f" networks/ ({result['seconds']:.0f} s)")


def _verdict(result, gain, ratios):
  if not result["changes"]:
    return ("The original was kept: no sampled transformation scored better on"
            " the supernet.")
  spread = max(result["original"]["accuracy_std"],
               result["transformed"]["accuracy_std"])
  winner = "transformed network" if gain > 0 else "original"
  if gain == 0:
    quality = "Both are equally accurate"
  else:
    doubt = "" if abs(gain) > spread else ", by less than one deviation"
    quality = f"The {winner} is more accurate{doubt}"
  cheaper = ratios[0] < 0 or ratios[1] < 0
  saving = "is cheaper" if cheaper else "costs the same"
  return f"{quality}; the transformed one {saving}."


def _print_trained(result, folder):
  table = rich_table.Table(title="test accuracy")
  for column in ("accuracy", "parameters", "multiply-adds"):
    table.add_column(column, justify="right")
  table.add_row(_percent(result), _millions(result["params"]),
                _millions(result["madds"]))
  out.print(table)
  out.print(f"{folder}: result.json, networks/ ({result['seconds']:.0f} s)")


def run_evaluate(args) -> int:
  """`natjax evaluate`."""
  from natjax.training import devices

  devices.configure_compilation()
  from natjax import data
  from natjax import runs
  from natjax.training import fit

  config = runs.read_config(args.directory)
  try:
    dataset = data.load(
        args.dataset or config["dataset"], data_dir=args.data_dir,
        image_size=config["image_size"])
  except errors.InputError as e:
    if args.dataset is None:  # A file's or a folder's path is not kept.
      raise errors.InputError(f"{e}; name the run's set by --dataset") from e
    raise
  if dataset.num_classes != config["classes"]:
    raise errors.InputError(
        f"{args.directory} has networks for {config['classes']} classes and"
        f" {dataset.name} has {dataset.num_classes}; name the set that they"
        " were trained on")
  split = fit.Split(dataset.test_images, dataset.test_labels)
  rows = []
  for folder in runs.network_folders(args.directory):
    net = runs.load(args.directory, folder.name)
    accuracy = fit.evaluate(
        functools.partial(_is_right, net.module), net.variables, split,
        preparation=net.preparation, batch_size=128)
    rows.append({"network": folder.name, "accuracy": accuracy})
  if args.json:
    out.print_json(json.dumps({"dataset": dataset.name, "networks": rows}))
    return 0
  table = rich_table.Table(title=f"test accuracy on {dataset.name}")
  table.add_column("network")
  table.add_column("accuracy", justify="right")
  for row in rows:
    table.add_row(row["network"], f"{100 * row['accuracy']:.2f} %")
  out.print(table)
  return 0


def _is_right(module, variables, batch):
  """f32[B], 1 where the network is right."""
  logits, _ = module.apply(variables, batch["image"])
  return (logits.argmax(-1) == batch["label"]).astype("float32")


def run_draw(args) -> int:
  """`natjax draw`."""
  from natjax import drawing

  other = None if args.other is None else read_architecture(args.other)
  drawing.save(args.out, read_architecture(args.architecture), other)
  out.print(args.out)
  return 0


def run_cost(args) -> int:
  """`natjax cost`."""
  from natjax import cost
  from natjax import skeleton

  given = {"init_channels": args.init_channels, "cells": args.cells,
           "num_classes": args.classes, "image_size": args.image_size}
  if args.classes is not None and args.classes < 1:
    raise errors.InputError(
        f"classes is {args.classes} and must be at least 1; pass --classes 10")
  place = skeleton.DEFAULTS[args.skeleton]._replace(
      **{k: v for k, v in given.items() if v is not None})
  total = cost.network(read_architecture(args.architecture), place)
  if args.json:
    out.print_json(json.dumps({
        "params": total.params, "madds": total.madds,
        "architecture": args.architecture, "skeleton": place._asdict()}))
  else:
    out.print(f"{args.architecture}: {total.params} parameters,"
              f" {total.madds / 1e6:.1f} M multiply-adds ({place.kind}"
              " skeleton,"
              f" {place.init_channels} channels, {place.cells} cells,"
              f" {place.num_classes} classes, {place.image_size} pixels)")
  return 0


def run_list(args) -> int:
  """`natjax list`."""
  from natjax import data
  from natjax import operations
  from natjax import presets
  from natjax import spaces
  from natjax import zoo

  listing = {
      "architectures": list(zoo.names()),
      "operations": list(operations.names()),
      "datasets": dict(data.names()),
      "spaces": list(spaces.SPACES),
      "presets": list(presets.PRESETS),
  }
  if args.json:
    out.print_json(json.dumps(listing))
    return 0
  for title, names in listing.items():
    out.print(title, style="bold")
    if isinstance(names, dict):
      for name, text in names.items():
        out.print(f"  {name}: {text}")
    else:
      out.print("  " + ", ".join(names))
  return 0


def run_operations(args) -> int:
  """`natjax operations`."""
  from natjax import cost
  from natjax import operations

  for flag, value in (("channels", args.channels),
                      ("image-size", args.image_size)):
    if value < 1:
      raise errors.InputError(
          f"{flag} is {value} and must be at least 1; pass --{flag} 32")
  table = cost.operation_table(args.channels, args.image_size)
  if args.json:
    out.print_json(json.dumps([
        {"operation": name, "type": operations.get(name).type,
         "kernel_size": operations.get(name).kernel_size,
         "params": c.params, "madds": c.madds} for name, c in table.items()]))
    return 0
  shown = rich_table.Table(
      title=f"{args.channels} channels, {args.image_size} x"
      f" {args.image_size} pixels (stride 1; 2x2 pooling at stride 2)")
  for column in ("operation", "parameters (K)", "multiply-adds (M)"):
    shown.add_column(column, justify="left" if column == "operation"
                     else "right")
  for name, c in table.items():
    shown.add_row(name, f"{c.params / 1e3:.1f}", f"{c.madds / 1e6:.1f}")
  out.print(shown)
  return 0


if __name__ == "__main__":
  sys.exit(main())
