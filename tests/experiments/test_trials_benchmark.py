"""Smoke of the benchmark of other forms, at sizes that say nothing of speed."""

import pytest

from tests.experiments import scripts

SCRIPT = scripts.EXPERIMENTS / "benchmarks" / "trials.py"
TINY = ("--init-channels", "2", "--cells", "1", "--image-size", "8",
        "--batch-size", "2", "--rounds", "1")


def rows(*args):
  """The cells of the table, by step and form."""
  done = scripts.run(SCRIPT, *args, *TINY)
  assert done.returncode == 0, done.stderr
  table = [[cell.strip() for cell in line.strip("| \n").split("|")]
           for line in done.stdout.splitlines() if line.startswith("| ")]
  return {(row[0], row[1]): row for row in table[2:]}


@pytest.mark.long
def test_forms_of_a_plain_network():
  found = rows("darts", "--drop-path", "0.2")
  assert list(found) == [("darts", form) for form in (
      "library", "nothing kept", "nodes kept", "edges kept")]
  for row in found.values():
    assert float(row[8]) < 1e-4


@pytest.mark.long
def test_forms_of_the_supernet():
  found = rows("supernet", "--architectures", "1")
  assert list(found) == [(step, form) for step in ("null", "architecture 1")
                         for form in ("library", "all slots", "concatenated",
                                      "optimizer")]
  for (_, form), row in found.items():
    assert row[4].startswith("1.000") or form != "library"
    assert form == "optimizer" or float(row[8]) < 1e-4


def test_a_form_of_another_network_is_refused():
  done = scripts.run(SCRIPT, "resnet20", "--forms", "library", "all slots")
  assert done.returncode == 2
  assert "resnet20 has no form 'all slots'" in done.stderr
