"""Tests of `natjax.graph.nasbench201`."""

import numpy as np
import pytest

from natjax import errors, zoo
from natjax.graph import nasbench201 as cells201

ALL_3X3 = ("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
           "+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|")


def test_all_strings_and_codes_round_trip():
  seen = set()
  for code in range(cells201.COUNT):
    operation = cells201.decode(np.int32(code))
    text = cells201.to_string(cells201.to_names(operation))
    back = cells201.to_array(cells201.from_string(text))
    np.testing.assert_array_equal(back, operation)
    assert cells201.encode(back) == code
    seen.add(text)
  assert len(seen) == 15_625


def test_a_string_by_hand():
  text = ("|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|"
          "+|none~0|nor_conv_3x3~1|skip_connect~2|")
  names = ("avg_pool_3x3", "conv_1x1", "skip_connect", "null", "conv_3x3",
           "skip_connect")
  assert cells201.from_string(text) == names
  assert cells201.to_string(names) == text
  # Base 5, the first edge the most significant: 4 2 1 0 3 1.
  assert cells201.encode(cells201.to_array(names)) == (
      4 * 3125 + 2 * 625 + 125 + 0 + 3 * 5 + 1)
  assert cells201.to_string(["none"] * 6) == cells201.to_string(
      ["null"] * 6)


@pytest.mark.parametrize("text", [
    "", "|none~0|", ALL_3X3[:-1], ALL_3X3 + "\n", " " + ALL_3X3,
    ALL_3X3.replace("~2", "~3"), ALL_3X3.replace("~1", "~0"),
    ALL_3X3.replace("~2", "~02"), ALL_3X3.replace("+", ""),
    ALL_3X3 + "+|none~0|none~1|none~2|none~3|",
    ALL_3X3.replace("|nor_conv_3x3~2|", ""), "+" * 100_000])
def test_other_forms_are_refused(text):
  with pytest.raises(errors.InputError, match=r"\|op~0\|") as info:
    cells201.from_string(text, where="ARCH")
  assert str(info.value).startswith("ARCH: ") and len(str(info.value)) < 300


@pytest.mark.parametrize("name", ["conv_5x5", "nil", "max_pool_3x3", "", "sep"])
def test_other_operations_are_refused(name):
  with pytest.raises(errors.InputError, match=r"edge 2 -> 3 .*nor_conv_3x3"):
    cells201.from_string(ALL_3X3.replace("nor_conv_3x3~2", f"{name}~2"))


def test_what_the_benchmark_lacks_is_not_written():
  with pytest.raises(errors.InputError, match="sep_conv_3x3"):
    cells201.to_string(["sep_conv_3x3"] * 6)
  with pytest.raises(errors.InputError, match="5 operations"):
    cells201.to_string(["null"] * 5)


def expression(operation):
  """What a cell's output is, written out: sorted terms of sums, nested."""
  nodes = [(("input",),)]
  for node in (1, 2, 3):
    terms = []
    for o, (source, target) in zip(operation, cells201.EDGES, strict=True):
      name = cells201.CANDIDATES[o]
      if target != node or name == "null" or not nodes[source]:
        continue
      terms += nodes[source] if name == "skip_connect" else [
          (name, nodes[source])]
    nodes.append(tuple(sorted(terms, key=repr)))
  return nodes[-1]


def test_cells_are_numbered_by_what_they_compute():
  number = cells201.computations()
  assert number.shape == (15_625,) and not number.flags.writeable
  assert len(set(number.tolist())) == 4930 == cells201.COMPUTATIONS
  # By first cell, without gaps; nothing at all is the first.
  first = np.unique(number, return_index=True)[1]
  assert number.max() == 4929 and (np.diff(first) > 0).all() and number[0] == 0
  numbers = {}
  for operation, n in zip(cells201.all_operations().tolist(), number,
                          strict=True):
    assert numbers.setdefault(expression(operation), n) == n
  assert len(numbers) == 4930
  assert np.bincount(number).max() == 460


def unique_string(operation):
  """As NAS-Bench-201's package writes it, `to_unique_str(consider_zero=True)`.
  """
  nodes = ["0"]
  for node in (1, 2, 3):
    terms = []
    for o, (source, target) in zip(operation, cells201.EDGES, strict=True):
      if target != node:
        continue
      name, value = cells201.NAMES[o], nodes[source]
      if name == "none" or value == "#":
        terms.append("#")
      else:
        terms.append(value if name == "skip_connect" else f"({value})@{name}")
    nodes.append("+".join(sorted(terms)))
  return nodes[-1]


def test_unique_strings_are_more_than_what_is_computed():
  number = cells201.computations().tolist()
  texts = [unique_string(o) for o in cells201.all_operations().tolist()]
  ways, meanings = {}, {}
  for n, text in zip(number, texts, strict=True):
    ways.setdefault(n, set()).add(text)
    meanings.setdefault(text, set()).add(n)
  assert len(meanings) == 6466
  assert {len(found) for found in meanings.values()} == {1}
  assert sum(len(ways[n]) > 1 for n in number) == 9956


def test_cells_of_one_number_are_the_same_function():
  # Every operation a random map of vectors that keeps zero.
  rng = np.random.default_rng(0)
  width, operation = 5, cells201.all_operations()
  matrix = rng.normal(size=(5, width, width))
  matrix[:2] = np.zeros((width, width)), np.eye(width)
  nodes = [np.tile(rng.normal(size=width), (len(operation), 1))]
  for node in (1, 2, 3):
    total = np.zeros_like(nodes[0])
    for edge, (source, target) in enumerate(cells201.EDGES):
      if target == node:
        o = operation[:, edge]
        linear = np.einsum("nij,nj->ni", matrix[o], nodes[source])
        total += np.where(o[:, None] == 1, linear, np.tanh(linear))
    nodes.append(total)
  number = cells201.computations()
  first = np.unique(number, return_index=True)[1]
  np.testing.assert_allclose(
      nodes[-1], nodes[-1][first[number]], rtol=1e-9, atol=1e-12)
  different = nodes[-1][first]
  different = different[np.lexsort(different.round(9).T)]
  assert np.abs(np.diff(different, axis=0)).max(1).min() > 1e-6


@pytest.mark.parametrize(("one", "other", "same"), [
    # Nothing, however it comes about; only a path carries anything.
    ("null null null null null null", "conv_3x3 avg_pool_3x3 null null null"
     " null", True),
    ("null conv_3x3 null null conv_1x1 null", "null null null null null null",
     True),
    ("null null null null null null", "null null null skip_connect null null",
     False),
    # An operation on nothing adds nothing.
    ("null null null conv_3x3 conv_1x1 avg_pool_3x3",
     "null null null conv_3x3 null null", True),
    # Skips copy, at either end.
    ("skip_connect null null null conv_1x1 null",
     "conv_1x1 null skip_connect null null skip_connect", True),
    # Sums commute: the two inner nodes change places.
    ("conv_1x1 conv_3x3 null null skip_connect avg_pool_3x3",
     "conv_3x3 conv_1x1 null null avg_pool_3x3 skip_connect", True),
    # Sums within sums: (x + f(x)) + g(x) in two ways.
    ("skip_connect skip_connect conv_1x1 conv_3x3 null skip_connect",
     "skip_connect conv_1x1 null conv_3x3 skip_connect skip_connect", True),
    # Another operation, another order, twice instead of once.
    ("null null null conv_3x3 null null", "null null null conv_1x1 null null",
     False),
    ("conv_1x1 null null null conv_3x3 null",
     "conv_3x3 null null null conv_1x1 null", False),
    ("skip_connect null null conv_1x1 conv_1x1 null",
     "null null null conv_1x1 null null", False),
    # A node seen twice, or two edges with weights of their own.
    ("conv_1x1 null skip_connect null skip_connect skip_connect",
     "conv_1x1 conv_1x1 null null skip_connect skip_connect", True),
    # The pooling of a sum is kept apart from the sum of poolings.
    ("conv_1x1 skip_connect skip_connect null null avg_pool_3x3",
     "conv_1x1 null null avg_pool_3x3 avg_pool_3x3 null", False)])
def test_which_cells_compute_the_same(one, other, same):
  found = [cells201.computations()[cells201.encode(cells201.to_array(
      names.split()))] for names in (one, other)]
  assert (found[0] == found[1]) == same


def test_costs_of_the_all_3x3_cell_as_printed():
  code = cells201.encode(cells201.to_array(
      cells201.from_string(ALL_3X3)))
  params, madds = zoo.nasbench201.costs("cifar10")
  assert (params[code], madds[code]) == (1_531_546, 220_119_690)
  assert (params[0], madds[0]) == (73_306, 7_783_050)
