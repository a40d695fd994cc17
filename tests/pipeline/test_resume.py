"""Runs that stopped: resumed elsewhere, changed by hand, asked to stop."""

import errno
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import natjax
from natjax import data, errors, pipeline
from natjax.cli import processes
from natjax.graph import genotype
from natjax.methods import supervised
from natjax.pipeline import run_files, runs
from natjax.training import checkpoints, devices, distributed, metrics

try:
  import resource
except ImportError:  # Not on Windows.
  resource = None

CELL = genotype.Cell((genotype.Edge("max_pool_3x3", 0, 2),
                      genotype.Edge("skip_connect", 1, 2)), (2,))
GENOTYPE = genotype.Genotype(CELL, CELL)
TRAIN = supervised.TrainConfig(
    init_channels=2, cells=1, epochs=4, batch_size=32, auxiliary=False,
    cutout=0, seeds=1)
NETWORK = "networks/network-0"


def dataset():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (64, 4, 4), np.uint8)
  part = images, np.arange(64) % 2
  return data.make_dataset("noise", part, part, image_size=4)


def train(out, **options):
  return pipeline.train(GENOTYPE, dataset(), out=out, config=TRAIN, devices=1,
                        **options)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
  """The one run that is stopped after its second epoch."""
  out, rows = tmp_path_factory.mktemp("stopped") / "run", []
  with pytest.raises(errors.Interrupted):
    train(out, listener=pipeline.Listener(
        on_row=rows.append, should_stop=lambda: len(rows) == 2))
  return out


@pytest.fixture
def copy(stopped, tmp_path):
  return shutil.copytree(stopped, tmp_path / "run")


def change(path, **values):
  run_files.write_kept(path, {**json.loads(path.read_text()), **values})


def contents(folder):
  return {path: path.read_bytes() for path in folder.rglob("*")
          if path.is_file()}


@pytest.mark.long
def test_it_says_from_where_it_goes_on(copy):
  heard = []
  result = train(copy, listener=pipeline.Listener(
      on_resume=heard.append).named("mine"))
  assert [(p.run, p.epoch, p.epochs, p.step) for p in heard] == [
      ("mine network-0", 2, 4, 0)]
  assert 0 < heard[0].done < 1
  assert "versions_before" not in result
  train(copy, listener=pipeline.Listener(on_resume=heard.append))
  assert len(heard) == 1  # What is finished does not go on.


def test_seconds_of_earlier_starts_count(copy):
  before = metrics.seconds_by_run(copy / "metrics.jsonl")["network-0"]
  result = train(copy)
  (_, seconds), = metrics.seconds_by_run(copy / "metrics.jsonl").items()
  network = run_files.read_json(copy / NETWORK / "result.json")
  assert seconds > before > 0
  assert min(network["seconds"], result["seconds"]) >= seconds - 0.051


def test_other_versions_go_on_with_a_warning_and_both_are_kept(copy):
  versions = json.loads((copy / "config.json").read_text())["versions"]
  assert versions == runs.versions() and {"jax", "jaxlib"} <= set(versions)
  old = {**versions, "jax": "0.1.2"}
  change(copy / "config.json", versions=old)
  before = contents(copy)
  with pytest.raises(errors.InputError, match=r"jax 0\.1\.2 and jax") as e:
    train(copy, strict=True)
  assert e.value.field == "strict" and contents(copy) == before
  with pytest.warns(errors.ResumedElsewhere, match=r"jax 0\.1\.2 and jax \d"):
    result = train(copy)
  assert result["versions"] == versions
  assert result["versions_before"] == [old]
  assert train(copy, strict=True) == result  # Finished: nothing is resumed.


@pytest.mark.parametrize("version", [None, "0.1.2"])
def test_another_device_is_told_of_as_other_versions_are(version, copy):
  config = json.loads((copy / "config.json").read_text())
  assert config["machine"] == {"platform": "cpu", "device": "cpu",
                               "cores": len(os.sched_getaffinity(0))}
  old = {"platform": "gpu", "device": "NVIDIA H200"}
  versions = {**config["versions"], **({"jax": version} if version else {})}
  change(copy / "config.json", machine=old, versions=versions)
  before = contents(copy)
  told = "on another device.*platform gpu, device NVIDIA H200 and .*platform c"
  with pytest.raises(errors.InputError, match=told) as e:
    train(copy, strict=True)
  assert e.value.field == "strict" and contents(copy) == before
  with pytest.warns(errors.ResumedElsewhere, match=told) as heard:
    result = train(copy)
  assert len(heard) == 1 and "\n" not in str(heard[0].message)
  assert result["machine_before"] == [old]
  assert ("versions_before" in result) == bool(version)
  assert train(copy, strict=True) == result


def test_another_number_of_cores_is_told_of(copy):
  config = json.loads((copy / "config.json").read_text())
  old = {**config["machine"], "cores": 99}
  change(copy / "config.json", machine=old)
  said = r"on another device \(cores 99 and cores \d+ here\)"
  with pytest.warns(errors.ResumedElsewhere, match=said):
    assert train(copy)["machine_before"] == [old]
  # A run that knew of no cores has none to differ by.
  del old["cores"]
  change(copy / "config.json", machine=old)
  assert train(copy, strict=True)["accuracy"] >= 0


def test_other_settings_of_the_compiler_are_told_of(copy, monkeypatch):
  config = json.loads((copy / "config.json").read_text())
  flags = os.environ.get("XLA_FLAGS", "")
  # Where nothing is computed otherwise, nothing is said.
  monkeypatch.setenv("XLA_FLAGS", f"--xla_dump_to=/nowhere {flags}")
  assert runs.compiler() == config["compiler"]
  monkeypatch.setenv("XLA_FLAGS", "--xla_allow_excess_precision=false")
  said = ("under other settings of the compiler.*flags .* and flags"
          " --xla_allow_excess_precision=false here")
  with pytest.raises(errors.InputError, match=f"{said}; set those"):
    train(copy, strict=True)
  with pytest.warns(errors.ResumedElsewhere, match=said):
    assert train(copy)["compiler_before"] == [config["compiler"]]


def test_a_run_that_kept_no_versions_goes_on(copy):
  config = json.loads((copy / "config.json").read_text())
  del config["versions"], config["machine"], config["compiler"]
  run_files.write_kept(copy / "config.json", config)
  assert train(copy, strict=True)["accuracy"] >= 0


def test_the_command_line_warns_in_a_line(capsys):
  def run():
    warnings.warn("x began", errors.ResumedElsewhere, stacklevel=1)
    return 0

  assert processes.exit_code(run) == 0
  assert capsys.readouterr().err == "natjax: warning: x began\n"


@pytest.mark.parametrize("name", [
    "architecture.json", "checkpoint/derived.json", f"{NETWORK}/result.json"])
def test_a_file_that_was_changed_by_hand(name, copy):
  (copy / name).parent.mkdir(exist_ok=True)
  run_files.write_kept(copy / name, {"a": 1})
  run_files.write_kept(copy / name, {"a": 2})  # As a kill may leave the former.
  (copy / name).write_text((copy / name).read_text().replace("2", "3"))
  before = contents(copy)
  with pytest.raises(errors.InputError, match="is not what the run wro") as e:
    train(copy)
  assert str(copy / name) in str(e.value) and contents(copy) == before


def test_a_kill_leaves_a_file_old_or_new(tmp_path):
  path = tmp_path / "a.json"
  run_files.write_kept(path, {"a": 1})
  old = path.read_text()
  run_files.write_kept(path, {"a": 2})
  for text in (old, path.read_text()):
    path.write_text(text)
    run_files.read_json(path)
  path.write_text(old.replace("1", "7"))
  with pytest.raises(errors.InputError, match=r"a\.json is not what the run"):
    run_files.read_json(path)
  (tmp_path / "checksums.json").write_text("[")
  with pytest.raises(errors.InputError, match=r"checksums\.json is damaged"):
    run_files.read_json(path)


def test_a_finished_architecture_that_was_changed(copy):
  train(copy)
  path = copy / "architecture.json"
  path.write_text(path.read_text().replace("max_pool_3x3", "sep_conv_3x3"))
  with pytest.raises(errors.InputError, match="name a copy of it elsewhere"):
    runs.read_architecture(copy)


def test_checksums_that_are_gone(copy):
  train(copy)
  folder = copy / NETWORK
  (folder / "checksums.json").unlink()
  before = contents(copy)
  said = rf"{folder / 'checksums.json'} is gone, by which .* overwrite the run"
  for call in (lambda: train(copy), lambda: natjax.load(copy, "network-0"),
               lambda: runs.find_result(distributed.Processes(
                   jax.local_devices()[:1]), folder)):
    with pytest.raises(errors.InputError, match=said) as e:
      call()
    assert e.value.field == "overwrite" and "\n" not in str(e.value)
  assert contents(copy) == before
  config = json.loads((copy / "config.json").read_text())
  assert config.pop("checksums") is True  # Earlier versions did not say so.
  run_files.write_kept(copy / "config.json", config)
  natjax.load(copy, "network-0")
  assert train(copy)["accuracy"] >= 0


@pytest.mark.parametrize("name", ["architecture.json", "result.json"])
def test_checksums_of_the_run_that_are_gone(name, tmp_path):
  run_files.write_json(tmp_path / "config.json", {"kind": "train",
                                                  "checksums": True})
  run_files.write_kept(tmp_path / name, {"a": 1})
  assert run_files.read_json(tmp_path / name) == {"a": 1}
  run_files.read_json(tmp_path / "config.json")
  for held in ({}, {"other.json": [1]}, {name: []}):
    run_files.write_json(tmp_path / "checksums.json", held)
    with pytest.raises(errors.InputError, match=rf"sums\.json lacks {name};"):
      run_files.read_json(tmp_path / name)
  (tmp_path / "checksums.json").unlink()
  run_files.read_json(tmp_path / "config.json")
  with pytest.raises(errors.InputError, match=r"checksums\.json is gone"):
    run_files.read_json(tmp_path / name)


@pytest.mark.parametrize("name, value", [
    ("versions", 3), ("machine", []), ("machine_before", ["cpu"]),
    ("space", [1]), ("source", 7), ("source", {"name": 7})])
def test_a_configuration_with_something_else_in_it(name, value, tmp_path):
  config = {"kind": "train", "versions": {}, "machine": {}}
  runs.open_run(tmp_path, config)
  run_files.write_kept(tmp_path / "config.json", {**config, name: value})
  said = rf"damaged: {name}.* must be"
  with pytest.raises(errors.InputError, match=said) as e:
    runs.open_run(tmp_path, config)
  assert e.value.field == "overwrite"


def test_networks_of_exchanged_seeds(tmp_path):
  folder = tmp_path / "networks"
  for seed in (0, 1):
    (folder / f"network-{seed}").mkdir(parents=True)
    run_files.write_kept(
      folder / f"network-{seed}" / "result.json", {"seed": seed})
  assert run_files.read_json(folder / "network-1" /
                             "result.json") == {"seed": 1}
  (folder / "network-0").rename(tmp_path / "aside")
  (folder / "network-1").rename(folder / "network-0")
  with pytest.raises(errors.InputError, match="-0 holds the network of seed 1"):
    run_files.read_json(folder / "network-0" / "result.json")


def test_checksums_of_what_no_file_can_be_called(tmp_path):
  config = {"kind": "train"}
  runs.open_run(tmp_path, config)
  run_files.write_json(tmp_path / "checksums.json",
                       {"a" * 300: [1], "../b": [1]})
  assert runs.open_run(tmp_path, config) == tmp_path


def test_a_kept_file_elsewhere_needs_no_checksums(copy, tmp_path):
  train(copy)
  elsewhere = tmp_path / "a" / "b"
  shutil.copytree(copy / NETWORK, elsewhere,
                  ignore=shutil.ignore_patterns("checksums.json"))
  assert run_files.read_json(elsewhere / "result.json")["accuracy"] >= 0


@pytest.mark.parametrize("cut", [0, 1])
def test_a_line_that_is_cut_out_of_the_rows(cut, copy):
  path = copy / "metrics.jsonl"
  lines = path.read_text().splitlines(keepends=True)
  assert len(lines) == 2
  del lines[cut]
  lines.append(lines[-1])  # As many as the checkpoint counts.
  path.write_text("".join(lines))
  before = contents(copy)
  with pytest.raises(errors.InputError, match="a line was changed, or cut out"):
    train(copy)
  assert contents(copy) == before


def test_all_seals_gone(copy):
  folder = copy / NETWORK / "checkpoint"
  assert not [*folder.glob("*.begun")]
  for seal in folder.glob("*.seal"):
    seal.unlink()
  before = contents(copy)
  with pytest.raises(errors.InputError, match=r"damaged \(folders or their"):
    train(copy)
  assert contents(copy) == before


def test_a_first_checkpoint_that_a_kill_left_unsealed(tmp_path, monkeypatch):
  state = {"x": np.zeros(2, np.float32)}
  found = checkpoints.Checkpoints(tmp_path)
  with monkeypatch.context() as patch:
    patch.setattr(checkpoints, "_structure", lambda state: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      found.save(state, checkpoints.Position())
  assert (tmp_path / "0.begun").exists() and found.restore(state) is None
  found.save(state, checkpoints.Position(epoch=3))
  assert found.restore(state)[1].epoch == 3
  found.close()


def test_what_to_remove_of_a_damaged_checkpoint_is_named(tmp_path):
  state = {"x": np.zeros(2, np.float32)}
  found = checkpoints.Checkpoints(tmp_path)
  for epoch in range(2):
    found.save(state, checkpoints.Position(epoch=epoch))
  for number in (1, 0):
    path = max((tmp_path / str(number)).rglob("*"),
               key=lambda path: path.is_file() and path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(errors.InputError, match="not what was written") as e:
      found.restore(state)
    assert ("remove it and 1.seal" in str(e.value)) == (number == 1)
    if number == 1:
      shutil.rmtree(tmp_path / "1")
      (tmp_path / "1.seal").unlink()
      assert found.restore(state)[1].epoch == 0
  found.close()


def odd_state():
  """Arrays of several types and sizes, of which two are no small ones."""
  return {
      "key": jax.random.key(3), "step": jnp.int32(7), "none": jnp.zeros((0, 3)),
      "half": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3),
      "large": jnp.arange(2**18, dtype=jnp.float32).reshape(2, -1),
      "also": jnp.arange(2**18, dtype=jnp.float32) + 1,
      "small": [jnp.full((2, n), n, jnp.float32) for n in range(1, 4)],
      "mask": jnp.array([True, False]), "host": np.array([2.0, 3.0])}


def blank(state):
  return jax.tree.map(lambda x: (
      np if isinstance(x, np.ndarray) else jnp).zeros_like(x), state)


def same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for x, y in zip(*(jax.tree.leaves(devices.plain(tree)) for tree in (
      one, other)), strict=True):
    assert x.dtype == y.dtype and np.array_equal(x, y)


@pytest.mark.parametrize("alone", [False, True])
def test_arrays_of_all_kinds_come_back(tmp_path, alone):
  found = checkpoints.Checkpoints(tmp_path, alone=alone)
  state = odd_state()
  found.save(state, checkpoints.Position(epoch=4))
  restored, position = found.restore(blank(state))
  same(restored, state)
  assert position.epoch == 4
  # A thousand arrays are a few files, not a thousand.
  saved = json.loads((tmp_path / "0.seal").read_text())["files"]
  found.save([jnp.full(3, n) for n in range(1000)], checkpoints.Position())
  assert len(json.loads((tmp_path / "1.seal").read_text())["files"]) <= len(
      saved)
  with pytest.raises(errors.InputError, match="of another kind of run"):
    found.restore(state)
  found.close()


@pytest.mark.parametrize("alone", [False, True])
def test_what_an_earlier_version_wrote_is_read(tmp_path, monkeypatch, alone):
  state = odd_state()
  del state["none"]  # Which that one did not take.
  found = checkpoints.Checkpoints(tmp_path, alone=alone)
  with monkeypatch.context() as patch:
    # It wrote every array by itself, and its seal did not say otherwise.
    patch.setattr(checkpoints, "_joined", lambda plain: (
        plain if alone else state))
    found.save(state, checkpoints.Position(epoch=4))
  path = tmp_path / "0.seal"
  seal = json.loads(path.read_text())
  del seal["joined"]
  if not alone:
    seal["state"] = checkpoints._structure(state)
  path.write_text(json.dumps(seal))
  restored, position = found.restore(blank(state))
  same(restored, state)
  assert position.epoch == 4
  found.close()


@pytest.mark.skipif(resource is None, reason="not on Windows")
def test_a_disk_that_takes_no_more_is_told_of_as_such(tmp_path, capfd):
  state = {"x": np.random.default_rng(0).random(10**5)}
  found = checkpoints.Checkpoints(tmp_path)
  found.save({"x": np.zeros(10**5)}, checkpoints.Position(epoch=1))
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, limits[1]))
  try:
    with pytest.raises(OSError, match="File too large") as caught:
      found.save(state, checkpoints.Position(epoch=2))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert caught.value.errno == errno.EFBIG
  assert caught.value.filename == str(tmp_path)
  assert "Traceback" not in capfd.readouterr().err
  assert found.restore(state)[1].epoch == 1
  found.save(state, checkpoints.Position(epoch=2))
  found.close()
  assert checkpoints.Checkpoints(tmp_path).restore(state)[1].epoch == 2


FULL = """
import resource, sys
import numpy as np
from natjax.training import checkpoints, devices, distributed, metrics
found = checkpoints.Checkpoints(sys.argv[1])
state = {f"a{n}": np.full(10, n) for n in range(60)}
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
for size in (0, 100, 200, 300):
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
  try:
    found.save(state, checkpoints.Position())
  except OSError as e:
    print(e.errno)
found.close()
"""


@pytest.mark.long
@pytest.mark.skipif(resource is None, reason="not on Windows")
def test_nothing_else_is_said_of_a_full_disk(tmp_path):
  done = subprocess.run(
      [sys.executable, "-c", FULL, str(tmp_path / "checkpoint")], text=True,
      capture_output=True, check=True, env={
          **os.environ, "PYTHONPATH":
          str(pathlib.Path(natjax.__file__).parents[1])})
  assert done.stdout == f"{errno.EFBIG}\n" * 4 and done.stderr == ""


@pytest.mark.long
def test_a_run_goes_on_once_the_disk_has_room(copy, monkeypatch, capsys):
  def full(*args, **kwargs):
    raise ValueError(
        'RESOURCE_EXHAUSTED: Error writing "a/0" in OCDBT database at local'
        ' file "0/d/9c1df5": Failed to write 688824 bytes to file 7: No space'
        " left on device [os_error_code='28']")

  with monkeypatch.context() as patch:
    patch.setattr(checkpoints.ocp.CheckpointManager, "save", full)
    assert processes.exit_code(lambda: train(
        copy, listener=pipeline.Listener())) == 1
  assert capsys.readouterr().err == (
      f"natjax: {copy / NETWORK / 'checkpoint'}: No space left on device; mend"
      " that and give the same command again (a run goes on where it was"
      " saved)\n")
  rows = []
  train(copy, listener=pipeline.Listener(on_row=rows.append))
  assert {row["epoch"] for row in rows if row["phase"] == "train"} == {2, 3}


def test_a_second_job_in_the_same_folder_is_refused(copy):
  entered, leave = threading.Event(), threading.Event()

  def wait(row):
    entered.set()
    leave.wait(60)

  first = threading.Thread(target=train, args=(copy,), kwargs={
      "listener": pipeline.Listener(on_row=wait)})
  first.start()
  assert entered.wait(60)
  try:
    for overwrite in (False, True):
      with pytest.raises(errors.InputError, match="another process runs in"):
        train(copy, overwrite=overwrite)
  finally:
    leave.set()
    first.join()
  assert train(copy)["accuracy"] >= 0


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_stops_as_ctrl_c_does(number, tmp_path):
  (tmp_path / "g.txt").write_text(genotype.to_darts(GENOTYPE))
  command = [
      sys.executable, "-m", "natjax.cli", "train", "g.txt", "--dataset",
      "digits", "--preset", "demo", "--init-channels", "2", "--cells", "1",
      "--seeds", "1", "--epochs", "100000", "--chunk-seconds", "0.1", "--out",
      "run"]
  process = subprocess.Popen(command, cwd=tmp_path, env=os.environ,
                             stderr=subprocess.PIPE, text=True)
  rows = tmp_path / "run" / "metrics.jsonl"
  began = time.monotonic()
  while not rows.exists() and process.poll() is None and (
      time.monotonic() - began < 100):
    time.sleep(0.05)
  if number == signal.SIGHUP:
    process.stderr.close()  # As the terminal is.
  process.send_signal(number)
  if number == signal.SIGHUP:
    process.wait(timeout=100)
    assert process.returncode == 129
  else:
    _, text = process.communicate(timeout=100)
    assert process.returncode == 143, text[-2000:]
    assert "Interrupted and saved" in text.splitlines()[-1]
  assert [*(tmp_path / "run").glob(f"{NETWORK}/checkpoint/*.seal")]


def test_a_configuration_that_was_changed_by_hand(copy):
  path, natural = copy / "config.json", (copy / "config.json").read_text()
  said = r"config\.json is not what the run wrote"
  assert '"image_size": 4' in natural
  for text in (natural.replace('"image_size": 4', '"image_size": 16'),
               natural + "\n"):
    path.write_text(text)
    before = contents(copy)
    for call in (lambda: train(copy), lambda: runs.read_config(copy)):
      with pytest.raises(errors.InputError, match=said) as e:
        call()
      assert e.value.field == "overwrite" and contents(copy) == before
  path.write_text(natural)
  assert train(copy, strict=True)["accuracy"] >= 0
  path.write_text(text)
  with pytest.raises(errors.InputError, match=said):
    train(copy)
  train(copy, overwrite=True)
  assert path.read_text() == natural
