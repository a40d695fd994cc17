"""Networks that torchvision has, but small, and files of their weights."""

import flax
import numpy as np

from natjax import zoo
from natjax.graph import blocks, records
from natjax.interchange import names
from natjax.zoo import handcrafted

RESIDUAL = records.BlockNetwork(
    "small", (records.Layer("conv", 4, 3, activation="relu"),),
    (handcrafted.basic(4, 1), handcrafted.basic(8, 2)))
BOTTLENECKS = records.BlockNetwork(
    "deep", (records.Layer("conv", 4, 7, 2, activation="relu"),
             records.Layer("max_pool", kernel=3, stride=2)),
    tuple(handcrafted.bottleneck(*sizes, late=True) for sizes in (
        (2, 1), (2, 1), (4, 2))))
VGG = blocks.scale(zoo.get("vgg16-bn"), 1 / 64)
MOBILE = blocks.scale(zoo.get("mobilenetv2", "imagenet"), 1 / 8)


def spelt(network, frame, spelling=0):
  return names.spellings(network, frame)[spelling]


def tensors(network, frame, *, spelling=0, seed=0):
  """Another library's random weights of a network, with BN's counters."""
  rng, found = np.random.default_rng(seed), {}
  for name, leaf in spelt(network, frame, spelling).items():
    found[name] = rng.normal(size=leaf.shape).astype(np.float32)
    if name.endswith("running_var"):
      found[name] = 0.5 + np.abs(found[name])
      found[name.replace("running_var", "num_batches_tracked")] = np.array(9)
  return found


def flat(variables):
  return flax.traverse_util.flatten_dict(variables, sep="/")
