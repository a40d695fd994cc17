#!/usr/bin/env bash
# scipy.optimize.milp now and then prints a line to the process's stdout.
#
# Versions: scipy 1.17.1, numpy 2.4.6, Linux.
# Expected: with its option disp off, which is the default, milp prints nothing;
#   a program whose stdout is JSON can call it.
# Seen: in 2 of 400 feasible programs of 120 binary variables HiGHS writes
#   "HighsMipSolverData::transformNewIntegerFeasibleSolution tmpSolver.run();"
#   by C's own stdio, so that contextlib.redirect_stdout does not catch it, and
#   into a pipe it comes at the end of the process. The results are right, and
#   neither other scales of the rows nor presolve off prevent it.
# Instead: point file descriptor 1 elsewhere while it runs, and flush C's
#   buffers before it is put back.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - > "$folder/out" <<'PY'
import contextlib
import io

import numpy as np
from scipy import optimize

PLACES, OPTIONS = 20, 6  # One option of each place, the first is free.
owner = np.repeat(np.arange(PLACES), OPTIONS)
one = (owner == np.arange(PLACES)[:, None]) * 1.0
changes = np.arange(len(owner)) % OPTIONS > 0
with contextlib.redirect_stdout(io.StringIO()):
  for seed in range(400):
    rng = np.random.default_rng(seed)
    saved = rng.random(len(owner)) * changes / PLACES
    price = rng.random(len(owner))**2 * changes
    most = saved.reshape(PLACES, OPTIONS).max(1).sum()
    found = optimize.milp(
        price, integrality=np.ones(len(owner)), bounds=optimize.Bounds(0, 1),
        options={"disp": False, "mip_rel_gap": 0},
        constraints=[optimize.LinearConstraint(one, 1, 1),
                     optimize.LinearConstraint(saved[None], 0.5 * most)])
    assert found.status == 0
PY
cat "$folder/out"
lines=$(grep -c transformNewIntegerFeasibleSolution "$folder/out" || true)
echo "printed by 400 programs: $lines lines"
test "$lines" -gt 0
