"""Text forms of every kind of architecture: genotypes and networks of blocks.

Both are JSON objects; a network of blocks has the key "format".
"""

import json
import os
from typing import Any

from natjax.graph import block_json
from natjax.graph import blocks as blocks_lib
from natjax.graph import genotype as architecture_lib

Architecture = architecture_lib.Genotype | blocks_lib.BlockNetwork


def to_dict(architecture: Architecture) -> dict[str, Any]:
  """The JSON form."""
  if isinstance(architecture, blocks_lib.BlockNetwork):
    return block_json.to_dict(architecture)
  return architecture_lib.to_dict(architecture)


def from_dict(data: Any, *, where: str = "architecture") -> Architecture:
  """Reads the JSON form (InputError)."""
  if isinstance(data, dict) and "format" in data:
    return block_json.from_dict(data, where=where)
  return architecture_lib.from_dict(data, where=where)


def to_json(architecture: Architecture) -> str:
  """Writes the JSON form as text."""
  return json.dumps(to_dict(architecture), indent=2)


def to_line(architecture: Architecture) -> str:
  """One line that names the architecture, for error messages."""
  if isinstance(architecture, blocks_lib.BlockNetwork):
    return json.dumps(to_dict(architecture)["blocks"], separators=(",", ":"))
  return architecture_lib.to_darts(architecture)


def check(architecture: Architecture) -> Architecture:
  """Returns the architecture if it is well formed (InputError)."""
  if isinstance(architecture, blocks_lib.BlockNetwork):
    return blocks_lib.check(architecture)
  return architecture_lib.check(architecture)


def read(path: str | os.PathLike[str]) -> Architecture:
  """Reads a file: JSON of either kind, or the `Genotype(...)` text of DARTS.

  Raises:
    InputError: no such file, not text, or not of one of these forms.
  """
  text = architecture_lib.read_text(path)
  if "Genotype(" in text.split("{", 1)[0]:
    return architecture_lib.from_darts(text, where=str(path))
  return from_dict(architecture_lib.parse_json(text, where=str(path)),
                   where=str(path))
