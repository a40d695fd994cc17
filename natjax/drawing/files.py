"""Picture files, and matplotlib, which makes some of them."""

from collections.abc import Callable, Collection, Mapping
import io
import math
import os
import pathlib
import types
from typing import Any

from natjax import errors


def checked(path: str | os.PathLike[str]) -> pathlib.Path:
  """The path, if a picture can be written there."""
  path = errors.path(path, "out")
  if path.suffix.lower() not in (".svg", ".png"):
    raise errors.InputError(
        f"{path}: pictures are written as .svg or .png, not as"
        f" '{path.suffix}'; choose one of these suffixes")
  if not path.parent.is_dir():
    raise errors.InputError(
        f"{path}: there is no directory '{path.parent}'; create it first")
  errors.replaceable(path)
  return path


def write(path: pathlib.Path, data: bytes) -> None:
  """Writes under a temporary name first, so that no half a file remains.

  Raises:
    InputError: nothing can be written there.
    OSError: the disk is full.
  """
  try:
    with errors.replacing(path) as partial:
      partial.write_bytes(data)
  except OSError as e:
    if errors.disk_full(e):
      raise
    raise errors.InputError(
        f"{path}: {e.strerror}; choose a path that can be written") from e


def load_matplotlib(instead: str = "") -> types.ModuleType:
  """The optional matplotlib, without pyplot and its global figures."""
  try:
    import matplotlib
    import matplotlib.backends.backend_agg
    import matplotlib.figure
    import matplotlib.patches
    import matplotlib.path
  except ImportError as e:
    raise errors.InputError(
        "this picture needs matplotlib, which is not installed; pip install"
        f" 'natjax[plots]'{instead}") from e
  return matplotlib


def there() -> bool:
  """Whether there is matplotlib."""
  try:
    load_matplotlib()
  except errors.InputError:
    return False
  return True


def drawn(draw: Callable[[Any, Any], None], rows: Collection[Any],
          path: str | os.PathLike[str]) -> bool:
  """Draws rows, if there are any and there is matplotlib; whether it did.

  Args:
    draw: `(rows, path)`.
    rows: what to draw.
    path: where to write.
  """
  if not there():
    return False
  if rows:
    draw(rows, path)
  return bool(rows)


def figure_bytes(figure, form: str) -> bytes:
  """A figure as a file; equal figures give equal bytes."""
  mpl = load_matplotlib()
  stream = io.BytesIO()
  mpl.backends.backend_agg.FigureCanvasAgg(figure)
  metadata = {"Date": None} if form == "svg" else None
  with mpl.rc_context({"svg.hashsalt": "natjax", "svg.fonttype": "none"}):
    figure.savefig(stream, format=form, metadata=metadata)
  return stream.getvalue()


def write_panels(path: str | os.PathLike[str], panels: Mapping[Any, Any],
                 columns: int, size: tuple[float, float],
                 plot: Callable[[Any, Any, Any], None], missing: str,
                 along: str = "epoch") -> None:
  """Writes a figure of panels, row by row in about a square.

  Args:
    path: as `checked`.
    panels: what is drawn in each, by what they are of.
    columns: the most there may be.
    size: of a panel.
    plot: `(axes, key, value)` draws the panel of a key and a value.
    missing: what the error says where there is no panel (InputError).
    along: title of the horizontal axes.
  """
  path = checked(path)
  if not panels:
    raise errors.InputError(missing)
  mpl = load_matplotlib()
  columns = min(columns, math.ceil(math.sqrt(len(panels))))
  lines = math.ceil(len(panels) / columns)
  figure = mpl.figure.Figure(
      (size[0] * columns, size[1] * lines), layout="constrained")
  for i, (key, value) in enumerate(panels.items()):
    axes = figure.add_subplot(lines, columns, i + 1)
    axes.set_xlabel(along)
    axes.grid(alpha=0.3)
    plot(axes, key, value)
  write(path, figure_bytes(figure, path.suffix.lower()[1:]))
