"""Reads a flax module as a network of blocks, with its weights.

`flax_program` traces the module and `flax_units` reads the program; here units
become the stem, the blocks and the head, and the module's variables those of
`network.Network`.

Blocks are cut where all of the image's course passes through one value. What
lies between two such places and branches is a block; what does not branch
belongs together where one of the module's own modules holds it. What leads up
to the first block is the stem, what follows the last one the head.
"""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple, NoReturn
import zlib

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
from natjax.networks import flax_batch, flax_nnx, flax_program, flax_units
from natjax.networks import network as network_lib
from natjax.networks.flax_program import Path
from natjax.operations import primitives

_FEW = 0.25  # Of convolutions without BN, which then are fixed operations.
_LAYER_KINDS = {"conv": "conv", "depthwise": "depthwise_conv",
                "max_pool": "max_pool", "avg_pool": "avg_pool",
                "global_pool": "global_pool", "flatten": "flatten",
                "linear": "linear"}
_MODULES = (*flax_units.CONVOLUTIONS, "linear")
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
      whether what a fixed operation gives of one depends on the other.
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
  if found.fixed:  # All else is done image by image.
    look = call, variables, jax.ShapeDtypeStruct(
        jnp.shape(example), jnp.result_type(example))
    if not flax_batch.apart(*look) and flax_batch.differ(*look):
      raise errors.InputError(
          f"{name}: two images have other logits together than each alone, by"
          f" one of {', '.join(sorted({part.path for part in found.fixed}))};"
          " let neither the other images nor their number matter for an image",
          "module")
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


@dataclasses.dataclass
class _Segment:
  """Units between two of which all others are read through."""

  units: list[int]
  scope: Path
  plain: bool


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

  def imported(self) -> Imported:
    stem, groups, head = self._parts()
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

  # Which units are what.

  def _parts(self):
    """The units of the stem, of every block, and of the head."""
    segments = self._segments()
    at = next((i for i, s in enumerate(segments) if (
        self._kind(s) in ("global_pool", "flatten", "linear"))), None)
    last = self.units[-1]
    if at is None or not all(s.plain for s in segments[at:]) or (
        self._kind(segments[-1]) != "linear" or last.activation != "none"
        or last.edges[0].norm):
      raise flax_units.Inexpressible(
          last.path, "the last step is no Dense classifier of one image's"
          " features")
    body, head = segments[:at], segments[at:]
    grouped = _grouped(body)
    loose = [len(g) == 1 and g[0].plain and not self._owned(g[0], body)
             for g in grouped]
    first, end = 0, len(grouped)
    if not all(loose) or any(self._kind(s) == "fixed" for s in body):
      while first < end and loose[first] and self._fits_layer(
          grouped[first][0]):
        first += 1
      # A convolution that widens for the head, but none over images.
      while end > first and loose[end - 1] and self._fits_layer(
          grouped[end - 1][0], most=1):
        end -= 1
      # What stands in blocks alone can be changed.
      if not any(edge.kind in flax_units.CONVOLUTIONS for group in grouped[
          first:end] for s in group for u in s.units
                 for edge in self.units[u].edges):
        first, end = 0, len(grouped)
    stem = [s.units[0] for g in grouped[:first] for s in g]
    blocks: list[list[int]] = []
    joins = False  # The block before, of loose segments.
    for group, alone in zip(grouped[first:end], loose[first:end], strict=True):
      units = [u for s in group for u in s.units]
      if alone and joins:
        blocks[-1] += units
      else:
        blocks.append(units)
      # A block of loose segments ends where the images become smaller.
      joins = alone and all(
          edge.stride == 1 for u in units for edge in self.units[u].edges)
    return stem, blocks, [
        s.units[0] for s in (*(s for g in grouped[end:] for s in g), *head)]

  def _segments(self):
    """The units but the image, cut where all pass through one."""
    uses = collections.Counter(
        source for unit in self.units for source in self._sources(unit))
    uses[len(self.units) - 1] += 1
    found, live, current = [], {0}, []
    for n, unit in enumerate(self.units[1:], 1):
      current.append(n)
      for source in self._sources(unit):
        uses[source] -= 1
        if not uses[source]:
          live.discard(source)
      live.add(n)
      if live == {n}:
        paths = [edge.path[:-1] if edge.kind in _MODULES else edge.path
                 for u in current for edge in self.units[u].edges] or [
                     unit.path]
        found.append(_Segment(current, _common(paths), (
            len(current) == 1 and len(unit.edges) == 1)))
        current = []
    return found

  def _sources(self, unit):
    return [edge.source for edge in unit.edges] + [*unit.parts]

  def _kind(self, segment):
    return self.units[segment.units[0]].edges[0].kind if segment.plain else ""

  def _owned(self, segment, body):
    """Whether a module holds a segment with others, or it is no layer."""
    return segment.scope != () and any(
        other is not segment and not other.plain
        and other.scope == segment.scope for other in body)

  def _fits_layer(self, segment, most=None):
    """Whether a layer can be it, whose window is no larger than `most`."""
    unit = self.units[segment.units[0]]
    edge = unit.edges[0]
    if edge.kind == "skip":
      return unit.norm is not None
    if edge.kernel > (most or edge.kernel) or (
        edge.norm and unit.norm):  # A layer has one BN.
      return False
    if unit.size and unit.size != primitives.output_size(
        self.units[edge.source].size, edge.stride):
      return False
    return edge.kind in _LAYER_KINDS and (
        unit.norm is None or edge.kind in flax_units.CONVOLUTIONS)

  # Layers.

  def _layer(self, number, called, last=False):
    unit = self.units[number]
    edge, norm = unit.edges[0], unit.norm or unit.edges[0].norm
    if edge.kind == "skip":
      self._norm((called, "norm"), norm)
      return Layer("norm", activation=unit.activation)
    kind, weights = _LAYER_KINDS[edge.kind], edge.weights
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
    before = {s for n in numbers for s in self._sources(self.units[n])} - {
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
      return self._fixed(unit, edge)
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
      for own in self._fixed_paths[item.operation]:
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

  # Fixed operations.

  @functools.cached_property
  def _fixed_paths(self) -> dict[str, tuple[Path, ...]]:
    """Of every fixed operation, by its name, the paths of its variables."""
    return {}

  def _fixed(self, unit, edge):
    """The name of a fixed operation, which is known from then on."""
    run, paths, jaxpr = self.program.part(edge.region)
    arrays = [self._arrays[path] for path in paths]
    content = zlib.crc32("\n".join([str(jaxpr), *map(str, paths), *(
        _content(c) for c in self.program.constants.values())]).encode())
    where = ".".join(edge.path) or self.name
    name = f"fixed_{where}_{content:08x}".lower().replace("/", ".")
    self._fixed_paths[name] = paths
    if name not in operations.names():
      params = sum(leaf.size for path, leaf in zip(
          paths, arrays, strict=True) if path[0] == "params")
      cost = operations.Cost(params, flax_program.convolutions(jaxpr))
      parts = tuple((path[0], ".".join(path[1:]), leaf.shape)
                    for path, leaf in zip(paths, arrays, strict=True))
      sizes, widths = zip(*((u.size, u.width) for u in (
          self.units[edge.source], unit)), strict=True)
      operations.register(operations.Operation(
          name, "fixed", 0, functools.partial(
              _FixedModule, name, run, parts, sizes, widths),
          lambda channels, size, stride, in_channels=None: cost,
          strides=(edge.stride,), widens=True,
          # Of other images it is refused when it runs.
          output_size=lambda size, stride: sizes[1] if size == sizes[0] else (
              primitives.output_size(size, stride))))
    return name

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


class _FixedModule(nn.Module):
  """A part of another module, as that was traced, in evaluation form.

  Attributes:
    called: its name.
    run: `(arrays, x)` of one image, [1, H, H, C].
    parts: collection, name and shape of each of the arrays.
    sizes: sides of what it takes and of what it gives, in pixels.
    widths: channels of both.
    features: channels of the result.
    stride: of the result.
    norm: not used: what it has of its own is in `run`.
  """

  called: str
  run: Any
  parts: tuple[tuple[str, str, tuple[int, ...]], ...]
  sizes: tuple[int, int]
  widths: tuple[int, int]
  features: int
  stride: int
  norm: operations.NormFactory

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    before, after = self.sizes
    if (x.shape[-1], self.features) != self.widths:
      raise errors.InputError(
          f"{self.called} takes {self.widths[0]} channels and gives"
          f" {self.widths[1]}, and is given {x.shape[-1]} for {self.features};"
          " keep the network's width", "width")
    if x.shape[1] != before:
      raise errors.InputError(
          f"{self.called} takes images of {before} pixels a side and is given"
          f" {x.shape[1]}; keep to the image size of the module's example",
          "image_size")
    arrays = []
    for kind, name, shape in self.parts:
      draw = functools.partial(_drawn, name, shape)
      arrays.append(
          self.param(name, draw) if kind == "params" else
          self.variable("batch_stats", name, draw, None).value)
    whole = jax.vmap(lambda image: self.run(arrays, image[None])[0])
    y = whole(x.astype(jnp.float32)).astype(x.dtype)
    return y.reshape(x.shape[0], after, after, self.features)


def _content(constant):
  """The bytes of a constant, which may be a key, in words."""
  if jnp.issubdtype(constant.dtype, jax.dtypes.prng_key):
    constant = jax.random.key_data(constant)
  return np.asarray(constant).tobytes().hex()


def _drawn(name, shape, rng):
  """How a variable of a fixed operation begins where no weights are given."""
  if name.rpartition(".")[2] in ("scale", "var"):
    return jnp.ones(shape)
  if len(shape) < 2 or rng is None:
    return jnp.zeros(shape)
  return nn.initializers.lecun_normal()(rng, shape)


def _grouped(segments: Sequence[_Segment]) -> list[list[_Segment]]:
  """Segments that are blocks together: plain ones of one module.

  Of several modules around it that hold more than one such neighbour, the
  innermost counts.
  """
  found: list[list[_Segment]] = []
  owner: list[Path | None] = []
  i = 0
  while i < len(segments):
    end = i
    while end < len(segments) and segments[end].plain:
      end += 1
    run = segments[i:end]
    taken: list[Path | None] = [None] * len(run)
    depths = range(max((len(s.scope) for s in run), default=0), 0, -1)
    for depth in depths:
      inside = collections.Counter(
          s.scope[:depth] for s, t in zip(run, taken, strict=True)
          if t is None and len(s.scope) >= depth)
      for n, s in enumerate(run):
        if taken[n] is None and len(s.scope) >= depth and (
            inside[s.scope[:depth]] > 1):
          taken[n] = s.scope[:depth]
    for s, t in zip(run, taken, strict=True):
      if t is not None and owner and owner[-1] == t:
        found[-1].append(s)
      else:
        found.append([s])
      owner.append(t) if len(found) > len(owner) else None
    if end < len(segments):
      found.append([segments[end]])
      owner.append(None)
      end += 1
    i = end
  return found


def _common(paths: Sequence[Path]) -> Path:
  """The longest beginning that paths share."""
  first = paths[0]
  for n, part in enumerate(first):
    if any(len(path) <= n or path[n] != part for path in paths):
      return first[:n]
  return first
