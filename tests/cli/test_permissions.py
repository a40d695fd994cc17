"""What belongs to somebody else, and may not be read, is called that."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from tests import pages

# Root may read all, unless these of its capabilities are taken.
_PLAIN = [] if os.geteuid() else [
    "setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


@pytest.fixture
def refused(tmp_path):
  """What a command says of what this user may not read."""
  if _PLAIN and shutil.which(_PLAIN[0]) is None:
    pytest.skip("root, and no setpriv (of util-linux)")

  def run(*args):
    done = subprocess.run(
        [*_PLAIN, sys.executable, "-m", "natjax", *map(str, args)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(pages.ROOT),
             "NATJAX_CACHE": str(tmp_path / "cache")})
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    said = " ".join(done.stderr.split())
    assert "Permission denied; ask its owner to let you read it" in said
    return said

  return run


def test_data(refused, tmp_path):
  train = ("train", "resnet20", "--image-size", "8", "--dry-run", "--dataset")
  np.savez(tmp_path / "mine.npz", x_train=np.zeros((4, 8, 8, 3), np.uint8),
           y_train=np.arange(4) % 2)
  for name in "ab":
    for i in range(2):
      (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
      Image.new("RGB", (8, 8)).save(tmp_path / "set" / name / f"{i}.png")
  (tmp_path / "mine.npz").chmod(0)
  (tmp_path / "set" / "a" / "1.png").chmod(0)
  assert "mine.npz" in refused(*train, "mine.npz")
  assert "a/1.png" in refused(*train, "set")


def test_a_run(refused, tmp_path):
  (tmp_path / "run" / "networks" / "network-0").mkdir(parents=True)
  config = tmp_path / "run" / "config.json"
  config.write_text(json.dumps({"kind": "train"}))
  (tmp_path / "run" / "networks").chmod(0)
  assert "run/networks" in refused("explain", "run", "--image", "1")
  config.chmod(0)
  assert "run/config.json" in refused("evaluate", "run")
  assert "run/config.json" in refused(
      "train", "resnet20", "--image-size", "8", "--dataset", "digits", "--out",
      "run", "--dry-run")
