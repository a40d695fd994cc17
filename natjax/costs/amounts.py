"""How amounts are written: small ones in a unit in which they are not zero."""

from collections.abc import Iterable

_FULL = 1e5  # Below, counts and bytes are written as they are.


def count(number: float, digits: int = 3) -> str:
  """Parameters or multiply-adds: in millions, or in full.

  Args:
    number: how many; of a limit a fraction, too.
    digits: behind the point, more where fewer would show next to nothing.

  Example:
    >>> count(3349342, 2), count(528e6, 0), count(123456, 0), count(4240)
    ('3.35 M', '528 M', '0.123 M', '4240')
    >>> count(0.4), count(0)
    ('0.4', '0')
  """
  return _scaled(number, digits, ((1e6, "M"),), "")


def counts(numbers: Iterable[float]) -> list[str]:
  """A column of parameters or multiply-adds, all of it in one unit.

  Args:
    numbers: see `count`.

  Example:
    >>> counts([272474, 91114]), counts([4240, 91114])
    (['0.272 M', '0.091 M'], ['4240', '91114'])
  """
  numbers = [*numbers]
  if any(n >= _FULL for n in numbers) and any(n < _FULL for n in numbers):
    return [f"{rounded(n / 1e6, 3)} M" for n in numbers]
  return [*map(count, numbers)]


def memory(number: float, digits: int = 3) -> str:
  """Bytes: in GB, in MB, or in full.

  Args:
    number: of bytes.
    digits: see `count`.

  Example:
    >>> memory(13.4e9, 0), memory(1107636), memory(24552), memory(1)
    ('13 GB', '1.108 MB', '24552 bytes', '1 bytes')
  """
  return _scaled(number, digits, ((1e9, "GB"), (1e6, "MB")), " bytes")


def seconds(number: float) -> str:
  """A time of inference, or what is saved of it: in ms or us.

  Args:
    number: of seconds; below 0 too.

  Example:
    >>> seconds(0.0051234), seconds(-2e-7), seconds(0.0)
    ('5.123 ms', '-0.200 us', '0.000 ms')
  """
  return f"{rounded(1e6 * number, 3)} us" if 0 < abs(number) < 1e-5 else (
      f"{1e3 * number:.3f} ms")


def rounded(number: float, digits: int = 0) -> str:
  """A number with so many digits behind the point, but never rounded to 0.

  Example:
    >>> rounded(35072.4), rounded(35.072, 1), rounded(0.0042, 1), rounded(0)
    ('35072', '35.1', '0.0042', '0')
  """
  shown = f"{number:.{digits}f}"
  return f"{number:.2g}" if number and not float(shown) else shown


def _scaled(number, digits, units, own):
  """A number in the first of the units of which it is enough."""
  for size, unit in units:
    if number >= (_FULL if size == units[-1][0] else size):
      shown = digits if number >= 10.0 ** (1 - digits) * size else 3
      return f"{number / size:.{shown}f} {unit}"
  return rounded(number) + own
