"""`natjax selftest`: is natjax right on this machine, and how fast?"""

import functools
import importlib.util
import math
import os
import pathlib
import shlex

import jax

from natjax import errors
from natjax.cli import console
from natjax.pipeline import run_files
from natjax.selftest import report as report_lib
from natjax.training import devices, metrics

FILE = "selftest.json"


def run_selftest(args) -> int:
  """`natjax selftest`; 1 where something is wrong or incomplete."""
  limit = args.time_limit
  if limit is None:
    limit = 180.0 if args.quick else 360.0
  if not 0 < limit < math.inf:
    raise errors.InputError(f"time-limit is {limit} and must be a finite number"
                            " above 0; give 360", "time_limit")
  if args.against and args.only == "checks":
    raise errors.InputError("against is torch and applies to speed alone; leave"
                            " it out, or --only checks", "against")
  if args.against and importlib.util.find_spec("torch") is None:
    raise errors.InputError("against is torch, which is not installed; pip"
                            " install \"natjax[benchmark]\", or leave it out",
                            "against")
  folder = errors.path(args.out, "out")
  if args.markdown is not None:
    errors.path(args.markdown, "markdown")
  for path in (folder, *folder.parents):
    if os.path.lexists(path):
      if not path.is_dir():
        raise errors.InputError(f"{path} is not a folder; name another", "out")
      break
  if args.markdown is not None and (
      not pathlib.Path(args.markdown).absolute().parent.is_dir()):
    raise errors.InputError(f"{args.markdown} lies in no folder that is there;"
                            " make it first", "markdown")
  if args.markdown is not None:
    errors.replaceable(pathlib.Path(args.markdown))
  devices.configure_compilation()
  if args.against:  # Both need room on the device.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  try:
    jax.devices("cpu")
  except RuntimeError as e:
    raise errors.InputError(
        f"the CPU, with which results are compared, is not there ({e}); start"
        " without JAX_PLATFORMS, or with ,cpu at its end") from e

  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as e:
    if errors.disk_full(e):
      raise
    raise errors.InputError(f"{folder} cannot be made ({e.strerror}); name"
                            " another", "out") from e
  write = functools.partial(run_files.write_json, folder / FILE)
  report = report_lib.run(
      quick=args.quick, against_torch=args.against == "torch", only=args.only,
      time_limit=limit, say=console.err.print, keep=write)
  write(report)
  if args.markdown is not None:
    metrics.write_text(args.markdown, report_lib.markdown(
        report, _command(args)))
  for table in report_lib.tables(report):
    console.print_table(*table)
  console.out.print(f"{report['verdict']}: {folder / FILE}")
  return 0 if report["passed"] else 1


def _command(args):
  """The command again, without where it writes."""
  words = ["natjax", "selftest", *["--quick"] * args.quick]
  for name in ("against", "only", "time_limit"):
    value = getattr(args, name)
    if value is not None:
      words += [f"--{name.replace('_', '-')}", f"{value}"]
  return shlex.join(words)
