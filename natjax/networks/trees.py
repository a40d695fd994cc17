"""Parts of a network's variables, by their paths."""

from collections.abc import Mapping
from typing import Any

import flax
import jax

_flatten = flax.traverse_util.flatten_dict
_unflatten = flax.traverse_util.unflatten_dict


def restrict(tree: Any, like: Any) -> Any:
  """The part of a pytree that another one has, by paths and shapes.

  Example:
    >>> import numpy as np
    >>> restrict({"a": np.ones(2), "b": np.ones(3)}, {"a": np.zeros(2)})
    {'a': array([1., 1.])}

  Raises:
    ValueError: `like` has a leaf that `tree` has not, or of another shape.
  """
  found = dict(jax.tree_util.tree_leaves_with_path(tree))

  def pick(path, leaf):
    if path not in found or found[path].shape != leaf.shape:
      raise ValueError(f"{jax.tree_util.keystr(path)} of shape {leaf.shape} is"
                       " not there to move")
    return found[path]

  return jax.tree_util.tree_map_with_path(pick, like)


def joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> Any:
  """The leaves of two nested dicts, the second's where both have one.

  Example:
    >>> joined({"a": {"b": 1}}, {"a": {"c": 2}})
    {'a': {'b': 1, 'c': 2}}
  """
  return _unflatten({**_flatten(dict(first)), **_flatten(dict(second))})


def without(tree: Mapping[str, Any], other: Mapping[str, Any]) -> Any:
  """The leaves of a nested dict that another has not, by their paths.

  Example:
    >>> without({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'c': 2}}
  """
  held = _flatten(dict(other))
  return _unflatten({path: leaf for path, leaf in _flatten(dict(tree)).items()
                     if path not in held})
