"""Every method's command runs to its end where there is no terminal.

What each finds is tested elsewhere; here is what it tells in lines on the way.
"""

import json

import pytest

from natjax import methods
from tests.cli import commands

# What makes each short, beside the smallest network.
_WALKED = {"init_channels": 2, "cells": 1, "epochs": 2, "batch_size": 64}
_BRED = {"population": 4, "generations": 2, "parents": 2, "mutations": 2,
         "crossovers": 1}
_SHORT = {
    "nat": _WALKED | {"warmup_epochs": 1, "samples": 2, "candidates": 2},
    "natpp": _WALKED | {"warmup_epochs": 1, "samples": 2, "candidates": 2},
    "evolution": _WALKED | _BRED,
    "differentiable": {"architecture_epochs": 1},
    "climb": {"evaluations": 6, "neighbours": 3, "batch_size": 16},
    "replace": {"rounds": 1, "price_images": 64, "price_checks": 0,
                "distil_epochs": 1, "tune_epochs": 1},
    "darts": _WALKED | {"warmup_epochs": 1}, "entrannas": _WALKED,
    "entrannas-dst": _WALKED, "it-nas": _WALKED, "spos": _WALKED | _BRED,
    "random": {"candidates": 2, "score": "naswot", "init_channels": 2,
               "cells": 1}}


@pytest.mark.long
@pytest.mark.parametrize("name", methods.METHODS)
def test_a_method_runs_to_its_end(name, tmp_path):
  if methods.METHODS[name].starts == "space":
    given = ["search", "--space", "nat", "--no-train"]
  else:
    cell = commands.write(tmp_path / "cell.json", commands.GENOTYPE)
    given = ["transform", cell, *commands.flags(commands.TRAIN, "train-")]
  code, out, err = commands.run(
      *given, "--method", name, *commands.DATA,
      *commands.flags(_SHORT[name]), "--out", tmp_path / "run")
  assert code == 0, err
  assert "result.json" in out
  result = json.loads((tmp_path / "run" / "result.json").read_text())
  assert result["method"] == name
