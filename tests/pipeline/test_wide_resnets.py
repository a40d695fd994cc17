"""WideResNets as jobs: BN and ReLU stand before their convolutions."""

import dataclasses
import functools

import numpy as np
import pytest

from natjax import methods, pipeline
from natjax.costs import exact
from natjax.graph import blocks, codec
from natjax.zoo import handcrafted
from tests.methods import test_replace
from tests.pipeline import test_worse

TRAIN = test_worse.TRAIN


@functools.cache
def network(factor):
  """One block per stage, of 8 to 32 channels."""
  wide = handcrafted.wide_resnet(10, factor, "cifar")
  return blocks.check(blocks.scale(wide, 0.5 / factor))


@pytest.mark.slow
@pytest.mark.parametrize("factor, method", [
    (1, "nat"), (2, "natpp"), (1, "replace"), (2, "replace"),
    (2, "differentiable")])
def test_methods_transform_them(factor, method, tmp_path):
  kind = methods.METHODS[method].settings
  names = {f.name for f in dataclasses.fields(kind)}
  settings = {**test_worse.SETTINGS, "tolerance": 100.0}
  given, data = network(factor), test_replace.dataset(100)
  result = pipeline.transform(
      given, data, out=tmp_path / "run", method=method, share="full",
      search=kind(**{k: v for k, v in settings.items() if k in names}),
      train=TRAIN, devices=1, listener=None)
  assert result["original"]["params"] == exact.network(
      given, blocks.Frame(10, 8)).params
  assert result["transformed"]["madds"] <= result["original"]["madds"]
  found = codec.read(tmp_path / "run" / "architecture.json")
  assert result["transformed"]["params"] == exact.network(
      found, blocks.Frame(10, 8)).params
  logits = result.network.logits(data.test_images[:3])
  assert logits.shape == (3, 10) and np.isfinite(logits).all()


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1, 2])
def test_they_learn(factor, tmp_path):
  result = pipeline.train(
      network(factor), test_replace.dataset(800), out=tmp_path / "run",
      config=dataclasses.replace(TRAIN, epochs=6), devices=1, listener=None)
  assert result["accuracy"] > 0.5
