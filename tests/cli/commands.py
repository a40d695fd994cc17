"""Commands that the tests of the command line run, and how they run them."""

import contextlib
import io
import json
import pathlib

import jax

from natjax import cli

# In a network of one cell, which is a reduction cell, the first is not seen.
GENOTYPE = {
    "normal": [["sep_conv_3x3", 0, 2], ["skip_connect", 1, 2],
               ["conv_3x3", 1, 3], ["max_pool_3x3", 2, 3]],
    "normal_concat": [2, 3],
    "reduce": [["conv_3x3", 0, 2], ["sep_conv_3x3", 1, 2],
               ["max_pool_3x3", 1, 3], ["dil_conv_3x3", 2, 3]],
    "reduce_concat": [2, 3],
}
SEARCH = {"init_channels": 2, "cells": 1, "epochs": 2, "warmup_epochs": 1,
          "batch_size": 64, "samples": 2, "candidates": 4}
TRAIN = {"init_channels": 2, "cells": 1, "epochs": 2, "batch_size": 64,
         "seeds": 1}
DATA = ["--dataset", "digits", "--image-size", "8", "--preset", "demo",
        "--devices", "1"]

_compiled: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **kw: _compiled.append(name)
    if "backend_compile" in name else None)


def flags(settings, prefix=""):
  return [text for name, value in settings.items() for text in
          (f"--{prefix}{name.replace('_', '-')}", str(value))]


def transform_argv(genotype, out):
  return ["transform", str(genotype), *DATA, *flags(SEARCH),
          *flags(TRAIN, "train-"), "--out", str(out)]


def train_argv(genotype, out):
  return ["train", str(genotype), *DATA, *flags(TRAIN), "--out", str(out)]


def run(*argv):
  """Runs a command; returns (code, stdout, stderr)."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    code = cli.main([str(a) for a in argv])
  return code, out.getvalue(), err.getvalue()


def run_json(*argv):
  code, out, err = run(*argv, *["--json"] * ("--dry-run" in argv))
  assert code == 0, err
  return json.loads(out)


def contents(folder):
  return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
          for path in pathlib.Path(folder).rglob("*")}


def write(path, value):
  path.write_text(value if isinstance(value, str) else json.dumps(value))
  return path


def assert_refused(place, argv, *fragments):
  before, compiled = contents(place), len(_compiled)
  code, out, err = run(*argv)
  assert (code, out) == (2, ""), (code, out, err)
  lines = err.splitlines()
  assert len(lines) == 1 and err.endswith("\n"), err
  assert lines[0].startswith("natjax: ")
  for fragment in fragments:
    assert fragment in lines[0]
  assert contents(place) == before
  assert len(_compiled) == compiled
