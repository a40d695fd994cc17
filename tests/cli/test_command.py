"""The console command, from its start."""

import os
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
CALL = "import natjax_command, sys; sys.exit(natjax_command.main())"


def run(folder, *argv):
  path = os.pathsep.join([str(folder), str(ROOT)])
  return subprocess.run(
      [sys.executable, "-c", CALL, *argv], text=True, capture_output=True,
      timeout=120, check=False, env={**os.environ, "PYTHONPATH": path})


def test_ctrl_c_while_the_library_is_imported(tmp_path):
  """A jax that is interrupted as it is imported, and swallows that."""
  (tmp_path / "jax.py").write_text(f"""
import os
try:
  os.kill(os.getpid(), {int(signal.SIGINT)})
  for _ in range(10**6): pass
except BaseException as e:
  raise ImportError("swallowed") from e
""")
  found = run(tmp_path, "list")
  assert (found.returncode, found.stdout, found.stderr) == (130, "", "")


def test_the_command_runs_and_refuses(tmp_path):
  found = run(tmp_path, "cost", "nothing-of-that-name")
  assert found.returncode == 2 and found.stderr.startswith("natjax: no arch")
