"""Measures the supernet's `selected` form against plain networks and PyTorch.

What: one training step (forward, backward, SGD with momentum 0.9 and weight
decay 3e-4, cross-entropy, parameters donated) and one forward pass of the NAT
supernet of 9 operations and 4 nodes, fully concatenated, for randomly drawn
architectures:
  selected: natjax, the architecture an argument of one compiled program;
  alone: the same architecture static in its own unrolled program, compiled by
    itself, with the weights of its own operations only;
  torch: PyTorch that holds all candidates and runs the chosen ones eagerly
    (`torch_supernet.py`); on CUDA also one fixed architecture under
    `torch.compile`.
The sides take turns, per architecture and round; at every turn the first step
is discarded. At start-up the logits of all sides are compared at a tiny size,
and the parameter counts at C=20. PyTorch updates only weights that have a
gradient (`zero_grad` sets the others to None), natjax all of them.

Commands:
  python experiments/benchmarks/supernet.py
  python experiments/benchmarks/supernet.py --profile \
      --report experiments/benchmarks/README.md --title "CPU, float32"
Expected time on 2 CPU cores: 7 minutes; --profile adds 4.
Needs torch for its columns: pip install "natjax[benchmark]".
"""

import argparse
from collections.abc import Callable, Sequence
import datetime
import functools
import importlib.metadata
import os
import pathlib
import platform
import shlex
import sys
import time
from typing import NamedTuple

# Before jax is imported: the settings under which the library runs.
ACCELERATOR = os.environ.get("JAX_PLATFORMS", "") != "cpu" and any(
    d.metadata["Name"].startswith(("jax-cuda", "jax-rocm", "libtpu"))
    for d in importlib.metadata.distributions()
)
if not ACCELERATOR:
  flags = os.environ.get("XLA_FLAGS", "")
  if "xla_backend_optimization_level" not in flags:
    os.environ["XLA_FLAGS"] = (
        f"{flags} --xla_backend_optimization_level=1".strip())
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from natjax import architecture as architecture_lib  # noqa: E402
from natjax import operations  # noqa: E402
from natjax import skeleton as skeleton_lib  # noqa: E402
from natjax.networks import layers as layers_lib  # noqa: E402
from natjax.networks import supernet as supernet_lib  # noqa: E402
from natjax.spaces import nat as nat_space  # noqa: E402

try:
  import torch
  import torch_supernet
except ModuleNotFoundError as error:
  if error.name != "torch":
    raise
  torch = None

SPACE = nat_space.SPACES["nat"]
LR, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 3e-4
PUBLISHED_PARAMETERS = 5997350  # C=20, 8 cells.
NO_TORCH = 'torch is not installed: pip install "natjax[benchmark]"'


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = argparse.ArgumentParser(
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
  parser.add_argument("--report", type=pathlib.Path,
                      help="markdown file to write the section into")
  parser.add_argument("--title", default="Supernet",
                      help="heading of the section, replaced if it exists")
  return parser.parse_args(argv)


# The architectures.


def draw(rng: np.random.Generator) -> architecture_lib.Genotype:
  """Draws both cells: earlier sources and operations but `null`, uniformly."""
  names = [name for name in SPACE.candidates if name != operations.NULL]
  targets = range(2, 2 + SPACE.num_nodes)

  def cell():
    edges = tuple(
        architecture_lib.Edge(str(rng.choice(names)), int(rng.integers(t)), t)
        for t in targets for _ in range(2)
    )
    return architecture_lib.Cell(edges, tuple(targets))

  return architecture_lib.Genotype(cell(), cell())


def everywhere(
    genotype: architecture_lib.Genotype, name: str
) -> architecture_lib.Genotype:
  """The genotype with operation `name` on all of its edges."""
  return architecture_lib.Genotype(*(
      cell._replace(edges=tuple(e._replace(operation=name)
                                for e in cell.edges))
      for cell in genotype
  ))


# The sides. A side runs one synchronised step or forward pass per call.


class Side(NamedTuple):
  """One way to run the supernet.

  Attributes:
    name: as it is printed.
    step: `step(i)` trains on architecture i and waits for it.
    forward: `forward(i)` computes its logits and waits for them.
    count: architectures that it serves.
  """

  name: str
  step: Callable[[int], object]
  forward: Callable[[int], object]
  count: int


class Compilation(NamedTuple):
  """Seconds spent on a compiled function, and its temporaries in MB."""

  trace: float
  lower: float
  compile: float
  temporaries: float

  @property
  def total(self) -> float:
    return self.trace + self.lower + self.compile


def compile_timed(function, *args, donate=()):
  """Compiles ahead of time; returns the executable and its `Compilation`."""
  jitted = jax.jit(function, donate_argnums=donate)
  seconds, stage = [], jitted
  for action in (lambda s: s.trace(*args), lambda s: s.lower(),
                 lambda s: s.compile()):
    start = time.perf_counter()
    stage = action(stage)
    seconds.append(time.perf_counter() - start)
  memory = stage.memory_analysis().temp_size_in_bytes / 1e6
  return stage, Compilation(*seconds, memory)


def train_step(apply, optimizer, params, opt_state, data, images, labels):
  """One step of SGD on the cross-entropy of `apply(params, data, images)`."""

  def loss_fn(params):
    logits = apply(params, data, images)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(
        logits, labels))

  loss, grads = jax.value_and_grad(loss_fn)(params)
  updates, opt_state = optimizer.update(grads, opt_state, params)
  return optax.apply_updates(params, updates), opt_state, loss


class JaxRunner:
  """A compiled training step and forward pass with their state."""

  def __init__(self, apply, params, data, images, labels):
    optimizer = optax.chain(optax.add_decayed_weights(WEIGHT_DECAY),
                            optax.sgd(LR, MOMENTUM))
    self.params = jax.tree.map(jnp.copy, params)  # They will be donated.
    self.opt_state = jax.jit(optimizer.init)(self.params)
    self.images, self.labels = images, labels
    self._step, self.step_cost = compile_timed(
        functools.partial(train_step, apply, optimizer), self.params,
        self.opt_state, data, images, labels, donate=(0, 1))
    self._forward, self.forward_cost = compile_timed(
        apply, self.params, data, images)

  def step(self, data):
    self.params, self.opt_state, loss = self._step(
        self.params, self.opt_state, data, self.images, self.labels)
    return jax.block_until_ready(loss)

  def forward(self, data):
    return jax.block_until_ready(
        self._forward(self.params, data, self.images))


def own_params(net, params, genotype):
  """The weights of one architecture's operations, out of the supernet's."""
  cells = []
  for group, p in zip(net.groups, params["groups"], strict=True):
    for j, i in enumerate(group):
      reduction = net.layers[i].reduction
      edges = {}
      for part in supernet_lib.passes(SPACE.num_nodes, reduction):
        slots = [tuple(pair) for pair in part.pairs.tolist()]
        for edge in genotype[int(reduction)].edges:
          pair = (edge.source, edge.target)
          if pair in slots and edge.operation in p[part.name]:
            at = (j, slots.index(pair))
            edges[str(edge)] = jax.tree.map(
                lambda leaf, at=at: leaf[at], p[part.name][edge.operation])
      cells.append({"preprocess": p["preprocess"][j], "edges": edges})
  return {"stem": params["stem"], "head": params["head"], "cells": cells}


def apply_alone(net, genotype, params, data, images):
  """Computes what `net.apply` does for one static architecture, unrolled."""
  del data
  x = images.astype(net.dtype)
  outputs = layers_lib.Stem(
      net.skeleton, norm=layers_lib.BatchAffineNorm
  ).apply({"params": params["stem"]}, x)
  for layer, p in zip(net.layers, params["cells"], strict=True):
    cell = genotype[int(layer.reduction)]
    modules = layers_lib.preprocess(layer, supernet_lib.batch_norm)
    nodes = [m.apply({"params": p["preprocess"][f"node{k}"]}, x)
             for k, (m, x) in enumerate(zip(modules, outputs, strict=True))]
    for target in range(2, 2 + SPACE.num_nodes):
      nodes.append(sum(
          _run_edge(edge, layer, cell, p["edges"], nodes[edge.source])
          for edge in cell.incoming(target)))
    outputs = (outputs[1], jnp.concatenate(nodes[2:], axis=-1))
  features = jnp.mean(outputs[1], (1, 2), dtype=jnp.float32)
  return layers_lib.Classifier(net.skeleton.num_classes).apply(
      {"params": params["head"]}, features)


def _run_edge(edge, layer, cell, params, x):
  operation = operations.get(edge.operation)
  module = operation.module(
      features=layer.channels, stride=cell.stride(edge, layer.reduction),
      norm=supernet_lib.batch_norm)
  if str(edge) in params:
    y = module.apply({"params": params[str(edge)]}, x)
  else:
    y = module(x)
  if operation.pooled:
    y = supernet_lib.batch_norm("norm")(y)
  return y


def selected_side(runner, genotypes) -> Side:
  """All architectures through the one compiled program of `runner`."""
  data = [jax.device_put(architecture_lib.genotype_arrays(
      g, SPACE.candidates)) for g in genotypes]
  return Side("selected", lambda i: runner.step(data[i]),
              lambda i: runner.forward(data[i]), len(genotypes))


def alone_side(runners) -> Side:
  """Every architecture through its own compiled program."""
  return Side("alone", lambda i: runners[i].step(None),
              lambda i: runners[i].forward(None), len(runners))


class TorchRunner:
  """The PyTorch supernet with its optimizer."""

  def __init__(self, params, skeleton, images, labels, dtype):
    self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    self.model = torch_supernet.Supernet(
        skeleton.init_channels, skeleton.cells, skeleton.num_classes)
    torch_supernet.load(self.model, jax.tree.map(np.asarray, params))
    self.model.to(self.device)
    images = np.asarray(images, np.float32).transpose(0, 3, 1, 2)
    self.images = torch.tensor(images, device=self.device).contiguous()
    self.labels = torch.tensor(np.asarray(labels), device=self.device).long()
    self.autocast = functools.partial(
        torch.autocast, self.device.type, torch.bfloat16,
        enabled=dtype == "bfloat16")
    self.optimizer = torch.optim.SGD(
        self.model.parameters(), LR, MOMENTUM, weight_decay=WEIGHT_DECAY)

  def _wait(self):
    if self.device.type == "cuda":
      torch.cuda.synchronize()

  def step(self, cells, model=None):
    self.optimizer.zero_grad()
    with self.autocast():
      logits = (model or self.model)(self.images, *cells)
    loss = torch.nn.functional.cross_entropy(logits.float(), self.labels)
    loss.backward()
    self.optimizer.step()
    self._wait()
    return loss

  def forward(self, cells, model=None):
    with torch.no_grad(), self.autocast():
      logits = (model or self.model)(self.images, *cells)
    self._wait()
    return logits


def torch_cells(genotype) -> tuple:
  """A genotype as `torch_supernet` reads it."""
  return tuple(
      tuple((torch_supernet.OPERATIONS.index(e.operation), e.source, e.target)
            for e in cell.edges)
      for cell in genotype
  )


def torch_side(runner, genotypes) -> Side:
  """Every architecture run eagerly by the one PyTorch model."""
  cells = [torch_cells(g) for g in genotypes]
  return Side("torch", lambda i: runner.step(cells[i]),
              lambda i: runner.forward(cells[i]), len(cells))


def torch_compile_side(runner, genotype) -> Side:
  """The first architecture, fixed, under `torch.compile`."""
  cells = torch_cells(genotype)
  model = torch.compile(runner.model)
  return Side("torch.compile", lambda i: runner.step(cells, model),
              lambda i: runner.forward(cells, model), 1)


# The check and the measurement.


def check_sides(with_torch: bool) -> list[str]:
  """Checks at a tiny size that all sides compute the same logits.

  Raises:
    AssertionError: logits or parameter counts differ.
  """
  skeleton = skeleton_lib.Skeleton("cifar", 4, 3, 10, 8)
  net = supernet_lib.Supernet(SPACE, skeleton)
  rng = np.random.default_rng(0)
  genotype = draw(rng)
  images = rng.standard_normal((4, 8, 8, 3), np.float32)
  params = net.init(jax.random.key(0))
  arrays = architecture_lib.genotype_arrays(genotype, SPACE.candidates)
  with jax.default_matmul_precision("highest"):
    logits = jax.jit(net.apply)(params, arrays, images)
    alone = jax.jit(functools.partial(apply_alone, net, genotype))(
        own_params(net, params, genotype), None, images)
  np.testing.assert_allclose(alone, logits, rtol=1e-3, atol=1e-3)
  lines = ["logits of selected and alone agree"]
  if not with_torch:
    return lines
  runner = TorchRunner(params, skeleton, images, np.zeros(4), "float32")
  tf32, torch.backends.cudnn.allow_tf32 = (
      torch.backends.cudnn.allow_tf32, False)
  other = runner.forward(torch_cells(genotype)).cpu().numpy()
  torch.backends.cudnn.allow_tf32 = tf32
  np.testing.assert_allclose(other, logits, rtol=1e-3, atol=1e-3)
  worst = np.max(np.abs(other - np.asarray(logits)))
  lines.append(f"logits of selected and torch agree to {worst:.1e}")
  large = supernet_lib.Supernet(
      SPACE, skeleton_lib.Skeleton("cifar", 20, 8, 10, 32))
  shapes = jax.eval_shape(large.init, jax.random.key(0))
  model = torch_supernet.Supernet(20, 8)
  counts = (sum(leaf.size for leaf in jax.tree.leaves(shapes)),
            sum(p.numel() for p in model.parameters()))
  assert counts == (PUBLISHED_PARAMETERS,) * 2, counts
  lines.append(f"parameters at C=20, 8 cells: {counts[0]} on both sides")
  return lines


def measure(sides, what: str, count: int, rounds: int, steps: int):
  """Times the sides in turns.

  Args:
    sides: what to time.
    what: "step" or "forward".
    count: number of architectures.
    rounds: visits to every architecture.
    steps: timed per visit, after one that is discarded.

  Returns:
    Per side's name, seconds [count, rounds]: the median of a visit, NaN where
    the side does not serve the architecture.
  """
  seconds = {s.name: np.full((count, rounds), np.nan) for s in sides}
  for r in range(rounds):
    for i in range(count):
      for side in sides if r % 2 == 0 else sides[::-1]:
        if i >= side.count:
          continue
        run, times = getattr(side, what), []
        for _ in range(1 + steps):
          start = time.perf_counter()
          run(i)
          times.append(time.perf_counter() - start)
        seconds[side.name][i, r] = np.median(times[1:])
  return seconds


# The report.


def spread(values: np.ndarray, scale: float = 1.0, digits: int = 3) -> str:
  """Median [quartiles] of what is not NaN."""
  low, middle, high = (scale * np.nanpercentile(values, q)
                       for q in (25, 50, 75))
  return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
  """A markdown table, columns of equal width."""
  rows = [list(map(str, row)) for row in (header, *rows)]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  rows.insert(1, ["-" * width for width in widths])
  return ["| " + " | ".join(
      cell.ljust(width) for cell, width in zip(row, widths, strict=True)
  ) + " |" for row in rows]


def verdict(value: float, target: float, unit: str = "") -> str:
  """A target beside its figure."""
  return (f"<= {target:.3g}{unit}: "
          f"{'met' if value <= target else 'missed'}")


def compile_table(selected, alone) -> list[str]:
  """Seconds and memory of every compiled program."""

  def row(name, costs, targets=("", "")):
    median = Compilation(*np.median(np.array(costs), axis=0))
    return [name, *(f"{v:.1f}" for v in (
        median.trace, median.lower, median.compile,
        sum(median[:3]))), f"{median.temporaries:.0f}", *targets]

  cost = selected.step_cost
  rows = [
      row("selected, step", [cost], (
          verdict(cost.compile, 25, " s"),
          verdict(cost.temporaries, 300, " MB"))),
      row("selected, forward", [selected.forward_cost]),
  ]
  if alone:
    rows += [
        row("alone, step", [r.step_cost for r in alone]),
        row("alone, forward", [r.forward_cost for r in alone]),
    ]
  for r in rows:
    r += [""] * (8 - len(r))
  return table(("program", "trace s", "lower s", "XLA compile s", "total s",
                "temporaries MB", "target compile", "target temporaries"),
               rows)


def time_tables(steps, forwards, accelerator: bool) -> list[str]:
  """Seconds per side, and the ratios of `selected` to the others."""
  lines = table(("side", "training step ms", "forward ms"), [
      (name, spread(steps[name], 1e3, 1), spread(forwards[name], 1e3, 1))
      for name in steps
  ])
  targets = {"alone": 1.0, "torch": 1 / 3 if accelerator else 0.6}
  rows = []
  for name in steps:
    if name == "selected":
      continue
    ratio = steps["selected"] / steps[name]
    target = "" if name not in targets else verdict(
        np.nanmedian(ratio), targets[name])
    rows.append((f"selected / {name}", spread(ratio, digits=2), target,
                 spread(forwards["selected"] / forwards[name], digits=2)))
  return lines + [""] * bool(rows) + table(
      ("ratio", "training step", "target", "forward"), rows) * bool(rows)


def architecture_table(genotypes, steps) -> list[str]:
  """The drawn architectures, by their operations, with their step's time."""
  rows = []
  for i, genotype in enumerate(genotypes):
    names = [e.operation for cell in genotype for e in cell.edges]
    heavy = ", ".join(
        f"{names.count(n)} {n}" for n in SPACE.candidates if n in names)
    rows.append((i, *(f"{1e3 * np.median(s[i]):.0f}" for s in steps.values()),
                 heavy))
  return table(("number", *(f"{name} ms" for name in steps),
                "operations of both cells"), rows)


def profile_table(steps, forwards) -> list[str]:
  """Medians with one operation on every edge."""
  rows = []
  for i, name in enumerate(SPACE.candidates):
    row = [name]
    for seconds in (forwards, steps):
      medians = [np.median(seconds[side][i]) for side in seconds]
      row += [f"{1e3 * m:.1f}" for m in medians]
      row += [f"{medians[0] / m:.2f}" for m in medians[1:]]
    rows.append(row)
  sides = list(steps)
  header = ["operation on every edge"]
  for what in ("forward", "step"):
    header += [f"{side} {what} ms" for side in sides]
    header += [f"ratio {what}" for _ in sides[1:]]
  return table(header, rows)


def machine(args, with_torch: bool) -> list[str]:
  """Where, when and with what the figures came about."""
  device = jax.devices()[0]
  name = device.device_kind
  if device.platform == "cpu":
    name = f"{_processor()}, {len(os.sched_getaffinity(0))} cores"
  versions = [f"python {platform.python_version()}", f"jax {jax.__version__}"]
  if torch is not None:
    versions.append(f"torch {torch.__version__}")
  lines = [
      f"- {device.platform}: {name}",
      f"- {', '.join(versions)}; XLA_FLAGS"
      f" `{os.environ.get('XLA_FLAGS', '')}`",
      f"- {datetime.datetime.now().astimezone():%Y-%m-%d %H:%M %Z}, load"
      f" average {' '.join(f'{x:.1f}' for x in os.getloadavg())}",
      f"- `{args.command}`",
      f"- C={args.init_channels}, {args.cells} cells, batch"
      f" {args.batch_size}, {args.image_size}x{args.image_size},"
      f" {args.dtype}; {args.architectures} architectures, {args.alone} of"
      f" them alone, {args.rounds} rounds of {args.steps} steps after one"
      " discarded; median [quartiles]",
  ]
  if os.environ.get("GLIBC_TUNABLES"):
    lines.append(f"- GLIBC_TUNABLES `{os.environ['GLIBC_TUNABLES']}`")
  if os.getloadavg()[0] > 0.25 * len(os.sched_getaffinity(0)):
    lines.append("- PROVISIONAL: other processes ran; figures of the CPU,"
                 " PyTorch's above all, mean little")
  if with_torch and torch.cuda.is_available():
    lines.append(f"- torch on {torch.cuda.get_device_name()}")
  elif with_torch:
    lines.append(f"- torch on the CPU, {torch.get_num_threads()} threads")
  elif torch is None:
    lines.append(f"- {NO_TORCH}")
  return lines


def _processor() -> str:
  """The processor's model name."""
  try:
    info = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
  except OSError:
    return platform.processor()
  names = [line.split(":", 1)[1].strip() for line in info.splitlines()
           if line.startswith("model name")]
  return names[0] if names else platform.processor()


def write_section(path: pathlib.Path, title: str, lines: list[str]) -> None:
  """Puts the section of this title into the file, in place of an older one."""
  head = ("# Benchmarks\n\nWritten by the scripts beside this file; each"
          " section names its command.\n")
  text = path.read_text(encoding="utf-8") if path.exists() else head
  first, *sections = text.split("\n## ")
  body = "\n".join([title, "", *lines]) + "\n"
  titles = [section.split("\n", 1)[0] for section in sections]
  if title in titles:
    sections[titles.index(title)] = body
  else:
    sections.append(body)
  text = "\n\n## ".join(part.strip("\n") for part in (first, *sections)) + "\n"
  draft = path.with_name(path.name + ".tmp")
  draft.write_text(text, encoding="utf-8")
  draft.replace(path)


def main(argv: Sequence[str] | None = None) -> None:
  args = parse(argv)
  args.command = shlex.join(["python", "experiments/benchmarks/supernet.py",
                             *(sys.argv[1:] if argv is None else argv)])
  args.alone = min(args.alone, args.architectures)
  with_torch = torch is not None and not args.skip_torch
  say = functools.partial(print, flush=True)

  # Where.
  jax.config.update("jax_enable_compilation_cache", False)
  accelerator = jax.devices()[0].platform != "cpu"
  if with_torch:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.backends.cudnn.benchmark = True
  lines = machine(args, with_torch)
  lines += [f"- check: {line}" for line in check_sides(with_torch)]
  say("\n".join(lines))

  # What.
  skeleton = skeleton_lib.check(skeleton_lib.Skeleton(
      "cifar", args.init_channels, args.cells, 10, args.image_size))
  net = supernet_lib.Supernet(SPACE, skeleton, jnp.dtype(args.dtype))
  rng = np.random.default_rng(args.seed)
  genotypes = [draw(rng) for _ in range(args.architectures)]
  size = (args.batch_size, args.image_size, args.image_size, 3)
  images = jnp.asarray(rng.standard_normal(size, np.float32))
  labels = jnp.asarray(rng.integers(0, 10, args.batch_size), jnp.int32)
  params = net.init(jax.random.key(args.seed))
  say(f"{sum(x.size for x in jax.tree.leaves(params))} parameters")

  # Compile.
  arrays = architecture_lib.genotype_arrays(genotypes[0], SPACE.candidates)
  selected = JaxRunner(net.apply, params, arrays, images, labels)
  say(f"selected compiled in {selected.step_cost.total:.1f} s")
  alone = [
      JaxRunner(functools.partial(apply_alone, net, genotype),
                own_params(net, params, genotype), None, images, labels)
      for genotype in genotypes[:args.alone]
  ]
  say(f"{len(alone)} networks compiled alone")
  sides = [selected_side(selected, genotypes)]
  if alone:
    sides.append(alone_side(alone))
  if with_torch:
    runner = TorchRunner(params, skeleton, images, labels, args.dtype)
    sides.append(torch_side(runner, genotypes))
    if runner.device.type == "cuda":
      sides.append(torch_compile_side(runner, genotypes[0]))
  lines += ["", *compile_table(selected, alone)]

  # Measure.
  counts = (args.architectures, args.rounds, args.steps)
  for what in ("step", "forward"):  # Everything once, to load and compile.
    measure(sides, what, args.architectures, 1, 1)
  say("warm; measuring")
  steps = measure(sides, "step", *counts)
  forwards = measure(sides, "forward", *counts)
  lines += ["", *time_tables(steps, forwards, accelerator), "",
            *architecture_table(genotypes, steps)]

  # Where does the time go?
  if args.profile:
    uniform = [everywhere(genotypes[0], name) for name in SPACE.candidates]
    sides = [selected_side(selected, uniform)]
    if with_torch:
      sides.append(torch_side(runner, uniform))
    counts = (len(uniform), args.rounds, args.steps)
    lines += ["", *profile_table(measure(sides, "step", *counts),
                                 measure(sides, "forward", *counts))]

  lines += ["", "Load average at the end: "
            + " ".join(f"{x:.1f}" for x in os.getloadavg())]
  say("\n".join(["", f"## {args.title}", "", *lines]))
  if args.report is not None:
    write_section(args.report, args.title, lines)
    say(f"section '{args.title}' written to {args.report}")


if __name__ == "__main__":
  main()
