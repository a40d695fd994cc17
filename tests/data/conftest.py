"""What the tests of natjax.data share."""

import pathlib

import pytest

_SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def shared_data():
  """The folder of real image sets that lies beside the checkout."""
  if not _SHARED.is_dir():
    pytest.skip(f"real data not found in {_SHARED}")
  return _SHARED
