"""natjax: takes a network's architecture and returns a better or cheaper one.

The main jobs are `transform`, `search` and `train`; `load` brings back a
trained network, `load_weights` one that others trained, and `verify` judges
those that learnt faces. Everything below them
is public too: `natjax.graph` (architectures; `natjax.blocks`, `natjax.codec`
and `natjax.skeleton` are parts of it), `natjax.operations`, `natjax.cost`,
`natjax.zoo`, `natjax.networks`, `natjax.policies`, `natjax.methods`,
`natjax.training`, `natjax.data`.

`import natjax` itself takes no time: what is asked for is imported then.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
  from natjax.pipeline.public import *  # noqa: F403

__version__ = "0.2.0"

# Rooms that bring their parts, and those whose parts come with what is public.
_FULL = ("cli", "costs", "data", "drawing", "errors", "methods", "operations",
         "pipeline", "spaces", "zoo")
_BARE = ("benchmarks", "graph", "interchange", "networks", "objectives",
         "policies", "selftest", "training")


def __getattr__(name: str) -> typing.Any:
  if name in _FULL:
    return importlib.import_module(f"natjax.{name}")
  if name.startswith("_") and name != "__all__":
    raise AttributeError(f"module 'natjax' has no attribute '{name}'")
  public = importlib.import_module("natjax.pipeline.public")
  if name in _BARE:
    return importlib.import_module(f"natjax.{name}")
  if name != "__all__" and name not in public.__all__:
    raise AttributeError(f"module 'natjax' has no attribute '{name}'")
  globals()[name] = found = getattr(public, name)
  return found


def __dir__() -> list[str]:
  return sorted({*globals(), *_FULL, *_BARE, *__getattr__("__all__")})
