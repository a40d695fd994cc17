"""The commands that only count or show: draw, convert, list, operations.

They import little, as `cost` does; what a run's folder holds needs the rest.
"""

import argparse
from typing import Any

from natjax import data, drawing, errors, operations, spaces, zoo
from natjax.cli import console, cost, inputs
from natjax.costs import amounts, exact
from natjax.methods import listed
from natjax.operations import edges
from natjax.spaces import transitions
from natjax.training import metrics, settings
from natjax.zoo import exports


def run_draw(args) -> int:
  """`natjax draw`."""
  if args.theta or args.alpha:
    _draw_course(args)
  else:
    other = args.other and inputs.read_architecture(args.other)
    drawing.save(args.out, inputs.read_architecture(args.architecture), other)
  console.out.print(args.out)
  return 0


def _draw_course(args):
  """Draws theta or alpha over time, of a run."""
  from natjax.pipeline import run_files

  course = "theta" if args.theta else "alpha"
  rows = errors.path(args.architecture) / run_files.METRICS
  if args.other is not None or (args.theta and args.alpha):
    raise errors.InputError(f"--{course} draws the course of one run; leave"
                            f" {args.other or '--alpha'} out")
  if not rows.is_file():  # Of several seeds, the first.
    rows = min(rows.parent.glob(f"seed-*/{run_files.METRICS}"), default=rows,
               key=lambda path: (len(path.parent.name), path))
  if not rows.is_file():
    command = ("search" if args.alpha
               else "transform --method differentiable")
    given = errors.path(args.architecture)
    lacks = (f"has no {course} (at random there is none)" if (
        given / run_files.CONFIG).is_file() else "is no run's folder")
    raise errors.InputError(
        f"--{course} draws the course of a run, and {given} {lacks}; name that"
        f" of a `natjax {command}`")
  draw = drawing.theta_curves if args.theta else drawing.alpha_curves
  with run_files.reading(rows):
    draw(metrics.read(rows), args.out)


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


def run_list(args) -> int:
  """`natjax list`."""
  architectures = {name: _facts(name) for name in zoo.names()}
  listing: dict[str, Any] = {
      "architectures": architectures,
      "operations": list(operations.names()),
      "datasets": dict(data.names()),
      "spaces": list(spaces.SPACES),
      "methods": listed.methods(),
      "presets": [*listed.PRESETS, *listed.ON_IMAGENET]}
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
      " (stride 1; 2x2 pooling at stride 2), without BN, pooling windows and"
      " copies counted",
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
