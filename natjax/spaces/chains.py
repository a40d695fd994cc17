"""Chains at the size of the images, and smaller ones.

A chain (`base.Space.chain`) is published for images of 224 pixels. Images of
CIFAR would be gone before its end: where images are small, the first strides of
a chain are 1, as many as leave the last block at least 4 pixels a side. Of 32
pixels three strides of five are left, as in the zoo's networks for CIFAR, of 8
pixels one, of 224 all.
"""

import math
from typing import Any

from natjax import errors
from natjax.graph import blocks, records
from natjax.spaces import base
from natjax.training import settings

LEAST = 4  # Pixels a side at the end of a chain.


def fit(space: base.Space, image_size: int, *, layers: int | None = None,
        width: float | None = None) -> base.Space:
  """A chain for images of a size; what is found has its layers and widths.

  Args:
    space: a chain; another space is returned as it is.
    image_size: side of the images, in pixels.
    layers: the most of a stage, of equal width and size; None is all.
    width: factor of all widths (`blocks.scale`); None is 1.
  """
  if not space.chain:
    return space
  assert isinstance(space.graph, records.BlockNetwork)  # Chains are.
  graph, choices = space.graph, space.choices
  if layers is not None:
    kept = [i for stage in stages(graph) for i in stage[:layers]]
    graph = graph._replace(blocks=tuple(graph.blocks[i] for i in kept))
    if choices is not None:
      choices = tuple(choices[i] for i in kept)
  graph = blocks.scale(_slow(graph, image_size), 1.0 if width is None else width
                       )
  return space._replace(graph=graph, choices=choices)


def stages(graph: records.BlockNetwork) -> list[list[int]]:
  """The numbers of the blocks of every stage.

  A block begins one where it changes the size or the width.
  """
  found: list[list[int]] = []
  before = graph.stem[-1].width if graph.stem else 0
  for i, block in enumerate(graph.blocks):
    last = block.node(block.outputs[-1])
    if not found or last.stride > 1 or last.width != before:
      found.append([])
    found[-1].append(i)
    before = last.width
  return found


def _slow(graph, image_size):
  """The chain without the first strides that images are too small for."""
  stem, found = list(graph.stem), list(graph.blocks)
  total = math.prod([layer.stride for layer in stem] + [
      block.node(block.outputs[-1]).stride for block in found])
  for parts in (stem, found):
    for i, part in enumerate(parts):
      stride = part.stride if isinstance(part, records.Layer) else (
          part.node(part.outputs[-1]).stride)
      if stride > 1 and image_size < LEAST * total:
        total //= stride
        parts[i] = part._replace(stride=1) if isinstance(
            part, records.Layer) else part._replace(nodes=tuple(
                node._replace(stride=1) for node in part.nodes))
  return graph._replace(stem=tuple(stem), blocks=tuple(found))


def of_settings(space: base.Space, config: Any, image_size: int, share: str
                ) -> base.Space:
  """The space of a search, as its settings have it.

  Args:
    space: by its name.
    config: may have `chain_layers` and `chain_width`, of chains alone.
    image_size: side of the images, in pixels.
    share: "cell" or "full"; the layers of a chain are not shared.

  Raises:
    InputError: settings that do not apply to the space, or out of range.
  """
  sizes = {name: getattr(config, name, None)
           for name in ("chain_layers", "chain_width")}
  if not space.chain:
    for name, value in sizes.items():
      if value is not None:
        settings.refuse(config, name, f"does not apply to space '{space.name}',"
                        " which is no chain; leave it out")
    return space._replace(share=share)
  if share != space.share:
    raise errors.InputError(
        f"share is '{share}', and every layer of the chains of space"
        f" '{space.name}' is chosen by itself; leave it out", "share")
  if sizes["chain_layers"] is not None:
    settings.at_least_one(config, "chain_layers")
  if sizes["chain_width"] is not None:
    settings.above_zero(config, "chain_width")
  return fit(space, image_size, layers=sizes["chain_layers"],
             width=sizes["chain_width"])


def refuse(space: base.Space, method: str, why: str) -> None:
  """Refuses a chain to a method that needs cells.

  Args:
    space: any.
    method: as it is called.
    why: what it does with cells.

  Raises:
    InputError: the space is a chain.
  """
  if space.chain:
    raise errors.InputError(
        f"search space '{space.name}' is a chain of layers, and {method} needs"
        f" cells, {why}; choose a space of cells, or method darts, it-nas,"
        " spos or random", "space")
