"""How large the programs are: what compiles longer or holds more is seen.

One test per program pins how often its step is traced, how many lines it has
before XLA sees it and, of some, its temporaries. A change that moves a figure
on purpose writes the new one here. Temporaries are compared under one jaxlib;
lines are those of jax 0.10, of which 0.12 has 1 to 7 % fewer.
"""

import jaxlib
import pytest

from natjax.selftest import programs

SIZES = programs.Sizes(4, 4, 3, 8, 4, 8, 8, 32)
WITHIN = 0.1
XLA = "0.10."  # The jaxlib whose temporaries stand below.

# By name: the program, lines of StableHLO, temporaries in bytes or None.
PROGRAMS = {
    "supernet": (lambda: programs.supernet(SIZES), 25_129, 939_776),
    "policy": (
        lambda: programs.supernet(SIZES, phase="policy"), 14_049, None),
    "resnet20": (lambda: programs.plain(SIZES, "resnet20"), 5_762, 3_022_992),
    "mobilenetv2": (
        lambda: programs.plain(SIZES, "mobilenetv2"), 15_828, None),
    "darts": (lambda: programs.plain(SIZES, "darts"), 6_130, 522_688),
    "theta": (lambda: programs.theta(SIZES, "resnet20"), 13_144, None),
    "darts search": (lambda: programs.search(SIZES, "darts"), 23_976, None),
    "entrannas search": (
        lambda: programs.search(SIZES, "entrannas"), 24_441, None)}


def close(found, pinned, what):
  assert abs(found - pinned) <= WITHIN * pinned, (
      f"{what}: {found}, pinned are {pinned}; if that is meant, pin it anew")


@pytest.mark.long
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_as_large_as_it_was(name):
  make, lines, temporaries = PROGRAMS[name]
  program, traces = make(), []

  def update(*args):
    traces.append(1)
    return program.phase.update(*args)

  runner = programs.Runner(
      program._replace(phase=program.phase._replace(update=update)))
  assert len(traces) == 1
  close(len(runner._lowered.as_text().splitlines()), lines, "lines")
  if temporaries is not None and jaxlib.__version__.startswith(XLA):
    close(round(1e6 * runner.compile().temporaries_mb), temporaries,
          "temporaries, in bytes,")
