"""Measures differentiable transformation against plain training.

`differentiable_sides.py` holds what is measured.

What: training steps of a network, all compiled as `training.fit` compiles them
(a loop over steps, spread over devices, state donated), on noise, without
augmentation and without an auxiliary head:
  plain: `supervised.Supervised.update` of the network as it is;
  w half-step: `Differentiable.update_weights` of the network that theta
    weighs;
  iteration: both half-steps;
  one-backward iteration: both gradients of one backward pass;
  second stage: the derived network with the weights that were moved into it;
    theta is set by hand so that of three edges one becomes an identity and one
    goes, where they may;
  derived alone: the derived network built by itself, from drawn weights.
The sides of one network take turns, round by round; at every turn the first
call is discarded. The first losses of the first four are compared, and the
last two must lower to the same text: they are one program, and their ratio
says how much of the other ratios is noise.

Every number of devices is measured in a process of its own. On the CPU all
devices share the machine's cores: more of them show what spreading costs, not
what it gains.

Commands:
  python experiments/benchmarks/differentiable.py
  python experiments/benchmarks/differentiable.py \
      --report experiments/benchmarks/README.md \
      --json experiments/benchmarks/differentiable.json \
      --title "Differentiable transformation, CPU, float32"
Expected time on 2 CPU cores: half an hour.
"""

import argparse
from collections.abc import Sequence
import functools
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
from typing import Any

import environment
import flags

environment.configure()

import differentiable_sides as parts  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import tables  # noqa: E402

# Of the side's step to another's.
TARGETS = {
    parts.HALF_STEP: (parts.PLAIN, 1.3),
    parts.ITERATION: (parts.PLAIN, 2.2),
    parts.ONE_BACKWARD: (parts.PLAIN, 1.3),
    parts.SECOND: (parts.ALONE, 1.05),
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = flags.Parser(
      description=__doc__.split("\n", 1)[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  parser.add_argument("--networks", nargs="+", default=["resnet20", "darts"],
                      help="names of the zoo, or files that end in .json")
  parser.add_argument("--devices", nargs="+", type=int,
                      help="numbers of devices (default: 1, on the CPU 1 4)")
  parser.add_argument("--width", type=float, default=1.0,
                      help="factor of the widths of networks of blocks")
  parser.add_argument("--init-channels", type=int, default=16,
                      help="of genotypes")
  parser.add_argument("--cells", type=int, default=8, help="of genotypes")
  parser.add_argument("--drop-path", type=float, default=0.2,
                      help="of genotypes")
  parser.add_argument("--batch-size", type=int, default=64,
                      help="over all devices")
  parser.add_argument("--image-size", type=int, default=32)
  parser.add_argument("--dtype", choices=("float32", "bfloat16"),
                      default="float32")
  parser.add_argument("--rounds", type=int, default=6)
  parser.add_argument("--steps", type=int, default=1,
                      help="calls timed per round and side")
  parser.add_argument("--chunk", type=int, default=4,
                      help="training steps per call")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--json", type=pathlib.Path,
                      help="file to write the figures into")
  tables.add_flags(parser, "Differentiable transformation")
  # What a process of its own is told.
  parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
  return parser.parse_args(argv)


def measure(args: argparse.Namespace) -> None:
  """Measures all networks on `args.measure` devices, into `args.json`."""
  if not environment.has_accelerator():
    jax.config.update("jax_num_cpu_devices", args.measure)
  jax.config.update("jax_enable_compilation_cache", False)
  devices = parts.devices_lib.choose(args.measure)
  rows = []
  for name in args.networks:
    print(f"{name}, devices {len(devices)}", flush=True)
    rows.append(parts.measure(parts.make_network(name, args), args, devices))
  args.json.write_text(json.dumps(rows), encoding="utf-8")


def measure_apart(argv: Sequence[str], count: int) -> list[dict[str, Any]]:
  """The rows of `measure` in a process of its own."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "rows.json"
    subprocess.run(
        [sys.executable, *(f"-W{option}" for option in sys.warnoptions),
         __file__, *argv, "--measure", str(count), "--json", str(path)],
        check=True)
    return json.loads(path.read_text(encoding="utf-8"))


def ratio(row: dict[str, Any], side: str, kind: str = "seconds") -> np.ndarray:
  """f[rounds], a side's step to that of the side which `TARGETS` names."""
  other, _ = TARGETS[side]
  return (np.array(row["sides"][side][kind])
          / np.array(row["sides"][other][kind]))


def ratios(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
  """Of a row, what `TARGETS` is about: median, quartiles, whether met."""
  found = {}
  for side, (other, target) in TARGETS.items():
    low, middle, high = np.percentile(
        ratio(row, side), (25, 50, 75)).tolist()
    found[f"{side} / {other}"] = {
        "median": middle, "low": low, "high": high, "target": target,
        "met": middle <= target,
        "cpu_median": float(np.median(ratio(row, side, "cpu_seconds")))}
  return found


def time_table(rows: list[dict[str, Any]]) -> list[str]:
  """Every side's step, epochs, memory and compilation."""
  return tables.table(
      ("network", "devices", "side", "step ms", "epochs per minute",
       "temporaries MB", "lower s", "XLA compile s"),
      [(row["network"], row["devices"], name,
        tables.spread(np.array(side["seconds"]), 1e3, 1),
        f"{side['epochs_per_minute']:.3g}", f"{side['temporaries_mb']:.0f}",
        f"{side['lower_seconds']:.1f}", f"{side['compile_seconds']:.1f}")
       for row in rows for name, side in row["sides"].items()])


def ratio_table(rows: list[dict[str, Any]]) -> list[str]:
  """Ratios of steps, round by round, with their targets, and of memory."""
  lines = []
  for row in rows:
    memory = {name: s["temporaries_mb"] for name, s in row["sides"].items()}
    for side, (other, target) in TARGETS.items():
      step = ratio(row, side)
      lines.append((
          row["network"], row["devices"], f"{side} / {other}",
          tables.spread(step, digits=2),
          tables.verdict(np.median(step), target),
          tables.spread(ratio(row, side, "cpu_seconds"), digits=2),
          f"{memory[side] / memory[other]:.2f}"))
  return tables.table(
      ("network", "devices", "ratio", "training step", "target", "CPU time",
       "temporaries"), lines)


def checks(rows: list[dict[str, Any]]) -> list[str]:
  """What `parts.measure` has asserted."""
  return [
      f"- check: {row['network']}, devices {row['devices']}: first losses of"
      f" {parts.PLAIN}, {', '.join(list(TARGETS)[:3])} agree;"
      f" {row['changed_edges']} of {row['edges']} edges changed by hand;"
      f" {parts.SECOND} and {parts.ALONE} lower to the same text"
      for row in rows]


def main(argv: Sequence[str] | None = None) -> None:
  argv = sys.argv[1:] if argv is None else list(argv)
  args = parse(argv)
  if args.measure is not None:
    return measure(args)
  say = functools.partial(print, flush=True)

  # Where.
  command = shlex.join(
      ["python", "experiments/benchmarks/differentiable.py", *argv])
  on_cpu = not environment.has_accelerator()
  counts = args.devices or ([1, 4] if on_cpu else [1])
  lines = tables.machine(command, [
      f"blocks of width {args.width:g}, cells of C={args.init_channels} in"
      f" {args.cells} layers with drop path {args.drop_path:g}; batch"
      f" {args.batch_size} over all devices, {args.image_size}x"
      f"{args.image_size}, {args.dtype}; {args.rounds} rounds of {args.steps}"
      f" x {args.chunk} steps after {args.chunk} discarded; median [quartiles]",
      "epochs of 50,000 images; temporaries of one device; lowering includes"
      " tracing; CPU time is that of all threads, which other processes disturb"
      " less"])
  if on_cpu and max(counts) > 1:
    lines.append(
        f"- {max(counts)} CPU devices share the"
        f" {len(os.sched_getaffinity(0))} cores: they show what spreading"
        " costs, not what it gains")
  say("\n".join(lines))

  # Measure.
  rows = [row for count in counts for row in measure_apart(argv, count)]
  rows.sort(key=lambda row: args.networks.index(row["network"]))
  after = " ".join(f"{x:.1f}" for x in os.getloadavg())

  # Report.
  result = {"machine": [line.removeprefix("- ") for line in lines],
            "load_average_at_the_end": after,
            "rows": [row | {"ratios": ratios(row)} for row in rows]}
  lines += [*checks(rows), "", *ratio_table(rows), "", *time_table(rows), "",
            f"Load average at the end: {after}"]
  say("\n".join(["", f"## {args.title}", "", *lines]))
  if args.json is not None:
    args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    say(f"figures written to {args.json}")
  if args.report is not None:
    tables.write_section(args.report, args.title, lines)
    say(f"section '{args.title}' written to {args.report}")
  return None


if __name__ == "__main__":
  main()
