"""Units of a flax module's program: what nodes of a network of blocks can be.

A unit is a sum of operations, each of an earlier unit, then maybe BN and an
activation, as a node is. Units are read in the program's order. What no unit
can express becomes an operation of its own, "fixed", with what surrounds it, as
far as one image leads into that and one value out of it.
"""

import collections
from collections.abc import Sequence
import dataclasses
import math
from typing import Any

from jax.extend import core
import numpy as np

from natjax.networks import flax_program
from natjax.networks.flax_program import Path
from natjax.operations import primitives

CONVOLUTIONS = ("conv", "depthwise", "group")
_VECTOR = ("global_pool", "flatten", "linear")
_SAME = ("convert_element_type", "copy", "copy_p", "stop_gradient",
         "optimization_barrier")


@dataclasses.dataclass
class Edge:
  """An operation of an earlier unit.

  Attributes:
    kind: "conv", "depthwise", "group", "max_pool", "avg_pool", "skip",
      "squeeze", "global_pool", "flatten", "linear" or "fixed".
    source: number of the unit.
    path: of the module that is it, or in which it stands.
    kernel: side of the window.
    stride: of the window.
    paddings: the ways of `primitives.sides` that it could be padded by.
    groups: of channels.
    weights: "kernel" and "bias", if any.
    norm: "scale", "bias", "mean", "var" and "epsilon" of a BN that follows.
    region: of "fixed".
    step: number of the program's step that made it.
  """

  kind: str
  source: int
  path: Path
  kernel: int = 1
  stride: int = 1
  paddings: tuple[str, ...] = ("symmetric", "same")
  groups: int = 1
  weights: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  norm: dict[str, Any] | None = None
  region: flax_program.Region | None = None
  step: int | None = None


@dataclasses.dataclass
class Unit:
  """A sum of operations, BN, activation; or a concatenation of units.

  Attributes:
    edges: the operations; of the image, none.
    width: channels.
    size: side of the image; 0 of features.
    stride: how many times smaller than the image it is.
    norm: as of `Edge`, of a BN after the sum.
    activation: as of `records.Node`.
    parts: numbers of the units that are concatenated.
    path: of the module in which it stands.
    step: number of the program's step that made it.
  """

  edges: list[Edge]
  width: int
  size: int
  stride: int
  norm: dict[str, Any] | None = None
  activation: str = "none"
  parts: tuple[int, ...] = ()
  path: Path = ()
  step: int | None = None


class Inexpressible(Exception):
  """A step or a unit is nothing that a network of blocks has.

  Attributes:
    path: where.
    reason: in words.
    step: number of the step, if it is one.
  """

  step: int | None = None

  def __init__(self, path: Path, reason: str):
    super().__init__(reason)
    self.path, self.reason = path, reason


@dataclasses.dataclass
class _Sum:
  """A unit that is not finished; its value has one reader."""

  unit: Unit

  @property
  def open(self) -> bool:
    """Whether BN and an activation can still become the unit's."""
    return not self.unit.parts and not isinstance(self, _Activated)


@dataclasses.dataclass
class _Pooled:
  """A sum over windows, which is still to be divided by their sizes."""

  edge: Edge
  count: float
  shape: tuple[int, int]  # Channels and side of what comes out.


@dataclasses.dataclass
class _Gate:
  """A sigmoid of a unit of features."""

  source: int


@dataclasses.dataclass
class _Padded:
  """A unit's images between zeros."""

  source: int
  low: int
  high: int


class Units:
  """The units of a program.

  Attributes:
    units: in order; the first is the image.
  """

  def __init__(self, program: flax_program.Program):
    """Args:
      program: to read.
    """
    self._program, self._biased = program, False
    self._regions: Sequence[flax_program.Region] = ()
    size = program.image.aval.shape[1]
    self.units = [Unit([], 3, size, 1)]
    self._values: dict[Any, Any] = {program.image: 0}
    self._uses = collections.Counter(
        v for step, moves in zip(program.steps, program.moving, strict=True)
        if moves for v in step.equation.invars if not isinstance(
            v, core.Literal))
    self._uses[program.logits] += 1
    self._converted = {
        step.equation.outvars[0]: step.equation.invars[0]
        for step, moves in zip(program.steps, program.moving, strict=True)
        if not moves and step.equation.primitive.name == "convert_element_type"}

  def read(self, *, biased: bool,
           regions: Sequence[flax_program.Region]) -> list[Unit]:
    """Reads the program; returns the units.

    Args:
      biased: whether convolutions have a bias and no BN of their own, so that
        a BN is the unit's.
      regions: what are fixed operations.

    Raises:
      Inexpressible: a step that is not in any of these.
    """
    self._biased, self._regions = biased, regions
    del self.units[1:]
    self._values = {self._program.image: 0}
    self._read()
    return self.units

  def _read(self):
    results = {region.result: region for region in self._regions}
    inside = {i for region in self._regions for i in region.steps}
    for i, step in enumerate(self._program.steps):
      if i in inside:
        for v in step.equation.outvars:
          if v in results:
            self._values[v] = self._fixed(results[v])
      elif self._program.moving[i]:
        try:
          self._step(step)
        except Inexpressible as e:
          e.step = i
          if step.function:
            e.reason = f"'{step.function}' is no operation of a block" + (
                "; give logits" * (step.function in (
                    "log_softmax", "softmax")))
          raise
        self._number(self._values[step.equation.outvars[0]], i)
    logits = self._values[self._program.logits]
    if not isinstance(logits, int | _Sum):
      raise Inexpressible((), "its result is half of an operation")
    self._finish(logits)

  def _number(self, value, i):
    """Writes a step's number into what it has made."""
    if isinstance(value, int | _Sum):
      unit = self._unit_of(value)
      for item in (unit, *unit.edges):
        item.step = i if item.step is None else item.step

  def images(self) -> list[Any]:
    """The variables of images that were read."""
    return [v for v, value in self._values.items() if isinstance(
        value, int | _Sum) and len(v.aval.shape) == 4 and _shape(v)[1] and (
            self._unit_of(value).size > 0 and flax_program.is_float(v))]

  def _fixed(self, region):
    source = self._finish(self._values[region.given])
    self._values[region.given] = source
    width, size = _shape(region.result)
    size = size or 1
    before = self.units[source]
    step = max(before.size // size, 1)
    return self._finish(_Sum(Unit(
        [Edge("fixed", source, region.path, stride=step, region=region)], width,
        size, before.stride * step, path=region.path)))

  # One step.

  def _step(self, step):
    out = step.equation.outvars[0]
    if step.layer is not None:
      value = self._layer(step)
    else:
      name = step.equation.primitive.name
      method: Any = self._first if name in _SAME else getattr(
          self, f"_on_{name}", None)
      if method is None:
        raise Inexpressible(step.path, f"'{name}' is no operation of a block")
      value = method(step)
    if isinstance(value, _Sum) and self._uses[out] > 1:
      value = self._finish(value)
    self._values[out] = value

  def _value(self, v):
    return None if isinstance(v, core.Literal) else self._values.get(v)

  def _moving(self, step):
    """The values that a step is given of the image."""
    return [value for v in step.equation.invars
            if (value := self._value(v)) is not None]

  def _first(self, step):
    if not flax_program.is_wide(step.equation.outvars[0]):
      raise Inexpressible(step.path, "it rounds to few bits")
    return self._moving(step)[0]

  def _constant(self, step):
    """The one number that a step is given beside the image."""
    found = [self._known(v) for v in step.equation.invars
             if self._value(v) is None]
    if len(found) != 1 or found[0] is None or np.size(found[0]) != 1:
      return None
    return float(np.asarray(found[0]).reshape(()))

  def _known(self, v):
    """The value of a constant, maybe of another dtype; None if it is none."""
    if isinstance(v, core.Literal):
      return v.val
    if v in self._converted:
      value = self._known(self._converted[v])
      return None if value is None else np.asarray(value, v.aval.dtype)
    return self._program.constants.get(v)

  def _finish(self, value):
    """The number of the unit that a value is."""
    if isinstance(value, int):
      return value
    if not isinstance(value, _Sum):
      raise Inexpressible((), "half of an operation")
    self.units.append(value.unit)
    return len(self.units) - 1

  def _unit(self, step, which=0, *, images=True):
    """The number of the unit that a step is given."""
    value = self._moving(step)[which]
    if not isinstance(value, int | _Sum):
      raise Inexpressible(step.path, "it follows half of an operation")
    number = self._finish(value)
    if isinstance(value, _Sum):
      for v in step.equation.invars:
        if self._value(v) is value:
          self._values[v] = number
    if images and not self.units[number].size:
      raise Inexpressible(step.path, "it follows the images' end")
    return number

  def _made(self, edge, width, size, stride=None, **options):
    source = self.units[edge.source]
    return _Sum(Unit([edge], width, size, source.stride * (
        edge.stride if stride is None else stride), path=edge.path, **options))

  # Layers.

  def _layer(self, step):
    if step.layer.kind == "norm":
      return self._norm(step)
    given = self._moving(step)
    if len(given) != 1:
      raise Inexpressible(step.path, "its weights depend on the images")
    weights = {}
    for v in step.equation.invars:
      if v in self._program.weights:
        path, array = self._program.weights[v]
        weights[path[-1]] = np.asarray(array, np.float32)
    known = {"kernel", "bias"} if step.layer.use_bias else {"kernel"}
    product = flax_program.product(step)
    if set(weights) != known or product is None:
      raise Inexpressible(step.path, "it computes more than its kind of layer")
    width, size = _shape(step.equation.outvars[0])
    if len(step.equation.outvars[0].aval.shape) not in (2, 4) or (
        weights["kernel"].ndim != (2 if step.layer.kind == "dense" else 4)):
      raise Inexpressible(step.path, "it is given neither images nor features")
    if step.layer.kind == "dense":
      source = self._unit(step, images=False)
      if not (size and self.units[source].size):
        edge = Edge("linear", source, step.path, weights=weights)
        return self._made(edge, width, 0, 1)
      weights["kernel"] = weights["kernel"][None, None]
      return self._made(
          Edge("conv", source, step.path, weights=weights), width, size)
    if isinstance(given[0], int | _Sum) and not self._unit_of(
        given[0]).size and weights["kernel"].shape[:2] == (1, 1):
      weights["kernel"] = weights["kernel"][0, 0]
      edge = Edge("linear", self._unit(step, images=False), step.path,
                  weights=weights)
      return self._made(edge, width, 0, 1)
    return self._convolution(
        step, given[0], weights, product.params, width, size)

  def _convolution(self, step, given, weights, found, width, size):
    low = high = 0
    if isinstance(given, _Padded):
      source, low, high = given.source, given.low, given.high
    else:
      source = self._unit(step)
    before, groups = self.units[source], found["feature_group_count"]
    kernel, strides = weights["kernel"].shape[:2], found["window_strides"]
    pads = [(a + low, b + high) for a, b in found["padding"]]
    if len(set(kernel)) > 1 or len(set(strides)) > 1 or len(set(pads)) > 1 or (
        size is None):
      raise Inexpressible(step.path, "its window, its strides or its padding"
                          " differ along the two sides")
    if set(found["rhs_dilation"]) != {1} or set(found["lhs_dilation"]) != {1}:
      raise Inexpressible(step.path, "it is dilated")
    kind = ("conv" if groups == 1 else "depthwise" if groups == before.width
            == width else "group")
    if kind == "group" and (kernel[0] > 1 or groups not in (2, 4, 8)):
      raise Inexpressible(
          step.path, f"it is a convolution {kernel[0]}x{kernel[0]} in {groups}"
          f" groups of {before.width} channels")
    if kind == "depthwise" and kernel[0] not in (3, 5, 7):
      raise Inexpressible(
          step.path, f"it is a depthwise convolution {kernel[0]}x{kernel[0]}")
    edge = Edge(kind, source, step.path, kernel[0], strides[0], groups=groups,
                weights=weights)
    edge.paddings = self._paddings(step, edge, pads[0], size)
    return self._made(edge, width, size)

  def _paddings(self, step, edge, pads, size):
    """Which ways of padding an edge could have."""
    before = self.units[edge.source].size
    ways = tuple(
        way for way in ("symmetric", "same") if primitives.sides(
            way, before, edge.kernel, edge.stride)[0] == pads[0]
        and size == _windows(before, edge, primitives.sides(
            way, before, edge.kernel, edge.stride)))
    if not ways:
      raise Inexpressible(step.path, f"it is padded by {list(pads)}")
    return ways

  def _norm(self, step):
    path, layer = step.path, step.layer
    held = {}
    for v in step.equation.invars:
      if v in self._program.weights:
        own, array = self._program.weights[v]
        held[own[-1]] = np.asarray(array, np.float64)
    given = self._moving(step)
    if len(given) != 1 or layer.axis not in ((-1,), (3,)) or not (
        {"mean", "var"} <= set(held)):
      raise Inexpressible(path, "it does not normalise channels")
    if any(v not in self._program.weights and v.aval.ndim < 2
           and v not in self._program.constants for v in step.equation.invars
           if not isinstance(v, core.Literal)):
      raise Inexpressible(path, "what it normalises by is computed")
    width = len(held["mean"])
    norm = {"scale": np.ones(width), "bias": np.zeros(width), **held,
            "epsilon": layer.epsilon}
    value = given[0]
    if isinstance(value, _Sum) and value.open:
      edge = value.unit.edges[0]
      fits = len(value.unit.edges) == 1 and edge.norm is None and (
          value.unit.norm is None)
      if fits and (edge.kind == "linear" or (
          edge.kind in CONVOLUTIONS and not self._biased)):
        edge.norm = _absorbed(norm, edge)
        return value
      if value.unit.norm is None and value.unit.size:
        value.unit.norm = norm
        return value
    number = self._unit(step)
    return self._made(Edge("skip", number, path), width, _shape(
        step.equation.outvars[0])[1], norm=norm)

  # What stands between layers, by the names of jax's primitives.

  def _on_max(self, step):
    if len(self._moving(step)) != 1 or self._constant(step) != 0:
      raise Inexpressible(step.path, "it is a maximum and no ReLU")
    value, = self._moving(step)
    if isinstance(value, _Sum) and value.open:
      value.unit.activation = "relu"
      return _Activated(value.unit)
    number = self._unit(step, images=False)
    if not self.units[number].size:
      raise Inexpressible(step.path, "a ReLU follows features that others read")
    unit = self._copied(number, step.path).unit
    unit.activation = "relu"
    return _Activated(unit)

  def _copied(self, number, path):
    unit = self.units[number]
    return self._made(Edge("skip", number, path), unit.width, unit.size)

  def _on_min(self, step):
    values = self._moving(step)
    if len(values) != 1 or self._constant(step) != 6 or not isinstance(
        values[0], _Activated):
      raise Inexpressible(step.path, "it is a minimum and no ReLU6")
    values[0].unit.activation = "relu6"
    return values[0]

  def _on_add(self, step):
    values = self._moving(step)
    if len(values) != 2 or len({v.aval.shape for v in (
        *step.equation.invars, *step.equation.outvars)}) > 1:
      raise Inexpressible(step.path, "it adds what are not two images")
    edges, units = [], []
    for n in range(2):
      value = self._moving(step)[n]
      if isinstance(value, _Sum) and value.open and (
          value.unit.norm is None and value.unit.size):
        units.append(value.unit)
        edges += value.unit.edges
      else:
        number = self._unit(step, n)
        units.append(self.units[number])
        edges.append(Edge("skip", number, step.path))
    unit, _ = units
    if unit.stride != units[1].stride:
      raise Inexpressible(step.path, "it adds images that came to their size by"
                          " different strides")
    return _Sum(Unit(edges, unit.width, unit.size, unit.stride, path=step.path))

  _on_add_any = _on_add

  def _on_concatenate(self, step):
    values = self._moving(step)
    if len(values) != len(step.equation.invars) or (
        step.equation.params["dimension"] != 3):
      raise Inexpressible(step.path, "it does not concatenate channels")
    parts = tuple(self._unit(step, n) for n in range(len(values)))
    if len(set(parts)) < len(parts):
      raise Inexpressible(step.path, "it concatenates an image with itself")
    first = self.units[parts[0]]
    if len({self.units[p].stride for p in parts}) > 1:
      raise Inexpressible(step.path, "it concatenates images that came to their"
                          " size by different strides")
    return _Sum(Unit([], sum(self.units[p].width for p in parts), first.size,
                     first.stride, parts=parts, path=step.path))

  def _on_reduce_sum(self, step):
    if tuple(step.equation.params["axes"]) != (1, 2):
      raise Inexpressible(step.path, "it sums up other axes than the image's")
    number = self._unit(step)
    unit = self.units[number]
    edge = Edge("global_pool", number, step.path)
    return _Pooled(edge, float(unit.size**2), (unit.width, 0))

  def _on_reduce_window_sum(self, step):
    edge, pads, size = self._window(step, "avg_pool")
    source = self.units[edge.source]
    if edge.kernel == source.size and size == 1 and not pads[0]:
      edge = Edge("global_pool", edge.source, step.path)
      return _Pooled(edge, float(source.size**2), (source.width, 0))
    last = (size - 1) * edge.stride + edge.kernel - pads[0]
    if pads[0] or last > source.size:
      raise Inexpressible(step.path, "it is an average over padding, too")
    edge.paddings = self._paddings(step, edge, pads, size)
    return _Pooled(edge, float(edge.kernel**2), (source.width, size))

  def _on_reduce_window_max(self, step):
    edge, pads, size = self._window(step, "max_pool")
    edge.paddings = self._paddings(step, edge, pads, size)
    return self._made(edge, self.units[edge.source].width, size)

  def _window(self, step, kind):
    number = self._unit(step)
    found = step.equation.params
    windows, strides = (set(found[name][1:3]) for name in (
        "window_dimensions", "window_strides"))
    pads = set(found["padding"][1:3])
    size = _shape(step.equation.outvars[0])[1]
    if max(map(len, (windows, strides, pads))) > 1 or size is None or (
        {*found["base_dilation"], *found["window_dilation"]} != {1}):
      raise Inexpressible(step.path, "its window is not square")
    kernel, = windows
    stride, = strides
    return Edge(kind, number, step.path, kernel, stride), pads.pop(), size

  def _on_div(self, step):
    value = self._moving(step)[0]
    by = self._constant(step)
    if not isinstance(value, _Pooled) or by is None or not np.isclose(
        by, value.count) or self._value(step.equation.invars[1]) is not None:
      raise Inexpressible(step.path, "it is a quotient and no mean")
    return self._mean(value)

  def _on_mul(self, step):
    values = self._moving(step)
    gates = [v for v in values if isinstance(v, _Gate)]
    if len(values) == 2 and len(gates) == 1:
      return self._squeezed(step, gates[0])
    by = self._constant(step)
    if len(values) != 1 or by is None or not isinstance(
        values[0], _Pooled) or not np.isclose(by * values[0].count, 1):
      raise Inexpressible(step.path, "it is a product, and neither a mean nor"
                          " squeeze-and-excitation as natjax has it")
    return self._mean(values[0])

  def _mean(self, pooled):
    width, size = pooled.shape
    return self._made(
        pooled.edge, width, size, pooled.edge.stride if size else 1)

  def _on_logistic(self, step):
    number = self._unit(step, images=False)
    if self.units[number].size:
      raise Inexpressible(step.path, "it is a sigmoid of images")
    return _Gate(number)

  def _squeezed(self, step, gate):
    """Squeeze-and-excitation: mean, linear, ReLU, linear, sigmoid, product."""
    other, = [n for n, v in enumerate(self._moving(step))
              if not isinstance(v, _Gate)]
    source = self._unit(step, other)
    chain: list[Unit] = []
    number = gate.source
    while number != source and len(chain) < 3 and len(
        self.units[number].edges) == 1:
      chain.insert(0, self.units[number])
      number = chain[0].edges[0].source
    width = self.units[source].width
    last = gate.source == len(self.units) - 1
    if number != source or not last or [(
        u.edges[0].kind, u.activation, u.width, u.edges[0].norm) for u in chain
                             ] != [
        ("global_pool", "none", width, None),
        ("linear", "relu", max(width // 4, 1), None),
        ("linear", "none", width, None)]:
      raise Inexpressible(
          step.path, "it is no squeeze-and-excitation to a quarter of the"
          " channels with a ReLU")
    if any(self._uses[v] > 1 for v, value in self._values.items()
           if value is gate or (isinstance(value, int) and (
               value >= len(self.units) - 3))):
      raise Inexpressible(step.path, "parts of its squeeze-and-excitation are"
                          " read elsewhere")
    del self.units[-3:]
    self._values = {  # Of what is no unit any more nothing is read.
        v: value for v, value in self._values.items() if value is not gate
        and not (isinstance(value, int) and value >= len(self.units))}
    weights = {
        f"{name}/{kind}": array for name, unit in zip(
            ("reduce", "restore"), chain[1:], strict=True)
        for kind, array in unit.edges[0].weights.items()}
    return self._made(Edge("squeeze", source, step.path, weights=weights),
                      width, self.units[source].size)

  def _on_pad(self, step):
    number = self._unit(step)
    config = step.equation.params["padding_config"]
    if self._constant(step) != 0 or config[0] != (0, 0, 0) or (
        config[3] != (0, 0, 0) or config[1] != config[2] or config[1][2]
        or min(config[1]) < 0):
      raise Inexpressible(step.path, "it pads unlike a convolution")
    return _Padded(number, *config[1][:2])

  def _on_reshape(self, step):
    (before, after), value = (v.aval.shape for v in (
        step.equation.invars[0], step.equation.outvars[0])), (
            self._moving(step)[0])
    axes = step.equation.params.get("broadcast_dimensions", (len(after) - 1,))
    if before == after:
      return value
    if isinstance(value, _Gate) or not self._side(value):
      # Of features, whether [1, C] or [1, 1, 1, C].
      if before[-1] != after[-1] or axes[-1:] != (len(after) - 1,):
        raise Inexpressible(step.path, "it moves features to another axis")
      # A product with the images broadcasts a gate anyway.
      if isinstance(value, _Gate) or math.prod(before) == math.prod(after):
        return value
    if len(after) != 2 or after[0] != 1:
      raise Inexpressible(step.path, "it reshapes images")
    number = self._unit(step)
    return self._made(Edge("flatten", number, step.path), after[1], 0, 1)

  _on_squeeze = _on_broadcast_in_dim = _on_expand_dims = _on_reshape

  def _side(self, value):
    """Of the images that a value is, in pixels; 0 of features."""
    if isinstance(value, _Pooled):
      return value.shape[1]
    return self._unit_of(value).size if isinstance(value, int | _Sum) else None

  def _unit_of(self, value):
    return self.units[value] if isinstance(value, int) else value.unit


class _Activated(_Sum):
  """A unit whose activation is known; a ReLU may still become a ReLU6."""


def _shape(v):
  """Channels and side of a variable's images; side 0 of features, None of none.
  """
  shape = v.aval.shape
  if len(shape) == 4:
    return shape[3], shape[1] if shape[1] == shape[2] else None
  return shape[-1], 0


def _windows(size, edge, pads):
  return (size + sum(pads) - edge.kernel) // edge.stride + 1


def _absorbed(norm, edge):
  """A BN that follows a convolution with a bias, without that."""
  bias = edge.weights.pop("bias", None)
  return norm if bias is None else {**norm, "mean": norm["mean"] - bias}
