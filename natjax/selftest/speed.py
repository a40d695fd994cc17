"""How fast the training programs are here, and what the card could give.

Every row is a step of a program as a run compiles it (`programs`): in the
engine's loop, the state donated, the images on the device. Steps are timed
several to a call, which is waited for, in rounds, and the median is given.
Programs are compiled several at a time, never from the cache of compiled ones,
and timed one after another when all of their group are compiled; so the seconds
of compilation are each program's own, among others, with tracing.

Beside PyTorch (`torch_sides`), both sides take turns, on the same device, with
the same precision of products. What `torch.compile` makes of some of them is
timed when there are numbers of everything else, again in turns; it is compiled
for one architecture only, which is a fixed one there, and any one here. JAX
must then not take all of the device's memory: whoever asks for it sets
XLA_PYTHON_CLIENT_PREALLOCATE=false before JAX is used.

What was not compiled when the time is up goes on compiling until the process
ends.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
import contextlib
import functools
import os
import statistics
import sys
import time
import traceback
from typing import Any, NamedTuple

import jax
from jax.experimental.compilation_cache import compilation_cache
import jax.numpy as jnp
import numpy as np

from natjax import errors, operations, zoo
from natjax.selftest import forms, programs
from natjax.training import devices as devices_lib

LEAST_SECONDS = 15  # With fewer left no row begins.
ROUNDS = 5
SECONDS = {False: 0.25, True: 0.1}  # Of a call of steps; of quick ones.
SEEDS = 3


class Row(NamedTuple):
  """A program that was timed.

  Attributes:
    name: what it is.
    seconds: of a step, the median.
    per_second: images.
    compile_seconds: tracing, lowering and XLA's.
    temporaries_mb: of the compiled program, without state and images.
    share: of the rates of `ceilings`, what it reaches, where that is known.
    torch_eager: its seconds over those of eager PyTorch.
    torch_compiled: over those of `torch.compile`.
    note: in words; why there are no numbers.
    error: the traceback of what went wrong.
  """

  name: str
  seconds: float | None = None
  per_second: float | None = None
  compile_seconds: float | None = None
  temporaries_mb: float | None = None
  share: str = ""
  torch_eager: float | None = None
  torch_compiled: float | None = None
  note: str = ""
  error: str = ""


class Subject(NamedTuple):
  """What becomes a row.

  Attributes:
    name: of the row.
    make: builds the program.
    theirs: `(torch_sides, device) -> Training`, the same in PyTorch, or None.
    fixed: its turn to have `torch.compile` compile it, too; 0 does not.
    remark: `(step's seconds by name, runner, remaining) -> (seconds, note)`:
      what is given in place of the step's seconds, None for those, and a note.
  """

  name: str
  make: Callable[[], programs.Program]
  theirs: Callable[[Any, str], Any] | None = None
  fixed: int = 0
  remark: Callable[..., tuple[float | None, str]] | None = None


def measure(*, quick: bool, against_torch: bool,
            remaining: Callable[[], float], only: str = "") -> Iterator[Row]:
  """Times the programs, the most important first.

  Args:
    quick: whether at small sizes and fewer of them.
    against_torch: whether to time PyTorch's beside them; see the module.
    remaining: gives the seconds that are left.
    only: times the rows alone whose names contain this.

  Returns:
    An iterator of rows. One that fails says so, and the others go on; one that
    comes again stands for the earlier.

  Raises:
    InputError: PyTorch is asked for and cannot be had.
  """
  return _measure(quick, load_torch() if against_torch else None, remaining,
                  only)


def load_torch() -> Any:
  """PyTorch's sides, `torch_sides`, on the device that JAX uses.

  Raises:
    InputError: it is not installed, or without that device.
  """
  try:
    from natjax.selftest import torch_sides
  except ModuleNotFoundError as error:
    if error.name != "torch":
      raise
    raise errors.InputError(
        "PyTorch is not installed in this interpreter; install torch, or leave"
        " the comparison out", "against") from error
  if _on_gpu() and not torch_sides.torch.cuda.is_available():
    raise errors.InputError(
        f"PyTorch {torch_sides.torch.__version__} finds no GPU, and JAX uses"
        " one; install a build of torch for it, or leave the comparison out",
        "against")
  torch_sides.configure()
  return torch_sides


def _on_gpu():
  return jax.devices()[0].platform in ("gpu", "cuda", "rocm")


# What is timed.


def subjects(quick: bool) -> list[list[Subject]]:
  """What is timed, in groups that are compiled together."""
  sizes = programs.QUICK if quick else programs.FULL
  bfloat16 = {"dtype": "bfloat16"}
  supernet = functools.partial(programs.supernet, sizes)
  plain = functools.partial(programs.plain, sizes)
  search = functools.partial(programs.search, sizes)
  resnet, darts, theirs = "ResNet20", "DARTS's network", _Theirs(sizes)
  plains = [
      Subject(resnet, functools.partial(plain, "resnet20"), theirs.resnet(),
              fixed=2),
      Subject(f"{resnet}, bfloat16",
              functools.partial(plain, "resnet20", **bfloat16),
              theirs.resnet(bfloat16=True), fixed=5),
      Subject(f"{resnet}, {SEEDS} seeds in one vmap, each",
              functools.partial(plain, "resnet20", lanes=SEEDS),
              remark=functools.partial(_together, resnet))]
  supernets = [
      Subject("NAT, weights", supernet, theirs.supernet(sizes.batch_size),
              fixed=1),
      Subject("NAT, weights, large batch",
              functools.partial(supernet, large=True),
              theirs.supernet(sizes.large_batch_size), fixed=4),
      Subject("NAT, weights, large batch, bfloat16",
              functools.partial(supernet, large=True, **bfloat16),
              theirs.supernet(sizes.large_batch_size, bfloat16=True))]
  others = [
      Subject(darts, functools.partial(plain, "darts"), theirs.darts(),
              fixed=3),
      Subject("NAT, policy", functools.partial(supernet, phase="policy")),
      Subject(f"{resnet}, weights and theta", functools.partial(
          programs.theta, sizes, "resnet20"))]
  searches = [
      Subject("DARTS, weights and alpha", functools.partial(search, "darts"),
              theirs.search()),
      Subject("EnTranNAS, weights and alpha",
              functools.partial(search, "entrannas")),
      Subject("EnTranNAS, bottleneck, weights and alpha",
              functools.partial(search, "entrannas", bottleneck=4))]
  loops = [
      Subject(f"{resnet}, epoch", functools.partial(
          plain, "resnet20", images=sizes.images, augment=True),
          remark=functools.partial(_epoch, resnet)),
      Subject(f"{resnet}, a call per step", functools.partial(
          plain, "resnet20", loop=False))]
  if quick:
    return [[plains[0], plains[2]],
            [supernets[0], *others[:2], loops[0]]]
  both_forms = [
      Subject(f"{form.operation}, {form.name}",
              functools.partial(forms.program, sizes, form),
              remark=functools.partial(_form, form))
      for form in forms.FORMS]
  return [supernets, plains, others, searches, loops, both_forms]


class _Theirs:
  """PyTorch's sides of the subjects: `(torch_sides, device) -> Training`."""

  def __init__(self, sizes: programs.Sizes):
    self._sizes = sizes

  def supernet(self, batch_size: int, bfloat16: bool = False):
    """NAT's weights, by architectures drawn as natjax draws them."""
    s = self._sizes

    def make(torch_sides, device):
      drawn = sorted(programs.drawn_genotypes(s), key=lambda g: sum(
          operations.get(e.operation).name.count("conv")
          for cell in g for e in cell.edges))
      middle = len(drawn) // 2  # First: what one is compiled for is usual.
      return torch_sides.Training(
          torch_sides.Supernet(s.init_channels, s.cells), batch_size,
          s.image_size, device=device, bfloat16=bfloat16, max_grad_norm=0.0,
          arguments=[cells_of(torch_sides, g)
                     for g in drawn[middle:] + drawn[:middle]])

    return make

  def resnet(self, bfloat16: bool = False):
    """ResNet20."""
    s = self._sizes
    return lambda torch_sides, device: torch_sides.Training(
        torch_sides.ResNet20(), s.resnet_batch_size, s.image_size,
        device=device, bfloat16=bfloat16)

  def darts(self):
    """The network of DARTS's cells."""
    s = self._sizes
    return lambda torch_sides, device: torch_sides.Training(
        torch_sides.Network(s.init_channels, s.cells, *cells_of(
            torch_sides, zoo.get("darts"))), s.batch_size, s.image_size,
        device=device)

  def search(self):
    """An iteration of DARTS."""
    s = self._sizes
    return lambda torch_sides, device: torch_sides.Search(
        torch_sides.SearchNetwork(s.search_channels, s.cells), s.batch_size,
        s.image_size, device=device)


def cells_of(torch_sides: Any, genotype: Any) -> tuple[Any, ...]:
  """A genotype as `torch_sides` reads it."""
  return tuple(
      tuple((torch_sides.OPERATIONS.index(e.operation), e.source, e.target)
            for e in cell.edges)
      for cell in genotype)


def _together(name, seconds, runner, remaining):
  """Of several runs at once: a run's seconds, and what the others took."""
  del remaining
  mine, lanes = seconds[None], runner.program.lanes
  if name not in seconds:
    return mine / lanes, f"vmap of {lanes} seeds"
  return mine / lanes, (
      f"vmap of {lanes} seeds takes {mine / (lanes * seconds[name]):.2f} times"
      f" {lanes} single steps")


def _epoch(name, seconds, runner, remaining):
  """Of a walk through the engine: a step's seconds, host's work included."""
  steps = runner.program.images // runner.program.batch_size
  alone = seconds[None]
  if programs.EPOCHS * steps * alone > remaining() - LEAST_SECONDS / 2:
    return alone, ("steps with augmentation alone; epochs not run: time limit")
  ends = runner.walk()
  mine = float(np.median(np.diff(ends))) / steps
  note = (f"epochs of {steps} steps; the steps alone take {alone / mine:.0%}"
          " of it")
  if name in seconds:
    note += f", {alone / seconds[name]:.2f} times those without augmentation"
  return mine, note


def _form(form, seconds, runner, remaining):
  """Of a chain of operations: those of one, and how its other form does."""
  del runner, remaining
  mine, note = seconds[None], "forward and backward"
  other = seconds.get(f"{form.operation}, XLA's")
  if other is not None:
    note += f"; takes {mine / other:.2f} times XLA's"
  return mine / forms.CHAIN, note


# How it is timed.


class _Entry:
  """A subject on its way to a row."""

  def __init__(self, subject: Subject):
    self.subject = subject
    self.row = Row(subject.name)
    self.runner: programs.Runner | None = None
    self.compiling: futures.Future[programs.Runner] | None = None
    self.theirs: dict[str, Any] = {}
    self.failed = False  # To build or to lower it.

  @contextlib.contextmanager
  def guarded(self, what: str = "") -> Iterator[None]:
    """Keeps what goes wrong in the row's note."""
    try:
      yield
    except Exception as error:
      first = (str(error).strip() or "no message").splitlines()[0]
      self.say(f"{what}{type(error).__name__}: {first}")
      self.row = self.row._replace(
          error="\n".join([self.row.error, traceback.format_exc()]).strip())

  def forget(self) -> None:
    """Lets go of what is on the device."""
    self.runner = self.compiling = None
    self.theirs.clear()

  def say(self, note: str) -> None:
    """Adds to the note."""
    self.row = self.row._replace(
        note=f"{self.row.note}; {note}" if self.row.note else note)


def _measure(quick, torch_sides, remaining, only):
  """See `measure`."""
  rates, span = ceilings(), SECONDS[quick]
  seconds: dict[Any, float] = {}  # By the subjects' names.
  again: list[_Entry] = []
  pool = futures.ThreadPoolExecutor(min(os.cpu_count() or 1, 8))
  with _cold():
    try:
      for group in subjects(quick):
        entries = [_Entry(subject) for subject in group if only in subject.name]
        _prepare(entries, pool, remaining)
        # Compilers of GPUs choose by timing kernels, on the device itself.
        waited = futures.wait(
            [e.compiling for e in entries if e.compiling],
            timeout=max(remaining() - 2 * LEAST_SECONDS, 0))
        for entry in entries:
          if torch_sides:
            _warm_up(entry, torch_sides, remaining)
          with entry.guarded():
            _time(entry, seconds, rates, remaining, span)
          if waited.not_done and entry.row.seconds is not None:
            entry.say("timed while others compiled, an upper bound")
          if entry.subject.fixed and "eager" in entry.theirs and (
              entry.row.seconds is not None):
            again.append(entry)
          else:
            entry.forget()
          yield entry.row
      for entry in sorted(again, key=lambda e: e.subject.fixed):
        _time_compiled(entry, remaining, span)
        entry.forget()
        yield entry.row
    finally:
      pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _cold():
  """Compiles without the cache of compiled programs."""
  before = jax.config.values["jax_enable_compilation_cache"]
  jax.config.update("jax_enable_compilation_cache", False)
  compilation_cache.reset_cache()  # It looks at the setting once.
  try:
    yield
  finally:
    jax.config.update("jax_enable_compilation_cache", before)
    compilation_cache.reset_cache()


def _prepare(entries: Sequence[_Entry], pool: futures.Executor,
             remaining: Callable[[], float]) -> None:
  """Builds the programs of a group, which are compiled by the pool."""
  for entry in entries:
    if remaining() > LEAST_SECONDS:
      entry.failed = True
      with entry.guarded():
        entry.runner = programs.Runner(entry.subject.make())
        entry.compiling = pool.submit(entry.runner.compile)
        entry.failed = False


def _warm_up(entry: _Entry, torch_sides: Any,
             remaining: Callable[[], float]) -> None:
  """Has PyTorch choose its algorithms, while the device is idle."""
  make = entry.subject.theirs
  if make is None or remaining() < LEAST_SECONDS:
    return
  with entry.guarded("PyTorch: "):
    began = time.perf_counter()
    training = make(torch_sides, "cuda" if _on_gpu() else "cpu")
    training.warm_up()
    entry.theirs["eager"] = training
    entry.say(f"PyTorch began in {time.perf_counter() - began:.0f} s")


def _time_compiled(entry: _Entry, remaining: Callable[[], float],
                   span: float) -> None:
  """Times a program beside what `torch.compile` makes of PyTorch's."""
  if remaining() < 2 * LEAST_SECONDS:
    entry.say("torch.compile not run: time limit")
    return
  with entry.guarded("torch.compile: "):
    began = time.perf_counter()
    training = entry.theirs["eager"].compiled()
    training.run(2)
    entry.say(f"torch.compile took {time.perf_counter() - began:.0f} s")
    assert entry.runner is not None
    ours, theirs = time_in_turns([entry.runner.run, training.run], span)
    entry.row = entry.row._replace(
        torch_compiled=statistics.median(ours) / statistics.median(theirs))
    if len(entry.theirs["eager"].arguments) > 1:
      entry.say("torch.compile's architecture is fixed")


def _time(entry: _Entry, seconds: dict[Any, float], rates: dict[str, float],
          remaining: Callable[[], float], span: float) -> None:
  """Times an entry's sides and fills its row."""
  if entry.failed:
    return
  done = entry.compiling is not None and entry.compiling.done()
  if not done or remaining() < LEAST_SECONDS:
    entry.say("not run: time limit")
    return
  assert entry.compiling is not None
  runner = entry.compiling.result()
  program = runner.program
  entry.row = entry.row._replace(
      compile_seconds=runner.seconds, temporaries_mb=runner.temporaries_mb)
  runs = {"ours": runner.run, **{
      name: training.run for name, training in entry.theirs.items()}}
  found = time_in_turns(list(runs.values()), span)
  medians = dict(zip(runs, (statistics.median(f) for f in found), strict=True))
  mine = step = medians["ours"]
  one = statistics.median(time_in_turns([runner.run], 0)[0])
  note = f"{one * 1e3:.3g} ms if every step is waited for"
  if entry.subject.remark is not None:
    other, note = entry.subject.remark(
        {**seconds, None: step}, runner, remaining)
    mine = step if other is None else other
  seconds[entry.subject.name] = step
  entry.say(note)
  moved = 0.0 if runner.devices[0].platform == "cpu" else runner.moved_bytes
  entry.row = entry.row._replace(
      seconds=mine, per_second=program.batch_size / mine,
      share=share(program, step, moved, rates),
      torch_eager=step / medians["eager"] if "eager" in medians else None)


def time_in_turns(runs: Sequence[Callable[[int], object]], span: float,
                  rounds: int = ROUNDS) -> list[list[float]]:
  """Seconds per step of some sides, [sides][rounds].

  Args:
    runs: `run(steps)` takes steps and waits for them.
    span: how many seconds about a call should take; 0 for a step per call.
    rounds: calls of each that are timed.
  """
  counts = []
  for run in runs:
    run(1)
    once = _seconds(run, 1)
    counts.append(int(np.clip(span / max(once, 1e-6), 1, 200)))
  return [list(times) for times in zip(*(
      [_seconds(run, n) / n for run, n in zip(runs, counts, strict=True)]
      for _ in range(rounds)), strict=True)]


def _seconds(run, steps):
  began = time.perf_counter()
  run(steps)
  return time.perf_counter() - began


def share(program: programs.Program, seconds: float, moved_bytes: float,
          rates: dict[str, float]) -> str:
  """What a step reaches of the device's rates.

  A step is counted as three times the program's multiply-adds. What is read
  from caches counts as copied, so that may exceed the rate of copying.

  Args:
    program: the program.
    seconds: of a step of all its runs.
    moved_bytes: of that, by XLA's count; 0 if unknown.
    rates: of `ceilings`.
  """
  parts = []
  if program.madds:
    flops = 6 * program.madds * program.batch_size * program.lanes
    reached = flops / seconds / 1e12 / rates[f"{program.dtype}_tflops"]
    parts.append(f"products {reached:.2%}")
  if moved_bytes:
    reached = moved_bytes / seconds / 1e9 / rates["copy_gb_per_s"]
    parts.append(f"copying {reached:.0%}")
  return ", ".join(parts)


# What the device could give.


def ceilings() -> dict[str, float]:
  """Measures how fast the first device multiplies matrices and copies.

  It is measured once in a process.

  Returns:
    "bfloat16_tflops", "float32_tflops" (of the default precision, TF32 where
    there is that) and "float32_highest_tflops" of a product of square matrices,
    and "copy_gb_per_s", bytes read and written.
  """
  return dict(_ceilings())


@functools.cache
def _ceilings():
  on_cpu = jax.devices()[0].platform == "cpu"
  side, size = (512, 2**24) if on_cpu else (8192, 2**27)
  found = {}
  for name, dtype, precision in (
      ("bfloat16", jnp.bfloat16, None), ("float32", jnp.float32, None),
      ("float32_highest", jnp.float32, "highest")):
    product = jax.jit(functools.partial(jnp.matmul, precision=precision))
    x = jax.random.normal(jax.random.key(0), (side, side), dtype)
    found[f"{name}_tflops"] = 2 * side**3 / _fastest(product, x, x) / 1e12
  x = jnp.zeros(size, jnp.float32)
  found["copy_gb_per_s"] = 2 * x.nbytes / _fastest(
      jax.jit(lambda x: x + 1), x) / 1e9
  return found


def _fastest(function, *args):
  """Seconds of a call, the least of some rounds of many."""

  def run(times):
    for _ in range(times):
      y = function(*args)
    jax.block_until_ready(y)

  return min(time_in_turns([run], 0.05)[0])


# Alone.


def lines(row: Row) -> str:
  """A row in words."""
  numbers = [
      (row.seconds, 1e3, "ms"), (row.per_second, 1, "images/s"),
      (row.compile_seconds, 1, "s to compile"),
      (row.temporaries_mb, 1, "MB temporary"),
      (row.torch_eager, 1, "x eager"), (row.torch_compiled, 1, "x compiled")]
  return "; ".join([
      f"{row.name}: " + ", ".join(
          f"{x * factor:.4g} {unit}" for x, factor, unit in numbers
          if x is not None), *filter(None, (row.share, row.note))])


def main(argv: Sequence[str] | None = None) -> None:
  """Prints the rates and the rows."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
  parser.add_argument("--quick", action="store_true", help="small sizes")
  parser.add_argument("--against", choices=("torch",))
  parser.add_argument("--seconds", type=float, default=600.0,
                      help="after so many no row begins")
  parser.add_argument("--only", default="", metavar="WORD",
                      help="the rows alone whose names contain it")
  args = parser.parse_args(argv)
  if args.against:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  devices_lib.configure_compilation()
  end = time.monotonic() + args.seconds
  print(jax.devices()[0].device_kind, jax.__version__, ceilings(), flush=True)
  for row in measure(quick=args.quick, against_torch=bool(args.against),
                     remaining=lambda: end - time.monotonic(), only=args.only):
    print(lines(row), flush=True)
    if row.error:
      print(row.error, file=sys.stderr, flush=True)


if __name__ == "__main__":
  main()
