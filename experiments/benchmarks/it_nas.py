"""Measures what IT-NAS's transformers add to the supernets they stand in.

"IT-NAS: Integrating Lite-Transformer into NAS for Architecture Selection",
Table 1, has 9.0 GB of memory where DARTS takes 8.5, and 9.4 where SPOS takes
7.8. Compared are a step of
  cells: the supernet of space `darts`, all of whose operations run with equal
    weights ("uniform"), and IT-NAS's;
  chains: SPOS's on space `proxyless`, and IT-NAS's there, which computes the
    operations off the path, too, forward alone;
on images of noise, float32, on 2 CPU threads. The sides' processes, their turns
and their memory are those of `search.py`. Temporaries are those that XLA's
compiled program says; the resident peak holds weights, momentum and what the
process imports besides.

Commands:
  python experiments/benchmarks/it_nas.py
  python experiments/benchmarks/it_nas.py \
      --report experiments/benchmarks/README.md \
      --json experiments/benchmarks/it_nas.json
Expected time on 2 CPU cores: half an hour.
"""

import argparse
from collections.abc import Sequence
import functools
import os
import pathlib
import sys
from typing import Any, NamedTuple

import flags
import search  # Sets the environment, before jax is imported.

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
import optax
import search_sides
import tables
import workers

from natjax import methods
from natjax.methods import entry as entry_lib
from natjax.methods import halves
from natjax.methods import search as search_lib
from natjax.training import method as base

# The most that transformers may add, to time and to memory.
TARGETS = {"cells": (1.15, 1.08), "chains": (None, 1.2)}
PAIRS = {
    "cells": (search_sides.Row("uniform", "uniform"),
              search_sides.Row("it-nas, cells", "it-nas")),
    "chains": (search_sides.Row("spos", "spos", space="proxyless"),
               search_sides.Row("it-nas, chains", "it-nas", space="proxyless"))}


class State(NamedTuple):
  """Of a supernet in training: parameters, and the optimizer's state."""

  params: Any
  opt_state: Any


class Uniform(search_lib.Search):
  """A supernet whose operations weigh the same; it finds nothing."""

  def method(self) -> base.Method:
    """The record of its one phase."""
    phase = base.Phase("weights", ("weights",), self.update, ("loss",))
    return base.Method(
        init=self.init, stages=(base.Stage("supernet", 1, (phase,)),))

  def init(self, rng: jax.Array) -> State:
    """Draws the weights."""
    params = self.supernet.init(rng)["params"]
    return State(params, jax.jit(self.optimizer.init)(params))

  def update(self, state: State, batch: base.Batch
             ) -> tuple[State, dict[str, jax.Array]]:
    """A step of the weights."""
    how = self.how_weighed([jnp.asarray(
        g.allowed / g.allowed.sum(-1, keepdims=True), jnp.float32)
        for g in self.connections.groups])

    def loss(params):
      logits, _ = self.supernet.run({"params": params}, how, batch["image"])
      return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(
          logits, batch["label"]))

    value, grads = base.mean_over_devices(
        jax.value_and_grad(loss)(state.params))
    updates, opt_state = self.optimizer.update(
        grads, state.opt_state, state.params)
    return State(optax.apply_updates(state.params, updates), opt_state), {
        "loss": value}


def build(request: entry_lib.Request) -> entry_lib.Plan:
  """What a job needs to run `Uniform`."""
  space = halves.space_of(request)
  config = search_lib.resolve(request.settings, space.graph.kind)
  method = Uniform(
      config, space, num_classes=request.num_classes,
      image_size=request.image_size, target=request.place,
      steps_per_epoch=halves.steps(request, config)["weights"])
  return halves.plan(method.method(), method.supernet, config)


ENTRY = entry_lib.Entry(
    search_lib.SupernetConfig, build,
    lambda preset, objective, kind: halves.preset(
        search_lib.SupernetConfig(), kind, preset),
    "trains a supernet with equal weights", starts="space")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = flags.Parser(
      description=__doc__.split("\n", 1)[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
  parser.add_argument("--init-channels", type=int, default=16, help="of cells")
  parser.add_argument("--cells", type=int, default=8)
  parser.add_argument("--chain-layers", type=int, default=4,
                      help="the most of a chain's stage")
  return search.parse_flags(parser, argv, "IT-NAS, CPU, float32")


def pair_table(found: dict[str, dict[str, Any]], pairs: Sequence[str]
               ) -> list[str]:
  """What transformers add, with the targets."""
  rows = []
  for pair in pairs:
    own, other = (found[row.name] for row in PAIRS[pair][::-1])
    ratio = {key: np.array(own[key]) / np.array(other[key])
             for key in ("seconds", "cpu_seconds")}
    temporaries, peak = (
        own["cold"]["temporaries_mb"] / other["cold"]["temporaries_mb"],
        own["peak_mb"] / other["peak_mb"])
    verdict = lambda value, target: (
        "" if target is None else tables.verdict(value, target))
    time, memory = TARGETS[pair]
    rows.append((
        " / ".join(row.name for row in PAIRS[pair][::-1]),
        tables.spread(ratio["seconds"], digits=2),
        verdict(np.median(ratio["seconds"]), time),
        tables.spread(ratio["cpu_seconds"], digits=2), f"{temporaries:.2f}",
        verdict(temporaries, memory), f"{peak:.2f}"))
  return tables.table(
      ("ratio", "time", "target", "CPU time", "temporaries", "target", "peak"),
      rows)


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, prints, and writes the report."""
  argv = sys.argv[1:] if argv is None else list(argv)
  args, script = parse(argv), pathlib.Path(__file__).name
  methods.METHODS["uniform"] = ENTRY
  rows = {row.name: row for pair in args.pairs for row in PAIRS[pair]}
  if args.work is not None:
    return workers.serve(
        functools.partial(search_sides.start, rows[args.work], args))
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])
  lines = tables.machine(search.command_of(argv, script), [
      f"cells: C={args.init_channels}, {args.cells} cells; chains: at most"
      f" {args.chain_layers} layers a stage; batch {args.batch_size},"
      f" {args.image_size}x{args.image_size}, float32, {args.threads} threads;"
      f" {args.rounds} rounds of {args.steps} steps after one discarded; median"
      " [quartiles]",
      "CPU time is that of all threads; cold and warm: with an empty cache of"
      " compiled programs and with a filled one"])
  print("\n".join(lines), flush=True)
  found = search.measure(list(rows), lambda name, cache: search.start_natjax(
      name, argv, cache, script), args)
  after = " ".join(f"{x:.1f}" for x in os.getloadavg())
  search.write(args, lines, found, [
      "", *search.iteration_table(found, ()), "",
      *pair_table(found, args.pairs), "", *search.start_table(found)], after)
  return None


if __name__ == "__main__":
  main()
