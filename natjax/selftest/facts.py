"""What the machine is."""

import os
import platform
from typing import Any

import jax
import jaxlib

from natjax.pipeline import runs


def gather() -> dict[str, Any]:
  """Platform, devices and versions, JSON values.

  "memory_bytes" is what a device lends to this process; None where it does not
  say, as CPUs do not.
  """
  devices = jax.devices()
  limit = (devices[0].memory_stats() or {}).get("bytes_limit")
  return {
      "system": platform.platform(), "cores": os.cpu_count(),
      "platform": devices[0].platform,
      "device": ", ".join(sorted({d.device_kind for d in devices})),
      "devices": len(devices), "memory_bytes": limit,
      **runs.versions(), "jaxlib": jaxlib.__version__,
      "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")}
