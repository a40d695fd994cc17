"""Architectures as objects of other libraries, as JSON has them.

- What a one-shot search of NNI exports: an operation and its input per slot,
  "normal/op_2_0" and "normal/input_2_0", or, as of its first version,
  "normal_n2_p0" and "normal_n2_switch". All nodes are concatenated, as DARTS
  does (the export does not say);
- a configuration of the surrogate benchmark NAS-Bench-301 (Zela et al., 2022),
  an operation per edge of DARTS's cells and the inputs of nodes 3 to 5, also
  with "_COLON_" for ":", as YAHPO Gym has it;
- the export of NNI's NAS-Bench-201, an operation per edge: "0_1", also
  "cell/0_1" or "cell__0_1", from node 0 to node 1;
- a cell of NAS-Bench-101, its matrix and its operations;
- the `net.config` of ProxylessNAS (Cai et al., 2019): a chain of MBConv.
"""

from collections.abc import Mapping
import re
from typing import Any

from natjax import errors
from natjax.graph import (
  blocks,
  genotype,
  nasbench101,
  nasbench201,
  parsing,
  records,
)
from natjax.graph.records import Cell, Edge, Layer
from natjax.zoo import inverted
from natjax.zoo import nasbench1shot1 as network1shot1
from natjax.zoo import nasbench201 as network201

_SURROGATE = "NetworkSelectorDatasetInfo:darts:"
# What NNI calls the edges of NAS-Bench-201, after the label of the cell.
_EDGE = re.compile(r"(?:(?P<label>.*)(?:/|__))?(?P<edge>\d_\d)")


def known(data: Mapping[str, Any]) -> bool:
  """Whether an object is one of these, by its keys."""
  return _builder(data) is not None


def read(data: Mapping[str, Any], *, where: str) -> records.Architecture:
  """Reads an object that is `known`.

  Args:
    data: as JSON has it.
    where: what errors call it.

  Raises:
    InputError: it is not complete, or not as it is read here.
  """
  build = _builder(data)
  assert build is not None
  try:
    return build(data, where)
  except errors.InputError:
    raise
  except (KeyError, TypeError, ValueError, IndexError, AttributeError) as e:
    raise errors.InputError(
        f"{where}: an export that is not complete or not as natjax reads it"
        f" ({errors.cause(e)}); export it again, or write it as JSON") from e


def _builder(data):
  return next((build for fits, build in _EXPORTS if fits(data)), None)


def _genotype(cells: Mapping[str, list[Edge]], where: str) -> records.Genotype:
  """A genotype of the edges of both cells, all nodes concatenated."""
  return genotype.check(records.Genotype(*(
      Cell(tuple(edges := cells[name]), tuple(sorted({
          edge.target for edge in edges}))) for name in records.CELL_TYPES)),
      where=where)


def _cell101(data: Mapping[str, Any], where: str) -> records.BlockNetwork:
  """A cell of NAS-Bench-101: its matrix and its operations."""
  return network1shot1.of_cell(
      nasbench101.from_object(data, where=where), where=where)


def _slots(data: Mapping[str, Any], where: str) -> records.Genotype:
  """NNI's export: an operation and an input per slot of a node."""
  cells: dict[str, list[Edge]] = {name: [] for name in records.CELL_TYPES}
  for cell, edges in cells.items():
    form = re.compile(rf"{cell}/(?:op|input)_(\d\d?)_(\d\d?)")
    for node, slot in sorted({tuple(map(int, match.groups()))
                              for match in map(form.fullmatch, data) if match}):
      given = data[f"{cell}/input_{node}_{slot}"]
      source, = given if isinstance(given, list) else [given]
      edges.append(Edge(data[f"{cell}/op_{node}_{slot}"], source, node))
  return _genotype(cells, where)


def _switches(data: Mapping[str, Any], where: str) -> records.Genotype:
  """NNI's first form: per node the chosen inputs, whose operations are keys."""
  cells: dict[str, list[Edge]] = {name: [] for name in records.CELL_TYPES}
  for cell, edges in cells.items():
    form = re.compile(rf"{cell}_n(\d\d?)_switch")
    for node in sorted(
        int(match[1]) for match in map(form.fullmatch, data) if match):
      given = data[f"{cell}_n{node}_switch"]
      for key in [given] if isinstance(given, str) else given:
        if isinstance(key, bool):
          raise errors.InputError(
              f"{where}: masks of NNI's first version, true and false, name no"
              " operations; export by names, or write the cells as JSON")
        source = int(key.removeprefix(f"{cell}_n{node}_p"))
        operation = data[key]
        edges.append(Edge(operation[0] if isinstance(operation, list)
                          else operation, source, node))
  return _genotype(cells, where)


def _edges201(data: Mapping[str, Any], where: str) -> records.BlockNetwork:
  """NNI's NAS-Bench-201: key i_j is the edge from node i to node j."""
  matches = [*filter(None, map(_EDGE.fullmatch, data))]
  wanted = [f"{source}_{target}" for source, target in nasbench201.EDGES]
  given = {match["edge"]: data[match[0]] for match in matches}
  names: list[Any] = [
      value[0] if isinstance(value, list) and len(value) == 1 else value
      for value in (given.get(edge) for edge in wanted)]
  if len(matches) != len(wanted) or {*given} != {*wanted} or len(
      {match["label"] for match in matches}) > 1 or not all(
          isinstance(name, str) for name in names):
    found = {match[0]: data[match[0]] for match in matches}
    raise errors.InputError(
        f"{where}: given {errors.short(found)}; an export of a cell of"
        " NAS-Bench-201 has the name of an operation for each of"
        f" {', '.join(wanted)}, from node to node; export it so, or give the"
        " cell's string")
  return network201.network(nasbench201.from_names(names, where=where))


def _surrogate(data: Mapping[str, Any], where: str) -> records.Genotype:
  """NAS-Bench-301's: edge k of a cell is the k-th of (0, 2), (1, 2), (0, 3)."""
  plain = {key.replace("_COLON_", ":").removeprefix(_SURROGATE): value
           for key, value in data.items()}
  cells: dict[str, list[Edge]] = {}
  for cell in records.CELL_TYPES:
    cells[cell] = []
    for node in range(2, 6):
      sources = [0, 1] if node == 2 else [*map(int, plain[
          f"inputs_node_{cell}_{node}"].split("_"))]
      first = (node - 2) * (node + 1) // 2  # Nodes before have 2, 3, ... edges.
      if len({*sources}) != len(sources) or not all(
          0 <= source < node for source in sources):
        raise ValueError(f"node {node} has the inputs {sources}")
      cells[cell] += [Edge(plain[f"edge_{cell}_{first + source}"], source, node)
                      for source in sources]
  return _genotype(cells, where)


def _proxyless(data: Mapping[str, Any], where: str) -> records.BlockNetwork:
  """ProxylessNAS's: blocks that are nothing but their shortcut are left out."""

  def agrees(part, **wanted):
    for key, value in wanted.items():
      if part.get(key, value) not in (value, [value, value]):
        raise errors.InputError(
            f"{where}: {key} of {part.get('name')} is"
            f" {errors.short(part[key])}, and only {value} is read; write the"
            " network as JSON of blocks")
    return part

  def whole(value):
    value = value[0] if isinstance(value, list) and value == [
        value[0]] * 2 else value
    if not parsing.is_count(value) or not 0 < value < 10**6:
      raise ValueError(f"{errors.short(value)} is no size")
    return value

  usual = {"act_func": "relu6", "use_bn": True, "dilation": 1, "groups": 1,
           "has_shuffle": False, "ops_order": "weight_bn_act", "bias": False,
           "dropout_rate": 0}
  if data["feature_mix_layer"] is None:
    raise errors.InputError(
        f"{where}: feature_mix_layer is None, and a convolution is read there;"
        " write the network as JSON of blocks")
  first = agrees(data["first_conv"], in_channels=3, **usual)
  last = agrees(data["feature_mix_layer"], kernel_size=1, stride=1, **usual)
  before = stem = whole(first["out_channels"])
  steps: list[tuple[int, ...]] = []
  for item in data["blocks"]:
    if item.get("name", "MobileInvertedResidualBlock") != (
        "MobileInvertedResidualBlock"):
      raise errors.InputError(
          f"{where}: a block is a {errors.short(item['name'])}, and only"
          " MobileInvertedResidualBlock is read; write the network as JSON of"
          " blocks")
    conv, shortcut = item["mobile_inverted_conv"], item["shortcut"]
    if conv is None or conv["name"] == "ZeroLayer":
      if shortcut is None:
        raise ValueError("a block without a convolution and a shortcut")
      continue
    agrees(shortcut or {}, name="IdentityLayer", use_bn=False, act_func=None,
           dropout_rate=0)
    agrees(conv, name="MBInvertedConvLayer", in_channels=before,
           act_func="relu6", use_se=False, groups=None)
    step = (whole(conv["out_channels"]), whole(conv["stride"]),
            whole(conv["expand_ratio"]), whole(conv["kernel_size"]))
    if conv.get("mid_channels") is not None:
      agrees(conv, mid_channels=before * step[2])
    if (shortcut is not None) != (step[:2] == (before, 1)):
      raise errors.InputError(
          f"{where}: block {len(steps)} from {before} to {step[0]} channels has"
          f" {'a' if shortcut else 'no'} shortcut, and only blocks that keep"
          " their shape have one here; write the network as JSON of blocks")
    steps.append(step)
    before = step[0]
  agrees(last, in_channels=before)
  classifier = agrees(
      data.get("classifier") or {}, in_features=last["out_channels"], bias=True,
      use_bn=False, act_func=None)
  dropout = float(classifier.get("dropout_rate", 0))
  return blocks.check(records.BlockNetwork(
      str(data.get("name")),
      (Layer("conv", stem, whole(first["kernel_size"]), whole(first["stride"]),
             activation="relu6"),),
      inverted.chain(inverted.block, stem, steps),
      head=(Layer("conv", whole(last["out_channels"]), activation="relu6"),
            Layer("global_pool"),
            *[Layer("dropout", rate=dropout)] * (dropout != 0),
            Layer("linear", norm=False)),
      norm_epsilon=data.get("bn", {}).get("eps", 1e-3)))


_EXPORTS = (
    (lambda data: "normal/op_2_0" in data, _slots),
    (lambda data: "normal_n2_switch" in data, _switches),
    (lambda data: any("darts:edge_normal_" in key.replace("_COLON_", ":")
                      for key in data), _surrogate),
    (lambda data: any(map(_EDGE.fullmatch, data)), _edges201),
    (nasbench101.is_object, _cell101),
    (lambda data: {"first_conv", "blocks"} <= set(data), _proxyless))
