"""Checkpoints of DARTS's code, against what it computes with them."""

import flax
import jax
import numpy as np
import pytest

import natjax
from natjax import errors, zoo
from natjax.graph import codec, records
from natjax.interchange import darts, weights
from natjax.networks import network as network_lib
from tests.interchange import pytorch, small, torch_writer

CIFAR = records.Skeleton("cifar", 4, 3, 10, 16)
IMAGENET = records.Skeleton("imagenet", 4, 3, 10, 64)


def tensors(genotype, place):
  network, rng = codec.expand(genotype, place), np.random.default_rng(0)
  found = {}
  for name, leaf in darts.spellings(network, records.Frame(
      place.num_classes, place.image_size))[0].items():
    found[name] = rng.normal(size=leaf.shape).astype(np.float32)
    if name.endswith("running_var"):
      found[name] = 0.5 + np.abs(found[name])
  return found


# DARTS's model.py and operations.py, for evaluation.


def relu_conv_norm(t, x, at):
  return pytorch.conv_norm(t, jax.nn.relu(x), f"{at}.op.1", f"{at}.op.2")


def factorized_reduce(t, x, at):
  x = jax.nn.relu(x)
  return pytorch.norm(t, jax.lax.concatenate([
      pytorch.conv(t, x, f"{at}.conv_1", 2),
      pytorch.conv(t, x[:, :, 1:, 1:], f"{at}.conv_2", 2)], 1), f"{at}.bn")


def operation(t, x, at, name, stride):
  if name == "skip_connect":
    return x if stride == 1 else factorized_reduce(t, x, at)
  if name == "max_pool_3x3":
    return pytorch.max_pool(x, 3, stride, 1)
  if name == "avg_pool_3x3":
    return pytorch.avg_pool(x, 3, stride, 1)
  if name == "conv_7x1_1x7":
    x = pytorch.conv(t, jax.nn.relu(x), f"{at}.1", (1, stride))
    return pytorch.conv_norm(t, x, f"{at}.2", f"{at}.3", (stride, 1))
  dilation = 2 if name.startswith("dil") else 1
  for first in (1, 5)[:3 - dilation]:
    x = pytorch.conv(t, jax.nn.relu(x), f"{at}.op.{first}", stride,
                     dilation=dilation)
    x = pytorch.conv_norm(t, x, f"{at}.op.{first + 1}", f"{at}.op.{first + 2}")
    stride = 1
  return x


def network(t, x, genotype, place):
  if place.kind == "cifar":
    before = x = pytorch.conv_norm(t, x, "stem.0", "stem.1")
    reduced = False
  else:
    x = jax.nn.relu(pytorch.conv_norm(t, x, "stem0.0", "stem0.1", 2))
    before = pytorch.conv_norm(t, x, "stem0.3", "stem0.4", 2)
    x = pytorch.conv_norm(t, jax.nn.relu(before), "stem1.1", "stem1.2", 2)
    reduced = True
  for i in range(place.cells):
    reduction = i in (place.cells // 3, 2 * place.cells // 3)
    cell, at = genotype[int(reduction)], f"cells.{i}"
    first = (factorized_reduce if reduced else relu_conv_norm)(
        t, before, f"{at}.preprocess0")
    states = [first, relu_conv_norm(t, x, f"{at}.preprocess1")]
    for n in range(2, 2 + cell.num_nodes):
      states.append(sum(operation(
          t, states[edge.source], f"{at}._ops.{e}", edge.operation,
          2 if reduction and edge.source < 2 else 1)
          for e, edge in enumerate(cell.edges) if edge.target == n))
    before, reduced = x, reduction
    x = jax.lax.concatenate([states[n] for n in cell.concat], 1)
  return pytorch.linear(t, x.mean((2, 3)), "classifier")


def with_operations(genotype, *names):
  """The genotype with other operations on the first edges of both cells."""
  return genotype._replace(**{kind: cell._replace(edges=tuple(
      edge._replace(operation=name) for edge, name in zip(
          cell.edges, (*names, *(e.operation for e in cell.edges[len(names):])),
          strict=True)))
      for kind, cell in genotype._asdict().items()})


@pytest.mark.parametrize("genotype, place", [
    (with_operations(zoo.get("darts"), "conv_7x1_1x7", "dil_conv_5x5",
                     "avg_pool_3x3"), CIFAR), (zoo.get("darts"), IMAGENET)])
def test_logits_are_those_of_darts(genotype, place, tmp_path):
  held = tensors(genotype, place)
  torch_writer.save(tmp_path / "weights.pt", held)
  found = natjax.load_weights(tmp_path / "weights.pt", genotype)
  side = place.image_size
  images = np.random.default_rng(1).normal(size=(2, side, side, 3)).astype("f")
  logits, _ = jax.jit(network_lib.module(genotype, place).apply)(found, images)
  wanted = jax.jit(lambda x: network(held, x, genotype, place))(
      images.transpose(0, 3, 1, 2))
  np.testing.assert_allclose(logits, wanted, rtol=1e-3,
                             atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["darts", "amoebanet", "nat_darts"])
def test_every_tensor_has_a_name(name):
  place = CIFAR._replace(image_size=32)
  module = network_lib.module(zoo.get(name), place, auxiliary=True)
  here = flax.traverse_util.flatten_dict(jax.eval_shape(
      lambda rng: network_lib.init(module, rng), jax.random.key(0)))
  spelt, = darts.spellings(module.graph, module.frame)
  assert {leaf.path for leaf in spelt.values()} == {*here}
  for leaf in spelt.values():
    assert leaf.read(np.zeros(leaf.shape)).shape == here[leaf.path].shape


def test_the_auxiliary_head_may_be_missing(tmp_path):
  genotype, held = zoo.get("darts"), tensors(zoo.get("darts"), CIFAR)
  bare = {name: tensor for name, tensor in held.items()
          if not name.startswith("auxiliary_head")}
  assert len(bare) < len(held)
  found = {}
  for kind, some in (("whole", held), ("bare", bare)):
    torch_writer.save(tmp_path / "m.pt", some)
    found[kind] = small.flat(weights.read(
        tmp_path / "m.pt", genotype, CIFAR).variables)
  assert {name.split("/")[1] for name in found["whole"].keys() - found[
      "bare"].keys()} == {"auxiliary"}
  # Of other classes both classifiers are drawn.
  torch_writer.save(tmp_path / "m.pt", held)
  other = weights.read(tmp_path / "m.pt", genotype, CIFAR._replace(
      num_classes=7))
  assert "of 10 classes, not 7" in other.anew
  flat = small.flat(other.variables)
  assert flat["params/head/linear/kernel"].shape == (64, 7)
  assert flat["params/auxiliary/classifier/linear/kernel"].shape == (768, 7)


def test_what_is_not_of_such_cells_is_refused(tmp_path):
  torch_writer.save(tmp_path / "m.pt", small.tensors(
      small.RESIDUAL, records.Frame(10, 32)))
  with pytest.raises(errors.InputError, match="not of cells under the names"):
    natjax.load_weights(tmp_path / "m.pt", zoo.get("darts"))
  held = tensors(zoo.get("amoebanet"), CIFAR)
  torch_writer.save(tmp_path / "m.pt", held)
  with pytest.raises(errors.InputError, match=r"it lacks cells\.0\._ops"):
    natjax.load_weights(tmp_path / "m.pt", zoo.get("darts"))
  # An operation that DARTS has not.
  other = with_operations(zoo.get("darts"), "conv_3x3")
  with pytest.raises(errors.InputError, match="no other library is known"):
    natjax.load_weights(tmp_path / "m.pt", other)
