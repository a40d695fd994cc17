"""How XLA is told to compile, by what is installed."""

import gc
import importlib.util
import types
import weakref

import jax
import jax.numpy as jnp
import pytest

from natjax.data import streamed
from natjax.training import devices

TRITON = "--xla_gpu_enable_triton_gemm"
LEVEL = "--xla_backend_optimization_level"


@pytest.fixture
def configured(monkeypatch):
  """`(plugins, flags) -> flags` after `configure_compilation`."""

  def configure(plugins, flags=""):
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name: name if name in plugins else None)
    devices.configure_compilation()
    return devices.os.environ["XLA_FLAGS"].split()

  return configure


def test_flags_follow_from_what_is_installed(configured):
  assert configured([]) == [f"{LEVEL}=1"]
  assert configured(["libtpu"]) == []
  assert configured(["jax_cuda13_plugin"]) == [f"{TRITON}=false"]


def test_flags_of_the_user_stay(configured):
  assert configured([], f"{LEVEL}=3") == [f"{LEVEL}=3"]
  assert configured(["jax_cuda12_plugin"], f"{TRITON}=true --a=b") == [
      f"{TRITON}=true", "--a=b"]
  assert configured(["jax_cuda12_plugin"], "--a=b") == [
      "--a=b", f"{TRITON}=false"]


def test_a_later_jax_is_not_told_of_a_flag_that_it_may_not_know(
    configured, monkeypatch):
  monkeypatch.setattr(jax, "__version_info__", (0, 13, 0))
  assert configured(["jax_cuda13_plugin"]) == []


@pytest.fixture
def kept():
  """Where jax keeps programs, and which, are as they were in the end."""
  names = ("jax_compilation_cache_dir",
           "jax_persistent_cache_min_compile_time_secs")
  before = {name: jax.config.values[name] for name in names}
  jax.config.update(names[0], None)
  yield lambda: [jax.config.values[name] for name in names]
  for name, value in before.items():
    jax.config.update(name, value)


def test_programs_are_kept_where_that_can_be_written(kept, tmp_path):
  devices.configure_compilation(tmp_path / "a" / "b")
  assert kept() == [str(tmp_path / "a" / "b"), 0]
  assert (tmp_path / "a" / "b").is_dir()


def test_a_cache_that_cannot_be_written_is_told_once_and_read(
    kept, tmp_path, monkeypatch):
  monkeypatch.setattr(devices.os, "access", lambda *args: False)
  with pytest.warns(UserWarning, match=f"{tmp_path}: not writable; compiled"):
    devices.configure_compilation(tmp_path)
  assert kept() == [str(tmp_path), float("inf")]


def test_a_cache_that_cannot_be_made_is_told(kept, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.warns(UserWarning, match="file: File exists; compiled programs"):
    devices.configure_compilation(tmp_path / "file")
  jax.jit(lambda x: x * 3.25 + 1)(jnp.ones(3))  # Without another warning.


def test_few_addresses_are_told(monkeypatch):
  limits = lambda what: (int(1.5e9), -1)
  monkeypatch.setattr(devices.resource, "getrlimit", limits)
  with pytest.warns(UserWarning, match=r"1.5 GB of addresses \(ulimit -v\)"):
    devices.configure_compilation()


@pytest.mark.long
def test_a_program_goes_with_what_it_was_made_of():
  """`jax.pmap` keeps it, and so would exhaust the mappings of a process."""

  class Method:

    def update(self, x):
      return x + 1

  method = Method()
  gone = weakref.ref(method)
  program = devices.spread(lambda x, method=method: method.update(x),
                           devices.choose(1), sharded=[False])
  assert program(jnp.ones(3)).tolist() == [2, 2, 2]
  del method, program
  gc.collect()
  assert gone() is None


def test_the_memory_of_all_devices():
  cpus = jax.local_devices(backend="cpu")
  assert devices.memory(cpus) == streamed.machine_bytes()
  card = lambda **stats: types.SimpleNamespace(
      platform="gpu", process_index=0, memory_stats=lambda: stats)
  away = types.SimpleNamespace(platform="gpu", process_index=1)
  assert devices.memory([card(bytes_limit=7), card(bytes_limit=5)]) == 12
  assert devices.memory([card(bytes_limit=7), away]) == 14
  assert devices.memory([card(bytes_limit=7), card()]) == float("inf")
