"""What is imported when it is used.

So that what only counts needs no jax, and `import natjax` takes no time.
"""

from collections.abc import Callable, Mapping
import dataclasses
import importlib
import importlib.util
import pkgutil
import sys
from typing import Any


@dataclasses.dataclass(frozen=True)
class Late:
  """A function or class that is imported when it is called.

  Two of one name are equal, and pickle as their name.

  Attributes:
    name: "package.module:name".

  Example:
    >>> Late("math:prod")([2, 3])
    6
  """

  name: str

  def __call__(self, *args: Any, **options: Any) -> Any:
    return pkgutil.resolve_name(self.name)(*args, **options)


def attach(
    package: str, homes: Mapping[str, tuple[str, ...]],
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
  """Makes a package's `__getattr__` and `__dir__`.

  Args:
    package: its name.
    homes: per module of the package, the names in it that the package offers.

  Returns:
    Both. Modules of the package are found by their names, too, whether they
    have been imported or not.
  """
  home = {name: module for module, names in homes.items() for name in names}

  def get(name: str) -> Any:
    if name in home:
      found = getattr(importlib.import_module(f"{package}.{home[name]}"), name)
      setattr(sys.modules[package], name, found)
      return found
    module = f"{package}.{name}"
    if not name.isidentifier() or name.startswith("_") or (
        importlib.util.find_spec(module) is None):
      raise AttributeError(f"module '{package}' has no attribute '{name}'")
    return importlib.import_module(module)

  return get, lambda: sorted({*vars(sys.modules[package]), *home})
