"""NAT's policy on NAS-Bench-201: Figure 7 and Table 5 where the truth is known.

  python experiments/nasbench201_policy.py --table nasbench201.csv.gz \
      --preset small --out runs/nasbench201_policy \
      --report experiments/results/nasbench201_policy

Guo et al., 2021, sections 6.2 to 6.4, on the benchmark instead of twenty
random architectures: the number of graph convolutions (Figure 7(a)), lambda
(Figure 7(b), kept constant as in the paper), m and n (Table 5), and beyond the
paper the policies, and the part of the benchmark's 4930 different computations
whose cells may be inputs (see GROUPS). Every setting trains 5 seeds in one
compiled program; accuracy after 200 epochs on CIFAR-10, means over all cells
that compute nothing that an input did.

Records results.json with every setting's report, one picture per group, and
README.md. A stopped run goes on by the same command, a setting at a time; what
stands in the results.json of --earlier is not run again.

Presets: smoke takes a minute, most of it compilation, and teaches nothing;
small, which took 15 minutes on 2 cores that others kept busy too, trains the
policies and fractions at full length and the sweeps for 500 steps of 32 inputs,
so that these compare how fast a policy learns; paper trains all at full length.
"""

import json
import pathlib
import time
from typing import NamedTuple

import recording
import sweeps
import transforming

import natjax
from natjax import errors
from natjax.benchmarks import nasbench201, policy_report, policy_search
from natjax.drawing import files
from natjax.graph import nasbench201 as cells201

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


def earlier(folder):
  """Reports by setting and number of seeds, of a record; {} of none."""
  if folder is None:
    return {}
  try:
    rows = recording.read(folder / "results.json")["runs"]
    return {_setting(row["key"]): row for row in rows}
  except (OSError, ValueError, LookupError, TypeError,
          AttributeError) as error:
    raise errors.InputError(
        f"{folder / 'results.json'} is no record of this script; name the"
        " --report of an earlier run, or leave out --earlier", "earlier"
    ) from error


def _setting(key):
  """The key without the group and the label, by which settings are one."""
  return key.split("/", 2)[2]


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


def write_report(out, done, circumstances, preset):
  """results.json, pictures and README.md of what is done."""
  out.mkdir(parents=True, exist_ok=True)
  files.write(out / "results.json", (json.dumps(
      {**circumstances, "runs": done}, indent=1) + "\n").encode())
  lines = ["# NAT's policy on NAS-Bench-201", "", __doc__.split("\n\n")[2], ""]
  for group in GROUPS:
    runs = [r for r in done if r["group"] == group]
    if not runs:
      continue
    draw(group, runs, out / f"{group}.svg")
    steps = sorted({r["config"]["steps"] for r in runs})
    lines += [f"## {GROUPS[group].title}", "", f"![{group}]({group}.svg)", "",
              f"{' or '.join(map(str, steps))} steps.", "",
              *table_lines(group, runs), ""]
  violations = sum(r["cost_violations"] for r in done)
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
      f"Preset {preset}; others' work makes seconds longer.", "",
      *recording.in_words(circumstances)]
  files.write(out / "README.md", "\n".join(lines).encode())


def parse(argv):
  parser = recording.Parser(description=__doc__.split("\n")[0])
  recording.add_folders(parser, PRESETS)
  sweeps.add_flags(parser)
  parser.add_argument("--table", type=pathlib.Path, required=True,
                      help="NAS-Bench-201's: CSV, or NATS-Bench's folder")
  parser.add_argument("--earlier", type=pathlib.Path, metavar="REPORT",
                      help="a record of this script, whose settings are not run"
                      " again")
  parser.add_argument("--groups", nargs="+", choices=GROUPS,
                      default=list(GROUPS))
  parser.add_argument("--methods", nargs="+", choices=tuple(NAMES),
                      default=["natpp", "nat"])
  return parser.parse_args(argv)


def main(argv=None):
  args = parse(argv)
  natjax.configure_compilation()

  # Config.
  preset = PRESETS[args.preset]
  table = nasbench201.read(args.table)
  known = earlier(args.earlier)
  sweep = sweeps.Sweep(__file__, args, argv, preset._asdict())
  seeds = list(range(preset.seeds))
  settings = [(group, label, config, f"{config!r}/{len(seeds)}")
              for group, label, config in plan(
                  preset, args.groups, args.methods)]

  # Train, judge. The same settings may stand in several groups: they are one.
  parts = {}
  for group, label, config, key in settings:
    if key not in known:
      parts.setdefault(key, sweeps.Part(
          f"{group} {label} {config.method}",
          lambda config=config: run(config, table, seeds)))
  rows = sweep.run([*parts.values()])
  known |= {key: rows[part.name] for key, part in parts.items()
            if part.name in rows}

  # Report.
  done = []
  for group, label, config, key in settings:
    if key in known:
      report = known[key]
      done.append({**report, "key": f"{group}/{label}/{key}", "group": group,
                   "label": label})
      transforming.say(
          f"{group} {label} {config.method}: argmax"
          f" {report['gain_argmax']:+.3f}, oracle {report['gain_oracle']:+.3f},"
          f" share {100 * report['oracle_share']:.1f} %,"
          f" {report['seconds']:.0f} s")
  folder = args.report or sweep.out / "report"
  write_report(folder, done, sweep.circumstances(), args.preset)
  transforming.say(f"recorded in {folder}")
  sweep.end()


if __name__ == "__main__":
  recording.run(main)
