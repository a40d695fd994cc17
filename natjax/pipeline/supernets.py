"""The supernet that a search trained, with what was found in it."""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import functools
import operator
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from natjax import data as data_lib
from natjax import errors, methods, operations, spaces
from natjax.data import dataset as dataset_lib
from natjax.graph import arrays as arrays_lib
from natjax.graph import blocks, records
from natjax.methods import supervised
from natjax.networks import grad_cam
from natjax.networks import network as network_lib
from natjax.networks import supernet as supernet_lib
from natjax.pipeline import job as job_lib
from natjax.pipeline import run_files, runs, shapes
from natjax.spaces import base
from natjax.spaces import connections as connections_lib
from natjax.spaces import paths as paths_lib
from natjax.training import fit as fit_lib

_MEASURED = 256  # Images by which statistics of BN are measured.
_AT_ONCE = 32  # Candidates that a call of the program judges.


class Layer(NamedTuple):
  """A place that a search decided on.

  Attributes:
    name: "block3", or of a block with several "block3/edge1"; where nodes
      choose their inputs "cell3/edge1", an edge of the cell that was found.
    block: number of the block.
    edge: of the space's graph.
    slot: (n, k), where an architecture's arrays have it.
    names: candidates that compute something.
    chosen: what was found there.
  """

  name: str
  block: int
  edge: int
  slot: tuple[int, int]
  names: tuple[str, ...]
  chosen: str


class SearchedSupernet:
  """A trained supernet, and what was found in it.

  Attributes:
    supernet: of "calibrated" BN.
    params: its parameters.
    found: the path that was found, `CellArrays` [G, N, K].
    layers: by name, what was decided, in order.
    paths: of its space.
    judging: the images that the search chose by.
  """

  def __init__(self, supernet: supernet_lib.Supernet, params: Any,
               paths: paths_lib.Paths, found: records.Architecture,
               dataset: data_lib.Dataset, preparation: fit_lib.Preparing,
               judging: fit_lib.Split | None = None):
    """Args:
      supernet: as the search trained it.
      params: its parameters.
      paths: of its space.
      found: an architecture of the space.
      dataset: the search's images.
      preparation: from images u8 to what the supernet takes.
      judging: the images that the search chose by (default: those of the
        search, all).
    """
    self.judging = fit_lib.Split(
        dataset.train_images, dataset.train_labels
    ) if judging is None else judging
    self.supernet = dataclasses.replace(supernet, norm="calibrated")
    self.params, self.paths = params, paths
    self.found = jax.tree.map(jnp.asarray, paths.encode(found))
    self._preparation = preparation
    rows = dataset_lib.mixed(dataset.train_labels)
    self._measured = dataset.train_images[
        slice(_MEASURED) if rows is None else rows[:_MEASURED]]
    self.layers = {layer.name: layer for layer in self._layers(found)}

  def _layers(self, architecture):
    """What was decided on, in the order of blocks and edges."""
    plan = self.supernet.plan
    cells = [d.cell for d in self.paths.decisions(architecture)]
    called = network_lib.names(plan.network).block
    for i, g in enumerate(plan.decided):
      decision, there = plan.decisions[g], range(len(plan.cell(i).edges))
      slots = list(zip(*arrays_lib.slots(decision.cell), strict=True))
      spots = [(e, e, slots[e]) for e in there if not decision.fixed[e]]
      if plan.space.inputs is not None:  # Edges that the found cell has.
        pairs = [edge[1:] for edge in plan.cell(i).edges]
        slots = list(zip(*arrays_lib.slots(cells[g]), strict=True))
        spots = [(e, pairs.index(edge[1:]), slots[e])
                 for e, edge in enumerate(cells[g].edges)]
      for number, e, (n, k) in spots:
        names = tuple(name for name in plan.names(i, e)
                      if name != operations.NULL)
        name = f"{called}{i}" + f"/edge{number}" * (len(spots) > 1)
        chosen = int(self.found.operation[g, n, k])
        yield Layer(name, i, e, (int(n), int(k)), names,
                    plan.space.candidates[chosen])

  def layer(self, name: str | int | None = None) -> Layer:
    """A layer by its name, or the number of its block.

    None is the last one of several candidates.

    Raises:
      InputError: there is none.
    """
    if name is None:
      return max(self.layers.values(), key=lambda layer: (
          len(layer.names) > 1, layer.block, layer.edge))
    called = network_lib.names(self.supernet.plan.network).block
    word = f"{called}{name}" if type(name) is int else name
    if word not in self.layers:
      raise errors.InputError(
          f"layer is {errors.short(name)}, and the layers that were decided on"
          f" are {', '.join([*self.layers][:3])} to {[*self.layers][-1]}; name"
          " one of them", "layer")
    return self.layers[word]

  def logits(self, image: np.ndarray) -> np.ndarray:
    """f32[K] of what was found, of an image u8[S, S, 3]."""
    forward = jax.jit(lambda variables, path, pixels: self.supernet.run(
        variables, self.supernet.selected(path), pixels, train=False)[0])
    return np.asarray(forward(
        self._variables(self.found), self.found, self._prepared(image))[0])

  def _prepared(self, image):
    return self._preparation(None, jnp.asarray(image)[None], train=False)

  def candidate_activations(
      self, image: np.ndarray, label: int, layer: str | int | None = None
  ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Where a class is seen with each candidate of a layer in turn.

    In all other places stands what was found. Statistics of BN are measured for
    every candidate, on up to 256 training images.

    Args:
      image: u8[S, S, 3].
      label: of the class.
      layer: see `layer`.

    Returns:
      By operation the map f32[h, w] (`networks.grad_cam`), and logits f32[K].

    Raises:
      InputError: no such layer.
    """
    at = self.layer(layer)
    plan = self.supernet.plan
    spot = plan.decided[at.block], *at.slot
    run = grad_cam.of_candidates(self.supernet, at.block, at.edge)
    pixels, found = self._prepared(image), {}
    for name in at.names:
      path = dataclasses.replace(
          self.found, operation=self.found.operation.at[spot].set(
              plan.space.candidates.index(name)))
      maps, logits = run(
          self._variables(path), path, pixels, jnp.array([label]))
      found[name] = np.asarray(maps[0]), np.asarray(logits[0])
    return found

  def accuracies(self, paths: arrays_lib.CellArrays, *,
                 images: int | None = None, batch: int = 256,
                 listener: Callable[[int], None] | None = None) -> np.ndarray:
    """Accuracies of candidates on the images that the search chose by.

    One compiled program judges all, several at a call. Statistics of BN are
    measured for every candidate, on up to 256 training images.

    Args:
      paths: candidates, [A, G, N, K]; see `spaces.paths.Paths.numbered`.
      images: how many to judge by; None is all.
      batch: of images.
      listener: told how many have been judged, after each call.

    Returns:
      f64[A], fractions.
    """
    split = fit_lib.Split(*(part[:images] for part in self.judging))
    batch = min(batch, len(split.labels))
    steps = -(-len(split.labels) // batch)
    total, count = len(paths.source), 0
    found = np.zeros(total)
    for number, pixels, labels in fit_lib.chunks(split, batch, steps):
      count += int((labels >= 0).sum())
      batches = jax.device_put((pixels, labels))
      for start in range(0, total, _AT_ONCE):
        # The last ones are filled up, too: another shape is another program.
        at = np.minimum(np.arange(start, start + _AT_ONCE), total - 1)
        right = self._judge(self.params, jax.tree.map(
            operator.itemgetter(at), paths), batches)
        found[start:start + _AT_ONCE] += np.asarray(right)[:total - start]
        if listener is not None and number + len(labels) >= steps:
          listener(min(start + _AT_ONCE, total))
    return found / count

  @functools.cached_property
  def _judge(self):
    """Of parameters, paths [P, ...] and batches, how many are right i32[P]."""

    def judge(params, path, batches):
      variables = {"params": params, "batch_stats": self._measure(params, path)}

      def add(right, batch):
        logits, _ = self.supernet.run(
            variables, self.supernet.selected(path),
            self._preparation(None, batch[0], train=False), train=False)
        return right + jnp.sum(jnp.argmax(logits, -1) == batch[1]), None

      return jax.lax.scan(add, jnp.zeros((), jnp.int32), batches)[0]

    return jax.jit(lambda params, paths, batches: jax.lax.map(
        lambda path: judge(params, path, batches), paths))

  def _variables(self, path):
    """The supernet's, with statistics of BN of a path."""
    return {"params": self.params,
            "batch_stats": self._statistics(self.params, path)}

  @functools.cached_property
  def _statistics(self):
    return jax.jit(self._measure)

  def _measure(self, params, path):
    like = jax.eval_shape(self.supernet.init, jax.random.key(0))
    pixels = jnp.asarray(np.asarray(self._measured))
    images = self._preparation(None, pixels, train=False)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
                         like["batch_stats"])
    return self.supernet.run({"params": params, "batch_stats": zeros},
                             self.supernet.selected(path), images)[1]


def load(out: str | os.PathLike[str], dataset: data_lib.Dataset
         ) -> SearchedSupernet:
  """Loads the supernet of a finished search.

  Args:
    out: a run of a search in a space, or of several seeds one of these.
    dataset: the images that it searched on (`run_data.load`).

  Raises:
    InputError: no such run, one that is not finished or has lost its
      checkpoints, or a search without one supernet.
  """
  out = errors.path(out)
  config = runs.read_config(out, shapes.CONFIG)
  folder, seed = _first(out, config)
  if config.get("kind") != "search" or not (folder / run_files.RESULT).exists():
    raise _no_search(out)
  result = run_files.read_json(folder / run_files.RESULT)
  entry = methods.METHODS[config["method"]]
  name = _space_of(config["space"])
  job = job_lib.Job(
      None, dataset, config["method"], entry.settings(**config["search"]),
      supervised.TrainConfig(batch_size=config["train"]["batch_size"],
                             cutout=0, auxiliary=False), space=name, seed=seed,
      devices=1, train_found=False)
  plan = job.plan
  if plan.held is None:
    raise errors.InputError(
        f"method {config['method']} trains no supernet that all candidates"
        " share; name a search by one, such as spos or it-nas")
  checkpoints = folder / "checkpoint" / entry.label
  if not any(checkpoints.glob("*.seal")):  # It would be trained again.
    raise errors.InputError(
        f"{folder} no longer holds its supernet ({checkpoints} is gone or"
        " empty); restore it, or search again")
  options = fit_lib.Options(
      seed=seed, run=entry.label, devices=job.trainer.devices,
      checkpoint_dir=checkpoints)
  state = fit_lib.fit(plan.method, **job.feed._asdict(), options=options)
  supernet, params = plan.held(state)
  paths = paths_lib.Paths(connections_lib.Connections(
      supernet.space, supernet.place), supernet.place)
  return SearchedSupernet(
      supernet, params, paths, _found(supernet.space, result, folder), dataset,
      job.feed.preparation, job.feed.splits.get("architecture"))


def space_of(out: str | os.PathLike[str]) -> str:
  """The name of the space in which a run searched.

  Raises:
    InputError: no such run, or no search in a space.
  """
  out = errors.path(out)
  config = runs.read_config(out, shapes.CONFIG)
  if config.get("kind") != "search":
    raise _no_search(out)
  return _space_of(config["space"])


def _first(out, config):
  """The folder of a search, of several seeds the first's, and its seed."""
  if "seeds" in config and (out / f"seed-{config['seeds'][0]}").is_dir():
    return out / f"seed-{config['seeds'][0]}", config["seeds"][0]
  return out, config["seed"]


def found_in(space: base.Space, out: str | os.PathLike[str]
             ) -> records.BlockNetwork | None:
  """The chain that a finished search found, as its space spells it.

  Its `architecture.json` does not say where layers of nothing stood.

  Args:
    space: of chains, as its supernet has it.
    out: a folder.

  Returns:
    None of what is no search over as many layers in this space.
  """
  out = errors.path(out)
  if not (out / run_files.CONFIG).is_file():
    return None
  config = runs.read_config(out, shapes.CONFIG)
  folder, _ = _first(out, config)
  if config.get("kind") != "search" or not (
      folder / run_files.RESULT).is_file() or (
          _space_of(config["space"]) != space.name):
    return None
  names = run_files.read_json(folder / run_files.RESULT).get("operations")
  if not isinstance(names, list) or len(names) != layers(space):
    return None
  return filled(space, names)


def layers(space: base.Space) -> int:
  """How many layers of a chain are decided on."""
  assert isinstance(space.graph, records.BlockNetwork)  # Chains are.
  return sum(len(block.edges) for block in space.graph.blocks
             if not all(node.fixed for node in block.nodes))


def filled(space: base.Space, names: Iterable[str]) -> records.BlockNetwork:
  """A chain of a space, by the operations of its layers in order."""
  assert isinstance(space.graph, records.BlockNetwork)  # Chains are.
  left, found = iter(names), []
  for block in space.graph.blocks:
    free = not all(node.fixed for node in block.nodes)
    found.append(block._replace(edges=tuple(
        edge._replace(operation=next(left)) for edge in block.edges
    )) if free else block)
  return blocks.check(space.graph._replace(blocks=tuple(found)))


def _no_search(out):
  return errors.InputError(
      f"{out} holds no finished search in a space, whose candidates could be"
      " compared; name the folder of a finished `natjax search`")


def _found(space, result, folder):
  """What was found, as the space spells it."""
  if not space.chain:
    return runs.read_architecture(folder)
  names = result.get("operations")
  if names is None:
    raise errors.InputError(
        f"{folder} was written before searches over chains told their layers;"
        " search again")
  return filled(space, names)


def _space_of(described: Mapping[str, Any]) -> str:
  """The name of a space by what a run's configuration says of it."""
  if described.get("name") in spaces.SPACES:
    return described["name"]
  plain = {k: v for k, v in described.items() if k != "content"}
  for name, space in spaces.SPACES.items():
    if space.describe() == plain:
      return name
  raise errors.InputError("the run's search space is unknown; install the"
                          " package that it came from")
