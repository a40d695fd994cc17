"""NAS-Bench-201's table from NATS-Bench's official files, not trusting them.

Dong, Liu, Musial, Gabrys: "NATS-Bench: Benchmarking NAS Algorithms for
Architecture Topology and Size", TPAMI 2021. The folder
`NATS-tss-v1_0-3ffb9-simple` holds bzip2-compressed pickles:
- `meta.pickle.pbz2`: a dict whose `meta_archs` lists the 15,625 strings by
  index;
- `000000.pickle.pbz2` to `015624.pickle.pbz2`: a dict from the number of
  epochs, "12" or "200", to a dict with `arch_str`, `dataset_seed` (data set to
  seeds) and `all_results`, a dict from (data set, seed) to one trial's dict:
  `epochs`, and `eval_acc1es` from "split@epoch" to an accuracy in per cent.
That is what the benchmark's published code writes and reads
(`nats_bench/api_topology.py`, `api_utils.py`, version 1.8). The files
themselves could not be had where this was written: the tests read files of
that structure which they write themselves.

A pickle is a program. Here one may build dicts, lists, tuples, sets, strings,
numbers and OrderedDicts; NumPy's scalars are decoded by this module, its
arrays stay unread; whatever else a file asks for is refused before it runs.

Accuracies are means over seeds after the last epoch. As the benchmark defines
them: CIFAR-10's validation accuracy is that of networks trained on half of the
training images (`cifar10-valid`), its test accuracy that of networks trained
on all. Costs are computed (`zoo.nasbench201.costs`), since some records hold
wrong ones. Reading all files takes minutes; `nasbench201.to_csv` keeps the
result.
"""

import bz2
import pathlib
from typing import Any

import numpy as np

from natjax import errors, zoo
from natjax.data import unpickle
from natjax.graph import nasbench201

_MAX_BYTES = 2**26  # Of one unpacked file.
_ADVICE = "give the folder NATS-tss-v1_0-3ffb9-simple as its authors publish it"
# Per data set, where validation and test accuracy stand: data set and split.
_SPLITS = {
    "cifar10": (("cifar10-valid", "x-valid"), ("cifar10", "ori-test")),
    "cifar100": (("cifar100", "x-valid"), ("cifar100", "x-test")),
    "imagenet16-120": (("ImageNet16-120", "x-valid"),
                       ("ImageNet16-120", "x-test"))}


def load(path: pathlib.Path) -> Any:
  """Unpickles one `.pickle.pbz2` file, plain data only.

  Raises:
    InputError: no such file, damaged, too large, or it asks for anything else.
  """
  try:
    with bz2.BZ2File(path) as file:
      data = file.read(_MAX_BYTES + 1)
  except (EOFError, ValueError) as e:
    raise errors.InputError(f"{path}: damaged ({e}); fetch it anew") from e
  except OSError as e:
    raise errors.InputError(
        f"{path}: {e.strerror or 'not a bzip2 file'}; {_ADVICE}") from e
  if len(data) > _MAX_BYTES:
    raise errors.InputError(
        f"{path}: unpacks to more than {_MAX_BYTES} bytes; {_ADVICE}")
  try:
    return unpickle.load(data)
  except (unpickle.Refused, ValueError) as e:
    what = "not a pickle of" if isinstance(e, ValueError) else (
        "refused, it holds more than")
    raise errors.InputError(
        f"{path}: {what} plain data ({e}); {_ADVICE}") from e


def read(folder: pathlib.Path
         ) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
  """Reads a table's `codes` and `columns` from the folder of official files.

  Raises:
    InputError: a file is missing, damaged, or not of the official form.
  """
  codes = _codes(folder / "meta.pickle.pbz2")
  columns = {}
  for name in nasbench201.DATASETS:
    params, madds = zoo.nasbench201.costs(name)
    columns[name] = {
        **{c: np.zeros(nasbench201.COUNT) for c in nasbench201.COLUMNS[:4]},
        "params": params.astype(np.float64), "flops_M": madds / 1e6}
  for index, code in enumerate(codes):
    record = folder / f"{index:06d}.pickle.pbz2"
    for (name, column), value in accuracies(record, int(code)).items():
      columns[name][column][code] = value
  return codes, columns


def accuracies(path: pathlib.Path, code: int) -> dict[tuple[str, str], float]:
  """Accuracies of one cell by (data set, column), from its own file.

  Args:
    path: of the record.
    code: of the cell that the record must be of.

  Raises:
    InputError: see `read`.
  """
  data = load(path)
  found = {}
  for epochs in ("200", "12"):
    trials = _get(data, epochs, dict, path)
    text = _get(trials, "arch_str", str, path)
    names = nasbench201.from_string(text, where=str(path))
    if nasbench201.encode(nasbench201.to_array(names)) != code:
      raise errors.InputError(f"{path}: of another cell, {text}, than"
                              f" meta.pickle.pbz2 says; {_ADVICE}")
    for name, splits in _SPLITS.items():
      for kind, (trained, split) in zip(("val", "test"), splits, strict=True):
        found[name, f"{kind}_{epochs}ep"] = _mean(trials, trained, split, path)
  return found


def _codes(path):
  """The meta file's cells, i32[15625] by index."""
  archs = _get(load(path), "meta_archs", list, path)
  if not all(isinstance(a, str) for a in archs):
    raise errors.InputError(f"{path}: 'meta_archs' is not of texts; {_ADVICE}")
  codes = np.array([nasbench201.encode(nasbench201.to_array(
      nasbench201.from_string(a, where=str(path)))) for a in archs], np.int32)
  if len(codes) != nasbench201.COUNT or len(set(codes.tolist())) != len(codes):
    raise errors.InputError(
        f"{path}: {len(set(codes.tolist()))} different cells where there must"
        f" be {nasbench201.COUNT}; {_ADVICE}")
  return codes


def _mean(trials, trained, split, path):
  """The mean over seeds of the last epoch's accuracy."""
  results = _get(trials, "all_results", dict, path)
  seeds = _get(_get(trials, "dataset_seed", dict, path), trained, list, path)
  values = []
  for seed in seeds:
    trial = _get(results, (trained, seed), dict, path)
    last = _get(trial, "epochs", int, path) - 1
    values.append(_get(_get(trial, "eval_acc1es", dict, path),
                       f"{split}@{last}", (int, float), path))
  if not values or not all(0 <= v <= 100 for v in values):
    raise errors.InputError(f"{path}: no accuracies from 0 to 100 for"
                            f" {trained}, {split}; {_ADVICE}")
  return sum(values) / len(values)


def _get(data, key, kind, path):
  try:
    value = data[key] if isinstance(data, dict) else None
  except (KeyError, TypeError):
    value = None
  if not isinstance(value, kind) or isinstance(value, bool):
    raise errors.InputError(f"{path}: lacks {key!r} as expected; {_ADVICE}")
  return value
