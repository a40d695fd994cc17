"""What `--dry-run` shows: what a run would be and take, on a screen."""

from collections.abc import Sequence

from natjax.cli import console, output
from natjax.costs import amounts
from natjax.pipeline import tables
from natjax.training import devices

_MEASURED = "measured"
_LONG = 200  # An architecture may be given by its text.


def show(job, given: Sequence[str], teraflops: float | str | None, *,
         json: bool) -> None:
  """Prints what a job would do, and estimates what it would take.

  Args:
    job: a `pipeline.Job` or `pipeline.TrainJob`.
    given: what is transformed, trained or searched, as the command names it.
    teraflops: of a device, 10^12 operations a second; "measured" times the
      training steps of the network that is given; None is what
      `devices.teraflops` takes them for.
    json: print all of it, as one object with "configuration", "estimate",
      "teraflops" and, where there is one, "budget" and "budget_met".

  Raises:
    InputError: "measured", and no network is given.
  """
  each = (job.rate() if teraflops == _MEASURED else
          teraflops or devices.teraflops(job.trainer.devices))
  limits, met = ({}, {}) if job.entry is None else (
      job.budget(), job.budget_met())
  configuration, estimate = job.describe(), job.estimate(each)
  if json:
    output.print_note(job)
    console.print_json({
        "configuration": configuration, "estimate": estimate,
        "teraflops": each, **(
            {"budget": limits, "budget_met": met} if limits else {})})
    return
  output.print_head(job)
  names = (f"{name[:_LONG]}..." if len(name) > _LONG else name
           for name in given)
  console.out.print(", ".join((
      " ".join((configuration["kind"], *names)), *(
          f"method {name}" for name in [configuration.get("method")] if name),
      _seeds(job))))
  for name in ("search", "train", *(
      key for key in configuration if key in ("simclr", "arcface"))):
    if name in configuration:
      console.out.print(f"{name}: " + ", ".join(
          f"{key.replace('_', ' ')} {value}"
          for key, value in configuration[name].items()
          if value not in ("", None)))
  if limits:
    console.out.print("budget: " + ", ".join(_bounds(limits, met)))
  rows = [*_rows(estimate, "train" if job.entry is None else "")]
  if rows:
    known = "timed" if teraflops == _MEASURED else "assumed"
    console.print_table(
        f"what it would take, at {each:.3g} teraflops a device ({known})",
        ("", ">parameters", ">multiply-adds", ">steps", ">memory", ">time"),
        rows)
  if "all" in estimate and estimate["all"]["steps"] > sum(_steps(
      {k: v for k, v in estimate.items() if k != "all"})):
    console.out.print("All counts the training of what comes out, too, as that"
                      " of the original.")
  if configuration["kind"] == "search" and not configuration.get(
      "no_train"):
    console.out.print("How long what is found trains is not known, and is not"
                      " counted.")
  if configuration.get("search", {}).get("tries", 1) > 1:
    console.out.print("All tries are counted; the first that is accepted is the"
                      " last.")
  console.out.print("Compiling, reading images and scoring are not counted."
                    " --json prints all of the configuration.")


def _seeds(job):
  """The seeds of a run's parts, as `--seeds` takes them."""
  first, count = job.trainer.seed, job.trainer.config.seeds
  if job.entry is not None and not job.entry.trained:
    count = len(job.seeds)  # Of one search the networks are trained apart.
  return f"seeds {first}:{first + count}" if count > 1 else f"seed {first}"


def _bounds(limits, met, name=""):
  """Limits in numbers, of several architectures behind their names.

  Of those that the original keeps to it is said: they bound nothing.
  """
  for key, value in limits.items():
    if isinstance(value, dict):
      yield from _bounds(value, met[key], f"{key} ")
    else:
      shown = tables.ASKED.get(key, lambda value: (
          f"{value:,.0f}" if value >= 1 else amounts.rounded(value)))
      yield f"{name}{key} {shown(value)}" + (
          " (met by the original already)" * bool(met[key]))


def _rows(estimate, name=""):
  """A row for every part of an estimate, those of parts too."""
  if "steps" in estimate:
    shown = lambda key: (
        amounts.count(estimate[key]) if key in estimate else "")
    yield (name, shown("params"), shown("madds"), f"{estimate['steps']:,.0f}",
           amounts.memory(estimate["memory_bytes"], 0)
           if "memory_bytes" in estimate else "",
           _time(3600 * estimate["hours"]) if "hours" in estimate else "")
  else:
    for part, found in estimate.items():
      yield from _rows(found, f"{name} {part}".strip())


def _steps(estimate):
  """Steps of all parts."""
  if "steps" in estimate:
    yield estimate["steps"]
  else:
    for found in estimate.values():
      yield from _steps(found)


def _time(seconds):
  for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
    if seconds >= 2 * size:
      return f"{seconds / size:,.1f} {unit}"
  return f"{seconds:.1f} s"
