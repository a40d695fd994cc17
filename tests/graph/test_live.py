"""Tests of `natjax.graph.live`."""

import itertools

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from natjax import zoo
from natjax.graph import live, records
from tests import architectures

NAMES = ("null", "conv_3x3", "none")


@pytest.mark.parametrize("name, cell, alive", [
    # Spec: NAT_R2's normal node 3 has two nulls, NAT_R3's node 4 too, which
    # also stops node 5.
    ("nat_r2", 0, {0, 1, 2, 4, 5}), ("nat_r3", 0, {0, 1, 2, 3}),
    ("darts", 0, {0, 1, 2, 3, 4, 5}), ("vgg-cell", 0, {0, 1, 2, 3, 4, 5}),
])
def test_live_nodes_of_published_genotypes(name, cell, alive):
  assert architectures.alive(zoo.get(name)[cell]) == alive


@hypothesis.settings(deadline=None)
@hypothesis.given(architectures.cells(5, NAMES, (1, 3)))
def test_live_nodes_are_those_with_a_path_from_an_input(cell):
  def reached(node):
    return node < 2 or any(
        reached(e.source) for e in cell.incoming(node)
        if e.operation == "conv_3x3")

  assert architectures.alive(cell) == {n for n in range(7) if reached(n)}


def test_null_has_two_names():
  cell = architectures.cell(
      ("null", 0, 2), ("None", 1, 2), ("conv_3x3", 1, 2), concat=(2,))
  np.testing.assert_array_equal(live.nulls(cell), [True, True, False])


def pruned(cell, may=None):
  sources, targets = zip(*(edge[1:] for edge in cell.edges), strict=True)
  may = np.ones(len(cell.edges), bool) if may is None else may
  return live.prune(sources, targets, live.nulls(cell), cell.concat, may)


def test_pruning_by_hand():
  """Node 4 leads nowhere, so neither does node 3; node 2 does."""
  cell = architectures.cell(
      ("conv_3x3", 0, 2), ("conv_3x3", 2, 3), ("skip_connect", 3, 4),
      ("null", 4, 5), ("conv_1x1", 2, 5), concat=(5,))
  before = live.nulls(cell)
  np.testing.assert_array_equal(pruned(cell), [0, 1, 1, 1, 0])
  # What may not become null holds what stands before it.
  np.testing.assert_array_equal(
      pruned(cell, np.array([1, 1, 0, 1, 1], bool)), [0, 0, 0, 1, 0])
  np.testing.assert_array_equal(live.nulls(cell), before)


def reaches_an_output(cell, null, node):
  """Plain graph search from a node along edges that are not null."""
  return node in cell.concat or any(
      reaches_an_output(cell, null, edge.target)
      for edge, none in zip(cell.edges, null, strict=True)
      if edge.source == node and not none)


@hypothesis.settings(deadline=None)
@hypothesis.given(architectures.cells(5, NAMES, (1, 3)))
def test_pruning_nulls_the_edges_from_which_no_path_leads_to_an_output(cell):
  null = live.nulls(cell)
  expected = [none or not reaches_an_output(cell, null, edge.target)
              for edge, none in zip(cell.edges, null, strict=True)]
  np.testing.assert_array_equal(pruned(cell), expected)


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(
    architectures.cells(3, ("null", "conv_3x3"), (1, 2)), st.data())
def test_pruning_equals_the_best_of_all_choices(cell, data):
  """Brute force: the most nulls that cut nothing that is used or must stay.

  An edge may be nulled where it may become null and everything from its target
  on is nulled.
  """
  count, null = len(cell.edges), live.nulls(cell)
  may = np.array(data.draw(st.lists(
      st.booleans(), min_size=count, max_size=count)))

  def allowed(choice):
    if any(before and not after
           for before, after in zip(null, choice, strict=True)):
      return False
    for e, edge in enumerate(cell.edges):
      if choice[e] and not null[e] and (not may[e] or edge.target in (
          cell.concat) or any(
              other.source == edge.target and not none
              for other, none in zip(cell.edges, choice, strict=True))):
        return False
    return True

  choices = [c for c in itertools.product([False, True], repeat=count)
             if allowed(c)]
  best = max(choices, key=sum)
  assert sum(sum(c) == sum(best) for c in choices) == 1
  np.testing.assert_array_equal(pruned(cell, may), best)


def test_what_pruning_leaves_computes_the_same():
  """A pruned cell keeps the nodes of its output alive."""
  cell = zoo.get("nat_r3").normal
  kept = records.Cell(tuple(
      edge._replace(operation="null") if none else edge
      for edge, none in zip(cell.edges, pruned(cell), strict=True)),
      cell.concat)
  assert architectures.alive(kept) & set(kept.concat) == (
      architectures.alive(cell) & set(cell.concat))
