"""Networks of blocks as JSON.

The JSON form is
  {"format": 1, "kind": "network", "name": ...,
   "skeleton": {"stem": [layer, ...], "head": [layer, ...],
                "preactivate": false, "norm": "batch",
                "norm_epsilon": 1e-5},
   "blocks": [{"nodes": [{"width": 16, "activation": "relu"}, ...],
               "edges": [[operation, from, to], ...], "concat": [3],
               "repeat": 2}, ...]}
where fields that have their default may be left out, and `concat` is the last
node if left out. Fields are those of `records.Node`, `records.Block` and
`records.Layer`; of the skeleton's, `norm_epsilon` and `early` are written only
where they are not their defaults.
"""

import json
from typing import Any

from natjax import errors
from natjax.graph import blocks as blocks_lib
from natjax.graph import parsing


def _plain(record):
  """Fields of a record that are not at their defaults."""
  known = record._field_defaults
  return {k: v for k, v in record._asdict().items()
          if k not in known or v != known[k]}


def to_dict(network: blocks_lib.BlockNetwork) -> dict[str, Any]:
  """The JSON form, equal neighbours as one block with `repeat`."""
  blocks: list[dict[str, Any]] = []
  for i, block in enumerate(network.blocks):
    if i and block == network.blocks[i - 1]:
      blocks[-1]["repeat"] = blocks[-1].get("repeat", 1) + 1
      continue
    item = {"nodes": list(map(_plain, block.nodes)),
            "edges": [list(edge) for edge in block.edges]}
    if block.concat:
      item["concat"] = list(block.concat)
    blocks.append(item)
  skeleton = {"stem": list(map(_plain, network.stem)),
              "head": list(map(_plain, network.head)),
              "preactivate": network.preactivate, "norm": network.norm}
  skeleton |= {name: value for name, value in _plain(network).items()
               if name in ("norm_epsilon", "early")}
  return {"format": 1, "kind": "network", "name": network.name,
          "skeleton": skeleton, "blocks": blocks}


def to_line(network: blocks_lib.BlockNetwork) -> str:
  """One line with the blocks, for error messages."""
  return json.dumps(to_dict(network)["blocks"], separators=(",", ":"))


def from_dict(data: Any, *, where: str = "network") -> blocks_lib.BlockNetwork:
  """Reads the JSON form (see the module); `blocks.check` has the last word.

  Raises:
    InputError: another form, or `blocks.check` refuses the network.
  """
  if data.get("format") != 1 or data.get("kind") != "network":
    raise errors.InputError(
        f"{where}: format {data.get('format')!r}, kind {data.get('kind')!r};"
        " a network of blocks has format 1 and kind 'network'")
  data = _object(data, where, ("format", "kind", "name", "skeleton", "blocks"),
                 ("skeleton", "blocks"))
  skeleton = _object(
      data["skeleton"], f"{where}, skeleton",
      ("stem", "head", "preactivate", "norm", "norm_epsilon", "early"),
      ("stem", "head"))
  layers = {part: _records(blocks_lib.Layer, skeleton[part],
                           f"{where}, {part}", " layer")
            for part in ("stem", "head")}
  blocks = []
  for i, item in enumerate(_list(data["blocks"], f"{where}, blocks")):
    name = f"{where}, block {i}"
    item = _object(item, name, ("nodes", "edges", "concat", "repeat"),
                   ("nodes", "edges"))
    repeat = item.get("repeat", 1)
    if not parsing.is_count(repeat) or not 1 <= repeat <= 1000:
      raise errors.InputError(f"{name}: repeat is {repeat!r} and must be a"
                              " whole number from 1 to 1000; correct it")
    edges = parsing.edges(_list(item["edges"], name), f"{name}: 'edges'")
    concat = parsing.counts(
        _list(item.get("concat", []), name), f"{name}: 'concat'")
    nodes = _records(blocks_lib.Node, item["nodes"], name, ", node",
                     blocks_lib.NUM_INPUTS)
    blocks += [blocks_lib.Block(nodes, edges, concat)] * repeat
  network = blocks_lib.BlockNetwork(str(data.get("name", "network")),
                                    blocks=tuple(blocks), **skeleton | layers)
  if not isinstance(network.preactivate, bool):
    raise errors.InputError(
        f"{where}: preactivate is {network.preactivate!r}; give true or false")
  if not parsing.is_count(network.early):
    raise errors.InputError(
        f"{where}: early is {network.early!r}; give the number of a layer")
  return blocks_lib.check(network, where=where)


def _object(value, where, known, needed):
  if not isinstance(value, dict) or not set(needed) <= set(value) <= set(known):
    given = (", ".join(sorted(map(str, value))) if isinstance(value, dict)
             else type(value).__name__)
    raise errors.InputError(
        f"{where}: given {given}; needs an object with {', '.join(needed)}, of"
        f" the keys {', '.join(known)}")
  return value


def _list(value, where):
  if not isinstance(value, list):
    raise errors.InputError(
        f"{where}: given {type(value).__name__} where a list is needed")
  return value


def _records(record, value, where, part, first=0):
  """Reads `blocks.Node`s or `blocks.Layer`s from a list of objects."""
  needed = [f for f in record._fields if f not in record._field_defaults]
  found = []
  for i, item in enumerate(_list(value, where), first):
    name = f"{where}{part} {i}"
    found.append(record(**_object(item, name, record._fields, needed)))
    blocks_lib.check_types(name, found[-1])
  return tuple(found)
