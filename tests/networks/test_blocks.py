"""Networks of blocks: counts, logits against a plain implementation."""

import functools

import flax.linen as nn
import jax
from jax import export
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import zoo
from natjax.costs import exact as cost
from natjax.graph import blocks, records, skeleton
from natjax.graph import genotype as architecture
from natjax.graph import shapes as shapes_lib
from natjax.networks import layers
from natjax.networks import network as network_lib
from natjax.zoo import handcrafted
from tests.networks import oracle

# Parameters and millions of multiply-adds; the published ones are in the
# docstrings of the builders.
COUNTS = {
    ("vgg16", "cifar"): (15245130, 313.726),
    ("vgg16", "imagenet"): (138357544, 15470.264),
    ("vgg16-bn", "cifar"): (15249354, 313.726),
    ("vgg16-bn", "imagenet"): (138361768, 15470.264),
    ("resnet20", "cifar"): (272474, 40.813),
    ("resnet32", "cifar"): (466906, 69.125),
    ("resnet44", "cifar"): (661338, 97.436),
    ("resnet56", "cifar"): (855770, 125.748),
    ("resnet110", "cifar"): (1730714, 253.150),
    ("resnet18", "cifar"): (11173962, 555.423),
    ("resnet18", "imagenet"): (11689512, 1814.073),
    ("resnet34", "cifar"): (21282122, 1159.402),
    ("resnet34", "imagenet"): (21797672, 3663.761),
    ("resnet50", "cifar"): (23520842, 1222.332),
    ("resnet50", "imagenet"): (25557032, 4089.184),
    ("resnet101", "cifar"): (42512970, 2434.486),
    ("resnet101", "imagenet"): (44549160, 7801.405),
    ("resnet152", "cifar"): (58156618, 3646.640),
    ("resnet152", "imagenet"): (60192808, 11513.627),
    ("wrn-16-1", "cifar"): (175066, 26.657),
    ("wrn-16-2", "cifar"): (691674, 101.107),
    ("wrn-16-4", "cifar"): (2748890, 392.612),
    ("wrn-16-8", "cifar"): (10961370, 1548.146),
    ("wrn-28-2", "cifar"): (1467610, 214.353),
    ("wrn-28-10", "cifar"): (36479194, 5243.329),
    ("wrn-34-10", "cifar"): (46160474, 6658.906),
    ("wrn-40-1", "cifar"): (563930, 83.281),
    ("wrn-40-2", "cifar"): (2243546, 327.599),
    ("wrn-40-4", "cifar"): (8949210, 1298.582),
    ("shufflenet", "cifar"): (913138, 161.701),
    ("shufflenet", "imagenet"): (2434768, 138.366),
    ("mobilenetv2", "cifar"): (2295834, 90.106),
    ("mobilenetv2", "imagenet"): (3504872, 300.774),
    ("proxyless-gpu", "cifar"): (5408138, 138.694),
    ("proxyless-gpu", "imagenet"): (7119848, 465.260),
    ("proxyless-cpu", "cifar"): (2942978, 124.984),
    ("proxyless-cpu", "imagenet"): (4361648, 439.244),
    ("proxyless-mobile", "cifar"): (2812322, 96.753),
    ("proxyless-mobile", "imagenet"): (4080512, 320.428),
    ("lresnet34e-ir", "face"): (34138816, 4459.643),
    ("mobilefacenet", "face"): (1003136, 220.965),
}


def test_every_network_and_skeleton_is_counted():
  assert set(COUNTS) == {(name, skeleton) for name in handcrafted.BUILDERS
                         for skeleton in handcrafted.skeletons(name)}


@pytest.mark.parametrize("depth, millions", [
    (20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_thin_resnets_have_the_published_parameters(depth, millions):
  """He et al., 2016, table 6, whose shortcuts have no parameters."""
  count = 3 * 9 * 16 + 2 * 16 + 64 * 10 + 10
  before = 16
  for width in (16, 32, 64):
    for _ in range((depth - 2) // 6):
      count += 9 * (before + width) * width + 2 * 2 * width
      before = width
  projections = 16 * 32 + 32 * 64 + 2 * (32 + 64)
  network = handcrafted.build(f"resnet{depth}")
  assert network.name == f"resnet{depth}"
  assert sum(len(block.edges) - 1 for block in network.blocks) == depth - 2
  total = cost.network(network, handcrafted.FRAMES["cifar"])
  assert total.params == count + projections
  # The paper prints two digits, which it rounds and cuts.
  assert abs(count / 1e6 - millions) < (0.05 if millions > 1 else 0.01)


@pytest.mark.parametrize("depth, factor, millions", [
    (16, 1, 0.2), (16, 8, 11.0), (28, 10, 36.5), (40, 1, 0.6), (40, 2, 2.2),
    (40, 4, 8.9)])
def test_wide_resnets_have_the_published_parameters(depth, factor, millions):
  """Zagoruyko & Komodakis, 2016, tables 4 and 5, added up here."""
  count, before = 3 * 9 * 16, 16
  for width in (16 * factor, 32 * factor, 64 * factor):
    for _ in range((depth - 4) // 6):
      count += 2 * before + 9 * before * width + 2 * width + 9 * width**2
      count += before * width if before != width else 0
      before = width
  count += 2 * before + 10 * before + 10
  total = cost.network(handcrafted.build(f"wrn-{depth}-{factor}"),
                       handcrafted.FRAMES["cifar"])
  assert total.params == count and abs(count / 1e6 - millions) < 0.06


@pytest.mark.long
@pytest.mark.parametrize("factor", [1, 2])
def test_a_wide_resnet_is_what_its_paper_describes(factor):
  """BN, ReLU, convolution; projections see what BN and ReLU give."""
  network = blocks.check(handcrafted.wide_resnet(16, factor, "cifar"))
  net = network_lib.module(network, blocks.Frame(5, 8))
  x = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("f")
  weights = oracle.random_weights(
      jax.eval_shape(net.init, jax.random.key(0), x), 1)
  logits, _ = jax.jit(lambda v, x: net.apply(
      v, x, train=True, mutable=["batch_stats"])[0])(weights, x)
  scope = oracle.scope(weights["params"])

  def conv(x, block, name, stride=1):
    return oracle.conv(
        x, block.at(name).params["conv"]["kernel"], stride=stride)

  def activated(x, scope):
    return oracle.relu(oracle.norm(x, scope))

  y = np.asarray(x, np.float64)
  if factor > 1:  # Its BN is the first of the first block.
    y = oracle.conv(y, scope.at("stem0").params["conv"]["kernel"])
  for i in range(6):
    block, first = scope.at(f"block{i}"), int(i == 0)
    if i == 0 and factor == 1:
      y = conv(y, block, "edge0_plain_conv_3x3")
    at = 1 + (first if factor == 1 else -first)
    norm = block.at(f"node{1 + at}_norm")
    if i == 0 and factor > 1:
      norm = scope.at("stem0").at("norm")
    before, stride = activated(y, norm), 2 if i in (2, 4) else 1
    z = conv(before, block, f"edge{at}_plain_conv_3x3", stride)
    z = activated(z, block.at(f"node{2 + at}_norm"))
    z = conv(z, block, f"edge{at + 1}_plain_conv_3x3")
    if i % 2 or (i == 0 and factor == 1):
      y = y + z
    else:
      y = z + conv(before, block, f"edge{at + 2}_plain_conv_1x1", stride)
  y = activated(y, scope.at("head0").at("norm")).mean((1, 2))
  last = scope.at("head2").at("linear").params
  np.testing.assert_allclose(
      logits, y @ last["kernel"] + last["bias"], rtol=2e-3, atol=2e-3)


def test_the_stride_as_published_costs_less():
  network = handcrafted.build("resnet50", "imagenet")
  early = network._replace(blocks=tuple(
      handcrafted.bottleneck(block.nodes[0].width, block.nodes[-1].stride)
      for block in network.blocks))
  total = cost.network(early, handcrafted.FRAMES["imagenet"])
  assert (total.params, round(total.madds / 1e6, 3)) == (25557032, 3857.973)


@pytest.mark.long
@pytest.mark.parametrize("name, skeleton", COUNTS)
def test_counts(name, skeleton):
  """Analytic cost = what is written above = the module's own parameters."""
  network = handcrafted.build(name, skeleton)
  frame = handcrafted.FRAMES[skeleton]
  total = cost.network(network, frame)
  params, madds = COUNTS[name, skeleton]
  assert total.params == params
  assert round(total.madds / 1e6, 3) == madds
  net = network_lib.module(network, frame)
  size = frame.image_size
  shapes = jax.eval_shape(
      lambda rng: net.init(rng, jnp.zeros((2, size, size, 3))),
      jax.random.key(0))
  assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == params


@pytest.mark.long
@pytest.mark.parametrize("name, skeleton, factor", [
    ("resnet20", "cifar", 0.25), ("resnet50", "imagenet", 1 / 16),
    ("vgg16", "cifar", 1 / 16), ("vgg16-bn", "cifar", 1 / 16),
    ("mobilenetv2", "cifar", 0.25), ("lresnet34e-ir", "face", 1 / 16),
    ("mobilefacenet", "face", 1 / 8), ("shufflenet", "cifar", 1),
    ("proxyless-gpu", "cifar", 1 / 8)])
def test_logits_equal_a_plain_implementation(name, skeleton, factor):
  """By the batch, with the same random weights."""
  network = handcrafted.build(name, skeleton)
  network = blocks.scale(network, factor)
  size = 32 if skeleton == "imagenet" or name.startswith("vgg") else 16
  if name == "shufflenet":  # Its widths must be whole multiples; fewer units.
    network = network._replace(blocks=network.blocks[:3])
    size = 8
  if name.startswith("proxyless"):
    # Every kernel, expansion and shortcut is in these; an epsilon that shows.
    network = network._replace(blocks=network.blocks[:8], norm_epsilon=0.5)
    size = 8
  frame = blocks.Frame(5, size)
  net = network_lib.module(network, frame)
  x = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("f")
  shapes = jax.eval_shape(net.init, jax.random.key(0), x)
  weights = oracle.random_weights(shapes, 1)
  # BN is by the batch, and dropout off.
  net = net.clone(graph=network._replace(head=tuple(
      layer._replace(rate=0.0) for layer in network.head)))
  logits, _ = jax.jit(lambda v, x: net.apply(
      v, x, train=True, mutable=["batch_stats"])[0])(weights, x)
  scope = oracle.scope(weights["params"])
  batch = functools.partial(oracle.norm, epsilon=network.norm_epsilon)
  norm = oracle.bias if network.norm == "bias" else batch
  y = np.asarray(x, np.float64)
  for i, item in enumerate(network.stem):
    y = oracle.layer(item, y, scope.at(f"stem{i}"), batch)
  values = (y, y)
  for i, (block, shapes) in enumerate(zip(
      network.blocks, shapes_lib.of(network, frame), strict=True)):
    here = scope.at(f"block{i}")

    def run(e, x, edges=block.edges, shapes=shapes, here=here):
      name = edges[e].operation
      return None if name == "null" else oracle.block_operation(
          name, x, here.at(f"edge{e}_{name}"), shapes.stride(edges[e]), norm)

    values = (values[1], oracle.block(
        block, values, run,
        lambda n, x, here=here: oracle.norm(x, here.at(f"node{n}_norm")),
        lambda n, here=here: here.params[f"node{n}_activation"]["slope"]))
  y = values[1]
  for i, item in enumerate(network.head):
    y = oracle.layer(item, y, scope.at(f"head{i}"), batch)
  assert logits.shape == (2, 5)
  np.testing.assert_allclose(logits, y.reshape(2, 5), rtol=2e-3, atol=2e-3)


def test_unshared_cells_compute_what_shared_cells_do():
  """The weights of a cell network, renamed, in the network of blocks."""
  place = skeleton.Skeleton(init_channels=4, cells=3, image_size=8)
  shared = network_lib.module(zoo.get("darts"), place)
  x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("f")
  shapes = jax.eval_shape(shared.init, jax.random.key(0), x)
  weights = oracle.random_weights(shapes, 1)
  unshared = network_lib.module(
      architecture.unshared(zoo.get("darts"), place), blocks.Frame(10, 8))
  wanted = jax.eval_shape(unshared.init, jax.random.key(0), x)

  def moved(group):
    tree, out = weights[group], {}
    out["stem0"] = tree["stem"]
    if "head" in tree:
      out["head1"] = tree["head"]
    for name, cell in tree.items():
      if not name.startswith("cell"):
        continue
      block = f"block{name[4:]}"
      out[block] = {}
      for key, value in cell.items():
        if key.startswith("preprocess"):
          prefix = f"edge{key[-1]}_"
          (new,) = [k for k in wanted[group][block] if k.startswith(prefix)]
        else:
          number, operation = key[4:].split("_", 1)
          new = f"edge{int(number) + 2}_{operation}"
        out[block][new] = value
    return out

  logits = unshared.apply({g: moved(g) for g in weights}, x)[0]
  np.testing.assert_allclose(
      logits, shared.apply(weights, x)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [*records.LAYER_KINDS, "cosine"])
def test_every_kind_of_layer_takes_a_batch_of_any_size(kind):
  pytest.importorskip("flatbuffers")
  layer = layers.FixedLayer(
      records.Layer(kind, width=6, kernel=3), 5,
      functools.partial(nn.BatchNorm, use_running_average=True), train=False)
  images = jax.random.normal(jax.random.key(0), (3, 4, 4, 6))
  apply = jax.jit(lambda x: layer.apply(
      layer.init(jax.random.key(1), images), x))
  shape = export.symbolic_shape("b, 4, 4, 6")
  written = export.export(apply)(jax.ShapeDtypeStruct(shape, jnp.float32))
  again = export.deserialize(written.serialize())
  for part in (images[:1], images):
    np.testing.assert_allclose(again.call(part), apply(part), atol=1e-6)
