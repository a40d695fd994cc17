"""The program of a flax module, with its layers as one equation each.

A module is called on the shape of one image; nothing is computed. Its
convolutions, dense layers and batch normalisations, wherever they are called,
become calls of functions that are named by their paths, so that what stands
between them is all that the program must tell. Calls of other functions are
written out. Modules of linen are heard through its interceptors, those of nnx
as `flax_nnx` says.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
import functools
import inspect
import re
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax
from jax.extend import core
from jax.interpreters import partial_eval
import jax.numpy as jnp
import numpy as np

from natjax import errors

Path = tuple[str, ...]
LAYERS = {nn.Conv: "conv", nn.Dense: "dense", nn.BatchNorm: "norm"}
_MARK = "natjax layer "
_OFF = {"train": False, "training": False, "is_training": False,
        "deterministic": True, "use_running_average": True}
_INLINED = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat",
            "remat2")


class Layer(NamedTuple):
  """A module that is a layer.

  Attributes:
    kind: "conv", "dense" or "norm", which is BN.
    use_bias: whether one is added.
    axis: of BN, those that are not normalised over; () of others.
    epsilon: of BN; 0 of others.
  """

  kind: str
  use_bias: bool
  axis: tuple[int, ...] = ()
  epsilon: float = 0.0

  @classmethod
  def of(cls, kind: str, module: Any) -> "Layer":
    """Reads a module of linen or nnx, which call these alike."""
    if kind != "norm":
      return cls(kind, module.use_bias)
    axis = module.axis if isinstance(module.axis, tuple) else (module.axis,)
    return cls(kind, module.use_bias, axis, float(module.epsilon))


# Layers and their paths, by what calls of them are named.
Layers = dict[str, tuple[Layer, Path]]


class Step(NamedTuple):
  """An equation of a program.

  Attributes:
    equation: as it was traced.
    layer: what it is the whole of, or None.
    path: of that, or of the module in which it stands.
    function: name of jax's or flax's function in which it stands, as "gelu".
  """

  equation: Any
  layer: Layer | None
  path: Path
  function: str = ""


class Region(NamedTuple):
  """Steps that one value leads into, and one value out of.

  Attributes:
    steps: their numbers, all of them moving.
    given: the variable of the first.
    result: that of the second.
    path: of the step for which it was found.
    reason: why that cannot stand by itself, in words.
  """

  steps: frozenset[int]
  given: Any
  result: Any
  path: Path
  reason: str


class Program(NamedTuple):
  """A module's program for one image.

  Attributes:
    steps: in order; calls of functions are written out, but for layers.
    image: the variable of the image f32[1, S, S, 3].
    logits: of the result f32[1, K].
    weights: by variable the path and the array of each of the module's
      variables of floating-point numbers.
    constants: other values by variable.
    moving: of `steps`, whether each depends on the image.
    debug_info: of the traced program, as jaxprs need it.
  """

  steps: tuple[Step, ...]
  image: Any
  logits: Any
  weights: dict[Any, tuple[Path, np.ndarray]]
  constants: dict[Any, Any]
  moving: tuple[bool, ...]
  debug_info: Any

  def part(self, region: "Region"
           ) -> tuple[Callable[..., jax.Array], tuple[Path, ...], Any]:
    """A function of its own: the steps of a region.

    Args:
      region: which.

    Returns:
      `(arrays of weights, x)`, the paths of the weights, and the jaxpr.
    """
    given = region.given
    steps = [step.equation for i, step in enumerate(self.steps) if (
        not self.moving[i] or i in region.steps)]
    variables = [*self.weights, *self.constants, given]
    whole = core.Jaxpr((), variables, [region.result], steps,
                       debug_info=self.debug_info)
    jaxpr, used = partial_eval.dce_jaxpr(whole, [True])
    used = [v for v, keep in zip(variables, used, strict=True) if keep]
    own = [v for v in used if v in self.weights]

    def run(arrays, x):
      known = {v: jnp.asarray(array, v.aval.dtype) for v, array in zip(
          [*own, given], [*arrays, x], strict=True)} | self.constants
      y, = jax.core.eval_jaxpr(jaxpr, (), *(known[v] for v in used))
      return y

    return run, tuple(self.weights[v][0] for v in own), jaxpr

  def region(self, steps: Sequence[int], images: Collection[Any],
             known: Sequence[Region], reason: str) -> Region | None:
    """The steps around some that can be an operation of images, or None.

    Args:
      steps: the numbers of these.
      images: variables of images before it, which the operation may be given.
      known: other regions, each of which it holds or leaves out.
      reason: see `Region`.
    """
    made = {v: i for i, s in enumerate(self.steps) if self.moving[i]
            for v in s.equation.outvars}
    readers: dict[Any, list[int]] = {}
    for i, s in enumerate(self.steps):
      for v in s.equation.invars:
        if _is_var(v) and (v in made or v is self.image):
          readers.setdefault(v, []).append(i)
    # The nearest first; each with what must be there for its sake.
    for given in sorted(images, key=lambda v: -made.get(v, -1)):
      inside: set[int] = set()
      wanted = [*steps]
      while wanted is not None:
        wanted = self._closed(inside, wanted, given, made, known)
        if wanted is None:
          break
        leads = {v for i in inside for v in self.steps[i].equation.outvars if (
            v is self.logits or {*readers.get(v, ())} - inside)}
        if self.logits in leads:
          break
        if len(leads) == 1:
          result, = leads
          shape = result.aval.shape
          if is_float(result) and shape[:1] == (1,) and (len(shape) == 2 or (
              len(shape) == 4 and shape[1] == shape[2])):
            return Region(frozenset(inside), given, result,
                          self.steps[steps[0]].path, reason)
        first = min(leads, key=lambda v: made[v])
        wanted = [i for i in readers[first] if i not in inside]
    return None

  def shared(self, regions: Sequence[Region]
             ) -> tuple[Path, int, int] | None:
    """The path of a variable that two places share, and a step of each.

    None if there is none.

    Args:
      regions: each of which is one place; every other step is another.
    """
    at = {i: region for region in regions for i in region.steps}
    users: dict[Any, int] = {}  # By variable the first step that reads it.
    made = {v: {v} for v in self.weights}  # Of which weights it is.
    for i, step in enumerate(self.steps):
      held = set().union(*(made.get(v, ()) for v in step.equation.invars if (
          _is_var(v))))
      if not self.moving[i]:
        made.update((v, held) for v in step.equation.outvars)
        continue
      for v in held:
        first = users.setdefault(v, i)
        if at.get(first, first) != at.get(i, i):
          return self.weights[v][0], first, i
    return None

  def _closed(self, inside, wanted, given, made, known):
    """Adds steps and all that lead from `given` to them; None if others do.

    Else it returns [].
    """
    wanted = [*wanted]
    while wanted:
      i = wanted.pop()
      if i in inside:
        continue
      inside.add(i)
      wanted += [j for region in known if i in region.steps
                 for j in region.steps]
      for v in self.steps[i].equation.invars:
        if _is_var(v) and v is not given:
          if v is self.image or made.get(v, len(made)) < made.get(given, -1):
            return None
          if v in made:
            wanted.append(made[v])
    return []


def shapes(module: nn.Module, example: Any) -> Any:
  """The shapes of the variables that a module's `init` gives.

  Args:
    module: which.
    example: images [B, S, S, 3], or their shape.

  Raises:
    InputError: it is no module, or `init` does not trace.
  """
  if not isinstance(module, nn.Module):
    raise errors.InputError(
        f"the module is of type {type(module).__name__} and must be a"
        " flax.linen.Module; make one", "module")
  try:
    return flax.core.meta.unbox(jax.eval_shape(
        functools.partial(module.init, **_off(module)), jax.random.key(0),
        jax.ShapeDtypeStruct(jnp.shape(example), jnp.result_type(example))))
  except Exception as e:  # Whatever a user's module raises.
    raise errors.InputError(
        f"{type(module).__name__}.init does not trace with the example:"
        f" {errors.short(errors.cause(e), 300)}; mend it", "module") from e


def calling(module: Any, options: Mapping[str, Any]) -> dict[str, Any]:
  """Options of a call, and what turns a training off in it, if it takes that.

  Args:
    module: that is called, or a method of which where "method" names it.
    options: that are given.
  """
  return _off(module, options.get("method")) | {**options}


def _off(module, method=None):
  """What turns a training off in a module's call, or in that of a method."""
  called = getattr(type(module), method, None) if isinstance(
      method, str) else method
  taken = inspect.signature(called if callable(called) else (
      type(module).__call__)).parameters
  return {name: value for name, value in _OFF.items() if name in taken}


def trace(module: nn.Module, variables: Any, example: Any,
          options: Mapping[str, Any]) -> Program:
  """Traces a module of linen.

  Args:
    module: which.
    variables: of it, by collections.
    example: images f32[B, S, S, 3], or their shape.
    options: of its call; what turns a training off is added where the call
      takes it (`train=False`, `deterministic=True` and the like).

  Raises:
    InputError: it is no module, does not trace with these, is called as in
      training, or its result is not f32[1, K].
  """
  if not isinstance(module, nn.Module):
    raise errors.InputError(
        f"the module is of type {type(module).__name__} and must be a"
        " flax.linen.Module or a flax.nnx.Module; make one", "module")
  if not isinstance(variables, Mapping) or "params" not in variables:
    raise errors.InputError(
        "the variables must be a dictionary with 'params', as module.init gives"
        f" it, and are {errors.short(variables)}; pass those", "variables")
  options = calling(module, options)
  leaves, form = jax.tree_util.tree_flatten_with_path(
      flax.core.meta.unbox(flax.core.unfreeze({**variables})))
  layers: Layers = {}

  def hear(call, args, kwargs, context):
    called, path = context.module, context.module.path
    if context.method_name != "__call__":
      return call(*args, **kwargs)
    kind = LAYERS.get(type(called))
    by_batch = kind == "norm" and not nn.merge_param(
        "use_running_average", called.use_running_average,
        kwargs.get("use_running_average"))
    layer = Layer.of(kind, called) if kind else None
    return heard(
        layers, path, layer, call, args, kwargs, by_batch=by_batch)

  def apply(arrays, image):
    with nn.intercept_methods(hear):
      return module.apply(jax.tree.unflatten(form, arrays), image, **options)

  return read(type(module).__name__, apply, [
      (tuple(map(_key, path)), leaf) for path, leaf in leaves], layers, example)


def heard(layers: Layers, path: Path, layer: Layer | None,
          call: Callable[..., Any], args: Sequence[Any],
          kwargs: Mapping[str, Any], *, by_batch: bool = False) -> Any:
  """Calls a module's function, as a function of its name if it is a layer.

  Args:
    layers: to which it is added.
    path: of the module.
    layer: what it is, or None.
    call: the function.
    args: of it.
    kwargs: of it.
    by_batch: whether it is a BN that normalises by the batch.

  Raises:
    InputError: it does.
  """
  if layer is None or len(args) != 1:
    with jax.named_scope(f"natjax:{'.'.join(path)}"):
      return call(*args, **kwargs)
  if by_batch:
    raise errors.InputError(
        f"{'/'.join(path)} normalises by the batch, as in training; pass what"
        " turns that off to from_flax, as train=False", "module")

  def whole(x):
    return call(x, **kwargs)

  mark = "/".join(part.replace("/", "%2F") for part in path)
  layers[mark] = layer, path
  whole.__name__ = _MARK + mark
  return jax.jit(whole)(*args)


def read(name: str, apply: Callable[..., Any],
         leaves: Sequence[tuple[Path, Any]], layers: Layers,
         example: Any) -> Program:
  """Traces a module as a function.

  Args:
    name: of its class.
    apply: `(arrays, image) -> logits`, which calls layers by `heard`.
    leaves: path and value of each of the arrays.
    layers: as `apply` fills them in.
    example: images f32[B, S, S, 3], or their shape.

  Raises:
    InputError: see `trace`.
  """
  shape, dtype = tuple(jnp.shape(example)), jnp.result_type(example)
  if len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3 or 0 in shape or (
      not jnp.issubdtype(dtype, jnp.floating)):
    raise errors.InputError(
        f"the example is {dtype}{list(shape)} and must be floating-point images"
        " [B, S, S, 3], square and of three channels; pass such a batch",
        "example")
  like = [jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype)
          for _, leaf in leaves]
  try:
    traced, result = jax.make_jaxpr(apply, return_shape=True)(
        like, jax.ShapeDtypeStruct((1, *shape[1:]), dtype))
  except errors.InputError:
    raise
  except Exception as e:  # Whatever a user's module raises.
    raise errors.InputError(
        f"{name} does not trace with its variables and an"
        f" example {dtype}{list(shape)}: {errors.short(errors.cause(e), 300)};"
        " see that it can be called with them", "module") from e
  if not isinstance(result, jax.ShapeDtypeStruct) or len(result.shape) != 2 or (
      result.shape[0] != 1):
    raise errors.InputError(
        f"{name} gives {errors.short(result)} for one image"
        " and must give logits [B, K]; wrap it in a module that does", "module")
  *arrays, image = traced.jaxpr.invars
  weights, constants = {}, dict(zip(
      traced.jaxpr.constvars, traced.consts, strict=True))
  for v, (path, leaf) in zip(arrays, leaves, strict=True):
    if is_float(v):
      weights[v] = path, leaf
    else:  # A table of indices, for example, which no training changes.
      constants[v] = leaf
  steps, (logits,) = _written_out(traced.jaxpr, layers, {}, ())
  steps = _used(steps, logits)
  seen, moving = {image}, []
  for step in steps:
    moves = any(_is_var(v) and v in seen for v in step.equation.invars)
    moving.append(moves)
    if moves:
      seen.update(step.equation.outvars)
  if logits not in seen:
    raise errors.InputError(
        f"what {name} gives does not depend on the images; see"
        " that its call returns what it computes of them", "module")
  return Program(
      tuple(steps), image, logits, weights, constants, tuple(moving),
      traced.jaxpr.debug_info.with_unknown_names())


def _key(part):
  """What a part of a path of `jax.tree_util` is called."""
  return str(getattr(part, "key", getattr(part, "idx", getattr(
      part, "name", part))))


def _usual(equation):
  """How flax's layers number the dimensions of a product."""
  if equation.primitive.name == "dot_general":
    return ((len(equation.invars[0].aval.shape) - 1,), (0,)), ((), ())
  image, kernel = (v.aval.shape for v in equation.invars)
  return jax.lax.conv_dimension_numbers(
      image, kernel, ("NHWC", "HWIO", "NHWC")) if len(image) == 4 else None


def is_wide(v: Any) -> bool:
  """Whether a variable is of floating-point numbers of 16 bits or more."""
  return is_float(v) and v.aval.dtype.itemsize > 1


def is_float(v: Any) -> bool:
  """Whether a variable is of floating-point numbers."""
  return jnp.issubdtype(v.aval.dtype, jnp.floating)


def _used(steps, result):
  """The steps that a result needs, without what is computed for nothing."""
  needed, found = {result}, []
  for step in reversed(steps):
    if needed & {*step.equation.outvars}:
      needed.update(v for v in step.equation.invars if _is_var(v))
      found.append(step)
  return found[::-1]


def _is_var(v):
  return not isinstance(v, core.Literal)


def _written_out(jaxpr, layers, names, scope, function=""):
  """The steps of a jaxpr, its calls written out, and its results' variables.

  Args:
    jaxpr: which.
    layers: by path.
    names: variables of the whole program by those of the jaxpr; of others,
      they are their own.
    scope: path of the module that calls.
    function: name of the function that calls.
  """
  steps: list[Step] = []
  rename = lambda v: names.get(v, v) if _is_var(v) else v
  for equation in jaxpr.eqns:
    path = _scope(equation) or scope
    called = equation.params.get("name")
    inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    given = [*map(rename, equation.invars)]
    fresh = equation.replace(
        invars=given, outvars=[*map(rename, equation.outvars)])
    if isinstance(called, str) and called.startswith(_MARK):
      steps.append(Step(fresh, *layers[called.removeprefix(_MARK)]))
      continue
    if inner is not None and (equation.primitive.name in _INLINED or (
        equation.primitive.name == "custom_jvp_call" and _is_clip(inner))):
      closed = isinstance(inner, core.ClosedJaxpr)
      body = inner.jaxpr if closed else inner
      if not body.constvars:
        # Every call has variables of its own, though its jaxpr may be shared.
        copy = {v: _new(v) for e in body.eqns for v in e.outvars}
        inside = called if isinstance(called, str) and re.fullmatch(
            r"[a-z]\w*", called) else function
        parts, results = _written_out(body, layers, copy | dict(zip(
            body.invars, given, strict=True)), path, inside)
        steps += parts
        names.update(zip(equation.outvars, results, strict=True))
        continue
    steps.append(Step(fresh, None, path, function))
  return steps, [*map(rename, jaxpr.outvars)]


def _new(v):
  return v if type(v).__name__ == "DropVar" else core.Var(v.aval)


def _is_clip(inner):
  """Whether a function holds nothing but maxima and minima (ReLU, ReLU6)."""
  body = getattr(inner, "jaxpr", inner)
  return all(
      e.primitive.name in ("max", "min") or (
          "jaxpr" in e.params and _is_clip(e.params["jaxpr"]))
      for e in body.eqns)


def _scope(equation):
  """The path of the module in which an equation stands; () is the whole."""
  stack = str(equation.source_info.name_stack)
  found = [part for part in stack.split("/") if part.startswith("natjax:")]
  path = found[-1].removeprefix("natjax:") if found else ""
  return tuple(path.split(".")) if path else ()


def convolutions(jaxpr: Any) -> int:
  """Multiply-adds of a jaxpr's convolutions and matrix products.

  Args:
    jaxpr: of one image.
  """
  total = 0
  for equation in jaxpr.eqns:
    for inner in jax.tree.leaves(
        [*equation.params.values()],
        is_leaf=lambda p: isinstance(p, core.Jaxpr | core.ClosedJaxpr)):
      if isinstance(inner, core.Jaxpr | core.ClosedJaxpr):
        total += convolutions(getattr(inner, "jaxpr", inner))
    made = int(np.prod(equation.outvars[0].aval.shape)) if (
        equation.outvars) else 0
    if equation.primitive.name == "conv_general_dilated":
      kernel = equation.invars[1].aval.shape
      out = equation.params["dimension_numbers"].rhs_spec[0]
      total += made * int(np.prod(kernel)) // kernel[out]
    elif equation.primitive.name == "dot_general":
      (axes, _), _ = equation.params["dimension_numbers"]
      shape = equation.invars[0].aval.shape
      total += made * int(np.prod([shape[a] for a in axes]))
  return total


def product(step: Step) -> Any | None:
  """The one convolution or matrix product of a layer; None if it does more.

  More than that of what it is given and its kernel, both as they are but for
  the width of their numbers, and its bias.
  """
  body = step.equation.params["jaxpr"].jaxpr
  same = {v: v for v in body.invars}  # What a variable is a copy of.
  found: list[Any] = []
  biases: set[Any] = set()
  for e in body.eqns:
    result, name = e.outvars[0], e.primitive.name
    given: list[Any] = [
        same.get(v) if _is_var(v) else None for v in e.invars]
    if None in given:
      return None
    if name in ("convert_element_type", "reshape", "broadcast_in_dim"):
      if not is_wide(result) or (name != "convert_element_type" and (
          len(given[0].aval.shape) != 1)):
        return None  # Rounded to few bits; or no bias.
      same[result] = given[0]
    elif name in ("conv_general_dilated", "dot_general"):
      if not {*given} <= {*body.invars} or len({*given}) < 2 or (
          _usual(e) != e.params["dimension_numbers"]):
        return None
      found.append(e)
      same[result] = result
    elif name == "add" and found and given[0] is found[0].outvars[0]:
      biases.add(given[1])
      same[result] = given[0]
    else:
      return None
  done = len(found) == 1 and same.get(body.outvars[0]) is found[0].outvars[0]
  used = {*found[0].invars} if done else set()
  return found[0] if done and len(biases) < 2 and not (
      biases & {same[v] for v in used}) and biases <= {*body.invars} else None
