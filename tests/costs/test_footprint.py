"""Memory of inference, against variables that are made and counts by hand."""

import jax
import pytest

from natjax import zoo
from natjax.costs import footprint
from natjax.graph import records
from natjax.networks import network as network_lib
from tests import architectures
from tests.methods import test_replacements

FRAME = records.Frame(10, 16)
SKELETON = records.Skeleton("cifar", 4, 5, 10, 16)


@pytest.mark.parametrize("name, place", [
    ("resnet20", FRAME), ("mobilenetv2", FRAME), ("vgg16", records.Frame()),
    ("darts", SKELETON), (architectures.UNEQUAL, SKELETON)])
def test_weights_are_those_of_the_variables(name, place):
  architecture = zoo.get(name) if isinstance(name, str) else name
  module = network_lib.module(architecture, place)
  variables = jax.eval_shape(
      lambda rng: network_lib.init(module, rng), jax.random.key(0))
  assert footprint.weights(architecture, place) == sum(
      leaf.size for leaf in jax.tree.leaves(variables))


def test_what_is_held_at_once():
  # 4 x 8 x 8 numbers: the block's input, the second node's sum, and the copy
  # that is added to it; the images and what the head makes are fewer.
  found = footprint.activations(
      test_replacements.RESIDUAL, test_replacements.FRAME)
  assert found == 3 * 4 * 8 * 8
  # Without the copies the input may go: the stem's 3 + 4 channels are most.
  plain = test_replacements.RESIDUAL._replace(blocks=tuple(
      block._replace(edges=tuple(
          edge._replace(operation="null") if edge.source == 1
          and edge.target == 3 else edge for edge in block.edges))
      for block in test_replacements.RESIDUAL.blocks))
  assert footprint.activations(
      plain, test_replacements.FRAME) == 2 * 4 * 8 * 8


def test_batches_and_halves():
  of = lambda *more: footprint.count(
      test_replacements.RESIDUAL, test_replacements.FRAME, *more)
  images = footprint.activations(
      test_replacements.RESIDUAL, test_replacements.FRAME)
  assert of(3) - of(1) == 2 * 4 * images
  assert of(1) - of(1, "bfloat16") == 2 * images


def test_a_cell_holds_its_inputs_while_something_reads_them():
  # What is concatenated is held beside what was: 2 nodes and 2 inputs.
  cell = records.Cell((records.Edge("conv_1x1", 0, 2),
                       records.Edge("conv_1x1", 1, 3)), (2, 3))
  place = records.Skeleton("cifar", 4, 3, 10, 8)
  alone = footprint.activations(records.Genotype(cell, cell), place)
  busy = cell._replace(edges=(*cell.edges, records.Edge("conv_1x1", 2, 3)))
  assert footprint.activations(
      records.Genotype(busy, busy), place) >= alone
