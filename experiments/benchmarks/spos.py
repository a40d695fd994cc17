"""Measures SPOS's step on ProxylessNAS's space against PyTorch's.

What: a step of the supernet of space `proxyless` on a path that every side
draws anew, 21 layers of 6 or 7 choices, on images of noise, float32, on 2 CPU
threads; the weights' SGD clips the gradient, and what is not on the path takes
no step on either side:
  torch: PyTorch as it is usually written, the path run eagerly
    (`torch_spos.py`);
  spos: the update of natjax's method as a job builds it.

The sides' processes, their turns and their memory are those of `search.py`.
Paths differ in what they cost, by a tenth or so; so steps should be many. At
start-up both sides compute the logits of one path at a tiny size, with the same
weights.

Commands:
  python experiments/benchmarks/spos.py --torch-python TORCH
  python experiments/benchmarks/spos.py --torch-python TORCH \
      --report experiments/benchmarks/README.md \
      --json experiments/benchmarks/spos.json
Expected time on 2 CPU cores: ten minutes.
Needs torch, in this interpreter or in that of --torch-python.
"""

import argparse
from collections.abc import Sequence
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import flags
import search  # Sets the environment, before jax is imported.

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
import search_sides
import tables
import workers

from natjax import spaces
from natjax.methods import spos
from natjax.spaces import chains

SPOS = "spos"
ROW = search_sides.Row(SPOS, "spos", space="proxyless")
TARGET = 0.6  # Of PyTorch's time.
SIZES = ("chain_layers", "batch_size", "image_size", "threads", "seed")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = flags.Parser(
      description=__doc__.split("\n", 1)[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  search.add_torch_flags(parser)
  parser.add_argument("--chain-layers", type=int, default=4,
                      help="the most of a stage")
  return search.parse_flags(parser, argv, "SPOS on proxyless, CPU, float32")


# Whether both sides are one network.


def check(python: str) -> str:
  """Compares the logits of a path with PyTorch's, at a tiny size.

  Args:
    python: an interpreter that has torch.

  Raises:
    AssertionError: they differ.
  """
  config = spos.SPOSConfig(chain_layers=2)
  space = chains.of_settings(spaces.get(ROW.space), config, 8, "full")
  method = spos.SPOS(config, space, num_classes=10, image_size=8)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32),
      jax.eval_shape(method.supernet.init, jax.random.key(0))["params"])
  images = rng.standard_normal((4, 8, 8, 3), np.float32)
  path = method.paths.draw(jax.random.key(1))
  logits = jax.jit(method.supernet.apply)(params, path, jnp.asarray(images))
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / "weights.npz"
    np.savez(file, images=images.transpose(0, 3, 1, 2), path=[
        int(n) for n in path.operation[1:, 0, 0]], **named(method, params))
    result = subprocess.run(
        [python, search.HERE / "torch_spos.py", "--check", file],
        capture_output=True, text=True, check=True)
  found = np.array(json.loads(result.stdout), np.float32)
  worst = float(np.abs(found - logits).max() / np.abs(logits).max())
  assert worst < 1e-3, (worst, found, logits)
  return f"logits of both sides, of the same weights, agree to {worst:.0e}"


def named(method: Any, params: Any) -> dict[str, np.ndarray]:
  """The weights as `torch_spos.Supernet` names and lays them out."""
  kernel = lambda leaf: leaf.transpose(3, 2, 0, 1)
  found = {"linear.weight": params["head"]["layer2"]["linear"]["kernel"].T,
           "linear.bias": params["head"]["layer2"]["linear"]["bias"]}
  for part in ("stem", "head"):
    own = params[part]["layer0"]
    found |= {f"{part}.0.weight": kernel(own["conv"]["kernel"]),
              f"{part}.1.weight": own["norm"]["scale"],
              f"{part}.1.bias": own["norm"]["bias"]}
  parts = {"conv0": 0, "depthwise1": 3, "conv2": 6}
  names = method.connections.space.candidates
  for run, own in zip(method.supernet.plan.runs, params["blocks"],
                      strict=True):
    if run == (0,):  # Without expansion, in two edges.
      for edges, name, at in (
          ("edges0", "depthwise", 0), ("edges1", "conv", 3)):
        (operation,) = own[edges].values()
        found[f"first.run.{at}.weight"] = kernel(
            operation[name]["kernel"][0, 0])
      continue
    for j, layer in enumerate(run):
      for name, unit in own["edges0"].items():
        for part, at in parts.items():
          key = f"layers.{layer - 1}.{names.index(name)}.run.{at}.weight"
          found[key] = kernel(unit[part]["kernel"][j, 0])
  return found


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, prints, and writes the report."""
  argv = sys.argv[1:] if argv is None else list(argv)
  args = parse(argv)
  if args.work is not None:
    return workers.serve(functools.partial(search_sides.start, ROW, args))
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])

  # Where.
  script = pathlib.Path(__file__).name
  lines = tables.machine(search.command_of(argv, script), [
      f"space {ROW.space}, at most {args.chain_layers} layers a stage, batch"
      f" {args.batch_size}, {args.image_size}x{args.image_size}, float32,"
      f" {args.threads} threads; {args.rounds} rounds of {args.steps} steps"
      " after one discarded; median [quartiles]",
      "CPU time is that of all threads; cold and warm: with an empty cache of"
      " compiled programs and with a filled one"])
  if os.environ.get("OMP_WAIT_POLICY"):
    lines.append(f"- OMP_WAIT_POLICY `{os.environ['OMP_WAIT_POLICY']}`")
  names = [SPOS]
  if not args.skip_torch and search.has_torch(args.torch_python):
    lines.append(f"- check: {check(args.torch_python)}")
    names.insert(0, search.TORCH)
  elif not args.skip_torch:
    lines.append(f"- left out: {search.TORCH}, which the interpreter of"
                 " --torch-python lacks")
  print("\n".join(lines), flush=True)

  # Measure.
  found = search.measure(names, lambda name, cache: search.start_torch(
      args, "torch_spos.py", SIZES) if name == search.TORCH else (
          search.start_natjax(name, argv, cache, script)), args)
  after = " ".join(f"{x:.1f}" for x in os.getloadavg())

  # Report.
  text = ["", *search.iteration_table(found, (search.TORCH,)), "",
          *search.start_table(found)]
  if search.TORCH in found:
    torch = found[search.TORCH]
    assert torch["parameters"] == found[SPOS]["parameters"], found
    lines.append(f"- torch {torch['torch']}, {torch['threads']} threads;"
                 " parameters are equal in number")
    ratios = [np.median(np.array(found[SPOS][key]) / np.array(torch[key]))
              for key in ("seconds", "cpu_seconds")]
    text += ["", f"spos / torch: {ratios[0]:.2f} of the time"
             f" ({tables.verdict(ratios[0], TARGET)}), {ratios[1]:.2f} of the"
             " processor time"]
  search.write(args, lines, found, text, after)
  return None


if __name__ == "__main__":
  main()
