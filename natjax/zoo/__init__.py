"""Published architectures, by name.

The genotypes are data (`genotypes.json`): originals (`darts`, `enas`,
`pc_darts_cifar`, ...), the cells that NAT's authors made of hand-crafted
networks (`resblock-cell`, `vgg-cell`, `mobilenetv2-cell`), and what NAT and
NAT++ made of each (`nat_darts`, `natv2_darts`, ...). The hand-crafted networks
themselves (`resnet20`, `vgg16`, ...) are built as networks of blocks
(`zoo.handcrafted`), and so are those of ProxylessNAS (`zoo.proxyless`). Letter
case and `-`/`_` do not matter.
"""

import difflib
import functools
import importlib.resources
import json
import re

from natjax import errors
from natjax.graph import codec
from natjax.graph import genotype as architecture
from natjax.zoo import (
  handcrafted,
  nasbench1shot1,
  nasbench201,
  nasbench_macro,
)

__all__ = ["genotype_names", "get", "handcrafted", "known", "names",
           "nasbench1shot1", "nasbench201", "nasbench_macro", "source"]

# Names under which the authors published cells that stand here as `...-cell`,
# and what DARTS's own code calls its second.
_ALIASES = {"resblock": "resblock-cell", "vgg": "vgg-cell", "dartsv2": "darts"}
# How WideResNets are written, as `_plain` has it.
_WIDE = re.compile(r"^(?:wrn|wideresnet)(\d+)_(\d+)$")

# Who published an architecture: the first of these with which its name begins.
_SOURCES = {
    "nat_": "what NAT made of {} (Guo et al., 2019)",
    "natv2_": "what NAT++ made of {} (Guo et al., 2021)",
    "darts": "DARTS (Liu et al., 2019)", "enas": "ENAS (Pham et al., 2018)",
    "resblock-cell": "ResNet's block as a cell (Guo et al., 2019)",
    "vgg-cell": "VGG's layers as a cell (Guo et al., 2019)",
    "mobilenetv2-cell": "MobileNetV2's block as a cell (Guo et al., 2019)",
    "naonet": "NAO (Luo et al., 2018)",
    **{f"r{i}": "drawn at random (Guo et al., 2021)" for i in range(1, 6)},
    "pc_darts": "PC-DARTS (Xu et al., 2020)",
    "pdarts": "P-DARTS (Chen et al., 2019)",
    "snas": "SNAS (Xie et al., 2019)", "nasnet": "NASNet (Zoph et al., 2018)",
    "amoebanet": "AmoebaNet (Real et al., 2019)",
    "vgg16": "VGG (Simonyan & Zisserman, 2015)",
    "resnet": "ResNet (He et al., 2016)",
    "wrn": "WideResNet (Zagoruyko & Komodakis, 2016)",
    "shufflenet": "ShuffleNet (Zhang et al., 2018)",
    "mobilenetv2": "MobileNetV2 (Sandler et al., 2018)",
    "proxyless": "ProxylessNAS (Cai et al., 2019)",
    "lresnet34e-ir": "ArcFace (Deng et al., 2019)",
    "mobilefacenet": "MobileFaceNet (Chen et al., 2018)"}


def source(name: str) -> str:
  """Who published an architecture, in words; "" where nobody is named.

  Example:
    >>> source("nat_darts"), source("resnet20")
    ('what NAT made of darts (Guo et al., 2019)', 'ResNet (He et al., 2016)')
  """
  for start, words in _SOURCES.items():
    if name.startswith(start):
      return words.format(name.removeprefix(start))
  return ""


def _plain(name: str) -> str:
  """Without what people write in many ways; numbers stay apart."""
  return re.sub(r"(?<!\d)[-_ ]|[-_ ](?!\d)", "", name.lower()).replace("-", "_")


@functools.cache
def _genotypes() -> dict[str, architecture.Genotype]:
  file = importlib.resources.files(__package__) / "genotypes.json"
  return {name: architecture.from_dict(value, where=name)
          for name, value in json.loads(file.read_text("utf-8")).items()}


def genotype_names() -> tuple[str, ...]:
  """The names of the published genotypes."""
  return tuple(_genotypes())


def names() -> tuple[str, ...]:
  """The names of all published architectures."""
  return (*_genotypes(), *handcrafted.BUILDERS)


def known(name: str) -> bool:
  """Whether `get` knows a name."""
  return _canonical(name) is not None


def _canonical(name):
  """A name as `names` has it, or None."""
  plain = _WIDE.sub(r"wrn\1_\2", _plain(_ALIASES.get(_plain(name), name)))
  return {_plain(spelt): spelt for spelt in names()}.get(plain)


def get(name: str, skeleton: str | None = None) -> codec.Architecture:
  """Looks an architecture up by name.

  Args:
    name: of a genotype or a hand-crafted network.
    skeleton: "cifar", "imagenet" or "face", for a hand-crafted network; None
      is its usual one. Genotypes do not differ by it.

  Raises:
    InputError: no such architecture, or not with such a skeleton; the message
      names the nearest ones.

  Example:
    >>> get("DARTS").normal.edges[0]
    Edge(operation='sep_conv_3x3', source=0, target=2)
    >>> len(get("ResNet20").blocks)
    9
  """
  if not isinstance(name, str):
    raise errors.InputError(f"the architecture's name is {errors.short(name)}"
                            " and must be text; see zoo.names")
  found = _canonical(name)
  if found is not None:
    return _genotypes().get(found) or handcrafted.build(found, skeleton)
  spelt = {_plain(spelt): spelt for spelt in names()}
  near = difflib.get_close_matches(_plain(name), spelt, n=3, cutoff=0.5)
  hint = f"did you mean {', '.join(spelt[n] for n in near)}? " if near else ""
  if name.strip().isdigit():
    hint = ("the number of a cell in a benchmark's file means nothing without"
            " the file: give TABLE.csv:NUMBER, or the cell, as"
            " '|skip_connect~0|+...'; ")
  raise errors.InputError(f"no architecture is named '{name}'; {hint}`natjax"
                          " list` names all, and a file is read from its path")
