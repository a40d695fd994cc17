"""What a result says, in rows and sentences, wherever it is shown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import math
import statistics
from typing import Any, NamedTuple

from natjax.costs import amounts
from natjax.methods import acceptance

MEASURED = (">accuracy", ">parameters", ">multiply-adds")
# What budgets may ask for beside, and how it is written.
ASKED = {"latency": amounts.seconds, "memory": amounts.memory}


# Per key of a row of changes: its column, and how it is written.
_SAVED: dict[str, tuple[str, Callable[[Any], str]]] = {
    "params": (">parameters", str), "madds": (">multiply-adds", str),
    "latency": (">latency", amounts.seconds)}
_EXPLAINED: dict[str, tuple[str, Callable[[Any], str]]] = {
    "price": (">price, nats", lambda price: "" if price is None else (
        f"{price:.4f}")),
    "score_drop": (">score lost, points", lambda drop: f"{100 * drop:+.2f}"),
    "naswot_drop": (">NASWOT lost, nats", lambda drop: f"{drop:+.2f}"),
    "theta": (">theta none, identity, same", lambda groups: "; ".join(
        ", ".join(f"{value:.2f}" for value in theta) for theta in groups))}


class Comparison(NamedTuple):
  """What became of a network, or what a search found.

  Attributes:
    title: of the table.
    columns: of the table; those of numbers begin with ">".
    rows: of the table.
    verdict: a sentence; "" where nothing is compared.
  """

  title: str
  columns: tuple[str, ...]
  rows: list[tuple[str, ...]]
  verdict: str


def comparison(result: Mapping[str, Any], images: int,
               kept: str) -> Comparison:
  """The networks of a transformation or a search, and how they compare.

  Args:
    result: of one, not of several given architectures.
    images: number of test images.
    kept: what is said where no seed changed anything.
  """
  parts = networks(result)
  *before, after = parts.values()
  more = [kind for kind in ASKED if kind in after]
  rows = [(name, *cells, *(ASKED[kind](part[kind]) for kind in more))
          for (name, part), cells in zip(
              parts.items(), measured(*parts.values()), strict=True)]
  said = ""
  if before:
    shown, ratios, said = difference(result, images, kept, more)
    rows.append(("difference", shown, *ratios))
  seeds = len(after.get("accuracies", ()))
  trained = f"{seeds} seed(s) each" if seeds else "not trained"
  return Comparison(
      f"{measure(result)} on {result['dataset']}, {trained}",
      ("", *MEASURED, *(f">{kind}" for kind in more)), rows, said)


def difference(result: Mapping[str, Any], images: int, kept: str,
               more: Sequence[str] = ()) -> tuple[str, list[str], str]:
  """How a transformed network differs from the original.

  Args:
    result: of a transformation.
    images: number of test images.
    kept: what is said where no seed changed anything.
    more: what else than parameters and multiply-adds is compared.

  Returns:
    Of accuracy, "" where nothing was changed; of the costs; the verdict.
  """
  before, after = result["original"], result["transformed"]
  gain = after["accuracy"] - before["accuracy"]
  ratios = {k: after[k] / before[k] - 1 for k in ("params", "madds", *more)}
  chance = noise(before, after, images, result.get("paired"))
  shown = f"{100 * gain:+.2f}" + " (noise)" * (0 < abs(gain) <= chance[0])
  costs = {k: f"{100 * ratio:+.1f} %" for k, ratio in ratios.items()}
  said = ""
  if "latency" in ratios and changed(result):
    half = latency_noise(result) / before["latency"]
    if abs(ratios["latency"]) <= half:
      del ratios["latency"]  # By which nothing is cheaper.
      costs["latency"] += " (noise)"
      said = (" The difference in latency is within noise"
              f" ({costs['latency'].removesuffix(' (noise)')},"
              f" ± {100 * half:.1f} %, 95 % of both medians).")
  return (shown if changed(result) else "", [*costs.values()],
          verdict(result, kept, gain, [*ratios.values()], chance) + said)


def explained(changes):
  """Columns and cells of the changes, and what each saves and costs alone."""
  saves = {k: v for k, v in _SAVED.items() if k in changes[0].get("saves", {})}
  costs = {k: v for k, v in _EXPLAINED.items() if k in changes[0]}
  rows = [(c["cell"], f"{c['source']} -> {c['target']}", c["before"],
           c["after"], *(show(c["saves"][k]) for k, (_, show) in saves.items()),
           *(show(c[k]) for k, (_, show) in costs.items())) for c in changes]
  return ("cell", "edge", "before", "after", *(
      column for column, _ in (*saves.values(), *costs.values()))), rows


def changes(result: Mapping[str, Any],
            most: int | None = None) -> Comparison | None:
  """The changes as a table, without a verdict; None where there are none.

  Its title says what is known of each: not every method knows a loss.

  Args:
    result: of a transformation of one architecture, not of several.
    most: rows at most; None is all.
  """
  rows = result.get("changes")
  if not rows:
    return None
  title = "edges that changed" + ", first seed" * (
      len(result.get("seeds", ())) > 1)
  if most is not None and len(rows) > most:
    title += f", the first {most}"
  if "saves" in rows[0]:
    costs = {"price", "score_drop", "naswot_drop"} & {*rows[0]}
    title += ("; what each saves" + " and costs" * bool(costs) + " by itself"
              + ", and its theta" * ("theta" in rows[0]))
  columns, cells = explained(rows[:most])
  return Comparison(title, columns, cells, "")


def percent(part, what="accuracy"):
  """A mean over seeds, with the deviation of several."""
  several = len(part.get(what.replace("accuracy", "accuracies"), ())) > 1
  spread = f" ± {100 * part[f'{what}_std']:.2f}" if several else ""
  return f"{100 * part[what]:.2f}{spread} %"


def measured(*parts: Mapping[str, Any]) -> list[tuple[str, ...]]:
  """Cells of `MEASURED`, a row each; a network may not have been trained."""
  accuracy = (percent(part) if "accuracy" in part else "not trained"
              for part in parts)
  return [*zip(accuracy, *costs(parts), strict=True)]


def costs(parts: Iterable[Mapping[str, Any]]) -> tuple[list[str], ...]:
  """Two columns: parameters and multiply-adds."""
  parts = [*parts]
  return tuple(amounts.counts(part[key] for part in parts)
               for key in ("params", "madds"))


def measure(result):
  """What "accuracy" is in a result or a configuration."""
  return "test accuracy" + " of the nearest neighbours" * (
      result.get("objective") == "simclr")


def noise(first, second, images, paired=None):
  """How far accuracies may differ by chance: half a 95 % interval, over what.

  Over seeds of the differences seed by seed (Student's t); these deviate by no
  less than two accuracies' rounding to whole images does, without which seeds
  that differ by one image each would leave nothing to chance. Of a single seed,
  over test images, image by image; where that is not known, of how many each
  network has right: as wide as of networks that err on as few images together
  as these may.

  Args:
    first: a part of a result.
    second: another one, of the same seeds.
    images: number of test images.
    paired: "images", "won" and "lost" of a single seed (`acceptance.Pairs`);
      results of earlier versions have none.
  """
  pairs = [*zip(first["accuracies"], second["accuracies"], strict=True)]
  count = len(pairs)
  if count > 1:
    spread = max(statistics.stdev(b - a for a, b in pairs),
                 1 / (math.sqrt(6) * images))
    return acceptance.student(count) * spread / math.sqrt(count), (
        f"{count} seeds")
  if paired:
    found = acceptance.Pairs(**paired)
    return found.reach, f"{found.images} test images"
  (p, q), = pairs
  # Right in one network alone are at most so many, of which q - p are more.
  apart = min(p + q, 2 - p - q)
  return 1.96 * math.sqrt((apart - (q - p)**2) / images), (
      f"{images} test images")


def latency_noise(result: Mapping[str, Any]) -> float:
  """By how many seconds the mean latencies may differ by chance.

  As `latency.Pair.noise`, of the mean over the seeds that were timed; where a
  seed kept the original it was not timed beside itself.

  Args:
    result: of a transformation that tells latencies.
  """
  pairs = [(row["latency"]["original"], row["latency"]["changed"])
           for row in timed(result)]
  ends = [times["interval"] for pair in pairs if pair[0] != pair[1]
          for times in pair]
  return math.hypot(*((high - low) / 2 for low, high in ends)) / max(
      len(pairs), 1)


def latency_ratio(row: Mapping[str, Any]) -> str:
  """A row's latency to the original's; where it differs by noise, that too.

  Runs of earlier versions do not tell the noise.
  """
  ratio = row["latency_ratio"]
  return f"{ratio:.2f}x" + " (noise)" * (
      0 < abs(ratio - 1) <= row.get("latency_noise", 0.0))


def timed(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
  """The seeds of a result, or that itself, that tell of latencies."""
  return [row for row in result.get("seeds", [result]) if row.get("latency")]


def changed(result):
  """The seeds whose architectures were changed."""
  rows = result.get("seeds", [{"num_changes": len(result["changes"])}])
  return [row for row in rows if row["num_changes"]]


def networks(result):
  """What is told of each network of a result, by its name."""
  if "architecture" in result:  # Of a training.
    return {"network": result}
  return {name: result[name] for name in (
      "original", "transformed", "derived") if name in result}


def others(result):
  """Accuracies beside the usual one, where there are any, a line each."""
  return [f"{what.format(name)}: {percent(part, key)}"
          for name, part in networks(result).items() for key, what in (
              ("top5_accuracy", "among the five first answers of the {}"),
              ("linear_accuracy", "linear classifier on the {}'s features"))
          if key in part]


def spent(result: Mapping[str, Any]) -> list[str]:
  """Where the time went, in a line; runs of earlier versions do not tell.

  Before that what was left out, where that is allowed.
  """
  said = []
  if skipped := result.get("skipped"):
    said.append(f"left out as damaged: {skipped['train']} training and"
                f" {skipped['test']} test images")
  if time := result.get("time"):
    said.append("time: " + ", ".join(
        f"{name} {seconds:.1f} s" for name, seconds in time.items()))
  return said


def refused(result):
  """What was tried and not returned, and why, a line per seed and try."""
  return [f"seed {row['seed']}: refused{_cut(result, tried)}, {tried['reason']}"
          for row in result.get("seeds", []) for tried in row.get("tries", [])
          if "difference" in tried and not tried["accepted"]]


def _cut(result, tried):
  """Which cut a try is, by its multiply-adds, where that is told."""
  given = result.get("original", {}).get("madds")
  if not given or "madds" not in tried:
    return ""
  return f" at {tried['madds'] / given:.2f}x of the multiply-adds"


def outcome(row: Mapping[str, Any], number: int) -> str:
  """What came of a try of a seed, in a word or two.

  Args:
    row: of the seed.
    number: of the try, from 0.
  """
  accepted = row["tries"][number]["accepted"]
  if number + 1 == len(row["tries"]) and row.get("fresh", {}).get("accepted"):
    return ("accepted, better" if accepted else "refused, but returned"
            ) + " from scratch"
  return "returned" if accepted else "refused"


def fresh(result):
  """What came of trainings from scratch beside, a line per seed."""
  words = {
      ("inherited", True): "is better than with the weights that it inherited,"
      " and returned:",
      ("inherited", False): "is no better than with the weights that it"
      " inherited, which are returned:",
      ("original", True): "is returned in place of the original:",
      ("original", False): "is refused, too:"}
  return [f"seed {row['seed']}: the architecture trained from scratch"
          f" {words[found['against'], found['accepted']]} {found['reason']}"
          for row in result.get("seeds", []) if (found := row.get("fresh"))]


def _kept(result, kept):
  """Why the original is returned, as far as a result tells it, and a remedy."""
  said, rows = _why_kept(result, kept), result.get("seeds", ())
  if any(tried.get("coarse") for tried in (
      result.get("acceptance", {}), result.get("confirmation", {}), *rows, *(
          tried for row in rows for tried in row.get("tries", ())))):
    said += (" One held-out image counts more than the tolerance: more of them"
             " (held-out) or a larger tolerance help.")
  return said


def _why_kept(result, kept):
  """Why the original is returned, as far as a result tells it."""
  if any(not row.get("accepted", True) for row in (
      result.get("acceptance", {}), result.get("confirmation", {}),
      *result.get("seeds", ()))):
    return ("The original was kept: what the search preferred is not as good,"
            " within the tolerance, on held-out images.")
  tried = {row.get("reason") for seed in result.get("seeds", ())
           for row in seed.get("tries", ())}
  if len(tried) == 1 and (reason := tried.pop() or "").startswith(
      "nothing was replaced"):
    return f"The original was kept: {reason}."
  return kept


def verdict(result, kept, gain, ratios, chance):
  """Which of two networks is better, by what is more than chance.

  Args:
    result: of a transformation.
    kept: what is said where no seed changed anything.
    gain: in accuracy.
    ratios: of the costs after to those before, less 1.
    chance: `noise` of both.
  """
  if not changed(result):
    return _kept(result, kept)
  half, over = chance
  quality = "Both are equally accurate"
  if gain:
    if abs(gain) > half:
      winner = "transformed network" if gain > 0 else "original"
      quality = f"The {winner} is more accurate"
    else:
      quality = "The difference in accuracy is within noise"
    quality += (f" ({100 * gain:+.2f} ± {100 * half:.2f} points, 95 % over"
                f" {over})")
  seeds = result.get("seeds", ())
  if len(seeds) > 1:
    saving = "ones are cheaper" if min(ratios) < 0 else "ones cost the same"
  else:
    saving = "one is cheaper" if min(ratios) < 0 else "one costs the same"
  said = f"{quality}; the transformed {saving}."
  if kept := [row["num_changes"] for row in seeds].count(0):
    said += f" Of {len(seeds)} seeds {kept} kept the original" + (
        ", the first too, whose network architecture.json holds" * (
            not seeds[0]["num_changes"])) + "; the means are over all."
  return said
