"""Tests of `natjax.graph.arrays`."""

import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from natjax import errors, operations, spaces, zoo
from natjax.graph import arrays as arrays_lib
from natjax.graph import records
from tests import architectures

Cell, Edge = records.Cell, records.Edge


def test_cell_arrays_literal():
  """The example of `CellArrays`: node 3 = skip(0) + conv(2)."""
  cell = Cell((Edge("null", 1, 2), Edge("conv_3x3", 0, 2),
               Edge("skip_connect", 0, 3), Edge("conv_3x3", 2, 3)), (3,))
  arrays = arrays_lib.encode([cell], ("skip_connect", "conv_3x3", "null"))
  np.testing.assert_array_equal(arrays.source, [[[1, 0], [0, 2]]])
  np.testing.assert_array_equal(arrays.operation, [[[2, 1], [0, 1]]])
  np.testing.assert_array_equal(arrays.concat, [[False, True]])
  assert arrays.source.dtype == arrays.operation.dtype == np.int32
  assert arrays.concat.dtype == np.bool_


def test_unequal_cells_literal():
  """K is the data's, 3; what a cell or a node lacks is null."""
  names = ("conv_1x1", "conv_3x3", "sep_conv_3x3", "max_pool_3x3",
           "avg_pool_3x3", "skip_connect", "null")
  arrays = arrays_lib.encode(architectures.UNEQUAL, names)
  np.testing.assert_array_equal(arrays.source, [
      [[1, 0, 0], [0, 1, 2], [3, 3, 0]], [[0, 1, 0], [1, 0, 0], [0, 0, 0]]])
  np.testing.assert_array_equal(arrays.operation, [
      [[1, 6, 6], [2, 5, 3], [0, 5, 6]], [[3, 5, 6], [4, 6, 6], [6, 6, 6]]])
  np.testing.assert_array_equal(
      arrays.concat, [[False, True, True], [True, True, False]])
  assert arrays_lib.decode(
      arrays, names, architectures.UNEQUAL) == architectures.UNEQUAL


@hypothesis.settings(deadline=None)
@hypothesis.given(architectures.genotypes(inputs=(1, 4)), st.integers(0, 8),
                  st.integers(1, 6))
def test_arrays_are_the_cells(genotype, num_nodes, inputs):
  """The arrays say what the edges say, and turn back into them."""
  names = operations.names()
  arrays = arrays_lib.encode(
      genotype, names, num_nodes=num_nodes, inputs=inputs)
  n = max(num_nodes, *(cell.num_nodes for cell in genotype))
  k = max(inputs, *(len(cell.incoming(node)) for cell in genotype
                    for node in range(2, 2 + n)))
  assert arrays.source.shape == arrays.operation.shape == (2, n, k)
  assert arrays.concat.shape == (2, n)
  null = names.index("null")
  for g, cell in enumerate(genotype):
    for row in range(n):
      into = cell.incoming(row + 2)
      for slot in range(k):
        operation, source = arrays.operation[g, row, slot], arrays.source[
            g, row, slot]
        assert 0 <= source < row + 2
        if slot < len(into):
          assert into[slot] == (names[operation], source, row + 2)
        else:
          assert operation == null
      assert arrays.concat[g, row] == (row + 2 in cell.concat)
  back = arrays_lib.decode(arrays, names, genotype)
  assert back == genotype
  assert all(isinstance(e.source, int) for c in back for e in c.edges)


@hypothesis.settings(deadline=None)
@hypothesis.given(architectures.genotypes(inputs=(1, 4)))
def test_without_the_cells_every_slot_is_an_edge(genotype):
  """What is padded comes back as null edges, and concat in nodes' order."""
  names = operations.names()
  arrays = arrays_lib.encode(genotype, names)
  _, n, k = arrays.source.shape
  back = arrays_lib.decode(arrays, names)
  for old, new in zip(genotype, back, strict=True):
    assert new.concat == tuple(sorted(old.concat))
    assert new.num_nodes == n and len(new.edges) == n * k
    for node in range(2, 2 + n):
      into = old.incoming(node)
      assert new.incoming(node)[:len(into)] == into
      assert all(e.operation == "null" for e in new.incoming(node)[len(into):])
  again = arrays_lib.encode(back, names)
  jax.tree.map(np.testing.assert_array_equal, again, arrays)


def test_arrays_of_several_architectures_stack():
  names = operations.names()
  arrays = [arrays_lib.encode(zoo.get(n), names)
            for n in ("darts", "r1", "vgg-cell")]
  stacked = jax.tree.map(lambda *a: np.stack(a), *arrays)
  assert stacked.source.shape == stacked.operation.shape == (3, 2, 4, 2)
  assert stacked.concat.shape == (3, 2, 4)
  np.testing.assert_array_equal(stacked.operation[1], arrays[1].operation)


def test_names_need_not_be_canonical():
  cell = architectures.cell(("None", 0, 2), ("Conv_1x1", 1, 2), concat=(2,))
  arrays = arrays_lib.encode([cell], ("conv_1x1", "null"))
  np.testing.assert_array_equal(arrays.operation, [[[1, 0]]])


def test_operations_that_are_no_candidates_are_refused_in_one_line():
  candidates = spaces.SPACES["nat"].candidates
  with pytest.raises(errors.InputError) as e:
    arrays_lib.encode(zoo.get("naonet"), candidates)
  assert "'avg_pool_5x5'" in str(e.value)
  assert ", ".join(candidates) in str(e.value)
  assert "\n" not in str(e.value)
