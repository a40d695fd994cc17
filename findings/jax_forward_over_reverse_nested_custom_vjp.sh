#!/usr/bin/env bash
# Forward over reverse fails where one custom_vjp calls another, and reverse
# over reverse does not.
#
# Versions: jax 0.10.2 (the same with jax 0.12).
# Expected: jax.jvp of jax.grad works for functions with a custom_vjp, since
#   grad has replaced them by their own forward and backward rules before jvp
#   sees anything; a function that calls two of them, one inside the other, is
#   no different.
# Seen: it works for one custom_vjp, and for any number beside each other. Where
#   the forward rule of one calls another, jvp raises "TypeError: can't apply
#   forward-mode autodiff (jvp) to a custom_vjp function": what a forward rule
#   calls is evaluated, not differentiated in reverse, so the inner rule is never
#   used and jvp meets the inner function itself. grad of grad works, and gives
#   the same number: the usual advice for Hessian-vector products, forward over
#   reverse, is the mode that fails.
# Instead: let the inner function be one that JAX can differentiate forward, for
#   the length of the trace.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  "jax==0.10.2"
"$folder/venv/bin/python" - <<'PY'
import math

import jax
import jax.numpy as jnp


@jax.custom_vjp
def inner(x):
  return jnp.sin(x)


inner.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))


@jax.custom_vjp
def outer(x):
  return inner(x) ** 2


outer.defvjp(lambda x: (inner(x) ** 2, x), lambda x, g: (g * jnp.sin(2 * x),))


def forward_over_reverse(f):
  return jax.jvp(jax.grad(f), (0.3,), (1.0,))[1]


wanted = 2 * math.cos(0.6)
assert abs(forward_over_reverse(inner) + math.sin(0.3)) < 1e-5
assert abs(forward_over_reverse(lambda x: inner(x) ** 2) - wanted) < 1e-5
assert abs(jax.grad(jax.grad(outer))(0.3) - wanted) < 1e-5
try:
  forward_over_reverse(outer)
except TypeError as error:
  text = str(error)
else:
  raise SystemExit("it works now")
assert "forward-mode autodiff (jvp) to a custom_vjp function" in text, text
print("nested: TypeError; alone, side by side, grad of grad: right")
PY
