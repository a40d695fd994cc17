"""What the command line takes.

The flags of a command are made when it is asked for, by a function that
imports what they need.
"""

import argparse
from collections.abc import Callable
import functools
import pathlib
import re
import sys
from typing import Any, NoReturn

import natjax
from natjax import errors
from natjax.cli import inputs
from natjax.methods import listed
from natjax.training import settings

_PREFIXES = {"search": "", "train": "train-", "simclr": "simclr-",
             "arcface": "arcface-"}
_YES_NO = argparse.BooleanOptionalAction

_ARCHITECTURE = (
    "a name of `natjax list`, a file, the folder of a run, a string of"
    " NAS-Bench-201, or package.module:function of your own, which gives a flax"
    " module, its variables if they are not in --weights, and an example of its"
    " images")


class Parser(argparse.ArgumentParser):
  """A parser whose refusals are one line.

  What looks like a number below 0 is the value of the flag before it: argparse
  takes -5ms for a flag. What begins with ~/ lies in the user's home, behind a
  flag and = too, where shells leave it.
  """

  def _print_message(self, message, file=None):
    # argparse's own is silent where nothing can be written.
    if message:
      to = file or sys.stderr
      to.write(message)
      to.flush()

  def parse_known_args(self, args=None, namespace=None):
    words: list[str] = []
    for word in sys.argv[1:] if args is None else args:
      word = re.sub(r"^(--[a-z-]+=)?(~(?:/.*)?)$", _in_home, word)
      if re.match(r"-\.?[0-9]", word) and words and re.fullmatch(
          r"--[^=]+", words[-1]):
        words[-1] += f"={word}"
      else:
        words.append(word)
    return super().parse_known_args(words, namespace)

  def error(self, message: str) -> NoReturn:
    raise errors.InputError(f"{message}; see `{self.prog} --help`")


def _in_home(match):
  return (match[1] or "") + str(errors.home(pathlib.Path(match[2])))


def parse(argv) -> argparse.Namespace:
  """Reads the arguments."""
  argv = sys.argv[1:] if argv is None else list(argv)
  parser = _make_parser(next((w for w in argv if w in _COMMANDS), None))
  args, unknown = parser.parse_known_args(argv)
  if not any(word.startswith("-") for word in unknown):
    unknown = _take_behind(args, unknown)
  if unknown:
    own = [word.replace("--train-", "--", 1) for word in unknown
           if word.startswith("--train-") and args.command == "train"]
    hint = f"; of `natjax train` it is {' '.join(own)}" * bool(own)
    raise errors.InputError(
        f"unrecognized arguments: {' '.join(unknown)}{hint}; see `natjax"
        f" {args.command} --help`")
  return args


def _take_behind(args, words):
  """Takes words behind a flag, which argparse takes for unknown.

  Returns:
    Those that have no place.
  """
  if (name := getattr(args, "rest", None)) is None:
    return words
  found = getattr(args, name)
  if isinstance(found, list):
    setattr(args, name, [*found, *words])
    return []
  if found is None and words:
    setattr(args, name, words[0])
    return words[1:]
  return words


def _add_rest(sub, name, nargs, **options):
  """Further words, which `_take_behind` takes, too."""
  sub.add_argument(name, nargs=nargs, **options)
  sub.set_defaults(rest=name)


def _make_parser(command):
  """Builds the parser of all commands, of which one has its flags.

  With "list" all have where a package adds a method, so that it refuses what
  the package's flags clash with.
  """
  every = command == "list" and listed.methods().keys() != listed.LINES.keys()
  parser = Parser(prog="natjax", description="Takes a network's architecture "
                  "and returns a better or cheaper one.", allow_abbrev=False)
  parser.add_argument("--version", action="version",
                      version=f"natjax {natjax.__version__}")
  commands = parser.add_subparsers(dest="command", required=True,
                                   metavar="COMMAND")
  for name, (text, add_flags) in _COMMANDS.items():
    sub = commands.add_parser(name, help=text, allow_abbrev=False,
                              description=text)
    if every or command == name:
      sub.set_defaults(others=[])
      run, prefixes = add_flags(sub)
      sub.set_defaults(run=run, naming_flags=functools.partial(
          inputs.naming_flags, sub, prefixes))
  return parser


def _starting(how):
  from natjax import methods

  return {name: entry for name, entry in methods.METHODS.items()
          if entry.starts in (how, "both")}


def _transform(sub):
  from natjax.cli import jobs

  sub.add_argument("architecture", metavar="ARCH", help=_ARCHITECTURE)
  _add_module(sub)
  _add_rest(sub, "others", "*", metavar="ARCH", default=[],
            help="further ones, which share one search with it (of nat,"
            " natpp and evolution)")
  sub.add_argument("--space", help="a space of `natjax list`, for cells"
                   " (default: by the architecture)")
  sub.add_argument("--compare", default=None, action=_YES_NO, help="of methods"
                   " whose networks come out trained: also train the original"
                   " (yes)")
  sub.add_argument("--weights", metavar="RUN", help="begin with the given"
                   " network as trained: the run that trained it, or a file of"
                   " weights (.npz; .safetensors or .pth of torchvision's and"
                   " timm's networks) (default: replace trains it first, the"
                   " others draw weights)")
  sub.add_argument("--train-from", help="scratch, or inherited. Of methods"
                   " whose networks are trained at the end inherited fine-tunes"
                   " what the supernet holds for them (scratch). replace and"
                   " differentiable inherit; with scratch, replace also trains"
                   " what it chose from drawn weights and returns the better on"
                   " the held-out images (inherited)")
  sub.add_argument("--start", default="drawn", help="of nat, natpp, evolution"
                   " and differentiable, how operations begin that the given"
                   " network has not: drawn, or replace, after learning to give"
                   " what the trained network gives (drawn)")
  sub.set_defaults(no_train=False)
  _add_method_flags(sub, _starting("given"), "nat")
  return jobs.run_transform, _PREFIXES


def _search(sub):
  from natjax.cli import jobs

  sub.add_argument("--space", required=True, help="of `natjax list`")
  sub.add_argument("--no-train", action="store_true", help="leave out the"
                   " training of what is found")
  sub.set_defaults(compare=None, weights=None, train_from=None,
                   start="drawn")
  _add_method_flags(sub, _starting("space"), "darts")
  return jobs.run_transform, _PREFIXES


def _train(sub):
  from natjax.cli import jobs
  from natjax.methods import supervised

  sub.add_argument("architecture", metavar="ARCH", help=_ARCHITECTURE)
  _add_module(sub)
  sub.add_argument("--weights", metavar="RUN", help="begin with the weights of"
                   " a run's networks, or of a file (.npz; .safetensors or .pth"
                   " of torchvision's and timm's networks) (default: they are"
                   " drawn)")
  sub.add_argument("--held-out", type=float, default=0.0,
                   metavar="PART", help="of the training images, kept from"
                   " training, to tell the accuracy on them after every epoch"
                   " (0)")
  _add_run_flags(sub)
  _add_settings(sub, supervised.TrainConfig, "", "training")
  _add_objectives(sub)
  return jobs.run_train, {**_PREFIXES, "train": ""}


def _evaluate(sub):
  from natjax.cli import trained

  sub.add_argument("--json", action="store_true")
  sub.add_argument("directory", metavar="DIR")
  _add_rest(sub, "others", "*", metavar="DIR", default=[],
            help="further runs, to compare: a table of what their"
            " networks cost and how accurate they are, beside the first"
            " on the same images")
  sub.add_argument("--dataset", help="default: the run's own")
  sub.add_argument("--data-dir", help="where the data set lies")
  _add_module(sub)
  return trained.run_evaluate, {}


def _draw(sub):
  from natjax.cli import inspection

  sub.add_argument("architecture", metavar="ARCH")
  _add_module(sub)
  _add_rest(sub, "other", "?", metavar="OTHER")
  sub.add_argument("--theta", action="store_true", help="ARCH is the folder of"
                   " a differentiable transformation: draw theta over time")
  sub.add_argument("--alpha", action="store_true", help="ARCH is the folder of"
                   " a search, finished or not: draw what candidates weighed")
  sub.add_argument("--out", required=True, metavar="FILE.svg|.png")
  return inspection.run_draw, {}


def _explain(sub):
  from natjax.cli import explain

  sub.add_argument("--json", action="store_true")
  sub.add_argument("directory", metavar="RUN")
  sub.add_argument("--image", required=True, metavar="FILE|INDEX", help="a file"
                   " of an image, or the number of one of the run's test images"
                   " (./5 is a file)")
  sub.add_argument("--resize", action="store_true", help="bring a file of"
                   " another size to the network's, as the run did")
  sub.add_argument("--class", dest="label", metavar="CLASS", help="its name or"
                   " its number (default: the likeliest)")
  sub.add_argument("--layer", metavar="NAME|N", help="a layer, or a part of one"
                   " such as cell3/edge0_sep_conv_3x3; N is the number of a"
                   " cell or a block (default: the last before the head pools)")
  sub.add_argument("--candidates", action="store_true", help="of a finished"
                   " search: each candidate of a layer in turn, in its supernet"
                   " (of a chain, nasbench201 or nasbench1shot1; --layer is"
                   " then the number of a block, or such as block3/edge1;"
                   " default: the last)")
  sub.add_argument("--network", metavar="NAME", help="of the run's networks,"
                   " such as original-0 (default: the first of the transformed"
                   " ones, or the first)")
  sub.add_argument("--dataset", help="of the numbered image (default: the run's"
                   " own)")
  sub.add_argument("--data-dir", help="where the data set lies")
  sub.add_argument("--out", metavar="FILE.svg|.png", help="(explanation.svg in"
                   " the run's folder)")
  _add_module(sub)
  return explain.run_explain, {}


def _verify(sub):
  from natjax.cli import verify

  sub.add_argument("--json", action="store_true")
  sub.add_argument("directory", metavar="RUN", help="the folder of a run that"
                   " learnt embeddings, such as by --objective arcface")
  _add_rest(sub, "pairs", "+", metavar="PAIRS.bin", help="such as"
            " lfw.bin, cfp_fp.bin or agedb_30.bin: a pickled list of"
            " encoded images and one of bools, of which nothing is"
            " executed")
  sub.add_argument("--network", metavar="NAME", help="of the run's networks,"
                   " such as original-0 (default: all)")
  return verify.run_verify, {}


def _rank(sub):
  from natjax.cli import rank

  sub.add_argument("--json", action="store_true")
  sub.add_argument("directory", metavar="RUN", help="the folder of a finished"
                   " search by a supernet, such as spos or it-nas")
  _add_rest(sub, "architectures", "*", metavar="ARCH", default=[],
            help="what to rank (default: the whole space, where it holds"
            " at most 20000 architectures)")
  sub.add_argument("--count", type=inputs.whole, metavar="N", help="so many of"
                   " the space, drawn")
  sub.add_argument("--seed", type=inputs.whole,
                   help="of the draw of --count (0)")
  sub.add_argument("--images", type=inputs.whole, metavar="N", help="how many"
                   " of those that the search chose by (all)")
  sub.add_argument("--top", type=inputs.whole, default=10, metavar="N",
                   help="how many to show (10)")
  sub.add_argument("--table", metavar="FILE", help="of nasbench201 or"
                   " nasbench-macro, beside which the order is set")
  sub.add_argument("--data-dir", help="where the data set lies")
  return rank.run_rank, {}


def _cost(sub):
  from natjax.cli import cost

  sub.add_argument("architecture", metavar="ARCH", help=_ARCHITECTURE)
  _add_module(sub)
  sub.add_argument("--json", action="store_true")
  sub.add_argument("--skeleton", choices=("cifar", "imagenet", "face"),
                   help="default: the usual one of the architecture")
  sub.add_argument("--width", type=float, metavar="F",
                   help="factor of the widths of a network of blocks")
  for flag in ("init-channels", "cells", "classes", "image-size"):
    sub.add_argument(f"--{flag}", type=inputs.whole, metavar="N")
  return cost.run_cost, {}


def _convert(sub):
  from natjax.cli import inspection
  from natjax.zoo import exports

  sub.add_argument("architecture", metavar="ARCH")
  _add_module(sub)
  sub.add_argument("--to", required=True, choices=exports.FORMS, help="genotype"
                   " is DARTS's text, nasbench201 the benchmark's string, json"
                   " what natjax writes")
  sub.add_argument("--out", metavar="FILE", help="(standard output)")
  return inspection.run_convert, {}


def _export(sub):
  from natjax.cli import trained

  sub.add_argument("--json", action="store_true")
  sub.add_argument("directory", metavar="RUN")
  sub.add_argument("--out", required=True, metavar="FILE",
                   help="ends in .stablehlo or .onnx")
  sub.add_argument("--network", metavar="NAME", help="of the run's networks,"
                   " such as original-0 (default: the first of the transformed"
                   " ones, or the first)")
  sub.add_argument("--platforms", metavar="P,P",
                   help="on which StableHLO is to run, besides this one: of"
                   " cpu, cuda, rocm, tpu (cpu,cuda,tpu)")
  _add_module(sub)
  return trained.run_export, {}


def _list(sub):
  from natjax.cli import inspection

  sub.add_argument("--json", action="store_true")
  return inspection.run_list, {}


def _operations(sub):
  from natjax.cli import inspection

  sub.add_argument("--channels", type=inputs.whole, default=128, metavar="N")
  sub.add_argument("--image-size", type=inputs.whole, default=32, metavar="N")
  sub.add_argument("--space", help="list the operations of this search space,"
                   " and the transitions that its rule and the guard of cost"
                   " allow at these channels and size")
  sub.add_argument("--json", action="store_true", help="a list of objects with"
                   " operation, type, kernel_size, params, madds; with --space"
                   " also transitions, the names of the operations it may"
                   " become at stride 1, itself among them, and"
                   " transitions_stride_2")
  return inspection.run_operations, {}


def _benchmark(sub):
  from natjax.benchmarks import policy_search, table_search
  from natjax.cli import benchmark
  from natjax.methods import evolution

  sub.add_argument("benchmark", choices=table_search.BENCHMARKS)
  _add_rest(sub, "architectures", "*", metavar="ARCH", default=[],
            help="to look up: of nasbench101 MATRIX:OPERATIONS, its"
            " JSON, a file of either or #ROW of the table; of"
            " nasbench201 its string, a file or a run's folder; of"
            " nasbench-macro eight digits, a file or a run's folder;"
            " without any, the table is searched by --method evolution"
            " or random, or of nasbench201 and nasbench-macro the policy"
            " of nat or natpp is trained")
  sub.add_argument("--table", required=True, metavar="FILE",
                   help="the benchmark's accuracies: of nasbench101, and of"
                   " nasbench1shot1-1 to -3, .npz or .tfrecord; of nasbench201"
                   " .csv or .csv.gz with the columns that"
                   " natjax.benchmarks.nasbench201 says, or the folder"
                   " NATS-tss-v1_0-3ffb9-simple; of nasbench-macro .json")
  sub.add_argument("--seed", type=inputs.whole, metavar="N", help="(0)")
  sub.add_argument("--seeds", metavar="A:B", help="policies trained at once, of"
                   " the seeds A to B - 1; K is K of them from N on (1)")
  sub.add_argument("--json", action="store_true", help="accuracies in points,"
                   " means over unseen inputs and seeds")
  sub.add_argument("--focus", help="general alone, of the policy's training,"
                   " whose inputs are drawn from the whole space: one policy"
                   " serves all cells")
  _add_settings(sub, policy_search.SearchConfig, "", "the policy's training",
                defaults="those of Python, other ones of --policy published")
  _add_settings(sub, evolution.EvolutionConfig, "", "evolution in the table",
                defaults="those of Python")
  return benchmark.run_benchmark, {}


def _selftest(sub):
  from natjax.cli import selftest
  from natjax.selftest import report

  sub.add_argument("--quick", action="store_true", help="fewer operations,"
                   " smaller measurements: for two CPU cores")
  sub.add_argument("--only", choices=report.PARTS, help="one of the parts")
  sub.add_argument("--against", choices=("torch",), help="measure the same"
                   " networks in PyTorch, too")
  sub.add_argument("--time-limit", type=float, metavar="S", help="nothing"
                   " begins after so many seconds (360; 180 with --quick);"
                   " checks take at most 55 %% of them where speed follows")
  sub.add_argument("--out", default="runs/selftest", metavar="DIR",
                   help=f"where {selftest.FILE} is written (runs/selftest)")
  sub.add_argument("--markdown", metavar="FILE", help="also write the tables as"
                   " Markdown")
  return selftest.run_selftest, {}


def _add_method_flags(parser, entries, default):
  """The flags of a command that runs one of several methods."""
  from natjax.methods import supervised

  parser.add_argument(
      "--method", default=default, choices=entries, help="; ".join(
          f"{name} {entry.help}" for name, entry in entries.items()
      ).replace("%", "%%"))
  parser.add_argument("--share", help="of a network of blocks: cell transforms"
                      " blocks of one topology alike, full each by itself"
                      " (default: cell, of replace full); cells are shared by"
                      " all layers, or with full by none")
  _add_run_flags(parser)
  _add_settings(parser, supervised.TrainConfig, "train-",
                "training of all networks")
  _add_objectives(parser)
  known: dict[str, Any] = {}
  for kind in dict.fromkeys(entry.settings for entry in entries.values()):
    names = [n for n, entry in entries.items() if entry.settings is kind]
    _add_settings(parser, kind, "", f"method {', '.join(names)}", known)


def _add_objectives(parser):
  """Flags of the objectives that have settings."""
  from natjax.objectives import arcface, simclr

  _add_settings(parser, simclr.SimCLRConfig, "simclr-", "objective simclr")
  _add_settings(parser, arcface.ArcFaceConfig, "arcface-", "objective arcface")


def _add_module(parser):
  """The flag by which fixed operations become known."""
  parser.add_argument(
      "--module", metavar="PACKAGE.MODULE:FUNCTION", help="of a run or a file"
      " of a flax module, parts of which no block expresses: the function that"
      " gave it, which is called")


def _add_run_flags(parser):
  flag = parser.add_argument
  switch = functools.partial(flag, action="store_true")
  flag("--dataset", required=True, help="a name of `natjax list`, of"
       " tensorflow-datasets, an .npz file, or a folder of images per class, or"
       " with a train.rec")
  flag("--data-dir", help="where the data set lies")
  flag("--image-size", type=inputs.whole, metavar="N",
       help="side to which images are brought")
  flag("--resize", choices=("stretch", "crop", "imagenet"),
       help="how images that are not square are brought to it: all of the"
       " image; the largest square in the middle; or as papers on ImageNet do,"
       " random crops to train by and 224 of 256 pixels of the middle to test"
       " by (of presets for ImageNet imagenet, else stretch)")
  flag("--stream", action=_YES_NO, help="leave images on disk and decode them"
       " as they are needed, of folders and prepared sets (default: those that"
       " would take more than half of the memory, and those of --resize"
       " imagenet)")
  flag("--workers", type=inputs.whole, default=0, metavar="N", help="processes"
       " that decode what is streamed; 0 is threads (0)")
  switch("--skip-damaged", help="stream images, leave out those that do not"
         " decode, and count them")
  switch("--renumber-labels", help="number labels that have gaps, or do not"
         " begin at 0, as classes in their order (not those by which the set"
         " names its classes)")
  flag("--test-fraction", type=float, metavar="F", help="the part of every"
       " class to hold out, of data without test images (folders and digits:"
       " 0.2)")
  flag("--train-fraction", type=float, metavar="F", help="the part of every"
       " class to train and search on (default: 1, which is all; of preset"
       " imagenet-search 0.125)")
  flag("--normalize", metavar="imagenet|unit|M,M,M/S,S,S", help="by which mean"
       " and deviation of each channel, of pixels in [0, 1], images are"
       " normalised: of networks of torchvision and timm imagenet, or unit for"
       " pixels in [0, 1] as they are (default: the set's own)")
  flag("--jitter", type=inputs.jitter, metavar="B,C,S,H", help="strengths of"
       " random changes of brightness, contrast, saturation and hue of training"
       " images (default: none; of --resize imagenet 0.4,0.4,0.4,0.2)")
  flag("--lighting", type=float, metavar="F", help="deviation of random light"
       " along the principal components of colours, such as 0.1"
       " (default: none)")
  flag("--width", type=float, metavar="F",
       help="factor of the widths of a network of blocks")
  flag("--objective", default="supervised", help="what networks learn:"
       " supervised, the labels; arcface, them as identities of faces, by"
       " angles with a margin; or simclr, without labels (the last two of"
       " methods that take them)")
  flag("--preset", help="demo, small or paper (default: demo for digits, else"
       " small); of training alone also imagenet-nat (of nat and natpp on"
       " networks of blocks, too), imagenet-darts, imagenet-pcdarts and"
       " imagenet-itnas, and of searches by a supernet for cells or chains"
       " imagenet-search")
  flag("--config", metavar="FILE",
       help="JSON with settings; flags take precedence")
  flag("--out", metavar="DIR", help="default: a folder in runs/ named after the"
       " command's arguments")
  flag("--seed", type=inputs.whole, help="(0)")
  flag("--seeds", metavar="A:B", help="several seeds in one run, A to B - 1: as"
       " many networks, or transformations with a network each; N is N seeds"
       " from --seed on")
  flag("--devices", type=inputs.whole, metavar="N",
       help="how many to use (default: all; not for several processes)")
  switch("--overwrite", help="remove the run in --out and start anew")
  switch("--strict", help="refuse to resume a run under other versions of jax"
         " and what it stands on, or on another kind of device; else it goes on"
         " with a warning")
  switch("--dry-run", help="say what would be done, its steps, memory and time,"
         " and stop; of a known data set that is not there, too")
  switch("--json", help="of --dry-run: all of the configuration, as JSON")
  flag("--teraflops", type=inputs.teraflops, metavar="T", help="of --dry-run:"
       " 10^12 operations that a device is taken to do a second, a multiply-add"
       " being two (10 for accelerators, 0.015 for a CPU core); or measured,"
       " which times the training of the network that is given")
  flag("--checkpoint-seconds", type=float, metavar="S",
       help="least time between checkpoints (60)")
  flag("--chunk-seconds", type=float, metavar="S",
       help="time between looks at the run (10)")
  switch("--tensorboard", help="also write the metrics for TensorBoard")
  flag = parser.add_argument_group("several processes (start each with the same"
                                   " command, but for its id)").add_argument
  flag("--coordinator", metavar="HOST:PORT", help="of process 0; or auto,"
       " alone: jax finds the others (TPU, Slurm, Open MPI, Kubernetes)")
  flag("--num-processes", type=inputs.whole, metavar="N", help="in all")
  flag("--process-id", type=inputs.whole, metavar="I",
       help="of this one, from 0; 0 writes the files")


def _attributes(config_class) -> dict[str, str]:
  """What a docstring says of every attribute, for --help."""
  found = []
  for kind in reversed(config_class.__mro__):
    section = (kind.__doc__ or "").partition("Attributes:\n")[2]
    found += re.findall(
        r"^    (\w+): (.*(?:\n {6}.*)*)", section, re.MULTILINE)
  return {name: " ".join(text.split()).rstrip(".").replace("%", "%%").replace(
      "`", "") for name, text in found}


def _add_settings(parser, config_class, prefix, title, known=None,
                  defaults="the preset's"):
  """Flags for the fields of settings.

  Args:
    parser: of the command.
    config_class: the settings' dataclass.
    prefix: of the flags.
    title: of the group.
    known: types of fields that other methods have, too; is added to.
    defaults: what they are.
  """
  types, alone = settings.types(config_class), known is None
  known = {} if known is None else known
  shared = ", ".join(f"--{settings.word(n)}" for n in types if n in known)
  group = parser.add_argument_group(
      ", and ".join(filter(None, (title, shared))) + f" (defaults: {defaults})")
  helps = _attributes(config_class)
  for name, kind in types.items():
    flag = f"--{prefix}{settings.word(name)}"
    if known.get(name) is kind or (alone and flag == "--seeds"):
      continue  # Of training, --seeds says as much.
    if flag in parser._option_string_actions:
      raise errors.InputError(f"the setting '{name}' of {title} is another flag"
                              " already; its package must rename it")
    how: dict[str, Any] = {"action": _YES_NO} if kind is bool else {
        "type": inputs.whole if kind is int else kind,
        "metavar": kind.__name__.upper()}
    group.add_argument(flag, dest=f"{prefix}{name}", default=None,
                       help=helps.get(name), **how)
    known[name] = kind


# By their names: what a command does, and the function that adds its flags,
# which returns what runs it and, by records of settings, their flags' prefixes.
_COMMANDS: dict[str, tuple[str, Callable[..., Any]]] = {
    "transform": ("replace an architecture's operations by others", _transform),
    "search": ("find an architecture in a space", _search),
    "train": ("train the network of an architecture", _train),
    "evaluate": ("test accuracy of the networks that runs trained", _evaluate),
    "verify": ("whether a run's networks tell faces of two people apart, by"
               " pairs", _verify),
    "draw": ("draw an architecture, or what changed between two", _draw),
    "explain": ("where in an image a network sees a class"
                " (Grad-CAM)", _explain),
    "rank": ("the architectures of a space in the order that a search's"
             " supernet gives them", _rank),
    "cost": ("parameters and multiply-adds of an architecture", _cost),
    "convert": ("write an architecture in the form that other code"
                " reads", _convert),
    "export": ("write a trained network as StableHLO or ONNX, which run"
               " without natjax", _export),
    "list": ("architectures, operations, data sets, spaces, methods and"
             " presets", _list),
    "operations": ("parameters and multiply-adds of every operation, and"
                   " what it may become", _operations),
    "benchmark": ("look architectures up where the truth is known, search"
                  " there, or train the policy by it and judge that",
                  _benchmark),
    "selftest": ("check on this machine that natjax computes what it"
                 " should, and measure how fast", _selftest),
}
