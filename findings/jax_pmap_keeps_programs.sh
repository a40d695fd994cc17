#!/usr/bin/env bash
# What jax.pmap has compiled is never freed.
#
# Versions: jax 0.10.2 (the same with jax 0.12.0.1), CPU.
# Expected: a pmapped function that nobody refers to any more is collected, with
#   its compiled program, as one given to jax.jit is; pmap is jit of shard_map.
# Seen: jit, also of shard_map, lets go of the function and of its program.
#   jax.pmap keeps the function, all that it closes over (a model, its data) and
#   the program until the process ends or jax.clear_caches() drops everything of
#   everybody: a cache of its own holds the function weakly as the key, and
#   strongly in the value. A process that pmaps anew for every experiment grows
#   with each; on Linux it comes to an end, with most of the memory free, when
#   its mappings are used up (vm.max_map_count, 65530 by default), of which a
#   program on the CPU takes hundreds to thousands.
# Instead: jax.jit(jax.shard_map(...)) where the devices are the process's own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2
"$folder/venv/bin/python" - <<'PY'
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_platforms", "cpu")
client = jax.devices()[0].client
mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("d",))
part = jax.sharding.PartitionSpec("d")
x = jnp.ones((1, 4))


def closed_over(transform):
  class Model:
    scale = 2.0

  model = Model()
  gone = weakref.ref(model)
  before = len(client.live_executables())
  function = transform(lambda x, model=model: x * model.scale)
  function(x).block_until_ready()
  del function, model
  gc.collect()
  return gone, len(client.live_executables()) - before


jax.jit(lambda x: x * 3.0)(x)  # Whatever is made once.
seen = {}
for name, transform in {
    "jit": jax.jit,
    "jit of shard_map": lambda f: jax.jit(jax.shard_map(
        f, mesh=mesh, in_specs=part, out_specs=part, check_vma=False)),
    "pmap": jax.pmap}.items():
  gone, left = closed_over(transform)
  seen[name] = gone() is None, left
  print(f"{name}: function collected {gone() is None}, programs left {left}")
jax.clear_caches()
gc.collect()
print("pmap after clear_caches: function collected", gone() is None)
assert seen == {"jit": (True, 0), "jit of shard_map": (True, 0),
                "pmap": (False, 1)}, seen
assert gone() is None
PY
