#!/usr/bin/env bash
# A large program comes out of jax's compilation cache hardly faster on a CPU
# than it is compiled.
#
# Versions: jax 0.10.2 (the same with jax 0.11.2 and 0.12.0.1), CPU.
# Expected: what the persistent cache holds is machine code, so that loading it
#   takes time in proportion to its size, and a small part of compiling it.
# Seen, for n steps of tanh(x - mean(x, 0)) one after the other, CPU seconds:
#     n     compiled  loaded
#      500      0.6      0.3
#     1000      1.9      1.1
#     2000      9.9      7.9
#   Loading grows faster than the program, and approaches compiling: a profile of
#   it shows XLA's CPU runtime looking for the instruction of every YNNPACK fusion
#   (matrix products and sums become such) by its number among all instructions.
#   Leaving those fusions out, --xla_cpu_experimental_ynn_fusion_type=
#   -LIBRARY_FUSION_TYPE_REDUCE, makes it no better here (27 s to load 2000): other
#   parts grow alike.
# Instead: loops that stay loops (lax.scan, lax.map) where a program has thousands
#   of sums.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2
cat > "$folder/one.py" <<'PY'
import sys
import time

import jax
import jax.numpy as jnp

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_compilation_cache_dir", sys.argv[2])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
steps = int(sys.argv[1])


def f(x):
  for _ in range(steps):
    x = jnp.tanh(x - jnp.sum(x, 0) * (1 / 1024))
  return x


lowered = jax.jit(f).lower(jnp.ones((1024, 64)))
began = time.process_time()
lowered.compile()
print(time.process_time() - began)
PY
declare -A seen
for n in 500 2000; do
  for what in compiled loaded; do
    seen[$what$n]=$("$folder/venv/bin/python" "$folder/one.py" $n "$folder/cache$n")
    echo "$n steps, $what: ${seen[$what$n]} CPU s"
  done
done
python3 - "${seen[loaded500]}" "${seen[loaded2000]}" "${seen[compiled2000]}" <<'PY'
import sys

small, large, compiled = map(float, sys.argv[1:])
print(f"four times the steps load in {large / small:.0f} times the time;"
      f" loading takes {large / compiled:.2f} of compiling")
assert large / small > 8 and large / compiled > 0.4
PY
