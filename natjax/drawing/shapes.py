"""The primitives of a picture, and what all its parts measure by.

Lengths are in SVG units, about a pixel.
"""

from collections.abc import Sequence
import itertools
from typing import NamedTuple

import numpy as np

FONT = 11  # Size of the operations' names.
INK = "#1f2328"  # Colour of texts and of unchanged edges.


class Box(NamedTuple):
  """A rounded rectangle; (x, y) is its upper left corner."""

  role: str
  x: float
  y: float
  width: float
  height: float
  radius: float
  fill: str
  stroke: str


class Curve(NamedTuple):
  """Cubic Bezier pieces: a start, then two controls and an end per piece."""

  role: str
  points: tuple[tuple[float, float], ...]
  colour: str
  width: float
  dash: tuple[float, ...] = ()


class Polygon(NamedTuple):
  """A filled polygon."""

  role: str
  points: tuple[tuple[float, float], ...]
  fill: str


class Text(NamedTuple):
  """One line of text; `x` is its start or its middle, `y` its middle."""

  role: str
  x: float
  y: float
  text: str
  size: float = FONT
  colour: str = INK
  anchor: str = "middle"
  bold: bool = False
  subscript: str = ""


class Picture(NamedTuple):
  """Pixels u8[H, W, 3], a unit each; (x, y) is the upper left corner."""

  role: str
  x: float
  y: float
  pixels: np.ndarray


Primitive = Box | Curve | Picture | Polygon | Text


class Scene(NamedTuple):
  """A picture: its size, its primitives from back to front, its title."""

  width: float
  height: float
  primitives: tuple[Primitive, ...]
  title: str


def text_width(text: str, size: float) -> float:
  """An upper estimate, since viewers choose the font."""
  return 0.61 * size * len(text)


def smooth(
    stops: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
  """Cubic pieces through the stops, with level tangents at each."""
  points = [stops[0]]
  for (x0, y0), (x1, y1) in itertools.pairwise(stops):
    half = (x0 + x1) / 2
    points += [(half, y0), (half, y1), (x1, y1)]
  return tuple(points)
