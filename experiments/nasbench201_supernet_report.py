"""What `nasbench201_supernet.py` reports: gains by the truth, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

import climbed_cells
import known_truth
import numpy as np
import recording
import replaced_cells
import score_trials

from natjax.graph import nasbench201 as cells
from natjax.methods import nat

QUARTERS = 4
SEARCHES = {"nat": "NAT", "natpp": "NAT++"}
TITLES = {
    "keep": "keep", "random": "random valid transitions, their mean",
    **{f"{name}{end}": f"{title}{words}" for name, title in SEARCHES.items()
       for end, words in (("", ""), ("_sure", ", if surely better"),
                          ("_cheapest", ", the cheapest of as good"))},
    **{f"natpp{end}_tried": f"NAT++, {words}, then tried" for end, words in (
        ("_sure", "if surely better"), ("_cheapest", "the cheapest of as good")
    )},
    "evolution": "evolution", "climb": "climb, by untrained networks",
    "differentiable": "differentiable", "oracle": "oracle"}
# Of which the targets are, with focus given.
AIMED = {"natpp_sure": "NAT++ by `--prefer sure`, the default",
         "natpp_sure_tried": "the same, then tried",
         "natpp": "NAT++ by the best score",
         "climb": "climb"}
# What is replaced by the truth, of NAT++ with focus given.
LOSSES = {
    "natpp": "nothing", "choice": "the choice among the policy's candidates",
    "policy": "the rewards of the policy", "both": "rewards and choice"}


def gains(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
  """Points gained by a method, of the cells that it transformed."""
  if name == "keep":
    return np.zeros(len(rows))
  if name in ("oracle", "random"):
    return np.array([row[name]["natpp"] for row in rows])
  return np.array([row[name]["gain"] for row in rows])


def summary(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
  """A method over its cells."""
  rows = [row for row in rows if name in row or name in ("keep", "oracle")]
  own, most = gains(rows, name), gains(rows, "oracle")
  each = [row[name] for row in rows if isinstance(
      row.get(name), dict) and "code" in row[name]]
  return {
      "cells": len(rows), "gain": float(own.mean()),
      "shown": recording.paired(np.zeros(len(own)), own / 100),
      "median": float(np.median(own)),
      "share": float(own.sum() / most.sum()) if most.sum() else 0.0,
      "lost": int((own < 0).sum()), "kept": int((own == 0).sum()),
      **({"dearer": sum(r["dearer"] for r in each),
          "params": float(np.mean([r["params"] for r in each])),
          "seconds": float(np.mean([r["seconds"] for r in each]))}
         if each else {})}


def table_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """The methods of a focus, as a table."""
  lines = []
  for name, title in TITLES.items():
    if name not in ("keep", "oracle") and not any(name in row for row in rows):
      continue
    found = summary(rows, name)
    own = lambda key, form, found=found: form.format(found[key]) if (
        key in found) else "-"
    exact = name == "random"
    lines.append([
        title, found["cells"], found["shown"], f"{found['median']:+.2f}",
        f"{100 * found['share']:.0f} %",
        "-" if exact else f"{found['lost']} of {found['cells']}",
        "-" if exact else found["kept"], own("dearer", "{}"),
        own("params", "{:.3f}"), own("seconds", "{:.0f}")])
  return recording.table(
      ("method", "cells", "gained, points (95 % over cells)", "median",
       "of the oracle's gain", "lost in", "unchanged in", "dearer",
       "parameters left", "seconds per cell"), lines)


def readme(config: Any, result: Mapping[str, Any]) -> str:
  """The record in words."""
  title = "# NAT by a supernet on NAS-Bench-201, judged by the truth"
  own = [] if not result.get("replaced") else replaced_cells.lines(
      result["replaced"], config.given)
  if result.get("given"):
    return "\n".join([title, "", *supernet_lines(config, result, own)])
  return "\n".join([
      title, "", "Without a supernet.", "", *own, *climbed_cells.alone(result),
      f"{config.image_size}x{config.image_size} pixels of {result['dataset']},"
      f" {result['train_images']} images,"
      f" {config.search.supernet_width or 1:g} times the widths,"
      f" {config.repeats} cell(s) per stage of five.", ""])


def numbered(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Rows with the number of their cell, which records of all have not had."""
  return [{"number": i, **row} for i, row in enumerate(rows)]


def supernet_lines(config: Any, result: Mapping[str, Any],
                   more: Sequence[str]) -> list[str]:
  """What is recorded of the supernet and of the differentiable transformation.

  Args:
    config: the settings.
    result: the record.
    more: a section that stands before the last one.
  """
  given, rows = numbered(result["given"]), numbered(result["general"])
  climbs = {row["number"]: row for row in result.get("climbed", {}).get(
      "rows", ())}
  given = [{**row, **({"climb": climbs[row["number"]]} if (
      row["number"] in climbs) else {})} for row in given]
  every = bool(climbs) and all("climb" in row for row in given)
  tau = result["taus"][-1]["tau"]
  met = lambda good: "met" if good else "missed"
  targets = []
  for name, title in AIMED.items():
    if not any(name in row for row in given):
      continue
    found = summary(given, name)
    targets += [
        [f"{title}: share of the oracle's gain", "at least 50 %",
         f"{100 * found['share']:.0f} %", met(found["share"] >= 0.5)],
        [f"{title}: cells on which it loses", "at most one in ten",
         f"{found['lost']} of {found['cells']}",
         met(found["lost"] <= found["cells"] / 10)],
        [f"{title}: cells that cost more", "none", found["dearer"],
         met(not found["dearer"])]]
  targets += [
      [f"tau of the supernet of the whole space over {config.ranked} cells",
       "at least 0.5", f"{tau:.2f}", met(tau >= 0.5)]]
  losses = []
  for key, title in LOSSES.items():
    own = np.array([row["losses"][key] for row in given])
    losses.append([title, recording.paired(np.zeros(len(own)), own / 100),
                   f"{100 * own.sum() / gains(given, 'oracle').sum():.0f} %",
                   f"{(own < 0).sum()} of {len(own)}"])
  broken = [row for row in given if row["accuracy"] < 80]
  fine = [row for row in given if row["accuracy"] >= 80]
  parts = [[title, len(some), *(
      f"{gains(some, name).mean():+.2f}" for name in (
          "natpp", "natpp_sure", "evolution", *["climb"] * every, "random",
          "oracle"))]
           for title, some in (("below 80 %", broken), ("80 % and above", fine))
           if some]
  by_number = [{row["number"]: row for row in some} for some in (given, rows)]
  each = []
  for i in sorted({*by_number[0], *by_number[1]}):
    a, b = (some.get(i, {}) for some in by_number)
    own, one = a or b, lambda row, name: (
        f"{row[name]['gain']:+.2f}" if name in row else "-")
    each.append([
        i, f"`{cells.to_string(known_truth.names_of(own['code']))}`".replace(
            "|", "\\|"), f"{own['accuracy']:.2f}",
        *(one(a, name) for name in (
            "natpp", "nat", "natpp_sure", "evolution", "climb")),
        *(one(b, name) for name in ("natpp", "evolution")),
        f"{own['oracle']['natpp']:+.2f}", f"{a['tau']:.2f}" if a else "-"])
  return [
      f"{len(given)} given cells of the {config.given} that are drawn, one of"
      " each of as many equal parts by true accuracy (test accuracy on CIFAR-10"
      " after 200 epochs, the benchmark's table); none is among the cells of"
      " `search_trials.py`. With seed 0 the cells 0, 8, 16 and 32 had been seen"
      " when the scheme was made: by supernets that were trained for 12 epochs"
      " of 4000 images on each cell alone, whose scores, and those of networks"
      " trained alone as long, preferred cells without convolutions."
      " Rewards and scores are a supernet's accuracy on images of"
      f" {result['dataset']}; of the test images none is used. Random valid"
      " transitions and the oracle are exact, over all that NAT++'s"
      " transitions reach.", "", "## Targets", "",
      *recording.table(("", "wanted", "found", ""), targets), "",
      "## Focus given: a supernet and policies for every cell", "",
      *table_lines(given), "", preference_line(given), "",
      "NAT, NAT++ and evolution share the supernet: that of the whole space,"
      f" trained for {config.around_epochs} more epochs on what NAT++ may make"
      " of the cell. Seconds count these epochs for each, not the supernet"
      " of the whole space. Evolution lets as many images through the supernet"
      " as a policy and its choice do. All return the best score, the given"
      " cell among what is scored (`--prefer accuracy`); \"surely\" wants the"
      " 95 % interval of its difference to the given cell's above 0 (`--prefer"
      " sure`, the library's default); \"the cheapest of as good\" is the"
      " cheapest within one standard error of the best (`--prefer cost`); these"
      " are the library's own choices. The library by default"
      " also trains the first few and the given network, briefly and from"
      " scratch, and keeps the given one where these are worse on images that"
      " the search has not seen, by more than 0.5 points if they are cheaper;"
      f" \"then tried\" is like it: the first {score_trials.FEW} and the given"
      " cell, each with the supernet's weights and"
      f" {config.around_epochs} epochs for itself, compared on the images of"
      " the scores (what was trained for the first of both such rows is not"
      " counted in the other's seconds). The interval is Student's t"
      " over cells. The differentiable transformation compiles a program per"
      " cell, and so had fewer cells; its gain is compared with the oracle of"
      " these. `replace`"
      " answers another question"
      + (", in a section of its own." if more else ", and was not run."),
      "", *climbed_cells.lines(result), *recording.table(
          ("cells by true accuracy", "cells", "NAT++",
           "NAT++, if surely better", "evolution", *["climb"] * every, "random",
           "oracle"), parts),
      "",
      "## Where NAT++ loses: what is replaced by the truth", "",
      *recording.table(("by the truth", "gained, points (95 % over cells)",
                        "of the oracle's gain", "lost in"), losses), "",
      "Kendall's tau of score and truth among the transitions of a cell that"
      " evolution scored, its mean over cells:"
      f" {np.mean([row['tau'] for row in given]):.2f} with focus given,"
      f" {np.mean([row['tau'] for row in rows]):.2f} with focus general.", "",
      "## Focus general: one supernet and one policy for all", "",
      *table_lines(rows), "", "Seconds do not count the training.", "",
      *tried_lines(config, result),
      "Kendall's tau of the supernet's score and the truth over"
      f" {config.ranked} cells drawn from the whole space:", "",
      *recording.table(
          ("training", *(f"{i + 1} of {QUARTERS}" for i in range(QUARTERS))),
          [["all", *(f"{t['tau']:.2f}" for t in result["taus"])],
           ["the better half", *(f"{t['tau_better_half']:.2f}"
                                 for t in result["taus"])]]), "",
      *more, "## Every cell", "", *recording.table(
          ("", "cell", "true, %", "NAT++", "NAT", "NAT++, if surely better",
           "evolution", "climb", "NAT++, general", "evolution, general",
           "oracle", "tau, given"), each), "",
      f"Supernets: {config.image_size}x{config.image_size} pixels,"
      f" {result['train_images']} images, a"
      f" {config.search.weights_fraction:g} part for the weights and the others"
      f" for rewards and scores, {config.search.supernet_width or 1:g} times"
      f" the widths, {config.repeats} cell(s) per stage of five;"
      f" {in_words(config.search)}.", "", *recording.in_words(result)]


def preference_line(rows: Sequence[Mapping[str, Any]]) -> str:
  """Which preference is the library's default, with its reasons."""
  own = lambda name, key: summary(rows, name)[key]
  losses = "; ".join(
      f"{title} {own(f'{name}_sure', 'lost')} and"
      f" {own(f'{name}_cheapest', 'lost')} cells lost,"
      f" {100 * own(f'{name}_sure', 'share'):.0f} and"
      f" {100 * own(f'{name}_cheapest', 'share'):.0f} % of the oracle's gain,"
      f" {own(f'{name}_sure', 'params'):.2f} and"
      f" {own(f'{name}_cheapest', 'params'):.2f} of the parameters left"
      for name, title in SEARCHES.items())
  return ("`--prefer sure` is the library's default (not that of the preset"
          " `paper`, nor of the published policy) by this table, beside `cost`,"
          f" which was it before: {losses}.")


def tried_lines(config: Any, result: Mapping[str, Any]) -> list[str]:
  """What was tried to better the score, where that was run."""
  if not result.get("tried"):
    return []
  return [
      "## Tried: other ways to score, focus given", "",
      f"On {len(result['tried'])} cells of `search_trials.py`, which are not"
      " judged here. The policy's candidates are the same for all ways, so that"
      " only the choice among them changes; tau is that of their score and the"
      " truth.", "",
      *score_trials.lines(result["tried"]), "",
      "What is gained differs from the first row's by more than its interval of"
      " 95 % over cells: "
      + (", ".join(score_trials.beyond(result["tried"])) or "nowhere") + ".",
      "",
      "Epochs are of the weights' images, after the"
      f" {config.around_epochs} around the cell; seconds are those that a way"
      " takes besides.", ""]


def in_words(search: nat.NATConfig) -> str:
  """How long a search takes."""
  both = search.epochs - search.warmup_epochs - search.policy_epochs
  return (f"{search.warmup_epochs} epochs of the weights"
          + (f", {both} of both" if both else "")
          + f", {search.policy_epochs} of the policy alone, batches of"
          f" {search.batch_size}, SGD from {search.learning_rate:g}, Adam at"
          f" {search.policy_learning_rate:g}, n {search.samples}, lambda"
          f" {search.entropy_weight:g}, k {search.candidates}")
