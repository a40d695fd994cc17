"""Writing pictures."""

import errno
import os
import sys

import pytest

from natjax import drawing, errors
from tests.drawing import pictures

FIRST, SECOND, PNG = pictures.FIRST, pictures.SECOND, pictures.PNG


@pytest.mark.parametrize("suffix", [".svg", ".png", ".PNG"])
def test_save(tmp_path, suffix):
  path = tmp_path / f"picture{suffix}"
  path.write_text("older")
  if suffix != ".svg":
    pytest.importorskip("matplotlib")
  drawing.save(path, FIRST, SECOND, title="$x$ is no formula")
  data = path.read_bytes()
  if suffix == ".svg":
    assert data.decode() == drawing.draw(
        FIRST, SECOND, title="$x$ is no formula"
    )
  else:
    assert data.startswith(PNG) and len(data) > 20_000
    drawing.save(path, FIRST, SECOND, title="$x$ is no formula")
    assert path.read_bytes() == data
  assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("name, message", [
    ("picture.pdf", r"\.svg or \.png, not as '\.pdf'"),
    ("picture", r"\.svg or \.png"),
    ("missing/picture.svg", "no directory '.*missing'; create it"),
])
def test_paths_are_refused_in_one_line(tmp_path, name, message):
  for write in (
      lambda path: drawing.save(path, FIRST),
      lambda path: drawing.learning_curves(
          [{"run": "a", "phase": "train", "epoch": 0, "loss": 1.0}], path
      ),
  ):
    with pytest.raises(errors.InputError, match=message) as caught:
      write(tmp_path / name)
    assert "\n" not in str(caught.value)
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number,kind,words", [
    (errno.ENOSPC, OSError, r"No space left on device: '.*picture\.svg'"),
    (errno.EROFS, errors.InputError, "Read-only file system; choose a path")])
def test_a_failed_write_leaves_the_older_file(
    number, kind, words, tmp_path, monkeypatch):
  def refused(*_):
    raise OSError(number, os.strerror(number))

  path = tmp_path / "picture.svg"
  path.write_text("older")
  monkeypatch.setattr(os, "replace", refused)
  with pytest.raises(kind, match=words):
    drawing.save(path, FIRST)
  assert path.read_text() == "older"
  assert os.listdir(tmp_path) == ["picture.svg"]


def test_only_svg_without_matplotlib(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  drawing.save(tmp_path / "a.svg", FIRST)
  hint = r"pip install 'natjax\[plots\]' or choose \.svg"
  with pytest.raises(errors.InputError, match=hint):
    drawing.save(tmp_path / "a.png", FIRST)
  assert os.listdir(tmp_path) == ["a.svg"]
