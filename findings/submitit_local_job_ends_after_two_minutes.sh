#!/usr/bin/env bash
# A local job of submitit is ended after two minutes, unless told otherwise.
#
# Versions: submitit 1.5.4, cloudpickle 3.1.2, Python 3.11 or newer, Linux.
# Guess: a job of the local executor is a process of this machine, which no
#   queue limits; without timeout_min it runs until it is done.
# Seen: 90 seconds after its start it gets SIGUSR2, half a minute before an end
#   at two minutes that nobody asked for. A function then raises
#   "UncompletedJobError: Job not requeued because: timed-out and not
#   checkpointable", in the middle of its work; one that can be checkpointed
#   begins again every 90 seconds, and after three times raises "timed-out too
#   many times". (The default that is documented is 5 minutes, Slurm's.)
# Instead: executor.update_parameters(timeout_min=...) with more than any job
#   takes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  submitit==1.5.4 cloudpickle==3.1.2
cat > "$folder/script.py" <<'PY'
import time

import submitit


def work():
  time.sleep(130)
  return "done"


if __name__ == "__main__":
  limited = submitit.AutoExecutor("limited", cluster="local")
  free = submitit.AutoExecutor("free", cluster="local")
  free.update_parameters(timeout_min=60)
  began, jobs = time.monotonic(), [e.submit(work) for e in (limited, free)]
  text = str(jobs[0].exception())
  took = time.monotonic() - began
  print(f"without timeout_min: ended after {took:.0f} s")
  print(text.strip().splitlines()[-6][:200])
  assert "timed-out and not checkpointable" in text and took < 110
  print("with timeout_min=60:", jobs[1].result())
PY
cd "$folder"
venv/bin/python script.py
