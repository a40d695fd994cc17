"""The README's Python runs as it stands, in processes of its own.

All that differs is that the data sets have fewer images to train on, and that
ResNet20 has a quarter of its channels, which takes a fraction of the time. The
section on the parts is a process for itself, as it is a script for itself, and
finds the run of those before.
"""

import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

FEWER = """
import dataclasses
from natjax import blocks, data, zoo

def narrower(name, *args, get=zoo.get):
  found = get(name, *args)
  return blocks.scale(found, 0.25) if name == "resnet20" else found

zoo.get = narrower

def fewer(*args, load=data.load, **settings):
  found = load(*args, **settings)
  return dataclasses.replace(found, train_images=found.train_images[:512],
                             train_labels=found.train_labels[:512])

data.load = fewer
"""
ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PARTS = re.search(r"\n## Taking the parts\n.*?(?=\n## )", README, re.DOTALL)[0]


def blocks(text):
  return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run(folder, texts):
  """What blocks print, run one after another in a process."""
  done = subprocess.run(
      [sys.executable, "-W", "error::DeprecationWarning:natjax", "-c",
       "\n".join([FEWER, *texts])],
      cwd=folder, capture_output=True, text=True, timeout=600, check=False)
  assert done.returncode == 0, done.stderr[-2000:]
  return done.stdout.splitlines(), done.stderr


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
  """The folder in which the other blocks ran, and what they printed."""
  folder, others = tmp_path_factory.mktemp("readme"), blocks(
      README.replace(PARTS, ""))
  assert len(others) == 5
  return folder, *run(folder, others)


@pytest.fixture(scope="module")
def parts(notebook):
  """What the section on the parts printed; no export without flatbuffers."""
  texts = blocks(PARTS)
  assert len(texts) == 5
  if importlib.util.find_spec("flatbuffers") is None:
    texts.pop()
  return run(notebook[0], texts)[0]


def test_the_examples_run(notebook):
  _, lines, said = notebook
  original, transformed = map(float, lines[0].split())
  assert 0.1 < original <= 1 and 0.1 < transformed <= 1
  before, after = map(float, lines[1].split())
  assert after <= before
  # The default listener told of the course.
  assert "original-0, train: epoch" in said and "tune: epoch" in said
  # The user's own operation took the place of a separable convolution.
  assert int(lines[-2]) < 3349342
  # 432 + 32; twice 2 (2304 + 32); 4608 + 64; 330: by hand.
  assert int(lines[-1]) == 14810


def test_the_parts_run(parts):
  supernet, policy, tuned = parts[:3]
  assert supernet.startswith("2 devices, loss of the supernet")
  assert 0 < float(supernet.rpartition(" ")[2]) < 2.3
  assert re.fullmatch(r"reward [+-]\d\.\d+; Edge\(operation='\w+', source=0,"
                      r" target=2\)", policy)
  assert 0.1 < float(tuned.rpartition(" ")[2]) <= 1


@pytest.mark.skipif(importlib.util.find_spec("flatbuffers") is None,
                    reason="jax.export serialises by flatbuffers, an extra")
def test_what_was_exported_gives_the_same(parts):
  words, _, difference = parts[-1].rpartition(" ")
  assert words == "largest difference" and float(difference) < 1e-4


def test_the_two_commands_are_there():
  makefile = (ROOT / "Makefile").read_text()
  for command in ("demo", "test"):
    assert f"make {command}" in README
    assert f"\n{command}: " in makefile
