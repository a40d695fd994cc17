"""Architectures in the forms of other libraries, read and written.

`read` takes whatever `codec.read` takes, and
- a cell of NAS-Bench-201: the benchmark's string, also quoted, named in a
  module, or in a log, of which the last is read; the tuple of nodes that its
  code prints, `((("nor_conv_3x3", 0),), ...)`; six operations, or their six
  indices in the benchmark's order (`nasbench201.NAMES`), by its edges;
- a cell of NAS-Bench-101, `MATRIX:OPERATION,...`, JSON with both, or the
  `ModelSpec(...)` of its users (`graph.nasbench101`), in the stages of
  NAS-Bench-1Shot1;
- a chain of NAS-Bench-Macro, by its eight digits;
- an object of another library (`zoo.objects`): NNI's exports, NAS-Bench-301's
  configurations, ProxylessNAS's `net.config`;
- a notebook of Jupyter: the code of its cells, as a module, or, where that
  holds no architecture, what they printed or gave, as a log (`zoo.notebook`);
- an object or a dictionary that holds one of these, or several by their names;
  and a dictionary of cells, {"normal": ..., "reduce": ...}, in a module.

Nothing in a file is executed.
"""

import ast
import os
import re
import warnings

from natjax import errors
from natjax.graph import (
  codec,
  genotype,
  modules,
  nasbench101,
  nasbench201,
  nasbench_macro,
  parsing,
  records,
)
from natjax.zoo import literals, notebook, objects
from natjax.zoo import nasbench1shot1 as network1shot1
from natjax.zoo import nasbench201 as network201
from natjax.zoo import nasbench_macro as network_macro

FORMS = ("genotype", "nasbench201", "nasbench101", "json")
_TUPLE = 1000  # Characters of a cell of NAS-Bench-201.
_MACRO = re.compile(rf"[012]{{{nasbench_macro.LAYERS}}}", re.ASCII)
_NUMBER = re.compile(r"\d+")
_NUMBERED = re.compile(r"[(\[](?:\s*\d+\s*,){5}\s*\d+\s*,?\s*[)\]]")


def read(path: str | os.PathLike[str],
         name: str | None = None) -> records.Architecture:
  """Reads a file of any form; see the module.

  Args:
    path: of the file; a module or a log that holds a genotype's text will do.
      FILE:NAME is as FILE and a name.
    name: of one of several genotypes in a module, which is not executed.

  Warns:
    UserWarning: where the last of several is taken, as of a log, or one that is
      cut off is passed over (`passed_over`).

  Raises:
    InputError: no such file, not text, of none of the forms, or several
      genotypes in a module and no name.
  """
  whole, _, last = os.fspath(errors.path(path)).rpartition(":")
  if name is None and os.path.isfile(whole) and not os.path.exists(path):
    path, name = whole, last
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
  text, _ = notebook.text_of(text, where=where)
  plain = text.strip()
  if (data := literals.load(plain)) is not None:
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
  if found := literals.dictionaries(text, where, name):
    return codec.from_dict(literals.as_json(found[-1].value), where=where)
  if is_macro(plain):
    codec.unnamed(name, where)
    return network_macro.network(nasbench_macro.from_text(plain))
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
  if objects.known(data):
    return objects.read(data, where=where)
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
          _is_own(value) or objects.known(value)
          or _held(value)))]


def _is_own(data):
  """Whether an object has the keys of `codec.to_dict`."""
  return {"format", "blocks"} <= {*data} or {*records.CELL_TYPES} <= {*data}


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
    kind = notebook.text_of(text)[1]
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
  text, _ = notebook.text_of(text)
  if literals.load(text.strip()) is not None:
    return 1, 1
  if codec.has_genotypes(text):
    return genotype.last_of(text, name)
  found = nasbench201.find(text, name=name) or literals.dictionaries(
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


def is_macro(text: str) -> bool:
  """Whether a text is a chain of NAS-Bench-Macro, by its eight digits.

  Example:
    >>> is_macro("22212220"), is_macro("11462")
    (True, False)
  """
  return _MACRO.fullmatch(text.strip()) is not None


def cut_off(text: str) -> int | None:
  """The line where a log's last genotype begins, if that is not whole.

  Args:
    text: that `parse` has read.
  """
  text, _ = notebook.text_of(text)
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
  except (*literals.NO_LITERAL, IndexError, KeyError, TypeError):
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
