"""A start for other methods: the candidates learn before they are searched.

Before NAT, NAT++, evolution or theta begins, every operation that `replace`
would put in another's place learns to give what that one gives, for the same
input (its first step, "distil", in as many epochs). The supernet then begins
with the weights of the given network and, for the candidates that it shares
with `replace`, with what these have learnt; what is left begins as it does
without. The prices of `replace` are of no use here: the other method does its
own choosing.

Of theta's candidates only identities across shapes have weights.
"""

import functools
from typing import Any

import jax

from natjax import data as data_lib
from natjax.methods import entry as entry_lib
from natjax.methods import replace, replace_config
from natjax.networks import inherit, trees
from natjax.networks import network as network_lib
from natjax.training import method as base


def before(plan: entry_lib.Plan, request: entry_lib.Request) -> entry_lib.Plan:
  """A plan whose candidates learn first, from the trained given network.

  Args:
    plan: of a method that takes weights.
    request: that it answers.

  Raises:
    InputError: nothing can be replaced.
  """
  architecture = plan.architecture
  assert architecture is not None and plan.begin is not None
  learning = replace.Replace(
      replace_config.ReplaceConfig(), request.train, architecture,
      num_classes=request.num_classes, image_size=request.image_size,
      share=request.share, make_objective=request.make_objective,
      embedding=request.place.embedding,
      steps_per_epoch=request.num_images // plan.batch_size)
  network = network_lib.module(architecture, learning.place)

  def begin(variables, rng):
    return learning.begin(inherit.renumbered(variables, jax.eval_shape(
        functools.partial(network_lib.init, network), rng)), rng)

  def end(state):
    own = {kind: trees.joined(state.network[kind], getattr(state, kind))
           for kind in ("params", "batch_stats")}
    assert plan.begin is not None
    return base.Handover(
        plan.method, plan.begin(own, state.rng), architecture, {})

  distil = learning.method().stages[0]
  return plan._replace(
      method=base.Method(
          init=learning.method().init, stages=(distil._replace(end=end),),
          explain=learning.method().explain),
      begin=begin, estimate=functools.partial(_estimate, plan, request))


def _estimate(plan: entry_lib.Plan, request: entry_lib.Request,
              batch: int) -> dict[str, Any]:
  """That of a plan, which is what follows."""
  found = plan.estimate(batch)
  parts = data_lib.split(
      request.num_images, tuple(plan.fractions.values()), seed=0)
  images = {"train": request.num_images} | {
      name: len(rows) for name, rows in zip(plan.fractions, parts, strict=True)}
  batches = {name: count // plan.batch_size for name, count in images.items()}
  once, further = found.get("madds", 0), found.get("further_steps", 0)
  steps, madds = base.work(plan.method, batches, once)
  return {**found, "further_steps": steps + further, "further_madds": (
      madds + found.get("further_madds", 3 * further * once))}
