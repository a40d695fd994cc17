#!/usr/bin/env bash
# safetensors 0.8.0, numpy 2.4.6, Python 3.11 or newer, Linux.
#
# Guess: where a file cannot grow, `safetensors.numpy.save_file` raises OSError, as
# other writers do.
# Seen: `SafetensorError`, which is no OSError and has no errno; the number of the
# system's error stands in its text alone:
#   Error while serializing: I/O error: File too large (os error 27)
# Instead: write the bytes that `safetensors.numpy.save` gives.
#
# The script exits with 0 if that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  safetensors==0.8.0 numpy==2.4.6
cat > "$folder/script.py" <<'PY'
import resource

import numpy as np
import safetensors
import safetensors.numpy

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
  safetensors.numpy.save_file({"a": np.zeros(100_000, np.float32)},
                              "a.safetensors")
except safetensors.SafetensorError as e:
  print(f"{type(e).__name__}: {e}")
  assert not isinstance(e, OSError) and not hasattr(e, "errno")
  assert "os error 27" in str(e)
else:
  raise AssertionError("it was written")
PY
cd "$folder"
venv/bin/python script.py
