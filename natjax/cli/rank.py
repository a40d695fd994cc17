"""`natjax rank`: a space's architectures in the order of a trained supernet."""

from collections.abc import Callable
import operator
import random
import re
import time
from typing import Any

import jax
import numpy as np

from natjax import errors, spaces, zoo
from natjax.benchmarks import nasbench201, nasbench_macro
from natjax.cli import console, inputs
from natjax.graph import nasbench1shot1 as cells1shot1
from natjax.graph import nasbench101 as cells101
from natjax.graph import nasbench201 as cells201
from natjax.graph import nasbench_macro as chains
from natjax.pipeline import checks, run_data, supernets
from natjax.training import devices

_MOST = 20_000  # Architectures that are ranked without being asked for.
_SECONDS = 10.0  # Between words of how far it is.


def run_rank(args) -> int:
  """`natjax rank`.

  With --json, an object with "space", "judged", how many architectures, by how
  many "images", "seconds", with a table "kendall_tau", and "architectures", the
  best first, each with "architecture", "accuracy", in per cent, "parameters",
  "multiply-adds", and with a table its "test" accuracy.
  """
  start = time.monotonic()
  devices.configure_compilation()
  if args.top < 1:
    raise errors.InputError(f"top is {args.top}; give at least 1", "top")
  folder = errors.path(args.directory)
  space = supernets.space_of(folder)
  if spaces.get(space).inputs is not None:
    raise errors.InputError(
        f"the nodes of search space '{space}' choose their inputs, and its"
        " architectures are not ranked; name a search over a chain, or in"
        " nasbench201 or nasbench1shot1-1")
  data, _ = run_data.load(folder, data_dir=args.data_dir)
  truth = None if args.table is None else _truth(args.table, space, data.name)
  searched = supernets.load(folder, data)
  paths = jax.tree.map(np.asarray, _paths(args, searched))
  images = len(searched.judging.labels)
  if args.images is not None:
    if not 1 <= args.images <= images:
      raise errors.InputError(
          f"images is {args.images}, and the search chose by {images}; give at"
          " most as many, and at least 1", "images")
    images = args.images
  one = lambda i: jax.tree.map(operator.itemgetter(i), paths)
  decode = lambda i: searched.paths.decode(one(i))
  if truth is not None:
    written = searched.paths.space.written
    known = np.array([
        truth(written(decode(i))) for i in range(len(paths.source))])
  accuracy = 100 * searched.accuracies(
      paths, images=images, listener=_telling(len(paths.source)))
  order = np.argsort(-accuracy, kind="stable")
  found: dict[str, Any] = {
      "space": space, "judged": len(order),
      "images": images}
  if truth is not None:
    found["kendall_tau"] = _tau(accuracy, known)
  rows = []
  for i in order[:args.top]:
    network = decode(i)
    cost = searched.paths.cost(one(i))
    rows.append({
        "architecture": _name(searched.paths, network), "accuracy": float(
            accuracy[i]), **({} if truth is None else {"test": float(known[i])}
                             ), "parameters": cost.params,
        "multiply-adds": cost.madds})
  found |= {"seconds": round(time.monotonic() - start, 1),
            "architectures": rows}
  if args.json:
    console.print_json(found)
    return 0
  said = (f"{found['judged']} architectures of {found['space']}, judged by"
          f" {images} images in {found['seconds']} s")
  console.print_table(said, [
      name if name == "architecture" else f">{name}" for name in rows[0]],
      [[f"{value:.2f}" if isinstance(value, float) else str(value)
        for value in row.values()] for row in rows])
  if truth is not None:
    tau = found["kendall_tau"]
    console.out.print("Kendall's tau with the table: " + (
        "none, of one architecture or of equal ones" if tau is None else
        f"{tau:.3f}"))
  return 0


def _tau(scores, known):
  """Kendall's tau-b; None of one architecture, or where all are alike."""
  if len(scores) < 2:
    return None
  from scipy import stats  # Takes half a second.
  tau = float(stats.kendalltau(scores, known).statistic)
  return tau if np.isfinite(tau) else None


def _paths(args, searched):
  """The architectures to rank, `CellArrays` [A, ...]."""
  paths, space = searched.paths, searched.supernet.space.name
  if args.architectures:
    if args.count is not None:
      raise errors.InputError(
          f"count is {args.count} and {len(args.architectures)} architectures"
          " are named; leave one of the two out", "count")
    _drawn_by(args, "architectures are named")
    found: list[Any] = []
    numbers: dict[bytes, int] = {}
    for number, name in enumerate(args.architectures, 1):
      with errors.naming(f"architecture {number}"):
        path = _encoded(paths, space, _read(paths.space, name))
      key = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(
          path))
      if (first := numbers.setdefault(key, number)) == number:
        found.append(path)
      else:
        console.err.print(f"architecture {number} is the same as {first}, and"
                          " is ranked once")
    return jax.tree.map(lambda *leaves: np.stack(leaves), *found)
  if paths.count is None:
    raise errors.InputError(
        f"the nodes of search space '{space}' choose among their parents, so"
        " that its architectures have no numbers; name those to rank",
        "count")
  count = args.count
  if count is None:
    if paths.count > _MOST:
      raise errors.InputError(
          f"search space '{space}' holds {paths.count} architectures; pass"
          " --count for so many of them, drawn, or name them", "count")
    count = paths.count
  if not 1 <= count <= paths.count:
    raise errors.InputError(
        f"count is {count}, and search space '{space}' holds {paths.count}"
        " architectures; give at most as many, and at least 1", "count")
  if count > _MOST:
    raise errors.InputError(
        f"count is {count}; give {_MOST} at most", "count")
  if count == paths.count:
    _drawn_by(args, "all are ranked")
    return paths.numbered(np.arange(count))
  return paths.numbered(_drawn(count, paths.count, checks.seeds(
      args.seed or 0, 1)))


def _drawn_by(args, why):
  """Refuses a seed where nothing is drawn."""
  if args.seed is not None:
    raise errors.InputError(
        f"seed is {args.seed}, and {why}, so that nothing is drawn; leave it"
        " out, or draw some by --count", "seed")


def _drawn(count, total, seed):
  """So many different numbers below a total, which no machine may hold."""
  draw = random.Random(seed)
  found: set[int] = set()
  while len(found) < count:
    found.add(draw.randrange(total))
  return np.array(sorted(found), object if total > 2**62 else np.int64)


def _read(space, name):
  """What is to be ranked, as its space spells it."""
  if space.chain and inputs.names_folder(name) and (
      found := supernets.found_in(space, name)) is not None:
    return found
  if space.name in cells1shot1.PARENTS:
    network = inputs.read_architecture(name)
    return (network.kind == "blocks" and zoo.nasbench1shot1.within(
        space.name, network)) or network
  if not _is_macro(space):
    return inputs.read_architecture(name)
  layers = chains.from_text(name) if re.fullmatch("[0-9]+", name) else (
      zoo.nasbench_macro.layers_of(inputs.read_architecture(name)))
  nothing = [choices[0][0] for choices in space.choices]
  return supernets.filled(space, [
      chains.OPERATIONS[layer] if layer else empty
      for layer, empty in zip(layers, nothing, strict=True)])


def _is_macro(space):
  """Whether chains are NAS-Bench-Macro's, with all layers."""
  return space.name == "nasbench-macro" and (
      supernets.layers(space) == chains.LAYERS)


def _encoded(paths, space, network):
  """The path of an architecture of the space, of any width or size."""
  if network.kind == paths.space.graph.kind:
    cells = lambda architecture: [d.cell for d in paths.decisions(architecture)]
    try:
      path = paths.encode(network)
      if cells(paths.decode(path)) == cells(network):
        return path
    except (ValueError, IndexError):  # InputError among them.
      pass
  raise errors.InputError(
      f"it is no architecture of search space '{space}'; name what a search"
      " there found")


def _name(paths, network):
  """What an architecture is called in a table, as its benchmark calls it."""
  space = paths.space.name
  if space == "nasbench201":
    return cells201.to_string(zoo.nasbench201.names_of(network))
  if _is_macro(paths.space):
    return chains.to_text(zoo.nasbench_macro.layers_of(
        paths.space.written(network)))
  if space in cells1shot1.PARENTS:
    return cells101.to_text(zoo.nasbench1shot1.cell_of(network))
  return " ".join(
      edge.operation for decision in paths.decisions(network)
      for edge, fixed in zip(
          decision.cell.edges, decision.fixed, strict=True) if not fixed)


def _truth(table, space, dataset) -> Callable[[Any], float]:
  """Of a network its test accuracy by a benchmark's table, in per cent."""
  if space == "nasbench201":
    if dataset not in cells201.DATASETS:
      raise errors.InputError(
          "the table of nasbench201 says what cells reach on"
          f" {', '.join(cells201.DATASETS)}, and the search was on {dataset};"
          " leave --table out", "table")
    test = nasbench201.read(table).of(dataset)["test_200ep"]
    return lambda network: float(test[int(cells201.encode(
        cells201.to_array(zoo.nasbench201.names_of(network))))])
  if space == "nasbench-macro":
    if dataset != "cifar10":
      raise errors.InputError(
          f"the table of nasbench-macro says what chains reach on cifar10, and"
          f" the search was on {dataset}; leave --table out", "table")
    mean = nasbench_macro.read(table).columns["mean_acc"]
    return lambda network: float(mean[int(chains.encode(
        zoo.nasbench_macro.layers_of(network)))])
  raise errors.InputError(
      f"there are tables of nasbench201 and nasbench-macro, and the search was"
      f" in {space}; leave --table out", "table")


def _telling(total):
  """Says now and then how many have been judged."""
  began = last = time.monotonic()

  def tell(count):
    nonlocal last
    now = time.monotonic()
    if now - last >= _SECONDS and count < total:
      last = now
      left = (now - began) / count * (total - count)
      console.err.print(
          f"{count} of {total} judged, about {max(left / 60, 0.1):.1f} minutes"
          " left")

  return tell
