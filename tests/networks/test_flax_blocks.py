"""Networks that were written in flax, as networks of blocks."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, operations, zoo
from natjax.costs import exact
from natjax.graph import block_json, blocks, records
from natjax.methods import replaceable
from natjax.networks import flax_blocks
from natjax.networks import network as network_lib
from natjax.operations import registry
from tests.toys import flax_networks

ResNet, MobileNetV2 = flax_networks.ResNet, flax_networks.MobileNetV2


@pytest.fixture(autouse=True)
def _only_here(monkeypatch):
  """Fixed operations end with a test."""
  monkeypatch.setattr(registry, "_REGISTRY", {**registry._REGISTRY})


def read(module, size, **options):
  """Reads a module, after comparing the logits of both."""
  variables, images = flax_networks.drawn(module, size)
  found = flax_blocks.from_flax(module, variables, images, **options)
  theirs = jax.jit(lambda: module.apply(variables, images, **options))()
  ours = jax.jit(lambda: found.module.apply(found.variables, images)[0])()
  assert np.abs(theirs).max() > 0.1
  np.testing.assert_allclose(
      ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())
  # What is written to a file is the same network.
  assert block_json.from_dict(
      block_json.to_dict(found.network)) == found.network
  return found, variables


class _Squeezed(nn.Module):
  """Squeeze-and-excitation, and then what no block expresses."""

  after: Callable[..., jax.Array]
  shortcut: bool = False

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(16, (3, 3))(x))
    y = nn.relu(nn.Dense(4)(x.mean((1, 2), keepdims=True)))
    y = x * nn.sigmoid(nn.Dense(16)(y))
    x = self.after(x + y if self.shortcut else y)
    x = nn.relu(nn.Conv(16, (3, 3), strides=(2, 2))(x))
    return nn.Dense(5)(x.mean((1, 2)))


@pytest.mark.parametrize("after", [nn.gelu, nn.hard_swish, jnp.sin])
@pytest.mark.parametrize("shortcut", [False, True])
def test_what_is_fixed_stands_behind_squeeze_and_excitation(after, shortcut):
  found, _ = read(_Squeezed(after, shortcut), 8)
  assert len(found.fixed) == 1


class _Bare(nn.Module):

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(8, (3, 3), use_bias=False)(x))
    x = nn.relu(nn.Conv(8, (3, 3), strides=(2, 2))(x))
    return nn.Dense(10, use_bias=False)(x.mean((1, 2)))


def test_a_bias_that_is_not_there_is_one_of_zeros_and_counts():
  found, variables = read(_Bare(), 8)
  own = sum(x.size for x in jax.tree.leaves(variables))
  assert exact.network(found.network, found.place).params == own + 8 + 10


def test_a_resnet_has_the_zoo_s_blocks():
  """But for flax's padding."""
  found, variables = read(ResNet((1, 1, 1), filters=16), 8, train=False)
  network, known = found.network, zoo.get("resnet20")
  assert not found.fixed and network[1::2] == known[1::2]
  assert [node.padding for node in network.blocks[1].nodes] == [
      "same", "symmetric"]
  assert tuple(block._replace(nodes=tuple(
      node._replace(padding="symmetric") for node in block.nodes))
               for block in network.blocks) == known.blocks[::3]
  cost = exact.network(found.network, found.place)
  assert cost.params == sum(
      leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_a_bottleneck_with_a_large_stem():
  found, _ = read(ResNet((1, 1), flax_networks.BottleneckBlock, large=True), 32,
                  train=False)
  assert [layer[:4] + layer[-1:] for layer in found.network.stem] == [
      ("conv", 8, 7, 2, "symmetric"), ("max_pool", 0, 3, 2, "same")]
  assert [edge.operation for edge in found.network.blocks[1].edges] == [
      "conv_1x1", "conv_3x3", "conv_1x1", "skip_connect"]
  assert not found.fixed and found.place == records.Frame(10, 32)


@pytest.mark.parametrize("squeeze", [False, True])
def test_a_mobilenet(squeeze):
  """Its biases before BN are taken up, and its epsilon is its own."""
  found, _ = read(MobileNetV2(squeeze), 16)
  network = found.network
  names = ["conv_1x1", "depthwise_conv_3x3", *["squeeze_excite"] * squeeze,
           "conv_1x1"]
  assert not found.fixed and network.norm_epsilon == 1e-3
  assert len(network.blocks) == 5 and len(network.stem) == 1
  assert [edge.operation for edge in network.blocks[1].edges] == names
  assert [edge.operation for edge in network.blocks[2].edges] == [
      *names, "skip_connect"]
  assert network.blocks[1].nodes[0].activation == "relu6"
  assert [layer.kind for layer in network.head] == [
      "conv", "global_pool", "linear"]


class Plain(nn.Module):
  """After flax's own MNIST example."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(4, (3, 3))(x))
    x = nn.avg_pool(x, (2, 2), (2, 2))
    x = nn.relu(nn.Conv(6, (3, 3))(x))
    x = nn.avg_pool(x, (2, 2), (2, 2))
    x = nn.relu(nn.Dense(12)(x.reshape(x.shape[0], -1)))
    return nn.Dense(10)(x)


def test_a_network_without_norms():
  found, _ = read(Plain(), 8)
  assert found.network.norm == "bias" and not found.network.stem
  assert [[edge.operation for edge in block.edges]
          for block in found.network.blocks] == [
              ["conv_3x3", "avg_pool_2x2"]] * 2
  assert [layer.kind for layer in found.network.head] == [
      "flatten", "linear", "linear"]


class DenseLayer(nn.Module):
  """BN and ReLU before convolutions, concatenated with its input."""

  @nn.compact
  def __call__(self, x):
    y = x
    for width, kernel in ((8, 1), (4, 3)):
      y = nn.relu(nn.BatchNorm(use_running_average=True)(y))
      y = nn.Conv(width, (kernel, kernel), use_bias=False)(y)
    return jnp.concatenate([x, y], axis=-1)


class DenseNet(nn.Module):

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(8, (3, 3), use_bias=False)(x)
    for _ in range(2):
      x = DenseLayer()(x)
    x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
    return nn.Dense(10)(jnp.mean(x, (1, 2)))


def test_a_densenet():
  found, _ = read(DenseNet(), 8)
  assert [block.concat for block in found.network.blocks] == [(5, 4)] * 2
  assert found.network.blocks[0].nodes[0].norm and not found.fixed


class Attention(nn.Module):

  @nn.compact
  def __call__(self, x):
    tokens = x.reshape(x.shape[0], -1, x.shape[-1])
    tokens = nn.LayerNorm()(tokens)
    y = nn.MultiHeadDotProductAttention(2, deterministic=True)(tokens, tokens)
    return x + y.reshape(x.shape)


class Mixed(nn.Module):
  """What no block expresses stands in a branch and between blocks."""

  @nn.compact
  def __call__(self, x):
    norm = lambda: nn.BatchNorm(use_running_average=True)
    x = nn.relu(norm()(nn.Conv(8, (3, 3))(x)))
    y = nn.swish(norm()(nn.Conv(8, (3, 3))(x)))
    y = norm()(nn.Conv(8, (3, 3))(y))
    x = Attention()(nn.relu(x + y))
    x = nn.relu(norm()(nn.Conv(16, (3, 3), (2, 2))(x)))
    return nn.Dense(10)(jnp.mean(x, (1, 2)))


class LeNet(nn.Module):
  """Windows that leave pixels of odd sides out, where nodes round up."""

  pool: Callable[..., jax.Array]
  padding: str
  flat: bool = False

  @nn.compact
  def __call__(self, x):
    for width, padding in ((8, self.padding), (16, "SAME")):
      x = nn.relu(nn.Conv(width, (3, 3), padding=padding)(x))
      x = self.pool(x, (2, 2), (2, 2))
    x = x.reshape(len(x), -1) if self.flat else jnp.mean(x, (1, 2))
    return nn.Dense(10)(x)


@pytest.mark.parametrize("size, pool, padding, flat", [
    (16, nn.max_pool, "VALID", False), (9, nn.avg_pool, "SAME", False),
    (17, nn.max_pool, "VALID", True)])
def test_windows_over_odd_sides(size, pool, padding, flat):
  found, _ = read(LeNet(pool, padding, flat), size)
  assert "it leaves" in str(found.fixed[-1].reason)


def test_probabilities_are_refused_by_the_function_s_name():
  module = nn.Sequential([Plain(), nn.log_softmax])
  with pytest.raises(errors.InputError, match="stands log_softmax; give"):
    read(module, 8)


def test_what_no_block_expresses_is_fixed_and_named():
  found, variables = read(Mixed(), 8)
  assert found.fixed[0] == (
      "mixed", "'silu' is no operation of a block, behind BatchNorm_1")
  assert found.fixed[1].path == "Attention_0"
  names = [edge.operation for block in found.network.blocks
           for edge in block.edges]
  swish, attention = [name for name in names if name.startswith("fixed_")]
  assert names == ["conv_3x3", swish, "conv_3x3", "skip_connect", attention,
                   *["skip_connect"] * 2, "conv_3x3"]
  block = next(b for b in found.network.blocks if any(
      edge.operation == attention for edge in b.edges))
  assert block.nodes[0].fixed
  cost = operations.get(attention).cost(8, 8, 1)
  assert cost.params == sum(leaf.size for leaf in jax.tree.leaves(
      variables["params"]["Attention_0"]))
  # 64 tokens of 8: four projections, and twice 64 x 64 x 8 of attention.
  assert cost.madds == 4 * 64 * 8 * 8 + 2 * 64 * 64 * 8
  with pytest.raises(errors.InputError, match="takes images of 8 pixels"):
    found.module.apply(found.variables, jnp.zeros((1, 16, 16, 3)))
  assert exact.network(found.network, found.place).madds > cost.madds
  with pytest.raises(errors.InputError, match="takes images of 8 pixels a side"
                     " and is given 16; keep to the image size"):
    exact.network(found.network, found.place._replace(image_size=16))
  with pytest.raises(errors.InputError, match="takes 8 channels and gives 8"):
    exact.network(blocks.scale(found.network, 2), found.place)
  with pytest.raises(errors.InputError, match="takes 8 channels and gives 8"):
    network_lib.init(network_lib.module(
        blocks.scale(found.network, 2), found.place), jax.random.key(0))


class Grouped(nn.Module):
  """Its convolutions come before all that no block expresses."""

  norm: bool

  @nn.compact
  def __call__(self, x):
    for features, stride in ((8, 1), (16, 2)):
      x = nn.Conv(features, (3, 3), stride, use_bias=not self.norm)(x)
      if self.norm:
        x = nn.BatchNorm(use_running_average=True)(x)
      x = nn.relu(x)
    x = nn.GroupNorm(4)(nn.max_pool(x, (2, 2), (2, 2)))
    return nn.Dense(5)(x.mean((1, 2)))


@pytest.mark.parametrize("norm", [False, True])
def test_convolutions_are_in_blocks_and_can_be_replaced(norm):
  """Those before a part that is fixed were the stem, which nothing changes."""
  network = read(Grouped(norm), 8)[0].network
  assert not network.stem and len(network.blocks) > 1
  assert [e.operation for e in network.blocks[0].edges] == ["conv_3x3"] * 2
  places = replaceable.Replaceable(
      network, records.Frame(5, 8), "full", batch=2).places
  assert [place[:2] for place in places] == [(0, 0), (0, 1)]


class Shared(nn.Module):
  """Two places that share weights."""

  @nn.compact
  def __call__(self, x):
    conv = nn.Conv(3, (3, 3), use_bias=False)
    x = nn.relu(conv(nn.relu(conv(x))))
    return nn.Dense(10)(jnp.mean(x, (1, 2)))


class Tall(nn.Module):
  last: bool = True

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(4, (3, 3))(x)
    if not self.last:
      return x
    return nn.log_softmax(nn.Dense(10)(jnp.mean(x, (1, 2))))


@pytest.mark.parametrize("module, change, words", [
    (Tall(), {}, "tall: behind Dense_0, its last Dense layer, stands"),
    (Tall(last=False), {}, r"must give logits \[B, K\]"),
    (Shared(), {}, "Conv_0: it is called twice, .* as copies"),
    (Plain(), {"variables": {}}, "with 'params'"),
    (Plain(), {"variables": {"params": {}}}, "Plain does not trace .*Scope"),
    (Plain(), {"example": jnp.zeros((1, 8, 8, 1))}, r"\[B, S, S, 3\]"),
    (Plain(), {"example": jnp.zeros((1, 16, 16, 3))}, "does not trace"),
    (Plain(), {"example": jnp.zeros((8, 8, 3))}, r"\[B, S, S, 3\]"),
    (Plain(), {"module": 3}, "is of type int"),
    (ResNet((1,)), {"train": True}, "BatchNorm_0 normalises by the batch"),
    (ResNet((1,)), {"mode": 1}, "does not trace .*'mode'"),
    (nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(9), nn.relu,
                    nn.Dense(3)]), {}, "sequential: no block can be made"),
])
def test_refusals(module, change, words):
  variables, example = flax_networks.drawn(module, 8)
  given = {"module": module, "variables": variables, "example": example}
  with pytest.raises(errors.InputError, match=words) as e:
    flax_blocks.from_flax(**given | change)
  assert "\n" not in str(e.value)


def test_nothing_is_computed():
  """Images of 16384 pixels a side would not fit any memory."""
  module = ResNet((1, 1))
  variables, _ = flax_networks.drawn(module, 8)
  found = flax_blocks.from_flax(
      module, variables, jax.ShapeDtypeStruct((1, 2**14, 2**14, 3), "float32"),
      name="Mine")
  assert found.network.name == "mine" and found.place.image_size == 2**14
  assert repr(found) == (f"<Imported: mine, {len(found.network.blocks)} blocks,"
                         f" {found.place.num_classes} classes, 16384 pixels,"
                         f" {len(found.fixed)} fixed parts>")
