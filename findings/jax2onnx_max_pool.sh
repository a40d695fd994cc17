#!/usr/bin/env bash
# jax2onnx 0.17.1 with jax 0.10.2, flax 0.12.8, onnxruntime 1.32.0, Python 3.11 or
# newer.
#
# Guess: flax.linen.max_pool becomes ONNX's MaxPool however it is called, its explicit
# padding included, and so does the window reduction that it is made of.
# Seen, of images [b, 8, 8, 4], windows of 3 and strides of 2:
#   by keywords, padding "SAME": a MaxPool that gives what flax gives.
#   by keywords, padding ((1, 1), (1, 1)): without a word a MaxPool that does not pad:
#     the outputs are [2, 3, 3, 4] where flax gives [2, 4, 4, 4].
#   by position: TypeError, patched_max_pool() takes 1 positional argument.
#   jax.lax.reduce_window with lax.max: a model that ONNX Runtime does not run
#     ("Unsupported pooling size"); with lax.add one that it runs, rightly.
# Instead: pad with -inf and take the maximum of strided slices, or name the arguments
# and pad "SAME"; and compare what was written with what was meant.
#
# The script exits with 0 if that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  jax==0.10.2 flax==0.12.8 jax2onnx==0.17.1 onnxruntime==1.32.0
cat > "$folder/script.py" <<'PY'
import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp
from jax2onnx import to_onnx
import numpy as np
import onnxruntime

IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype(np.float32)
PADS = ((1, 1), (1, 1))


def outcome(function):
  try:
    model = to_onnx(function, [jax.ShapeDtypeStruct(("b", 8, 8, 4), jnp.float32)])
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"])
    found, = session.run(None, {session.get_inputs()[0].name: IMAGES})
  except Exception as e:
    return f"{type(e).__name__}: {e}"
  expected = np.asarray(function(IMAGES))
  if found.shape != expected.shape:
    return f"{found.shape} for {expected.shape}"
  return "right" if np.allclose(found, expected, atol=1e-5) else "wrong"


def reduced(start, function):
  return lambda x: lax.reduce_window(
      x, start, function, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), *PADS, (0, 0)))


def shifted(x):
  x = jnp.pad(x, ((0, 0), *PADS, (0, 0)), constant_values=-jnp.inf)
  rows = jnp.maximum(jnp.maximum(x[:, :-2:2], x[:, 1:-1:2]), x[:, 2::2])
  return jnp.maximum(
      jnp.maximum(rows[:, :, :-2:2], rows[:, :, 1:-1:2]), rows[:, :, 2::2])


seen = {
    "keywords, SAME": outcome(lambda x: nn.max_pool(
        x, window_shape=(3, 3), strides=(2, 2), padding="SAME")),
    "keywords, padding": outcome(lambda x: nn.max_pool(
        x, window_shape=(3, 3), strides=(2, 2), padding=PADS)),
    "position": outcome(lambda x: nn.max_pool(x, (3, 3), (2, 2), "SAME")),
    "reduce_window, max": outcome(reduced(-jnp.inf, lax.max)),
    "reduce_window, add": outcome(reduced(0.0, lax.add)),
    "slices": outcome(shifted)}
for name, found in seen.items():
  print(f"{name}: {found}")
assert seen["keywords, SAME"] == seen["slices"] == "right"
assert seen["keywords, padding"] == "(2, 3, 3, 4) for (2, 4, 4, 4)"
assert seen["position"].startswith("TypeError")
assert "Unsupported pooling size" in seen["reduce_window, max"]
assert seen["reduce_window, add"] == "right"
PY
cd "$folder"
JAX_PLATFORMS=cpu venv/bin/python script.py
