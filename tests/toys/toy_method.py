"""A method in one file: the edge that is missed least goes.

The given network of blocks is trained on most of the images. Then every edge is
left out in turn, nothing is trained anew, and the network that is the most
accurate on the images held out is the one to be trained from scratch.
"""

import dataclasses

from natjax import cost, errors, operations
from natjax.methods import entry, memory, supervised
from natjax.training import method as base
from natjax.training import settings


@dataclasses.dataclass(frozen=True)
class DropConfig:
  """Settings.

  Attributes:
    drop_epochs: walks over the images that are not held out.
    held_out: share of the training images.
  """

  drop_epochs: int = 2
  held_out: float = 0.2


def without(network, block, edge):
  """A network of blocks with a null edge in place of one."""
  blocks = list(network.blocks)
  edges = list(blocks[block].edges)
  edges[edge] = edges[edge]._replace(operation=operations.NULL)
  blocks[block] = blocks[block]._replace(edges=tuple(edges))
  return network._replace(blocks=tuple(blocks))


def build(request: entry.Request) -> entry.Plan:
  """Trains the network; see `entry.Entry`."""
  network, config, train = (
      request.architecture, request.settings, request.train)
  if network.kind != "blocks":
    raise errors.InputError("edges are dropped from networks of blocks")
  if not 0 < config.held_out < 1:
    settings.refuse(config, "held_out", "must lie between 0 and 1")
  images = round(request.num_images * (1 - config.held_out))
  make = lambda architecture: supervised.Supervised(
      dataclasses.replace(train, epochs=config.drop_epochs), architecture,
      num_classes=request.num_classes, image_size=request.image_size,
      steps_per_epoch=images // train.batch_size)

  def derive(state, given, score, rng):
    scores = {}
    for b, block in enumerate(given.blocks):
      for e, edge in enumerate(block.edges):
        if edge.operation != operations.NULL:
          candidate = without(given, b, e)
          scores[candidate] = float(score(
              make(candidate).objective.is_right, supervised.variables(state),
              split="held_out"))
    best = max(scores, key=scores.get)
    return base.Derived(best, None, {"scores": list(scores.values())})

  return entry.Plan(
      make(network).method()._replace(derive=derive), config, network, {},
      {"train": 1 - config.held_out, "held_out": config.held_out},
      train.batch_size, lambda batch: {
          "params": cost.network(network, request.place).params,
          "memory_bytes": memory.network_bytes(
              network, request.place, batch, train.dtype)})


ENTRY = entry.Entry(
    DropConfig, build, lambda preset, objective, kind: DropConfig(),
    "leaves out the edge that is missed least", model="network")
