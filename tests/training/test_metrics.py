"""`metrics.jsonl` and files that are written whole or not at all."""

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


def test_what_follows_a_damaged_line_is_dropped(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_bytes(b'{"run": "a"}\n3\n{"run": "b"}\n\xff\x00\n{"run": "c"}\n')
  assert metrics.read(path) == [{"run": "a"}, {"run": "b"}]


def test_write_text_leaves_no_temporary_file(tmp_path):
  metrics.write_text(tmp_path / "f", "text")
  assert [p.name for p in tmp_path.iterdir()] == ["f"]
