"""Architectures in the forms of other libraries, read and written.

`read` takes whatever `codec.read` takes, and
- a cell of NAS-Bench-201: the benchmark's string, also quoted, named in a
  module, or in a log, of which the last is read; the tuple of nodes that its
  code prints, `((("nor_conv_3x3", 0),), ...)`; six operations, or their six
  indices in the benchmark's order (`nasbench201.NAMES`), by its edges;
- what a one-shot search of NNI exports, JSON with an operation and its input
  per slot: "normal/op_2_0" and "normal/input_2_0", or, as of its first version,
  "normal_n2_p0" and "normal_n2_switch". All nodes are concatenated, as DARTS
  does (the export does not say);
- a configuration of the surrogate benchmark NAS-Bench-301 (Zela et al., 2022),
  an operation per edge of DARTS's cells and the inputs of nodes 3 to 5, also
  with "_COLON_" for ":", as YAHPO Gym has it;
- the export of NNI's NAS-Bench-201, JSON with an operation per edge: "0_1",
  also "cell/0_1" or "cell__0_1", from node 0 to node 1;
- a cell of NAS-Bench-101, `MATRIX:OPERATION,...`, JSON with both, or the
  `ModelSpec(...)` of its users (`graph.nasbench101`), in the stages of
  NAS-Bench-1Shot1;
- the `net.config` of ProxylessNAS (Cai et al., 2019): a chain of MBConv;
- a notebook of Jupyter: the code of its cells, as a module, or, where that
  holds no architecture, what they printed or gave, as a log;
- an object or a dictionary that holds one of these, or several by their names;
  and a dictionary of cells, {"normal": ..., "reduce": ...}, in a module.

Nothing in a file is executed.
"""

import ast
from collections.abc import Mapping
import json
import os
import re
from typing import Any
import warnings

from natjax import errors
from natjax.graph import (
  blocks,
  codec,
  genotype,
  modules,
  nasbench101,
  nasbench201,
  parsing,
  records,
)
from natjax.graph.records import Cell, Edge, Layer
from natjax.zoo import inverted
from natjax.zoo import nasbench1shot1 as network1shot1
from natjax.zoo import nasbench201 as network201

FORMS = ("genotype", "nasbench201", "nasbench101", "json")
_SURROGATE = "NetworkSelectorDatasetInfo:darts:"
_TUPLE = 1000  # Characters of a cell of NAS-Bench-201.
# What `_as_json` raises of others.
_NO_LITERAL = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)
_NUMBER = re.compile(r"\d+")
# What NNI calls the edges of NAS-Bench-201, after the label of the cell.
_EDGE = re.compile(r"(?:(?P<label>.*)(?:/|__))?(?P<edge>\d_\d)")
_NUMBERED = re.compile(r"[(\[](?:\s*\d+\s*,){5}\s*\d+\s*,?\s*[)\]]")


def read(path: str | os.PathLike[str],
         name: str | None = None) -> records.Architecture:
  """Reads a file of any form; see the module.

  Args:
    path: of the file; a module or a log that holds a genotype's text will do.
    name: of one of several genotypes in a module, which is not executed.

  Warns:
    UserWarning: where the last of several is taken, as of a log, or one that is
      cut off is passed over (`passed_over`).

  Raises:
    InputError: no such file, not text, of none of the forms, or several
      genotypes in a module and no name.
  """
  text = parsing.read_text(path)
  found = parse(text, where=str(path), name=name)
  for line in passed_over(text, where=str(path), name=name):
    warnings.warn(line, stacklevel=2)
  return found


def parse(text: str, *, where: str = "architecture",
          name: str | None = None) -> records.Architecture:
  """Reads the text of a file; see `read`.

  Example:
    >>> parse("(3, 0, 0, 1, 0, 2)").name
    '|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|'
  """
  text, _ = source(text, where=where)
  plain = text.strip()
  if (data := _object(plain)) is not None:
    return _from_object(data, where, name)
  if codec.has_genotypes(plain):
    return codec.parse(text, where=where, name=name)
  if not plain.startswith("{"):
    found = nasbench201.find(text, where=where, name=name)
    whole = plain.startswith("|") and len(found) != 1
    if found and not whole:
      return network201.network(nasbench201.from_string(
          found[-1].value, where=where))
    modules.unnamed(found, where=where, what="cells")
  if plain.startswith("|"):
    codec.unnamed(name, where)
    plain = re.sub(r"[ \t]*([|+~])[ \t]*", r"\1", plain)
    return network201.network(nasbench201.from_string(plain, where=where))
  if _is_fields(plain):
    codec.unnamed(name, where)
    return codec.parse(f"Genotype({plain[1:-1]})", where=where)
  if nasbench101.is_text(plain):
    codec.unnamed(name, where)
    return network1shot1.of_cell(
        nasbench101.from_text(plain, where=where), where=where)
  if len(plain) <= _TUPLE and (plain.startswith("(") or (
      plain.startswith("[") and plain.count(",") >= 5)):
    return network201.network(_cell(plain, where))
  if "ModelSpec(" in text and (spec := nasbench101.from_module(
      text, where=where, name=name)):
    return network1shot1.of_cell(spec, where=where)
  if found := _dictionaries(text, where, name):
    return codec.from_dict(_as_json(found[-1].value), where=where)
  if _NUMBER.fullmatch(plain):
    raise errors.InputError(
        f"{where} holds a number alone, {errors.several([plain])}, which names"
        " a cell of NAS-Bench-201 by the benchmark's table alone; give"
        " TABLE.csv:NUMBER, or the cell's string")
  return codec.parse(text, where=where, name=name)


def _from_object(data, where, name):
  """The architecture that an object is or holds."""
  if found := _held(data):
    chosen = modules.choose(found, name, where=where, what="architectures")[-1]
    where = f"{where}: '{chosen.name}'"
    return parse(chosen.value, where=where) if isinstance(
        chosen.value, str) else _from_object(chosen.value, where, None)
  codec.unnamed(name, where)
  for fits, build in _EXPORTS:
    if fits(data):
      return _built(build, data, where)
  return codec.from_dict(data, where=where)


def _held(data):
  """What an object holds that is an architecture by itself, with its names.

  None of the library's own form, whose name may be such a text.
  """
  return () if "format" in data or _is_own(data) else [
      modules.Found(key, (), 1, value) for key, value in data.items()
      if (isinstance(value, str) and (
          codec.has_genotypes(value) or nasbench201.find(value)))
      or (isinstance(value, dict) and (
          _is_own(value) or any(fits(value) for fits, _ in _EXPORTS)
          or _held(value)))]


def _is_own(data):
  """Whether an object has the keys of `codec.to_dict`."""
  return {"format", "blocks"} <= {*data} or {*records.CELL_TYPES} <= {*data}


def _dictionaries(text, where, name=None):
  """Dictionaries of cells in a module, of which the last one counts."""
  found = modules.find(text, _is_cells, name)
  if not found:
    return ()
  modules.unnamed(found, where=where, what="genotypes")
  return modules.choose(found, name, where=where, what="genotypes")


def _is_cells(node):
  """Whether an expression is a dictionary of cells, and is written out."""
  try:
    return isinstance(node, ast.Dict) and {*records.CELL_TYPES} <= {
        key.value for key in node.keys if isinstance(key, ast.Constant)} and (
            bool(_as_json(node)))
  except _NO_LITERAL:
    return False


def source(text: str, *, where: str = "architecture") -> tuple[str, str]:
  """What of a notebook is read; of another text all.

  That is the code of its cells, in which lines of IPython's own (`%matplotlib`,
  `!pip`) are left empty; or, where it holds no architecture, what they printed
  or gave.

  Returns:
    The text, and which of both it is: "code", "outputs", or "" of another text.

  Raises:
    InputError: a notebook that holds no architecture in either.
  """
  if not text.lstrip().startswith("{") or '"nbformat"' not in text:
    return text, ""
  try:
    found = parsing.load_json(text)
  except ValueError:
    return text, ""  # It is refused as no JSON.
  cells = found.get("cells")
  if "nbformat" not in found or not isinstance(cells, list):
    return text, ""
  cells = [cell for cell in cells
           if isinstance(cell, dict) and cell.get("cell_type") == "code"]
  code = "\n".join(_joined(cell.get("source")) for cell in cells)
  code = re.sub(r"(?m)^([ \t]*)[%!].*$", r"\1pass", code)
  # No Python, so that it is read as a log, whatever was printed.
  outputs = "".join(f"Out[{number}]:\n{text}\n" for number, cell in enumerate(
      cells, 1) for text in _outputs(cell) if text)
  if genotype.is_literal(code) or _dictionaries(code, where) or (
      nasbench201.find(code, where=where)):
    return code, "code"
  for text, kind in ((outputs, "outputs"), (code, "code")):
    if codec.has_genotypes(text) or nasbench201.find(text, where=where):
      return text, kind
  raise errors.InputError(
      f"{where}: no code cell of this notebook holds or printed a genotype or a"
      " cell of NAS-Bench-201; write the architecture into a file of its own")


def _joined(lines):
  """A notebook's text, which is one or a list of lines."""
  return lines if isinstance(lines, str) else "".join(
      line for line in lines if isinstance(line, str)) if isinstance(
          lines, list) else ""


def _outputs(cell):
  """The texts that a cell printed or gave."""
  given = cell.get("outputs")
  for output in given if isinstance(given, list) else []:
    if isinstance(output, dict):
      data = output.get("data")
      yield _joined(output.get("text"))
      yield _joined(data.get("text/plain") if isinstance(data, dict) else "")


def passed_over(text: str, *, where: str, name: str | None = None
                ) -> list[str]:
  """What is to be said of a text in which more than one thing stands.

  Args:
    text: that `parse` has read.
    where: what the lines call it.
    name: of one of several genotypes.
  """
  found = []
  count, line = last_of(text, name)
  if count > 1:
    kind = source(text)[1]
    found.append(f"{where} holds {count} architectures"
                 f"{f' called {name}' if name else ''}; the last one is taken,"
                 f" of line {line}{f' of its {kind}' * bool(kind)}")
  if (cut := cut_off(text)) is not None:
    found.append(f"{where}: the genotype of line {cut} is cut off, and that of"
                 f" line {line} is taken")
  return found


def last_of(text: str, name: str | None = None) -> tuple[int, int]:
  """How many architectures a text holds of which `parse` reads the last one.

  Args:
    text: that `parse` has read.
    name: of one of several genotypes.

  Returns:
    That number, and the line where the last one begins, from 1.
  """
  text, _ = source(text)
  if _object(text.strip()) is not None:
    return 1, 1
  if codec.has_genotypes(text):
    return genotype.last_of(text, name)
  found = nasbench201.find(text, name=name) or _dictionaries(
      text, "architecture", name)
  return (len(found), found[-1].line) if found else (1, 1)


def numbered(text: str) -> bool:
  """Whether a text is a cell of NAS-Bench-201 by six numbers.

  Others number operations and edges otherwise, and nothing in it says how.

  Example:
    >>> numbered("(3, 0, 0, 1, 0, 2)"), numbered("[0, 1, 2]")
    (True, False)
  """
  plain = text.strip()
  return len(plain) <= _TUPLE and _NUMBERED.fullmatch(plain) is not None


def cut_off(text: str) -> int | None:
  """The line where a log's last genotype begins, if that is not whole.

  Args:
    text: that `parse` has read.
  """
  text, _ = source(text)
  return genotype.cut_off(text) if codec.has_genotypes(text) else None


def write(architecture: records.Architecture, form: str) -> str:
  """Writes an architecture in a form that others read.

  Args:
    architecture: in any spelling.
    form: "genotype", the `Genotype(...)` text that DARTS's code reads;
      "nasbench201", the benchmark's string; "nasbench101", the matrix and the
      operations of that benchmark's cell; or "json", the library's own.

  Raises:
    InputError: it cannot be said so.
  """
  errors.known("form", form, FORMS, "to")
  if form == "json":
    return codec.to_json(architecture)
  if form in ("nasbench201", "nasbench101"):
    if not isinstance(architecture, records.BlockNetwork):
      raise errors.InputError(
          f"a genotype is no cell of NAS-Bench-{form[-3:]}; write it as"
          " genotype or json", "to")
    return nasbench201.to_string(network201.names_of(
        architecture)) if form == "nasbench201" else nasbench101.to_text(
            network1shot1.cell_of(architecture))
  if not isinstance(architecture, records.Genotype):
    raise errors.InputError("a network of blocks is no pair of cells; write it"
                            " as json, or a cell of NAS-Bench-201 or"
                            " -101 as nasbench201 or nasbench101", "to")
  return genotype.to_original(architecture)


def shortest(architecture: records.Architecture) -> str | None:
  """The text that the field has for it; None where there is none."""
  for form in FORMS[:-1]:
    try:
      return write(architecture, form)
    except errors.InputError:
      pass
  return None


def _object(text):
  """JSON's object, or that of a dictionary as Python prints it; or None."""
  if not text.startswith("{"):
    return None
  try:
    return parsing.load_json(text)
  except ValueError:
    if len(text) > modules.LONGEST:
      return None
  try:
    found = _as_json(ast.parse(text, mode="eval").body)
    return found if isinstance(found, dict) else None
  except _NO_LITERAL:
    return None


def _as_json(node):
  """A literal of Python as JSON, which has no tuples (`_NO_LITERAL`)."""
  if _twice(node):
    raise ValueError("a key stands twice in a dictionary")
  return parsing.load_json(json.dumps(genotype.literal(node)))


def _twice(tree):
  """Whether a key stands twice in a dictionary; Python would take the last."""
  return any(len({*keys}) < len(keys) for keys in (
      [key.value for key in node.keys if isinstance(key, ast.Constant)]
      for node in ast.walk(tree) if isinstance(node, ast.Dict)))


def _is_fields(text):
  """Whether a text is the four fields of a genotype, without their names.

  So JSON and a tuple have them, of Python's named tuples.
  """
  if not text.startswith(("(", "[")) or len(text) > modules.LONGEST:
    return False
  try:
    found = genotype.literal(ast.parse(text, mode="eval").body)
    return len(found) == 4 and all(
        len(cell) > 0 and not isinstance(cell[0], int)
        and isinstance(concat, list | tuple | range)
        and all(type(node) is int for node in concat)
        for cell, concat in (found[:2], found[2:]))
  except (*_NO_LITERAL, IndexError, KeyError, TypeError):
    return False


def _cell(text, where):
  """Six canonical names, of a tuple or a list in any of its forms."""
  try:
    found = ast.literal_eval(text)
    if len(found) == 3:  # Nodes, of (operation, source) each.
      pairs = [pair for node in found for pair in node]
      sources = [source for _, source in pairs]
      if sources != [source for source, _ in nasbench201.EDGES]:
        raise ValueError
      found = [name for name, _ in pairs]
    elif all(type(part) is int and part >= 0 for part in found):
      found = [nasbench201.NAMES[part] for part in found]
    if len(found) != 6 or not all(isinstance(name, str) for name in found):
      raise ValueError
  except (ValueError, SyntaxError, TypeError, IndexError, RecursionError,
          MemoryError) as e:
    raise errors.InputError(
        f"{where}: {errors.short(text)} is no cell of NAS-Bench-201; give its"
        " string, or a tuple of six operations or of their indices in"
        f" {', '.join(nasbench201.NAMES)}") from e
  return nasbench201.from_names(found, where=where)


def _built(build, data, where):
  """What `build` makes of an export, if it holds what it should."""
  try:
    return build(data, where)
  except errors.InputError:
    raise
  except (KeyError, TypeError, ValueError, IndexError, AttributeError) as e:
    raise errors.InputError(
        f"{where}: an export that is not complete or not as natjax reads it"
        f" ({errors.cause(e)}); export it again, or write it as JSON") from e


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
