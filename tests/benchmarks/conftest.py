"""What the tests of natjax.benchmarks share."""

import pathlib

import numpy as np
import pytest

from natjax import zoo
from natjax.benchmarks import nasbench201
from natjax.graph import nasbench201 as cells201

_TABLE = (pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"
          / "nasbench201.csv.gz")


@pytest.fixture(scope="session")
def table_file():
  """The real table, which lies beside the checkout."""
  if not _TABLE.is_file():
    pytest.skip(f"NAS-Bench-201's table not found in {_TABLE}")
  return _TABLE


@pytest.fixture(scope="session")
def table(table_file):
  """The real table."""
  return nasbench201.read(table_file)


@pytest.fixture(scope="session")
def invented():
  """A complete table with CIFAR-10 alone: random numbers, index = order."""
  rng = np.random.default_rng(0)
  shape = cells201.COUNT
  params, madds = zoo.nasbench201.costs("cifar10")
  columns = {c: rng.uniform(10, 95, shape).round(3)
             for c in cells201.COLUMNS[:4]}
  columns |= {"params": params.astype(float), "flops_M": madds / 1e6}
  return nasbench201.Table(
      rng.permutation(shape).astype(np.int32), {"cifar10": columns})
