"""Reads a flax module as a network of blocks, with its weights.

`flax_program` traces the module and `flax_units` reads the program; here units
become the stem, the blocks and the head as `flax_parts` says, and the module's
variables those of `network.Network`. What is nothing of these is an operation
of `flax_fixed`.
"""

from collections.abc import Mapping, Sequence
import functools
from typing import Any, NamedTuple, NoReturn

import flax
from flax import nnx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors, operations
from natjax.graph import blocks as blocks_lib
from natjax.graph import records
from natjax.graph import shapes as shapes_lib
from natjax.graph.records import Block, BlockNetwork, Layer, Node
from natjax.networks import (
  flax_batch,
  flax_fixed,
  flax_nnx,
  flax_parts,
  flax_program,
  flax_units,
)
from natjax.networks import network as network_lib
from natjax.networks.flax_program import Path
from natjax.operations import primitives

_FEW = 0.25  # Of convolutions without BN, which then are fixed operations.
_KERNELS = {"conv": (1, 3, 5), "max_pool": (2, 3, 5), "avg_pool": (2, 3, 5)}


class Fixed(NamedTuple):
  """A part of a module that no transformation changes.

  Attributes:
    path: of the module in which it stands.
    reason: why it is nothing else, in words.
  """

  path: str
  reason: str


class Imported(NamedTuple):
  """A flax module as natjax has it.

  Attributes:
    network: the network of blocks.
    variables: "params" and "batch_stats" of `module`, as its trained weights.
    place: the number of classes and the size of the images.
    fixed: the parts that no block expresses, which are run and costed and never
      changed.
  """

  network: BlockNetwork
  variables: dict[str, Any]
  place: records.Frame
  fixed: tuple[Fixed, ...] = ()

  def __repr__(self) -> str:
    return (f"<Imported: {self.network.name}, {len(self.network.blocks)}"
            f" blocks, {self.place.num_classes} classes,"
            f" {self.place.image_size} pixels, {len(self.fixed)} fixed parts>")

  @property
  def module(self) -> network_lib.Network:
    """The linen module; `module.apply(variables, images)[0]` are logits."""
    return network_lib.module(self.network, self.place)


def from_flax(module: nn.Module | nnx.Module,
              variables: Mapping[str, Any] | None = None, example: Any = None,
              *, name: str | None = None, **options: Any) -> Imported:
  """Reads a flax module, of linen or nnx, as a network of blocks.

  The logits of what comes out are the module's, up to rounding in float32.
  Layers are recognised where they are called: `Conv` (square windows; 1x1 in
  2, 4 or 8 groups, depthwise from 3x3 to 7x7), `Dense` or `Linear`,
  `BatchNorm`; and between them ReLU, ReLU6, sums, means over the image, max
  and average pooling, concatenations of channels, flattening, and
  squeeze-and-excitation to a quarter of the channels. Whatever else there is
  becomes a fixed operation, which runs as the module has it, in evaluation
  form; two that read the same weights are one, with all that lies between. It
  is known by its name as long as the process lives: call this before
  `natjax.load` of a run of it.

  A bias before BN is taken up by that; a convolution or linear layer without
  bias that no BN follows has one of zeros, which counts and learns. BNs of
  several epsilons become one of the smallest, with as much more variance.
  Weights are float32.

  Args:
    module: an unbound linen module, or one of nnx, which is left as it is.
    variables: as `module.init` gives them; None of nnx, whose modules hold
      their own.
    example: images f32[B, S, S, 3], or their `jax.ShapeDtypeStruct`; nothing is
      computed of them, unless it takes a look at two images of noise to say
      whether what the module gives of one depends on the other.
    name: of the network; None is the module's class.
    **options: of the module's call; what turns training off is added where the
      call takes it (`train=False`, `deterministic=True` and the like).

  Raises:
    InputError: the module does not trace, or something cannot be expressed
      where no fixed operation can stand; the line names it by its path.

  Example:
    >>> import flax.linen as nn, jax, jax.numpy as jnp
    >>> class Small(nn.Module):
    ...   @nn.compact
    ...   def __call__(self, x):
    ...     x = nn.relu(nn.Conv(8, (3, 3))(x))
    ...     x = nn.relu(nn.Conv(16, (3, 3), strides=(2, 2))(x))
    ...     return nn.Dense(10)(jnp.mean(x, axis=(1, 2)))
    >>> module, images = Small(), jnp.zeros((1, 8, 8, 3))
    >>> variables = module.init(jax.random.key(0), images)
    >>> found = from_flax(module, variables, images)
    >>> [edge.operation for edge in found.network.blocks[0].edges]
    ['conv_3x3', 'conv_3x3']
  """
  if isinstance(module, nnx.Module):
    if variables is not None:
      raise errors.InputError(
          "variables are given, and a module of nnx holds its own; pass None,"
          " or update the module by nnx.update", "variables")
    call, variables = flax_nnx.call(module, options)
    program = flax_nnx.trace(module, example, options)
  else:
    program = flax_program.trace(module, variables, example, options)
    given = flax_program.calling(module, options)
    call = lambda variables, images: module.apply(variables, images, **given)
    variables = flax.core.meta.unbox(variables)
  name = (name or type(module).__name__).lower()
  units = flax_units.Units(program)
  regions: list[flax_program.Region] = []
  while True:
    shared = program.shared(regions)
    if shared and all(any(i in r.steps for r in regions) for i in shared[1:]):
      # Fixed operations of the same weights are one, with all between them.
      joined = program.region(
          shared[1:], units.images(), regions, "its weights are read in two"
          " places, and what lies between these stays with them")
      if joined is None:
        _refuse_shared(shared[0])
      regions = [r for r in regions if not r.steps <= joined.steps] + [joined]
      continue
    try:
      found = _Reading(name, program, units, regions).imported()
      break
    except flax_units.Inexpressible as e:
      region = None if e.step is None else program.region(
          [e.step], units.images(), regions, e.reason)
      if region is None:
        _refuse_end(name, program.steps, e.step)
        raise errors.InputError(
            f"{'/'.join(e.path) or name}: {e.reason}, and it cannot stand as a"
            " fixed operation there, which needs square images [B, H, H, C]"
            " before it and a Dense classifier behind it; change the module, or"
            " write the network as blocks", "module") from e
      regions = [r for r in regions if not r.steps <= region.steps] + [region]
  if shared is not None:
    _refuse_shared(shared[0])
  # A program for one image does not tell x from x[:1].
  look = call, variables, jax.ShapeDtypeStruct(
      jnp.shape(example), jnp.result_type(example))
  if not flax_batch.apart(*look) and flax_batch.differ(*look):
    paths = ", ".join(sorted({part.path for part in found.fixed}))
    raise errors.InputError(
        f"{name}: two images have other logits together than each alone"
        f"{f', by one of {paths}' * bool(paths)}; let neither the other images"
        " nor their number matter for an image", "module")
  return found


def _refuse_end(name, steps, number):
  """Raises where a step that cannot be is behind the classifier."""
  dense = [i for i, step in enumerate(steps)
           if step.layer is not None and step.layer.kind == "dense"]
  if not dense or (number is not None and number <= dense[-1]):
    return
  behind = dict.fromkeys(step.function or step.equation.primitive.name
                         for step in steps[dense[-1] + 1:])
  if behind:
    raise errors.InputError(
        f"{name}: behind {'/'.join(steps[dense[-1]].path)}, its last Dense"
        f" layer, stands {', '.join(behind)}; give a module that ends in logits"
        " (a softmax belongs to the loss)", "module")


def _refuse_shared(path: Path) -> NoReturn:
  """Says that two blocks would share a variable."""
  raise errors.InputError(
      f"{'/'.join(path[1:-1]) or path[-1]}: it is called twice, and no two"
      " blocks share weights; give each place a module of its own, whose"
      " variables may begin as copies", "module")


class _Reading:
  """One way of reading a program."""

  def __init__(self, name: str, program: flax_program.Program,
               reader: flax_units.Units,
               regions: Sequence[flax_program.Region]):
    self.name, self.program, self.regions = name, program, regions
    read = functools.partial(reader.read, regions=regions)
    self.biased, self.units = False, read(biased=False)
    convolutions = [edge for unit in self.units for edge in unit.edges
                    if edge.kind in flax_units.CONVOLUTIONS]
    bare = [edge for edge in convolutions if edge.norm is None]
    if len(bare) > _FEW * len(convolutions):
      self.biased, self.units = True, read(biased=True)
    self.epsilon = min([norm["epsilon"] for unit in self.units for norm in (
        unit.norm, *(edge.norm for edge in unit.edges)) if norm] or [1e-5])
    self.params: dict[Path, Any] = {}
    self.stats: dict[Path, Any] = {}
    # Of every fixed operation, by its name, the paths of its variables.
    self.fixed_paths: dict[str, tuple[Path, ...]] = {}

  def imported(self) -> Imported:
    stem, groups, head = flax_parts.parts(self.units)
    if not groups:
      raise errors.InputError(
          f"{self.name}: no block can be made of it, since all of it is stem or"
          " classifier; give a module with convolutions", "module")
    network = BlockNetwork(
        self.name,
        tuple(self._layer(u, f"stem{i}") for i, u in enumerate(stem)),
        tuple(self._block(i, group) for i, group in enumerate(groups)),
        tuple(self._layer(u, f"head{i}", i + 1 == len(head))
              for i, u in enumerate(head)),
        norm="bias" if self.biased else "batch",
        norm_epsilon=float(self.epsilon))
    place = records.Frame(self.units[head[-1]].width, self.units[0].size)
    network = blocks_lib.check(network)
    self._compare(network, place, groups)
    nested = flax.traverse_util.unflatten_dict
    variables = {
        kind: nested({path: jnp.asarray(leaf, jnp.float32)
                      for path, leaf in part.items()})
        for kind, part in (("params", self.params), (
            "batch_stats", self.stats))}
    return Imported(network, variables, place, tuple(
        Fixed("/".join(region.path) or self.name,
              region.reason + self._behind(region))
        for region in sorted(self.regions, key=lambda r: min(r.steps))))

  def _behind(self, region):
    """Which layer a region of the module itself follows, in words."""
    before = [step.path for step in self.program.steps[:min(region.steps)]
              if step.layer]
    return f", behind {'/'.join(before[-1])}" if (
        before and not region.path) else ""

  # Layers.

  def _layer(self, number, called, last=False):
    unit = self.units[number]
    edge, norm = unit.edges[0], unit.norm or unit.edges[0].norm
    if edge.kind == "skip":
      self._norm((called, "norm"), norm)
      return Layer("norm", activation=unit.activation)
    kind, weights = flax_parts.LAYER_KINDS[edge.kind], edge.weights
    options: dict[str, Any] = {"activation": unit.activation}
    if edge.kind in ("conv", "depthwise", "max_pool", "avg_pool"):
      options |= {"kernel": edge.kernel, "stride": edge.stride,
                  "padding": edge.paddings[0]}
    if kind in ("conv", "linear"):
      options["width"] = 0 if last else unit.width
    if weights:
      options["norm"] = norm is not None
      part = "linear" if kind == "linear" else "conv"
      self.params[called, part, "kernel"] = weights["kernel"]
      bias = weights.get("bias", np.zeros(unit.width, np.float32))
      if norm is not None:
        self._norm((called, "norm"), {**norm, "mean": norm["mean"] - (
            weights.get("bias", 0))})
      else:
        own = "linear" if kind == "linear" else "bias"
        self.params[called, own, "bias"] = bias
    return Layer(kind, **options)

  def _norm(self, path, norm):
    """Writes down a BN of the network's epsilon."""
    path = (*path, "bn")
    self.params[*path, "scale"] = norm["scale"]
    self.params[*path, "bias"] = norm["bias"]
    self.stats[*path, "mean"] = norm["mean"]
    self.stats[*path, "var"] = norm["var"] + (norm["epsilon"] - self.epsilon)

  # Blocks.

  def _block(self, index, numbers):
    """A block of units, of which the last may be a concatenation."""
    *_, last = numbers
    before = {s for n in numbers for s in flax_parts.sources(self.units[n])} - {
        *numbers}
    source, = before  # As all pass through it.
    parts = self.units[last].parts
    own = [n for n in numbers if not self.units[n].parts]
    for n in numbers[:-1]:
      if self.units[n].parts:
        raise self._refuse(n, "it concatenates within a block")
    called = {source: 1} | {n: k for k, n in enumerate(own, 2)}
    start = self.units[source]
    nodes, edges = [], []
    for n in own:
      nodes.append(self._node(n, start))
      for edge in sorted(self.units[n].edges, key=lambda e: -e.source):
        edges.append(records.Edge(self._operation(n, edge, source),
                                  called[edge.source], called[n]))
        self._weights(f"block{index}", len(edges) - 1, edges[-1], edge)
      if self.units[n].norm is not None:
        self._norm((f"block{index}", f"node{called[n]}_norm"),
                   self.units[n].norm)
    if parts and source in parts:  # Handed on by a copy.
      nodes.append(Node(start.width, fixed=True))
      called[source] = len(nodes) + 1
      edges.append(records.Edge(operations.SKIP, 1, called[source]))
    return Block(tuple(nodes), tuple(edges), tuple(called[n] for n in parts))

  def _node(self, n, start):
    unit = self.units[n]
    stride = unit.stride // start.stride
    ways = [edge.paddings for edge in unit.edges if edge.stride > 1]
    common = [way for way in records.PADDINGS if all(way in w for w in ways)]
    if not common:
      raise self._refuse(n, "what is added up is padded in two ways")
    return Node(unit.width, stride, unit.activation, unit.norm is not None,
                fixed=any(edge.kind == "fixed" for edge in unit.edges) or (
                    unit.norm is not None and all(
                        edge.kind == "skip" for edge in unit.edges)),
                padding=common[0])

  def _operation(self, n, edge, source):
    """The name of an edge's operation."""
    unit, before = self.units[n], self.units[edge.source]
    kind, k = edge.kind, edge.kernel
    if kind == "skip":
      return operations.SKIP
    if kind == "squeeze":
      return "squeeze_excite"
    if kind == "fixed":
      name, paths = flax_fixed.register(
          self.program, edge.region, ".".join(edge.path) or self.name,
          (before.size, unit.size), (before.width, unit.width), edge.stride)
      self.fixed_paths[name] = paths
      return name
    if edge.stride not in (1, 2) or (edge.stride == 1 and k == 2):
      raise self._refuse(n, f"it strides by {edge.stride}", edge)
    if unit.size != primitives.output_size(before.size, edge.stride):
      raise self._refuse(
          n, f"it leaves {unit.size} of {before.size} pixels a side", edge)
    if k not in _KERNELS.get(kind, (k,)):
      raise self._refuse(n, f"its window is {k}x{k}", edge)
    if kind in flax_units.CONVOLUTIONS:
      bare = edge.norm is None and not self.biased
      if bare and not (
          kind == "conv" and k == 1 and "bias" not in edge.weights):
        raise self._refuse(n, "no BN follows it, as others", edge)
      if bare:
        return "plain_conv_1x1"
    if kind == "conv" and k == 1 and edge.source == source and (
        len(unit.edges) > 1 and (edge.stride, unit.width) != (
            1, before.width)):
      return operations.SKIP  # Across a change of shape, a projection.
    named = {"depthwise": "depthwise_conv", "group": f"group{edge.groups}_conv"}
    return f"{named.get(kind, kind)}_{k}x{k}"

  def _refuse(self, n, reason, edge=None):
    """That an edge, or the last of a unit, is to be a fixed operation."""
    item = edge or self.units[n].edges[-1] if self.units[n].edges else (
        self.units[n])
    error = flax_units.Inexpressible(item.path, reason)
    error.step = item.step
    return error

  def _weights(self, block, number, item, edge):
    """Writes down the variables of an operation on an edge."""
    path = (block, network_lib.edge_name(number, item.operation))
    if edge.kind == "fixed":
      for own in self.fixed_paths[item.operation]:
        kept = self.params if own[0] == "params" else self.stats
        kept[*path, ".".join(own[1:])] = self._arrays[own]
    elif edge.kind == "squeeze":
      for name in ("reduce", "restore"):
        kernel, bias = (edge.weights.get(f"{name}/{kind}") for kind in (
            "kernel", "bias"))
        assert kernel is not None
        self.params[*path, name, "conv", "kernel"] = kernel[None, None]
        self.params[*path, name, "bias"] = np.zeros(
            kernel.shape[1]) if bias is None else bias
    elif edge.weights:
      inside = {"depthwise": ("depthwise",), "conv": ("conv",)}.get(
          edge.kind, ())
      self.params[*path, *inside, "kernel"] = edge.weights["kernel"]
      if self.biased:
        self.params[*path, "norm", "bias"] = edge.weights.get(
            "bias", np.zeros(edge.weights["kernel"].shape[-1]))
      elif edge.norm is not None:
        self._norm((*path, "norm"), edge.norm)

  @functools.cached_property
  def _arrays(self):
    return dict(self.program.weights.values())

  def _compare(self, network, place, groups):
    """Refuses what would not be the module, in shapes or variables."""
    for i, (shapes, numbers) in enumerate(zip(
        shapes_lib.of(network, place), groups, strict=True)):
      unit = self.units[numbers[-1]]
      found = shapes.output.width, shapes.output.size
      if found != (unit.width, unit.size):
        self._wrong("/".join(unit.path), f"block {i} would give {found[0]}"
                    f" channels of {found[1]} pixels a side, and the module"
                    f" gives {unit.width} of {unit.size}")
    try:
      like = jax.eval_shape(functools.partial(
          network_lib.init, network_lib.module(network, place)),
                            jax.random.key(0))
    except Exception as e:  # Whatever a part of a user's module raises.
      raise errors.InputError(
          f"{self.name}: a part that no block expresses"
          f" ({', '.join(region.reason for region in self.regions)}) does not"
          f" run under jax.vmap: {errors.short(errors.cause(e), 300)}; change"
          " the module", "module") from e
    flat = flax.traverse_util.flatten_dict
    for kind, part in (("params", self.params), ("batch_stats", self.stats)):
      wanted = {path: leaf.shape for path, leaf in flat(like[kind]).items()}
      held = {path: leaf.shape for path, leaf in part.items()}
      if differs := sorted(wanted.items() ^ held.items()):
        self._wrong("/".join(differs[0][0]), "the network's variable and the"
                    f" module's differ ({differs[0][1]})")

  def _wrong(self, where, what):
    raise errors.InputError(
        f"{where or self.name}: {what}; write the network as blocks, and report"
        " this, which natjax should have seen before", "module")
