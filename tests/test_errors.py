"""Refusals of what no setting and no path can be."""

import os
import pathlib
import stat

import numpy as np
import pytest

from natjax import drawing, errors, zoo
from natjax.interchange import files
from natjax.pipeline import networks
from natjax.training import metrics
from tests.cli.commands import run


@pytest.mark.parametrize("value", [
    "a", "a/b.json", pathlib.Path("/tmp"), "x" * 255, "/".join("y" * 9)])
def test_paths_that_files_can_have(value):
  assert errors.path(value) == pathlib.Path(value)


def test_a_path_may_lie_in_the_home(monkeypatch):
  monkeypatch.setenv("HOME", "/home/someone")
  assert errors.path("~/a/b") == pathlib.Path("/home/someone/a/b")
  for value in ("a/~/b", "~a", "a~"):
    assert errors.path(value) == pathlib.Path(value)


def test_a_path_in_the_home_of_another(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(errors.InputError, match=(
      "out is '~nouser/runs', and whose home ~nouser is, is not known here;"
      " give the whole path")):
    errors.path("~nouser/runs", "out")
  (tmp_path / "~nouser").mkdir()  # It is a folder.
  assert errors.path("~nouser/runs") == pathlib.Path("~nouser/runs")


@pytest.mark.skipif(os.name == "nt", reason="needs Unix's users")
def test_a_path_in_the_home_of_a_user_who_is_known():
  import pwd

  one = pwd.getpwuid(0)
  assert errors.path(f"~{one.pw_name}/a") == pathlib.Path(one.pw_dir) / "a"


@pytest.mark.parametrize("value,message", [
    ("x" * 256, "'xxx.*xxx..., which no file can have"),
    ("a/" + "é" * 128 + "/b", "at most 255 bytes a name"),
    ("/".join(["y" * 99] * 50), "which no file can have"),
    ("a\0b", r"'a\\x00b', which no file"),
    (5, "out is 5 and must be a path"), ([], "must be a path"),
    (None, "must be a path"), ("", "out is '' and must be a path")])
def test_paths_that_no_file_can_have(value, message):
  with pytest.raises(errors.InputError, match=message) as e:
    errors.path(value, "out")
  assert e.value.field == "out" and len(str(e.value)) < 250
  assert "\n" not in str(e.value) and "\0" not in str(e.value)


def test_a_path_like_object_is_a_path():
  class Mine(os.PathLike):
    def __fspath__(self):
      return "mine"

  assert errors.path(Mine()) == pathlib.Path("mine")


@pytest.mark.parametrize("value", [[], {}, None, 3, "other", ("a",)])
def test_what_is_not_known_may_be_of_any_type(value):
  with pytest.raises(errors.InputError, match="is unknown; choose one of a, b"):
    errors.known("thing", value, {"a": 1, "b": 2})


def test_values_of_any_size_are_shown_in_part():
  for value in (10**400, 10**5000, "x" * 10**5, [[]] * 999):
    assert len(errors.short(value)) < 70


def test_what_other_code_raised_is_one_line():
  assert errors.cause(ValueError("a\n  b")) == "ValueError: a b"
  assert errors.cause(KeyError()) == "KeyError"
  assert errors.cause(errors.InputError("mend\nit")) == "mend it"


def test_values_of_many_lines_are_shown_in_one():
  assert errors.short(np.eye(2)) == "array([[1., 0.], [0., 1.]])"
  assert errors.short("a  b\n") == r"'a  b\n'"


WRITERS = {
    "metrics": lambda path: metrics.write_text(path, "a"),
    "weights": lambda path: networks.save_weights(
        path, {"params": {"w": np.ones(2)}}),
    "safetensors": lambda path: files.write(path, {"w": np.ones(2)}),
    "picture": lambda path: drawing.save(path, zoo.get("darts"))}


@pytest.mark.parametrize("writer", WRITERS)
def test_no_pipe_or_device_is_replaced_by_a_file(writer, tmp_path):
  path = tmp_path / "a.svg"
  os.mkfifo(path)
  with pytest.raises(errors.InputError, match=r"a\.svg is a folder, a pipe or"):
    WRITERS[writer](path)
  assert stat.S_ISFIFO(path.stat().st_mode)
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_link_names_is_written(writer, tmp_path):
  there = tmp_path / "there"
  there.mkdir()
  path, target = tmp_path / "a.svg", there / "b.svg"
  path.symlink_to(target)
  for _ in range(2):  # It is not there, and it is.
    WRITERS[writer](path)
    assert path.is_symlink() and target.stat().st_size
  assert list(there.iterdir()) == [target]


def test_streams_are_no_files():
  for name in ("/dev/fd/1", "/dev/stdout", "/proc/self/fd/1"):
    with pytest.raises(errors.InputError, match="no file can take its place"):
      errors.replaceable(pathlib.Path(name))


def test_a_command_does_not_replace_a_pipe(tmp_path):
  path = tmp_path / "a.json"
  os.mkfifo(path)
  code, _, err = run("convert", "darts", "--to", "json", "--out", str(path))
  assert code == 2 and "no file can take its place" in err
  assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.parametrize("value", [
    "s3://bucket/run", "gs://bucket/run", "https://host/mine.npz",
    "file:///home/mine.npz", "hf://datasets/mine", pathlib.Path("gs://b/run")])
def test_an_address_is_no_path(value):
  with pytest.raises(errors.InputError, match=r"out is '.*, an address"):
    errors.path(value, "out")


@pytest.mark.parametrize("value", ["a:b/c", "C:/runs", "runs/s3://b", "a:/b"])
def test_a_name_with_a_colon_is_a_path(value):
  assert errors.path(value) == pathlib.Path(value)


def test_a_place_that_is_not_in_unicode(tmp_path, monkeypatch):
  errors.in_unicode(tmp_path / "läufe")
  odd = tmp_path / os.fsdecode(b"caf\xe9")
  for path in (odd, odd / "run"):
    with pytest.raises(errors.InputError, match=r"caf\\udce9.*not in ") as e:
      errors.in_unicode(path, "out")
    assert e.value.field == "out" and str(e.value).isascii()
  odd.mkdir()
  monkeypatch.chdir(odd)
  with pytest.raises(errors.InputError, match="name another"):
    errors.in_unicode("run")
