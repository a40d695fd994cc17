"""What the main jobs return: a dictionary that a notebook shows as a table."""

from collections.abc import Mapping, Sequence
import functools
import html
import os
from typing import Any

from natjax import drawing, methods
from natjax.graph import codec
from natjax.networks import network as network_lib
from natjax.pipeline import choosing, networks, tables

_MOST = 100  # Rows of changes; the dictionary has all.


class Result(dict[str, Any]):
  """What `result.json` holds; a notebook shows its tables and the picture.

  `print` shows the tables, too.

  What came out is a flax module with variables, `module` and `variables`, both
  usable without natjax's training: `module.apply(variables, images)[0]` are
  logits f32[B, K] of images f32[B, S, S, 3] that `network.preparation` has
  prepared.

  Attributes:
    test_images: how many there were, by which chance is told from gain.
    folder: of the run.
  """

  def __init__(self, found: Mapping[str, Any], test_images: int,
               folder: str | os.PathLike[str] = "."):
    super().__init__(found)
    self.test_images, self.folder = test_images, folder

  @functools.cached_property
  def network(self) -> networks.TrainedNetwork:
    """What `natjax.load` gives of the run: what came out, as it was trained.

    Raises:
      InputError: nothing was trained.
    """
    return networks.load(self.folder)

  @property
  def module(self) -> network_lib.Network:
    """The linen module of `network`."""
    return self.network.module

  @property
  def variables(self) -> Any:
    """The "params" and "batch_stats" of `network`."""
    return self.network.variables

  @property
  def kept(self) -> bool:
    """Whether the given architecture came back, of every seed."""
    return "transformed" in self and not tables.changed(self)

  def told(self) -> list[str]:
    """What is said of it in words: which is better, and what was refused."""
    parts = self.get("union", [self])
    return [
        *(f"architecture {number}: " * (len(parts) > 1) + line
          for number, part in enumerate(parts, 1)
          for line in _told(part, self.test_images)), *_noted(self)]

  def __str__(self) -> str:
    """Tables and sentences in plain text."""
    parts = self.get("union", [self])
    shown = [f"architecture {number}\n" * (len(parts) > 1) + "\n".join(
        _plain(*found[:3]) for found in (
            _rows(part, self.test_images), choosing.table(part)) if found)
             for number, part in enumerate(parts, 1)]
    return "\n".join([
        *shown, *self.told(), *tables.spent(self), str(self.folder)])

  def _repr_html_(self) -> str:
    """Tables and pictures, as IPython asks for them."""
    ended = [*_noted(self), *tables.spent(self)]
    if "union" not in self:
      return _show(self, self.test_images, ended)
    return "\n".join([
        *(_heading(f"architecture {number}") + _show(part, self.test_images)
          for number, part in enumerate(self["union"], 1)),
        *_paragraphs(ended)])


def _rows(result, images):
  """The table of one result, and its verdict."""
  if "architecture" in result:  # Of a training.
    return tables.Comparison(tables.measure(result), tables.MEASURED,
                             tables.measured(result), "")
  entry = methods.METHODS.get(result["method"])
  return tables.comparison(result, images, entry.kept if entry else "")


def _told(result, images):
  """The sentences of one result, but for its note."""
  verdict = _rows(result, images).verdict
  return [*[verdict] * bool(verdict), *choosing.sentences(result),
          *tables.others(result), *tables.refused(result),
          *tables.fresh(result)]


def _noted(result):
  """The note of all of a result."""
  return [f"Note: {result['note']}."] if "note" in result else []


def _paragraphs(lines):
  """Sentences in HTML."""
  return [f"<p>{html.escape(line)}</p>" for line in lines]


def _show(result, images, ended=()):
  """One result in HTML.

  Args:
    result: of a training, or of one architecture or search.
    images: number of test images.
    ended: sentences that stand before the picture.
  """
  shown = [_table(*_rows(result, images)[:3]), *_paragraphs(
      _told(result, images))]
  if "architecture" in result:
    drawn = [result["architecture"]]
  else:
    shown += [_table(*found[:3]) for found in (
        tables.changes(result, _MOST), choosing.table(result)) if found]
    drawn = [*result["architectures"].values()]
  drawn = [*dict.fromkeys(map(codec.from_dict, drawn))]  # Kept: drawn once.
  return "\n".join([*shown, *_paragraphs(ended), drawing.draw(*drawn)])


def _plain(title, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table in text; columns of numbers begin with ">"."""
  lines = [[column.lstrip(">") for column in columns], *rows]
  widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
  return "\n".join([title, *("  ".join(
      cell.ljust(width) if n == 0 else cell.rjust(width) for n, (
          cell, width) in enumerate(zip(cells, widths, strict=True))).rstrip()
                              for cells in lines)])


def _heading(text):
  return f"<h4>{html.escape(text)}</h4>\n"


def _table(title, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table; columns of numbers begin with ">"."""
  aligned = ["right" if column.startswith(">") else "left"
             for column in columns]

  def line(tag, cells):
    return "<tr>{}</tr>".format("".join(
        f'<{tag} style="text-align: {side}">{html.escape(cell)}</{tag}>'
        for side, cell in zip(aligned, cells, strict=True)))

  return "\n".join([
      f"<table>\n<caption>{html.escape(title)}</caption>",
      line("th", [column.lstrip(">") for column in columns]),
      *(line("td", row) for row in rows), "</table>"])
