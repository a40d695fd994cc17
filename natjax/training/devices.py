"""The one module that knows how updates are spread over devices.

Updates are written against the axis name `method.AXIS`, as for `jax.pmap`,
which is legacy and alive; should it go, this is the module to change. It
spreads updates over devices of several processes. Those of one get the same
program, `jit` of `shard_map`, directly: `jax.pmap` keeps every function that it
was ever given, all that the function refers to, and its compiled program, until
the process ends (jax 0.10 to 0.12), and after ten runs or so a process had no
memory mappings left to compile into. State is replicated: there are no stacked
copies, and donated arguments are deleted on the caller's side too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import functools
import importlib.util
import math
import numbers
import os
import sys
from typing import Any
import warnings

import jax
from jax.experimental import multihost_utils
import numpy as np

from natjax import errors
from natjax.training import method as base

try:
  import resource
except ImportError:  # Not on Windows.
  resource = None  # type: ignore[assignment]

# Found to halve compilation or better on the CPU, with no visible loss per
# step; on an accelerator it would slow kernels down.
_CPU_FLAG = "--xla_backend_optimization_level=1"
OWN = "own"  # Of `spread`.
_RUNS = "runs"  # The axis over which runs of their own are divided.
_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm7_plugin",
            "libtpu")
# On an H200 the compiler of jaxlib 0.11.2 aborted the process where it fused a
# product of the policy's step into a kernel of Triton's. Without, products are
# cuBLAS's, and all that `natjax selftest` had time for passed. A jaxlib that
# does not know the flag would not start, so it is set for those that do.
_CUDA_FLAG = "--xla_gpu_enable_triton_gemm=false"
_CUDA_FLAG_BELOW = (0, 13)
# Bytes of addresses below which jax was seen to abort a process as it compiled
# and trained a small network on the CPU (at 2.3 GB; jax 0.10.2).
_ADDRESSES = 4e9


def configure_compilation(
    cache_dir: str | os.PathLike[str] | None = None) -> None:
  """Sets how XLA compiles, for a whole process; call it before using jax.

  Turns on the persistent compilation cache, so that a second start is quick; on
  machines without an accelerator a lower optimisation level; and on those with
  CUDA leaves matrix products to cuBLAS, since a kernel of Triton's was seen to
  abort the compiler. Flags that stand in $XLA_FLAGS are left alone.

  Args:
    cache_dir: of the cache; None is $NATJAX_CACHE, else `natjax` in the user's
      cache folder. A cache that was configured already (for example through
      $JAX_COMPILATION_CACHE_DIR) is left alone.

  Warns:
    UserWarning: the cache's folder cannot be made or written, or this process
      may have so few addresses (`ulimit -v`) that jax may abort it.
  """
  if resource is not None:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < _ADDRESSES:
      warnings.warn(
          f"this process may have {limit / 1e9:.1f} GB of addresses (ulimit"
          " -v), and where that is too little jax aborts it without a word;"
          f" allow {_ADDRESSES / 1e9:.0f} GB or more", stacklevel=2)
  found = [p for p in _PLUGINS if importlib.util.find_spec(p)]
  if not found:
    _set_flag(_CPU_FLAG)
  elif any("cuda" in p for p in found) and (
      jax.__version_info__ < _CUDA_FLAG_BELOW):
    _set_flag(_CUDA_FLAG)
  if jax.config.values["jax_compilation_cache_dir"] is None:
    from natjax.data import cache  # Quick commands do without its room.
    folder, least = str(cache_dir or cache.folder()), 0.0
    if (why := _unwritable(folder)) is not None:
      warnings.warn(
          f"{folder}: {why}; compiled programs are not kept there, so that the"
          " next start is as slow as this one; let NATJAX_CACHE name a folder"
          " that can be written", stacklevel=2)
      if not os.path.isdir(folder):
        return
      least = math.inf  # What it has is read, and nothing is written.
    jax.config.update("jax_compilation_cache_dir", folder)
    # All: a start compiles some hundred small programs besides.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least)


def _unwritable(folder):
  """Why a folder cannot be made or written; None where it can."""
  try:
    os.makedirs(folder, exist_ok=True)
  except OSError as e:
    return e.strerror
  return None if os.access(folder, os.W_OK | os.X_OK) else "not writable"


def _set_flag(flag):
  """Adds one of XLA's flags, unless it is set already."""
  flags = os.environ.get("XLA_FLAGS", "")
  if flag.split("=")[0] not in flags:
    os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()


def memory(devices: Sequence[jax.Device]) -> float:
  """Bytes that devices have in all; infinite where that is not known.

  Those of other processes are taken to have as much as those of this one.
  """
  from natjax.data import streamed  # As above.
  own = [d for d in devices if d.process_index == jax.process_index()]
  if all(device.platform == "cpu" for device in devices):
    found = streamed.machine_bytes()
  else:
    found = sum((device.memory_stats() or {}).get("bytes_limit", math.inf)
                for device in own)
  return found * len(devices) / max(len(own), 1)


def peak_memory(devices: Iterable[jax.Device]) -> int | None:
  """The most bytes in use so far, of one device or else of this process.

  Devices that keep no account, as CPUs do not, leave it to the process: what
  of it was resident at once. None where neither is known.
  """
  found = [(device.memory_stats() or {}).get("peak_bytes_in_use", 0)
           for device in devices
           if device.process_index == jax.process_index()]
  if any(found):
    return max(found)
  if resource is None:
    return None
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def choose(count: int | None = None) -> list[jax.Device]:
  """The first `count` devices; None is all of them.

  Of several processes that were joined (`distributed`), all devices of all.

  Raises:
    InputError: there are fewer, or a number is given to several processes.
  """
  if count is None or (count == jax.device_count()
                       and not isinstance(count, bool)):
    return jax.devices()
  if jax.process_count() > 1:
    raise errors.InputError(
        f"devices is {count}, and several processes use all devices of all,"
        f" here {jax.device_count()}; leave devices out", "devices")
  available = jax.local_devices()
  if not isinstance(count, numbers.Integral) or isinstance(
      count, bool) or not 1 <= count <= len(available):
    raise errors.InputError(
        f"devices is {errors.short(count)} and this machine has"
        f" {len(available)}; give a whole number from 1 to {len(available)}",
        "devices")
  return available[:count]


def teraflops(devices: Sequence[jax.Device]) -> float:
  """What one of the devices is taken to do a second, in 10^12 operations.

  A multiply-add is two. 10 of an accelerator, since ResNet20 on CIFAR-10 was
  seen to run at 12 on an H100, and less than it can do by far; 0.015 of a CPU
  core, as 8 cells of 16 channels on two, of which virtual devices have a part.
  """
  if devices[0].platform != "cpu":
    return 10.0
  return 0.015 * (os.cpu_count() or 1) / len(jax.local_devices())


def hours(madds: float, devices: Sequence[jax.Device],
          each: float | None = None) -> float:
  """Hours that devices take for multiply-adds.

  Args:
    madds: of all of them.
    devices: that divide them.
    each: 10^12 operations that one of them does a second, a multiply-add being
      two; None is what `teraflops` takes it for.
  """
  each = teraflops(devices) if each is None else each
  return 2 * madds / (3600e12 * each * len(devices))


def check_batch(batch_size: int, num_devices: int) -> None:
  """Refuses a batch that the devices do not divide (InputError)."""
  if batch_size < 1:
    raise errors.InputError(f"batch-size is {batch_size} and must be at least"
                            " 1; give 64", "batch_size")
  if batch_size % num_devices:
    fits = max(batch_size // num_devices, 1) * num_devices
    raise errors.InputError(
        f"batch-size ({batch_size}) must be divisible by the number of devices"
        f" ({num_devices}); give batch-size {fits} or devices 1", "batch_size")


def spread(function: Callable[..., Any], devices: Sequence[jax.Device], *,
           sharded: Sequence[Any], donate: Sequence[int] = (),
           divided: Mapping[int, Any] | None = None,
           results: Any = False) -> Callable[..., Any]:
  """Maps a function over devices.

  Args:
    function: written against the axis name; its results must be equal on all
      devices, but for those that are divided.
    devices: D of them. Where they belong to several processes, all of these
      call the result, with the same arguments.
    sharded: per argument, whether it has a leading axis [D] to be divided; the
      others are replicated. Of one that is `OWN`, each of several processes
      passes what its own devices take. Or a tuple of these, for the items of
      an argument that is a tuple.
    donate: arguments whose memory may be reused; the caller's arrays are
      deleted.
    divided: of arguments by their numbers, trees of bools: which arrays'
      leading axis [k * D] is divided, k to a device.
    results: likewise of the results, of which a bool may stand for a tree.
  """
  if is_local(devices):
    return _spread_here(function, devices, sharded, donate, divided or {},
                        results)
  if divided or any(jax.tree.leaves(results)):  # `jax.pmap` would stack them.
    return _spread_over(function, devices, sharded, donate, divided or {},
                        results)
  mapped = jax.pmap(function, axis_name=base.AXIS, devices=devices,
                    in_axes=_each(tuple(sharded), 0, None),
                    out_axes=None, donate_argnums=tuple(donate))
  # Every process passes what its own devices take.
  mine = np.array([i for i, d in enumerate(devices)
                   if d.process_index == jax.process_index()])

  def passed(arg, s):
    if isinstance(s, tuple):
      return tuple(map(passed, arg, s))
    return arg if s == OWN else (
        jax.tree.map(lambda x: x[mine], arg) if s else replicate(arg, devices))

  return lambda *args: mapped(*passed(args, tuple(sharded)))


def _each(sharded, then, otherwise):
  """A tree of one of two values for what is divided and what is not."""
  if isinstance(sharded, tuple):
    return tuple(_each(s, then, otherwise) for s in sharded)
  return then if sharded else otherwise


def _spread_here(function, devices, sharded, donate, divided, results):
  """What `jax.pmap` makes of a function, for devices of this process."""

  def part(arg, s):
    if isinstance(s, tuple):
      return tuple(map(part, arg, s))
    return jax.tree.map(lambda x: x[0], arg) if s else arg

  def on_one(*args):
    return function(*part(args, sharded))

  mesh = jax.sharding.Mesh(np.asarray(devices), (base.AXIS,))
  every, over = (jax.sharding.PartitionSpec(*[base.AXIS] * n) for n in (0, 1))
  sharded = tuple(sharded)
  spec = lambda parts: over if parts else every
  specs = tuple(
      jax.tree.map(spec, divided[i]) if i in divided else _each(s, over, every)
      for i, s in enumerate(sharded))
  out = jax.tree.map(spec, results)
  put = functools.partial(
      jax.tree.map, functools.partial(jax.sharding.NamedSharding, mesh))
  return jax.jit(
      jax.shard_map(on_one, mesh=mesh, in_specs=specs, out_specs=out,
                    check_vma=False),
      in_shardings=put(specs), out_shardings=put(out),
      donate_argnums=tuple(donate))


def _spread_over(function, devices, sharded, donate, divided, results):
  """`_spread_here` of devices of several processes."""
  mapped = _spread_here(function, devices, sharded, donate, divided, results)
  mesh = jax.sharding.Mesh(np.asarray(devices), (base.AXIS,))
  over = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(base.AXIS))

  def passed(arg, s, parts=False):
    if isinstance(s, tuple):
      return tuple(map(passed, arg, s))
    if s == OWN:
      return jax.tree.map(lambda x: jax.make_array_from_process_local_data(
          over, np.asarray(x)), arg)
    return replicate(arg, devices, bool(s) or parts)

  return lambda *args: mapped(*(
      passed(arg, s, divided.get(i, False))
      for i, (arg, s) in enumerate(zip(args, tuple(sharded), strict=True))))


def spread_runs(function: Callable[..., Any], devices: Sequence[jax.Device], *,
                sharded: Sequence[Any],
                donate: Sequence[int] = ()) -> Callable[..., Any]:
  """Maps a function over devices that hold runs of their own.

  Args:
    function: of the runs of one device, written against the axis name, which is
      of size 1.
    devices: D of them, of this process.
    sharded: per argument, whether it has a leading axis of runs, which is
      divided as `divide` does; the others are replicated. All results have one.
      Or a tuple, as `spread` takes it.
    donate: arguments whose memory may be reused.
  """
  divided = _divided(devices)
  return jax.jit(jax.shard_map(
      function, mesh=divided.mesh, out_specs=divided.spec, check_vma=False,
      in_specs=_each(tuple(sharded), divided.spec,
                     jax.sharding.PartitionSpec())),
                 donate_argnums=tuple(donate))


def shard(tree: Any, devices: Sequence[jax.Device]) -> Any:
  """Divides the leading axis [D] of every array, as `spread` takes it.

  Of several processes, each passes what its own devices take (`OWN`), and has
  it back.
  """
  if not is_local(devices):
    return tree
  mesh = jax.sharding.Mesh(np.asarray(devices), (base.AXIS,))
  return jax.device_put(tree, jax.sharding.NamedSharding(
      mesh, jax.sharding.PartitionSpec(base.AXIS)))


def divide(tree: Any, devices: Sequence[jax.Device]) -> Any:
  """Divides the leading axis [k * D] of every array, k to a device."""
  return jax.device_put(tree, _divided(devices))


def _divided(devices):
  mesh = jax.sharding.Mesh(
      np.asarray(devices).reshape(-1, 1), (_RUNS, base.AXIS))
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(_RUNS))


def is_local(devices: Iterable[jax.Device]) -> bool:
  """Whether all devices are this process's."""
  return all(d.process_index == jax.process_index() for d in devices)


def replicate(tree: Any, devices: Sequence[jax.Device],
              divided: Any = False) -> Any:
  """Puts a copy of every array on every device.

  Where the devices belong to several processes, all of these call it, with
  equal arrays.

  Args:
    tree: of arrays.
    devices: D of them.
    divided: a bool, or a tree of bools: arrays whose leading axis [k * D] is
      divided instead, k to a device.
  """
  mesh = jax.sharding.Mesh(np.asarray(devices), (base.AXIS,))
  shardings = jax.tree.map(lambda parts: jax.sharding.NamedSharding(
      mesh, jax.sharding.PartitionSpec(*[base.AXIS] * parts)), divided)
  if is_local(devices):
    return jax.device_put(tree, shardings)
  if isinstance(divided, bool):
    return jax.tree.map(lambda x: _on_all(x, shardings), tree)
  return jax.tree.map(_on_all, tree, shardings)


def _on_all(x, sharding):
  """Puts an array on the devices of all processes, each of which has it.

  `device_put` would first compare all arrays.
  """
  if isinstance(x, jax.Array):
    if not x.is_fully_addressable:
      return x  # It came from here.
    if is_key(x):
      return typed(_on_all(jax.random.key_data(x), sharding), x)
  x = np.asarray(x)
  return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def is_key(x: Any) -> bool:
  """Whether an array holds typed keys."""
  return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def plain(tree: Any) -> Any:
  """Host arrays; of typed keys, what they are made of."""
  return jax.tree.map(
      lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x), tree)


def typed(tree: Any, like: Any) -> Any:
  """Makes typed keys again of what `plain` made of those in `like`."""
  return jax.tree.map(lambda x, old: jax.random.wrap_key_data(
      x, impl=jax.random.key_impl(old)) if is_key(old) else x, tree, like)


def fetch(tree: Any) -> Any:
  """Replicated arrays as this process has them; others stay as they are.

  Those that devices of several processes divide are gathered: all of these call
  it then.
  """
  def one(x):
    if getattr(x, "is_fully_addressable", True):
      return x
    if x.is_fully_replicated:
      return x.addressable_data(0)
    return multihost_utils.process_allgather(x, tiled=True)

  return jax.tree.map(one, tree)
