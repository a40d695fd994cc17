"""What stands in the text of a Python module, which is parsed and not executed.
"""

import ast
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
import warnings

from natjax import errors

LONGEST = 2**20  # Characters; a longer text is no module.


class Found(NamedTuple):
  """Something that stands in a text.

  Attributes:
    name: of the variable, the key or the argument that holds it; None where
      nothing does.
    owner: the variables and keys around it.
    line: where it begins, from 1.
    value: the node of the syntax tree, or the text in a log.
    again: the line where a module gives its name to something else; 0 where
      none does.
  """

  name: str | None
  owner: tuple[str, ...]
  line: int
  value: Any
  again: int = 0


def find(text: str, fits: Callable[[ast.expr], bool],
         name: str | None = None) -> list[Found] | None:
  """Everything of one kind in a module, in order.

  Args:
    text: of the module.
    fits: whether a node of the syntax tree is what is sought.
    name: that is asked for; where it is but another name of something
      (`DARTS = DARTS_V2`), that is among what is found by this name, too.

  Returns:
    None where the text is not Python.

  Example:
    >>> is_number = lambda node: isinstance(node, ast.Constant)
    >>> text = "A: int = 1; B = {'c': 2, 'd': [3, 4]}"
    >>> [f.name for f in find(text, is_number)]
    ['A', 'c', 'd[0]', 'd[1]']
    >>> find("A = 1; B = 2; LAST = B", is_number, "LAST")[-1].value.value
    2
  """
  if len(text) > LONGEST:
    return None
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # Of others' escapes in strings.
      tree = ast.parse(text)
    found = _assigned_again(tree, [*_walk(tree, (), fits)], fits)
    return [*found, *_by_another_name(tree, found, name)]
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    return None


def _assigned_again(tree, found, fits):
  """What was found, with the lines where modules assign its names anew."""
  lines = {}
  for node in tree.body:
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value and not any(
        _walk(node.value, (), fits)):
      for target in (node.targets if isinstance(node, ast.Assign)
                     else [node.target]):
        lines[_called(target)] = node.lineno
  return [f._replace(again=lines[f.name]) if not f.owner and lines.get(
      f.name, 0) > f.line else f for f in found]


def _by_another_name(tree, found, name):
  """What a name stands for, that is only set to the name of something found."""
  known, others = {f.name for f in found}, {}
  for node in tree.body:  # The last one counts, as it does for Python.
    if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(
        node.value, ast.Name):
      for target in (node.targets if isinstance(node, ast.Assign)
                     else [node.target]):
        others[_called(target)] = node.value.id
  meant, steps = name, 0
  while meant not in known and meant in others and steps < len(others):
    meant, steps = others[meant], steps + 1
  return [f._replace(name=name) for f in found
          if f.name == meant is not None and meant != name]


def _walk(node, path, fits):
  """What fits below a node, `path` being the names of what holds it."""
  if isinstance(node, ast.expr) and fits(node):
    yield Found(path[-1] if path else None, path[:-1], node.lineno, node)
    return
  for own, child in _children(node, path):
    yield from _walk(child, own, fits)


def _children(node, path):
  """The nodes right below one, with the names of what holds them."""
  if isinstance(node, ast.Assign):
    target = node.targets[-1]
    if isinstance(target, ast.Tuple | ast.List) and isinstance(
        node.value, ast.Tuple | ast.List) and (
            len(target.elts) == len(node.value.elts)):
      return [((*path, _called(name)), value) for name, value in zip(
          target.elts, node.value.elts, strict=True)]
    return [((*path, _called(target)), node.value)]
  if isinstance(node, ast.AnnAssign):
    return [((*path, _called(node.target)), node.value or node.annotation)]
  if isinstance(node, ast.Dict):
    return [(path if key is None else (*path, _called(key)), value)
            for key, value in zip(node.keys, node.values, strict=True)]
  if isinstance(node, ast.List | ast.Tuple | ast.Set):
    before, last = path[:-1], path[-1] if path else ""
    return [((*before, f"{last}[{i}]"), value)
            for i, value in enumerate(node.elts)]
  if isinstance(node, ast.keyword):
    return [((*path, node.arg) if node.arg else path, node.value)]
  return [(path, child) for child in ast.iter_child_nodes(node)]


def _called(node):
  """What a variable or a key is called."""
  if isinstance(node, ast.Subscript):
    return _called(node.slice)
  if isinstance(node, ast.Constant):
    return str(node.value)
  return ast.unparse(node)


def choose(found: Sequence[Found], name: str | None, *, where: str,
           what: str) -> tuple[Found, ...]:
  """Those that a name means, of which the last counts.

  Args:
    found: at least one.
    name: the one that is asked for; None where there is but one name.
    where: what the error calls the text.
    what: what the error calls the things, in the plural.

  Raises:
    InputError: several names and none is asked for, or not this one; or things
      without a name that are asked for by name, or that are several; or a name
      that the module gives to something else later.
  """
  names = [*dict.fromkeys(f.name for f in found if f.name)]
  if name is not None and not names:
    raise errors.InputError(
        f"{where} names no {what[:-1]}, and '{name}' is asked for; name the"
        " file alone")
  others = [f for f in found if f.name is None]
  if (name is None and len(names) + bool(others) > 1) or (
      name is not None and name not in names):
    lines = "".join(f", that of line {f.line}" for f in others)
    none = f" (none is called {errors.short(name)})" if name else ""
    raise errors.InputError(
        f"{where} holds the {what} {', '.join(names)}{lines}; name one of them,"
        f" as FILE:{names[0]}{none}")
  chosen = tuple(f for f in found if name is None or f.name == name)
  places = {f.owner for f in chosen}
  if len(places) > 1:
    raise errors.InputError(
        f"{where} holds {len(places)} {what} called {chosen[0].name}, in the"
        f" lines {', '.join(str(f.line) for f in chosen)}; keep one of them")
  if chosen[-1].again:
    raise errors.InputError(
        f"{where} gives {chosen[-1].name} another value in line"
        f" {chosen[-1].again}, which is not evaluated; write out what is meant"
        " under a name of its own")
  return chosen


def logged(found: Sequence[Found], name: str | None) -> list[Found]:
  """What a log holds, where names are of the line and tell nothing apart.

  Args:
    found: in order.
    name: the one that is asked for; None takes the last of all where no two
      have different names.
  """
  several = len({f.name for f in found if f.name}) > 1
  return [*found] if several or name is not None else [
      f._replace(name=None) for f in found]


def unnamed(found: Sequence[Found], *, where: str, what: str) -> None:
  """Refuses several things without a name in a module (InputError)."""
  if len(found) > 1 and all(f.name is None for f in found):
    raise errors.InputError(
        f"{where} holds {len(found)} {what} without names, in the lines"
        f" {', '.join(str(f.line) for f in found)}; give them names, as"
        " NAME = ..., or keep one")
