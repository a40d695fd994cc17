"""`natjax operations --space`: operations and what they may become."""

import json

import pytest

from natjax import operations, spaces
from natjax.costs import exact as cost
from tests.cli.commands import run

# The published table (spec/nat.md, section 1), columns in the space's order.
PUBLISHED = {
    "max_pool_3x3": "1010100000001", "max_pool_5x5": "1111100000001",
    "avg_pool_3x3": "1010100000001", "avg_pool_5x5": "1111100000001",
    "skip_connect": "0000100000001", "sep_conv_3x3": "1010110100001",
    "sep_conv_5x5": "1111111110001", "dil_conv_3x3": "1010100100001",
    "dil_conv_5x5": "1111100110001", "conv_1x1": "0000100001001",
    "conv_3x3": "1010110101101", "conv_5x5": "1111111111111",
    "null": "0000100000001",
}


def rows_of(space, *argv):
  code, out, err = run("operations", "--space", space, *argv, "--json")
  assert code == 0, err
  return {row["operation"]: row for row in json.loads(out)}


@pytest.mark.parametrize("space", ["natpp", "natpp_loose_end"])
def test_natpp_is_the_published_table_at_stride_1(space):
  rows = rows_of(space)
  assert list(rows) == list(PUBLISHED)
  for name, row in rows.items():
    allowed = [n for n, bit in zip(PUBLISHED, PUBLISHED[name], strict=True)
               if bit == "1"]
    assert row["transitions"] == allowed
  assert sum(len(row["transitions"]) for row in rows.values()) == 77


def test_the_table_says_what_it_counts():
  code, out, _ = run("operations", "--channels", "16")
  assert code == 0
  assert "without BN, pooling windows and copies counted" in " ".join(
      out.split())


@pytest.mark.parametrize("kind", ["alpha", "theta"])
def test_a_run_without_a_course_is_said_to_be_a_run(tmp_path, kind):
  command = "draw", str(tmp_path), f"--{kind}", "--out", str(
      tmp_path / "a.svg")
  assert "is no run's folder; name that of a `natjax" in run(*command)[2]
  (tmp_path / "config.json").write_text("{}")
  code, _, err = run(*command)
  assert code == 2 and f"has no {kind} (at random there is none); name" in err


def test_natpp_at_stride_2_lacks_what_costs_more_there():
  """A skip is then a factorised reduce, dearer than pooling and null."""
  rows = rows_of("natpp")
  gone = {name for name, row in rows.items()
          if row["transitions"] != row["transitions_stride_2"]}
  assert gone == {"max_pool_3x3", "max_pool_5x5", "avg_pool_3x3",
                  "avg_pool_5x5", "null"}
  for name in gone:
    assert rows[name]["transitions_stride_2"] == [
        n for n in rows[name]["transitions"] if n != "skip_connect"]


def test_nat_becomes_itself_skip_or_null():
  rows = rows_of("nat_loose_end")
  assert list(rows) == list(spaces.SPACES["nat_loose_end"].candidates)
  for name, row in rows.items():
    assert set(row["transitions"]) == {name, "skip_connect", "null"}
    assert len(row["transitions"]) == len(set(row["transitions"]))


def test_costs_are_those_without_a_space():
  code, out, err = run("operations", "--channels", 24, "--image-size", 8,
                       "--json", "--space", "nat")
  assert code == 0, err
  for row in json.loads(out):
    name = row["operation"]
    assert (row["params"], row["madds"]) == cost.operation_table(
        24, 8, [name])[name][:2]
    assert row["type"] == operations.get(name).type


def test_the_guard_looks_at_the_given_place():
  """With 2 channels a 5x5 depthwise kernel outweighs a 3x3 convolution."""
  wide = rows_of("natpp", "--channels", 64)["conv_3x3"]["transitions"]
  narrow = rows_of("natpp", "--channels", 2)["conv_3x3"]["transitions"]
  assert "sep_conv_3x3" in wide
  assert "sep_conv_3x3" not in narrow


def test_in_words():
  code, out, err = run("operations", "--space", "natpp")
  assert (code, err) == (0, "")
  assert "may become" in out
  assert out.count("conv_5x5") >= 3


@pytest.mark.parametrize("argv,fragment", [
    (["--space", "big"], "search space 'big' is unknown; choose one of nat,"),
    (["--space", "nat", "--channels", 7], "channels is 7; a skip at stride 2"),
    (["--space", "nat", "--channels", 0], "channels is 0 and must be at least"),
])
def test_refuses(argv, fragment):
  code, out, err = run("operations", *argv)
  assert (code, out) == (2, "")
  assert len(err.splitlines()) == 1 and fragment in err
