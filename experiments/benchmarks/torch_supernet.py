"""The NAT supernet in plain PyTorch, with natjax's weights.

The network is `natjax.selftest.torch_sides.Supernet`, which shares no code with
the rest of natjax; `load` brings the weights of both sides together.
"""

from collections.abc import Mapping
from typing import Any

import torch

from natjax.selftest import torch_sides

NODES = torch_sides.NODES
OPERATIONS = torch_sides.OPERATIONS
Supernet = torch_sides.Supernet


def load(model: Supernet, params: Mapping[str, Any]) -> None:
  """Copies natjax's supernet weights into `model`.

  Args:
    model: of the same size.
    params: `natjax.networks.supernet.Supernet.init`'s as NumPy arrays: per run
      of equal cells, `preprocess` a list over cells, and on the
      edges leading axes [cell of the run, slot]. Kernels are [h, w, in, out].

  Raises:
    ValueError: a parameter of `model` is left without a value.
  """
  values = {
      "stem_conv.weight": _kernel(params["stem"]["layer0"]["conv"]["kernel"]),
      "stem_norm.weight": params["stem"]["layer0"]["norm"]["scale"],
      "stem_norm.bias": params["stem"]["layer0"]["norm"]["bias"],
      "linear.weight": params["head"]["layer1"]["linear"]["kernel"].T,
      "linear.bias": params["head"]["layer1"]["linear"]["bias"],
  }
  places = ((p, j) for p in params["blocks"]
            for j in range(len(p["preprocess"])))
  for i, (p, j) in enumerate(places):
    for node, convs in p["preprocess"][j].items():
      for name, leaf in convs.items():
        values[f"cells.{i}.{node}.{name}.weight"] = _kernel(leaf["kernel"])
    for key, pairs in _slots(p).items():
      for op, convs in p[key].items():
        for name, leaf in convs.items():
          for row, slot in enumerate(pairs):
            path = f"edges.{slot}.{OPERATIONS.index(op)}.{name}.weight"
            values[f"cells.{i}.{path}"] = _kernel(leaf["kernel"][j, row])
  missing = sorted(set(dict(model.named_parameters())) ^ set(values))
  if missing:
    raise ValueError(f"parameters on one side only: {missing[:5]}")
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      parameter.copy_(torch.tensor(values[name]))


def _kernel(kernel):
  """[h, w, in, out] -> [out, in, h, w]."""
  return kernel.transpose(3, 2, 0, 1)


def _slots(params):
  """The slots in which each stack of edges of a cell stands, in order."""
  sources = [f for t in range(2, 2 + NODES) for f in range(t)]
  inputs = [i for i, f in enumerate(sources) if f < 2]
  nodes = [i for i, f in enumerate(sources) if f >= 2]
  if "edges1" not in params:
    return {"edges0": range(len(sources))}
  return {"edges0": inputs, "edges1": nodes}
