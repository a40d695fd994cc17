"""Four CPU devices for every test, and a compiler in a hurry."""

import gc
import importlib.metadata
import os
import tempfile
from unittest import mock

# Before jax is imported. Compiling is most of the tests' time, and level 0
# takes two thirds of the time of the library's own level 1; without the newer
# code generator of fusions it is less than half. To split programs for several
# threads costs a tenth more, and the processes have a core each. XLA ends at a
# flag that it does not know, so these two are for the versions that are known
# to have them.
os.environ["XLA_FLAGS"] = " ".join([
    os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0",
    *["--xla_cpu_use_fusion_emitters=false",
      "--xla_cpu_parallel_codegen_split_count=1"] * importlib.metadata.version(
          "jaxlib").startswith("0.10.")]).strip()

import jax
import pytest

from natjax import methods, operations, spaces
from natjax.training import devices

# Tracing makes many objects and few cycles: at Python's own threshold a tenth
# of the tests' time goes into looking for these.
gc.set_threshold(50_000, 20, 20)

devices.configure_compilation()
# A cache of this run alone: a test must not pass because another day's did.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_num_cpu_devices", 4)

# The one imports what lies beside the experiments, which is on no path here,
# the other PyTorch, which need not be installed.
collect_ignore = ["toys/toy_sweep.py", "interchange/torch_resnet.py"]

# Files that take half a minute and more; at the end one process would wait.
LONG = ("test_kill_and_resume.py", "test_distributed.py", "test_pages.py",
        "test_benchmark.py", "test_random_architectures.py",
        "test_transformation.py", "test_nat.py", "test_supernet.py",
        "test_sparse.py", "test_differentiable_job.py",
        "test_differentiable.py", "test_mixture.py")


def pytest_configure(config):
  """Has the processes of a run share what they compile."""
  if not hasattr(config, "workerinput"):
    folder = tempfile.TemporaryDirectory(prefix="natjax-tests-")
    config.add_cleanup(folder.cleanup)
    # For the processes that tests start, too.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
  jax.config.update("jax_compilation_cache_dir",
                    os.environ["JAX_COMPILATION_CACHE_DIR"])


def pytest_collection_modifyitems(items):
  """Puts the long files first, so that the processes end together."""
  items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(autouse=True, scope="module")
def registries():
  """Leaves no file's own methods, spaces and operations to the next file."""
  with (mock.patch.dict(methods.METHODS), mock.patch.dict(spaces.SPACES),
        mock.patch.dict(operations.registry._REGISTRY)):
    yield
