"""Compares two checkouts of natjax: steps, compilation, temporaries.

Each checkout runs in a process of its own, with its own library and its own
`sides.py` and `differentiable_sides.py`; the two take turns, in compilation
and in every round of steps, and ratios are those of neighbours. What:
  supernet: a training step of NAT's supernet, on architectures that are drawn;
  theta half-step, theta iteration: of differentiable transformation, on
    ResNet20 and DARTS's cells;
  policy: 200 steps of the search on NAS-Bench-201 with a drawn table, NAT++.

Command:
  python experiments/benchmarks/versions.py --before OTHER/CHECKOUT \
      --report experiments/benchmarks/README.md
Expected time on 2 CPU cores: 15 minutes. `--small` is a try of 3.
"""

import argparse
from collections.abc import Sequence
import functools
import json
import os
import pathlib
import shlex
import sys
import time

import flags
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = ("supernet", "resnet20 w half-step", "resnet20 iteration",
            "darts w half-step", "darts iteration", "policy")
# Ratios after / before that are asked for.
STEPS, TEMPORARIES, COMPILE = 1.03, 1.0, 0.9


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = flags.Parser(
      description=__doc__.split("\n", 1)[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  parser.add_argument("--before", type=pathlib.Path, required=True,
                      help="a checkout")
  parser.add_argument("--after", type=pathlib.Path, default=HERE.parents[1],
                      help="another")
  parser.add_argument("--programs", nargs="+", choices=PROGRAMS,
                      default=PROGRAMS)
  parser.add_argument("--compilations", type=int, default=3)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--steps", type=int, default=3,
                      help="timed per round and checkout, after an untimed one")
  parser.add_argument("--small", action="store_true",
                      help="smaller networks and images")
  parser.add_argument("--report", type=pathlib.Path,
                      help="markdown file to write the section into")
  parser.add_argument("--title", default="Before and after, CPU, float32",
                      help="heading of the section, replaced if it exists")
  parser.add_argument("--work", choices=PROGRAMS, help=argparse.SUPPRESS)
  return parser.parse_args(argv)


# In a checkout's own process.


def supernet(small: bool):
  """A function that compiles, and one that makes a step of an architecture."""
  import jax
  import jax.numpy as jnp
  import optax
  import sides

  from natjax import skeleton
  from natjax.networks import supernet as supernet_lib

  size, batch = (16, 16) if small else (32, 32)
  net = supernet_lib.Supernet(sides.SPACE, skeleton.Skeleton(
      "cifar", 8 if small else 16, 5 if small else 8, 10, size))
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.standard_normal((batch, size, size, 3), np.float32))
  labels = jnp.asarray(rng.integers(0, 10, batch), jnp.int32)
  genotypes = [sides.draw(rng) for _ in range(4)]
  if hasattr(sides, "encoded"):
    data = [sides.encoded(genotype) for genotype in genotypes]
  else:  # 0.1.0
    data = [sides.architecture_lib.genotype_arrays(g, sides.SPACE.candidates)
            for g in genotypes]
  variables = net.init(jax.random.key(0))
  optimizer = optax.chain(optax.add_decayed_weights(sides.WEIGHT_DECAY),
                          optax.sgd(sides.LR, sides.MOMENTUM))
  params = variables.get("params", variables)
  state = [params, jax.jit(optimizer.init)(params)]
  step = functools.partial(sides.train_step, net.apply, optimizer)

  def run(compiled, i):
    *state[:], loss = compiled(*state, data[i % 4], images, labels)
    jax.block_until_ready(loss)

  return lambda: sides.compile_timed(
      jax.jit(step, donate_argnums=(0, 1)), *state, data[0], images,
      labels)[::2], run


def theta(name: str, small: bool):
  """As `supernet`, of a side of the benchmark of differentiable transformation.
  """
  import differentiable_sides
  import jax

  network, side = name.split(" ", 1)
  args = argparse.Namespace(
      width=0.5 if small else 1.0, init_channels=8 if small else 16,
      cells=5 if small else 8, drop_path=0.2, batch_size=16 if small else 64,
      image_size=16 if small else 32, dtype="float32", seed=0, chunk=2)
  program = differentiable_sides.make_network(network, args).programs[side]
  split = differentiable_sides.draw_images(args)

  def make():
    runner = differentiable_sides.Runner(
        program, split, args, tuple(jax.devices()[:1]))
    return runner, runner.cost

  return make, lambda runner, i: runner.step(i)


def policy(small: bool):
  """As `supernet`, of the search on NAS-Bench-201, two seeds at once."""
  import jax
  import jax.numpy as jnp
  import sides

  from natjax.benchmarks import policy_search

  config = policy_search.config(method="natpp", steps=50 if small else 200)
  accuracy = jnp.asarray(
      np.random.default_rng(0).random(15625, np.float32))
  keys = jnp.stack([jax.random.key(np.uint32(seed)) for seed in range(2)])
  return lambda: sides.compile_timed(
      policy_search._run, config, keys, accuracy)[::2], (
          lambda run, i: jax.block_until_ready(run(keys, accuracy)))


def work(name: str, small: bool) -> None:
  """Answers "compile" and "step N" lines with JSON lines."""
  answers = os.fdopen(os.dup(1), "w", buffering=1)
  os.dup2(2, 1)
  import environment

  environment.configure()
  import jax

  jax.config.update("jax_enable_compilation_cache", False)
  make, run = (policy(small) if name == "policy" else supernet(small)
               if name == "supernet" else theta(name, small))
  compiled = None
  print(json.dumps("ready"), file=answers)
  for line in sys.stdin:
    command, *rest = line.split()
    if command == "compile":
      jax.clear_caches()
      start = time.process_time()
      compiled, cost = make()
      found = {"compile": cost.compile, "lower": cost.trace + cost.lower,
               "cpu": time.process_time() - start, "temp": cost.temporaries}
    else:
      seconds = []
      for i in range(1 + int(rest[1])):
        start, cpu = time.perf_counter(), time.process_time()
        run(compiled, int(rest[0]))
        if i:
          seconds.append((time.perf_counter() - start,
                          time.process_time() - cpu))
      found = dict(zip(("step", "step cpu"), np.median(seconds, axis=0),
                       strict=True))
    print(json.dumps(found), file=answers)


# Two of them in turns.


def start(root: pathlib.Path, name: str, small: bool):
  """A checkout's process, a `workers.Worker`."""
  import workers

  root = root.resolve()
  folders = (root, root / "experiments" / "benchmarks")
  return workers.Worker(
      [sys.executable, HERE / pathlib.Path(__file__).name, "--before", root,
       "--work", name, *["--small"] * small],
      {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)),
       "PYTHONSAFEPATH": "1"})


def compare(name: str, args: argparse.Namespace) -> dict[str, np.ndarray]:
  """What was measured of a program, f[2, measurements] by name."""
  processes = [start(root, name, args.small)
               for root in (args.before, args.after)]
  found: dict[str, list[list[float]]] = {}

  def ask(line, turn):
    order = processes if turn % 2 == 0 else processes[::-1]
    answers = {id(worker): worker.ask(line) for worker in order}
    for key in answers[id(processes[0])]:
      found.setdefault(key, []).append(
          [answers[id(worker)][key] for worker in processes])

  for turn in range(args.compilations):
    ask("compile", turn)
  for turn in range(args.rounds):
    for i in range(4 if name == "supernet" else 1):
      ask(f"step {i} {args.steps}", turn)
  for worker in processes:
    worker.close()
  return {key: np.array(pairs).T for key, pairs in found.items()}


def main(argv: Sequence[str] | None = None) -> None:
  """Compares, prints, and writes the report."""
  args = parse(argv)
  if args.work:
    work(args.work, args.small)
    return
  sys.path.insert(0, str(HERE))
  import tables

  rows = []
  for name in args.programs:
    found = compare(name, args)
    row = [name]
    for key, scale, digits, target in (
        ("step", 1e3, 1, STEPS), ("step cpu", 1e3, 1, STEPS),
        ("temp", 1, 1, TEMPORARIES), ("compile", 1, 2, COMPILE),
        ("cpu", 1, 2, None)):
      before, after = found[key]
      ratio = after / before
      row += [" / ".join(f"{scale * np.median(x):.{digits}f}"
                         for x in (after, before)),
              tables.spread(ratio, 1, 2)]
      if target:
        row[-1] += " " + ("met" if np.median(ratio) <= target else "missed")
    rows.append(row)
    print(name, row, flush=True)
  heads = ["program"]
  for head in ("step ms", "step, CPU ms", "temporaries MB", "XLA compile s",
               "trace, lower, compile, CPU s"):
    heads += [head, "ratio"]
  command = shlex.join(["python", "experiments/benchmarks/versions.py",
                        *(argv or sys.argv[1:])])
  lines = [
      *tables.machine(command, [
          "after / before, medians; ratios of neighbours: median [quartiles];"
          f" asked for: steps {STEPS}, temporaries {TEMPORARIES}, XLA's"
          f" compilation {COMPILE}"]),
      "", *tables.table(heads, rows), "",
      "Load average at the end: "
      + " ".join(f"{x:.1f}" for x in os.getloadavg())]
  print("\n".join(["", f"## {args.title}", "", *lines]))
  if args.report is not None:
    tables.write_section(args.report, args.title, lines)


if __name__ == "__main__":
  main()
