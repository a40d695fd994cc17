"""Local distillation: operations learn to give what another gives."""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

import flax
import jax
from jax import lax
import jax.numpy as jnp

from natjax.operations import edges as edges_lib

_SPREAD = 1e-6  # Added to a variance before something is divided by it.


class Lesson(NamedTuple):
  """What the replacements of one place learn from, on a batch.

  Attributes:
    path: of every replacement's variables, by the operation's name.
    ends: the shapes that the edge joins.
    source: [B, H, W, C], what the operation was given.
    wanted: [B, h, w, C'], what it made of it.
    made: `(name)`, what an operation is there.
  """

  path: dict[str, tuple[str, str]]
  ends: edges_lib.Ends
  source: jax.Array
  wanted: jax.Array
  made: Callable[[str], Any]


def learn(lessons: Sequence[Lesson], params: Any, batch_stats: Any,
          rng: jax.Array) -> tuple[jax.Array, Any, Any]:
  """What all lessons teach: losses, gradients, new statistics.

  The loss of a replacement is the mean square of its difference from what the
  operation gave, over the variance of that. Places of equal shapes and names
  take their turns in a loop, so that one of them is compiled.

  Args:
    lessons: of a batch.
    params: of all replacements, by block and module.
    batch_stats: theirs, of those that have any.
    rng: a key, of operations that draw.

  Returns:
    The losses f32[K] of all K replacements; the gradients of their sum by
    `params`; the statistics.
  """
  alike: dict[Any, list[Lesson]] = {}
  for lesson in lessons:
    shape = lesson.source.shape, lesson.wanted.shape, lesson.ends
    alike.setdefault((shape, *lesson.path), []).append(lesson)
  losses, grads, stats = [], {}, {}
  for number, group in enumerate(alike.values()):
    given = [(
        {name: params[block][module]
         for name, (block, module) in lesson.path.items()},
        {name: batch_stats.get(block, {}).get(module, {})
         for name, (block, module) in lesson.path.items()},
        lesson.source, lesson.wanted,
        jax.random.fold_in(jax.random.fold_in(rng, number), turn),
    ) for turn, lesson in enumerate(group)]
    teach = functools.partial(_teach, group[0].made)
    if len(group) == 1:
      taught = [teach(given[0])]
    else:
      found = lax.map(teach, jax.tree.map(lambda *x: jnp.stack(x), *given))
      taught = [jax.tree.map(lambda x, turn=turn: x[turn], found)
                for turn in range(len(group))]
    for lesson, (loss, grad, new) in zip(group, taught, strict=True):
      losses += [loss[name] for name in lesson.path]
      for name, path in lesson.path.items():
        grads[path], stats[path] = grad[name], new[name]
  stats = {path: part for path, part in stats.items() if part}
  return (jnp.stack(losses) if losses else jnp.zeros(0),
          *map(flax.traverse_util.unflatten_dict, (grads, stats)))


def _teach(made, given):
  """One lesson: of every operation its loss, gradients, new statistics."""
  params, batch_stats, source, wanted, rng = given
  wanted = wanted.astype(jnp.float32)
  spread = jnp.var(wanted) + _SPREAD

  def loss(params):
    losses, changed = {}, {}
    for name, own in params.items():
      y, new = made(name).apply(
          {"params": own, "batch_stats": batch_stats[name]}, source,
          mutable=["batch_stats"], rngs={"dropout": rng, "noise": rng})
      missed = y.astype(jnp.float32) - wanted
      losses[name] = jnp.mean(jnp.square(missed)) / spread
      changed[name] = new.get("batch_stats", {})
    return sum(losses.values()), (losses, changed)

  grads, (losses, changed) = jax.grad(loss, has_aux=True)(params)
  return losses, grads, changed
