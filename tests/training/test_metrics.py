"""`metrics.jsonl` and files that are written whole or not at all."""

import pytest

from natjax import errors
from natjax.training import metrics


def test_rows_of_other_runs_are_kept_when_one_is_cut_back(tmp_path):
  path = tmp_path / "m.jsonl"
  first, second = (metrics.MetricsFile(path, run) for run in "ab")
  for i in range(3):
    first.append({"epoch": i})
    second.append({"epoch": i})
  again = metrics.MetricsFile(path, "a")
  again.cut_back(1)
  assert [(r["run"], r["epoch"]) for r in metrics.read(path)] == [
      ("a", 0), ("b", 0), ("b", 1), ("b", 2)]
  again.append({"epoch": 7})
  assert again.count == 2
  assert metrics.read(path)[-1] == {"run": "a", "epoch": 7}


def test_a_line_that_was_cut_off_is_dropped(tmp_path):
  path = tmp_path / "m.jsonl"
  path.write_text('{"run": "a", "x": 1}\n{"run": "a", "x"')
  assert metrics.read(path) == [{"run": "a", "x": 1}]


@pytest.mark.parametrize("line", [
    b"3", b"[]", b"{", b"", b"\xff\x00", b"null", b"[" * 3000,
    b'{"run": 1}', b'{"run": "b", "epoch": "1"}', b'{"seconds": null}'])
def test_a_damaged_line_is_named_and_nothing_is_deleted(tmp_path, line):
  path = tmp_path / "metrics.jsonl"
  text = b'{"run": "a"}\n' + line + b'\n{"run": "c"}\n{"run"'
  path.write_bytes(text)
  for read in (lambda: metrics.read(path),
               lambda: metrics.MetricsFile(path, "a").cut_back(1)):
    with pytest.raises(errors.InputError, match="jsonl is damaged: line 2"):
      read()
  assert path.read_bytes() == text


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_rows_that_a_checkpoint_counts_and_that_are_gone(tmp_path, rows):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"run": "a"}\n' * rows + '{"run": "b"}\n')
  with pytest.raises(errors.InputError, match=f"{rows} of the 3 rows of a"):
    metrics.MetricsFile(path, "a").cut_back(3)
  path.unlink()
  with pytest.raises(errors.InputError, match="0 of the 3 rows of a"):
    metrics.MetricsFile(path, "a").cut_back(3)


def test_a_folder_in_the_place_of_the_file(tmp_path):
  with pytest.raises(errors.InputError, match="Is a directory; restore it or"):
    metrics.read(tmp_path)


def test_write_text_leaves_no_temporary_file(tmp_path):
  metrics.write_text(tmp_path / "f", "text")
  assert [p.name for p in tmp_path.iterdir()] == ["f"]
