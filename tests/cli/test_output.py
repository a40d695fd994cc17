"""What is said of a result."""

import pytest

from natjax import methods
from natjax.cli import output


@pytest.mark.parametrize("seeds,ratio,words", [
    (1, -0.1, "the transformed one is cheaper."),
    (1, 0.0, "the transformed one costs the same."),
    (2, -0.1, "the transformed ones are cheaper."),
    (2, 0.0, "the transformed ones cost the same.")])
def test_verdict(seeds, ratio, words):
  part = {"accuracy_std": 0.0}
  result = {"original": part, "transformed": part, "changes": [],
            "seeds": [{"num_changes": 1}] * seeds}
  said = output._verdict(result, methods.METHODS["nat"], 0.0, (ratio, ratio))
  assert said == f"Both are equally accurate; {words}"
