"""The commands that only look: evaluate, draw, list and so on."""

import argparse
import dataclasses
import pathlib
from typing import Any

from natjax import data, drawing, errors, methods, operations, spaces, zoo
from natjax.cli import console, cost, inputs
from natjax.costs import amounts, exact
from natjax.methods import acceptance
from natjax.objectives import classification, simclr
from natjax.operations import edges
from natjax.pipeline import export as export_lib
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import presets, runs, tables, versus
from natjax.spaces import transitions
from natjax.training import devices, fit, metrics, settings
from natjax.zoo import exports


def run_evaluate(args) -> int:
  """`natjax evaluate`, of one run or of several beside each other."""
  devices.configure_compilation()
  if args.others:
    return _compare(args)
  dataset, own = runs.load_data(
      args.directory, args.dataset, args.data_dir)
  config = runs.read_config(args.directory)
  train = fit.Split(dataset.train_images, dataset.train_labels)
  test = fit.Split(dataset.test_images, dataset.test_labels)
  accuracies, firsts = {}, {}
  for name in networks_lib.networks(args.directory):
    net = networks_lib.load(args.directory, name)
    if net.classifies:
      objective = classification.Classification(net.module)
      found = fit.walk(
          objective.ranks, net.variables, test, preparation=net.preparation,
          batch_size=128)
      accuracies[name] = float(found["accuracy"])
      if dataset.num_classes >= classification.MANY:
        firsts[name] = float(found["top5_accuracy"])
    else:
      features = lambda variables, images, module=net.module: module.apply(
          variables, images)[0]
      bank, queries = (
          simclr.extract(features, net.variables, part, net.preparation)
          for part in (train, test))
      accuracies[name] = simclr.judge(
          simclr.SimCLRConfig(**config["simclr"]), bank, queries,
          dataset.num_classes, linear=False)["accuracy"]
  if args.json:
    console.print_json({"dataset": dataset.name, "own": own, "finished": (
        runs.finished(args.directory)), "networks": [
        {"network": k, "accuracy": v, **(
            {"top5_accuracy": firsts[k]} if k in firsts else {})}
        for k, v in accuracies.items()]})
  else:
    other = "" if own else ", which is not what they were trained on"
    console.print_table(
        f"{tables.measure(config)} on {dataset.name}{other}",
        ("network", ">accuracy", *[">five first"] * bool(firsts)),
        [(k, *(f"{100 * v:.2f} %" for v in (value, *(
            [firsts[k]] if k in firsts else []))))
         for k, value in accuracies.items()])
    if text := _unfinished(args.directory):
      console.out.print(args.directory + text)
  return 0


def _compare(args):
  """The networks of several runs, each beside the first of all.

  Two networks are compared image by image where the runs have the same images,
  normalised alike (`acceptance.Pairs`).
  """
  rows, first = [], None
  folders: dict[pathlib.Path, str] = {}  # As they were given.
  for folder in (args.directory, *args.others):  # Before anything is computed.
    runs.read_config(folder)
    networks_lib.networks(folder)
    if (whole := pathlib.Path(folder).resolve()) in folders:
      raise errors.InputError(
          f"{folder} is the same run as {folders[whole]}; name every run once")
    folders[whole] = folder
  for folder in folders.values():
    dataset, _ = runs.load_data(folder, args.dataset, args.data_dir)
    test = fit.Split(dataset.test_images, dataset.test_labels)
    seen = runs.describe_data(dataclasses.replace(
        dataset, train_images=test.images, train_labels=test.labels))
    for name in networks_lib.networks(folder):
      net = networks_lib.load(folder, name)
      if not net.classifies:
        raise errors.InputError(
            f"{folder} learnt without labels, and its features are judged by"
            " their neighbours; evaluate it alone")
      one = versus.Trained(
          classification.Classification(net.module), net.variables)
      images = seen["crc32"], seen["image_size"], net.preparation
      first = first or (images, one)
      found = versus.count(
          one, first[1] if images == first[0] else one, test,
          preparation=net.preparation, batch_size=128)
      pairs = acceptance.Pairs(found["images"], found["won"], found["lost"])
      p, total = found["right"] / pairs.images, exact.network(
          net.module.graph, net.module.frame)
      rows.append({
          "run": folder, "finished": runs.finished(folder), "network": name,
          "dataset": dataset.name,
          "params": total.params, "madds": total.madds, "accuracy": p,
          "images": pairs.images,
          "reach": acceptance.Z * (p * (1 - p) / pairs.images)**0.5,
          **({"difference": pairs.difference, "interval": [*pairs.interval]}
             if one is not first[1] and images == first[0] else {})})
  if args.json:
    console.print_json({"networks": rows})
    return 0
  # A line of 80 columns is to do: what may be long stands below.
  number = {folder: i for i, folder in enumerate(folders.values(), 1)}
  columns = (">run", "network", ">parameters", ">multiply-\nadds",
             ">accuracy, %", ">difference")
  console.print_table(
      "test accuracy, and the difference from the first network in points, each"
      " with 95 % over test images; differences image by image, where these are"
      " the same and normalised alike", columns, [
          (str(number[row["run"]]), row["network"],
           *(amounts.count(row[key]) for key in ("params", "madds")),
           f"{100 * row['accuracy']:.2f} ± {100 * row['reach']:.2f}",
           _beside(row, row is rows[0])) for row in rows])
  for row in {row["run"]: row for row in rows}.values():
    console.out.print(f"run {number[row['run']]}: {row['run']}, of"
                      f" {row['dataset']}"
                      + _unfinished(row["run"]))
  return 0


def _unfinished(folder):
  """What is said of a run that is not finished; "" of one that is."""
  return "" if runs.finished(folder) else (
      "; it is not finished, and these are the networks that it has trained so"
      " far")


def _beside(row, first):
  """The cell of a network's difference from the first one."""
  if "difference" not in row:
    return "" if first else "not paired"
  low, high = row["interval"]
  return f"{100 * row['difference']:+.2f} ± {50 * (high - low):.2f}"


def run_draw(args) -> int:
  """`natjax draw`."""
  course = "theta" if args.theta else "alpha" if args.alpha else ""
  rows = errors.path(args.architecture) / runs.METRICS
  if course and (args.other is not None or (args.theta and args.alpha)):
    raise errors.InputError(f"--{course} draws the course of one run; leave"
                            f" {args.other or '--alpha'} out")
  if course and not rows.is_file():  # Of several seeds, the first.
    rows = min(rows.parent.glob(f"seed-*/{runs.METRICS}"), default=rows,
               key=lambda path: (len(path.parent.name), path))
  if course and not rows.is_file():
    command = ("search" if args.alpha
               else "transform --method differentiable")
    raise errors.InputError(
        f"--{course} draws the course of a run, and {args.architecture} is no"
        f" run's folder; name that of a `natjax {command}`")
  if course:
    draw = drawing.theta_curves if args.theta else drawing.alpha_curves
    with runs.reading(rows):
      draw(metrics.read(rows), args.out)
  else:
    other = args.other and inputs.read_architecture(args.other)
    drawing.save(args.out, inputs.read_architecture(args.architecture), other)
  console.out.print(args.out)
  return 0


def run_convert(args) -> int:
  """`natjax convert`."""
  text = exports.write(
      inputs.read_architecture(args.architecture), args.to) + "\n"
  if args.out is None:
    console.out.out(text, end="", highlight=False)
  else:
    path = errors.path(args.out, "out")
    if path.is_dir() or not path.parent.is_dir():
      raise errors.InputError(
          f"out is {args.out}, which is a folder or lies in none; name a file",
          "out")
    metrics.write_text(path, text)
  return 0


def run_export(args) -> int:
  """`natjax export`.

  With --json, an object with "file", "network", "platforms", "difference".
  """
  devices.configure_compilation()
  name = args.network or networks_lib.usual(
      networks_lib.networks(args.directory))
  done = export_lib.export(
      args.directory, args.out, name=name,
      platforms=args.platforms and [
          word.strip() for word in args.platforms.split(",")])
  if args.json:
    console.print_json({"file": str(done.path), "network": name,
                        "platforms": done.platforms,
                        "difference": done.difference})
  else:
    console.out.print(
        f"{name}: {done.path}{', for ' * bool(done.platforms)}"
        f"{', '.join(done.platforms)}; read back, its outputs differ by at most"
        f" {done.difference:.1e} from the network's")
  return 0


def run_list(args) -> int:
  """`natjax list`."""
  architectures = {name: _facts(name) for name in zoo.names()}
  listing: dict[str, Any] = {
      "architectures": architectures,
      "operations": list(operations.names()),
      "datasets": dict(data.names()),
      "spaces": list(spaces.SPACES),
      "methods": {name: entry.help for name, entry in methods.METHODS.items()},
      "presets": list(presets.PRESETS)}
  if args.json:
    console.print_json(listing)
    return 0
  listing["architectures"] = {
      name: f"{amounts.count(facts['params'], 2)} parameters,"
      f" {amounts.count(facts['madds'], 0)} multiply-adds, {facts['kind']};"
      f" {facts['source']}"
      for name, facts in architectures.items()}
  for title, names in listing.items():
    console.out.print(title, style="bold")
    for line in ([f"{name}: {text}" for name, text in names.items()]
                 if isinstance(names, dict) else [", ".join(names)]):
      console.out.print(f"  {line}")
  return 0


def _facts(name):
  """What `list` says of an architecture, as `cost` counts it by default."""
  architecture = zoo.get(name)
  place, words = cost.place(argparse.Namespace(
      classes=None, image_size=None, init_channels=None, cells=None,
      skeleton=None), architecture)
  total = exact.network(architecture, place)
  return {"params": total.params, "madds": total.madds,
          "kind": "cells" if architecture.kind == "cells" else "network",
          "source": zoo.source(name),
          "place": f"{words} {place.num_classes} classes, {place.image_size}"
          " pixels"}


def run_operations(args) -> int:
  """`natjax operations`: all operations, or those of a space.

  With --json, a list of objects with the keys "operation", "type",
  "kernel_size", "params", "madds" (BN left out, pooling windows and copies
  counted, as in Fig. 4(b)); with --space also "transitions" and
  "transitions_stride_2", the names of the operations that it may become, itself
  among them, at stride 1 and at stride 2, by the space's rule and the guard of
  cost at the given channels and size (BN included, pooling windows and copies
  left out). Where an operation cannot stand at a stride, its list says what
  may stand in for it.
  """
  settings.at_least_one(args, "channels", "image_size")
  space = None if args.space is None else spaces.get(args.space)
  table = exact.operation_table(
      args.channels, args.image_size, space and space.candidates)
  may = {} if space is None else _transitions(
      space, args.channels, args.image_size)
  if args.json:
    console.print_json([
        {"operation": name, "type": operations.get(name).type,
         "kernel_size": operations.get(name).kernel_size, "params": c.params,
         "madds": c.madds, **{key: names[name] for key, names in may.items()}}
        for name, c in table.items()])
    return 0
  rows = []
  for name, c in table.items():
    rows.append([name, amounts.rounded(c.params / 1e3, 1),
                 amounts.rounded(c.madds / 1e6, 1)])
    if may:
      first, second = (names[name] for names in may.values())
      rows[-1] += [", ".join(n for n in first if n != name),
                   ", ".join(n for n in first if n not in second)]
  console.print_table(
      f"{args.channels} channels, {args.image_size} x {args.image_size} pixels"
      " (stride 1; 2x2 pooling at stride 2)",
      ("operation", ">parameters (K)", ">multiply-adds (M)",
       *("may become", "at stride 2 not")[:len(may)]), rows)
  return 0


def _transitions(space, channels, size):
  """Per JSON key, what every operation of a space may become."""
  if channels % 2:
    raise errors.InputError(
        f"channels is {channels}; a skip at stride 2 halves them, so give an"
        " even number with a space", "channels")
  scheme = transitions.SCHEMES[space.scheme](space.candidates)
  return {key: transitions.becomes(
      scheme, space.candidates, transitions.valid_actions(
          scheme, transitions.may_become(
              space.candidates,
              [edges.Ends(channels, channels, stride, size)])))
          for stride, key in ((1, "transitions"), (2, "transitions_stride_2"))}
