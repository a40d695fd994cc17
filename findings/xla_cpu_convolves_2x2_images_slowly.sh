#!/usr/bin/env bash
# On a CPU, XLA convolves images of 2x2 pixels more slowly than images of 3x3.
#
# Versions: jax 0.10.2 (the same with jax 0.12.0.1), CPU.
# Expected: a 3x3 convolution of 64 images with 256 channels takes less time at
#   2x2 pixels than at 3x3, which are more than twice as many.
# Seen: at 2x2 it takes ten times as long. Where a window has more pixels than
#   the image, XLA exchanges the two (the compiled program has the image as the
#   kernel, `rhs_reversal`), whatever the backend, and its CPU backend has no
#   fast convolution of that form. The last layers of networks for 32x32 pixels
#   are there when images of 8x8 or 16x16 are tried: ResNet20, VGG16. Padding the
#   images first changes nothing, since XLA folds that into the convolution.
# Instead: the taps side by side and one matrix product, here called columns.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2
cat > "$folder/one.py" <<'PY'
import statistics
import time

import jax
from jax import lax
import jax.numpy as jnp

jax.config.update("jax_platforms", "cpu")
CHANNELS = 256


def convolution(x, kernel):
  return lax.conv_general_dilated(
      x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def columns(x, kernel):
  size = x.shape[1]
  wide = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  taps = jnp.concatenate([wide[:, i:i + size, j:j + size]
                          for i in range(3) for j in range(3)], -1)
  return taps @ kernel.reshape(-1, CHANNELS)


def seconds(function, size):
  x = jax.random.normal(jax.random.key(0), (64, size, size, CHANNELS))
  kernel = jax.random.normal(jax.random.key(1), (3, 3, CHANNELS, CHANNELS))
  run = jax.jit(function).lower(x, kernel).compile()
  assert jnp.allclose(run(x, kernel), convolution(x, kernel), 1e-3, 1e-2)
  spent = []
  for _ in range(9):
    began = time.process_time()
    jax.block_until_ready(run(x, kernel))
    spent.append(time.process_time() - began)
  return statistics.median(spent), "rhs_reversal" in run.as_text()


small, exchanged = seconds(convolution, 2)
large, kept = seconds(convolution, 3)
product, _ = seconds(columns, 2)
print(f"CPU ms: 2x2 {1e3 * small:.1f}, 3x3 {1e3 * large:.1f};"
      f" 2x2 as columns {1e3 * product:.1f}")
print(f"2x2 takes {small / large:.1f} times as long as 3x3")
assert exchanged and not kept
assert small / large > 3 and small / product > 3
PY
"$folder/venv/bin/python" "$folder/one.py"
