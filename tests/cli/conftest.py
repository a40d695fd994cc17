"""What several files of the command line's tests run or refuse."""

import numpy as np
import pytest

from natjax.pipeline import runs
from natjax.training import fit
from tests.cli.commands import GENOTYPE, run_json, transform_argv, write


@pytest.fixture
def genotype_file(tmp_path):
  return write(tmp_path / "genotype.json", GENOTYPE)


@pytest.fixture
def no_training(monkeypatch):
  def fail(*args, **kwargs):
    raise AssertionError("training began")

  monkeypatch.setattr(fit, "fit", fail)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
  """A folder with all that the refused commands name."""
  folder = tmp_path_factory.mktemp("refusals")
  write_genotypes(folder)
  write_data_sets(folder)
  write_config_files(folder)
  write(folder / "file", "x")
  for name in ("foreign", "model", "damaged"):
    (folder / name).mkdir()
  write(folder / "foreign" / "x.txt", "x")
  write(folder / "model" / "config.json", {"kind": "of another program"})
  write(folder / "damaged" / "config.json", '{"kind": "tra')
  argv = transform_argv(folder / "g.json", "other")
  runs.open_run(folder / "other",
                run_json(*argv, "--dry-run")["configuration"])
  return folder


def write_genotypes(folder):
  edges = GENOTYPE["normal"]
  for name, value in {
      "g.json": GENOTYPE,
      "unknown_op.json": {**GENOTYPE,
                          "normal": [["conv_9x9", 0, 2], *edges[1:]]},
      "unknown_op.txt":
          "Genotype(normal=[('conv_9x9', 0), ('conv_3x3', 1)],"
          " normal_concat=[2], reduce=[('conv_3x3', 0), ('conv_3x3', 1)],"
          " reduce_concat=range(2, 3))",
      "unequal.json": {**GENOTYPE, "normal": edges[:2], "normal_concat": [2]},
      "three_inputs.json": {
          **GENOTYPE,
          "normal": [*edges[:2], ["conv_3x3", 0, 2], *edges[2:]]},
      "broken.json": "{",
      "list.json": [1],
  }.items():
    write(folder / name, value)


def write_data_sets(folder):
  images = np.zeros((200, 8, 8), np.uint8)
  labels = np.arange(200) % 3
  test = {"x_test": images[:6], "y_test": labels[:6] % 2}
  np.savez(folder / "small.npz", x_train=images[:60], y_train=labels[:60],
           **test)
  np.savez(folder / "negative.npz", x_train=images, y_train=labels - 1, **test)
  np.savez(folder / "named.npz", x_train=images, y_train=labels, **test,
           class_names=np.array(["a", "b"]))
  np.savez(folder / "keys.npz", x=images)


def write_config_files(folder):
  for name, value in {
      "key": {"other": {}},
      "flat": {"epochs": 3},
      "setting": {"search": {"epoch": 1}},
      "text": {"search": {"epochs": "3"}},
      "bool": {"search": {"epochs": True}},
      "real": {"search": {"epochs": 3.0}},
      "null": {"train": {"learning_rate": None}},
      "zero": {"train": {"epochs": 0}},
      "infinite": '{"search": {"learning_rate": Infinity}}',
  }.items():
    write(folder / f"config_{name}.json", value)


@pytest.fixture
def place(everything, monkeypatch, no_training):
  """The same as the working folder; no test changes it."""
  monkeypatch.chdir(everything)
  return everything
