"""Reading pictures, and two architectures to draw."""

import itertools
import re
from xml.etree import ElementTree

from natjax.graph import records
from tests import architectures

PNG = b"\x89PNG\r\n\x1a\n"
BLUE, ORANGE = "#0068a8", "#c24d00"


def genotype(*operations_of_normal):
  """Two nodes; node 3 takes node 0 twice. The reduce cell is fixed."""
  ends = [(0, 2), (1, 2), (0, 3), (0, 3)]
  normal = architectures.cell(*(
      (op, *end) for op, end in zip(operations_of_normal, ends, strict=True)),
      concat=(2, 3))
  return records.Genotype(normal, architectures.cell(
      ("max_pool_3x3", 0, 2), ("null", 1, 2), ("conv_1x1", 2, 3),
      ("conv_3x3", 1, 3), concat=(3,)
  ))


FIRST = genotype("sep_conv_3x3", "sep_conv_5x5", "conv_3x3", "conv_3x3")
SECOND = genotype("skip_connect", "null", "conv_3x3", "max_pool_3x3")


def elements(svg, tag, role):
  """SVG elements of a class, in order of appearance."""
  root = ElementTree.fromstring(svg)
  return [e for e in root.iter(f"{{http://www.w3.org/2000/svg}}{tag}")
          if e.get("class") == role]


def texts(svg, role):
  return ["".join(e.itertext()) for e in elements(svg, "text", role)]


def boxes(svg, role):
  """(left, top, right, bottom) of rectangles of a class."""
  found = []
  for e in elements(svg, "rect", role):
    x, y, width, height = (float(e.get(k))
                           for k in ("x", "y", "width", "height"))
    found.append((x, y, x + width, y + height))
  return found


def sampled(path, per_piece=16):
  """Points on the Bezier pieces of a path."""
  numbers = [float(n) for n in re.findall(r"-?[\d.]+", path.get("d"))]
  points = list(zip(numbers[::2], numbers[1::2], strict=True))
  for k in range(0, len(points) - 1, 3):
    for i in range(per_piece + 1):
      t = i / per_piece
      weights = ((1 - t)**3, 3 * t * (1 - t)**2, 3 * t**2 * (1 - t), t**3)
      yield tuple(
          sum(w * p[axis] for w, p in zip(weights, points[k:k + 4],
                                          strict=True))
          for axis in (0, 1)
      )


def inside(point, box, margin=0.5):
  (x, y), (left, top, right, bottom) = point, box
  return (left + margin < x < right - margin
          and top + margin < y < bottom - margin)


def check_nothing_overlaps(svg):
  """Labels and nodes lie apart, and edges cross only between columns."""
  labels, nodes = boxes(svg, "label"), boxes(svg, "node")
  (_, _, right, bottom), = boxes(svg, "ground")
  for a, b in itertools.combinations(labels + nodes, 2):
    assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
  for box in labels + nodes:
    assert min(box) >= 0 and box[2] <= right and box[3] <= bottom
  edges = elements(svg, "path", "edge")
  assert len(edges) == len(labels)
  for k, path in enumerate(edges + elements(svg, "path", "concat")):
    others = [box for i, box in enumerate(labels) if i != k] + nodes
    for point in sampled(path):
      assert not any(inside(point, box) for box in others)
