"""Picture files, and matplotlib, which makes some of them."""

import io
import os
import pathlib
import types

from natjax import errors


def checked(path: str | os.PathLike[str]) -> pathlib.Path:
  """The path, if a picture can be written there."""
  path = pathlib.Path(path)
  if path.suffix.lower() not in (".svg", ".png"):
    raise errors.InputError(
        f"{path}: pictures are written as .svg or .png, not as"
        f" '{path.suffix}'; choose one of these suffixes"
    )
  if not path.parent.is_dir():
    raise errors.InputError(
        f"{path}: there is no directory '{path.parent}'; create it first"
    )
  return path


def write(path: pathlib.Path, data: bytes) -> None:
  """Writes under a temporary name first, so that no half a file remains."""
  partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    partial.write_bytes(data)
    os.replace(partial, path)
  except OSError as e:
    partial.unlink(missing_ok=True)
    raise errors.InputError(
        f"{path}: {e.strerror}; choose a path that can be written"
    ) from e


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
        f" 'natjax[plots]'{instead}"
    ) from e
  return matplotlib


def figure_bytes(figure, form: str) -> bytes:
  """A figure as a file; equal figures give equal bytes."""
  mpl = load_matplotlib()
  stream = io.BytesIO()
  mpl.backends.backend_agg.FigureCanvasAgg(figure)
  if form == "png":
    figure.savefig(stream, format=form)
  else:
    with mpl.rc_context({"svg.hashsalt": "natjax", "svg.fonttype": "none"}):
      figure.savefig(stream, format=form, metadata={"Date": None})
  return stream.getvalue()
