"""How input architectures beta ~ p are drawn (Guo et al., 2021, Algorithm 1).

In general, operations are uniform among what may stand on an edge, and where a
space's sources are free (cells) these are uniform over all earlier nodes, with
replacement unless the space forbids it (`several`); where candidates differ by
edge, sources are those from which anything but null may come. But for the
paper's p ("published"), null connections are drawn as well, and one edge of
every node at least is not null.

Around a given architecture (`given`), the paper's Eq. 1 for a specific beta,
every edge is kept with a probability that is itself uniform in [0, 1], and is
drawn as in general otherwise. So of E edges any number is drawn anew, from none
to all, with probability 1 / (E + 1). What the space keeps is never drawn. A
user cares for one architecture and what lies around it, and a supernet that is
trained there learns sooner what they are worth: a chain of blocks whose edges
are all random seldom computes anything. Around several, each draw is around one
of them, all equally likely.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from natjax import errors, operations
from natjax.graph import arrays as arrays_lib
from natjax.graph import records
from natjax.operations import edges as edges_lib
from natjax.spaces import base
from natjax.spaces import ground as ground_lib

Sampler = Callable[[jax.Array], arrays_lib.CellArrays]


def sampler(ground: ground_lib.Ground, *, published: bool = False,
            given: Sequence[arrays_lib.CellArrays] = ()) -> Sampler:
  """Returns `(key) -> CellArrays [G, N, K]`, which draws an architecture.

  Args:
    ground: the space.
    published: whether p is as in the released code.
    given: of [G, N, K], around which to draw; none draws from the whole space.

  Raises:
    InputError: more than two inputs, all from different nodes.
  """
  if not ground.space.several and (ground.space.inputs or 0) > 2:
    raise errors.InputError(
        f"search space '{ground.space.name}' gives nodes"
        f" {ground.space.inputs} inputs from different nodes, and the first has"
        " but two nodes before it; give 2 inputs, or allow several", "inputs")
  whole = (_fixed if ground.space.inputs is None else _free)(ground, published)
  if not given:
    return whole
  near = around(ground, whole)
  if len(given) == 1:
    only = jax.tree.map(jnp.asarray, given[0])
    return lambda rng: near(rng, only, False)
  every = jax.tree.map(lambda *x: jnp.stack(x), *given)
  # One that concatenates all its nodes is not drawn in the loose end of others.
  full = np.array([np.array_equal(a.concat, _exists(ground)) for a in given])

  def draw(rng):
    rng_which, rng_draw = jax.random.split(rng)
    which = jax.random.randint(rng_which, (), 0, len(given))
    return near(rng_draw, jax.tree.map(lambda x: x[which], every),
                jnp.asarray(full)[which])

  return draw


def sample_cell(space: base.Space, nulls: bool, rng: jax.Array, stand_in: Any,
                exists: Any, allowed: Any) -> arrays_lib.CellArrays:
  """Draws an input cell; `null` is the last operation.

  Args:
    space: K inputs per node; where one source may not be had twice (`several`),
      K is at most 2, and where fewer sources are allowed, the other edge is
      null; `loose_end`: only nodes that feed no other are concatenated.
    nulls: whether to draw null connections too, fewer than K per node, so that
      every node carries a signal.
    rng: a key.
    stand_in: i32[N, 2 + N, O], what takes the place of a drawn operation on
      the edge from a source: itself, or a skip where it cannot stand.
    exists: bool[N], whether the cell has a node; the others are all null.
    allowed: bool[N, 2 + N, O], what may stand on the edge from a source, where
      that differs by edge; None is everything.

  Returns:
    `CellArrays` of shape [N, K].
  """
  num_nodes, several = stand_in.shape[0], space.several
  rng_source, rng_operation, rng_other = jax.random.split(rng, 3)
  shape = (num_nodes, space.inputs or 0)
  null, node = stand_in.shape[-1] - 1, jnp.arange(num_nodes)
  sources = jnp.arange(stand_in.shape[1]) < node[:, None] + records.NUM_INPUTS
  if allowed is None:
    source = jax.random.randint(
        rng_source, shape, 0, node[:, None] + records.NUM_INPUTS
    ) if several else _distinct(rng_source, sources, sources, space.inputs)
    operation = jax.random.randint(rng_operation, shape, 0, null + nulls)
    other = jax.random.randint(rng_other, (num_nodes,), 0, null)
  else:
    some = jnp.asarray(allowed).at[..., null].set(False)
    can = jnp.any(some, axis=-1, keepdims=True)
    # A node to which no source may lead is null.
    some = some.at[..., null].set(~can[..., 0])
    earlier, sources = sources, jnp.where(
        jnp.any(can, axis=1), can[..., 0], jnp.arange(stand_in.shape[1]) == 0)
    source = (_uniform(rng_source, sources[:, None], shape) if several
              else _distinct(rng_source, sources, earlier, space.inputs))
    mask = jnp.where(can, allowed, some) if nulls else some
    operation = _uniform(rng_operation, mask[node[:, None], source])
    other = _uniform(rng_other, some[node, source[:, -1]])
  if not several:
    operation = jnp.where(sources[node[:, None], source], operation, null)
  all_null = jnp.all(operation == null, axis=1)
  operation = operation.at[:, -1].set(
      jnp.where(all_null, other, operation[:, -1]))
  operation = jnp.asarray(stand_in)[node[:, None], source, operation]
  exists = jnp.asarray(exists)
  return arrays_lib.CellArrays(
      source=source, operation=jnp.where(exists[:, None], operation, null),
      concat=_concatenated(space, exists, source))


def _concatenated(space, exists, source):
  """bool[N]: the nodes of a cell that are, its edges coming from i32[N, K]."""
  if not space.loose_end:
    return exists
  feeds = jnp.where(exists[:, None], source, -1).reshape(-1)
  node = jnp.arange(len(source)) + records.NUM_INPUTS
  return ~jnp.any(feeds[:, None] == node, axis=0) & exists


def _uniform(rng, mask, shape=None):
  """An index along the last axis of a mask, uniform where that is true."""
  return jax.random.categorical(
      rng, jnp.where(jnp.asarray(mask), 0.0, -jnp.inf), shape=shape).astype(
          jnp.int32)


def _distinct(rng, mask, others, count):
  """Different indices along the last axis: of a mask, before them of others."""
  order = jax.random.uniform(rng, mask.shape) + mask + others
  return lax.top_k(order, count)[1][..., ::-1].astype(jnp.int32)


def _exists(ground):
  """bool[G, N], whether a cell has a node."""
  return np.array([np.arange(ground.shape[1]) < decision.cell.num_nodes
                   for decision in ground.decisions])


def around(ground: ground_lib.Ground, whole: Sampler
           ) -> Callable[..., arrays_lib.CellArrays]:
  """Draws around an architecture what `whole` draws in general.

  Returns:
    `(key, CellArrays [G, N, K], whether to keep its concat) -> CellArrays`;
    what it is given may be traced, so that one program serves many.
  """
  space, null = ground.space, ground.table.null
  exists = jnp.asarray(_exists(ground))

  def draw(rng, given, full):
    rng_all, rng_share, rng_keep = jax.random.split(rng, 3)
    drawn = whole(rng_all)
    kept = jax.random.bernoulli(
        rng_keep, jax.random.uniform(rng_share), given.operation.shape)
    protected = jnp.take_along_axis(
        jnp.asarray(ground.kept_from), given.source, axis=-1)
    kept |= protected
    source, operation = (jnp.where(kept, a, b) for a, b in (
        (given.source, drawn.source), (given.operation, drawn.operation)))
    # What the two together make of a node may be nothing, or one source twice.
    other = jnp.all(operation == null, axis=-1, keepdims=True)
    if not space.several and space.inputs is not None:
      ordered = jnp.sort(source, axis=-1)
      other |= jnp.any(ordered[..., 1:] == ordered[..., :-1], axis=-1,
                       keepdims=True)
    other &= ~jnp.all(kept, axis=-1, keepdims=True)
    held = jnp.any(protected, axis=-1, keepdims=True)
    source, operation = (
        jnp.where(other, jnp.where(held, a, b), c) for a, b, c in (
            (given.source, drawn.source, source),
            (given.operation, drawn.operation, operation)))
    concat = given.concat
    if space.loose_end:
      same = jnp.all(
          (source == given.source) & (operation == given.operation), (1, 2))
      concat = jnp.where(
          (same | full)[:, None], given.concat, jax.vmap(functools.partial(
              _concatenated, space))(exists, source))
    return arrays_lib.CellArrays(
        source=source, operation=operation, concat=concat)

  return draw


def _free(ground, published):
  names, space = ground.candidates, ground.space
  every, skip = np.arange(len(names), dtype=np.int32), operations.SKIP
  shape = (*ground.shape[:2], records.NUM_INPUTS + ground.shape[1], len(names))
  instead = np.broadcast_to(every, shape).copy()
  allowed = np.zeros(shape, bool)
  for (g, n, _), (_, e), at in ground.sites():
    source = ground.decisions[g].cell.edges[e].source
    ends = [shapes.ends(edge) for shapes, edge in at] or [
        edges_lib.Ends(1, 1, 1, 1)]
    # Nor can it stand where it leaves images of a side of its own.
    stands = [all(edges_lib.can_stand(operation, end)
                  and edges_lib.keeps_side(operation, end) for end in ends)
              for operation in map(operations.get, names)]
    instead[g, n, source] = np.where(stands, every, names.index(skip))
    allowed[g, n, source] = np.isin(names, space.names(g, e)) & stands
  exists = _exists(ground)

  def draw(rng):
    sample = functools.partial(sample_cell, space, not published)
    return jax.vmap(sample)(jax.random.split(rng, len(instead)), instead,
                            exists, None if space.choices is None else allowed)

  return draw


def _fixed(ground, published):
  allowed = np.zeros((*ground.shape, len(ground.candidates)), bool)
  space = ground.around()
  for slot, edge, _ in ground.sites():
    allowed[slot] = np.isin(ground.candidates, space.names(*edge))
  return fixed(ground, allowed, nulls=not published)


def fixed(ground: ground_lib.Ground, allowed: jax.Array | np.ndarray, *,
          nulls: bool = True) -> Sampler:
  """Draws the operations of a graph whose edges are taken as they are.

  Args:
    ground: the space.
    allowed: bool[G, N, K, O], what may stand in every slot, none where there is
      no edge; it may be traced.
    nulls: whether null is drawn where something else may stand, too.
  """
  start, null = ground.start, ground.table.null
  allowed = jnp.asarray(allowed)
  nothing = jnp.arange(allowed.shape[-1]) == null
  allowed = allowed | (nothing & ~allowed.any(-1, keepdims=True))
  others = allowed & ~nothing
  # Where something but null may stand, [G, N, K].
  can = others.any(-1)
  if not nulls:
    allowed = jnp.where(can[..., None], others, allowed)
  # A node of nulls alone gets another operation on its first edge that can.
  first = can & (jnp.cumsum(can, -1) == 1)
  others = jnp.where(can[..., None], others, allowed)

  def draw(rng):
    rng_all, rng_other = jax.random.split(rng)
    operation = _uniform(rng_all, allowed)
    dead = jnp.all(operation == null, axis=-1, keepdims=True)
    operation = jnp.where(dead & first, _uniform(rng_other, others), operation)
    return arrays_lib.CellArrays(
        source=jnp.asarray(start.source), operation=operation,
        concat=jnp.asarray(start.concat))

  return draw
