#!/usr/bin/env bash
# jax2onnx 0.17.1 with jax 0.10.2, Python 3.11 or newer.
#
# Guess: a function whose computation has one form per platform
# (`jax.lax.platform_dependent`) is converted to ONNX by its form for the CPU, or
# by its default, as jax itself lowers it for one platform.
# Seen: "NotImplementedError: [converter] No plugins registered for primitive
# 'platform_index'", also where the forms are one and the same; without
# platform_dependent the function is converted.
# Instead: trace with a function that has one form.
#
# The script exits with 0 if that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  jax==0.10.2 jax2onnx==0.17.1
cd "$folder"
JAX_PLATFORMS=cpu venv/bin/python - <<'PY'
import jax
import jax.numpy as jnp
from jax2onnx import to_onnx


def one_form(x):
  return jnp.tanh(x) + 1.0


def form_per_platform(x):
  return jax.lax.platform_dependent(x, cpu=one_form, default=one_form)


to_onnx(one_form, inputs=[(2, 3)])
print("without platform_dependent: converted")
try:
  to_onnx(form_per_platform, inputs=[(2, 3)])
except Exception as e:
  text = f"{type(e).__name__}: {e}"
  print("with it:", text[:200])
  raise SystemExit("platform_index" not in text)
print("with it: converted, too")
raise SystemExit(1)
PY
