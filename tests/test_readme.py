"""The README's Python runs as it stands, in a process of its own.

All that differs is that the data sets have fewer images to train on, and NAT's
space the operations of DARTS alone, which are compiled in half of the time.
"""

import pathlib
import re
import subprocess
import sys

FEWER = """
import dataclasses
from natjax import data, spaces

spaces.SPACES["nat"] = spaces.SPACES["nat"]._replace(candidates=(
    "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3", "null"))

def fewer(*args, load=data.load, **settings):
  found = load(*args, **settings)
  return dataclasses.replace(found, train_images=found.train_images[:512],
                             train_labels=found.train_labels[:512])

data.load = fewer
"""
ROOT = pathlib.Path(__file__).resolve().parent.parent


def test_the_examples_run(tmp_path):
  blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(),
                      re.DOTALL)
  assert len(blocks) == 5
  done = subprocess.run(
      [sys.executable, "-W", "error::DeprecationWarning:natjax", "-c",
       "\n".join([FEWER, *blocks])],
      cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
  assert done.returncode == 0, done.stderr[-2000:]
  lines = done.stdout.splitlines()
  original, transformed = map(float, lines[0].split())
  assert 0.1 < original <= 1 and 0.1 < transformed <= 1
  # The user's own operation took the place of a separable convolution.
  assert int(lines[-2]) < 3349342
  # 432 + 32; twice 2 (2304 + 32); 4608 + 64; 330: by hand.
  assert int(lines[-1]) == 14810


def test_the_two_commands_are_there():
  text = (ROOT / "README.md").read_text()
  makefile = (ROOT / "Makefile").read_text()
  for command in ("demo", "test"):
    assert f"make {command}" in text
    assert f"\n{command}: " in makefile
