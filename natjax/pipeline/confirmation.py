"""Whether what a search found holds, once it and the original are trained.

A trial is brief: what was as good as the original in one may end worse. So the
networks of both that are trained in full, on images without those held out, are
compared on these once more, over all seeds, by the rule of every comparison
(`acceptance`). What is refused is not returned: its networks go to a folder of
their own, and the original comes back.
"""

import pathlib
from typing import Any

from natjax.costs import exact as cost_lib
from natjax.graph import codec
from natjax.methods import acceptance
from natjax.methods import bounds as bounds_lib
from natjax.pipeline import clock as clock_lib
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import run_files, versus
from natjax.pipeline import trainer as trainer_lib

_DONE = "checkpoint/confirmation.json"


def read(out: pathlib.Path,
         trainer: trainer_lib.Trainer) -> dict[str, Any] | None:
  """What `compare` came to in a run's folder; None where it has not ended.

  The networks of what was refused are put aside, if they are not yet.
  """
  def ended():
    if not (out / _DONE).exists():
      return None
    found = run_files.read_json(out / _DONE)
    if not found["accepted"]:
      _put_aside(out, found["name"])
    return found

  return trainer.processes.of_first(ended)


def compare(out: pathlib.Path, name: str, found: codec.Architecture,
            original: codec.Architecture, trainer: trainer_lib.Trainer,
            tolerance: float, bounds: bounds_lib.Bounds) -> dict[str, Any]:
  """Compares the trained networks of a run, and keeps what comes of it.

  Args:
    out: the run's folder.
    name: of the networks of what was found.
    found: its architecture.
    original: the one that was given.
    trainer: of the networks, with images held out.
    tolerance: see `acceptance.judge`.
    bounds: the budget.

  Returns:
    As `acceptance.report`, of all seeds together, with "seeds", their number,
    and "name".
  """
  def of_all():
    counts = [trainer.compare(*(
        versus.Trained(trainer.objective(a), networks_lib.load_weights(path))
        for a, path in zip((found, original), paths, strict=True)))
              for paths in zip(*(trainer.files(out, part).values()
                                 for part in (name, "original")), strict=True)]
    pairs = acceptance.Pairs(*(
        sum(count[key] for count in counts)
        for key in ("images", "won", "lost")))
    before, after = (
        cost_lib.network(a, trainer.place) for a in (original, found))
    verdict = acceptance.judge(
        pairs, before, after, tolerance, *bounds.beside(found))
    if bounds.exceeded:
      verdict = acceptance.over_budget(verdict)
    run_files.write_kept(out / _DONE, {
        **acceptance.report(pairs, verdict), "seeds": len(counts),
        "name": name})

  with trainer.clock.part(clock_lib.EVALUATION):
    trainer.processes.of_first(of_all)
  ended = read(out, trainer)
  assert ended is not None  # It was just written.
  return ended


def _put_aside(out, name):
  """Moves the networks of what was refused to the folder of these."""
  aside = out / run_files.REFUSED
  for folder in sorted((out / run_files.NETWORKS).glob(f"{name}-*")):
    aside.mkdir(exist_ok=True)
    folder.rename(aside / folder.name)
