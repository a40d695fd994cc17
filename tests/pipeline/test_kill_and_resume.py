"""Killed at any moment and run again, a run ends in the same bits.

A network of few blocks, whose supernet is traced and compiled in seconds at
each of the many starts; cells are killed so by `make test-all`, and stopped and
resumed in one process by `methods.test_nat`.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from natjax.graph import blocks, codec

EDGE = blocks.Edge
RESIDUAL = blocks.Block(
    (blocks.Node(4, activation="relu"),),
    (EDGE("conv_3x3", 1, 2), EDGE("skip_connect", 1, 2)))
STRIDED = blocks.Block((blocks.Node(8, 2, "relu"),), (EDGE("conv_3x3", 1, 2),))
NETWORK = blocks.BlockNetwork(
    "mine", (blocks.Layer("conv", 4, 3, activation="relu"),),
    (RESIDUAL, RESIDUAL, STRIDED))

SETTINGS = [
    "--dataset", "digits", "--preset", "demo", "--image-size", "8",
    "--epochs", "4", "--batch-size", "64", "--candidates", "3",
    "--train-epochs", "3", "--train-batch-size", "64", "--train-seeds", "1",
    "--finalists", "2",
    # A checkpoint after every chunk, so that many kills hit one in writing.
    "--checkpoint-seconds", "0", "--chunk-seconds", "0.05",
]
NAT = ["--warmup-epochs", "1", "--samples", "2"]
# Of a budget, so that there is another network to be trained.
BLOCKS = ["mine.json", "--max-params", "0.9x", *NAT]
EVOLVED = ["mine.json", "--max-params", "0.9x", "--method", "evolution",
           "--population", "6", "--generations", "3", "--parents", "3",
           "--mutations", "2", "--crossovers", "2"]
CELLS = ["darts", *NAT, "--init-channels", "2", "--cells", "2",
         "--train-init-channels", "2", "--train-cells", "2"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  """Of compiled programs, which all of the processes share."""
  return tmp_path_factory.mktemp("cache")


def start(out, cache, what):
  environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "true",
                 "JAX_COMPILATION_CACHE_DIR": str(cache),
                 "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
  (out.parent / "mine.json").write_text(codec.to_json(blocks.check(NETWORK)))
  return subprocess.Popen(
      [sys.executable, "-m", "natjax.cli", "transform", *what, *SETTINGS,
       "--out", str(out)],
      env=environment, cwd=out.parent, stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process, limit=400):
  _, text = process.communicate(timeout=limit)
  assert process.returncode == 0, text[-2000:]


def checkpoints(folder):
  return [p for p in folder.glob("*") if p.name.isdigit()]


def moments(out, what):
  """What to wait for before each kill."""
  search = out / "checkpoint" / "search"
  rows = lambda: (out / "metrics.jsonl").read_text() if (
      out / "metrics.jsonl").exists() else ""
  policy = what != EVOLVED
  return {
      "weights phase": lambda: ('"warmup"' if policy else '"supernet"') in (
          rows()),
      "checkpoint in writing": lambda: any(search.glob("*tmp*")),
      **({"policy phase": lambda: '"policy"' in rows()} if policy else {
          "evolution": lambda: rows().count('"supernet"') == 4}),
      "first round of trials": lambda: '"run": "trial-1-' in rows(),
      "final training": lambda: '"run": "original-0", "stage"' in rows(),
      "second training": lambda: '"run": "transformed-0"' in rows() or (
          out / "networks" / "original-0" / "result.json").exists(),
  }


def files(out):
  result = json.loads((out / "result.json").read_text())
  result.pop("seconds")
  result.pop("search_seconds")
  assert sum(result.pop("time").values()) > 0
  result.pop("trial_seconds", None)
  rows = [json.loads(line)
          for line in (out / "metrics.jsonl").read_text().splitlines()]
  for row in rows:
    row.pop("seconds")
  weights = {}
  for path in sorted(out.glob("networks/*/weights.npz")):
    with np.load(path) as f:
      weights |= {f"{path.parent.name}/{k}": f[k] for k in f.files}
  return result, rows, weights, (out / "architecture.json").read_text()


@pytest.mark.parametrize("what", [
    BLOCKS, EVOLVED, pytest.param(CELLS, marks=pytest.mark.slow)],
    ids=["blocks", "evolution", "cells"])
def test_killed_at_random_moments_ends_in_the_same_bits(
    tmp_path, cache, what):
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  finish(start(whole, cache, what))
  random.seed(0)
  hit = []
  for name, reached in moments(killed, what).items():
    process = start(killed, cache, what)
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
      if reached():
        time.sleep(random.uniform(0, 0.3) * (name != "checkpoint in writing"))
        break
      time.sleep(0.002)
    if process.poll() is None:
      os.killpg(process.pid, signal.SIGKILL)
      hit.append(name)
    process.communicate()
  # The last moments may pass before they are seen; most must be hit.
  assert len(hit) >= 4, hit
  finish(start(killed, cache, what))
  for a, b in zip(files(whole), files(killed), strict=True):
    if isinstance(a, dict) and any(isinstance(v, np.ndarray)
                                   for v in a.values()):
      assert a.keys() == b.keys() and len(a) > 20
      for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)
    else:
      assert a == b


@pytest.mark.long
def test_interrupt_saves_and_exits_with_130(tmp_path, cache):
  out = tmp_path / "run"
  process = start(out, cache, BLOCKS)
  while '"warmup"' not in (
      (out / "metrics.jsonl").read_text()
      if (out / "metrics.jsonl").exists() else ""):
    assert process.poll() is None
    time.sleep(0.05)
  process.send_signal(signal.SIGINT)
  _, text = process.communicate(timeout=200)
  assert process.returncode == 130, text[-2000:]
  assert "resumes" in text
  assert checkpoints(out / "checkpoint" / "search")
