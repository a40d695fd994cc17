"""How the blocks of a supernet are run."""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from natjax import operations
from natjax.graph import arrays as arrays_lib
from natjax.graph import records
from natjax.graph import shapes as shapes_lib
from natjax.networks import bottleneck, rules, scan, store
from natjax.networks import layers as layers_lib
from natjax.networks import network as network_lib
from natjax.operations import edge_modules, primitives
from natjax.operations import edges as edges_lib
from natjax.spaces import base

_FIRST = records.NUM_INPUTS


class How(NamedTuple):
  """What stands on the edges of a block.

  Attributes:
    value: i32[N, K], the candidate of every slot; or, where `source` is None, a
      pytree with leading axis E, for every edge of the block's decision what
      `make`'s rule is told of it: weights f32[E, O] of `rules.sparse`.
    concat: [N], weights of the nodes in the output, where a cell's output is
      all of its nodes; else the graph says which they are.
    source: i32[N, K], the node that feeds every slot, or None.
    make: the rule.
    tells: whether the rule's forward returns `(y, {"told": f32[B, O]})`, which
      then comes beside the logits (`Supernet.run`); where `source` is None.
  """

  value: Any
  concat: jax.Array
  source: jax.Array | None = None
  make: rules.MakeRule = rules.selected
  tells: bool = False


@dataclasses.dataclass(frozen=True)
class Runner:
  """How the operations of a supernet are built, and its blocks are run.

  Attributes:
    plan: of the supernet.
    running: whether BN is affine and keeps running statistics; else it is
      neither, and pooling is normalised too.
    train: of BN that keeps statistics, whether it normalises by the batch.
    axis_name: device axis over which running BN joins the batch.
    calibrated: whether BN that is not affine keeps statistics all the same
      (`layers.CalibratedNorm`).
  """

  plan: store.Plan
  running: bool
  train: bool
  axis_name: str | None
  calibrated: bool = False

  @property
  def keeps(self) -> bool:
    """Whether BN keeps statistics."""
    return self.running or self.calibrated

  def norm(self, name: str | None = None, *, affine: bool = False,
           biased: bool = False) -> Any:
    """The BN of operations; with `affine`, that of stem and head."""
    epsilon = self.plan.network.norm_epsilon
    if self.calibrated:
      return layers_lib.CalibratedNorm(
          self.train, epsilon, affine, biased, name=name)
    if biased:
      return layers_lib.BiasedNorm(epsilon, name=name)
    if self.running:
      return layers_lib.RunningBatchNorm(
          self.train, self.axis_name, epsilon, name=name)
    if affine:
      return layers_lib.BatchAffineNorm(epsilon, name=name)
    return functools.partial(primitives.batch_normalize, epsilon=epsilon)

  def layers(self, part: str) -> layers_lib.FixedLayers:
    """The "stem" or the "head", whose BN is affine, as in the released code."""
    network, place = self.plan.network, self.plan.place
    layers = network.stem if part == "stem" else shapes_lib.head_layers(
        network, place)
    return layers_lib.FixedLayers(
        layers, place.num_classes, functools.partial(self.norm, affine=True),
        self.running and self.train)

  def module(self, name: str, ends: edges_lib.Ends,
             fixed: bool = False) -> Any:
    """What an operation is on an edge: a linen module or a function."""
    operation = operations.get(name)
    if not edges_lib.can_stand(operation, ends):
      # It is never chosen there but has a place in the list of candidates.
      operation = operations.get(operations.NULL)
    norm = self.norm
    if self.space.search_bias and not self.running:
      norm = functools.partial(self.norm, affine=fixed, biased=not fixed)
    elif operation.pooled and not self.running:
      build = operation.module
      pooled = lambda **options: lambda x: self.norm()(build(**options)(x))
      if self.calibrated:  # A part of a module, to keep its statistics.
        pooled = lambda **options: edge_modules.Chain(
            functools.partial(build, **options), self.norm)
      operation = dataclasses.replace(operation, module=pooled)
    return edge_modules.module(operation, ends, norm=norm,
                               preactivate=self.plan.network.preactivate)

  def prefix(self, i: int) -> Iterator[Any]:
    """Modules of a block's edges that the spelling does not show."""
    for edge in self.plan.network.blocks[i].edges[:self.plan.network.prefix]:
      yield self.module(edge.operation, self.plan.shapes[i].ends(edge))

  def apply(self, module: Any, variables: Any, x: jax.Array,
            key: jax.Array | None = None) -> tuple[jax.Array, Any]:
    """Applies a module; returns its output and its statistics."""
    stats = variables.get("batch_stats", {})  # Maybe of its other stride.
    if not isinstance(module, nn.Module):
      return module(x), stats
    rngs = {} if key is None else {"dropout": key, "noise": key}
    y, changed = module.apply(
        variables, x, rngs=rngs,
        mutable=["batch_stats"] if self.keeps and self.train else [])
    return y, changed.get("batch_stats", stats)

  def functions(self, names: Sequence[str], ends: edges_lib.Ends,
                fixed: bool = False) -> list[rules.Function]:
    """Per candidate of an edge, `(variables of all, x, key) -> y`.

    With BN that keeps statistics they return `(y, statistics of all)`.
    """
    return [functools.partial(
        self._function, name, self.module(name, ends, fixed), ends)
            for name in names]

  def _function(self, name, module, ends, variables, x, key):
    own = {kind: part[name] for kind, part in variables.items() if name in part}
    operation = operations.get(name)
    with edges_lib.guarded(operation):
      y, stats = self.apply(module, own, x, key)
    edges_lib.checked(operation, ends, x, y)
    if not self.keeps:
      return y
    known = variables["batch_stats"]
    return y, {**known, name: stats} if name in known else known

  def activate(self, node: records.Node, variables: Any, x: jax.Array,
               slope: jax.Array | None) -> tuple[jax.Array, Any]:
    """What a node does to its sum: BN, activation, shuffle.

    Args:
      node: the node.
      variables: of its BN.
      x: [B, H, W, C].
      slope: f32[C], of PReLU.

    Returns:
      [B, H, W, C], and the statistics of its BN.
    """
    stats: Any = {}
    if node.norm:
      x, stats = self.apply(self.norm(), variables, x)
    params = {} if slope is None else {"params": {"slope": slope}}
    x, _ = self.apply(layers_lib.Activation(node.activation), params, x)
    return layers_lib.shuffle(x, node.shuffle), stats

  @property
  def space(self) -> base.Space:
    """The space."""
    return self.plan.space

  def run(self, run: tuple[int, ...], variables: Any, how: Sequence[How],
          values: tuple[jax.Array, jax.Array],
          rng: jax.Array) -> tuple[tuple[jax.Array, jax.Array], Any]:
    """Runs neighbours of equal shapes.

    Args:
      run: their numbers.
      variables: theirs, stacked.
      how: what stands on the edges, of all blocks.
      values: the outputs of the two blocks before.
      rng: a key, of operations that draw.

    Returns:
      The last two outputs, and the statistics; or of hows that tell something
      "told", f32[J, E, B, O].
    """
    data = [self._data(i, how[i], jax.random.fold_in(rng, i)) for i in run]
    # One loop, where blocks are unrolled and of one rule.
    if (len(run) > 1 and not self.running and not self.plan.network.prefix
        and self.space.inputs is None and len({how[i].make for i in run}) == 1):
      if not self.plan.sees_both(run[0]):
        # Of another shape, maybe; what the loop carries has one shape.
        values = (values[1], values[1])

      cell = self._cell(run[0], how[run[0]])

      def step(values, xs):
        y, found = cell(run[0], xs[0], how[run[0]], xs[1], values)
        keep = how[run[0]].tells or self.calibrated
        return (values[1], y), found if keep else {}

      return lax.scan(step, values, (
          variables, jax.tree.map(lambda *x: jnp.stack(x), *data)))
    changed = []
    # Cells of equal shapes are unrolled all the same: under one scan they
    # compiled no faster, and its residuals took a quarter more memory.
    for j, i in enumerate(run):
      own = store.rows({
          kind: {k: v for k, v in tree.items() if k != "preprocess"}
          for kind, tree in variables.items()}, j)
      prefix = {kind: tree["preprocess"][j] for kind, tree in variables.items()
                if "preprocess" in tree}
      inputs, stats = [], {}
      for n, module in enumerate(self.prefix(i)):
        y, stats[f"node{n}"] = self.apply(
            module, part_of(prefix, f"node{n}"), values[n])
        inputs.append(y)
      y, edge_stats = self._cell(i, how[i])(
          i, own, how[i], data[j], (*values, *inputs))
      values = (values[1], y)
      changed.append((stats, edge_stats))
    if not self.keeps:
      told = [found["told"] for _, found in changed if "told" in found]
      return values, {"told": jnp.stack(told)} if told else {}
    prefixes, edges = zip(*changed, strict=True)
    found = jax.tree.map(lambda *x: jnp.stack(x), *edges)
    if prefixes[0]:
      found = {**found, "preprocess": list(prefixes)}
    return values, found

  def _cell(self, i, how):
    """How a block is run: in one array of its nodes, or edge by edge."""
    if self.space.bottleneck > 1:
      return self._narrow
    if how.make is rules.sparse:
      buffer = self.plan.alike(i)
    else:
      buffer = self.space.inputs is not None and (
          how.source is not None or self.space.choices is None)
    return self._scanned if buffer else self._unrolled

  def _data(self, i, how, rng):
    """`rules.Data` of a block: of its slots, or of its edges."""
    count, value = len(self.plan.cell(i).edges), how.value
    if how.source is None:
      value = store.rows(value, slice(count))
    elif self.space.inputs is None:
      # Which of an edge's own candidates is meant, i32[E].
      chosen = value[arrays_lib.slots(self.plan.cell(i))]
      value = jnp.stack([self._numbers(self.plan.names(i, e))[number]
                         for e, number in enumerate(chosen)])
    else:
      value = value.reshape(-1)
      count = len(value)
    key = None
    if any(operations.get(name).random for name in self.space.candidates):
      key = jax.random.key_data(jax.random.split(rng, count))
    return rules.Data(value, key)

  def _numbers(self, names):
    """i32[O], the numbers of all candidates among those of `names`."""
    numbers = np.zeros(len(self.space.candidates), np.int32)
    for k, name in enumerate(names):
      if name in self.space.candidates:
        numbers[self.space.candidates.index(name)] = k
    return jnp.asarray(numbers)

  def _rule(self, how, edges, names):
    return how.make(self.functions(names, edges.ends, edges.fixed),
                    [self.space.candidates.index(name) for name in names])

  def _unrolled(self, i, variables, how, data, inputs):
    """A block edge by edge; returns its output and its statistics."""
    cell, stats = self.plan.cell(i), variables.get("batch_stats", {})
    told: dict[int, jax.Array] = {}
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
            how, edges, names, _take(variables, edges, rows),
            store.rows(data, e), values[edge.source + prefix], stats, rows)
        if how.tells:
          told |= {e: stats.pop("told")} if "told" in stats else {}
        total = y if total is None else total + y
      if total is None:
        shape = self.plan.shapes[i].nodes[n]
        total = network_lib.zeros(
            shape.width, (shape.size, shape.size), values[1])
      part = f"norm{n - _FIRST}"
      y, norm_stats = self.activate(
          block.node(n), part_of(variables, part), total,
          variables["params"].get(f"slope{n - _FIRST}"))
      values.append(y)
      if norm_stats:
        stats = {**stats, part: norm_stats}
    outputs = [values[n] for n in block.outputs]
    if self.space.inputs is not None:  # All nodes; some may count 0.
      outputs = [how.concat[n].astype(y.dtype) * y
                 for n, y in enumerate(outputs)]
    if how.tells:
      none = jnp.zeros((len(values[1]), len(self.space.candidates)))
      stats = {"told": jnp.stack([
          told.get(e, none) for e in range(len(cell.edges))])}
    return jnp.concatenate(outputs, -1), stats

  def _edge(self, how, edges, names, own, data, x, stats, rows):
    """One edge of a block; returns what it adds, and the block's statistics."""
    aux = self.keeps
    if len(names) == 1 and (edges.fixed or how.source is not None or (
        names[0] not in self.space.candidates)):
      run, = self.functions(names, edges.ends, edges.fixed)
      y = run(own, x, rules.typed(data.key))  # Nothing to choose.
    else:
      y = rules.apply(self._rule(how, edges, names), own, data, x,
                      aux=aux or how.tells)
      if how.tells:
        return y
    return (y[0], _put(stats, edges, rows, y[1])) if aux else (y, stats)

  def _narrow(self, i, variables, how, data, inputs):
    """A cell with a bottleneck; returns its output and statistics."""
    cell, shapes = self.plan.cell(i), self.plan.shapes[i]
    first, last = self.plan.network.prefix, shapes.nodes[-1]
    inner = (last.width // self.space.bottleneck, last.size)
    passes = []
    for edges in self.plan.passes(i):
      names = _with_null(edges.names)
      found = self._features(cell, edges, data, cell.num_nodes)
      rule = self._rule(how._replace(make=rules.selected), edges, names)
      passes.append(bottleneck.Pass(rule, names, _held(variables, edges),
                                    *found))
    nodes = bottleneck.run(
        self, variables, inputs[first:first + _FIRST], passes, cell.num_nodes,
        inner)
    weights = how.concat[:cell.num_nodes].astype(nodes.dtype)
    return _joined(nodes * weights[:, None, None, None, None]), {}

  def _scanned(self, i, variables, how, data, inputs):
    """A block whose nodes lie in one array; returns output and statistics.

    In a normal cell all nodes share one buffer, inputs first. In a reduction
    cell the inputs are larger and stand apart, and the buffer starts at node 2.
    """
    cell, shapes = self.plan.cell(i), self.plan.shapes[i]
    first, last = self.plan.network.prefix, shapes.nodes[-1]
    if not self.plan.sees_both(i):  # Of another shape, maybe.
      inputs = (inputs[1], inputs[1])
    stacked = jnp.stack(inputs[first:first + _FIRST])
    apart = shapes.nodes[first + 1].size != last.size
    nodes = jnp.zeros((cell.num_nodes, stacked.shape[1], last.size, last.size,
                       last.width), stacked.dtype)
    if not apart:
      nodes = jnp.concatenate([stacked, nodes])
    stats, aux = variables.get("batch_stats", {}), self.keeps
    told = jnp.zeros((len(cell.edges), nodes.shape[1], len(
        self.space.candidates)))
    for edges in self.plan.passes(i):
      of_inputs = apart and cell.edges[edges.edges[0]].source < _FIRST
      steps, source, target, rows, live = self._steps(
          cell, edges, how, data, len(nodes))
      shift, names = _FIRST if apart else 0, _with_null(edges.names)
      make = rules.selected if how.make is rules.sparse else how.make
      held = _held({**variables, "batch_stats": stats} if aux else variables,
                   edges)
      if how.tells:  # What is told is written where statistics would be.
        own = np.array(edges.edges)
        held["batch_stats"] = {"told": told[own]}
        rows = {**rows, "told": np.arange(len(own))}
      nodes = scan.scan_edges(
          self._rule(how._replace(make=make), edges, names),
          stacked if of_inputs else None, nodes, held, rows, steps,
          source - (0 if of_inputs else shift), target, names=names, live=live,
          aux=aux or how.tells)
      if how.tells:
        nodes, changed = nodes
        told = told.at[own].set(changed["told"])
      elif aux:
        nodes, changed = nodes
        stats = _merged(stats, edges, changed)
    if how.tells:
      stats = {"told": told}
    nodes = nodes if apart else nodes[_FIRST:]
    if self.space.inputs is None:
      outputs = [nodes[n - _FIRST]
                 for n in self.plan.network.blocks[i].outputs]
      return jnp.concatenate(outputs, axis=-1), stats
    weights = how.concat[:cell.num_nodes].astype(nodes.dtype)
    return _joined(nodes * weights[:, None, None, None, None]), stats

  def _steps(self, cell, edges, how, data, size):
    """What a scan over a pass walks: (data, source, target, rows, live).

    All slots of the cell, of which those that belong to another pass, or hold
    null, do not run; without slots, the edges of the pass, or its features.
    Targets count from the start of the buffer, of `size` nodes.
    """
    if how.make is rules.sparse:
      return self._features(cell, edges, data, size)
    shift = cell.num_nodes + _FIRST - size
    pairs = np.array([cell.edges[e][1:] for e in edges.edges], np.int32)
    if how.source is None:
      return (store.rows(data, np.array(edges.edges)), pairs[:, 0],
              pairs[:, 1] - shift, edges.rows, None)
    n, k = cell.num_nodes, how.source.shape[-1]
    source = how.source[:n].reshape(-1)
    target = np.repeat(np.arange(n, dtype=np.int32) + _FIRST, k)
    lookup = np.full((n + _FIRST,) * 2, -1, np.int32)
    lookup[pairs[:, 0], pairs[:, 1]] = np.arange(len(pairs))
    number = jnp.asarray(lookup)[source, target]
    mine, rows = number >= 0, edges.rows
    if self.space.weights != "slot":
      own = {row.tobytes(): jnp.asarray(row)[jnp.maximum(number, 0)]
             for row in rows.values()}
      rows = {name: own[row.tobytes()] for name, row in rows.items()}
    data = store.rows(data, slice(n * k))
    null = _with_null(edges.names).index(operations.NULL)
    value = jnp.where(mine, self._numbers(edges.names)[data.value], null)
    return (data._replace(value=value), jnp.where(mine, source, pairs[0, 0]),
            target - shift, rows, value != null)

  def _features(self, cell, edges, data, size):
    """As `_steps`, of what candidates make of sources, those that weigh 0 not.

    A feature goes to every node that an edge with its weights leads to: where
    the space has weights per source, or the operation has none, it is computed
    once for all of them.
    """
    shift = cell.num_nodes + _FIRST - size
    alone = {name for name in edges.names if isinstance(
        self.module(name, edges.ends), nn.Module)}
    found: dict[tuple[int, str, int], list[int]] = {}
    for k, e in enumerate(edges.edges):
      for name in edges.names:
        row = int(edges.rows[name][k])
        if name != operations.NULL and row >= 0:
          row = row if name in alone else 0
          found.setdefault((cell.edges[e].source, name, row), []).append(e)
    features = sorted(found, key=lambda feature: (
        feature[0], feature[2], edges.names.index(feature[1])))
    # Of every feature and node, where its weight stands in [E, O] and a 0.
    columns, zero = len(self.space.candidates), data.value.size
    at = np.full((len(features), size), zero, np.int32)
    for f, (_, name, _) in enumerate(features):
      for e in found[features[f]]:
        at[f, cell.edges[e].target - shift] = (
            e * columns + self.space.candidates.index(name))
    # A feature may be computed for others: what weighs 0 still learns nothing.
    value = jnp.where(data.value == 0, 0, data.value)
    weights = jnp.append(value.reshape(-1), 0)[at]
    key, number = data.key, np.array(
        [edges.names.index(name) for _, name, _ in features], np.int32)
    if key is not None:
      first = np.array([found[feature][0] for feature in features])
      key = jax.vmap(lambda key, f: jax.random.key_data(jax.random.fold_in(
          jax.random.wrap_key_data(key), f)))(key[first], number)
    rows = np.array([row for _, _, row in features], np.int32)
    return (rules.Data(number, key), np.array([s for s, _, _ in features],
                                              np.int32),
            weights, dict.fromkeys(edges.names, rows),
            jnp.any(weights != 0, axis=1))


def _joined(nodes):
  """Nodes [N, B, H, W, C] as channels, [B, H, W, N * C].

  The gradient of a concatenation would be a sum of N padded arrays.
  """
  wide = jnp.moveaxis(nodes, 0, 3)
  return wide.reshape(*wide.shape[:3], wide.shape[3] * wide.shape[4])


def part_of(variables: Any, name: str) -> Any:
  """The variables of one part."""
  return {kind: tree.get(name, {}) for kind, tree in variables.items()}


def _with_null(names):
  return names if operations.NULL in names else (*names, operations.NULL)


def _held(variables, edges):
  """The variables of a pass, per candidate that has any."""
  return {kind: {name: part for name, part in tree.items()
                 if name in edges.names}
          for kind, tree in part_of(variables, edges.store).items()}


def _take(variables, edges, rows):
  """Of these, some rows."""
  return {kind: {name: store.rows(part, rows[name])
                 for name, part in tree.items() if name in rows}
          for kind, tree in _held(variables, edges).items()}


def _put(stats, edges, rows, changed):
  """Statistics of a block, with those rows of a pass replaced."""
  held = stats.get(edges.store, {})
  return _merged(stats, edges, {name: jax.tree.map(
      lambda old, new, r=rows[name]: jnp.asarray(old).at[r].set(new),
      held[name], tree) for name, tree in changed.items()})


def _merged(stats, edges, changed):
  """Statistics of a block, with those of a pass replaced."""
  held = {**stats.get(edges.store, {}), **changed}
  return {**stats, edges.store: held} if held else stats
