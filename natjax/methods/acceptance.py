"""Whether a changed network is returned: by images that nothing has seen.

A part of the training images is kept from search and training alike
(`held_out` of a method's settings), and a network is compared with the original
on them, image by image: what both get right or both get wrong says nothing, so
the interval of the difference is narrower than those of the two accuracies
suggest (McNemar, 1947). Returned is only what is cheaper and not worse by more
than a tolerance, or better at no more cost; else the original is.
"""

import dataclasses
import math
from typing import Any, NamedTuple

from natjax import operations
from natjax.training import settings

PART = 0.1  # Of the training images, where the settings leave it open.
Z = 1.96  # Of the interval of 95 %.
_WIDE = 0.1  # An interval that reaches further says little.


# Of Student's t, the 97.5 % quantile for 1, 2, ... degrees of freedom; from
# then on, the last is on the safe side.
_STUDENT = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.306,
            2.2622, 2.2281)


def student(count: int) -> float:
  """Of the mean of so many differences, standard errors in half of its 95 %."""
  return _STUDENT[min(count - 1, len(_STUDENT)) - 1]


def reach(right: int, images: int) -> float:
  """Half of the interval of 95 % of an accuracy.

  That of Agresti and Coull, 1998 (Approximate is better than "exact" for
  interval estimation of binomial proportions), with two more images right and
  two wrong: of 60 images that all are right, none would be known to be wrong.

  Example:
    >>> round(reach(60, 60), 3)
    0.043
  """
  p = (right + 2) / (images + 4)
  return Z * math.sqrt(p * (1 - p) / (images + 4))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialsConfig:
  """Settings of a method whose candidates are tried before one is returned.

  Attributes:
    held_out: part of the training images kept from search and training, on
      which what was found is compared with the original, both trained briefly,
      and once more when both are trained in full; 0 accepts without a look.
      None is 0.1, with the published policy of nat 0.
    tolerance: by how many percentage points of the held-out images a cheaper
      network may be worse than the original.
    finalists: the most candidates that are trained briefly; without trial
      epochs fewer, where it would take longer than the trainings at the end.
    trial_epochs: of that; 0 is a tenth of the final training's, at least 5.
  """

  held_out: float | None = None
  tolerance: float = 0.5
  finalists: int = 3
  trial_epochs: int = 0


class Pairs(NamedTuple):
  """How two networks did on the same images.

  Attributes:
    images: how many.
    won: that the changed network alone gets right.
    lost: that the original alone gets right.
  """

  images: int
  won: int
  lost: int

  @property
  def difference(self) -> float:
    """Accuracy of the changed network less that of the original, [-1, 1]."""
    return (self.won - self.lost) / self.images

  @property
  def standard_error(self) -> float:
    """Of the difference."""
    spread = (self.won + self.lost) / self.images - self.difference**2
    return math.sqrt(max(spread, 0.0) / self.images)

  @property
  def better(self) -> bool:
    """Whether it is more by 1.96 standard errors, by which methods choose.

    Where few images differ, `interval` asks for more.
    """
    return self.difference > Z * self.standard_error

  @property
  def reach(self) -> float:
    """Half of the interval of 95 %.

    That of Bonett and Price, 2012 (Adjusted Wald confidence interval for a
    difference of binomial proportions based on paired data), with one image
    more that each alone gets right. By the standard error, four images that are
    won and none that is lost would be no chance, which gives them once in eight
    times.
    """
    images = self.images + 2
    spread = (self.won + self.lost + 2) / images - (
        (self.won - self.lost) / images)**2
    return Z * math.sqrt(spread / images)

  @property
  def interval(self) -> tuple[float, float]:
    """About the difference, 95 %, in [-1, 1]."""
    return (max(self.difference - self.reach, -1.0),
            min(self.difference + self.reach, 1.0))

  @property
  def few(self) -> bool:
    """Whether the images are too few to tell.

    The interval holds 0 and reaches 10 points or more. Where all are judged
    alike, of n images up to 3 / n may be unlike (the rule of three).
    """
    low, high = self.interval
    return low <= 0 <= high and (
        max(Z * self.standard_error, 3 / self.images) >= _WIDE)


class Latencies(NamedTuple):
  """How long two networks take, in seconds.

  Attributes:
    original: the given one.
    changed: the other one.
    noise: by how much these may differ by chance (`latency.Pair.noise`).
  """

  original: float
  changed: float
  noise: float = 0.0

  @property
  def alike(self) -> bool:
    """Whether the difference is within noise."""
    return abs(self.changed - self.original) <= self.noise


class Verdict(NamedTuple):
  """What comes of a comparison.

  Attributes:
    accepted: whether the changed network is returned.
    reason: why, in words.
    coarse: whether it is refused by a tolerance that is less than one image.
  """

  accepted: bool
  reason: str
  coarse: bool = False


def over_budget(verdict: Verdict) -> Verdict:
  """A verdict on what keeps to a budget that the original exceeds."""
  return verdict if verdict.accepted else verdict._replace(
      reason=f"{verdict.reason}; the original is returned though it is over the"
      " budget: allow more, or a larger tolerance"
      + ", or hold out more images" * verdict.coarse)


def coarse(images: int, tolerance: float) -> str:
  """What is said of so few images that one counts more than a tolerance.

  Losing one then refuses a cheaper network. Of a tolerance of 0, which asks for
  none to be lost, nothing is said.

  Args:
    images: that are held out.
    tolerance: in percentage points.

  Returns:
    A sentence without its stop; "" where one image counts no more.

  Example:
    >>> coarse(144, 0.5)  # doctest: +NORMALIZE_WHITESPACE
    'one of 144 held-out images counts 0.69 points, more than the tolerance of
    0.5: one that is lost refuses a cheaper network; hold out more (held-out),
    or give a larger tolerance'
    >>> coarse(200, 0.5), coarse(200, 0.0)
    ('', '')
  """
  if not _coarse(images, tolerance):
    return ""
  return (f"one of {images} held-out images counts {100 / images:.2f} points,"
          f" more than the tolerance of {tolerance:g}: one that is lost refuses"
          " a cheaper network; hold out more (held-out), or give a larger"
          " tolerance")


def _coarse(images, tolerance):
  return 0 < tolerance < 100 / images - 1e-9


def cheaper(before: operations.Cost, after: operations.Cost,
            seconds: Latencies | None = None,
            memory: tuple[float, float] | None = None) -> bool:
  """Whether a network costs less in one way and no more in any other.

  Args:
    before: cost of the original.
    after: cost of the changed network.
    seconds: the latencies of both, where a budget asks for latency, which is
      then all that counts.
    memory: of both, in bytes, where a budget asks for memory, which then counts
      beside parameters and multiply-adds.
  """
  old, new = _counted(before, after, seconds, memory)
  return old != new and all(x <= y for x, y in zip(new, old, strict=True))


def _counted(before, after, seconds, memory):
  """What counts of two networks' costs, as `cheaper` takes them."""
  if seconds is not None:
    return seconds[:1], seconds[1:2]
  more = memory or (0.0, 0.0)
  return (*before[:2], more[0]), (*after[:2], more[1])


def judge(pairs: Pairs, before: operations.Cost, after: operations.Cost,
          tolerance: float, seconds: Latencies | None = None,
          memory: tuple[float, float] | None = None) -> Verdict:
  """Compares a changed network with the original.

  Args:
    pairs: of held-out images.
    before: cost of the original.
    after: cost of the changed network.
    tolerance: by how many percentage points a cheaper network may be worse.
    seconds: as `cheaper` takes them; the faster network is then the cheaper;
      where that is within noise, it is said.
    memory: as `cheaper` takes it; the ratio of both is then said.

  Example:
    >>> big, small = operations.Cost(20, 200), operations.Cost(10, 100)
    >>> judge(Pairs(1000, 10, 14), big, small, 0.5).reason
    'cheaper, and -0.40 points (95 %: -1.40 to +0.60) on 1000 held-out images'
    >>> judge(Pairs(1000, 10, 16), big, small, 0.5).accepted
    False
    >>> judge(Pairs(144, 0, 1), big, small, 0.5).reason.split(": ")[-1]
    'worse by more than the tolerance of 0.5, where one image counts 0.69'
  """
  saves = cheaper(before, after, seconds, memory)
  old, new = _counted(before, after, seconds, memory)
  dearer = not saves and old != new
  less, more = ("cheaper", "dearer") if seconds is None else (
      f"{word}, within noise" * seconds.alike or word
      for word in ("faster", "slower"))
  if memory is not None:
    less, more = (f"{word} ({memory[1] / memory[0]:.2f}x the memory)"
                  for word in (less, more))
  points, measured = 100 * pairs.difference, told(pairs)
  if dearer:
    return Verdict(False, f"{more}, and {measured}")
  if points > 0:
    return Verdict(True, f"{less if saves else f'no {more}'}, and"
                   f" {measured}")
  if not saves:
    return Verdict(False, f"not {less}, and {measured}")
  # Counts of images are whole: the last digits of a float decide nothing.
  worse = points < -tolerance - 1e-9
  one = worse and _coarse(pairs.images, tolerance)
  return Verdict(not worse, f"{less}, and {measured}" + (
      f": worse by more than the tolerance of {tolerance:g}" if worse else "")
      + f", where one image counts {100 / pairs.images:.2f}" * one, one)


def told(pairs: Pairs) -> str:
  """The difference and its interval in words.

  Example:
    >>> told(Pairs(1000, 10, 14))
    '-0.40 points (95 %: -1.40 to +0.60) on 1000 held-out images'
  """
  low, high = pairs.interval
  return (f"{100 * pairs.difference:+.2f} points (95 %: {100 * low:+.2f} to"
          f" {100 * high:+.2f}) on {pairs.images} held-out images"
          + ", too few to tell by" * pairs.few)


def report(pairs: Pairs, verdict: Verdict) -> dict[str, Any]:
  """Both as JSON values."""
  return {"images": pairs.images, "won": pairs.won, "lost": pairs.lost,
          "difference": pairs.difference, "interval": [*pairs.interval],
          "accepted": verdict.accepted, "reason": verdict.reason,
          **({"few": True} if pairs.few else {}),
          **({"coarse": True} if verdict.coarse else {})}


def part(config: Any) -> float:
  """The part of the training images that settings hold out, [0, 1).

  Where their `held_out` is None it is `PART`, and 0 for what is done as its
  authors did it (`policy="published"`).
  """
  if config.held_out is not None:
    return config.held_out
  return 0.0 if getattr(config, "policy", "") == "published" else PART


def check(config: Any) -> None:
  """Refuses an impossible `tolerance` or `held_out` of settings.

  Raises:
    InputError: a tolerance that is none, a part that is not in [0, 1), or other
      settings of the comparison where nothing is held out to compare by.
  """
  settings.plain(config)
  settings.not_negative(config, "tolerance")
  if config.tolerance > 100:
    settings.refuse(config, "tolerance", "is in percentage points of accuracy,"
                    " of which there are 100; give 0.5")
  if not 0 <= part(config) < 1:
    settings.refuse(config, "held_out", "must lie in [0, 1), a part of the"
                    " training images; 0 accepts without a look")
  usual = {f.name: f.default for f in dataclasses.fields(config)}
  for name in ("tolerance", "finalists", "trial_epochs"):
    if name in usual and not part(config) and (
        getattr(config, name) != usual[name]):
      settings.refuse(config, name, "is for a comparison on held-out images, of"
                      " which there are none; leave it out, or give held-out")
