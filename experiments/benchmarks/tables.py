"""The benchmarks' reports, in markdown."""

import argparse
from collections.abc import Mapping, Sequence
import datetime
import os
import pathlib
import platform
import shlex

import jax
import numpy as np
import sides

NO_TORCH = 'torch is not installed: pip install "natjax[benchmark]"'
# Of the supernet's step on the CPU, at batch 32.
COMPILE_SECONDS, TEMPORARIES_MB = 20, 250
RATIOS = {"natpp": 1.1, "alone": 0.95, "torch": 0.5}
# On a card, by batch size.
CARD_RATIOS = {64: {"torch": 0.33, "torch.compile": 1.0}, 512: {"torch": 0.8}}


def spread(values: np.ndarray, scale: float = 1.0, digits: int = 3) -> str:
  """Median [quartiles] of what is not NaN."""
  low, middle, high = (scale * np.nanpercentile(values, q)
                       for q in (25, 50, 75))
  return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
  """A markdown table, columns of equal width."""
  rows = [list(map(str, row)) for row in (header, *rows)]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  rows.insert(1, ["-" * width for width in widths])
  return ["| " + " | ".join(
      cell.ljust(width) for cell, width in zip(row, widths, strict=True)
  ) + " |" for row in rows]


def verdict(value: float, target: float, unit: str = "") -> str:
  """A target beside its figure."""
  return (f"<= {target:.3g}{unit}: "
          f"{'met' if value <= target else 'missed'}")


def compile_table(selected, natpp, alone, accelerator: bool) -> list[str]:
  """Seconds and memory of every compiled program; targets on the CPU alone."""

  def row(name, costs, targets=("", "")):
    median = sides.Compilation(*np.median(np.array(costs), axis=0))
    return [name, *(f"{v:.1f}" for v in (
        median.trace, median.lower, median.compile,
        sum(median[:3]))), f"{median.temporaries:.0f}", *targets]

  cost = selected.step_cost
  rows = [
      row("selected, step", [cost], ("", "") if accelerator else (
          verdict(cost.compile, COMPILE_SECONDS, " s"),
          verdict(cost.temporaries, TEMPORARIES_MB, " MB"))),
      row("selected, forward", [selected.forward_cost]),
      row("natpp, step", [natpp.step_cost]),
      row("natpp, forward", [natpp.forward_cost]),
  ]
  if alone:
    rows += [
        row("alone, step", [r.step_cost for r in alone]),
        row("alone, forward", [r.forward_cost for r in alone]),
    ]
  for r in rows:
    r += [""] * (8 - len(r))
  return table(("program", "trace s", "lower s", "XLA compile s", "total s",
                "temporaries MB", "target compile", "target temporaries"),
               rows)


def targets(accelerator: bool, batch_size: int) -> dict[str, float]:
  """The ratios of a step that are aimed at, by side."""
  return CARD_RATIOS.get(batch_size, {}) if accelerator else RATIOS


def time_tables(steps, forwards, aims: Mapping[str, float]) -> list[str]:
  """Seconds per side, and the ratios of `selected` to the others.

  Of `natpp`, which ought to cost little more, the ratio to `selected`.

  Args:
    steps: seconds of training steps, by side.
    forwards: those of forward passes.
    aims: of `targets`.
  """
  lines = table(("side", "training step ms", "forward ms"), [
      (name, spread(steps[name], 1e3, 1), spread(forwards[name], 1e3, 1))
      for name in steps
  ])
  rows = []
  for name in steps:
    if name == "selected":
      continue
    pair = (("natpp", "selected") if name == "natpp" else ("selected", name))
    ratio, forward = (s[pair[0]] / s[pair[1]] for s in (steps, forwards))
    target = "" if name not in aims else verdict(
        np.nanmedian(ratio), aims[name])
    rows.append((" / ".join(pair), spread(ratio, digits=2), target,
                 spread(forward, digits=2)))
  return lines + [""] * bool(rows) + table(
      ("ratio", "training step", "target", "forward"), rows) * bool(rows)


def architecture_table(genotypes, steps) -> list[str]:
  """The drawn architectures, by their operations, with their step's time."""
  rows = []
  for i, genotype in enumerate(genotypes):
    names = [e.operation for cell in genotype for e in cell.edges]
    heavy = ", ".join(
        f"{names.count(n)} {n}" for n in sides.SPACE.candidates if n in names)
    rows.append((i, *(f"{1e3 * np.median(s[i]):.0f}" for s in steps.values()),
                 heavy))
  return table(("number", *(f"{name} ms" for name in steps),
                "operations of both cells"), rows)


def profile_table(steps, forwards) -> list[str]:
  """Medians with one operation on every edge."""
  rows = []
  for i, name in enumerate(sides.SPACE.candidates):
    row = [name]
    for seconds in (forwards, steps):
      medians = [np.median(seconds[side][i]) for side in seconds]
      row += [f"{1e3 * m:.1f}" for m in medians]
      row += [f"{medians[0] / m:.2f}" for m in medians[1:]]
    rows.append(row)
  names = list(steps)
  header = ["operation on every edge"]
  for what in ("forward", "step"):
    header += [f"{side} {what} ms" for side in names]
    header += [f"ratio {what}" for _ in names[1:]]
  return table(header, rows)


def machine(command: str, sizes: Sequence[str]) -> list[str]:
  """Where, when and with what the figures came about.

  Args:
    command: that was run.
    sizes: what was measured and how often.
  """
  device = jax.devices()[0]
  name = device.device_kind
  if device.platform == "cpu":
    name = f"{_processor()}, {len(os.sched_getaffinity(0))} cores"
  versions = [f"python {platform.python_version()}", f"jax {jax.__version__}"]
  if sides.torch is not None:
    versions.append(f"torch {sides.torch.__version__}")
  lines = [
      f"- {device.platform}: {name}",
      f"- {', '.join(versions)}; XLA_FLAGS"
      f" `{os.environ.get('XLA_FLAGS', '')}`",
      f"- {datetime.datetime.now().astimezone():%Y-%m-%d %H:%M %Z}, load"
      f" average {' '.join(f'{x:.1f}' for x in os.getloadavg())}",
      f"- `{command}`",
      *(f"- {line}" for line in sizes),
  ]
  if os.environ.get("GLIBC_TUNABLES"):
    lines.append(f"- GLIBC_TUNABLES `{os.environ['GLIBC_TUNABLES']}`")
  if os.getloadavg()[0] > 0.25 * len(os.sched_getaffinity(0)):
    lines.append("- PROVISIONAL: other processes ran; figures of the CPU mean"
                 " little")
  return lines


def torch_lines(with_torch: bool) -> list[str]:
  """Where PyTorch runs, or why it does not."""
  if with_torch and sides.torch.cuda.is_available():
    return [f"- torch on {sides.torch.cuda.get_device_name()}"]
  if with_torch:
    return [f"- torch on the CPU, {sides.torch.get_num_threads()} threads"]
  return [f"- {NO_TORCH}"] if sides.torch is None else []


def _processor() -> str:
  """The processor's model name."""
  try:
    info = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
  except OSError:
    return platform.processor()
  names = [line.split(":", 1)[1].strip() for line in info.splitlines()
           if line.startswith("model name")]
  return names[0] if names else platform.processor()


def add_flags(parser: argparse.ArgumentParser, title: str | None) -> None:
  """Adds --report and --title, by which a section is written."""
  parser.add_argument("--report", type=pathlib.Path,
                      help="markdown file to write the section into")
  parser.add_argument("--title", default=title,
                      help="heading of the section, replaced if it exists")


def command_of(script: str, argv: Sequence[str], **hidden: str) -> str:
  """A command as a report shows it, without where files of others lie.

  Args:
    script: beside this one.
    argv: its flags.
    **hidden: of flags whose value says where, what stands in its place.
  """
  shown = list(argv)
  for i, arg in enumerate(shown):
    for name, word in hidden.items():
      flag = f"--{name.replace('_', '-')}"
      if arg.startswith(f"{flag}="):
        shown[i] = f"{flag}={word}"
      elif arg == flag:
        shown[i + 1] = word
  return shlex.join(["python", f"experiments/benchmarks/{script}", *shown])


def show(args: argparse.Namespace, lines: list[str]) -> None:
  """Prints the section, and writes it to where `add_flags` names a file."""
  print("\n".join(["", f"## {args.title}", "", *lines]), flush=True)
  if args.report is not None:
    write_section(args.report, args.title, lines)
    print(f"section '{args.title}' written to {args.report}", flush=True)


def write_section(path: pathlib.Path, title: str, lines: list[str]) -> None:
  """Puts the section of this title into the file, in place of an older one."""
  head = ("# Benchmarks\n\nWritten by the scripts beside this file; each"
          " section names its command.\n")
  text = path.read_text(encoding="utf-8") if path.exists() else head
  first, *sections = text.split("\n## ")
  body = "\n".join([title, "", *lines]) + "\n"
  titles = [section.split("\n", 1)[0] for section in sections]
  if title in titles:
    sections[titles.index(title)] = body
  else:
    sections.append(body)
  text = "\n\n## ".join(part.strip("\n") for part in (first, *sections)) + "\n"
  draft = path.with_name(path.name + ".tmp")
  draft.write_text(text, encoding="utf-8")
  draft.replace(path)
