"""The library's own operations: names, families, windows, costs.

Their modules stand in `plain`, `convolutions` and `units`, which need jax and
are imported when one is made.
"""

from collections.abc import Iterator
import functools
from typing import Any

from natjax import _lazy
from natjax.operations import counts, registry, steps, windows


def _late(module, name, **options):
  """Of a module of this room, with options."""
  found = _lazy.Late(f"natjax.operations.{module}:{name}")
  return functools.partial(found, **options) if options else found


_scaled = functools.partial(_late, "convolutions", "scaled")


def operations() -> Iterator[registry.Operation]:
  """All of them, in the order in which they are listed."""
  yield registry.Operation(
      registry.NULL, "null", 0, _late("plain", "null"), counts.null_cost,
      widens=True, dilates=True)
  yield registry.Operation(
      registry.SKIP, "skip", 0, _late("plain", "skip"), counts.skip_cost,
      identity=True, widens=True, scale=_scaled(convs=("conv0", "conv1")),
      dilates=True)
  yield from _convolutions()
  yield from _pools()
  yield registry.Operation("noise", "noise", 0, _late("plain", "Noise"),
                           counts.null_cost, random=True)
  yield from _units()


def _convolution(name, kind, module, cost, conv, *, kernel_size, norm="norm",
                 widens=True, only=None, **options):
  """One that begins with a ReLU.

  Its cost is told what its module is, but for the options in `only`.
  """
  options["kernel_size"] = kernel_size
  return registry.Operation(
      name, kind, kernel_size,
      _late("convolutions", module, **(only or {}), **options),
      functools.partial(cost, **options), activates=True, widens=widens,
      pads=True, scale=_scaled(convs=(conv,), norm=norm), dilates=True)


def _convolutions():
  for k in (1, 3, 5):
    yield _convolution(f"conv_{k}x{k}", "conv", "ReluConvNorm",
                       counts.dense_cost, "conv", kernel_size=k)
  for k in (1, 3, 5, 7):
    yield _convolution(
        f"sep_conv_{k}x{k}", "sep_conv", "SeparableConv", counts.separable_cost,
        "pointwise1", norm="norm1", kernel_size=k, repeats=2)
  for k in (1, 3, 5):
    yield _convolution(
        f"dil_conv_{k}x{k}", "dil_conv", "SeparableConv", counts.separable_cost,
        "pointwise0", norm="norm0", kernel_size=k, only={"dilation": 2})
  for name, k in (("conv_1x3_3x1", 3), ("conv_1x5_5x1", 5),
                  ("conv_1x7_7x1", 7), ("conv_7x1_1x7", 7)):
    yield _convolution(name, "conv", "FactorizedConv", counts.factorized_cost,
                       "conv1", kernel_size=k)
  for k in (3, 5, 7):
    yield _convolution(
        f"depthwise_conv_{k}x{k}", "depthwise_conv", "DepthwiseNorm",
        counts.depthwise_cost, "depthwise", kernel_size=k, widens=False)
  for g in (2, 4, 8):
    yield _convolution(f"group{g}_conv_1x1", "group_conv", "GroupConv",
                       counts.dense_cost, "kernel", kernel_size=1, groups=g)
  for k in (1, 3):
    yield registry.Operation(
        f"plain_conv_{k}x{k}", "conv", k,
        _late("convolutions", "PlainConv", kernel_size=k),
        functools.partial(counts.plain_cost, kernel_size=k), widens=True,
        pads=k > 1, scale=_scaled(convs=("conv",), norm=None), dilates=True)


def _pools():
  pools = [(kind, k, "", None, windows.output_size)
           for kind in ("max", "avg") for k in (2, 3, 5)]
  for kind, k, suffix, padding, output_size in (
      *pools, ("max", 2, "_padded", 1, counts.padded_size)):
    yield registry.Operation(
        f"{kind}_pool_{k}x{k}{suffix}", f"{kind}_pool", k,
        _late("plain", "pooling", pool=_late("primitives", f"{kind}_pool"),
              kernel_size=k, fixed=padding),
        functools.partial(counts.pool_cost, kernel_size=k,
                          output_size=output_size),
        # Without padding, a 2x2 window shrinks the map at stride 1.
        strides=(2,) if k == 2 else (1, 2), pooled=True, pads=True,
        output_size=output_size, dilates=True)


def _units():
  for squeeze in (False, True):
    for expansion in steps.EXPANSIONS:
      for k in steps.KERNELS:
        options: dict[str, Any] = {
            "expansion": expansion, "kernel_size": k, "squeeze": squeeze}
        yield registry.Operation(
            f"mbconv{expansion}_{k}x{k}" + "_se" * squeeze, "mbconv", k,
            _late("units", "InvertedResidual", **options),
            functools.partial(steps.mbconv_cost, **options), widens=True,
            dilates=True)
  yield registry.Operation(
      "squeeze_excite", "squeeze_excite", 0, _late("units", "SqueezeExcite"),
      steps.squeeze_cost, strides=(1,), dilates=True)
  for name, k, xception in (
      *((f"shuffle_{k}x{k}", k, False) for k in steps.KERNELS),
      ("shuffle_xception_3x3", 3, True)):
    options = {"kernel_size": k, "xception": xception}
    yield registry.Operation(
        name, "shuffle", k, _late("units", "ShuffleUnit", **options),
        functools.partial(steps.shuffle_cost, **options), widens=True,
        dilates=True)
