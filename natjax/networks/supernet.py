"""The supernet: masked selection of operations, over any space.

A supernet holds weights for every candidate operation of every edge of a
search space's graph. The architecture is an argument, arrays; one compiled
program serves all architectures. Facts: Guo et al., 2021, section 5.1 and the
code that its authors released; for other spaces, their papers.

What stands on the edges of a block is told block by block (`How`): two forms,
equal in value and gradient, and others may stand beside them in one network.
  selected: a (source, operation) pair per slot as data; only the chosen
    operations run, and the backward pass recomputes them (`rules`, `scan`).
  dense: every operation runs on every edge and is weighted.

Batch statistics are one of
  "batch": BN has no affine parameters (but in stem and head) and always
    normalises by the batch, in training, reward and scoring alike, with the
    network's own epsilon; there are no running statistics. Networks whose
    convolutions have biases instead get it too, since random operations would
    not train without. Pooling is normalised, dropout is off.
  "running": BN is affine and keeps running statistics, as trained networks do
    (momentum 0.9), those of the chosen operations alone. With weights per slot,
    one program then trains any genotype of a space, and computes what its
    `network.Network` does (`inherit.variables`), without drop path and
    auxiliary head.

Under `vmap` with a batch of architectures `selected` turns into dense work; map
over architectures with `lax.map` instead.
"""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any
from typing import NamedTuple

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from natjax import operations
from natjax.graph import arrays as arrays_lib
from natjax.graph import records
from natjax.networks import candidates as candidates_lib
from natjax.networks import network as network_lib
from natjax.networks import rules
from natjax.networks import scan
from natjax.networks import store
from natjax.spaces import base

Variables = dict[str, Any]

_FIRST = records.NUM_INPUTS


class How(NamedTuple):
  """What stands on the edges of a block.

  Attributes:
    value: i32[N, K], the candidate of every slot; or, where `source` is None, a
      pytree with leading axis E, for every edge of the block's decision what
      `make`'s rule is told of it.
    concat: [N], weights of the nodes in the output, where a cell's output is
      all of its nodes; else the graph says which they are.
    source: i32[N, K], the node that feeds every slot, or None.
    make: the rule.
  """

  value: Any
  concat: jax.Array
  source: jax.Array | None = None
  make: rules.MakeRule = rules.selected


@dataclasses.dataclass(frozen=True)
class Supernet:
  """A supernet as pure functions over a static description.

  Attributes:
    space: graph and candidate operations.
    place: where its network stands.
    dtype: of the computation; parameters are float32.
    width: factor of the network's widths.
    norm: "batch" or "running", see the module.
    axis_name: device axis over which running BN joins the batch; None keeps
      the statistics per device.

  Variables are {"params", "batch_stats"}, float32.
  """

  space: base.Space
  place: records.Place
  dtype: Any = jnp.float32
  width: float = 1.0
  norm: str = "batch"
  axis_name: str | None = None

  @functools.cached_property
  def plan(self) -> store.Plan:
    """Where the weights lie."""
    return store.Plan(self.space, self.place, self.width)

  def candidates(self, train: bool = True) -> candidates_lib.Candidates:
    """How its operations are run."""
    return candidates_lib.Candidates(
        self.plan, self.norm == "running", train, self.axis_name)

  def init(self, rng: jax.Array) -> Variables:
    """Draws the variables of all candidates."""
    return jax.jit(self._init)(rng)

  def _init(self, rng):
    rng_own, rng_kernels = jax.random.split(rng)
    rng_stem, rng_head, rng_blocks = jax.random.split(rng_own, 3)
    image, make = self.place.image_size, self.candidates(False)
    keys = jax.random.split(rng_blocks, len(self.plan.runs))
    parts = {
        "stem": make.layers("stem").init(
            rng_stem, jnp.zeros((1, image, image, 3))),
        "blocks": [self._init_run(make, key, run)
                   for key, run in zip(keys, self.plan.runs, strict=True)],
        "head": make.layers("head").init(
            rng_head, _zeros(self.plan.shapes[-1].output)),
    }
    params = store.redraw_kernels(
        rng_kernels, _collection(parts, "params"), _leading_axes)
    return {"params": params,
            "batch_stats": _collection(parts, "batch_stats")}

  def _init_run(self, make, rng, run):
    """Variables of blocks of equal shapes; edges lead with [J, S]."""
    rng_prefix, rng_edges = jax.random.split(rng)
    found: dict[str, Any] = {}
    if self.plan.network.prefix:
      found["preprocess"] = [
          {f"node{n}": module.init(
              jax.random.fold_in(key, n), _zeros(self.plan.shapes[i].nodes[n]))
           for n, module in enumerate(make.prefix(i))}
          for key, i in zip(jax.random.split(rng_prefix, len(run)), run,
                            strict=True)]
    for p, edges in enumerate(self.plan.passes(run[0])):
      x = jnp.zeros((1, edges.ends.size, edges.ends.size,
                     edges.ends.in_channels))
      held = found.setdefault(edges.store, {})
      for o, name in enumerate(edges.names):
        module = make.module(name, edges.ends)
        if name not in held and isinstance(module, nn.Module):
          lead = (len(run), edges.count[name])
          key = jax.random.fold_in(jax.random.fold_in(rng_edges, p), o)
          flat = jax.vmap(lambda k, m=module, x=x: m.init(k, x))(
              jax.random.split(key, lead[0] * lead[1]))
          held[name] = jax.tree.map(
              lambda leaf, lead=lead: leaf.reshape(*lead, *leaf.shape[1:]),
              flat)
    for n, node in enumerate(self.plan.network.blocks[run[0]].nodes):
      if node.activation == "prelu":
        found[f"slope{n}"] = {"params": jnp.full((len(run), node.width), 0.25)}
      if node.norm and self.norm == "running":
        held = make.norm().init(
            rng, _zeros(self.plan.shapes[run[0]].nodes[n + _FIRST]))
        found[f"norm{n}"] = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (len(run), *leaf.shape)), held)
    return found

  def selected(self, arrays: arrays_lib.CellArrays) -> list[How]:
    """The `selected` form of an architecture, block by block.

    Args:
      arrays: `CellArrays` [G, N, K]; where the graph's edges are taken as they
        are, `source` and `concat` do not matter.
    """
    make = rules.stateful if self.norm == "running" else rules.selected
    return [How(arrays.operation[g], arrays.concat[g], arrays.source[g], make)
            for g in self.plan.decided]

  def weighed(
      self, weights: jax.Array, concat: jax.Array,
      make: rules.MakeRule = rules.dense,
  ) -> list[How]:
    """The `dense` form, block by block.

    Args:
      weights: f32[G, E, O], per decision, edge of its cell (padded to those of
        the largest) and candidate.
      concat: [G, N], weights of the nodes in the output.
      make: the rule.
    """
    return [How(weights[g], concat[g], None, make) for g in self.plan.decided]

  def dense_weights(self, arrays: arrays_lib.CellArrays) -> jax.Array:
    """The f32[G, E, O] for which the two forms are equal: whole numbers."""
    cells = [decision.cell for decision in self.plan.decisions]
    most = max(len(cell.edges) for cell in cells)
    weights = jnp.zeros((len(cells), most, len(self.space.candidates)))
    for g, cell in enumerate(cells):
      n, k = cell.num_nodes, arrays.operation.shape[-1]
      number: Any = np.arange(len(cell.edges))
      if self.space.inputs is None:
        operation = arrays.operation[g][_slots(cell)]
      else:
        lookup = np.zeros((n + _FIRST,) * 2, np.int32)
        for e, edge in enumerate(cell.edges):
          lookup[edge.source, edge.target] = e
        number = jnp.asarray(lookup)[
            arrays.source[g, :n].reshape(-1),
            np.repeat(np.arange(n) + _FIRST, k)]
        operation = arrays.operation[g, :n].reshape(-1)
      weights = weights.at[g, number, operation].add(1.0)
    return weights

  def apply(
      self,
      params: Any,
      arrays: arrays_lib.CellArrays,
      images: jax.Array,
      *,
      rng: jax.Array | None = None,
  ) -> jax.Array:
    """Computes the logits of one architecture, in the `selected` form.

    Args:
      params: from `init`.
      arrays: `CellArrays` of shape [G, N, K].
      images: [B, H, W, 3].
      rng: a key, of operations that draw; None always draws the same.

    Returns:
      f32[B, num_classes].
    """
    return self.run({"params": params}, self.selected(arrays), images,
                    rng=rng)[0]

  def apply_dense(
      self,
      params: Any,
      weights: jax.Array,
      concat: jax.Array,
      images: jax.Array,
      *,
      rng: jax.Array | None = None,
  ) -> jax.Array:
    """Computes the logits with every operation weighted, the `dense` form.

    Args:
      params: from `init`.
      weights: see `weighed`.
      concat: see `weighed`.
      images: [B, H, W, 3].
      rng: a key, of operations that draw; None always draws the same.

    Returns:
      f32[B, num_classes].
    """
    return self.run({"params": params}, self.weighed(weights, concat), images,
                    rng=rng)[0]

  def run(
      self,
      variables: Variables,
      how: Sequence[How],
      images: jax.Array,
      *,
      train: bool = True,
      rng: jax.Array | None = None,
  ) -> tuple[jax.Array, Any]:
    """Computes the logits, whatever stands on the edges of each block.

    Args:
      variables: from `init`.
      how: one per block.
      images: [B, H, W, 3].
      train: of running BN, normalise by the batch and update the statistics;
        else normalise by these.
      rng: a key, of operations that draw; None always draws the same.

    Returns:
      f32[B, num_classes] (features, without classes), and "batch_stats".
    """
    rng = jax.random.key(0) if rng is None else rng
    make, early = self.candidates(train), self.plan.network.early
    fixed = lambda name, x, key: make.apply(
        make.layers(name), {kind: tree.get(name, {}) for kind, tree in (
            variables.items())}, x, key)
    stem, stem_stats = fixed("stem", images.astype(self.dtype), rng)
    values = (stem[-1] if early < 0 else stem[early + 1], stem[-1])
    block_stats = []
    for r, run in enumerate(self.plan.runs):
      own = {kind: tree["blocks"][r] for kind, tree in variables.items()
             if tree}
      values, found = self._run_blocks(make, run, own, how, values, rng)
      block_stats.append(found)
    head, head_stats = fixed("head", values[1], rng)
    logits = head[-1].reshape(head[-1].shape[0], -1).astype(jnp.float32)
    stats = variables.get("batch_stats", {})
    if self.norm == "running":
      changed = {"stem": stem_stats, "blocks": block_stats, "head": head_stats}
      stats = {part: changed[part] for part in stats}
    return logits, stats

  def _run_blocks(self, make, run, variables, how, values, rng):
    """Runs blocks of equal shapes; returns the last two outputs."""
    data = [self._data(i, how[i], jax.random.fold_in(rng, i)) for i in run]
    if self._scans(run, how):
      if not self.plan.sees_both(run[0]):
        # Of another shape, maybe; what the loop carries has one shape.
        values = (values[1], values[1])

      def step(values, xs):
        y, _ = self._unrolled(make, run[0], xs[0], how[run[0]], xs[1], values)
        return (values[1], y), None

      values, _ = lax.scan(step, values, (
          variables, jax.tree.map(lambda *x: jnp.stack(x), *data)))
      return values, {}
    changed = []
    # Cells of equal shapes are unrolled all the same: under one scan they
    # compiled no faster, and its residuals took a quarter more memory.
    for j, i in enumerate(run):
      prefix = {kind: tree.get("preprocess", [{}] * len(run))[j]
                for kind, tree in variables.items()}
      own = jax.tree.map(lambda leaf, j=j: leaf[j], {
          kind: {k: v for k, v in tree.items() if k != "preprocess"}
          for kind, tree in variables.items()})
      inputs, stats = [], {}
      for n, module in enumerate(make.prefix(i)):
        y, stats[f"node{n}"] = make.apply(
            module, {kind: tree.get(f"node{n}", {})
                     for kind, tree in prefix.items()}, values[n])
        inputs.append(y)
      cell = self._scanned if self._has_buffer(how[i]) else self._unrolled
      y, edge_stats = cell(make, i, own, how[i], data[j], (*values, *inputs))
      values = (values[1], y)
      changed.append((stats, edge_stats))
    return values, self._stack(changed)

  def _stack(self, changed):
    """The statistics of a run, in the form of its variables."""
    if self.norm == "batch":
      return {}
    prefixes, edges = zip(*changed, strict=True)
    found = jax.tree.map(lambda *x: jnp.stack(x), *edges)
    return {**found, "preprocess": list(prefixes)} if prefixes[0] else found

  def _scans(self, run, how):
    """Whether a run's blocks are one `lax.scan`: unrolled, and of one rule."""
    return (len(run) > 1 and self.norm == "batch"
            and not self.plan.network.prefix and self.space.inputs is None
            and len({how[i].make for i in run}) == 1)

  def _has_buffer(self, how):
    """Whether all nodes of a cell lie in one array, over which edges scan."""
    return self.space.inputs is not None and (
        how.source is not None or self.space.choices is None)

  def _data(self, i, how, rng):
    """`rules.Data` of a block: of its slots, or of its edges."""
    count, value = len(self.plan.cell(i).edges), how.value
    if how.source is None:
      value = jax.tree.map(lambda leaf: leaf[:count], value)
    elif self.space.inputs is None:
      value = self._local(i, how.value)
    else:
      value = how.value.reshape(-1)
      count = value.shape[0]
    key = None
    if any(operations.get(name).random for name in self.space.candidates):
      key = jax.random.key_data(jax.random.split(rng, count))
    return rules.Data(value, key)

  def _local(self, i, operation):
    """i32[E], which of an edge's own candidates i32[N, K] names."""
    return jnp.stack([
        self._numbers(self.plan.names(i, e))[chosen]
        for e, chosen in enumerate(operation[_slots(self.plan.cell(i))])])

  def _numbers(self, names):
    """i32[O], the numbers of all candidates among those of `names`."""
    numbers = np.zeros(len(self.space.candidates), np.int32)
    for k, name in enumerate(names):
      if name in self.space.candidates:
        numbers[self.space.candidates.index(name)] = k
    return jnp.asarray(numbers)

  def _rule(self, make, how, edges, names):
    return how.make(make.functions(names, edges.ends),
                    [self.space.candidates.index(name) for name in names])

  def _unrolled(self, make, i, variables, how, data, inputs):
    """A block edge by edge; returns its output and its statistics."""
    cell, stats = self.plan.cell(i), variables.get("batch_stats", {})
    block, prefix = self.plan.network.blocks[i], self.plan.network.prefix
    at = {e: (edges, row) for edges in self.plan.passes(i)
          for row, e in enumerate(edges.edges)}
    values = list(inputs)
    for n in range(len(values), _FIRST + len(block.nodes)):
      total = None
      for e, edge in enumerate(cell.edges):
        names = self.plan.names(i, e)
        if edge.target + prefix != n or names == (operations.NULL,):
          continue
        edges, row = at[e]
        rows = {name: edges.rows[name][row] for name in names}
        y, stats = self._edge(
            make, how, edges, names, _take(variables, edges, rows),
            jax.tree.map(lambda leaf, e=e: leaf[e], data),
            values[edge.source + prefix], stats, rows)
        total = y if total is None else total + y
      if total is None:
        total = network_lib.zeros(self.plan.shapes[i].nodes[n], values[1])
      part = f"norm{n - _FIRST}"
      y, norm_stats = make.activate(
          block.node(n), {kind: tree.get(part, {})
                          for kind, tree in variables.items()}, total,
          variables["params"].get(f"slope{n - _FIRST}"))
      values.append(y)
      if norm_stats:
        stats = {**stats, part: norm_stats}
    outputs = [values[n] for n in block.outputs]
    if self.space.inputs is not None:  # All nodes, of which some may count 0.
      outputs = [how.concat[n].astype(y.dtype) * y
                 for n, y in enumerate(outputs)]
    return jnp.concatenate(outputs, -1), stats

  def _edge(self, make, how, edges, names, own, data, x, stats, rows):
    """One edge of a block; returns what it adds, and the block's statistics."""
    aux = self.norm == "running"
    if len(names) == 1:  # Nothing to choose: the operation as it is.
      y = make.functions(names, edges.ends)[0](own, x, rules.typed(data.key))
    else:
      y = rules.apply(self._rule(make, how, edges, names), own, data, x,
                      aux=aux)
    return (y[0], _put(stats, edges, rows, y[1])) if aux else (y, stats)

  def _scanned(self, make, i, variables, how, data, inputs):
    """A cell whose nodes lie in one array; returns output and statistics.

    In a normal cell all nodes share one buffer, inputs first. In a reduction
    cell the inputs are larger and stand apart, and the buffer starts at node 2.
    """
    cell, shapes = self.plan.cell(i), self.plan.shapes[i]
    first, last = self.plan.network.prefix, shapes.nodes[-1]
    stacked = jnp.stack(inputs[first:first + _FIRST])
    apart = shapes.nodes[first].size != last.size
    nodes = jnp.zeros((cell.num_nodes, stacked.shape[1], last.size, last.size,
                       last.width), stacked.dtype)
    if not apart:
      nodes = jnp.concatenate([stacked, nodes])
    stats, aux = variables.get("batch_stats", {}), self.norm == "running"
    for edges in self.plan.passes(i):
      of_inputs = apart and cell.edges[edges.edges[0]].source < _FIRST
      steps, source, target, rows = self._steps(cell, edges, how, data)
      shift = _FIRST if apart else 0
      if aux:
        variables = {**variables, "batch_stats": stats}
      nodes = scan.scan_edges(
          self._rule(make, how, edges, _with_null(edges.names)),
          stacked if of_inputs else None, nodes, _take(variables, edges, rows),
          steps, source - (0 if of_inputs else shift),
          jnp.asarray(target - shift), aux=aux)
      if aux:
        nodes, changed = nodes
        stats = _put(stats, edges, rows, changed)
    nodes = nodes if apart else nodes[_FIRST:]
    weights = how.concat[:cell.num_nodes].astype(nodes.dtype)
    nodes = nodes * weights[:, None, None, None, None]
    return jnp.concatenate(list(nodes), axis=-1), stats

  def _steps(self, cell, edges, how, data):
    """What a scan over a pass walks: (data, source, target, rows).

    All slots of the cell, of which those that belong to another pass run
    `null`; without slots, the edges of the pass.
    """
    pairs = np.array([cell.edges[e][1:] for e in edges.edges], np.int32)
    if how.source is None:
      data = jax.tree.map(lambda leaf: leaf[np.array(edges.edges)], data)
      return data, jnp.asarray(pairs[:, 0]), pairs[:, 1], edges.rows
    n, k = cell.num_nodes, how.source.shape[-1]
    source = how.source[:n].reshape(-1)
    target = np.repeat(np.arange(n, dtype=np.int32) + _FIRST, k)
    lookup = np.full((n + _FIRST,) * 2, -1, np.int32)
    lookup[pairs[:, 0], pairs[:, 1]] = np.arange(len(pairs))
    number = jnp.asarray(lookup)[source, target]
    mine, rows = number >= 0, edges.rows
    if self.space.weights != "slot":
      rows = {name: jnp.asarray(row)[jnp.maximum(number, 0)]
              for name, row in rows.items()}
    data = jax.tree.map(lambda leaf: leaf[:n * k], data)
    value = jnp.where(mine, self._numbers(edges.names)[data.value],
                      _with_null(edges.names).index(operations.NULL))
    return (data._replace(value=value), jnp.where(mine, source, pairs[0, 0]),
            target, rows)


def _slots(cell):
  """The slots of a graph's edges in arrays [N, K]: i[E] and i[E]."""
  targets = [edge.target for edge in cell.edges]
  return (np.array(targets) - _FIRST,
          np.array([targets[:e].count(t) for e, t in enumerate(targets)]))


def _with_null(names):
  return names if operations.NULL in names else (*names, operations.NULL)


def _zeros(shape):
  return jnp.zeros((1, shape.size, shape.size, shape.width))


def _collection(parts, kind):
  """One collection of a nest of modules' variables."""
  if isinstance(parts, list):
    return [_collection(part, kind) for part in parts]
  if not parts or "params" in parts:
    return parts.get(kind, {})
  inner = {name: _collection(part, kind) for name, part in parts.items()}
  return {name: part for name, part in inner.items()
          if isinstance(part, list) or jax.tree.leaves(part)}


def _take(variables, edges, rows):
  """Some rows of the variables of a pass, per candidate that has any."""
  return {kind: {name: jax.tree.map(lambda leaf, r=rows[name]: leaf[r], part)
                 for name, part in tree.get(edges.store, {}).items()
                 if name in rows} for kind, tree in variables.items()}


def _put(stats, edges, rows, changed):
  """Statistics of a block, with those rows of a pass replaced."""
  held = dict(stats.get(edges.store, {}))
  for name, tree in changed.items():
    held[name] = jax.tree.map(
        lambda old, new, r=rows[name]: jnp.asarray(old).at[r].set(new),
        held[name], tree)
  return {**stats, edges.store: held} if held else stats


def _leading_axes(keys):
  """Of a kernel: [J, S] on edges; None for a user's own operations."""
  if keys[0] != "blocks" or keys[2] == "preprocess":
    return 0
  return 2 if keys[3] in operations.BUILTIN else None
