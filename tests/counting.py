"""Counts of parameters and multiply-adds, from the modules themselves."""

import math

import jax


def size(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def parameters(variables):
  """Number of trainable parameters, the auxiliary head left out."""
  params = variables["params"].items()
  return size({name: part for name, part in params if name != "auxiliary"})


def sub_jaxprs(value):
  """The jaxprs in a parameter of an equation."""
  for item in value if isinstance(value, (tuple, list)) else [value]:
    if hasattr(item, "eqns"):
      yield item
    elif hasattr(item, "jaxpr"):
      yield item.jaxpr


def traced_madds(jaxpr):
  """Multiply-adds of the convolutions and matrix products in a jaxpr.

  Of the forms that a function has for different platforms, the one with XLA's
  convolutions counts; the others have none.
  """
  total = 0
  for eqn in jaxpr.eqns:
    name = eqn.primitive.name
    if name == "conv_general_dilated":
      spec = eqn.params["dimension_numbers"].rhs_spec
      kernel = eqn.invars[1].aval.shape
      per_output = math.prod(kernel) // kernel[spec[0]]
      total += math.prod(eqn.outvars[0].aval.shape) * per_output
    elif name == "dot_general":
      contracted = eqn.params["dimension_numbers"][0][0]
      lhs = eqn.invars[0].aval.shape
      total += math.prod(eqn.outvars[0].aval.shape) * math.prod(
          lhs[i] for i in contracted)
    elif name == "cond":
      total += max(traced_madds(b.jaxpr) for b in eqn.params["branches"])
    else:
      total += sum(traced_madds(sub) for value in eqn.params.values()
                   for sub in sub_jaxprs(value))
  return total
