"""Other scores of NAT++'s candidates, tried where the truth is known.

The candidates of a trained policy are the same for all ways, and so is the
choice among them: the best score, or that only if it is surely better than the
given cell's. Beside these stands what the library does besides by default: to
train the few that the score prefers and the given one briefly, each by itself,
and to compare those (`acceptance`), here with the supernet's weights to begin
with, and on the images of the scores. `nasbench201_supernet.py` runs this with
`--tried N`, on cells that it does not judge.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import known_truth
import numpy as np
import recording
from scipy import stats
import transforming

from natjax import operations
from natjax.methods import acceptance, choice
from natjax.objectives import classification as objectives
from natjax.training import evaluation
from natjax.training import fit as fit_lib

AS_IT_IS = "as it is"
_BATCH = 256  # Images, where batches are larger.
_FURTHER = 6  # Epochs, where the supernet is trained for longer.
FEW = 3  # Candidates that are trained by themselves.
_TOLERANCE = 0.5  # Points, by which a cheaper one may then be worse.


@functools.cache  # What is compiled goes by the function.
def _values(method, what, each):
  """`(argument, batch) -> sums` of what R cells score, image by image.

  Args:
    method: a `known_truth.Known`.
    what: "accuracy" or "loss", of which less is better.
    each: whether every cell has weights of its own; else a score is the mean
      over all weights.
  """
  def value(params, cell, batch):
    logits = method.supernet.apply(params, cell, batch["image"])
    if what == "accuracy":
      return objectives.right(logits, batch["label"])
    return jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(
        batch["label"], 0)[:, None], axis=-1)[:, 0]

  def ask(argument, batch):
    params, every = argument  # [P, ...] and [R, G, N, K].
    if each:
      found = jax.lax.map(lambda one: value(*one, batch), (params, every))
    else:
      found = jax.lax.map(lambda cell: jnp.mean(jax.lax.map(
          lambda own: value(own, cell, batch), params), axis=0), every)
    found = found.T  # [B, R]
    return {"sum": found, "product": found[:, :, None] * found[:, None]}

  return ask


class Scores:
  """How R cells score, the given one first.

  Attributes:
    means: f64[R].
    surely: bool[R], whether surely better than the given one.
    answers: where scores are accuracies.
  """

  def __init__(self, found: Mapping[str, np.ndarray], images: int):
    self.answers = choice.Answers(
        images, found["product"].round().astype(int))
    total, product = found["sum"] / images, found["product"] / images
    own = np.diagonal(product)
    difference = total - total[0]
    variance = own + own[0] - 2 * product[:, 0] - difference**2
    self.means = total
    self.surely = difference > acceptance.Z * np.sqrt(
        np.maximum(variance, 0) / images)


def score(searches: known_truth.Searches, params: Sequence[Any],
          codes: Sequence[int], *, splits: Sequence[str] = ("policy",),
          batch_size: int | None = None, what: str = "accuracy",
          each: bool = False) -> Scores:
  """Scores cells by one supernet, by several, or each by its own.

  Args:
    searches: the searches.
    params: weights of the supernets; of `each` cell, if so.
    codes: of the cells, the given one first.
    splits: whose images.
    batch_size: None is that of the searches.
    what: as `_values` takes it.
    each: likewise.
  """
  method = searches.make("natpp")
  # Padded, so that any number of cells shares one program.
  spare = (FEW if each else searches.config.candidates) + 1 - len(codes)
  params = [*params, *[params[0]] * (spare if each else 0)]
  argument = (jax.tree.map(lambda *x: jnp.stack(x), *params),
              method.arrays(np.array([*codes, *[codes[0]] * spare])))
  parts = [searches.splits[name] for name in splits]
  split = fit_lib.Split(*(np.concatenate(x) for x in zip(*(
      (part.images, part.labels) for part in parts), strict=True)))
  size = batch_size or searches.config.batch_size
  found = evaluation.walk(
      _values(method, what, each), argument, split,
      preparation=searches.preparation, batch_size=size, whole=True, total=True)
  size = min(size, len(split.labels))
  return Scores({"sum": found["sum"][:len(codes)],
                 "product": found["product"][:len(codes), :len(codes)]},
                len(split.labels) // size * size)


Keep = Callable[[str], Mapping[str, Any]]  # A fit's options, by its name.


def one(searches: known_truth.Searches, code: int, seed: int, weights: Any,
        epochs: int, keep: Keep) -> dict[str, Any]:
  """What every way makes of a cell.

  Args:
    searches: the searches.
    code: of the cell.
    seed: of everything random.
    weights: the supernet of the whole space.
    epochs: that it is trained further around the cell, as it is.
    keep: options of the trainings, by which a stopped one goes on.
  """
  truth, ways = searches.truth, {}
  began = time.monotonic()
  near = searches.weights(
      searches.start(code, seed, "given", weights), seed, epochs,
      **keep("weights"))
  state = searches.search("natpp", code, near, seed, **keep("natpp"))
  chosen = searches.choose("natpp", code, state, seed)
  codes = chosen["candidates"]
  known = truth.accuracy[codes]

  def returned(name, after, **more):
    ways[name] = {
        "gain": truth.gain(code, after), "params": float(
            truth.params[after] / truth.params[code]),
        "seconds": round(time.monotonic() - began, 1), **more}

  def add(name, found):
    best = int(np.argmax(found.means))
    returned(name, codes[best], tau=known_truth.kendall(found.means, known),
             sure=truth.gain(code, codes[best]) if found.surely[best] else 0.0)

  begin = near.params
  add(AS_IT_IS, score(searches, [begin], codes))
  for name, some in (
      ("by the supernet of the whole space", [weights.params]),
      ("mean with the supernet of the whole space", [begin, weights.params])):
    began = time.monotonic()
    add(name, score(searches, some, codes))
  for name, how in (
      (f"in batches of {_BATCH} images", {"batch_size": _BATCH}),
      ("by the loss, not the accuracy", {"what": "loss"}),
      ("on all images, the weights' too", {"splits": ("weights", "policy")})):
    began = time.monotonic()
    add(name, score(searches, [begin], codes, **how))
  began = time.monotonic()
  other = searches.weights(searches.start(code, seed + 1000, "given", weights),
                           seed + 1000, epochs, **keep("other"))
  add("mean of two supernets, of two seeds", score(
      searches, [begin, other.params], codes))
  began, longer = time.monotonic(), near
  kept = []
  for i in range(_FURTHER):
    longer = searches.weights(searches.start(code, seed, "given", longer),
                              seed + 2000 + i, 1, **keep(f"further-{i}"))
    kept.append(longer.params)
  add(f"{_FURTHER} more epochs around the cell", score(
      searches, [longer.params], codes))
  average = jax.tree.map(lambda *x: sum(x) / len(x), *kept)
  add(f"their weights, the mean over {_FURTHER} epochs", score(
      searches, [average], codes))
  alone = by_themselves(searches, near, seed, epochs, keep)
  for prefer in choice.PREFERENCES:
    began = time.monotonic()
    order = ordered(truth, chosen, prefer)
    returned(f"prefer {prefer}", order[0])
    returned(f"prefer {prefer}, the first {FEW} trained by themselves",
             tried(searches, order, code, prefer, alone))
  transforming.say(f"tried on a cell of {truth.accuracy[code]:.2f}: "
                   + "; ".join(f"{name} {way['gain']:+.2f}"
                               for name, way in ways.items()))
  return {"code": code, "accuracy": float(truth.accuracy[code]),
          "oracle": truth.gain(code, int(truth.best["natpp"][code])),
          "best": max(truth.gain(code, c) for c in codes), "ways": ways}


def by_themselves(searches: known_truth.Searches, weights: Any, seed: int,
                  epochs: int, keep: Keep) -> Callable[[int], Any]:
  """Of a code its weights, those of a supernet trained on it alone."""
  return functools.cache(lambda code: searches.weights(
      searches.start(code, seed, "alone", weights), seed, epochs,
      **keep(f"alone-{code}")).params)


def ordered(truth: known_truth.Truth, chosen: Mapping[str, Any],
            prefer: str) -> list[int]:
  """The codes of `known_truth.Searches.choose`, those preferred first."""
  codes = chosen["candidates"]
  return [codes[i] for i in choice.choose(
      chosen["answers"], [_cost(truth, c) for c in codes], prefer,
      given=0).order]


def _cost(truth, code):
  return operations.Cost(int(truth.params[code]), int(1e6 * truth.madds[code]))


def tried(searches: known_truth.Searches, order: Sequence[int], code: int,
          prefer: str, alone: Callable[[int], Any]) -> int:
  """What is returned of the first few in order, each with its own weights.

  Args:
    searches: the searches.
    order: codes of the candidates.
    code: of the given cell.
    prefer: by which they are ordered.
    alone: of a code, the weights (`by_themselves`).
  """
  few = order[:order.index(code)] if prefer == "sure" else [
      c for c in order if c != code]
  if order[0] == code:
    return code
  few = [code, *few[:FEW]]
  found = score(searches, [*map(alone, few)], few, each=True)
  best = int(np.argmax(found.means[1:])) + 1
  verdict = acceptance.judge(
      found.answers.pairs(best, 0), _cost(searches.truth, code),
      _cost(searches.truth, few[best]), _TOLERANCE)
  return few[best] if verdict.accepted else code


def beyond(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """The ways whose gain differs from the first one's beyond its interval."""
  first, *others = rows[0]["ways"]
  found = []
  for name in others:
    each = np.array([row["ways"][name]["gain"] - row["ways"][first]["gain"]
                     for row in rows])
    reach = stats.t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(
        len(each)) if len(each) > 1 else np.inf
    if abs(each.mean()) > reach:
      found.append(name)
  return found


def lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """The ways as a table."""
  found = []
  for name in rows[0]["ways"]:
    ways = [row["ways"][name] for row in rows]
    of = lambda key, ways=ways: np.array([way[key] for way in ways])

    def gained(key, of=of, ways=ways):
      if key not in ways[0]:
        return "-", "-"
      return recording.paired(np.zeros(len(rows)), of(key) / 100), (
          f"{(of(key) < 0).sum()} of {len(rows)}")

    found.append([
        name, f"{of('tau').mean():.2f}" if "tau" in ways[0] else "-",
        *gained("gain"), f"{of('params').mean():.3f}", *gained("sure"),
        f"{of('seconds').mean():.0f}"])
  best = np.array([row["best"] for row in rows])
  found.append(["by the truth", "1.00", recording.paired(
      np.zeros(len(best)), best / 100), f"0 of {len(rows)}", *"----"])
  return recording.table(
      ("score", "tau", "gained, points (95 % over cells)", "lost in",
       "parameters left", "if surely better, points", "lost in",
       "seconds more"), found)
