"""The budget of a transformation: of one given network, at its place.

Parameters, multiply-adds and memory are counted, so that what exceeds them is
neither scored nor returned. Latency is measured, and no mask inside a policy or
a choice can hold it: what a method chooses by is what operations take by
themselves (`latency.Latency.operations`), whose sum foretells the time of a
network badly. So more or less is asked of that sum until a network that was
itself timed keeps to the budget; only what was timed within it is returned. A
multiple of the original's is compared with the ratio of both medians, of runs
in turns. What is over a limit by no more than chance may do is within it, up to
2 % (`Bounds.fast`); the original keeps to its own latency, however it is timed.
"""

from collections.abc import Callable
import dataclasses
import functools
import pathlib
from typing import Any, TypeVar

from natjax import errors
from natjax.costs import amounts, exact, footprint
from natjax.costs import budget as budget_lib
from natjax.graph import codec, keeping, records
from natjax.methods import acceptance
from natjax.methods import latency as latency_lib
from natjax.training import distributed, settings

Choice = TypeVar("Choice")
_NOISE = 0.02  # Of a latency: the most by which chance may exceed it.
_CLOSE = 0.95  # Of a latency that is asked: what is as good as all of it.
_TIMED = 6  # Networks that are timed at most to come so close.


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundsConfig:
  """Settings of a budget, beside `max_params` and `max_madds`.

  Attributes:
    max_memory: the most memory of inference, for example 200MB or 1GiB or
      0.8x: of the weights and of what is held at once of a batch
      (`costs.footprint`), whatever the device.
    max_latency: the longest time of inference of a batch, for example 5ms,
      800us, 0.01s or 0.8x, measured on the first device at hand: the median of
      warm runs of the compiled network, in turns with the original.
    inference_batch: images in that batch, for both.
  """

  max_memory: str = settings.later("")
  max_latency: str = settings.later("")
  inference_batch: int = settings.later(1)


def check(config: BoundsConfig) -> None:
  """Refuses a batch that nothing is measured or counted of (InputError)."""
  settings.at_least_one(config, "inference_batch")
  if config.inference_batch > 1 and not (
      config.max_latency or config.max_memory):
    settings.refuse(config, "inference_batch", "is that of a budget of latency"
                    " or memory; give one, or leave it out")


class Bounds:
  """The limits that settings give, and what is counted and measured for them.

  Attributes:
    given: the architecture whose multiples are meant.
    place: where it stands, and what it becomes.
    cost: of it.
    limits: the budget; that of latency is None until it was measured.
    latency: what times networks; None where latency is not limited.
  """

  def __init__(self, config: Any, given: codec.Architecture,
               place: records.Place, dtype: str = "float32"):
    """Args:
      config: settings of a method; which of the limits they have counts.
      given: the given architecture.
      place: where it stands.
      dtype: of the computation, "float32" or "bfloat16".

    Raises:
      InputError: a limit that cannot be read.
    """
    self.given, self.place = given, place
    self.cost = exact.network(given, place)
    self._asked_by = {name: getattr(config, f"max_{name}", "") for name in (
        "params", "madds", "memory", "latency")}
    self._keep = getattr(config, "keep", "")
    self._at_batch = getattr(config, "inference_batch", 1), dtype
    self._text = self._asked_by["latency"]
    # 1.0 where that is to be a multiple of what will be measured.
    self._latency_asked = budget_lib.parse(
        self._text, 1.0, option="max-latency", form=budget_lib.SECONDS)
    self._relative = self._text.lower().endswith("x")
    self.limits = budget_lib.read(
        self._asked_by["params"], self._asked_by["madds"], self.cost)
    if memory := self._asked_by["memory"]:
      self.limits = self.limits._replace(memory=budget_lib.parse(
          memory, self.memory(given), option="max-memory",
          form=budget_lib.BYTES))
    self.latency = None if self._latency_asked is None else (
        latency_lib.Latency(given, place, *self._at_batch))

  def memory(self, architecture: codec.Architecture) -> int:
    """Bytes of an architecture's inference (`costs.footprint`)."""
    return footprint.count(architecture, self.place, *self._at_batch)

  def spent(self, architecture: codec.Architecture,
            seconds: float = 0.0) -> budget_lib.Spent:
    """What an architecture costs, its memory where that is limited.

    Args:
      architecture: what it costs is counted.
      seconds: its latency, measured or foreseen.
    """
    return budget_lib.Spent(
        exact.network(architecture, self.place), 0 if (
            self.limits.memory is None) else self.memory(architecture), seconds)

  @property
  def exceeded(self) -> bool:
    """Whether the given architecture is over the budget."""
    seconds = 0.0 if self.latency is None else self.seconds(self.given)
    return not self.limits.allows(*self.spent(self.given, seconds))

  def kept(self) -> dict[str, bool | None]:
    """Which limits the given architecture keeps to; None is not measured."""
    now = self.spent(self.given)
    found: dict[str, bool | None] = {
        name: value <= limit for name, limit, value in zip(
            ("params", "madds", "memory"), self.limits[:3],
            (*now.cost[:2], now.memory), strict=True) if limit is not None}
    if self._latency_asked is not None:
      found["latency"] = (
          self.seconds(self.given) <= self.limits.seconds
          if self.limits.seconds is not None else
          self._latency_asked >= 1 if self._relative else None)
    return found

  @property
  def met(self) -> bool | None:
    """Whether the given architecture keeps to the budget, or there is none.

    None where that is not known before its latency is measured (`prepare`).
    """
    met = {*self.kept().values()}
    return False if False in met else None if None in met else True

  def loose(self) -> str:
    """Which limits bound nothing, in words, as far as known; "" of none."""
    met, shown = self.kept(), {
        "params": str(self.cost.params), "madds": str(self.cost.madds),
        "memory": amounts.memory(self.memory(self.given)),
        "latency": "" if self.limits.seconds is None else (
            amounts.seconds(self.seconds(self.given)))}
    said = [f"max-{name} is {self._asked_by[name]} and bounds nothing"
            + f": the given network has {shown[name]}" * bool(shown[name])
            for name, kept in met.items() if kept]
    if said and self.met:
      said.append("the budget is met already, and what follows is done as"
                  " without one")
    return "; ".join(said)

  def resolved(self) -> dict[str, float]:
    """The limits in numbers, bytes and seconds; multiples are resolved.

    Of a latency the original is timed now, and not kept: a run times it anew.
    """
    named = {"params": self.limits.params, "madds": self.limits.madds,
             "memory": self.limits.memory}
    if self.latency is not None and self._latency_asked is not None:
      named["latency"] = self._latency_asked * (
          self.latency.alone().median if self._relative else 1.0)
    return {name: limit for name, limit in named.items() if limit is not None}

  # Latency.

  def prepare(self, folder: pathlib.Path, processes: distributed.Processes,
              fastest: Callable[[], codec.Architecture],
              file: str = latency_lib.FILE) -> None:
    """Measures what a budget of latency needs, where there is one.

    The original, beside the network that would be fastest by the times of its
    operations; what was measured before in the folder is read there.

    Args:
      folder: of the run.
      processes: that run the job.
      fastest: says which network that is, once operations may be timed.
      file: that keeps the times there.

    Raises:
      InputError: the device cannot tell the times apart that are asked for.
      errors.NotMet: neither that network nor the original keeps to the budget.
    """
    if self.latency is None or self._latency_asked is None:
      return
    self.latency.open(folder / file, processes)
    found = fastest()
    self._first = self.latency.pair(found)
    before = self._first.original
    asked = self._latency_asked * (before.median if self._relative else 1.0)
    apart = before.median - asked
    device = self.latency.device.device_kind
    if before.median <= 0 or before.error >= apart > 0:
      raise errors.InputError(
          f"max-latency is {self._text}, and this device ({device}) cannot tell"
          f" it from the original's {amounts.seconds(before.median)} ±"
          f" {amounts.seconds(before.error)} (batch {self.latency.batch}); ask"
          " for less, give a larger inference-batch, or leave the machine to"
          " this run alone", "max_latency")
    self.limits = self.limits._replace(seconds=asked)
    if not (self.fast(self.given) or self.fast(found)):
      raise errors.NotMet(self.too_slow(self.seconds(found)))

  def too_slow(self, least: float) -> str:
    """What to say where the fastest that was timed takes so many seconds."""
    assert self.latency is not None
    return ("nothing that was timed keeps to the budget"
            f" ({self.limits.text()}): the fastest takes"
            f" {amounts.seconds(least)} of the original's"
            f" {amounts.seconds(self._first.original.median)} here"
            f" ({self.latency.device.device_kind}, batch {self.latency.batch});"
            f" {keeping.allow_more(self._keep, 'max-latency')}")

  def seconds(self, architecture: codec.Architecture) -> float:
    """Latency of a network, measured beside the original.

    Of a multiple, by the ratio of the two, whatever the machine did meanwhile.
    """
    base, (before, after) = self._first.original, self.pair(architecture)
    return after.median * (
        base.median / before.median if self._relative else 1.0)

  @property
  def asked(self) -> float:
    """Seconds that are to be saved of the original's; below 0 of none."""
    assert self.limits.seconds is not None  # Or nothing was prepared.
    return self.seconds(self.given) - self.limits.seconds

  def fast(self, architecture: codec.Architecture) -> bool:
    """Whether a network is timed within the budget, but for noise.

    What it takes more may be half the 95 % interval of its difference from the
    original (`latency.Pair.noise`), and 2 % of the limit at most.
    """
    limit = self.limits.seconds
    assert limit is not None
    takes = self.seconds(architecture)
    if takes <= limit or codec.pad(architecture) == codec.pad(self.given):
      return takes <= limit
    pair = self.pair(architecture)
    noise = pair.noise * takes / pair.changed.median
    return takes <= limit + min(noise, _NOISE * limit)

  def pair(self, architecture: codec.Architecture) -> latency_lib.Pair:
    """A network's times and the original's."""
    assert self.latency is not None
    if codec.pad(architecture) == codec.pad(self.given):
      # It is not timed beside itself.
      return latency_lib.Pair(*[self._first.original] * 2)
    return self.latency.pair(architecture)

  def latencies(self, architecture: codec.Architecture
                ) -> acceptance.Latencies | None:
    """The original's and a network's; None where they are not what counts."""
    if self.latency is None:
      return None
    pair, own = self.pair(architecture), self.seconds(architecture)
    return acceptance.Latencies(
        self.seconds(self.given), own, pair.noise * own / pair.changed.median)

  def beside(self, architecture: codec.Architecture) -> tuple[
      acceptance.Latencies | None, tuple[float, float] | None]:
    """`latencies`, and the same of memory: what else than costs counts."""
    return self.latencies(architecture), None if (
        self.limits.memory is None) else (
            self.memory(self.given), self.memory(architecture))

  def row(self, architecture: codec.Architecture) -> dict[str, float]:
    """What a row of a report says of a network, where budgets ask for it.

    "seconds", which its budget was compared with; "latency_ratio", its latency
    to the original's, of runs in turns, which differ by "latency_noise" by
    chance (`latency.Pair.noise`); "memory" in bytes.
    """
    found: dict[str, float] = {}
    if self.latency is not None:
      before, after = pair = self.pair(architecture)
      found["seconds"] = self.seconds(architecture)
      found["latency_ratio"] = after.median / before.median
      found["latency_noise"] = pair.noise / before.median
    if self.limits.memory is not None:
      found["memory"] = self.memory(architecture)
    return found

  def told(self, architecture: codec.Architecture) -> dict[str, Any]:
    """What a result says of latency and memory, where budgets ask for them.

    Args:
      architecture: what is returned.
    """
    found: dict[str, Any] = {}
    if self.latency is not None:
      found["latency"] = self.latency.describe(self.pair(architecture))
    if self.limits.memory is not None:
      batch, dtype = self._at_batch
      found["memory"] = {
          "batch": batch, "dtype": dtype, "original": self.memory(self.given),
          "changed": self.memory(architecture)}
    return found

  def closely(self, now: float, choose: Callable[[float], Choice | None],
              most: Choice, ceiling: float,
              made: Callable[[Choice], codec.Architecture],
              loss: Callable[[Choice], float]) -> Choice:
    """A choice that keeps to the latency, and uses most of it.

    Some networks are timed, and more or less is asked of the sum of operations'
    times for the next, until one keeps to the budget closely.

    Args:
      now: seconds of the network that is changed, more than the budget's.
      choose: `(seconds)`, a choice that saves so many by operations' times;
        None where nothing does.
      most: the choice that saves most.
      ceiling: what that saves by operations' times.
      made: the architecture of a choice.
      loss: of those that keep to the budget the least is taken.

    Raises:
      errors.NotMet: none does.
    """
    limit = self.limits.seconds
    assert limit is not None  # Or nothing was prepared.
    asked = wanted = now - limit
    failed, kept = 0.0, None  # What was asked of those that did not, that did.
    # Choices and their seconds, by their architectures.
    found: dict[codec.Architecture, Choice] = {}
    took: dict[codec.Architecture, float] = {}
    for _ in range(5 * _TIMED):  # The same one again takes no time.
      choice = choose(wanted)
      choice = most if choice is None else choice
      architecture = made(choice)
      if architecture not in found and len(found) == _TIMED - 1:
        break
      found[architecture] = choice
      took[architecture] = takes = self.seconds(architecture)
      if self.fast(architecture):
        kept = wanted
        if takes >= _CLOSE * limit:
          break
      else:
        failed = max(failed, wanted)
        if wanted >= ceiling:
          break
      wanted = (failed + kept) / 2 if kept is not None else (
          self.more(wanted, now - takes, asked, ceiling))
    if not any(map(self.fast, found)):
      found[made(most)] = most
      took[made(most)] = self.seconds(made(most))
    fit = [a for a in found if self.fast(a)]
    if not fit:
      raise errors.NotMet(self.too_slow(min(took.values())))
    return found[min(fit, key=lambda a: loss(found[a]))]

  @staticmethod
  def more(wanted: float, saved: float, asked: float, ceiling: float) -> float:
    """What to ask next of operations' times, where a network is too slow.

    Args:
      wanted: what was asked, in seconds.
      saved: what the network then saved.
      asked: what it was to save.
      ceiling: the most that there is.

    Example:
      >>> Bounds.more(1.0, 1.0, 2.0, 10.0), Bounds.more(1.0, -1.0, 2.0, 10.0)
      (2.0, 3.0)
    """
    return min(wanted * min(max(asked / max(saved, 1e-12), 1.05), 3.0), ceiling)


def prepare(every: tuple[Bounds, ...],
            fastest: Callable[[Bounds], codec.Architecture],
            folder: pathlib.Path, processes: distributed.Processes) -> None:
  """`Bounds.prepare` of several given architectures, a file for each."""
  for number, one in enumerate(every):
    stem, _, ending = latency_lib.FILE.partition(".")
    with errors.naming(f"architecture {number + 1}" * (len(every) > 1)):
      one.prepare(folder, processes, functools.partial(fastest, one),
                  f"{stem}-{number}.{ending}" if number else latency_lib.FILE)
