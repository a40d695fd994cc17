"""NATS-Bench's files: those of the documented structure, and hostile ones."""

import bz2
import collections
import os
import pickle

import numpy as np
import pytest

from natjax import errors, zoo
from natjax.benchmarks import nasbench201, nats_bench
from natjax.graph import nasbench201 as cells201

SEEDS = (777, 888)


def string(code):
  return cells201.to_string(cells201.to_names(
      cells201.decode(np.int32(code))))


def trial(epochs, splits, accuracy, number=float):
  """One trial's record, as the benchmark's `ResultsCount.state_dict`."""
  curve = {f"{s}@{e}": number(accuracy - 0.01 * (epochs - 1 - e))
           for s in splits for e in range(epochs)}
  return {"name": "infer.tiny", "net_state_dict": None, "epochs": epochs,
          "train_acc1es": collections.OrderedDict({0: 1.0}),
          "eval_names": list(splits), "eval_acc1es": curve,
          "params": number(0.1), "seed": 777, "latency": [0.01],
          "arch_config": {"arch_str": "", "num_cells": 5}}


def record(code, epochs=(12, 200), number=float, short=False):
  """One cell's record; seed 777 has a point less than 888."""
  result = {}
  for n in epochs:
    seeds = {"cifar10-valid": ["x-valid", "ori-test"], "cifar10": ["ori-test"],
             "cifar100": ["x-valid", "x-test"],
             "ImageNet16-120": ["x-valid", "x-test"]}
    trials = {
        (name, seed): trial(1 if short else n, splits, 40.0 + i + (seed == 888),
                            number)
        for i, (name, splits) in enumerate(seeds.items()) for seed in SEEDS}
    if short:
      for t in trials.values():
        t["epochs"] = 1
    result[str(n)] = {
        "arch_index": 0, "arch_str": string(code), "all_results": trials,
        "dataset_seed": {name: list(SEEDS) for name in seeds},
        "clear_net_done": True}
  return result


def write(path, data, protocol=4):
  path.write_bytes(bz2.compress(pickle.dumps(data, protocol), 1))
  return path


EXPECTED = {("cifar10", "val"): 40.5, ("cifar10", "test"): 41.5,
            ("cifar100", "val"): 42.5, ("cifar100", "test"): 42.5,
            ("imagenet16-120", "val"): 43.5, ("imagenet16-120", "test"): 43.5}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("number", [float, np.float64, np.float32])
def test_a_record_gives_means_over_seeds_of_the_last_epoch(
    tmp_path, protocol, number):
  path = write(tmp_path / "0.pickle.pbz2", record(123, number=number), protocol)
  found = nats_bench.accuracies(path, 123)
  assert len(found) == 12
  for (name, kind), value in EXPECTED.items():
    for epochs in (12, 200):
      np.testing.assert_allclose(
          found[name, f"{kind}_{epochs}ep"], value, rtol=1e-6)


def test_numpy_values_of_all_kinds_and_orders(tmp_path):
  values = [np.float16(1.5), np.int64(-3), np.uint8(200), np.bool_(True),
            np.dtype(">f8").type(2.5), np.frombuffer(
                np.array([7.25], ">f4").tobytes(), ">f4")[0]]
  path = write(tmp_path / "x.pickle.pbz2", {
      "values": values, "array": np.arange(3.0)})
  loaded = nats_bench.load(path)
  assert loaded["values"] == [1.5, -3, 200, True, 2.5, 7.25]
  assert not isinstance(loaded["array"], np.ndarray)


@pytest.mark.long
def test_the_whole_folder(tmp_path, invented, monkeypatch):
  codes = invented.codes
  meta = write(tmp_path / "meta.pickle.pbz2", {
      "meta_archs": [string(c) for c in codes], "evaluated_indexes": set()})
  first = write(tmp_path / "000000.pickle.pbz2", record(codes[0]))
  with pytest.raises(errors.InputError, match=r"000001.*No such file"):
    nasbench201.read(tmp_path)

  # The other records are not written: that alone would take a minute.
  load, data = nats_bench.load, record(0, short=True)

  def loaded(path):
    if path in (meta, first):
      return load(path)
    for trials in data.values():
      trials["arch_str"] = string(codes[int(path.name[:6])])
    return data

  monkeypatch.setattr(nats_bench, "load", loaded)
  table = nasbench201.read(tmp_path)
  np.testing.assert_array_equal(table.codes, codes)
  for (name, kind), value in EXPECTED.items():
    np.testing.assert_allclose(table.of(name)[f"{kind}_200ep"], value)
  np.testing.assert_array_equal(
      table.of("cifar10")["params"], zoo.nasbench201.costs("cifar10")[0])


class Evil:
  """Asks whoever unpickles it to call something."""

  def __init__(self, function, *args):
    self.call = function, args

  def __reduce__(self):
    return self.call


@pytest.mark.parametrize("evil", [
    Evil(os.system, "touch harmed"), Evil(eval, "1 + 1"),
    Evil(open, "harmed", "w"), Evil(getattr, dict, "__class__"),
    Evil(np.load, "x"), os.path.join, nats_bench.load,
    np.array([Evil(os.system, "touch harmed")], object)],
    ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_malicious_pickles_are_refused(evil, protocol, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = write(tmp_path / "meta.pickle.pbz2", {"meta_archs": evil}, protocol)
  with pytest.raises(errors.InputError, match=r"refused|not a pickle of plain"):
    nats_bench.load(path)
  assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("program", [
    b"cposix\nsystem\n(S'touch harmed'\ntR.",  # The oldest opcodes.
    b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",  # STACK_GLOBAL.
    b"\x80\x04\x8c\x0bcollections\x8c\x17OrderedDict.__class__\x93.",
    b"\x80\x04\x82\x01.", b"P1\n.",  # An extension; a persistent id.
    b"cnumpy\ndtype\n(S'O8'\ntR.",  # Python objects inside NumPy.
    b"c_codecs\nencode\n(S'x'\nS'zlib'\ntR.",
    b"\x80\x04N.", b"", b"}", b"\x80\xff.", b"(((((", b"r\xff\xff\xff\x7f."])
def test_hand_written_pickles_are_refused(program, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = tmp_path / "meta.pickle.pbz2"
  path.write_bytes(bz2.compress(program))
  with pytest.raises(errors.InputError) as info:
    nats_bench.read(tmp_path)
  assert "NATS-tss-v1_0-3ffb9-simple" in str(info.value)
  assert os.listdir(tmp_path) == ["meta.pickle.pbz2"]


def test_damaged_files_are_refused(tmp_path, monkeypatch):
  path = write(tmp_path / "x.pickle.pbz2", record(5))
  data = path.read_bytes()
  for damaged in (data[:-20], b"", b"plain", data[:50] + b"x" + data[51:]):
    path.write_bytes(damaged)
    with pytest.raises(errors.InputError, match=r"x\.pickle\.pbz2"):
      nats_bench.accuracies(path, 5)
  path.write_bytes(bz2.compress(b"0" * 100_000))
  monkeypatch.setattr(nats_bench, "_MAX_BYTES", 1000)
  with pytest.raises(errors.InputError, match="more than 1000"):
    nats_bench.load(path)


def without(key, *path):
  def change(data):
    for k in path:
      data = data[k]
    del data[key]
  return change


def replaced(value, key, *path):
  def change(data):
    for k in path:
      data = data[k]
    data[key] = value
  return change


TRIAL = ("200", "all_results", ("cifar100", 777))


@pytest.mark.parametrize("change", [
    without("200"), without("arch_str", "12"),
    without(("cifar10", 888), "200", "all_results"),
    without("x-test@199", *TRIAL, "eval_acc1es"),
    replaced("90", "x-test@199", *TRIAL, "eval_acc1es"),
    replaced(101.0, "x-test@199", *TRIAL, "eval_acc1es"),
    replaced(float("nan"), "x-test@199", *TRIAL, "eval_acc1es"),
    replaced(True, "epochs", *TRIAL), replaced([], "cifar10", "200",
                                               "dataset_seed"),
    replaced([[]], "cifar10", "200", "dataset_seed"),
    replaced(string(6), "arch_str", "200"), replaced("x", "arch_str", "200")])
def test_records_of_another_form_are_refused(change, tmp_path):
  data = record(5)
  change(data)
  path = write(tmp_path / "x.pickle.pbz2", data)
  with pytest.raises(errors.InputError, match=r"x\.pickle\.pbz2"):
    nats_bench.accuracies(path, 5)


@pytest.mark.parametrize("archs", [
    [], ["|none~0|"], [3], [string(0)] * 15_625, None])
def test_meta_files_of_another_form_are_refused(archs, tmp_path):
  write(tmp_path / "meta.pickle.pbz2", {"meta_archs": archs})
  with pytest.raises(errors.InputError, match="meta"):
    nats_bench.read(tmp_path)
