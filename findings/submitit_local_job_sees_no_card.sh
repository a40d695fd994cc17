#!/usr/bin/env bash
# A local job of submitit sees no GPU, and does not say so.
#
# Versions: submitit 1.5.4, cloudpickle 3.1.2, Python 3.11 or newer, Linux.
# Guess: a job of the local executor has the environment of the process that
#   submits it, so the same GPUs; gpus_per_node is Slurm's business.
# Seen: CUDA_VISIBLE_DEVICES is set to "" for it, whatever it was: a JAX or
#   PyTorch job trains on the CPU, without an error. With gpus_per_node=N it is
#   "0,...,N-1", also where the process itself had been given cards 4 and 7:
#   then the job takes cards that are another's.
# Instead: set the variable in the job, before anything asks for a card; or
#   gpus_per_node together with visible_gpus.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  submitit==1.5.4 cloudpickle==3.1.2
cat > "$folder/script.py" <<'PY'
import os

import submitit


def cards():
  return os.environ.get("CUDA_VISIBLE_DEVICES")


if __name__ == "__main__":
  os.environ["CUDA_VISIBLE_DEVICES"] = "4,7"
  executor = submitit.AutoExecutor("jobs", cluster="local")
  seen = executor.submit(cards).result()
  executor.update_parameters(gpus_per_node=2)
  two = executor.submit(cards).result()
  print(f"here {cards()!r}; in a job {seen!r}, with gpus_per_node=2 {two!r}")
  assert (seen, two) == ("", "0,1")
PY
cd "$folder"
venv/bin/python script.py
