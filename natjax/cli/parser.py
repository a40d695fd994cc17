"""What the command line takes."""

import argparse
import re
from typing import Any
from typing import NoReturn

from natjax import errors
from natjax.cli import benchmark
from natjax.cli import inputs
from natjax.cli import inspection
from natjax.cli import jobs
from natjax.cli import processes

_HELP = {
    "transform": "replace an architecture's operations by others",
    "search": "find an architecture in a space",
    "train": "train the network of an architecture",
    "evaluate": "test accuracy of the networks that a run trained",
    "draw": "draw an architecture, or what changed between two",
    "cost": "parameters and multiply-adds of an architecture",
    "list": "architectures, operations, data sets, spaces, methods and presets",
    "operations": "parameters and multiply-adds of every operation, and what"
                  " it may become",
    "benchmark": "train the policy where every reward is known, and judge it",
}
_PREFIXES = {"search": "", "train": "train-", "simclr": "simclr-"}


class Parser(argparse.ArgumentParser):
  """A parser whose refusals are one line."""

  def error(self, message: str) -> NoReturn:
    raise errors.InputError(f"{message}; see `{self.prog} --help`")


def parse(argv) -> argparse.Namespace:
  """Reads the arguments."""
  parser = make_parser()
  args, unknown = parser.parse_known_args(argv)
  if unknown and not getattr(args, "anything", False):
    parser.error(f"unrecognized arguments: {' '.join(unknown)}")
  return args


def make_parser() -> Parser:
  """Builds the parser of all commands."""
  from natjax import methods
  from natjax.methods import supervised
  from natjax.objectives import simclr

  parser = Parser(prog="natjax", description="Takes a network's architecture "
                  "and returns a better or cheaper one.", allow_abbrev=False)
  commands = parser.add_subparsers(dest="command", required=True,
                                   metavar="COMMAND")

  def add(name, run, prefixes=None):
    sub = commands.add_parser(name, help=_HELP[name], allow_abbrev=False,
                              description=_HELP[name])
    flagged = lambda run: inputs.naming_flags(run, sub, prefixes)
    sub.set_defaults(run=flagged(processes.joined(flagged(run)))
                     if prefixes else flagged(run))
    return sub

  def starting(how):
    return {name: entry for name, entry in methods.METHODS.items()
            if entry.starts in (how, "both")}

  transform = add("transform", jobs.run_transform, _PREFIXES)
  transform.add_argument("architecture", metavar="ARCH")
  transform.add_argument("--space", help="a space of `natjax list`, for cells"
                         " (default: by the architecture)")
  transform.add_argument("--compare", default=None,
                         action=argparse.BooleanOptionalAction,
                         help="of methods whose networks come out trained:"
                         " also train the original (yes)")
  _add_method_flags(transform, starting("given"), "nat")

  if found := starting("space"):
    search = add("search", jobs.run_transform, _PREFIXES)
    search.add_argument("--space", required=True,
                        help="a space of `natjax list`")
    search.set_defaults(compare=None)
    _add_method_flags(search, found, next(iter(found)))
  else:
    search = add("search", jobs.refuse_search)
    search.add_argument("any", nargs="*")
    search.set_defaults(anything=True)

  train = add("train", jobs.run_train, {**_PREFIXES, "train": ""})
  train.add_argument("architecture", metavar="ARCH")
  _add_run_flags(train)
  _add_settings(train, supervised.TrainConfig, "", "training")
  _add_settings(train, simclr.SimCLRConfig, "simclr-", "objective simclr")

  evaluate = add("evaluate", inspection.run_evaluate)
  evaluate.add_argument("directory", metavar="DIR")
  evaluate.add_argument("--dataset", help="default: the run's own")
  evaluate.add_argument("--data-dir", help="where the data set lies")

  draw = add("draw", inspection.run_draw)
  draw.add_argument("architecture", metavar="ARCH")
  draw.add_argument("other", metavar="OTHER", nargs="?")
  draw.add_argument("--theta", action="store_true", help="ARCH is the folder of"
                    " a differentiable transformation: draw theta over time")
  draw.add_argument("--out", required=True, metavar="FILE.svg|.png")

  cost = add("cost", inspection.run_cost)
  cost.add_argument("architecture", metavar="ARCH")
  cost.add_argument("--skeleton", choices=("cifar", "imagenet", "face"),
                    help="default: the usual one of the architecture")
  cost.add_argument("--width", type=float, metavar="F",
                    help="factor of the widths of a network of blocks")
  for flag in ("init-channels", "cells", "classes", "image-size"):
    cost.add_argument(f"--{flag}", type=int, metavar="N")

  operations = add("operations", inspection.run_operations)
  operations.add_argument("--channels", type=int, default=128, metavar="N")
  operations.add_argument("--image-size", type=int, default=32, metavar="N")
  operations.add_argument("--space", help="list the operations of this search"
                          " space, and the transitions that its rule and the"
                          " guard of cost allow at these channels and size")
  operations.add_argument("--json", action="store_true", help="a list of"
                          " objects with operation, type, kernel_size, params,"
                          " madds; with --space also transitions, the names of"
                          " the operations it may become at stride 1, itself"
                          " among them, and transitions_stride_2")
  for sub in (evaluate, cost, add("list", inspection.run_list)):
    sub.add_argument("--json", action="store_true")
  benchmark.add_flags(add("benchmark", benchmark.run_benchmark, {}))
  return parser


def _add_method_flags(parser, entries, default):
  """The flags of a command that runs one of several methods."""
  from natjax.methods import supervised
  from natjax.objectives import simclr

  parser.add_argument(
      "--method", default=default, choices=entries, help="; ".join(
          f"{name} {entry.help}" for name, entry in entries.items()
      ).replace("%", "%%"))
  parser.add_argument("--share", default="cell", help="of a network of"
                      " blocks: cell transforms blocks of one topology"
                      " alike, full each by itself; cells are shared by all"
                      " layers, or with full by none")
  _add_run_flags(parser)
  _add_settings(parser, supervised.TrainConfig, "train-",
                "training of all networks")
  _add_settings(parser, simclr.SimCLRConfig, "simclr-", "objective simclr")
  known: dict[str, Any] = {}
  for kind in dict.fromkeys(entry.settings for entry in entries.values()):
    names = [n for n, entry in entries.items() if entry.settings is kind]
    _add_settings(parser, kind, "", f"method {', '.join(names)}", known)


def _add_run_flags(parser):
  parser.add_argument("--dataset", required=True,
                      help="a name of `natjax list`, of tensorflow-datasets, an"
                      " .npz file, or a folder of images per class")
  parser.add_argument("--data-dir", help="where the data set lies")
  parser.add_argument("--image-size", type=int, metavar="N",
                      help="side to which images are brought")
  parser.add_argument("--width", type=float, metavar="F",
                      help="factor of the widths of a network of blocks")
  parser.add_argument("--objective", default="supervised",
                      help="what networks learn: supervised, the labels, or"
                      " simclr, without labels (of methods that take it)")
  parser.add_argument("--preset", help="demo, small or paper (default: demo for"
                      " digits, else small)")
  parser.add_argument("--config", metavar="FILE", help="JSON with settings; "
                      "flags take precedence")
  parser.add_argument("--out", metavar="DIR", help="default: a folder in runs/"
                      " named after the command's arguments")
  parser.add_argument("--seed", type=int, default=None, help="(0)")
  parser.add_argument("--seeds", metavar="A:B", help="several seeds in one run,"
                      " A to B - 1: as many networks, or transformations with a"
                      " network each; N is N seeds from --seed on")
  parser.add_argument("--devices", type=int, metavar="N",
                      help="how many to use (default: all; not for several"
                      " processes)")
  parser.add_argument("--overwrite", action="store_true",
                      help="remove the run in --out and start anew")
  parser.add_argument("--dry-run", action="store_true",
                      help="print the configuration and its size, and stop")
  parser.add_argument("--checkpoint-seconds", type=float, default=60.0,
                      metavar="S", help="least time between checkpoints")
  parser.add_argument("--chunk-seconds", type=float, default=10.0,
                      metavar="S", help="time between looks at the run")
  parser.add_argument("--tensorboard", action="store_true",
                      help="also write the metrics for TensorBoard")
  processes.add_flags(parser)


def _attributes(config_class) -> dict[str, str]:
  """What a docstring says of every attribute, for --help."""
  section = (config_class.__doc__ or "").partition("Attributes:\n")[2]
  found: dict[str, str] = {}
  name = ""
  for line in section.splitlines():
    match = re.fullmatch(r"    (\w+): (.*)", line)
    if match:
      name, found[match[1]] = match[1], match[2]
    elif name and line.startswith("      "):
      found[name] += " " + line.strip()
  return {k: v.rstrip(".").replace("%", "%%").replace("`", "")
          for k, v in found.items()}


def _add_settings(parser, config_class, prefix, title, known=None):
  """Flags for the fields of settings.

  Args:
    parser: of the command.
    config_class: the settings' dataclass.
    prefix: of the flags.
    title: of the group.
    known: types of fields that other methods have, too; is added to.
  """
  from natjax.training import settings

  types = settings.types(config_class)
  shared = [] if known is None else [n for n in types if n in known]
  group = parser.add_argument_group(
      title + (f", and {', '.join(f'--{settings.word(n)}' for n in shared)}"
               if shared else "") + " (defaults: the preset's)")
  helps = _attributes(config_class)
  for name, kind in types.items():
    flag = f"--{prefix}{settings.word(name)}"
    if name in shared and known[name] is kind:
      continue
    if flag in parser._option_string_actions:
      if prefix or name != "seeds":
        raise errors.InputError(
            f"the setting '{name}' of {title} is another flag already; its"
            " package must rename it")
      continue  # Of training, which --seeds says.
    options: dict[str, Any] = {"dest": f"{prefix}{name}", "default": None,
                               "help": helps.get(name)}
    if kind is bool:
      options["action"] = argparse.BooleanOptionalAction
    else:
      options |= {"type": kind, "metavar": kind.__name__.upper()}
    group.add_argument(flag, **options)
    if known is not None:
      known[name] = kind
