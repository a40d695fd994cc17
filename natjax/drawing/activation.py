"""Class activation maps beside and over their image."""

from collections.abc import Mapping
import os

import numpy as np
from PIL import Image

from natjax import errors
from natjax.drawing import files, render, shapes

_SIDE = 240  # The least of a picture's, in units.
_PAD = 16
# From no evidence to most; its lightness grows, for readers of all kinds.
_COLOURS = ((0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58),
            (252, 165, 10), (252, 255, 164))


def save_activation(path: str | os.PathLike[str], image: np.ndarray,
                    activation: np.ndarray, *, title: str = "") -> None:
  """Draws an image, its map, and the map over the image, side by side.

  The map is brought to the image's size bilinearly, and its largest value is
  the brightest; one that is zero everywhere stays dark.

  Args:
    path: of a `.svg` or `.png` file.
    image: u8[S, S, 3].
    activation: f[h, w], finite and at least 0.
    title: a line above.

  Raises:
    InputError: another suffix, a directory that does not exist, `.png` without
      matplotlib, or arrays that are not these.
  """
  large, colours, over = _pixels(image, activation)
  render.write(files.checked(path), _compose(
      {"image": large, "map": colours, "both": over}, title))


def save_activations(path: str | os.PathLike[str], image: np.ndarray,
                     activations: Mapping[str, np.ndarray], *,
                     title: str = "") -> None:
  """Draws an image, and several maps over it, side by side, each by its name.

  Every map's own largest value is the brightest.

  Args:
    path: of a `.svg` or `.png` file.
    image: u8[S, S, 3].
    activations: by name f[h, w], finite and at least 0.
    title: a line above.

  Raises:
    InputError: as `save_activation`.
  """
  found = {name: _pixels(image, activation)
           for name, activation in activations.items()}
  large = next(iter(found.values()))[0]
  render.write(files.checked(path), _compose({"image": large, **{
      name: over for name, (_, _, over) in found.items()}}, title))


def _pixels(image, activation):
  """An image, its map in colours, and the one over the other, enlarged."""
  image, activation = np.asarray(image), np.asarray(activation, np.float32)
  if image.dtype != np.uint8 or image.shape[2:] != (3,) or 0 in image.shape:
    raise errors.InputError(
        f"image is {image.dtype}{list(image.shape)} and must be uint8[S, S, 3]"
        ", pixels from 0 to 255", "image")
  if activation.ndim != 2 or not activation.size or not (
      np.isfinite(activation) & (activation >= 0)).all():
    raise errors.InputError(
        f"activation is of shape {list(activation.shape)} and must be [h, w],"
        " finite and at least 0; give one of `class_activation`", "activation")
  times = -(-_SIDE // max(image.shape[:2]))
  large = image.repeat(times, 0).repeat(times, 1)
  height, width = large.shape[:2]
  heat = Image.fromarray(activation / (activation.max() or 1))
  heat = heat.resize((width, height), Image.Resampling.BILINEAR)
  colours = _coloured(np.asarray(heat))
  over = (large.astype(np.uint16) + colours) // 2
  return large, colours, over.astype(np.uint8)


def _compose(panels, title):
  """Pictures of one size in a row, each with its name."""
  height, width = next(iter(panels.values())).shape[:2]
  inner = max(len(panels) * (width + _PAD) - _PAD,
              shapes.text_width(title, 13))
  top = _PAD + 26 * bool(title)
  ground = shapes.Box("ground", 0, 0, inner + 2 * _PAD,
                      top + height + 24 + _PAD, 0, "#ffffff", "none")
  drawn: list[shapes.Primitive] = [ground]
  if title:
    drawn.append(shapes.Text("title", _PAD, _PAD + 8, title, 13,
                             anchor="start", bold=True))
  for i, (name, pixels) in enumerate(panels.items()):
    x = _PAD + i * (width + _PAD)
    drawn += [shapes.Picture(name, x, top, pixels),
              shapes.Text("heading", x + width / 2, top + height + 14, name)]
  return shapes.Scene(
      ground.width, ground.height, tuple(drawn), title or "activation")


def _coloured(heat):
  """u8[H, W, 3] of a map of [0, 1]."""
  at = np.linspace(0, 1, len(_COLOURS))
  channels = [np.interp(heat, at, channel)
              for channel in zip(*_COLOURS, strict=True)]
  return np.rint(np.stack(channels, -1)).astype(np.uint8)
