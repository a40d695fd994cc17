"""The profile of searches: how often which operation runs."""

import importlib

import jax
import pytest

from natjax.methods import darts
from tests.experiments import scripts
from tests.experiments import test_search_benchmark as benchmark
from tests.methods import searching

SCRIPT = scripts.EXPERIMENTS / "benchmarks" / "search_profile.py"


def test_operations_are_counted_as_often_as_they_run(monkeypatch):
  monkeypatch.syspath_prepend(str(SCRIPT.parent))
  profile = importlib.import_module("search_profile")
  method = darts.Darts(darts.DartsConfig(**searching.CONFIG), searching.SPACE,
                       **searching.SIZES)
  found = profile.features(method, method.init(jax.random.key(0)))
  counts: dict[str, int] = {}
  for (name, _), count in found.items():
    counts[name] = counts.get(name, 0) + count
  # One normal cell and two reductions, of five edges from three sources. What
  # has weights runs on every edge, in reductions skips of stride 2, too; the
  # others run once per source.
  assert counts == {"dil_conv_3x3": 15, "max_pool_3x3": 9,
                    "skip_connect": 3 + 2 * (4 + 1)}


@pytest.mark.slow
def test_shares_are_of_the_iteration(tmp_path):
  report = tmp_path / "README.md"
  benchmark.run(str(SCRIPT), "--init-channels", "2", "--cells", "3",
                "--image-size", "8", "--batch-size", "4", "--repeats", "1",
                "--report", str(report))
  rows = {line.split("|")[1].strip(): line.split("|")
          for line in report.read_text().splitlines() if line.startswith("| ")}
  assert rows["the iteration"][4].strip() == "100 %"
  assert "sep_conv_5x5" in rows and "between the parts" in rows
