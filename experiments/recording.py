"""What the experiments share: a folder to resume in, and the record of a run.

An experiment works in a folder of its own (--out) and can be stopped at any
moment: every finished part is a file there, and the same command goes on. At
the end it writes its record (--report): JSON, pictures, README.md.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
import contextlib
import json
import os
import pathlib
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np
from scipy import stats

from natjax import errors, pipeline
from natjax.cli import inputs
from natjax.cli import parser as cli_parser
from natjax.training import interrupts, metrics

CONFIG = "experiment.json"
ASKED: list[int] = []  # Signals by which this process was asked to stop.


def run(main: Callable[[], Any]) -> None:
  """Runs a script; what was wrongly asked is one line, and exit code 2."""
  try:
    main()
  except errors.InputError as error:
    print(f"{pathlib.Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
    sys.exit(2)


Parser = cli_parser.Parser  # Refuses in one line.


def at_least(least: int) -> Callable[[str], int]:
  """What reads a whole number of a flag, and refuses a smaller one."""

  def read(text):
    number = inputs.whole(text)
    if number < least:
      raise argparse.ArgumentTypeError(
          f"{number} is too few; give at least {least}")
    return number

  return read


def open_folder(
    out: pathlib.Path, config: dict[str, Any], *, overwrite: bool
) -> pathlib.Path:
  """Makes the folder, or finds it again.

  Args:
    out: the folder.
    config: JSON values, all that the results are a function of.
    overwrite: remove what an earlier run left there.

  Raises:
    InputError: it holds something else, or a run of another configuration.
  """
  config = json.loads(json.dumps(config))
  if out.exists() and not out.is_dir():
    raise errors.InputError(f"{out} is a file; name a folder with --out")
  path = out / CONFIG
  if path.exists() and overwrite:
    shutil.rmtree(out)
  if path.exists():
    found = read(path)
    if found != config:
      differ = sorted(
          key for key in {*found, *config} if found.get(key) != config.get(key))
      raise errors.InputError(
          f"{out} holds a run of another configuration ({', '.join(differ)}"
          " differ); name another --out or start anew with --overwrite")
  elif out.exists() and any(out.iterdir()):
    raise errors.InputError(
        f"{out} is not empty and holds no experiment; name another --out")
  out.mkdir(parents=True, exist_ok=True)
  write(path, config)
  return out


def read(path: pathlib.Path) -> Any:
  """Reads a JSON file."""
  return json.loads(path.read_text(encoding="utf-8"))


def write(path: pathlib.Path, value: Any) -> None:
  """Writes a JSON file under a temporary name and renames it."""
  metrics.write_text(path, json.dumps(value, indent=2) + "\n")


def once(path: pathlib.Path, make: Callable[[], Any]) -> Any:
  """What the file holds, or what `make` gives, which is then written there."""
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, make())
  return read(path)


def asked() -> bool:
  """Whether what runs should save and stop: a listener's `should_stop`."""
  return bool(ASKED)


def interruptible() -> contextlib.AbstractContextManager[None]:
  """Ctrl-C and other signals ask to save and stop; twice, Ctrl-C stops."""
  return interrupts.interruptible(ASKED, lambda: print(
      "Stopping once what runs is saved; Ctrl-C again to stop at once.",
      file=sys.stderr, flush=True), at_once=[signal.SIGINT])


@contextlib.contextmanager
def clock(out: pathlib.Path) -> Iterator[Callable[[], float]]:
  """Gives a function for the seconds spent in `out`, earlier runs included."""
  path = out / "seconds.json"
  before, began = read(path) if path.exists() else 0.0, time.monotonic()
  spent = lambda: before + time.monotonic() - began
  try:
    yield spent
  finally:
    write(path, spent())


def add_flags(parser: argparse.ArgumentParser, presets: Iterable[str]) -> None:
  """Adds the arguments that every experiment has that sees images."""
  add_folders(parser, presets)
  parser.add_argument("--data-dir", help="where the data sets lie")
  parser.add_argument("--seed", type=at_least(0), default=0)


def add_folders(parser: argparse.ArgumentParser,
                presets: Iterable[str]) -> None:
  """Adds the preset and the folders of an experiment."""
  parser.add_argument("--preset", choices=tuple(presets), default="small")
  parser.add_argument("--out", type=pathlib.Path, required=True,
                      help="folder to work in, and to resume from")
  parser.add_argument("--overwrite", action="store_true",
                      help="remove what is in --out and start anew")
  parser.add_argument("--report", type=pathlib.Path,
                      help="folder to record the results in")


def circumstances(
    script: str, argv: Sequence[str] | None, seconds: float
) -> dict[str, Any]:
  """How a result came about: command, time, machine, versions."""
  given = list(sys.argv[1:] if argv is None else argv)
  # What a folder is called on one machine says nothing on another.
  for flag, name in (("--data-dir", "DATA"), ("--out", "OUT"),
                     ("--report", "REPORT"), ("--table", "TABLE"),
                     ("--table101", "TABLE101"), ("--jpegs", "JPEGS"),
                     ("--sbd", "SBD")):
    if flag in given[:-1] and given[given.index(flag) + 1].startswith("/"):
      given[given.index(flag) + 1] = name
  return {
      "seconds": round(seconds, 1),
      "command": shlex.join(["python", f"experiments/{script}", *given]),
      "hardware": hardware(), "load": load_average(),
      "versions": pipeline.versions()}


def in_words(found: dict[str, Any]) -> list[str]:
  """`circumstances` as the last lines of a record."""
  versions = ", ".join(f"{k} {v}" for k, v in found["versions"].items())
  missing = [f"{name} ({why})"
             for name, why in found.get("missing", {}).items()]
  load = " of all jobs together" if "load" not in found else (
      f", the load average {found['load']} at the end")
  return [*([f"Missing: {'; '.join(missing)}.", ""] if missing else []),
          f"Command: `{found['command']}`", "",
          f"Hardware: {found['hardware']}; {found['seconds']:.0f} s{load};"
          f" {versions}.", ""]


def hardware() -> str:
  """The machine, in words."""
  kinds = sorted({d.device_kind for d in jax.local_devices()})
  cores = len(os.sched_getaffinity(0)) if hasattr(
      os, "sched_getaffinity") else os.cpu_count()
  return f"{cores} CPU cores ({platform.machine()}), {', '.join(kinds)}"


def load_average() -> str:
  """How busy the machine is, in words."""
  return " ".join(f"{x:.1f}" for x in os.getloadavg())


_ROOT = pathlib.Path(__file__).resolve().parent.parent


def commit(path: pathlib.Path = _ROOT / "natjax") -> str:
  """The last commit of a file or folder, by default of the library.

  With a "+" where it was changed since; empty where git does not know.
  """
  def git(*words):
    return subprocess.run(
        ["git", "-C", str(path.parent), *words, "--", path.name], check=True,
        capture_output=True, text=True).stdout.strip()

  try:
    return git("log", "-1", "--format=%h") + "+" * bool(
        git("status", "--porcelain"))
  except (OSError, subprocess.CalledProcessError):
    return ""


def spread(values: Sequence[float], digits: int, scale: float = 1.0) -> str:
  """Mean and deviation over what is compared; a single value by itself."""
  values = scale * np.asarray(values)
  mean = f"{np.mean(values):.{digits}f}"
  return mean if len(values) < 2 else (
      f"{mean} ± {np.std(values, ddof=1):.{digits}f}")


def paired(before: Sequence[float], after: Sequence[float]) -> str:
  """Mean of paired differences in points, with 95 % by Student's t.

  Args:
    before: accuracies in [0, 1], by seed.
    after: likewise, of the same seeds.
  """
  gains = 100 * (np.asarray(after) - np.asarray(before))
  if len(gains) < 2:
    return f"{gains.mean():+.2f}"
  reach = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(
      len(gains))
  return f"{gains.mean():+.2f} ± {reach:.2f}"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
  """A markdown table."""
  lines = [header, ["---"] * len(header), *rows]
  return [f"| {' | '.join(map(str, line))} |" for line in lines]
