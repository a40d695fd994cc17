"""Two processes train as one; one is killed, the other says so and ends."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from natjax import cli, errors
from natjax.training import distributed

SETTINGS = [
    "train", "vgg-cell", "--dataset", "digits", "--preset", "demo",
    "--image-size", "8", "--init-channels", "2", "--cells", "1",
    "--epochs", "6", "--batch-size", "64", "--seeds", "1", "--no-auxiliary",
    # A checkpoint after every chunk, and chunks of a few steps.
    "--checkpoint-seconds", "0", "--chunk-seconds", "0.1",
]


def free_port():
  with socket.socket() as s:
    s.bind(("", 0))
    return s.getsockname()[1]


def start(out, cache, *, count=2, settings=SETTINGS, devices=1, other=()):
  """Starts the processes of one run, as a user does, of so many devices each.

  `other` is what all but the first are given besides.
  """
  address = f"localhost:{free_port()}"
  environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "true",
                 "JAX_COMPILATION_CACHE_DIR": str(cache),
                 "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                 "JAX_NUM_CPU_DEVICES": str(devices)}
  return [subprocess.Popen(
      [sys.executable, "-m", "natjax.cli", *settings, "--out", str(out),
       "--coordinator", address, "--num-processes", str(count),
       "--process-id", str(i), *(other if i else ())],
      env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
      text=True, start_new_session=True) for i in range(count)]


@contextlib.contextmanager
def ending(processes):
  """No process outlives what is done with it."""
  try:
    yield
  finally:
    for process in processes:
      if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finish(processes):
  with ending(processes):
    said = [process.communicate(timeout=600)[1] for process in processes]
  assert not any(process.returncode for process in processes), "\n".join(
      text[-3000:] for text in said)


def rows(out):
  path = out / "metrics.jsonl"
  found = [json.loads(line) for line in path.read_text().splitlines()
           if line.endswith("}")] if path.exists() else []
  for row in found:
    row.pop("seconds")
    row.pop("waited", None)
  return found


def outcome(out):
  (folder,) = out.glob("networks/*")
  with np.load(folder / "weights.npz") as f:
    weights = {key: f[key] for key in f.files}
  result = json.loads((out / "result.json").read_text())
  return weights, result["accuracy"], rows(out)


def kill(processes, victim, reached):
  """Kills one when `reached`; returns the other's last words and seconds."""
  deadline = time.monotonic() + 200
  while not reached():
    ended = [p for p in processes if p.poll() is not None]
    assert not ended, ended[0].communicate()[1][-3000:]
    assert time.monotonic() < deadline
    time.sleep(0.005)
  os.killpg(processes[victim].pid, signal.SIGKILL)
  began = time.monotonic()
  survivor = processes[1 - victim]
  _, text = survivor.communicate(timeout=120)
  seconds = time.monotonic() - began
  processes[victim].communicate()
  assert survivor.returncode == 4, text[-3000:]
  return text, seconds


@pytest.mark.long
def test_two_processes_train_as_one_and_one_does_not_outlive_the_other(
    tmp_path, capsys):
  cache, whole, killed = (tmp_path / n for n in ("cache", "whole", "killed"))
  finish(start(whole, cache))

  # Two devices of one process do the same.
  alone = tmp_path / "alone"
  assert cli.main([*SETTINGS, "--out", str(alone), "--devices", "2"]) == 0
  expected, found = rows(alone), rows(whole)
  assert len(found) == len(expected) == 6
  for a, b in zip(expected, found, strict=True):
    assert {k: v for k, v in b.items() if k not in ("loss", "accuracy")} == {
        k: v for k, v in a.items() if k not in ("loss", "accuracy")}
    np.testing.assert_allclose([b["loss"], b["accuracy"]],
                               [a["loss"], a["accuracy"]], rtol=1e-4)

  # First process 1 is killed, then the coordinator.
  for victim in (1, 0):
    before = len(rows(killed))
    text, seconds = kill(start(killed, cache), victim,
                         lambda n=before: len(rows(killed)) > n)
    with capsys.disabled():
      print(f" process {victim} killed: {seconds:.1f} s", end="", flush=True)
    assert seconds < 120
    said = [line for line in text.splitlines() if line.startswith("natjax: ")]
    assert len(said) == 1, text[-3000:]
    assert "another process of this run is gone" in said[0]
    assert "same command" in said[0]
    assert len(rows(killed)) < 6
  finish(start(killed, cache))
  weights, accuracy, metrics = outcome(killed)
  expected, same_accuracy, same_metrics = outcome(whole)
  assert (accuracy, metrics) == (same_accuracy, same_metrics)
  assert weights.keys() == expected.keys()
  for key in weights:
    np.testing.assert_array_equal(weights[key], expected[key], err_msg=key)


@pytest.mark.slow
def test_two_processes_stream_as_one(tmp_path):
  """Each reads what its own device takes, of a set that they do not divide."""
  pytest.importorskip("grain", reason="needs grain, of the extra `data`")
  from tests.data import test_streamed  # Which is skipped as a whole, else.
  folder = test_streamed.make_folder(tmp_path / "photographs", 160)
  settings = [*SETTINGS, "--resize", "imagenet"]
  settings[settings.index("digits")] = str(folder)
  whole, alone = tmp_path / "whole", tmp_path / "alone"
  finish(start(whole, tmp_path / "cache", settings=settings))
  assert cli.main([*settings, "--out", str(alone), "--devices", "2"]) == 0
  (expected, accuracy, _), (found, same, _) = map(outcome, (alone, whole))
  assert accuracy == same
  for name in expected:
    np.testing.assert_allclose(
        found[name], expected[name], rtol=1e-3, atol=1e-5, err_msg=name)
  for a, b in zip(rows(alone), rows(whole), strict=True):
    assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)


def make_streamed(folder):
  """A folder of images that are cropped as they are read, and settings."""
  pytest.importorskip("grain", reason="needs grain, of the extra `data`")
  from tests.data import test_streamed  # Which is skipped as a whole, else.
  settings = [*SETTINGS, "--resize", "imagenet", "--batch-size", "32",
              "--epochs", "5"]
  settings[settings.index("digits")] = str(
      test_streamed.make_folder(folder, 160))
  return settings


@pytest.mark.long
def test_four_devices_of_two_processes_stream_and_resume(tmp_path):
  """What was killed ends in the bits of what was not, near one process."""
  settings = make_streamed(tmp_path / "photographs")
  cache, whole, killed, alone = (
      tmp_path / n for n in ("cache", "whole", "killed", "alone"))
  begin = lambda out: start(out, cache, settings=settings, devices=2)
  finish(begin(whole))
  text, _ = kill(begin(killed), 1, lambda: len(rows(killed)) > 1)
  assert "another process of this run is gone" in text
  assert 1 < len(rows(killed)) < 5
  finish(begin(killed))
  weights, *others = outcome(killed)
  expected, *same = outcome(whole)
  assert others == same and weights.keys() == expected.keys()
  for key in weights:
    np.testing.assert_array_equal(weights[key], expected[key], err_msg=key)
  config = json.loads((whole / "config.json").read_text())
  assert config["source"]["stream"] and len(json.loads(
      (whole / "result.json").read_text())["devices"]) == 4

  # The sum over devices is taken in another order.
  assert cli.main([*settings, "--out", str(alone), "--devices", "4"]) == 0
  expected, accuracy, metrics = outcome(alone)
  assert others[0] == accuracy
  for key in weights:
    np.testing.assert_allclose(
        weights[key], expected[key], rtol=1e-3, atol=1e-5, err_msg=key)
  for a, b in zip(metrics, others[1], strict=True):
    assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)


# Three layers of a chain. Children are those of the single best, so that no
# rounding of the others' scores changes what is scored.
SEARCH = [
    "search", "--space", "nasbench-macro", "--chain-layers", "1", "--method",
    "spos", "--dataset", "digits", "--preset", "demo", "--image-size", "8",
    "--epochs", "2", "--batch-size", "64", "--learning-rate", "0.002",
    "--final-learning-rate", "0.002", "--population", "4",
    "--generations", "2", "--parents", "1", "--mutations", "3", "--crossovers",
    "0", "--calibration", "64", "--no-train"]


def written(out):
  """The files of a run, and what they say but for times and memory."""
  # How a checkpoint is cut into files is orbax's.
  files = sorted(str(p.relative_to(out)) for p in out.rglob("*")
                 if p.is_file() and "checkpoint" not in p.parts)
  result = json.loads((out / "result.json").read_text())
  for name in ("seconds", "search_seconds", "time", "peak_memory_bytes"):
    result.pop(name)
  return files, result, json.loads((out / "architecture.json").read_text())


@pytest.mark.long
def test_two_processes_search_as_one(tmp_path):
  two, alone = tmp_path / "two", tmp_path / "alone"
  finish(start(two, tmp_path / "cache", settings=SEARCH))
  assert cli.main([*SEARCH, "--out", str(alone), "--devices", "2"]) == 0
  assert len(rows(two)) == 2
  for a, b in zip(rows(alone), rows(two), strict=True):
    assert b.pop("loss") == pytest.approx(a.pop("loss"), rel=1e-4)
    assert b.pop("accuracy") == pytest.approx(a.pop("accuracy"), abs=3e-3)
    assert b == a  # The same paths.
  (files, expected, best), (same, found, chosen) = map(written, (alone, two))
  assert same == files
  assert (len(found["tried"]), chosen) == (8, best)
  for a, b in zip(expected.pop("tried"), found.pop("tried"), strict=True):
    assert b.pop("accuracy") == pytest.approx(a.pop("accuracy"), abs=3e-3)
    assert b == a
  assert found.pop("child_accuracy") == pytest.approx(
      expected.pop("child_accuracy"), abs=3e-3)
  assert found == expected


@pytest.mark.long
def test_refused_input_ends_all_processes_alike(tmp_path):
  (tmp_path / "mine.txt").write_text("not a run")
  for process in start(tmp_path, tmp_path / "cache"):
    _, text = process.communicate(timeout=100)
    assert process.returncode == 2, text
    # jaxlib may add a line where the other process was the first to end.
    assert any(line.startswith("natjax: ") and "holds no run of natjax" in line
               for line in text.splitlines())


@pytest.mark.long
def test_processes_that_were_given_different_things_are_refused(tmp_path):
  for process in start(tmp_path / "run", tmp_path / "cache",
                       other=["--epochs", "7", "--seed", "4"]):
    _, text = process.communicate(timeout=100)
    assert process.returncode == 2, text
    assert re.search(r"natjax: the processes were not given the same \(seed 0"
                     r" in process 0 and 4 in process 1, train.epochs 6 in"
                     r" process 0 and 7 in process 1\); give all of them", text)
  assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize("other,said", [
    (["--num-processes", "3"], "num-processes is 3 of process 1 and 2 of"),
    (["--process-id", "1", "--num-processes", "3"], "process-id is 1 of two")])
def test_processes_that_do_not_fit_together_are_refused(other, said, tmp_path):
  count = 3 if "--process-id" in other else 2
  for process in start(
      tmp_path / "run", tmp_path / "cache", count=count, other=other):
    _, text = process.communicate(timeout=100)
    assert process.returncode == 2, text
    assert re.search(f"natjax: {said}", text), text
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags,message", [
    (["--coordinator", "localhost:1234"], "all three"),
    (["--num-processes", "2", "--process-id", "0"], "all three"),
    (["--coordinator", "auto", "--process-id", "0"], "leave num-processes"),
    (["--coordinator", "localhost", "--num-processes", "2", "--process-id",
      "0"], "HOST:PORT"),
    (["--coordinator", "h:1", "--num-processes", "2", "--process-id", "2"],
     r"\[0, 1\]"),
    (["--coordinator", "h:1", "--num-processes", "0", "--process-id", "0"],
     "at least 1"),
    (["--coordinator", "h:1", "--num-processes", "2", "--process-id", "1",
      "--devices", "1"], "leave devices out"),
])
def test_flags_that_do_not_fit_are_refused(flags, message, tmp_path, capsys):
  out = tmp_path / "run"
  assert cli.main([*SETTINGS, "--out", str(out), *flags]) == 2
  text = capsys.readouterr().err
  assert text.startswith("natjax: ") and text.count("\n") == 1
  assert re.search(message, text), text
  assert not out.exists()


@pytest.mark.long
def test_a_process_that_never_comes_is_not_waited_for(tmp_path):
  code = ("import sys; from natjax import cli; from natjax.training import"
          " distributed; distributed.JOIN_SECONDS = 2;"
          " sys.exit(cli.main(sys.argv[1:]))")
  found = subprocess.run(
      [sys.executable, "-c", code, *SETTINGS, "--out", str(tmp_path / "run"),
       "--coordinator", f"localhost:{free_port()}", "--num-processes", "2",
       "--process-id", "0"], capture_output=True, text=True, timeout=100)
  assert found.returncode == 4, found.stderr
  assert re.search("not all processes came to .* within 2 s", found.stderr)
  page = pathlib.Path(__file__).parents[2] / "docs" / "several_hosts.md"
  assert f"after {distributed.JOIN_SECONDS} s" in page.read_text()


def test_a_port_that_is_taken_is_refused():
  with socket.socket() as s:
    s.bind(("", 0))
    s.listen()
    port = s.getsockname()[1]
    with pytest.raises(errors.InputError, match=f"port {port}"):
      distributed.check(f"localhost:{port}", 2, 0)


def test_one_process_asks_nobody():
  alone = distributed.Processes(jax.local_devices())
  assert (alone.size, alone.first) == (1, True)
  assert alone.gather(3) == [3]
  assert alone.of_first(lambda: "mine") == "mine"


def test_what_stops_the_first_process_stops_all():
  told = []

  def gather(value):
    told.append(value)
    return told[:1]

  def make():
    raise errors.Interrupted("climb")

  for first in (True, False):
    found = object.__new__(distributed.Processes)
    found.size, found.first, found.gather = 2, first, gather
    with pytest.raises(errors.Interrupted, match="climb"):
      found.of_first(make)
  assert told == [[None, "Interrupted", "climb"], [None]]


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="sends signals")
def test_a_signal_to_one_process_ends_all_alike(tmp_path):
  settings = [*SETTINGS, "--epochs", "100000"]
  processes = start(tmp_path / "run", tmp_path / "cache", settings=settings)
  with ending(processes):
    deadline = time.monotonic() + 200
    while not rows(tmp_path / "run") and time.monotonic() < deadline:
      time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=120)[1] for process in processes]
  assert [process.returncode for process in processes] == [143, 143], said
  assert all("Interrupted and saved" in text for text in said)
