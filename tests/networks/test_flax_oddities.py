"""Modules that look like others: they are read as what they compute, or not."""

import flax.linen as nn
import jax
from jax import export
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, operations
from natjax.networks import flax_batch, flax_blocks
from natjax.operations import registry
from tests.toys import flax_networks


@pytest.fixture(autouse=True)
def _only_here(monkeypatch):
  """Fixed operations end with a test."""
  monkeypatch.setattr(registry, "_REGISTRY", {**registry._REGISTRY})


class Around(nn.Module):
  """A convolution, something, and a classifier."""

  part: str

  @nn.compact
  def __call__(self, x):
    norm = lambda: nn.BatchNorm(use_running_average=True)
    x = nn.relu(norm()(nn.Conv(8, (3, 3), use_bias=False)(x)))
    x = getattr(self, self.part)(x)
    x = nn.relu(norm()(nn.Conv(8, (3, 3), use_bias=False)(x)))
    return nn.Dense(10)(jnp.mean(x, (1, 2)))

  def plus_one(self, x):
    more = lambda x, kernel, *args, **options: jax.lax.conv_general_dilated(
        x + 1, kernel, *args, **options)
    return nn.BatchNorm(use_running_average=True)(
        nn.Conv(8, (3, 3), conv_general_dilated=more)(x))

  def doubled(self, x):
    twice = lambda x, kernel, *args, **options: 2 * jax.lax.dot_general(
        x, kernel, *args, **options)
    return nn.BatchNorm(use_running_average=True)(
        nn.Dense(8, dot_general=twice)(x))

  def whole(self, x):
    return jnp.int32(4 * x).astype(jnp.float32)

  def gate(self, x):
    g = nn.Dense(2, name="reduce")(jnp.mean(x, (1, 2)))
    return nn.sigmoid(nn.Dense(8, name="restore")(nn.relu(g)))

  def rows(self, x):
    return x * self.gate(x)[:, :, None, None]

  def twice(self, x):
    g = self.gate(x)[:, None, None]
    return x * g * g

  def chosen(self, x):
    return x + nn.Embed(4, 8)(jnp.argmax(x[..., :4], -1))

  def permuted(self, x):
    return x[..., self.variable(
        "tables", "order", lambda: jnp.arange(8)[::-1]).value]

  def either(self, x):
    flags = self.variable("tables", "flags", lambda: jnp.zeros(2, bool)).value
    return jax.lax.cond(jnp.any(flags), jnp.zeros_like, nn.swish, x)

  def listed(self, x):
    scale, shift = self.param("both", lambda _: [jnp.ones(8), jnp.ones(8)])
    return x * scale + shift

  def boxed(self, x):
    return nn.BatchNorm(use_running_average=True)(
        nn.Conv(8, (3, 3), kernel_init=nn.with_partitioning(
            nn.initializers.lecun_normal(), (None, None, None, "model")))(x))

  def named(self, x):
    return nn.swish(nn.Conv(8, (3, 3), name="a/b")(x))

  def padded(self, x):
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.clip(nn.BatchNorm(use_running_average=True)(
        nn.Conv(8, (3, 3), 2, "VALID", use_bias=False)(x)), 0, 6)

  def scaled(self, x):
    scale = self.param("scale", nn.initializers.ones, (8,))
    return nn.relu(nn.Conv(8, (3, 3))(x * scale)) * scale

  def normed(self, x):
    norm = nn.GroupNorm(2)
    return norm(nn.relu(nn.Conv(8, (3, 3))(norm(x))))

  def batch_mean(self, x):
    return x - jnp.mean(x, 0)

  def first(self, x):
    return x + x[:1]  # Of one image itself.

  def backwards(self, x):
    return x + x[::-1]

  def alone(self, x):
    return x.reshape(1, *x.shape[1:])

  def largest(self, x):
    return x / (1e-3 + jnp.max(x))

  def counted(self, x):
    return x * x.shape[0]

  def shifted(self, x):
    return jnp.roll(x, 1, 0)

  def halved(self, x):
    return jax.pure_callback(lambda x: np.asarray(x) / 2, x, x)


def drawn(part):
  module = Around(part)
  images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
  return module, module.init(jax.random.key(0), images), images


@pytest.mark.long
@pytest.mark.parametrize("part, fixed", [
    ("plus_one", True), ("doubled", True), ("whole", True), ("rows", True),
    ("twice", True), ("chosen", True), ("permuted", True), ("either", True),
    ("listed", True), ("boxed", False), ("named", True), ("padded", False)])
def test_logits_are_the_module_s(part, fixed):
  module, variables, images = drawn(part)
  found = flax_blocks.from_flax(module, variables, images)
  theirs = module.apply(variables, images)
  np.testing.assert_allclose(
      found.module.apply(found.variables, images)[0], theirs, rtol=1e-5,
      atol=1e-5 * np.abs(theirs).max())
  assert fixed == bool(found.fixed)


@pytest.mark.parametrize("part", ["scaled", "normed"])
def test_fixed_operations_of_the_same_weights_are_one(part):
  module, variables, images = drawn(part)
  found = flax_blocks.from_flax(module, variables, images)
  theirs = module.apply(variables, images)
  np.testing.assert_allclose(
      found.module.apply(found.variables, images)[0], theirs, rtol=1e-5,
      atol=1e-5 * np.abs(theirs).max())
  fixed, = found.fixed
  assert "read in two places" in fixed.reason
  # They are held once.
  own = [name for name in variables["params"]
         if "Conv" not in name and "Dense" not in name and "Batch" not in name]
  size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
  assert own and size(found.variables["params"]) == size(variables["params"])


def test_fixed_operations_take_an_open_batch():
  found = flax_blocks.from_flax(*drawn("whole"))
  images = jax.ShapeDtypeStruct(
      export.symbolic_shape("b, 8, 8, 3"), jnp.float32)
  logits, _ = jax.eval_shape(found.module.apply, found.variables, images)
  assert logits.shape[0] == images.shape[0] and logits.shape[1] == 10


def test_a_process_that_has_not_read_the_module_is_told_so():
  with pytest.raises(errors.InputError, match=r"natjax\.from_flax makes known"):
    operations.get("fixed_net_00000000")


@pytest.mark.parametrize("part, words", [
    ("batch_mean", "two images have other logits together"),
    ("first", "^around: two images have other logits together than each alo"),
    ("backwards", "two images have other logits together"),
    ("largest", "two images have other logits together"),
    ("counted", "two images have other logits together"),
    ("shifted", "two images have other logits together"),
    ("halved", "does not run under jax.vmap")])
def test_what_would_be_another_function_is_refused(part, words):
  with pytest.raises(errors.InputError, match=words):
    flax_blocks.from_flax(*drawn(part))


def test_a_module_of_one_image_alone_is_refused():
  module, images = Around("alone"), jnp.ones((1, 8, 8, 3))
  variables = module.init(jax.random.key(0), images)
  with pytest.raises(errors.InputError, match="does not run on two images"):
    flax_blocks.from_flax(module, variables, images)


class Temperature(nn.Module):
  """A dense layer over the one number of each class."""

  @nn.compact
  def __call__(self, x):
    x = nn.Dense(10)(jnp.mean(nn.relu(nn.Conv(8, (3, 3))(x)), (1, 2)))
    return nn.Dense(1)(x[..., None])[..., 0]


class Deaf(nn.Module):

  @nn.compact
  def __call__(self, x):
    return jnp.tile(self.param("bias", nn.initializers.ones, 10), (len(x), 1))


class Ended(nn.Module):
  """What follows the classifier."""

  end: str

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(8, (3, 3))(nn.relu(nn.Conv(8, (3, 3))(x))))
    return getattr(nn, self.end)(nn.Dense(10)(jnp.mean(x, (1, 2))))


@pytest.mark.parametrize("module, words", [
    (Ended("softmax"), "behind Dense_0, its last Dense layer, stands .*exp"),
    (Ended("log_softmax"), "stands log_softmax; give a module that ends in"),
    (Ended("sigmoid"), "stands logistic"), (Ended("relu"), "stands relu"),
    (Temperature(), "it moves features to another axis"),
    (Deaf(), "does not depend on the images")])
def test_heads_that_are_none(module, words):
  variables, images = flax_networks.drawn(module, 8)
  with pytest.raises(errors.InputError, match=words):
    flax_blocks.from_flax(module, variables, images)


class Methods(nn.Module):
  """Its logits are a method's, which knows no training."""

  def setup(self):
    self.convolution, self.last = nn.Conv(8, (3, 3)), nn.Dense(10)

  def __call__(self, x, train=False):
    return nn.relu(self.convolution(x))

  def logits(self, x):
    return self.last(jnp.mean(self(x), (1, 2)))


def test_another_method_than_the_call():
  module, images = Methods(), jnp.ones((1, 8, 8, 3))
  variables = module.init(jax.random.key(0), images, method="logits")
  found = flax_blocks.from_flax(module, variables, images, method="logits")
  np.testing.assert_allclose(
      found.module.apply(found.variables, images)[0],
      module.apply(variables, images, method="logits"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("call, apart", [
    (nn.softmax, True), (lambda x: nn.softmax(x, 0), False),
    (lambda x: x.reshape(len(x), -1) @ jnp.ones((48, 2)), True),
    (lambda x: jnp.einsum("bhwc,ahwc->ba", x, x), False),
    (lambda x: jnp.concatenate([x[:, 1:], x], 1), True),
    (lambda x: jnp.concatenate([x, x]), False), (lambda x: x[::2], False),
    (lambda x: x + jnp.arange(len(x)).reshape(-1, 1, 1, 1), False),
    (lambda x: jnp.cumsum(x, 0), False), (lambda x: x - x.mean(), False),
    (lambda x: nn.max_pool(x, (2, 2)), True)])
def test_images_are_seen_to_be_apart(call, apart):
  example = jax.ShapeDtypeStruct((1, 4, 4, 3), "float32")
  run = lambda variables, images: call(images)
  assert flax_batch.apart(run, {}, example) == apart


class Upsampled(nn.Module):
  """A small image, made as large as an earlier one, joins it."""

  join: str

  @nn.compact
  def __call__(self, x):
    before = nn.relu(nn.Conv(8, (3, 3))(x))
    after = nn.relu(nn.Conv(8, (3, 3), strides=2)(before))
    after = jax.image.resize(after, before.shape, "nearest")
    x = before + after if self.join == "add" else jnp.concatenate(
        [before, after], -1)
    return nn.Dense(10)(jnp.mean(nn.relu(nn.Conv(8, (3, 3))(x)), (1, 2)))


class Computed(nn.Module):
  """Its scale is computed of a parameter, as where weights are cast."""

  @nn.compact
  def __call__(self, x):
    moved = nn.map_variables(
        nn.BatchNorm, "params", lambda tree: jax.tree.map(
            lambda leaf: leaf + 1, tree), init=True, mutable=True)
    x = nn.relu(moved(use_running_average=True)(nn.Conv(8, (3, 3))(x)))
    return nn.Dense(10)(jnp.mean(nn.relu(nn.Conv(8, (3, 3))(x)), (1, 2)))


class PaddedMean(nn.Module):
  """A window as large as the image, but over its padding, too."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(8, (3, 3), strides=2)(nn.relu(nn.Conv(8, (3, 3))(x))))
    x = nn.avg_pool(x, (4, 4), (4, 4), padding=((1, 1), (1, 1)))
    return nn.Dense(10)(x.reshape(len(x), -1))


class Unused(nn.Module):
  """Values that nothing reads."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(8, (3, 3))(x))
    self.sow("intermediates", "mask", nn.softmax(x))
    nn.gelu(x)
    nn.GroupNorm(2)(x)
    return nn.Dense(10)(jnp.mean(x, (1, 2)))


class SmallViT(nn.Module):
  """Patches, blocks of attention, and the mean of all tokens."""

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(16, (2, 2), strides=2, padding="VALID")(x)
    x = x.reshape(len(x), -1, 16)
    x += self.param("position", nn.initializers.normal(0.02), x.shape[1:])
    for _ in range(2):
      y = nn.LayerNorm()(x)
      x += nn.MultiHeadDotProductAttention(2)(y, y)
      y = nn.gelu(nn.Dense(32)(nn.LayerNorm()(x)))
      x += nn.Dense(16)(y)
    return nn.Dense(10)(nn.LayerNorm()(x).mean(1))


class Stem(nn.Module):
  """What stands before the first block, which is a fixed operation."""

  kind: str

  @nn.compact
  def __call__(self, x):
    norm = lambda: nn.BatchNorm(use_running_average=True)
    x = norm()(nn.Conv(8, (3, 3), use_bias=False)(x))
    x = norm()(x) if self.kind == "twice" else x
    x = nn.relu(x)
    if self.kind == "window":
      x = nn.avg_pool(x, (2, 2), (1, 1), "VALID")
    x = nn.relu(norm()(nn.Conv(8, (7, 7), use_bias=False)(x)))
    return nn.Dense(10)(jnp.max(x, (1, 2)))


@pytest.mark.parametrize("kind", ["twice", "window"])
def test_a_stem_has_every_bn_and_its_size(kind):
  module = Stem(kind)
  images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
  variables = jax.tree.map(
      lambda leaf: leaf + 0.1 * (1 + jnp.arange(leaf.shape[-1])),
      module.init(jax.random.key(0), images))
  found = flax_blocks.from_flax(module, variables, images)
  theirs = module.apply(variables, images)
  np.testing.assert_allclose(
      found.module.apply(found.variables, images)[0], theirs, rtol=1e-5,
      atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("module, fixed", [
    (Upsampled("add"), True), (Upsampled("concat"), True), (Unused(), False),
    (SmallViT(), True), (Computed(), True), (PaddedMean(), True)],
    ids=lambda value: str(value))
def test_what_is_no_block_or_not_used_changes_no_logits(module, fixed):
  variables, images = flax_networks.drawn(module, 8)
  variables = {kind: tree for kind, tree in variables.items()
               if kind in ("params", "batch_stats")}
  found = flax_blocks.from_flax(module, variables, images)
  np.testing.assert_allclose(
      found.module.apply(found.variables, images)[0],
      module.apply(variables, images), rtol=1e-5, atol=1e-5)
  assert bool(found.fixed) == fixed
