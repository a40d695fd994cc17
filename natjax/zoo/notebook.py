"""Notebooks of Jupyter, as modules and logs."""

import re

from natjax import errors
from natjax.graph import codec, genotype, nasbench201, parsing
from natjax.zoo import literals


def text_of(text: str, *, where: str = "architecture") -> tuple[str, str]:
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
  if genotype.is_literal(code) or literals.dictionaries(code, where) or (
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
