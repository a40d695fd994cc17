"""Where labels and nodes stand: nothing overlaps."""

import hypothesis
from hypothesis import strategies as st
import pytest

from natjax import drawing, zoo
from natjax.graph import records
from tests import architectures
from tests.drawing import pictures

NAMES = ("null", "skip_connect", "sep_conv_3x3", "conv_1x7_7x1")


@hypothesis.settings(derandomize=True, max_examples=40, deadline=None)
@hypothesis.given(*[st.integers(1, 7).flatmap(
    lambda count: architectures.cells(count, NAMES, (1, 4)))] * 2)
def test_nothing_overlaps_whatever_the_cells(normal, reduce):
  """One to four inputs per node, as no published cell has."""
  pictures.check_nothing_overlaps(
      drawing.draw(records.Genotype(normal, reduce)))


def test_labels_are_as_wide_as_their_text():
  textpath = pytest.importorskip("matplotlib.textpath")
  used = {e.operation for n in zoo.genotype_names() for c in zoo.get(n)
          for e in c.edges}
  for name in used:
    path = textpath.TextPath((0, 0), name, size=11, prop="DejaVu Sans")
    svg = drawing.draw(pictures.genotype(*[name] * 4))
    left, _, right, _ = pictures.boxes(svg, "label")[0]
    assert path.get_extents().width <= right - left
