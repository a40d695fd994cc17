"""Where the command line prints, and how."""

import contextlib
import json
import os
import textwrap
from typing import Any

from rich import console as rich_console
from rich import table as rich_table

# Paths and names are printed as they are, brackets and colons too.
_PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True,
                          "markup": False, "emoji": False}


class _Console(rich_console.Console):

  def on_broken_pipe(self) -> None:
    """The reader has left: what is done goes on, and nothing is printed."""
    self.quiet = True
    drop(self.file)


def drop(stream: Any) -> None:
  """Leaves what is printed, and waits to be, to nobody, if it is a file's."""
  with contextlib.suppress(OSError, ValueError, AttributeError):
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def make(stderr: bool = False) -> rich_console.Console:
  """A console of the terminal's width.

  Terminals without one say 0 columns, in which rich would print nothing.
  """
  return _Console(stderr=stderr, **_PLAIN, width=(
      None if os.environ.get("COLUMNS", "1").strip("0") else 80))


out = make()
err = make(stderr=True)


def tell(line: str) -> None:
  """Says a line on stderr, past a display; nothing where that is gone."""
  try:
    err.file.write(f"{line}\n")
    err.file.flush()
  except (OSError, ValueError):  # The latter where it is closed.
    drop(err.file)


def print_json(value):
  """Prints JSON, by escapes where the encoding lacks letters."""
  out.print_json(json.dumps(value),
                 ensure_ascii=not out.encoding.startswith("utf"))


def print_table(title, columns, rows):
  """Prints a table; columns of numbers begin with ">".

  Architectures that would take more than half of a line's width are numbered in
  the table, and stand below it, a line each.
  """
  below = []
  if "architecture" in columns:
    at = columns.index("architecture")
    if max((len(row[at]) for row in rows), default=0) > out.width // 2:
      below = [f"{n}: {row[at]}" for n, row in enumerate(rows, 1)]
      rows = [[*row[:at], str(n), *row[at + 1:]]
              for n, row in enumerate(rows, 1)]
      columns = [*columns[:at], ">#", *columns[at + 1:]]
  table = rich_table.Table(title=title)
  heads, stay = _laid_out(columns, rows)
  for head, column, stays in zip(heads, columns, stay, strict=True):
    table.add_column(head, overflow="fold", no_wrap=stays,
                     justify="right" if column.startswith(">") else "left")
  for row in rows:
    table.add_row(*row)
  out.print(table)
  for line in below:
    out.print(line, soft_wrap=True, highlight=False, markup=False)


def _laid_out(columns, rows):
  """Headings, and per column whether it stays as wide as what it holds.

  Where a table is wider than a line, headings are broken between their words,
  as far as their cells are narrower, then cells between theirs. Where that is
  not enough, anything is.
  """
  whole = [column.lstrip(">") for column in columns]
  spaced = [any(" " in row[n] for row in rows) for n in range(len(columns))]
  for parts in (lambda cell: [cell], str.split):
    cells = [max((len(part) for row in rows for part in parts(row[n])),
                 default=0) for n in range(len(columns))]
    broken = [_broken(head, least) for head, least in zip(
        whole, cells, strict=True)]
    for heads in (whole, broken):
      if out.width > sum(3 + max(least, *map(len, head.split("\n")))
                         for head, least in zip(heads, cells, strict=True)):
        return heads, [parts is not str.split or not it for it in spaced]
  return whole, [False] * len(whole)


def _broken(head, least):
  """A heading in lines of so many letters, or of a word that has more."""
  lines = textwrap.wrap(head, max(least, 1), break_long_words=False)
  longest = max(map(len, lines), default=1)
  return "\n".join(textwrap.wrap(head, longest, break_long_words=False))
