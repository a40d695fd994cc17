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


@pytest.mark.parametrize("name", ["conv_3x3", "null", "None", "", "sep"])
def test_other_operations_are_refused(name):
  with pytest.raises(errors.InputError, match=r"edge 2 -> 3 .*nor_conv_3x3"):
    cells201.from_string(ALL_3X3.replace("nor_conv_3x3~2", f"{name}~2"))


def test_what_the_benchmark_lacks_is_not_written():
  with pytest.raises(errors.InputError, match="sep_conv_3x3"):
    cells201.to_string(["sep_conv_3x3"] * 6)
  with pytest.raises(errors.InputError, match="5 operations"):
    cells201.to_string(["null"] * 5)


def test_costs_of_the_all_3x3_cell_as_printed():
  code = cells201.encode(cells201.to_array(
      cells201.from_string(ALL_3X3)))
  params, madds = zoo.nasbench201.costs("cifar10")
  assert (params[code], madds[code]) == (1_531_546, 220_119_690)
  assert (params[0], madds[0]) == (73_306, 7_783_050)
