"""What JSON files of runs must hold."""

import pytest

from natjax import errors
from natjax.pipeline import shapes

SHAPE = {"a": float, "b?": [int], "c?": {"*": dict}, "d?": (str, None),
         "e?": object, "f?": bool}


@pytest.mark.parametrize("value", [
    {"a": 1}, {"a": 0.5, "more": []}, {"a": 1, "b": []}, {"a": 1, "b": [1, 2]},
    {"a": 1, "c": {}}, {"a": 1, "c": {"x": {}}}, {"a": 1, "d": None},
    {"a": 1, "d": "x"}, {"a": 1, "e": [None]}, {"a": 1, "f": False}])
def test_values_of_a_shape(value):
  shapes.check(value, SHAPE, "f.json", "restore it")


@pytest.mark.parametrize("value,message", [
    ({}, "a is missing"), ([], r"it is \[\] and must be an object"),
    (None, "it is None and must be an object"),
    ({"a": "1"}, "a is '1' and must be a number"),
    ({"a": True}, "a is True and must be a number"),
    ({"a": 1, "b": 1}, "b is 1 and must be a list"),
    ({"a": 1, "b": [1, 2.5]}, "b.1 is 2.5 and must be a whole number"),
    ({"a": 1, "c": {"x": []}}, r"c.x is \[\] and must be an object"),
    ({"a": 1, "d": 3}, "d is 3 and must be a text"),
    ({"a": 1, "f": 1}, "f is 1 and must be true or false")])
def test_values_of_another_shape_are_named(value, message):
  with pytest.raises(errors.InputError, match=message) as e:
    shapes.check(value, SHAPE, "f.json", "restore it", "overwrite")
  assert str(e.value).startswith("f.json is damaged: ")
  assert str(e.value).endswith("; restore it")
  assert e.value.field == "overwrite"
