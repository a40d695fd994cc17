"""Cost targets: what a transformed architecture may cost at most.

A target is absolute ("3e6", "2.5M", "200MB", "5ms") or relative to the given
architecture ("0.8x").
"""

from collections.abc import Callable, Iterable, Mapping
import math
import re
from typing import NamedTuple, TypeVar

from natjax import errors, operations
from natjax.costs import amounts
from natjax.graph import keeping

Choice = TypeVar("Choice")
_KILO = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_FORM = re.compile(r"((?:[0-9]+\.?|[0-9]*\.[0-9]+)(?:e[+-]?[0-9]+)?)([a-z]*)")


class Form(NamedTuple):
  """How limits of one kind are written.

  Attributes:
    units: what each is worth.
    such_as: examples, for errors.
  """

  units: Mapping[str, float]
  such_as: str


COUNT = Form(_KILO, "3e6 or 2.5M")
BYTES = Form({"": 1.0, **{
    f"{prefix}{unit}": base**power for power, prefix in enumerate(
        ("", "k", "m", "g")) for unit, base in (("b", 1e3), ("ib", 1024.0))
    if prefix or unit == "b"}}, "200MB or 1GiB")
SECONDS = Form({"s": 1.0, "ms": 1e-3, "us": 1e-6}, "5ms, 800us or 0.01s")


class Budget(NamedTuple):
  """The most that a network may cost; None is without limit.

  Attributes:
    params: parameters.
    madds: multiply-adds.
    memory: bytes of inference (`costs.footprint`).
    seconds: of inference, as they are measured (`methods.latency`), or as the
      times of the operations foresee them, if `Spent.seconds` are those.
  """

  params: float | None = None
  madds: float | None = None
  memory: float | None = None
  seconds: float | None = None

  def __bool__(self) -> bool:
    return any(limit is not None for limit in self)

  def text(self) -> str:
    """The limits in words."""
    named = ((self.params, amounts.rounded, "parameters"),
             (self.madds, amounts.rounded, "multiply-adds"),
             (self.memory, amounts.memory, "of memory"),
             (self.seconds, amounts.seconds, "of latency"))
    return " and ".join(f"at most {show(limit)} {name}"
                        for limit, show, name in named if limit is not None)

  def of(self, cost: operations.Cost, memory: float = 0.0) -> str:
    """What a network has of what is limited and counted, in words.

    Where nothing is, its parameters and multiply-adds.

    Example:
      >>> cost = operations.Cost(20, 400)
      >>> Budget(memory=1e6).of(cost, 2e6), Budget(madds=9.0).of(cost)
      ('2.000 MB of memory', '400 multiply-adds')
      >>> Budget(params=5.0, memory=1e6).of(cost, 2e6)
      '20 parameters and 2.000 MB of memory'
    """
    said = (f"{cost.params} parameters", f"{cost.madds} multiply-adds",
            f"{amounts.memory(memory)} of memory")
    return " and ".join([text for text, limit in zip(
        said, self[:3], strict=True) if limit is not None] or said[:2])

  def allows(self, cost: operations.Cost, memory: float = 0.0,
             seconds: float = 0.0) -> bool:
    """Whether a cost keeps to the budget."""
    return all(limit is None or value <= limit for value, limit in zip(
        (*cost[:2], memory, seconds), self, strict=True))

  def excess(self, cost: operations.Cost, memory: float = 0.0,
             seconds: float = 0.0) -> float:
    """The largest of the costs' ratios to their limits; at most 1 if kept."""
    return max(0.0 if limit is None else value / limit for value, limit in zip(
        (*cost[:2], memory, seconds), self, strict=True))


class Spent(NamedTuple):
  """What a network costs, in the order in which a `Budget` takes it.

  Attributes:
    cost: parameters and multiply-adds.
    memory: bytes of inference; 0 where nothing asks for it.
    seconds: of inference; likewise.
  """

  cost: operations.Cost
  memory: float = 0.0
  seconds: float = 0.0


def parse(text: str, original: float | None, *, option: str,
          form: Form = COUNT) -> float | None:
  """Reads one limit.

  Args:
    text: "" for none, a number with a unit of the form, or a multiple of the
      original's cost such as "0.8x".
    original: cost of the given architecture; None where none is given.
    option: name of the setting, for the error.
    form: how it is written.

  Example:
    >>> parse("0.5x", 3000, option="max-params"), parse("2K", 1, option="o")
    (1500.0, 2000.0)
    >>> parse("1KiB", 1, option="o", form=BYTES)
    1024.0

  Raises:
    InputError: another form, not above 0, or a part of one thing that is
      counted, as of a multiple whose x was forgotten.
  """
  if not text:
    return None
  match = _FORM.fullmatch(text.lower())
  number, unit = match.groups() if match else ("nan", "")
  units = {**form.units, **({} if original is None else {"x": float(original)})}
  value = float(number) * units.get(unit, math.nan)
  part = form is not SECONDS and unit != "x" and value < 1
  if not 0 < float(number) < math.inf or math.isnan(value) or part:
    multiple = ("; without a given architecture there is nothing to take a"
                " multiple of" if original is None else ", or a multiple of the"
                " given architecture's such as 0.8x")
    raise errors.InputError(
        f"{option} is '{text}'; give a number above 0 such as {form.such_as}"
        f"{multiple}", field=option.replace("-", "_"))
  return value


def read(max_params: str, max_madds: str,
         original: operations.Cost | None) -> Budget:
  """Reads both limits; see `parse`."""
  params, madds = (None, None) if original is None else original[:2]
  return Budget(parse(max_params, params, option="max-params"),
                parse(max_madds, madds, option="max-madds"))


def cheapen(chosen: Choice, limits: Budget,
            spent: Callable[[Choice], Spent],
            neighbours: Callable[[Choice], Iterable[tuple[Choice, float]]],
            nothing: str, keep: str = "") -> Choice:
  """Changes a choice step by step until it keeps to a budget.

  Every step takes the cheaper neighbour that loses least per part of the
  excess; of equal ones that which saves least, then the first.

  Args:
    chosen: where to begin.
    limits: the budget.
    spent: what a choice costs.
    neighbours: `(choice)` yields others, and what each loses.
    nothing: begins the error: "no transformation", "nothing in the space".
    keep: what may not be changed, for the error; see `graph.keeping`.

  Raises:
    NotMet: no neighbour is cheaper.
  """
  while not limits.allows(*(now := spent(chosen))):
    excess, options = limits.excess(*now), []
    for other, lost in neighbours(chosen):
      saved = excess - limits.excess(*spent(other))
      if saved > 0:  # Saving more than is needed is worth nothing.
        options.append((lost / min(saved, excess - 1), saved, other))
    if not options:
      raise errors.NotMet(
          f"{nothing} keeps to the budget ({limits.text()}); the cheapest that"
          f" was found has {limits.of(now.cost, now.memory)};"
          f" {keeping.allow_more(keep)}")
    chosen = min(options, key=lambda option: option[:2])[-1]
  return chosen
