"""Measures how a flax module is read, and a training step of what comes out.

What: a ResNet50 as a user of flax writes it (`ResNet`), with weights of noise.
  read: `natjax.from_flax` on images of 224 pixels, in a fresh process, with
    whatever it imports when it is first called; then both networks' logits of
    two images of noise are compared;
  module, natjax: a step of SGD with momentum on the mean cross-entropy,
    float32, on 2 CPU threads, that keeps BN's statistics: of the module itself,
    and of the one that `from_flax` returns, from the same weights, on the same
    batch. The losses of their first steps are compared.

The steps' processes, their turns and their memory are those of `search.py`.

Commands:
  python experiments/benchmarks/from_flax.py
  python experiments/benchmarks/from_flax.py \
      --report experiments/benchmarks/README.md \
      --json experiments/benchmarks/from_flax.json
Expected time on 2 CPU cores: five minutes.
"""

import argparse
from collections.abc import Callable, Sequence
import functools
import os
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

import search  # Sets the environment, before jax is imported.

# isort: split
import flags
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import sides
import tables
import workers

import natjax

READ, MODULE, NATJAX = "read", "module", "natjax"
SECONDS, RATIO = 5, 1.05  # Of reading; of the module's step.


class Bottleneck(nn.Module):
  """Two convolutions 1x1 around one of 3x3, and what goes past them."""

  width: int
  stride: int

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    norm = functools.partial(nn.BatchNorm, use_running_average=not train,
                             momentum=0.9)
    conv = functools.partial(nn.Conv, use_bias=False)
    y = nn.relu(norm()(conv(self.width, (1, 1))(x)))
    y = nn.relu(norm()(conv(self.width, (3, 3), self.stride)(y)))
    y = norm()(conv(4 * self.width, (1, 1))(y))
    if x.shape != y.shape:
      x = norm()(conv(4 * self.width, (1, 1), self.stride)(x))
    return nn.relu(x + y)


class ResNet(nn.Module):
  """He et al., 2016, of as many bottlenecks in each stage; 3, 4, 6, 3 is 50.
  """

  stages: tuple[int, ...]
  width: int
  classes: int = 1000

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
    x = nn.Conv(self.width, (7, 7), 2, use_bias=False)(x)
    x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
    x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
    for stage, count in enumerate(self.stages):
      for number in range(count):
        x = Bottleneck(self.width * 2**stage,
                       2 if stage and not number else 1)(x, train)
    return nn.Dense(self.classes)(jnp.mean(x, (1, 2)))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = flags.Parser(
      description=__doc__.split("\n", 1)[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  parser.add_argument("--stages", type=int, nargs="+", default=[3, 4, 6, 3],
                      help="bottlenecks of each")
  parser.add_argument("--width", type=int, default=64,
                      help="channels of the stem")
  parser.add_argument("--read-size", type=int, default=224,
                      help="pixels a side of the images that it is read with")
  parser.add_argument("--learning-rate", type=float, default=1e-3)
  return search.parse_flags(parser, argv, "from_flax, CPU, float32",
                            batch_size=16, image_size=96, rounds=5)


# What runs in processes of their own.


def drawn(args: argparse.Namespace, count: int, size: int
          ) -> tuple[ResNet, dict[str, Any], np.ndarray]:
  """The module, its variables as after a training, and images of noise."""
  module = ResNet(tuple(args.stages), args.width)
  rng = np.random.default_rng(args.seed)
  images = rng.standard_normal((count, size, size, 3), np.float32)

  def draw(path, leaf):
    noise = rng.standard_normal(leaf.shape, np.float32)
    name = path[-1].key
    if name == "kernel":
      noise *= (2 * leaf.shape[-1] / leaf.size)**0.5
    elif name in ("scale", "var"):
      noise = 1 + 0.2 * np.tanh(noise)
    return jax.device_put(noise if name not in ("bias", "mean") else (
        0.2 * noise))

  return module, jax.tree_util.tree_map_with_path(draw, jax.eval_shape(
      functools.partial(module.init, train=False), jax.random.key(0), images)
  ), images


def read(args: argparse.Namespace
         ) -> tuple[dict[str, Any], Callable[[], None]]:
  """Reads the module; see `workers` of what it returns."""
  jax.devices()
  module, variables, images = drawn(args, 2, args.read_size)
  wall, cpu = time.perf_counter(), time.process_time()
  found = natjax.from_flax(module, variables, images, train=False)
  facts = {"seconds": time.perf_counter() - wall,
           "read_cpu_seconds": time.process_time() - cpu,
           "fixed": len(found.fixed), "blocks": len(found.network.blocks)}
  theirs = jax.jit(functools.partial(module.apply, train=False))(
      variables, images)
  ours, _ = jax.jit(found.module.apply)(found.variables, images)
  largest = float(jnp.abs(theirs).max())
  return {**facts, "largest": largest, "difference": float(
      jnp.abs(ours - theirs).max()) / largest}, lambda: None


def start(name: str, args: argparse.Namespace
          ) -> tuple[dict[str, Any], Callable[[], None]]:
  """Compiles a side's step and runs it once; see `workers`."""
  natjax.configure_compilation()
  jax.devices()
  imported = workers.resident_mb()
  module, variables, images = drawn(args, args.batch_size, args.image_size)
  logits_of = lambda outputs: outputs
  if name == NATJAX:
    found = natjax.from_flax(module, variables, images, train=False)
    module, variables = found.module, found.variables
    logits_of = lambda outputs: outputs[0]  # The second are auxiliary ones.
  optimizer = optax.sgd(args.learning_rate, 0.9)
  labels = np.arange(args.batch_size) % 10

  def loss(params, statistics):
    outputs, changed = module.apply(
        {"params": params, **statistics}, images, train=True,
        mutable=["batch_stats"])
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(
        logits_of(outputs), labels)), changed

  def step(params, statistics, moving):
    (value, statistics), grads = jax.value_and_grad(loss, has_aux=True)(
        params, statistics)
    updates, moving = optimizer.update(grads, moving, params)
    return optax.apply_updates(params, updates), statistics, moving, value

  params = variables["params"]
  state = params, {"batch_stats": variables["batch_stats"]}, jax.jit(
      optimizer.init)(params)
  run, _, cost = sides.compile_timed(
      jax.jit(step, donate_argnums=(0, 1, 2)), *state)
  losses = []

  def iterate():
    nonlocal state
    *state, value = run(*state)
    losses.append(float(jax.block_until_ready(value)))
    assert np.isfinite(losses[-1]), losses

  facts = {"parameters": sum(leaf.size for leaf in jax.tree.leaves(params))}
  del params, variables
  iterate()
  return {**facts, "imported_mb": imported, "loss": losses[0],
          "lower_seconds": cost.trace + cost.lower,
          "compile_seconds": cost.compile,
          "temporaries_mb": cost.temporaries}, iterate


# The report.


def read_lines(reads: Sequence[dict[str, Any]]) -> list[str]:
  """How long reading takes, and what comes out."""
  wall, cpu = (statistics.median(row[key] for row in reads)
               for key in ("seconds", "read_cpu_seconds"))
  row = max(reads, key=lambda row: row["difference"])
  return [
      f"from_flax: {wall:.2f} s ({tables.verdict(wall, SECONDS, ' s')}),"
      f" {cpu:.2f} s of the processor; {row['blocks']} blocks and"
      f" {row['fixed']} fixed operations. Logits differ by at most"
      f" {row['difference']:.0e} of the largest, {row['largest']:.3g}."]


def ratio_lines(found: dict[str, dict[str, Any]]) -> list[str]:
  """natjax's step beside the module's, and whether both are one network."""
  first = [found[name]["loss"] for name in (MODULE, NATJAX)]
  ratios = [float(np.median(np.array(found[NATJAX][key])
                            / np.array(found[MODULE][key])))
            for key in ("seconds", "cpu_seconds")]
  wall, cpu = (f"{ratio:.2f} of the {what} ({tables.verdict(ratio, RATIO)})"
               for ratio, what in zip(
                   ratios, ("time", "processor time"), strict=True))
  return [f"natjax / module: {wall}, {cpu}. Losses of the first steps:"
          f" {first[0]:.6g} and {first[1]:.6g}."]


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, prints, and writes the report."""
  argv = sys.argv[1:] if argv is None else list(argv)
  args = parse(argv)
  if args.work is not None:
    return workers.serve(functools.partial(read, args) if args.work == READ
                         else functools.partial(start, args.work, args))
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])

  # Where.
  script = pathlib.Path(__file__).name
  lines = tables.machine(search.command_of(argv, script), [
      f"{'-'.join(map(str, args.stages))} bottlenecks of width {args.width},"
      f" float32, {args.threads} threads; read with images of"
      f" {args.read_size} pixels, median of {args.rounds} processes; steps of"
      f" {args.batch_size} images of {args.image_size} pixels,"
      f" {args.rounds} rounds of {args.steps} after one discarded; median"
      " [quartiles]",
      "CPU time is that of all threads; cold and warm: with an empty cache of"
      " compiled programs and with a filled one"])
  print("\n".join(lines), flush=True)

  # Measure.
  reads = []
  with tempfile.TemporaryDirectory() as folder:
    for _ in range(args.rounds):
      worker = search.start_natjax(READ, argv, folder, script)
      reads.append(worker.ready)
      worker.close()
  found = search.measure(
      [MODULE, NATJAX], lambda name, cache: search.start_natjax(
          name, argv, cache, script), args)
  after = " ".join(f"{x:.1f}" for x in os.getloadavg())

  # Report.
  assert np.isclose(*(side["loss"] for side in found.values()), rtol=1e-3)
  search.write(args, lines, {READ: reads, **found}, [
      "", *read_lines(reads), "", *ratio_lines(found), "",
      *search.iteration_table(found, (MODULE,)), "",
      *search.start_table(found)], after)
  return None


if __name__ == "__main__":
  main()
