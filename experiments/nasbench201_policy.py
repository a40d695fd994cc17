"""NAT's policy on NAS-Bench-201: Figure 7 and Table 5 where the truth is known.

  python experiments/nasbench201_policy.py --table nasbench201.csv.gz \
      --preset small --out experiments/results/nasbench201_policy

Guo et al., 2021, sections 6.2 to 6.4, on the benchmark instead of twenty
random architectures: the number of graph convolutions (Figure 7(a)), lambda
(Figure 7(b), kept constant as in the paper), m and n (Table 5), and beyond the
paper the policies, and the part of the benchmark's 4930 different computations
whose cells may be inputs (see GROUPS). Every setting trains 5 seeds in one
compiled program; accuracy after 200 epochs on CIFAR-10, means over all cells
that compute nothing that an input did.

Writes into --out: results.json with every setting's report, one picture per
group, and README.md. A setting that stands in results.json already is not run
again, so an interrupted run goes on where it stopped; remove the file to start
anew.

Presets: smoke takes a minute, most of it compilation, and teaches nothing;
small, which took 15 minutes on 2 cores that others kept busy too, trains the
policies and fractions at full length and the sweeps for 500 steps of 32 inputs,
so that these compare how fast a policy learns; paper trains all at full length.
"""

import json
import os
import pathlib
import platform
import shlex
import sys
import time
from typing import NamedTuple

from natjax.training import devices

devices.configure_compilation()

import jax  # noqa: E402
import recording  # noqa: E402

from natjax import pipeline  # noqa: E402
from natjax.benchmarks import (  # noqa: E402
  nasbench201,
  policy_report,
  policy_search,
)
from natjax.drawing import files  # noqa: E402
from natjax.graph import nasbench201 as cells201  # noqa: E402

NAMES = {"nat": "NAT", "natpp": "NAT++"}
COUNTS = (1, 5, 10, 30)
LAMBDAS = (3e-4, 3e-3, 3e-2, 3e-1, 3.0)


class Preset(NamedTuple):
  """How long a preset trains.

  Attributes:
    seeds: per setting.
    full: settings of the groups "policy" and "fraction".
    sweep: settings of the other groups.
  """

  seeds: int
  full: dict
  sweep: dict


_TINY = {"steps": 2, "inputs": 2, "samples": 2}
PRESETS = {
    "smoke": Preset(2, _TINY, _TINY),
    "small": Preset(5, {}, {"steps": 500, "inputs": 32}),
    "paper": Preset(5, {}, {}),
}


class Group(NamedTuple):
  """Settings that are compared.

  Attributes:
    title: of its table and picture.
    axis: what changes.
    settings: per label, what differs from the preset's settings.
    log: whether the axis is logarithmic.
  """

  title: str
  axis: str
  settings: dict
  log: bool = False


GROUPS = {
    "policy": Group(
        "Policies: the default one over edges, the published one over nodes",
        "policy", {p: {"policy": p} for p in ("default", "published")}),
    "fraction": Group(
        "Part of the computations whose cells may be inputs while training",
        "fraction",
        {str(f): {"train_fraction": f} for f in (0.5, 0.1, 0.01)}, True),
    "layers": Group(
        "Graph convolutions (Figure 7(a))", "layers",
        {str(n): {"gcn_layers": n} for n in (1, 2, 5, 10)}, True),
    "lambda": Group(
        "λ, constant, against scaled advantages (Figure 7(b))", "λ",
        {f"{w:g}": {"entropy_weight": w, "entropy_decay": 1.0}
         for w in LAMBDAS}, True),
    "m": Group("Inputs m per step (Table 5)", "m",
               {str(m): {"inputs": m} for m in COUNTS}, True),
    "n": Group("Samples n per input (Table 5)", "n",
               {str(n): {"samples": n} for n in COUNTS}, True),
}


def plan(preset, groups, methods):
  """All runs: (group, label, config); methods are compared in every group."""
  for group in groups:
    base = preset.full if group in ("policy", "fraction") else preset.sweep
    for method in methods:
      for label, change in GROUPS[group].settings.items():
        yield group, label, policy_search.config(
            **{"method": method, **base, **change})


def run(config, table, seeds):
  """Trains and judges; the report without single seeds' configs."""
  start = time.monotonic()
  found = policy_search.train(config, table, seeds)
  report = policy_report.summary(
      config, policy_report.judge(config, table, found), seeds,
      time.monotonic() - start)
  bins = max(len(found.reward[0]) // 50, 1)
  curve = found.reward.mean(0)
  curve = curve[:len(curve) // bins * bins].reshape(-1, bins).mean(1)
  return {**report, "reward_curve": [round(float(r), 6) for r in curve]}


def load(path):
  """Reports by key, of an earlier run."""
  if not path.exists():
    return {}
  return {r["key"]: r for r in json.loads(path.read_text())["runs"]}


def table_lines(group, runs):
  """Markdown rows of a group."""
  head = (GROUPS[group].axis, "method", "argmax", "one sample", "best of 10",
          "oracle", "random", "to the oracle", "share, test",
          "share, valid.", "judged", "parameters", "read", "s/seed")
  lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
  for r in runs:
    std = r["std"]
    cells = (
        r["label"], NAMES[r["config"]["method"]],
        f"{r['gain_argmax']:+.2f} ± {std['gain_argmax']:.2f}",
        f"{r['gain_sample']:+.2f}", f"{r['gain_best_of_10']:+.2f}",
        f"{r['gain_oracle']:+.2f}", f"{r['gain_random']:+.2f}",
        f"{-r['gap_to_oracle']:+.3f} ± {std['gap_to_oracle']:.3f}",
        f"{100 * r['test_oracle_share']:.1f} %",
        f"{100 * r['oracle_share']:.1f} %",
        " ".join(str(s["inputs_judged"]) for s in r["seeds"]),
        f"{r['params_ratio']:.3f}",
        str(r["entries_read"]), f"{r['seconds_per_seed']:.1f}")
    lines.append(f"| {' | '.join(cells)} |")
  return lines


def draw(group, runs, path):
  """Gain of argmax, of a sample and of the oracle over a group's axis."""
  mpl = files.load_matplotlib()
  figure = mpl.figure.Figure((6.4, 3.6), layout="constrained")
  axes = figure.add_subplot()
  labels = list(GROUPS[group].settings)
  for method, colour in (("nat", "C0"), ("natpp", "C1")):
    own = {r["label"]: r for r in runs if r["config"]["method"] == method}
    place = [i for i, label in enumerate(labels) if label in own]
    rows = [own[labels[i]] for i in place]
    if not rows:
      continue
    axes.errorbar(
        place, [r["gain_argmax"] for r in rows],
        [r["std"]["gain_argmax"] for r in rows], color=colour, marker="o",
        capsize=3, label=f"{NAMES[method]}, argmax")
    axes.plot(place, [r["gain_sample"] for r in rows], color=colour, marker="s",
              linestyle=":", label=f"{NAMES[method]}, one sample")
  axes.plot(place, [r["gain_oracle"] for r in rows], color="black",
            linestyle="--", label="oracle")
  axes.set_xticks(range(len(labels)), labels)
  axes.set_xlabel(GROUPS[group].axis)
  axes.set_ylabel("test accuracy gained, points")
  axes.set_title(GROUPS[group].title, fontsize="medium")
  axes.grid(alpha=0.3)
  axes.legend(fontsize="small")
  files.write(path, files.figure_bytes(figure, path.suffix[1:]))


def write_report(out, done, command, preset):
  """results.json, pictures and README.md of what is done."""
  hardware = f"{os.cpu_count()} CPU cores ({platform.machine()})" + "".join(
      f", {d.device_kind}" for d in jax.devices()[:1])
  versions = pipeline.versions()
  files.write(out / "results.json", (json.dumps(
      {"command": command, "hardware": hardware, "versions": versions,
       "runs": list(done.values())}, indent=1) + "\n").encode())
  lines = ["# NAT's policy on NAS-Bench-201", "", __doc__.split("\n\n")[2], ""]
  for group in GROUPS:
    runs = [r for r in done.values() if r["group"] == group]
    if not runs:
      continue
    draw(group, runs, out / f"{group}.svg")
    steps = sorted({r["config"]["steps"] for r in runs})
    lines += [f"## {GROUPS[group].title}", "", f"![{group}]({group}.svg)", "",
              f"{' or '.join(map(str, steps))} steps.", "",
              *table_lines(group, runs), ""]
  violations = sum(r["cost_violations"] for r in done.values())
  empty = int((cells201.computations() == 0).sum())
  lines += [
      "Gains are points of test accuracy, mean ± deviation over seeds; each"
      " seed draws its own training inputs, so that also the cells that are"
      f" judged differ, above all in whether the {empty} that compute nothing,"
      " which have the most to gain, are among them: \"to the oracle\" is what"
      " argmax gains less than the oracle on the same cells. Judged: cells, by"
      " seed. Parameters: mean of ratios, by argmax. Read:"
      " distinct entries of the table that a training looked up, of 15625."
      f" Cells that came to cost more, over all runs: {violations}.", "",
      f"Command (preset {preset}): `{command}`", "",
      f"Hardware: {hardware}, load average {os.getloadavg()[0]:.1f} when this"
      " was written (others' work makes seconds longer); "
      + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".", ""]
  files.write(out / "README.md", "\n".join(lines).encode())


def parse(argv):
  parser = recording.Parser(description=__doc__.split("\n")[0])
  parser.add_argument("--table", type=pathlib.Path, required=True)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--preset", choices=PRESETS, default="small")
  parser.add_argument("--groups", nargs="+", choices=GROUPS,
                      default=list(GROUPS))
  parser.add_argument("--methods", nargs="+", choices=tuple(NAMES),
                      default=["natpp", "nat"])
  return parser.parse_args(argv)


def main(argv=None):
  args = parse(argv)
  preset = PRESETS[args.preset]
  args.out.mkdir(parents=True, exist_ok=True)
  table = nasbench201.read(args.table)
  seeds = list(range(preset.seeds))
  command = shlex.join(["python", "experiments/nasbench201_policy.py",
                        *(sys.argv[1:] if argv is None else argv)])
  done = load(args.out / "results.json")
  for group, label, config in plan(
      preset, args.groups, args.methods):
    key = f"{group}/{label}/{config!r}/{len(seeds)}"
    if key in done:
      continue
    # The same settings may stand in several groups.
    twin = next((r for r in done.values() if r["key"].split("/", 2)[2]
                 == key.split("/", 2)[2]), None)
    report = twin or run(config, table, seeds)
    done[key] = {**report, "key": key, "group": group, "label": label}
    print(f"{group} {label} {config.method}: argmax"
          f" {report['gain_argmax']:+.3f}, oracle {report['gain_oracle']:+.3f},"
          f" share {100 * report['oracle_share']:.1f} %,"
          f" {report['seconds']:.0f} s", flush=True)
    write_report(args.out, done, command, args.preset)
  # Again, where all was done before and only how to tell it changed.
  write_report(args.out, done, command, args.preset)


if __name__ == "__main__":
  recording.run(main)
