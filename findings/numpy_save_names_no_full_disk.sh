#!/usr/bin/env bash
# numpy 2.4.6, Python 3.11 or newer, Linux.
#
# Guess: where a file cannot grow, `np.save` raises the OSError of the system, with
# its errno (EFBIG here, ENOSPC of a full disk), as `np.savez` and `file.write` do.
# Seen: `np.save` and `ndarray.tofile` raise an OSError whose errno is None:
#   100000 requested and 992 written
# so that what asks `e.errno == errno.ENOSPC` does not know a full disk. `np.savez`,
# which writes through zipfile, gives errno 27.
# Instead: save into an `io.BytesIO`, and write its bytes.
#
# The script exits with 0 if that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.4.6
cat > "$folder/script.py" <<'PY'
import errno
import resource

import numpy as np

array = np.zeros(100_000, np.float32)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
found = {}
for name, write in {
    "np.save": lambda: np.save("a.npy", array),
    "tofile": lambda: array.tofile("a.bin"),
    "np.savez": lambda: np.savez("a.npz", a=array),
    "file.write": lambda: open("b.bin", "wb", 0).write(bytes(4096)) and open(
        "b.bin", "ab", 0).write(b"x")}.items():
  try:
    write()
  except OSError as e:
    found[name] = e.errno
    print(f"{name}: errno {e.errno}, {e}")
assert found == {"np.save": None, "tofile": None, "np.savez": errno.EFBIG,
                 "file.write": errno.EFBIG}, found
PY
cd "$folder"
venv/bin/python script.py
