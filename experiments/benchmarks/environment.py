"""What is set before jax is imported: how the library runs."""

import importlib.metadata
import os


def has_accelerator() -> bool:
  """Whether jax will find one, as far as installed packages tell."""
  return os.environ.get("JAX_PLATFORMS", "") != "cpu" and any(
      d.metadata["Name"].startswith(("jax-cuda", "jax-rocm", "libtpu"))
      for d in importlib.metadata.distributions())


def configure() -> None:
  """Sets XLA's flags; what the user's own say stays.

  Without an accelerator a lower level of optimisation, as the library has it
  (`natjax.training.devices.configure_compilation`).
  """
  flags = os.environ.get("XLA_FLAGS", "")
  if not has_accelerator() and "xla_backend_optimization_level" not in flags:
    os.environ["XLA_FLAGS"] = (
        f"{flags} --xla_backend_optimization_level=1".strip())
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
