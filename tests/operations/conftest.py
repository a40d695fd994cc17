"""Both forms of the array functions."""

from jax import lax
import pytest


@pytest.fixture(params=["cpu", "default"])
def branch(request, monkeypatch):
  """Runs a test with the CPU's form and with the accelerators' form."""
  def choose(*args, **branches):
    return branches[request.param](*args)

  monkeypatch.setattr(lax, "platform_dependent", choose)
  return request.param
