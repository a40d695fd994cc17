"""Times other forms of a training step beside the library's, in one process.

A form is the library with some of its functions replaced while the step is
traced; forms take turns, step by step, and ratios are those of neighbours. What
was measured by it stands under "What was tried" in `README.md`. Of plain
networks (`resnet20`, `mobilenetv2`, `darts`):
  nothing kept: XLA may compute a node's sum again wherever it is read;
  nodes kept: every node's sum is kept in memory (`primitives.materialize`);
  edges kept: what every edge adds.
Of the supernet of NAT (`supernet`), the step of `supernet.py`, once per
architecture, of which the first has null on every edge:
  all slots: slots that hold null run, too;
  concatenated: a cell's nodes are put side by side one by one;
  optimizer: SGD with momentum and weight decay alone, of given gradients.
The library's own form is called "library".

Commands:
  python experiments/benchmarks/trials.py darts --forms library "nothing kept"
  python experiments/benchmarks/trials.py supernet --init-channels 8 --cells 5 \
      --batch-size 16 --image-size 16
Expected time on 2 CPU cores: two to five minutes.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
import contextlib
import functools
import os
import pathlib
import sys
import time
from typing import Any, NamedTuple
from unittest import mock

import environment
import flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
environment.configure()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import sides  # noqa: E402
import tables  # noqa: E402

from natjax.graph import records  # noqa: E402
from natjax.networks import network as network_lib  # noqa: E402
from natjax.networks import running, scan  # noqa: E402
from natjax.networks import supernet as supernet_lib  # noqa: E402
from natjax.operations import primitives  # noqa: E402
from natjax.selftest import programs  # noqa: E402

SUPERNET, LIBRARY, OPTIMIZER = "supernet", "library", "optimizer"
PLAIN = ("resnet20", "mobilenetv2", "darts")


class Compiled(NamedTuple):
  """A form that is compiled.

  Attributes:
    step: `step(i)` takes a step, of architecture i, and waits for it.
    compile: CPU seconds that XLA took.
    temporaries: in MB.
    params: `params()`, the parameters as they are now; None where there are
      none.
  """

  step: Callable[[int], object]
  compile: float
  temporaries: float
  params: Callable[[], Any] | None = None


# The forms: what they replace in the library.


def _edges_kept(run_blocks=network_lib.run_blocks):
  def edge(site):
    y = network_lib.plain(site)
    return None if y is None else primitives.materialize(y)

  return lambda *args, **options: run_blocks(*args, **{**options, "edge": edge})


def _all_slots(scan_edges=scan.scan_edges):
  return lambda *args, **options: scan_edges(*args, **{**options, "live": None})


def _nothing(prefix, total):
  del prefix
  return total


FORMS: dict[str, tuple[tuple[object, str, Any], ...]] = {
    LIBRARY: (),
    "nothing kept": ((network_lib, "_kept", _nothing),),
    "nodes kept": ((network_lib, "_kept",
                    lambda prefix, total: primitives.materialize(total)),),
    "edges kept": ((network_lib, "_kept", _nothing),
                   (network_lib, "run_blocks", _edges_kept())),
    "all slots": ((scan, "scan_edges", _all_slots()),),
    "concatenated": ((running, "_joined",
                      lambda nodes: jnp.concatenate(list(nodes), -1)),),
    OPTIMIZER: ()}
OF_PLAIN = (LIBRARY, "nothing kept", "nodes kept", "edges kept")
OF_SUPERNET = (LIBRARY, "all slots", "concatenated", OPTIMIZER)


@contextlib.contextmanager
def as_form(name: str) -> Iterator[None]:
  """Traces by a form for the length of a block."""
  with contextlib.ExitStack() as stack:
    for where, what, other in FORMS[name]:
      stack.enter_context(mock.patch.object(where, what, other))
    jax.clear_caches()  # Nothing that another form has traced.
    yield


# What is compiled.


def plain(form: str, args: argparse.Namespace) -> Compiled:
  """The training step of a plain network, as a job builds it."""
  batch = args.batch_size
  sizes = programs.Sizes(
      args.init_channels, args.init_channels, args.cells, args.image_size,
      batch, batch, batch, 8 * batch)
  with as_form(form):
    runner = programs.Runner(programs.plain(
        sizes, args.network, drop_path=args.drop_path))
    began = time.process_time()
    runner.compile()
  return Compiled(lambda i: runner.run(1), time.process_time() - began,
                  runner.temporaries_mb, lambda: runner._state.params)


def supernet(args: argparse.Namespace) -> Callable[[str], Compiled]:
  """How a form of the supernet's training step is compiled."""
  net = supernet_lib.Supernet(sides.SPACE, records.Skeleton(
      "cifar", args.init_channels, args.cells, 10, args.image_size))
  rng = np.random.default_rng(0)
  size = (args.batch_size, args.image_size, args.image_size, 3)
  images = jnp.asarray(rng.standard_normal(size, np.float32))
  labels = jnp.asarray(rng.integers(0, 10, args.batch_size), jnp.int32)
  genotypes = [sides.draw(rng) for _ in range(args.architectures)]
  genotypes = [sides.everywhere(genotypes[0], "null"), *genotypes]
  data = [jax.device_put(sides.encoded(g)) for g in genotypes]
  params = net.init(jax.random.key(0))["params"]

  def compile_form(form):
    if form == OPTIMIZER:
      return optimizer(params)
    with as_form(form):
      began = time.process_time()
      runner = sides.JaxRunner(net.apply, params, data[1], images, labels)
      seconds = time.process_time() - began  # Tracing and both programs.
    return Compiled(lambda i: runner.step(data[i]), seconds,
                    runner.step_cost.temporaries, lambda: runner.params)

  return compile_form


def optimizer(params: Any) -> Compiled:
  """The optimizer of `sides.JaxRunner`, of gradients that are given."""
  made = optax.chain(optax.add_decayed_weights(sides.WEIGHT_DECAY),
                     optax.sgd(sides.LR, sides.MOMENTUM))
  grads = jax.tree.map(jnp.ones_like, params)

  def update(params, state, grads):
    updates, state = made.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  state = [jax.tree.map(jnp.copy, params), jax.jit(made.init)(params)]
  began = time.process_time()
  compiled, _, cost = sides.compile_timed(
      jax.jit(update, donate_argnums=(0, 1)), *state, grads)
  seconds = time.process_time() - began

  def step(i):
    state[:] = compiled(*state, grads)
    jax.block_until_ready(state)

  return Compiled(step, seconds, cost.temporaries)


# The measurement.


def apart(first: Any, second: Any) -> float:
  """The largest difference of two trees, of the largest number of the first."""
  pairs = list(zip(*(map(np.asarray, jax.tree.leaves(tree))
                     for tree in (first, second)), strict=True))
  return max(float(np.max(np.abs(a - b), initial=0)) for a, b in pairs) / max(
      float(np.max(np.abs(a), initial=0)) for a, _ in pairs)


def measure(forms: Sequence[Compiled], i: int, rounds: int) -> np.ndarray:
  """Seconds [form, round, 2], on the clock and of all threads, of a step."""
  found = np.zeros((len(forms), rounds, 2))
  for k in range(rounds):
    for f in sorted(range(len(forms)), reverse=bool(k % 2)):
      forms[f].step(i)
      began = time.perf_counter(), time.process_time()
      forms[f].step(i)
      found[f, k] = (time.perf_counter() - began[0],
                     time.process_time() - began[1])
  return found


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = flags.Parser(
      description=__doc__.split("\n", 1)[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  parser.add_argument("network", choices=(*PLAIN, SUPERNET))
  parser.add_argument("--forms", nargs="+", choices=FORMS,
                      help="those that ratios are to first; all, if none")
  parser.add_argument("--init-channels", type=int, default=16,
                      help="of cells")
  parser.add_argument("--cells", type=int, default=8)
  parser.add_argument("--batch-size", type=int, default=32)
  parser.add_argument("--image-size", type=int, default=32)
  parser.add_argument("--drop-path", type=float, default=0.0,
                      help="of DARTS's cells")
  parser.add_argument("--architectures", type=int, default=2,
                      help="of the supernet, that are drawn")
  parser.add_argument("--rounds", type=int, default=12)
  tables.add_flags(parser, "Forms of a training step")
  args = parser.parse_args(argv)
  allowed = OF_SUPERNET if args.network == SUPERNET else OF_PLAIN
  args.forms = args.forms or list(allowed)
  for form in args.forms:
    if form not in allowed:
      parser.error(f"{args.network} has no form '{form}'; it has"
                   f" {', '.join(allowed)}")
  if args.drop_path and args.network != "darts":
    parser.error("--drop-path is of DARTS's cells")
  return args


def main(argv: Sequence[str] | None = None) -> None:
  """Compiles, measures and prints."""
  argv = sys.argv[1:] if argv is None else list(argv)
  args = parse(argv)
  jax.config.update("jax_enable_compilation_cache", False)
  lines = tables.machine(tables.command_of(pathlib.Path(__file__).name, argv), [
      f"C={args.init_channels} and {args.cells} cells, where there are cells;"
      f" batch {args.batch_size}, {args.image_size}x{args.image_size}, float32;"
      f" {args.rounds} rounds of a step after one discarded; median"
      " [quartiles]",
      f"ratios are to '{args.forms[0]}' in the same round; CPU seconds of"
      " compilation"])
  print("\n".join(lines), flush=True)
  several = args.network == SUPERNET
  build = supernet(args) if several else functools.partial(plain, args=args)
  forms, after = [], []
  for name in args.forms:
    forms.append(build(name))
    for _ in range(2):
      forms[-1].step(int(several))
    # Copies: the next step takes the parameters' memory.
    after.append(None if forms[-1].params is None else jax.tree.map(
        np.array, forms[-1].params()))
    print(f"{name} compiled", flush=True)
  rows = []
  for i in range(1 + args.architectures if several else 1):
    found = measure(forms, i, args.rounds)
    what = args.network if not several else f"architecture {i}" if i else "null"
    for f, (name, form) in enumerate(zip(args.forms, forms, strict=True)):
      ratio = found[f] / found[0]
      difference = "" if None in (after[0], after[f]) else (
          f"{apart(after[0], after[f]):.0e}")
      rows.append((what, name, *(f"{1e3 * s:.1f}" for s in np.median(
          found[f], axis=0)), *(tables.spread(ratio[:, c], digits=3)
                                for c in range(2)),
          f"{form.compile:.1f}", f"{form.temporaries:.1f}", difference))
  lines += ["", *tables.table(
      ("step", "form", "ms", "CPU ms", "time", "CPU time", "compile s",
       "temporaries MB", "parameters differ by"), rows), "",
      "Load average at the end: " + " ".join(
          f"{x:.1f}" for x in os.getloadavg())]
  tables.show(args, lines)


if __name__ == "__main__":
  main()
