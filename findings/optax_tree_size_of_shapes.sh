#!/usr/bin/env bash
# optax.tree.size of what jax.eval_shape returns: a deprecation warning.
#
# Versions: optax 0.2.8, jax 0.10.2 (the same with jax 0.12.0.1).
# Expected: optax.tree.size counts the numbers in a tree of ShapeDtypeStructs as
#   in a tree of arrays; counting parameters before anything is allocated is
#   what jax.eval_shape is for, and a ShapeDtypeStruct has a size.
# Seen: it gives 12, and jax says "DeprecationWarning: size requires ndarray or
#   scalar arguments, got <class 'jax.ShapeDtypeStruct'> at position 0. In a
#   future JAX release this will be an error.": optax calls jnp.size on leaves.
#   Where warnings are errors, as in test suites, it raises now.
# Instead: sum(leaf.size for leaf in jax.tree.leaves(tree)).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  "jax==0.10.2" "optax==0.2.8"
"$folder/venv/bin/python" - <<'PY'
import warnings

import jax
import jax.numpy as jnp
import optax

tree = jax.eval_shape(lambda: {"w": jnp.ones((3, 4))})
with warnings.catch_warnings(record=True) as caught:
  warnings.simplefilter("always")
  count = optax.tree.size(tree)
texts = [str(w.message) for w in caught
         if w.category is DeprecationWarning and "ShapeDtypeStruct" in str(w.message)]
print(count, texts)
assert count == 12 and len(texts) == 1, "the behaviour has changed"
assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == 12
PY
