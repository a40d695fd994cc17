"""What is wrongly asked of a script is one line, before anything starts."""

from tests.experiments import scripts

_OURS = sorted(path for path in scripts.EXPERIMENTS.glob("**/*.py") if (
    "__main__" in (text := path.read_text()) and (
        "Parser(" in text or "import differentiable_tables" in text)
    and not path.stem.startswith("torch_")))  # Which run without natjax.
# In one process: what each says, and with which exit code.
_RUN = """
import contextlib
import io
import runpy
import sys
sys.path.insert(0, sys.argv[1])
for path, *argv in {cases}:
  said = io.StringIO()
  sys.argv, code = [path, *argv], 0
  sys.path.insert(0, path.rpartition("/")[0])
  with contextlib.redirect_stderr(said):
    try:
      runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
      code = end.code
  sys.path.pop(0)
  print(repr((path, code, said.getvalue())))
"""


def said(cases, tmp_path):
  """The exit code and what is written, of every case."""
  cases = [tuple(map(str, case)) for case in cases]
  done = scripts.run("-c", _RUN.format(cases=cases), scripts.EXPERIMENTS)
  assert done.returncode == 0, done.stderr
  rows = [eval(line) for line in done.stdout.splitlines()]
  assert [path for path, *_ in rows] == [path for path, *_ in cases]
  assert not [*tmp_path.iterdir()]
  return [row[1:] for row in rows]


def test_every_script_refuses_in_one_line(tmp_path):
  assert len(_OURS) > 25
  for path, (code, text) in zip(_OURS, said(
      [(path, "--no-such-flag") for path in _OURS], tmp_path), strict=True):
    assert code == 2 and text.count("\n") == 1, (path, text)
    assert text.startswith(path.stem) and "usage:" not in text


def test_other_choices_and_numbers_are_refused(tmp_path):
  out = ("--out", tmp_path / "run")
  own, shared = scripts.EXPERIMENTS, "differentiable_reproducibility.py"
  cases = [
      ((own / "entrannas.py", *out, "--preset", "large"), "invalid choice"),
      ((own / "benchmarks/search.py", "--rows", "all"), "invalid choice"),
      ((own / "replacement.py", *out, "--epochs", "0"), "0 is too few"),
      ((own / "replacement.py", *out, "--seeds", "-2"), "-2 is too few"),
      ((own / "replacement.py", *out, "--epochs", "1.5"), "invalid int value"),
      ((own / "replacement.py", *out, "--seed", "-1"), "give at least 0"),
      ((own / shared, *out, "--epochs", "0"), "--epochs: 0 is too few"),
      ((own / shared, *out, "--seeds", "0"), "--seeds: 0 is too few"),
      ((own / shared, *out, "--theta-learning-rate", "-1e-3"),
       "theta-learning-rate is -0.001 and must not be negative")]
  for (case, words), (code, text) in zip(
      cases, said([case for case, _ in cases], tmp_path), strict=True):
    assert code == 2 and text.count("\n") == 1 and words in text, (case, text)
