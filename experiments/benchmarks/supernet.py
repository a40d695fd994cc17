"""Measures the supernet's `selected` form against plain networks and PyTorch.

`sides.py` holds what is measured, `tables.py` writes the report.

What: one training step (forward, backward, SGD with momentum 0.9 and weight
decay 3e-4, cross-entropy, parameters donated) and one forward pass of the NAT
supernet of 9 operations and 4 nodes, fully concatenated, for randomly drawn
architectures:
  selected: natjax, the architecture an argument of one compiled program;
  natpp: the same with NAT++'s supernet of 13 operations, of which these
    architectures use only those that both have;
  alone: the same architecture static in its own unrolled program, compiled by
    itself, with the weights of its own operations only;
  torch: PyTorch that holds all candidates and runs the chosen ones eagerly
    (`torch_supernet.py`); on CUDA also one fixed architecture under
    `torch.compile`.
The sides take turns, per architecture and round; at every turn the first step
is discarded. At start-up the logits of all sides are compared at a tiny size,
and the parameter counts at C=20; the supernets agree where they hold the same
weights. PyTorch updates only weights that have a
gradient (`zero_grad` sets the others to None), natjax all of them.

Commands:
  python experiments/benchmarks/supernet.py
  python experiments/benchmarks/supernet.py --profile \
      --report experiments/benchmarks/README.md --title "CPU, float32"
  python experiments/benchmarks/supernet.py --alone 0 --skip-torch \
      --report experiments/benchmarks/README.md --title "13 operations"
Expected time on 2 CPU cores: 10 minutes; --profile adds 4; the last command
5.
Needs torch for its columns: pip install "natjax[benchmark]".
"""

import argparse
from collections.abc import Sequence
import functools
import os
import shlex
import sys

import environment
import flags

environment.configure()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import sides  # noqa: E402
import tables  # noqa: E402

from natjax.graph import records  # noqa: E402
from natjax.graph import skeleton as skeleton_lib  # noqa: E402
from natjax.networks import supernet as supernet_lib  # noqa: E402

# C=20, 8 cells.
PUBLISHED_PARAMETERS = {"nat": 5997350, "natpp": 15024550}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = flags.Parser(
      description=__doc__.split("\n", 1)[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  parser.add_argument("--init-channels", type=int, default=16)
  parser.add_argument("--cells", type=int, default=8)
  parser.add_argument("--batch-size", type=int, default=32)
  parser.add_argument("--image-size", type=int, default=32)
  parser.add_argument("--dtype", choices=("float32", "bfloat16"),
                      default="float32")
  parser.add_argument("--architectures", type=int, default=8,
                      help="how many are drawn")
  parser.add_argument("--alone", type=int, default=3,
                      help="how many of them are also compiled by themselves")
  parser.add_argument("--rounds", type=int, default=4)
  parser.add_argument("--steps", type=int, default=3,
                      help="timed per architecture, round and side")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--skip-torch", action="store_true")
  parser.add_argument("--profile", action="store_true",
                      help="also time every operation on every edge")
  tables.add_flags(parser, "Supernet")
  return parser.parse_args(argv)


def check_sides(with_torch: bool) -> list[str]:
  """Checks at a tiny size that all sides compute the same logits.

  Raises:
    AssertionError: logits or parameter counts differ.
  """
  skeleton = records.Skeleton("cifar", 4, 3, 10, 8)
  net = supernet_lib.Supernet(sides.SPACE, skeleton)
  larger = supernet_lib.Supernet(sides.NATPP, skeleton)
  rng = np.random.default_rng(0)
  genotype = sides.draw(rng)
  images = rng.standard_normal((4, 8, 8, 3), np.float32)
  params = net.init(jax.random.key(0))["params"]
  arrays, natpp_arrays = (
      sides.encoded(genotype, space) for space in (sides.SPACE, sides.NATPP))
  with jax.default_matmul_precision("highest"):
    logits = jax.jit(net.apply)(params, arrays, images)
    alone = jax.jit(sides.alone(net, genotype).apply)(
        sides.own_params(net, params, genotype), arrays, images)
    natpp = jax.jit(larger.apply)(
        sides.with_weights_of(larger.init(jax.random.key(1))["params"], params),
        natpp_arrays, images)
  np.testing.assert_allclose(alone, logits, rtol=1e-3, atol=1e-3)
  np.testing.assert_allclose(natpp, logits, rtol=1e-3, atol=1e-3)
  lines = ["logits of selected and alone agree",
           "logits of selected and natpp agree"]
  for space in (sides.SPACE, sides.NATPP):
    large = supernet_lib.Supernet(
        space, records.Skeleton("cifar", 20, 8, 10, 32))
    shapes = jax.eval_shape(large.init, jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert count == PUBLISHED_PARAMETERS[space.name], (space.name, count)
    lines.append(f"parameters at C=20, 8 cells: {count} for"
                 f" {len(space.candidates)} operations")
  if not with_torch:
    return lines
  runner = sides.TorchRunner(params, skeleton, images, np.zeros(4), "float32")
  cudnn = sides.torch.backends.cudnn
  tf32, cudnn.allow_tf32 = cudnn.allow_tf32, False
  other = runner.forward(sides.torch_cells(genotype)).cpu().numpy()
  cudnn.allow_tf32 = tf32
  np.testing.assert_allclose(other, logits, rtol=1e-3, atol=1e-3)
  worst = np.max(np.abs(other - np.asarray(logits)))
  lines.append(f"logits of selected and torch agree to {worst:.1e}")
  model = sides.torch_supernet.Supernet(20, 8)
  count = sum(p.numel() for p in model.parameters())
  assert count == PUBLISHED_PARAMETERS["nat"], count
  lines.append(f"parameters at C=20, 8 cells: {count} in torch too")
  return lines


def main(argv: Sequence[str] | None = None) -> None:
  args = parse(argv)
  args.command = shlex.join(["python", "experiments/benchmarks/supernet.py",
                             *(sys.argv[1:] if argv is None else argv)])
  args.alone = min(args.alone, args.architectures)
  with_torch = sides.torch is not None and not args.skip_torch
  say = functools.partial(print, flush=True)

  # Where.
  jax.config.update("jax_enable_compilation_cache", False)
  accelerator = jax.devices()[0].platform != "cpu"
  if with_torch:
    sides.torch.set_num_threads(len(os.sched_getaffinity(0)))
    sides.torch.backends.cudnn.benchmark = True
  lines = tables.machine(args.command, [
      f"C={args.init_channels}, {args.cells} cells, batch {args.batch_size},"
      f" {args.image_size}x{args.image_size}, {args.dtype};"
      f" {args.architectures} architectures, {args.alone} of them alone,"
      f" {args.rounds} rounds of {args.steps} steps after one discarded;"
      " median [quartiles]"])
  lines += tables.torch_lines(with_torch)
  lines += [f"- check: {line}" for line in check_sides(with_torch)]
  say("\n".join(lines))

  # What.
  skeleton = skeleton_lib.check(records.Skeleton(
      "cifar", args.init_channels, args.cells, 10, args.image_size))
  net, larger = (
      supernet_lib.Supernet(space, skeleton, jnp.dtype(args.dtype))
      for space in (sides.SPACE, sides.NATPP))
  rng = np.random.default_rng(args.seed)
  genotypes = [sides.draw(rng) for _ in range(args.architectures)]
  size = (args.batch_size, args.image_size, args.image_size, 3)
  images = jnp.asarray(rng.standard_normal(size, np.float32))
  labels = jnp.asarray(rng.integers(0, 10, args.batch_size), jnp.int32)
  params = net.init(jax.random.key(args.seed))["params"]
  say(f"{sum(x.size for x in jax.tree.leaves(params))} parameters")

  # Compile.
  arrays, natpp_arrays = (
      sides.encoded(genotypes[0], space)
      for space in (sides.SPACE, sides.NATPP))
  selected = sides.JaxRunner(net.apply, params, arrays, images, labels)
  say(f"selected compiled in {selected.step_cost.total:.1f} s")
  natpp = sides.JaxRunner(
      larger.apply, larger.init(jax.random.key(args.seed))["params"],
      natpp_arrays,
      images, labels)
  say(f"natpp compiled in {natpp.step_cost.total:.1f} s")
  alone = [
      sides.JaxRunner(
          sides.alone(net, genotype).apply,
          sides.own_params(net, params, genotype), sides.encoded(genotype),
          images, labels)
      for genotype in genotypes[:args.alone]
  ]
  say(f"{len(alone)} networks compiled alone")
  compared = [sides.selected_side(selected, genotypes),
              sides.selected_side(natpp, genotypes, sides.NATPP)]
  if alone:
    compared.append(sides.alone_side(alone, genotypes))
  if with_torch:
    runner = sides.TorchRunner(params, skeleton, images, labels, args.dtype)
    compared.append(sides.torch_side(runner, genotypes))
    if runner.device.type == "cuda":
      compared.append(sides.torch_compile_side(runner, genotypes[0]))
  lines += ["", *tables.compile_table(selected, natpp, alone, accelerator)]

  # Measure.
  counts = (args.architectures, args.rounds, args.steps)
  for what in ("step", "forward"):  # Everything once, to load and compile.
    sides.measure(compared, what, args.architectures, 1, 1)
  say("warm; measuring")
  steps = sides.measure(compared, "step", *counts)
  forwards = sides.measure(compared, "forward", *counts)
  aims = tables.targets(accelerator, args.batch_size)
  lines += ["", *tables.time_tables(steps, forwards, aims), "",
            *tables.architecture_table(genotypes, steps)]

  # Where does the time go?
  if args.profile:
    uniform = [sides.everywhere(genotypes[0], name)
               for name in sides.SPACE.candidates]
    compared = [sides.selected_side(selected, uniform)]
    if with_torch:
      compared.append(sides.torch_side(runner, uniform))
    counts = (len(uniform), args.rounds, args.steps)
    lines += ["", *tables.profile_table(
        sides.measure(compared, "step", *counts),
        sides.measure(compared, "forward", *counts))]

  lines += ["", "Load average at the end: "
            + " ".join(f"{x:.1f}" for x in os.getloadavg())]
  tables.show(args, lines)


if __name__ == "__main__":
  main()
