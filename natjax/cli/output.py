"""What the command line prints while a job runs and when it is done."""

import pathlib
import time
from typing import Any

from rich import console as rich_console
from rich import progress as rich_progress
from rich import table as rich_table

from natjax import errors

# Paths and names are printed as they are, brackets and colons too.
_PLAIN = {"highlight": False, "soft_wrap": True, "markup": False,
          "emoji": False}
out = rich_console.Console(**_PLAIN)
err = rich_console.Console(stderr=True, **_PLAIN)


def print_head(job):
  """Says what a job runs on and how large it is."""
  from natjax import pipeline

  estimate = job.estimate()
  kinds = ", ".join(sorted({d.device_kind for d in job.devices}))
  err.print(f"devices: {len(job.devices)} ({kinds}); seed {job.seed}; "
            + ", ".join(f"{k} {v}" for k, v in pipeline.versions().items()))
  search = "with theta" if "theta" in estimate.get("search", {}) else (
      "supernet")
  for name, part in ((search, estimate.get("search")),
                     ("network", estimate.get("train", estimate))):
    if part:
      madds = (f", {part['madds'] / 1e6:.1f} M multiply-adds"
               if "madds" in part else "")
      err.print(f"{name}: {part['params']} parameters{madds},"
                f" {part['steps']} steps, about"
                f" {part['memory_bytes'] / 2**20:.0f} MB")


class Display:
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
      self._writer = tensorboard_module().SummaryWriter(
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


def tensorboard_module():
  """tensorboardX, an optional dependency (InputError)."""
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


def print_transformed(result, folder):
  """Shows the result of `natjax transform`."""
  after, before = result["transformed"], result.get("original")
  seeds = len(after["accuracies"])
  table = rich_table.Table(
      title=f"{_measure(result)} on {result['dataset']}, {seeds} seed(s) each")
  for column in ("", "accuracy", "parameters", "multiply-adds"):
    table.add_column(column, justify="left" if not column else "right")
  for name, summary in (("original", before), ("transformed", after)):
    if summary:
      table.add_row(name, _percent(summary), _millions(summary["params"]),
                    _millions(summary["madds"]))
  if before:
    gain = after["accuracy"] - before["accuracy"]
    ratios = [after[k] / before[k] - 1 for k in ("params", "madds")]
    table.add_row("difference", f"{100 * gain:+.2f}",
                  *(f"{100 * r:+.1f} %" for r in ratios))
  out.print(table)
  if before:
    out.print(_verdict(result, gain, ratios))
  _print_linear(result)
  _print_seeds(result)
  if result["changes"]:
    changes = rich_table.Table(title="edges that changed" if seeds == 1 or (
        "seeds" not in result) else "edges that changed, first seed")
    for column in ("cell", "edge", "before", "after"):
      changes.add_column(column)
    for c in result["changes"]:
      changes.add_row(c["cell"], f"{c['source']} -> {c['target']}",
                      c["before"], c["after"])
    out.print(changes)
  networks = "networks/" if (
      pathlib.Path(folder) / "networks").is_dir() else "seed-*/"
  theta = " theta.svg," if (pathlib.Path(folder) / "theta.svg").exists() else ""
  out.print(f"{folder}: result.json, architecture.json, architecture.svg,"
            f"{theta} {networks} ({result['seconds']:.0f} s)")


def _measure(result):
  return ("test accuracy of the nearest neighbours" if
          result.get("objective") == "simclr" else "test accuracy")


def _print_linear(result):
  """The accuracies of linear classifiers, where there are any."""
  rows = [(name, part) for name, part in (
      ("original", result.get("original")),
      ("transformed", result.get("transformed")), ("network", result))
          if part and "linear_accuracy" in part]
  for name, part in rows:
    several = len(part["linear_accuracies"]) > 1
    spread = f" ± {100 * part['linear_accuracy_std']:.2f}" if several else ""
    out.print(f"linear classifier on the {name}'s features:"
              f" {100 * part['linear_accuracy']:.2f}{spread} %")


def _print_seeds(result):
  """What every seed of several transformations came to."""
  if "seeds" not in result:
    return
  table = rich_table.Table(title="seed by seed")
  derived = "train_accuracy_before_derivation" in result["seeds"][0]
  for column in ("seed", "accuracy", "parameters", "multiply-adds", "changes",
                 *["derivation"] * derived):
    table.add_column(column, justify="right")
  for row in result["seeds"]:
    cells = [str(row["seed"]), f"{100 * row['accuracy']:.2f} %",
             _millions(row["params"]), _millions(row["madds"]),
             str(row["num_changes"])]
    if derived:
      cells.append(f"{100 * row['train_accuracy_before_derivation']:.1f} ->"
                   f" {100 * row['train_accuracy_after_derivation']:.1f} %")
    table.add_row(*cells)
  out.print(table)
  if derived:
    out.print("derivation: accuracy on training images just before and just"
              " after theta gave way to its choice, which weighs 1, by running"
              " statistics")
  for row in result["seeds"]:
    if row.get("guarded"):
      out.print(f"seed {row['seed']}: the guards or the budget overruled theta"
                f" on {len(row['guarded'])} edge(s); \"guarded\" in result.json"
                " lists them")


def _verdict(result, gain, ratios):
  rows = result.get("seeds", [{"num_changes": len(result["changes"])}])
  if not any(row["num_changes"] for row in rows):
    if result["method"] == "differentiable":
      return ("The architecture was kept: on no edge did theta come to weigh"
              " another choice more than the operation. A longer first stage"
              " (--architecture-epochs) or a larger --theta-learning-rate moves"
              " it further.")
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
  if len(result.get("seeds", [])) > 1:
    return f"{quality}; the transformed ones {saving.replace('is', 'are')}."
  return f"{quality}; the transformed one {saving}."


def print_trained(result, folder):
  """Shows the result of `natjax train`."""
  table = rich_table.Table(title=_measure(result))
  for column in ("accuracy", "parameters", "multiply-adds"):
    table.add_column(column, justify="right")
  table.add_row(_percent(result), _millions(result["params"]),
                _millions(result["madds"]))
  out.print(table)
  _print_linear(result)
  out.print(f"{folder}: result.json, networks/ ({result['seconds']:.0f} s)")
