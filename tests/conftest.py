"""Four CPU devices for every test, and the compiler flags of the library."""

import os

from natjax.training import devices

# No persistent cache: a test must not pass because another day's did.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")
devices.configure_compilation()

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 4)
