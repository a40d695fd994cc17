"""Pictures of class activation maps."""

import base64
import io
import os

import numpy as np
from PIL import Image
import pytest

from natjax import drawing, errors
from tests.drawing import pictures

IMAGE = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3) * 5
MAP = np.array([[0, 0.5], [0.25, 2]])


def read(path):
  """The pixels of the pictures of an SVG, by their classes."""
  svg, found = path.read_text(), {}
  for name in ("image", "map", "both"):
    (element,) = pictures.elements(svg, "image", name)
    head, _, data = element.get("href").partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
      found[name] = np.asarray(opened)
    assert [*map(int, map(element.get, ("height", "width")))] == [
        *found[name].shape[:2]] == [240, 240]
  return found


def test_the_image_the_map_and_both(tmp_path):
  path = tmp_path / "a.svg"
  drawing.save_activation(path, IMAGE, MAP, title="a <b> & c")
  found = read(path)
  np.testing.assert_array_equal(found["image"][30::60, 30::60], IMAGE)
  light = found["map"].astype(int).sum(-1)
  assert (light[0, 0], light[-1, -1]) == (4, 252 + 255 + 164)
  assert light[0, 0] < light[-1, 0] < light[0, -1] < light[-1, -1]
  np.testing.assert_array_equal(
      found["both"], (found["image"].astype(int) + found["map"]) // 2)
  assert pictures.texts(path.read_text(), "title") == ["a <b> & c"]
  assert pictures.texts(path.read_text(), "heading") == [*found]


def test_only_where_the_map_is_largest_counts_not_how_large(tmp_path):
  drawing.save_activation(tmp_path / "a.svg", IMAGE, MAP)
  drawing.save_activation(tmp_path / "b.svg", IMAGE, 1e-6 * MAP)
  drawing.save_activation(tmp_path / "c.svg", IMAGE, 0 * MAP)
  maps = [read(tmp_path / f"{name}.svg")["map"] for name in "abc"]
  np.testing.assert_allclose(maps[0].astype(int), maps[1], atol=1)
  assert (maps[2] == (0, 0, 4)).all()


def test_png(tmp_path):
  pytest.importorskip("matplotlib")
  path = tmp_path / "a.png"
  drawing.save_activation(path, IMAGE, MAP, title="$x$ is no formula")
  with Image.open(path) as opened:
    pixels = np.asarray(opened.convert("RGB"))
  # Two pixels per unit: the image's last corner, and the map's brightest.
  top = 16 + 26
  for x, expected in ((16 + 239, IMAGE[-1, -1]), (2 * 16 + 479, (252, 255, 164))
                      ):
    np.testing.assert_allclose(
        pixels[2 * (top + 238), 2 * (x - 1)].astype(int), expected, atol=3)
  assert path.read_bytes().startswith(pictures.PNG)
  drawing.save_activation(tmp_path / "b.png", IMAGE, MAP,
                          title="$x$ is no formula")
  assert path.read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("image, activation, message", [
    (IMAGE.astype(float), MAP, r"image is float64\[4, 4, 3\]"),
    (IMAGE[..., 0], MAP, r"image is uint8\[4, 4\]"),
    (IMAGE[:0], MAP, r"image is uint8\[0, 4, 3\]"),
    (IMAGE, MAP[0], r"activation is of shape \[2\]"),
    (IMAGE, MAP[:0], r"activation is of shape \[0, 2\]"),
    (IMAGE, -MAP, "at least 0"), (IMAGE, np.nan * MAP, "finite")])
def test_other_arrays_are_refused(image, activation, message, tmp_path):
  with pytest.raises(errors.InputError, match=message):
    drawing.save_activation(tmp_path / "a.svg", image, activation)
  assert not os.listdir(tmp_path)
