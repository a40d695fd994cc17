"""Architectures as SVG (pure Python) or as PNG (matplotlib, extra `plots`)."""

import base64
import io
import os
import pathlib
import re
import types
from xml.sax import saxutils

from PIL import Image

from natjax.drawing import files, scene, shapes
from natjax.graph import records


def draw(genotype: records.Architecture,
         other: records.Architecture | None = None, *, title: str | None = None,
         titles: tuple[str, str] = ("original", "transformed")) -> str:
  """Draws an architecture, or two and what changed between them.

  Args:
    genotype: the architecture.
    other: what `genotype` was transformed into; drawn beside or below it.
    title: a line above the picture.
    titles: names of the two architectures, used if `other` is given.

  Returns:
    An SVG document, self-contained and on white ground.

  Raises:
    InputError: an architecture is not well formed.
  """
  return _svg(scene.compose(genotype, other, title, titles))


def save(path: str | os.PathLike[str], genotype: records.Architecture,
         other: records.Architecture | None = None, *, title: str | None = None,
         titles: tuple[str, str] = ("original", "transformed")) -> None:
  """Writes what `draw` draws to a `.svg` or `.png` file.

  Raises:
    InputError: another suffix, a directory that does not exist, `.png`
      without matplotlib, or an architecture that is not well formed.
  """
  path = files.checked(path)
  write(path, scene.compose(genotype, other, title, titles))


def write(path: pathlib.Path, picture: shapes.Scene) -> None:
  """Writes a picture to a file that `files.checked` knows."""
  svg = path.suffix.lower() == ".svg"
  files.write(path, _svg(picture).encode("utf-8") if svg else _png(picture))


def _svg(picture: shapes.Scene) -> str:
  width, height = _number(picture.width), _number(picture.height)
  return "\n".join([
      f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}"'
      f' height="{height}" viewBox="0 0 {width} {height}" role="img"'
      ' font-family="DejaVu Sans, Verdana, Helvetica, Arial, sans-serif">',
      f"<title>{_escape(picture.title)}</title>",
      *map(_svg_element, picture.primitives), "</svg>\n"])


def _svg_element(p: shapes.Primitive) -> str:
  """One primitive as one line of SVG."""
  if isinstance(p, shapes.Box):
    x, y, width, height, radius = map(_number, p[1:6])
    return (f'<rect class="{p.role}" x="{x}" y="{y}" width="{width}"'
            f' height="{height}" rx="{radius}" fill="{p.fill}"'
            f' stroke="{p.stroke}"/>')
  if isinstance(p, shapes.Text):
    return _svg_text(p)
  if isinstance(p, shapes.Picture):
    stream = io.BytesIO()
    Image.fromarray(p.pixels).save(stream, "PNG")
    height, width, _ = p.pixels.shape
    return (f'<image class="{p.role}" x="{_number(p.x)}" y="{_number(p.y)}"'
            f' width="{width}" height="{height}" href="data:image/png;base64,'
            f'{base64.b64encode(stream.getvalue()).decode()}"/>')
  points = [" ".join(map(_number, point)) for point in p.points]
  if isinstance(p, shapes.Polygon):
    return (f'<path class="{p.role}-head" d="M{" L".join(points)}Z"'
            f' fill="{p.fill}"/>')
  dash = f' stroke-dasharray="{" ".join(map(_number, p.dash))}"' * bool(p.dash)
  return (f'<path class="{p.role}" d="M{points[0]} C{" ".join(points[1:])}"'
          f' fill="none" stroke="{p.colour}" stroke-width="{p.width}"{dash}/>')


def _svg_text(p: shapes.Text) -> str:
  """A text, centred by its baseline, which all viewers understand."""
  bold = ' font-weight="bold"' * p.bold
  below = (f'<tspan dy="{_number(0.25 * p.size)}"'
           f' font-size="{_number(0.7 * p.size)}">{_escape(p.subscript)}'
           "</tspan>") * bool(p.subscript)
  return (f'<text class="{p.role}" x="{_number(p.x)}"'
          f' y="{_number(p.y + 0.36 * p.size)}" font-size="{_number(p.size)}"'
          f' fill="{p.colour}" text-anchor="{p.anchor}"{bold}>'
          f"{_escape(p.text)}{below}</text>")


def _number(value: float) -> str:
  return f"{round(value, 1) + 0.0:g}"


def _escape(text: str) -> str:
  """Text for XML, in which most control characters may not occur at all."""
  allowed = "\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff"
  return saxutils.escape(re.sub(f"[^{allowed}]", "\ufffd", text))


def _png(picture: shapes.Scene) -> bytes:
  """Renders with matplotlib, two pixels per unit."""
  mpl = files.load_matplotlib(" or choose .svg")
  figure = mpl.figure.Figure((picture.width / 100, picture.height / 100), 200)
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set_axis_off()
  axes.set_xlim(0, picture.width)
  axes.set_ylim(picture.height, 0)
  for p in picture.primitives:
    if isinstance(p, shapes.Picture):
      height, width, _ = p.pixels.shape
      axes.imshow(p.pixels, interpolation="nearest", aspect="auto", zorder=1,
                  extent=(p.x, p.x + width, p.y + height, p.y))
      continue
    if not isinstance(p, shapes.Text):
      axes.add_patch(_png_patch(mpl, p))
      continue
    name = p.text.replace(" ", r"\ ")
    formula = rf"$\mathrm{{{name}}}_{{{p.subscript}}}$"
    axes.text(p.x, p.y + 0.36 * p.size, formula if p.subscript else p.text,
              fontsize=0.72 * p.size, color=p.colour, va="baseline",
              ha={"middle": "center", "start": "left"}[p.anchor],
              weight="bold" if p.bold else "normal", family="DejaVu Sans",
              parse_math=bool(p.subscript))
  return files.figure_bytes(figure, "png")


def _png_patch(mpl: types.ModuleType,
               p: shapes.Box | shapes.Curve | shapes.Polygon):
  """A primitive other than text as a matplotlib patch."""
  if isinstance(p, shapes.Box):
    return mpl.patches.FancyBboxPatch(
        (p.x, p.y), p.width, p.height, fc=p.fill, ec=p.stroke, lw=0.72,
        boxstyle=mpl.patches.BoxStyle.Round(pad=0, rounding_size=p.radius))
  if isinstance(p, shapes.Polygon):
    return mpl.patches.Polygon(p.points, fc=p.fill, ec="none")
  path = mpl.path.Path
  codes = [path.MOVETO] + [path.CURVE4] * (len(p.points) - 1)
  # matplotlib counts dashes in line widths, and widths in points.
  dash = (0, tuple(d / p.width for d in p.dash)) if p.dash else "solid"
  return mpl.patches.PathPatch(
      path(p.points, codes), fc="none", ec=p.colour, lw=0.72 * p.width,
      linestyle=dash, capstyle="butt")
