"""Dictionaries of Python, written out, as JSON has them.

Nothing is executed.
"""

import ast
import json
from typing import Any

from natjax.graph import genotype, modules, parsing, records

# What `as_json` raises of what is no literal.
NO_LITERAL = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)


def load(text: str) -> dict[str, Any] | None:
  """JSON's object, or that of a dictionary as Python prints it; or None."""
  if not text.startswith("{"):
    return None
  try:
    return parsing.load_json(text)
  except ValueError:
    if len(text) > modules.LONGEST:
      return None
  try:
    found = as_json(ast.parse(text, mode="eval").body)
    return found if isinstance(found, dict) else None
  except NO_LITERAL:
    return None


def as_json(node: ast.expr) -> Any:
  """A literal of Python as JSON, which has no tuples (`NO_LITERAL`)."""
  if _twice(node):
    raise ValueError("a key stands twice in a dictionary")
  return parsing.load_json(json.dumps(genotype.literal(node)))


def _twice(tree):
  """Whether a key stands twice in a dictionary; Python would take the last."""
  return any(len({*keys}) < len(keys) for keys in (
      [key.value for key in node.keys if isinstance(key, ast.Constant)]
      for node in ast.walk(tree) if isinstance(node, ast.Dict)))


def dictionaries(text: str, where: str, name: str | None = None
                 ) -> tuple[modules.Found, ...]:
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
            bool(as_json(node)))
  except NO_LITERAL:
    return False
