"""What a benchmark's sides are, and those of the supernet benchmark.

A side runs one synchronised step or forward pass per call; see `supernet.py`
for what is compared there. Import this after XLA's flags are set.
"""

from collections.abc import Callable
import dataclasses
import functools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import operations
from natjax.graph import arrays as arrays_lib
from natjax.graph import records
from natjax.networks import supernet as supernet_lib
from natjax.spaces import nat as nat_space

try:
  import torch
  import torch_supernet
except ModuleNotFoundError as error:
  if error.name != "torch":
    raise
  torch = None

SPACE = nat_space.SPACES["nat"]
NATPP = nat_space.SPACES["natpp"]
LR, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 3e-4


# The architectures.


def draw(rng: np.random.Generator) -> records.Genotype:
  """Draws both cells: earlier sources and operations but `null`, uniformly."""
  names = [name for name in SPACE.candidates if name != operations.NULL]
  targets = range(2, 2 + SPACE.num_nodes)

  def cell():
    edges = tuple(
        records.Edge(str(rng.choice(names)), int(rng.integers(t)), t)
        for t in targets for _ in range(2)
    )
    return records.Cell(edges, tuple(targets))

  return records.Genotype(cell(), cell())


def everywhere(
    genotype: records.Genotype, name: str
) -> records.Genotype:
  """The genotype with operation `name` on all of its edges."""
  return records.Genotype(*(
      cell._replace(edges=tuple(e._replace(operation=name)
                                for e in cell.edges))
      for cell in genotype
  ))


# The sides.


class Side(NamedTuple):
  """One way to run a network.

  Attributes:
    name: as it is printed.
    step: `step(i)` trains on architecture i and waits for it.
    forward: `forward(i)` computes its logits and waits for them; None where
      only steps are timed.
    served: architectures that it serves.
  """

  name: str
  step: Callable[[int], object]
  forward: Callable[[int], object] | None = None
  served: int = 1


class Compilation(NamedTuple):
  """Seconds spent on a compiled function, and its temporaries in MB."""

  trace: float
  lower: float
  compile: float
  temporaries: float

  @property
  def total(self) -> float:
    return self.trace + self.lower + self.compile


def compile_timed(mapped, *args):
  """Compiles ahead of time what `jax.jit` or `jax.pmap` returned.

  Returns:
    The executable, what was lowered, and the `Compilation`, whose temporaries
    are those of one device; NaN where the backend does not tell. `jax.pmap`
    traces as it lowers.
  """
  times = [time.perf_counter()]
  traced = mapped.trace(*args) if hasattr(mapped, "trace") else None
  times.append(time.perf_counter())
  lowered = mapped.lower(*args) if traced is None else traced.lower()
  times.append(time.perf_counter())
  compiled = lowered.compile()
  times.append(time.perf_counter())
  memory = compiled.memory_analysis()
  memory = memory.temp_size_in_bytes / 1e6 if memory else np.nan
  return compiled, lowered, Compilation(*np.diff(times), memory)


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
    step = functools.partial(train_step, apply, optimizer)
    self._step, _, self.step_cost = compile_timed(
        jax.jit(step, donate_argnums=(0, 1)), self.params, self.opt_state,
        data, images, labels)
    self._forward, _, self.forward_cost = compile_timed(
        jax.jit(apply), self.params, data, images)

  def step(self, data):
    self.params, self.opt_state, loss = self._step(
        self.params, self.opt_state, data, self.images, self.labels)
    return jax.block_until_ready(loss)

  def forward(self, data):
    return jax.block_until_ready(
        self._forward(self.params, data, self.images))


def alone(net: supernet_lib.Supernet, genotype: records.Genotype):
  """The supernet in which nothing but one architecture may stand.

  Its edges run the one operation that they hold, one after another.
  """
  choices = tuple(tuple((edge.operation,) for edge in cell.edges)
                  for cell in genotype)
  return dataclasses.replace(net, space=net.space._replace(
      name="alone", graph=genotype, inputs=None, choices=choices))


def own_params(net: supernet_lib.Supernet, params, genotype):
  """The weights of `alone`, out of those of the whole supernet."""
  mine, blocks = alone(net, genotype).plan, []
  for run, held in zip(mine.runs, params["blocks"], strict=True):
    found = {"preprocess": held["preprocess"]}
    for part in mine.passes(run[0]):
      for name in part.names:
        rows = [_row(net.plan, run[0], mine.cell(run[0]).edges[e], name)
                for e in part.edges]
        if name in held.get(rows[0][0], {}):
          found.setdefault(part.store, {})[name] = jax.tree.map(
              lambda *leaves: jnp.stack(leaves, axis=1), *(
                  jax.tree.map(lambda leaf, row=row: leaf[:, row],
                               held[store][name]) for store, row in rows))
    blocks.append(found)
  return {**params, "blocks": blocks}


def _row(plan, i, edge, name):
  """Where a block's weights of an operation on an edge lie: store and row."""
  for part in plan.passes(i):
    pairs = [plan.cell(i).edges[e][1:] for e in part.edges]
    if edge[1:] in pairs:
      return part.store, part.rows[name][pairs.index(edge[1:])]
  raise ValueError(f"no edge {edge} in block {i}")


def with_weights_of(params, smaller):
  """`params` of a supernet, with all weights that the smaller one has, too."""
  return {**smaller, "blocks": [
      {name: part if name == "preprocess" else part | other.get(name, {})
       for name, part in ({**block, "preprocess": other["preprocess"]}).items()}
      for block, other in zip(params["blocks"], smaller["blocks"], strict=True)
  ]}


def encoded(genotype: records.Genotype, space=SPACE) -> arrays_lib.CellArrays:
  """`CellArrays` [2, N, K] of a genotype in a space."""
  return arrays_lib.encode(genotype, space.candidates)


def selected_side(runner, genotypes, space=SPACE) -> Side:
  """All architectures through the one compiled program of `runner`."""
  data = [jax.device_put(encoded(g, space)) for g in genotypes]
  name = "selected" if space is SPACE else space.name
  return Side(name, lambda i: runner.step(data[i]),
              lambda i: runner.forward(data[i]), len(genotypes))


def alone_side(runners, genotypes) -> Side:
  """Every architecture through its own compiled program."""
  data = [jax.device_put(encoded(g)) for g in genotypes[:len(runners)]]
  return Side("alone", lambda i: runners[i].step(data[i]),
              lambda i: runners[i].forward(data[i]), len(runners))


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
        if i >= side.served:
          continue
        run, times = getattr(side, what), []
        for _ in range(1 + steps):
          start = time.perf_counter()
          run(i)
          times.append(time.perf_counter() - start)
        seconds[side.name][i, r] = np.median(times[1:])
  return seconds
