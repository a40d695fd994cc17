"""Writes a run's table and picture as Markdown.

  python experiments/report.py RUN_DIR TARGET_DIR --command "natjax ..."

Copies `result.json` and `architecture.svg` of a finished `natjax transform`
into TARGET_DIR and writes README.md beside them: accuracy (mean and deviation
over seeds), parameters, multiply-adds, edges that changed, scores of the
candidates or what every seed tried, versions, and the machine it ran on.
"""

import json
import os
import pathlib
import platform
import shutil

import recording


def percent(summary):
  """Mean and deviation in points."""
  return (f"{100 * summary['accuracy']:.2f} ± "
          f"{100 * summary['accuracy_std']:.2f}")


def table(result):
  """The rows that compare the two networks."""
  before, after = result["original"], result["transformed"]
  lines = ["| network | test accuracy, % | parameters | multiply-adds |",
           "|---|---|---|---|"]
  for name, row in (("original", before), ("transformed", after)):
    lines.append(f"| {name} | {percent(row)} | {row['params']:.0f} |"
                 f" {row['madds']:.0f} |")
  gain = recording.paired(before["accuracies"], after["accuracies"])
  ratio = [100 * (after[k] / before[k] - 1) for k in ("params", "madds")]
  lines.append(f"| difference | {gain} | {ratio[0]:+.1f} % |"
               f" {ratio[1]:+.1f} % |")
  return lines


def tries(result):
  """What every seed came to, and what was tried on held-out images."""
  before, rows = result["original"], []
  for seed, original in zip(
      result["seeds"], before["accuracies"], strict=True):
    told = []
    for row in seed.get("tries", []):
      low, high = (100 * end for end in row["interval"])
      told.append(f"{row['madds'] / before['madds']:.2f}x:"
                  f" {100 * row['difference']:+.2f} ({low:+.2f} to {high:+.2f})"
                  + (", returned" if row["accepted"] else ", refused"))
    rows.append((seed["seed"], f"{100 * original:.2f}",
                 f"{100 * seed['accuracy']:.2f}",
                 f"{seed['params'] / before['params']:.2f}",
                 f"{seed['madds'] / before['madds']:.2f}", "; ".join(told)))
  return recording.table(
      ("seed", "original, %", "returned, %", "parameters left",
       "multiply-adds left", "tried: points on held-out images (95 %)"), rows)


def changes(result):
  """The edges that changed."""
  if not result["changes"]:
    return ["The original was kept."]
  return ["| cell | edge | before | after |", "|---|---|---|---|"] + [
      f"| {c['cell']} | {c['source']} -> {c['target']} | {c['before']} |"
      f" {c['after']} |" for c in result["changes"]]


def candidates(result):
  """Score of the input, of the chosen one, and how many there were."""
  rows = result["candidates"]
  original = next(c for c in rows if c["original"])
  chosen = next(c for c in rows if c["chosen"])
  return (f"Candidates scored: {len(rows)}; supernet accuracy of the original"
          f" {100 * original['score']:.2f} %, of the chosen one"
          f" {100 * chosen['score']:.2f} %, of the worst"
          f" {100 * min(c['score'] for c in rows):.2f} %.")


def main():
  parser = recording.Parser(description=__doc__.split("\n")[0])
  parser.add_argument("run", type=pathlib.Path)
  parser.add_argument("target", type=pathlib.Path)
  parser.add_argument("--command", required=True)
  parser.add_argument("--note", default="")
  args = parser.parse_args()
  result = json.loads((args.run / "result.json").read_text())
  args.target.mkdir(parents=True, exist_ok=True)
  for name in ("result.json", "architecture.svg"):
    shutil.copy(args.run / name, args.target / name)
  seeds = len(result["original"]["accuracies"])
  versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
  name = args.command.split()[2]  # natjax transform NAME ...
  told = candidates(result) if "candidates" in result else (
      "The difference is paired by seed, with its interval of 95 % (Student's"
      " t).")
  search = (f" of which the search {result['search_seconds']:.0f} s"
            if "search_seconds" in result else "")
  text = "\n".join([
      f"# {result['dataset']}: {name} transformed by {result['method']}", "",
      "![what changed](architecture.svg)", "", *table(result), "",
      f"{seeds} seeds each. {told}", "",
      *([*tries(result), "", "Edges that changed, first seed:", ""]
        if "seeds" in result else []), *changes(result), "",
      f"Command: `{args.command}`", "",
      f"Hardware: {os.cpu_count()} CPU cores ({platform.machine()}),"
      f" {', '.join(result['devices'])}; {result['seconds']:.0f} s{search};"
      f" {versions}.",
      *(["", args.note] if args.note else []), ""])
  (args.target / "README.md").write_text(text)


if __name__ == "__main__":
  recording.run(main)
