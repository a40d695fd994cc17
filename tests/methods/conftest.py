"""Times by a rule, where nothing is to be measured."""

import numpy as np
import pytest

from natjax import operations
from natjax.costs import exact
from natjax.methods import latency


class Clock:
  """Times by a rule, no two of which are quite the same.

  Attributes:
    asked: how many programs were timed.
    spread: of the times, relative.
  """

  def __init__(self, spread=0.0):
    self.asked, self.spread = 0, spread

  def __call__(self, programs, seconds):
    found = []
    for program in programs:
      self.asked += 1
      turns = 1 + self.spread * np.linspace(-1, 1, 25)
      found.append((program * (1 + 1e-4 * self.asked) * turns).tolist())
    return found


@pytest.fixture(name="clock")
def fixture_clock(monkeypatch):
  """A network takes its multiply-adds, and what none of its edges has."""
  clock = Clock()
  monkeypatch.setattr(latency, "in_turns", clock)
  monkeypatch.setattr(
      latency.Latency, "_network", lambda self, architecture: 1e-9 * (
          10_000 + exact.network(architecture, self.place).madds))
  monkeypatch.setattr(
      latency.Latency, "_edge", lambda self, network, ends, name: 1e-9 if (
          name is None) else 1e-9 + 2e-9 * operations.get(name).cost(
              ends.channels, ends.size, ends.stride).madds)
  return clock
