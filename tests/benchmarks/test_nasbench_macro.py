"""NAS-Bench-Macro's table, against damaged files too."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors
from natjax.benchmarks import nasbench_macro
from natjax.graph import nasbench_macro as chains

TABLE = (pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"
         / "nasbench_macro_cifar10.json")


def invented():
  """A complete file's object."""
  return {"".join(map(str, row)): {
      "test_acc": [50.0], "mean_acc": code / 100, "std": 0.5,
      "params": 1000 + code, "flops": 9000 + code}
          for code, row in enumerate(chains.all_chains().tolist())}


def test_the_real_table():
  if not TABLE.is_file():
    pytest.skip(f"{TABLE} is not here; see shared/data/README.md")
  columns = nasbench_macro.read(TABLE).columns
  # Two chains are best.
  best = chains.encode(chains.from_text("22212220"))
  assert columns["mean_acc"].max() == columns["mean_acc"][best]
  assert columns["mean_acc"][best] == pytest.approx(93.1267, abs=1e-3)
  # A block of 64 channels, three times as wide inside, in place of nothing.
  bare, one = (chains.encode(chains.from_text(text))
               for text in ("00000000", "01000000"))
  weights = 2 * 64 * 192 + 9 * 192
  assert columns["params"][one] - columns["params"][bare] == (
      weights + 4 * 192 + 2 * 64)
  assert columns["flops"][one] - columns["flops"][bare] == weights * 16**2


def test_a_table_is_read_by_code(tmp_path):
  path = tmp_path / "t.json"
  path.write_text(json.dumps(invented()))
  columns = nasbench_macro.read(path).columns
  code = chains.encode(jnp.array([[0] * 7 + [1], [1] + [0] * 7]))
  assert code.tolist() == [1, 3**7]
  np.testing.assert_array_equal(columns["params"], 1000 + np.arange(6561))
  np.testing.assert_array_equal(columns["mean_acc"], np.arange(6561) / 100)


def without(table, name):
  return {key: value for key, value in table.items() if key != name}


@pytest.mark.parametrize("change,message", [
    (lambda t: json.dumps(t)[:-30], "damaged, or no JSON"),
    (lambda t: json.dumps(t)[:-1] + ', "00000000": {}}',
     "the key '00000000' stands twice"),
    (lambda t: json.dumps(without(t, "00000000")), "6560 of 6561 chains"),
    (lambda t: json.dumps({**t, "33333333": {}}), "keys are no chains"),
    (lambda t: json.dumps({"hash": [1]}), "keys are no chains"),
    (lambda t: "[]", "keys are no chains"),
    (lambda t: json.dumps({**t, "00000000": {"params": 3}}),
     "mean_acc of 00000000 is None"),
    (lambda t: json.dumps({**t, "00000001": {**t["00000001"], "std": -1}}),
     "std of 00000001 is -1"),
    (lambda t: json.dumps({**t, "00000001": {
        **t["00000001"], "mean_acc": float("nan")}}), "is nan and must be")])
def test_damaged_tables_are_refused(tmp_path, change, message):
  path = tmp_path / "t.json"
  path.write_text(change(invented()))
  with pytest.raises(errors.InputError, match=message) as info:
    nasbench_macro.read(path)
  assert "\n" not in str(info.value) and info.value.field == "table"


@pytest.mark.parametrize("text", ["", "2221222", "222122203", "22212223", "x"])
def test_what_is_no_chain_is_refused(text):
  with pytest.raises(errors.InputError, match="write 8 digits"):
    chains.from_text(text)
