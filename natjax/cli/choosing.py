"""What the command line says of how a transformation was chosen."""

from natjax.pipeline import tables


def columns(result):
  """Of the table of candidates."""
  return ("", ">score", ">to the best", ">parameters", ">multiply-adds",
          *[">latency"] * ("timed" in result))


def title(result):
  """Of the table of candidates."""
  count = len(result["candidates"])
  if "timed" in result:
    return (f"{count} candidates within the budget, of {result['scored']} that"
            f" were scored on the supernet and {result['timed']} that were then"
            " timed: those that no other dominates")
  return (f"{count} candidates, scored on the supernet:"
          " those that no other dominates")


def table(result):
  """Rows of `columns`: what no other dominates, the original, the chosen."""
  rows = [row for row in result.get("candidates", ()) if "pareto" in row]
  best = max((row["score"] for row in rows), default=0.0)
  return [
      (", ".join(name for name in ("original", "chosen") if row[name]),
       f"{100 * row['score']:.2f} %", f"{100 * (row['score'] - best):+.2f} ±"
       f" {100 * row['standard_error']:.2f}", f"{row['params'] / 1e6:.3f} M",
       f"{row['madds'] / 1e6:.3f} M",
       *([tables.ASKED["latency"](row["seconds"])] if "seconds" in row else []))
      for row in sorted(rows, key=lambda row: row["madds"])
      if row["pareto"] or row["original"] or row["chosen"]]


def _otherwise(result):
  """What other preferences choose, where a search chose the original."""
  rows = result.get("candidates", ())
  found: dict[int, list[str]] = {}
  given = next((row for row in rows if row["original"] and row["chosen"]), None)
  if given is None or result.get("finalists"):
    return []
  for prefer, i in result.get("preferred", {}).items():
    if not rows[i]["original"]:
      found.setdefault(i, []).append(prefer)
  return [
      f"By --prefer {' or '.join(names)} the search would have chosen what"
      f" scores {100 * (rows[i]['score'] - given['score']):+.2f} points, with"
      + ",".join(f" {100 * (rows[i][key] / given[key] - 1):+.1f} % {what}"
                 for key, what in (("params", "parameters"),
                                   ("madds", "multiply-adds"))) + "."
      for i, names in found.items()]


def sentences(result):
  """How alike the samples were, where they were, and what trials came to."""
  said = []
  if result.get("distinct") == 1:
    said.append(f"All {result['sampled']} samples are one and the same"
                " transformation: the policy has settled on it.")
  said += _otherwise(result)
  if found := result.get("acceptance"):
    verdict = "accepted" if found["accepted"] else "not accepted"
    share = result["trial_seconds"] / max(result["seconds"], 1e-9)
    said.append(
        f"Trials of {len(found['trials']) - 1} candidate(s), {found['epochs']}"
        f" epochs, {100 * share:.0f} % of the time: {verdict}. The best of them"
        f" is {found['reason']}.")
  tried = [row["accepted"] for row in result.get("seeds", ())
           if "accepted" in row]
  if tried:
    said.append(f"Trials accepted what {sum(tried)} of {len(tried)} searches"
                " preferred.")
  return said
