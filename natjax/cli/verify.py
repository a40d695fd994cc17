"""`natjax verify`: whether a run's networks tell people apart, by pairs."""

import pathlib

from natjax.cli import console
from natjax.data import face_pairs
from natjax.pipeline import verify
from natjax.training import devices


def run_verify(args) -> int:
  """`natjax verify`.

  With --json, a list of objects with "pairs", the file, "network", "accuracy"
  and "deviation" over ten folds, "threshold" of squared distances, "tar" at
  "far", and "count", of pairs.
  """
  devices.configure_compilation()
  rows = []
  for file in args.pairs:
    found = verify.verify(
        args.directory, face_pairs.read(file), network=args.network)
    for name, verified in found.items():
      facts = verified._asdict()
      rows.append({"pairs": file, "network": name,
                   "count": facts.pop("pairs"), **facts})
  if args.json:
    console.print_json(rows)
    return 0
  console.print_table(
      "pairs of faces, ten folds", ("pairs", "network", ">count", ">accuracy",
                                    ">threshold", ">TAR at FAR 0.001"), [
          (pathlib.Path(row["pairs"]).stem, row["network"], str(row["count"]),
           f"{100 * row['accuracy']:.2f} ± {100 * row['deviation']:.2f} %",
           f"{row['threshold']:.2f}", f"{100 * row['tar']:.2f} %")
          for row in rows])
  return 0
