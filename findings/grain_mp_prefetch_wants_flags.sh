#!/usr/bin/env bash
# grain 0.2.18, absl-py 2.5.1, jax 0.10.2, Python 3.11 or newer, Linux.
#
# Guess: a pipeline that is read in threads is read in processes, too, once
# `mp_prefetch` stands behind it, in any script whose work is under
# `if __name__ == "__main__"`.
# Seen: in a script that is not run by absl's `app.run`, the first element raises
#   absl.flags._exceptions.UnparsedFlagAccessError: Trying to access flag
#   --grain_enable_multiprocess_worker_profiling before flags were parsed.
# In threads the same pipeline reads all its elements, and in processes, too, where
# jax is not installed.
# Instead: `absl.flags.FLAGS.mark_as_parsed()` before the iterator is made, unless
# the program parses absl's flags itself.
#
# The script exits with 0 if that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  grain==0.2.18 absl-py==2.5.1 jax==0.10.2
cat > "$folder/script.py" <<'PY'
import sys

from absl import flags
import grain


def elements(workers):
  data = grain.MapDataset.range(8).to_iter_dataset()
  if workers:
    data = data.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
  return sorted(int(x) for x in data)


if __name__ == "__main__":
  assert elements(0) == [*range(8)]
  print("threads: all elements")
  try:
    elements(2)
  except flags.UnparsedFlagAccessError as e:
    print("processes:", e)
  else:
    print("processes: all elements")
    sys.exit(1)
  flags.FLAGS.mark_as_parsed()
  assert elements(2) == [*range(8)]
  print("processes, flags marked as parsed: all elements")
PY
cd "$folder"
venv/bin/python script.py
