"""What other packages add to the library, by entry points.

A package names what it adds in its metadata, for example in pyproject.toml::

  [project.entry-points."natjax.methods"]
  mine = "mypackage.mine:ENTRY"

The groups, and what their objects are:

  natjax.methods: a `methods.entry.Entry`; the name is the method's.
  natjax.operations: an `operations.Operation`.
  natjax.spaces: a record as those in `spaces.SPACES`.
  natjax.datasets: `(data_dir, image_size) -> data.Dataset`; the name is what
    `data.load` knows it by.

The command line reads them when it starts; a notebook calls `load`.
"""

from importlib import metadata
from typing import Any

from natjax import data as data_lib
from natjax import errors, methods, operations, spaces
from natjax.methods import entry as entry_lib

_ADVICE = "mend the package or uninstall it"


def load() -> None:
  """Registers what the installed packages add; what is there already, stays.

  Raises:
    InputError: an entry point that cannot be read or imported, of the wrong
      type or of a name that is taken, or a method whose entry lacks a part;
      names the entry point and its distribution.
  """
  for group, add in (
      ("natjax.operations", _add_operation), ("natjax.spaces", _add_space),
      ("natjax.datasets", _add_dataset), ("natjax.methods", _add_method)):
    for point in _points(group):
      package = f" of {point.dist.name}" if point.dist else ""
      where = f"entry point '{point.name}' in {group}{package}"
      doing = "imported"
      try:
        if not point.pattern.match(point.value):
          raise errors.InputError(
              f"its value '{point.value}' is not of the form module:attribute")
        found = point.load()
        doing = "added"
        add(point.name, found)
      except errors.InputError as e:
        raise errors.InputError(f"{where}: {e}; {_ADVICE}") from e
      except (Exception, SystemExit) as e:  # Whatever a package does.
        raise errors.InputError(f"{where}: cannot be {doing}"
                                f" ({errors.cause(e)}); {_ADVICE}") from e


def _points(group: str) -> metadata.EntryPoints:
  """The entry points of a group (InputError: of whom they cannot be read)."""
  try:
    return metadata.entry_points(group=group)
  except Exception:  # One package's damaged file, whoever it belongs to.
    for package in metadata.distributions():
      try:
        package.entry_points  # noqa: B018
      except Exception as e:
        raise errors.InputError(
            f"the entry points of {package.name} cannot be read"
            f" ({errors.cause(e)}); {_ADVICE}") from e
    raise


def _add_method(name: str, found: Any) -> None:
  _add(methods.METHODS, name, entry_lib.check(found), "method")


def _add_space(name: str, found: Any) -> None:
  _check_type(found, spaces.Space)
  _add(spaces.SPACES, found.name, found.validate(), "space")


def _add_operation(name: str, found: Any) -> None:
  _check_type(found, operations.Operation)
  if found.name not in operations.names() or (
      operations.get(found.name) is not found):
    operations.register(found)


def _add_dataset(name: str, found: Any) -> None:
  if not callable(found):
    raise errors.InputError(f"it is of type {type(found).__name__} and must be"
                            " a function (data_dir, image_size) -> Dataset")
  _add({**data_lib.names(), **data_lib.LOADERS}, name, found, "data set")
  data_lib.LOADERS[name] = found


def _check_type(found, known):
  if not isinstance(found, known):
    raise errors.InputError(
        f"it is of type {type(found).__name__} and must be {known.__name__}")


def _add(table: dict[str, Any], name: str, found: Any, what: str) -> None:
  if table.setdefault(name, found) is not found:
    raise errors.InputError(f"there is another {what} '{name}'")
