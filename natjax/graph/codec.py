"""Every spelling of networks, and the files in which they are written.

This is the one place that knows which there are. A spelling is a module with
  place: `(skeleton, init_channels, cells, num_classes=, image_size=)` says
    where it stands; the first three are of cells.
  check: `(architecture, where=)` returns it in its canonical form, if it is
    well formed (InputError).
  pad: `(architecture)` adds the null edges that a transformation may turn into
    others, where the spelling has none.
  expand: `(architecture, place)` gives the network that it stands for.
  decide: `(architecture, place, share)` gives the `Decision`s.
  respell: `(architecture, decisions, cells)` puts other cells in.
  parts: `(architecture)` gives the graphs that a picture shows, and of each
    what those have in common that are shown as one.
  name: `(numbers of parts)` is what they are called.
and one, maybe the same, with
  to_dict: the JSON form.
  from_dict: `(data, where=)` reads that form (InputError).
  to_line: a line that names the architecture, for error messages.
The JSON form of a network of blocks has the key "format", that of a genotype
has not.
"""

import json
import os
from typing import Any

from natjax import errors
from natjax.graph import block_json, blocks, genotype, parsing, records

Architecture = records.Architecture


_GRAPHS = {"cells": genotype, "blocks": blocks}
_FORMS = {"cells": genotype, "blocks": block_json}


def check(architecture: Architecture) -> Architecture:
  """Returns the architecture if it is well formed (InputError)."""
  _check_type(architecture)
  return _GRAPHS[architecture.kind].check(architecture)


def _check_type(architecture):
  if not isinstance(architecture, Architecture):
    raise errors.InputError(
        f"the architecture is of type {type(architecture).__name__} and must be"
        " a Genotype or a BlockNetwork; look one up with zoo.get, read one, or"
        " read a flax module with natjax.from_flax")


def pad(architecture: Architecture) -> Architecture:
  """The architecture with null edges where others may come to stand.

  A genotype stays as it is; see `blocks.pad`.
  """
  return _GRAPHS[architecture.kind].pad(architecture)


def place(kind: str, skeleton: str | None = None,
          init_channels: int | None = None, cells: int | None = None, *,
          num_classes: int, image_size: int,
          embedding: int = 0) -> records.Place:
  """Where architectures of a kind stand.

  Args:
    kind: "cells" or "blocks".
    skeleton: "cifar" or "imagenet", of cells.
    init_channels: C, of cells.
    cells: L, of cells.
    num_classes: of the data.
    image_size: side of the images, in pixels.
    embedding: features of the embedding whose cosines classify, or 0.

  Raises:
    InputError: impossible.
  """
  if type(embedding) is not int or embedding < 0:
    raise errors.InputError(
        f"embedding is {errors.short(embedding)} and must be a whole number of"
        " features, or 0; give 512", "embedding")
  return _GRAPHS[kind].place(
      skeleton, init_channels, cells, num_classes=num_classes,
      image_size=image_size)._replace(embedding=embedding)


def expand(architecture: Architecture,
           place: records.Place) -> records.BlockNetwork:
  """The network that an architecture stands for.

  Args:
    architecture: in any spelling, well formed.
    place: a skeleton or a frame, as the spelling needs it.

  Raises:
    InputError: it cannot stand there, or one of both is none.
  """
  _check_type(architecture)
  wanted = records.Skeleton if architecture.kind == "cells" else records.Place
  if not isinstance(place, wanted):
    raise errors.InputError(
        f"the place is of type {type(place).__name__}, and"
        f" {architecture.kind} stand in a"
        f" {'Skeleton' if wanted is records.Skeleton else 'Frame'}; give one")
  try:
    hash(architecture)
  except TypeError:  # Of lists, which it may be made of.
    architecture = check(architecture)
  return _GRAPHS[architecture.kind].expand(architecture, place)


def decide(architecture: Architecture, place: records.Place,
           share: str = "cell") -> tuple[records.Decision, ...]:
  """What is decided on together when an architecture is changed.

  Args:
    architecture: in any spelling.
    place: a skeleton or a frame, as the spelling needs it.
    share: "cell", what the spelling says is alike, or "full", nothing.

  Raises:
    InputError: the spelling knows no such `share`.
  """
  return _GRAPHS[architecture.kind].decide(architecture, place, share)


def respell(architecture: Architecture, decisions: tuple[records.Decision, ...],
            cells: tuple[records.Cell, ...]) -> Architecture:
  """The architecture with other cells, one per decision, spelt alike."""
  return _GRAPHS[architecture.kind].respell(architecture, decisions, cells)


def paired(
    first: Architecture, second: Architecture
) -> list[tuple[str, records.Cell, records.Cell]]:
  """The graphs of two architectures in pairs, with their names.

  Blocks that are alike in both networks, but for their widths, are one.

  Raises:
    InputError: one of the two is not well formed, or they are not alike.
  """
  return [(name, a, b) for name, _, a, b in alike(first, second)]


def alike(
    first: Architecture, second: Architecture
) -> list[tuple[str, tuple[int, ...], records.Cell, records.Cell]]:
  """As `paired`, and of each pair the numbers of the parts that are one."""
  first, second = check(first), check(second)
  parts, others = (_GRAPHS[a.kind].parts(a) for a in (first, second))
  if first.kind != second.kind or len(parts) != len(others):
    raise errors.InputError(
        "one is a genotype and the other a network of blocks, or their numbers"
        " of blocks differ; give two architectures of the same graph")
  same: dict[Any, list[int]] = {}
  for i, ((_, a), (_, b)) in enumerate(zip(parts, others, strict=True)):
    same.setdefault((a, b), []).append(i)
  return [(_GRAPHS[first.kind].name(members), tuple(members),
           parts[members[0]][0], others[members[0]][0])
          for members in same.values()]


def to_dict(architecture: Architecture) -> dict[str, Any]:
  """The JSON form."""
  return _FORMS[architecture.kind].to_dict(architecture)


def from_dict(data: Any, *, where: str = "architecture") -> Architecture:
  """Reads the JSON form of any spelling (InputError)."""
  kind = "blocks" if isinstance(data, dict) and "format" in data else "cells"
  return _FORMS[kind].from_dict(data, where=where)


def to_json(architecture: Architecture) -> str:
  """Writes the JSON form as text."""
  return json.dumps(to_dict(architecture), indent=2)


def to_line(architecture: Architecture) -> str:
  """One line that names the architecture, for error messages."""
  return _FORMS[architecture.kind].to_line(architecture)


def read(path: str | os.PathLike[str],
         name: str | None = None) -> Architecture:
  """Reads a file: JSON of any spelling, or the `Genotype(...)` text of DARTS.

  Args:
    path: of the file; a module or a log that holds such a text will do.
    name: of one of several genotypes in a module, which is not executed.

  Raises:
    InputError: no such file, not text, not of one of these forms, or several
      genotypes and no name.
  """
  return parse(parsing.read_text(path), where=str(path), name=name)


def unnamed(name: str | None, where: str) -> None:
  """Refuses the name of one architecture of a file that holds one (InputError).
  """
  if name is not None:
    raise errors.InputError(
        f"{where} holds no architecture of a name, and '{name}' is asked for;"
        " name the file alone, or a function that gives a flax module as"
        " package.module:function")


def has_genotypes(text: str) -> bool:
  """Whether a text is to be read as one that holds `Genotype(...)`."""
  if "Genotype(" not in text:
    return False
  if not text.lstrip().startswith("{"):
    return True
  try:
    parsing.load_json(text)
  except ValueError:  # A dictionary of genotypes is no JSON.
    return True
  return False


def parse(text: str, *, where: str = "architecture",
          name: str | None = None) -> Architecture:
  """Reads the text of a file; see `read`."""
  if has_genotypes(text):
    return genotype.from_darts(text, where=where, name=name)
  unnamed(name, where)
  return from_dict(parsing.parse_json(text, where=where), where=where)
