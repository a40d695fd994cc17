"""Training networks as data: one program, and nothing that it would ignore."""

import dataclasses
import importlib.util

import jax
import numpy as np
import pytest

from natjax import errors, spaces
from natjax.graph import arrays as arrays_lib
from natjax.graph import genotype as architecture
from natjax.training import engine, fit
from tests import tiny
from tests.experiments import scripts

SPACE = spaces.cells(
    "tiny", ("max_pool_3x3", "skip_connect", "conv_3x3", "null"), num_nodes=1)
TRAIN = dataclasses.replace(
    tiny.TRAIN, cells=1, drop_path=0.0, cutout=0, batch_size=16)


def genotype(*names):
  edges = tuple(architecture.Edge(n, i, 2) for i, n in enumerate(names))
  return architecture.Genotype(*[architecture.Cell(edges, (2,))] * 2)


@pytest.fixture(scope="module")
def make():
  spec = importlib.util.spec_from_file_location(
      "slot_training", scripts.EXPERIMENTS / "slot_training.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return lambda **changes: module.SupervisedSlots(
      dataclasses.replace(TRAIN, **changes), SPACE, num_classes=10,
      image_size=tiny.IMAGE_SIZE, steps_per_epoch=3)


def test_one_program_trains_every_architecture(make):
  trainer, rows, states = make(), [], []
  splits = {"train": tiny.splits()["train"], "test": tiny.splits()["weights"]}
  engine.make_chunk.cache_clear()
  for names in (("conv_3x3", "conv_3x3"), ("skip_connect", "max_pool_3x3")):
    arrays = arrays_lib.encode(genotype(*names), SPACE.candidates)
    states.append(fit.fit(
        trainer.method(arrays, watch_test=True), splits, batch_size=16,
        preparation=tiny.preparation(), options=fit.Options(
            devices=jax.devices()[:1], on_row=rows.append)))
  info = engine.make_chunk.cache_info()
  assert (info.misses, info.hits) == (2, 2)  # The phases train and test.
  assert [row["phase"] for row in rows] == ["train", "test"] * 4
  # The test phase changes nothing: so many steps were taken, and no more.
  assert [int(state.step) for state in states] == [6, 6]
  losses = [row["loss"] for row in rows if row["phase"] == "train"]
  assert losses[0] != losses[2]
  # The same start, and only what was chosen moved by more than weight decay.
  kernels = [np.asarray(state.params["blocks"][0]["edges0"]["conv_3x3"][
      "conv"]["kernel"]) for state in states]
  start = np.asarray(trainer.network.init(jax.random.key(0))["params"][
      "blocks"][0]["edges0"]["conv_3x3"]["conv"]["kernel"])
  moved = [np.max(np.abs(k - start)) for k in kernels]
  assert moved[0] > 1e-3 > moved[1] > 0
  running = [np.asarray(state.batch_stats["blocks"][0]["edges0"]["conv_3x3"][
      "norm"]["bn"]["mean"]) for state in states]
  assert np.all(running[0] != 0) and np.all(running[1] == 0)


@pytest.mark.parametrize("changes", [{"drop_path": 0.1}, {"auxiliary": True}])
def test_refuses_what_it_would_ignore(make, changes):
  with pytest.raises(errors.InputError, match="has neither, so give 0"):
    make(**changes)
