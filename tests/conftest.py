"""Four CPU devices for every test, and the compiler flags of the library."""

import jax

from natjax.training import devices

devices.configure_compilation()
# No persistent cache: a test must not pass because another day's did.
jax.config.update("jax_enable_compilation_cache", False)
jax.config.update("jax_num_cpu_devices", 4)
