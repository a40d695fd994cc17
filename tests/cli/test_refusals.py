"""Arguments that nothing can use: at once one line, exit code 2, no more."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
import warnings

import jax
import pytest

from natjax import cli
from natjax.cli import inspection, processes

try:
  import resource
except ImportError:  # Not on Windows.
  resource = None

MANY = "9" * 400
LONG = "x" * 300
TRAIN = ["train", "darts", "--dataset", "digits", "--dry-run"]
SEARCH = ["search", "--space", "darts", "--dataset", "digits", "--dry-run"]
BLOCKS = ["transform", "resnet20", *SEARCH[3:]]
NETWORK = {
    "format": 1, "kind": "network", "name": "mine", "skeleton": {
        "stem": [{"kind": "conv", "width": 4, "kernel": 3}],
        "head": [{"kind": "global_pool"}, {"kind": "linear", "norm": False}]},
    "blocks": [{"nodes": [{"width": 4}], "edges": [["conv_3x3", 1, 2]]}]}


def check_refused(capsys, argv):
  began = time.monotonic()
  assert cli.main(argv) == 2
  assert time.monotonic() - began < 20
  text = capsys.readouterr().err
  assert text.startswith("natjax: ") and text.count("\n") == 1
  assert len(text) < 700 and "\0" not in text
  return text


@pytest.mark.parametrize("path", [LONG, f"a/{LONG}", "a\0b", f"{LONG}\0.npz"])
@pytest.mark.parametrize("argv", [
    ["cost", "@.json"], ["draw", "darts", "--out", "@.svg"],
    ["draw", "darts", "@.json", "--out", "x.svg"],
    ["draw", "@", "--theta", "--out", "x.svg"], ["evaluate", "@"],
    ["explain", "@", "--image", "1"],
    ["explain", ".", "--image", "1", "--out", "@.svg"],
    [*TRAIN, "--out", "@"], [*TRAIN, "--config", "@"],
    [*SEARCH, "--out", "@"], [*TRAIN[:2], "--dataset", "@"],
    [*TRAIN[:2], "--dataset", "./@.npz"],
    [*TRAIN[:2], "--dataset", "cifar10", "--data-dir", "@"],
    ["benchmark", "nasbench201", "--table", "@"],
    ["selftest", "--out", "@"], ["selftest", "--out", "x", "--markdown", "@"]])
def test_names_that_no_file_can_have(argv, path, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  text = check_refused(capsys, [a.replace("@", path) for a in argv])
  assert "which no file can have for its name" in text
  assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("argv,message", [
    ([*TRAIN, "--epochs", MANY], "--epochs: invalid int value: '999"),
    ([*TRAIN, "--epochs", "9" * 5000], "--epochs: invalid int value: '999"),
    ([*TRAIN, "--epochs", "1000001"], "whole numbers are at most 1000000"),
    ([*TRAIN, "--cells", "1000000000000"], "whole numbers are at most"),
    ([*TRAIN, "--cells", "1001"], "cells is 1001 and must be an integer up to"),
    ([*TRAIN, "--image-size", "30000"], "GiB; give a smaller image size"),
    ([*TRAIN, "--image-size", "100000"], "image_size 100000"),
    ([*TRAIN, "--seeds", "0:999999999999"], "which is at most 1000"),
    ([*TRAIN, "--seeds", f"0:{'9' * 5000}"], "which is at most 1000"),
    ([*TRAIN, "--seeds", "1001"], "which is at most 1000"),
    ([*TRAIN, "--learning-rate", "1e400"], "give a finite number"),
    ([*TRAIN[:1], "resnet20", *TRAIN[2:], "--width", "1e300"], "are at most"),
    ([*SEARCH, "--epochs", MANY], "--epochs: invalid int value: '999"),
    ([*SEARCH, "--method", "random", "--cells", "10000"], "cells is 10000"),
    (["cost", "darts", "--cells", "1000000"], "cells is 1000000 and must be"),
    (["cost", "darts", "--classes", MANY], "--classes: invalid int value"),
    (["cost", "resnet20", "--width", "1e300"], "width is"),
    ([*BLOCKS, "--method", "nat", "--supernet-width", "1e300"], "are at most"),
    ([*BLOCKS, "--method", "climb", "--supernet-width", "1e9"], "are at most"),
    (["cost", "resnet20", "--image-size", "10000000"], "numbers are at most"),
    (["operations", "--channels", MANY], "--channels: invalid int value"),
    (["benchmark", "nasbench201", "--table", "x", "--seeds", "9999999999"],
     "which is at most 1000"),
    (["benchmark", "nasbench201", "--table", "x", "--steps", "100000000"],
     "whole numbers are at most")])
def test_numbers_that_no_machine_can_take(argv, message, capsys):
  assert message in check_refused(capsys, argv)


CHAIN = ["search", "--space", "proxyless", *SEARCH[3:]]


@pytest.mark.parametrize("argv,message", [
    ([*CHAIN, "--method", "it-nas", "--reentry", "encoder"],
     "layers give what the operation on a path gives"),
    ([*CHAIN, "--method", "entrannas"], "and EnTranNAS needs cells"),
    ([*CHAIN, "--method", "entrannas-dst"], "and EnTranNAS needs cells"),
    ([*CHAIN, "--method", "spos", "--share", "cell"], "is chosen by itself"),
    ([*CHAIN, "--method", "spos", "--cells", "8"], "does not apply to a space"),
    ([*SEARCH, "--method", "spos", "--chain-layers", "2"], "which is no chain"),
    ([*SEARCH, "--method", "random", "--chain-width", "2"],
     "which is no chain"),
    (["transform", "darts", "--space", "proxyless", *SEARCH[3:]],
     "one of networks of blocks, and a genotype is given")])
def test_spaces_that_do_not_suit_a_method(argv, message, capsys):
  assert message in check_refused(capsys, argv)


def changed(part, **changes):
  network = json.loads(json.dumps(NETWORK))
  part(network).update(changes)
  return json.dumps(network)


@pytest.mark.parametrize("text,message", [
    ("[" * 10**5, "not JSON"), ("[" * 600 + "]" * 600, "nested deeper than 50"),
    ("Genotype(normal=" + "[" * 5000, "not of the form Genotype("),
    ('{"normal": [], "normal": []}', "the key 'normal' stands twice"),
    (changed(lambda n: n["blocks"][0]["nodes"][0], width=10**400), "width is"),
    (changed(lambda n: n["blocks"][0]["nodes"][0], width=10**12), "width is"),
    (changed(lambda n: n["blocks"][0]["nodes"][0], shuffle=-2), "in -2 groups"),
    (changed(lambda n: n["blocks"][0], repeat=10**12), "repeat is"),
    (changed(lambda n: n["skeleton"]["stem"][0], kernel=10**9), "kernel is"),
    (changed(lambda n: n["skeleton"], norm_epsilon=10**400), "norm_epsilon"),
])
def test_architectures_that_nobody_can_mean(text, message, tmp_path, capsys):
  path = tmp_path / "mine.json"
  path.write_text(json.dumps(NETWORK))
  assert cli.main(["cost", str(path)]) == 0
  capsys.readouterr()
  path.write_text(text)
  assert message in check_refused(capsys, ["cost", str(path)])


@pytest.mark.parametrize("text,message", [
    ("{", "not JSON"), ("[" * 10**5, "not JSON"), ("[]", "must be an object"),
    ('{"train": 3}', "each an object of settings"),
    ('{"train": {"epochs": "x"}}', "'epochs' is 'x' and must be of type int"),
    (f'{{"train": {{"epochs": {MANY}}}}}', "whole numbers are at most"),
    (f'{{"train": {{"learning_rate": {MANY}}}}}', "must be of type float"),
    ('{"train": {"learning_rate": NaN}}', "give a finite number"),
    ('{"train": {"epochs": 1, "epochs": 2}}', "'epochs' stands twice")])
def test_files_of_settings(text, message, tmp_path, capsys):
  path = tmp_path / "mine.json"
  path.write_text(text)
  refusal = check_refused(capsys, [*TRAIN, "--config", str(path)])
  assert message in refusal and "overwrite" not in refusal


def test_an_error_of_the_disk_is_one_line(monkeypatch, capsys):
  def full(args):
    raise OSError(28, "No space left on device", "runs/x/metrics.jsonl")

  monkeypatch.setattr(inspection, "run_list", full)
  assert cli.main(["list"]) == 1
  text = capsys.readouterr().err
  assert text.startswith("natjax: runs/x/metrics.jsonl: No space left on dev")
  assert text.count("\n") == 1


def test_a_backend_that_is_not_there_is_one_line(monkeypatch, capsys):
  def without(args):
    raise RuntimeError(
        "Unable to initialize backend 'tpu': INTERNAL: Failed to open"
        " libtpu.so: no such file (set JAX_PLATFORMS='' to automatically choose"
        " an available backend)")

  monkeypatch.setattr(inspection, "run_list", without)
  assert cli.main(["list"]) == 2
  assert capsys.readouterr().err == (
      "natjax: jax cannot use the backend 'tpu' here (INTERNAL: Failed to open"
      " libtpu.so: no such file); set JAX_PLATFORMS to one that this machine"
      " has, as cpu, or leave it unset\n")


@pytest.mark.skipif(os.name == "nt", reason="needs a shell of Unix")
@pytest.mark.parametrize("words,code", [
    ("cost nothing 2>&-", 2), ("cost nothing >&- 2>&-", 2),
    ("--version >&-", 0)])
def test_streams_that_are_closed_change_no_exit_code(words, code):
  found = subprocess.run(
      f"'{sys.executable}' -m natjax {words}", shell=True, check=False,
      capture_output=True, text=True)
  assert (found.returncode, found.stdout, found.stderr) == (code, "", "")


@pytest.mark.skipif(os.name == "nt", reason="needs a shell of Unix")
@pytest.mark.parametrize("words", ["list", "list --json"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_has_no_room_is_told(tmp_path, words, unbuffered):
  # Files may have one or two blocks, of 512 or 1024 bytes.
  found = subprocess.run(
      f"ulimit -f 2; '{sys.executable}' -m natjax {words} > all", shell=True,
      check=False, capture_output=True, text=True, cwd=tmp_path,
      env={**os.environ, "PYTHONUNBUFFERED": unbuffered,
           "PYTHONDONTWRITEBYTECODE": "1"})
  assert (found.returncode, found.stderr.count("\n")) == (1, 1), found.stderr
  assert "File too large; mend that" in found.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs a shell of Unix")
@pytest.mark.parametrize("words", ["list", "list --json", "cost darts"])
def test_a_reader_that_leaves_is_no_failure(words):
  with subprocess.Popen(
      [sys.executable, "-m", "natjax", *words.split()], text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 0)


@pytest.mark.skipif(os.name == "nt", reason="needs a shell of Unix")
def test_a_working_directory_that_is_gone(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  tmp_path.rmdir()
  assert cli.main(["train", "nat_darts", "--dataset", "digits"]) == 2
  assert capsys.readouterr().err == (
      "natjax: the working directory is gone; change to one that is there\n")


@pytest.mark.parametrize("words", ["--version", "--help", "train --help"])
def test_what_cannot_be_printed_is_told(words, monkeypatch, capsys):
  class Full(io.StringIO):

    def flush(self):
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(sys, "stdout", Full())
  assert cli.main(words.split()) == 1
  assert "No space left" in capsys.readouterr().err


@pytest.mark.skipif(resource is None, reason="not on Windows")
@pytest.mark.parametrize("words", [
    "draw nat_darts --out {}.svg", "convert nat_darts --to json --out {}"])
def test_a_full_disk_is_no_refused_input(words, tmp_path, capsys):
  path = tmp_path / "file"
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
  try:
    code = cli.main(words.format(path).split())
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert code == 1 and not [*tmp_path.iterdir()]
  said = capsys.readouterr().err
  assert said.startswith(f"natjax: {path}") and said.count("\n") == 1
  assert "File too large; mend that and give the same command again" in said


@pytest.mark.parametrize("kind,text,name", [
    (ValueError, "invalid truth value 'maybe' for environment"
     " 'JAX_ENABLE_X64'", "JAX_ENABLE_X64"),
    (ValueError, "Operands could not be broadcast together with the config"
     " option jax_numpy_rank_promotion='raise'", "JAX_NUMPY_RANK_PROMOTION"),
    (TypeError, "no path when jax_numpy_dtype_promotion=strict",
     "JAX_NUMPY_DTYPE_PROMOTION"),
    (ValueError, 'Invalid value "given" for JAX flag'
     " jax_default_matmul_precision", "JAX_DEFAULT_MATMUL_PRECISION"),
    (RuntimeError, "INVALID_ARGUMENT: Disallowed host-to-device transfer",
     "JAX_TRANSFER_GUARD_HOST_TO_DEVICE")])
def test_what_jax_was_told_to_refuse_is_no_fault_of_natjax(
    kind, text, name, monkeypatch, capsys):
  def refused(args):
    raise kind(text)

  monkeypatch.setattr(inspection, "run_list", refused)
  monkeypatch.setenv(name, "given")
  assert cli.main(["list"]) == 2
  said = capsys.readouterr().err
  assert said.startswith(f"natjax: jax is set by {name} to what natjax does")
  assert text in said and said.count("\n") == 1


@pytest.mark.parametrize("asked,code", [("cuda", 2), ("", 70)])
def test_a_backend_without_devices_is_one_line(
    asked, code, monkeypatch, capsys, tmp_path):
  names = {}
  exec(compile("def backends(args):\n  assert args is None",
               "jax/_src/xla_bridge.py", "exec"), names)
  monkeypatch.setattr(inspection, "run_list", names["backends"])
  monkeypatch.setattr(processes.tempfile, "tempdir", str(tmp_path))
  monkeypatch.setenv("JAX_PLATFORMS", asked)
  assert cli.main(["list"]) == code
  text = capsys.readouterr().err
  assert ("the backend 'cuda' here" in text) == (code == 2)
  assert text.count("\n") == 1


def test_a_backend_whose_frames_jax_hides_is_one_line(monkeypatch, capsys):
  def hidden(args):
    assert args is None

  monkeypatch.setattr(inspection, "run_list", hidden)
  monkeypatch.setenv("JAX_PLATFORMS", "cuda")
  monkeypatch.setattr(jax, "devices", lambda: hidden(1))
  assert cli.main(["list"]) == 2
  assert "the backend 'cuda' here (no device" in capsys.readouterr().err


def test_a_number_of_jaxs_that_is_none_is_named(monkeypatch, capsys, tmp_path):
  names = {}
  exec(compile("def read(args):\n  int('two')", "jax/_src/config.py", "exec"),
       names)
  monkeypatch.setattr(inspection, "run_list", names["read"])
  monkeypatch.setattr(processes.tempfile, "tempdir", str(tmp_path))
  monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "three")
  assert cli.main(["list"]) == 70  # Not of what was set.
  monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "two")
  capsys.readouterr()
  assert cli.main(["list"]) == 2
  assert "is set by JAX_NUM_CPU_DEVICES" in capsys.readouterr().err


def test_what_nobody_foresaw_of_a_path_that_is_not_in_unicode(
    monkeypatch, capsys, tmp_path):
  def fail(args):
    raise ZeroDivisionError from ValueError("caf\udce9")

  monkeypatch.setattr(inspection, "run_list", fail)
  monkeypatch.setattr(processes.tempfile, "tempdir", str(tmp_path))
  monkeypatch.setattr(sys, "argv", ["natjax", "caf\udce9"])
  assert cli.main(["list"]) == 70
  (saved,) = tmp_path.iterdir()
  assert saved.read_text("utf-8").count(r"caf\udce9") >= 2


def test_what_nobody_foresaw_is_one_line_and_a_file(
    monkeypatch, capsys, tmp_path):
  def fail(args):
    raise ZeroDivisionError("division\nby zero")

  monkeypatch.setattr(inspection, "run_list", fail)
  monkeypatch.setattr(processes.tempfile, "tempdir", str(tmp_path))
  assert cli.main(["list"]) == 70
  text = capsys.readouterr().err
  assert text.startswith("natjax: ZeroDivisionError: division by zero; this is")
  assert text.count("\n") == 1
  (saved,) = tmp_path.iterdir()
  assert str(saved) in text and "in fail" in saved.read_text()


@pytest.mark.parametrize("error", [
    MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: 3 bytes"),
    RuntimeError("INTERNAL: Error: Out of memory allocating 4 bytes.")])
def test_a_memory_that_is_full_is_no_fault(monkeypatch, capsys, error):
  def fail(args):
    raise error

  monkeypatch.setattr(inspection, "run_list", fail)
  assert cli.main(["list"]) == 1
  text = capsys.readouterr().err
  assert text.startswith("natjax: the memory is full; give a smaller batch")
  assert text.count("\n") == 1


@pytest.mark.parametrize("error", [
    ImportError("a.so: failed to map segment from shared object"),
    RuntimeError("can't start new thread")])
def test_what_finds_no_room_is_no_fault(monkeypatch, capsys, error):
  def fail(args):
    raise error

  monkeypatch.setattr(inspection, "run_list", fail)
  assert cli.main(["list"]) == 1
  text = capsys.readouterr().err
  assert text.startswith("natjax: a library or a thread finds no room (")
  assert str(error) in text and text.count("\n") == 1


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("held, code", [
    ((), 130), ((signal.SIGTERM,), 143), ((signal.SIGHUP,), 129), (("",), 130)])
def test_who_is_stopped_at_once_ends_by_the_signal(
    monkeypatch, capsys, held, code, ignored):
  """In order, too, where a shell made it ignore Ctrl-C (`natjax ... &`)."""
  left = []

  def stopped(args):
    try:
      raise KeyboardInterrupt(*held)
    except KeyboardInterrupt as e:
      raise RuntimeError("while a class is made") from e

  monkeypatch.setattr(inspection, "run_list", stopped)
  monkeypatch.setattr(cli, "_leave", left.append)
  monkeypatch.setattr(sys, "argv", ["natjax", "list"])
  before = signal.getsignal(signal.SIGINT)
  try:
    if ignored:
      signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert cli.main() == code and left[:1] == [code]
  finally:
    signal.signal(signal.SIGINT, before)
  assert capsys.readouterr().err == "natjax: interrupted\n"


def test_warnings_of_the_library_are_lines(monkeypatch, capsys):
  def warn(args):
    warnings.warn_explicit("few\naddresses", UserWarning, cli.__file__, 1)
    return 0

  monkeypatch.setattr(inspection, "run_list", warn)
  with warnings.catch_warnings():
    warnings.simplefilter("default")
    assert cli.main(["list"]) == 0
  assert capsys.readouterr().err == "natjax: warning: few addresses\n"


def test_a_flag_of_the_other_command_is_told(capsys):
  text = check_refused(capsys, [*TRAIN, "--train-epochs", "9"])
  assert "of `natjax train` it is --epochs; see `natjax train --help`" in text


@pytest.mark.parametrize("argv", [
    [*TRAIN, "--config", "@"], ["cost", "@"],
    ["benchmark", "nasbench201", "--table", "@"]])
def test_what_never_ends_is_not_read(argv, tmp_path, capsys):
  """A pipe without a writer; a device that goes on for ever is of its kind."""
  os.mkfifo(tmp_path / "pipe.json")
  text = check_refused(capsys, [
      a.replace("@", str(tmp_path / "pipe.json")) for a in argv])
  assert "is a pipe or a device" in text


@pytest.mark.parametrize("width", ["1e300", "1e308"])
def test_widths_without_end(width, capsys):
  text = check_refused(capsys, ["cost", "resnet20", "--width", width])
  assert "numbers are at most 1000000" in text


@pytest.mark.parametrize("file, text", [
    ("one.json", json.dumps(NETWORK)),
    ("cell.txt", "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"),
    ("plain.py", "Genotype(normal=[('conv_3x3', 0)], normal_concat=[2],"
     " reduce=[('conv_3x3', 0)], reduce_concat=[2])")])
def test_a_name_that_a_file_has_not(file, text, tmp_path, capsys):
  (tmp_path / file).write_text(text)
  assert cli.main(["cost", str(tmp_path / file)]) == 0
  capsys.readouterr()
  said = check_refused(capsys, ["cost", f"{tmp_path / file}:other"])
  assert "'other' is asked for; name the file alone" in said
