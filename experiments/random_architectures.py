"""Random architectures, transformed and trained: Table 4, Figures 6 and 8.

Paper: Guo et al., 2021, "Towards Accurate and Compact Architectures via Neural
Architecture Transformer", sections 6.1 and 6.5. Architectures are drawn
uniformly from the space of 13 operations (null left out, as in the released
code; in the skeleton of preset `paper` they have 6.4 M parameters on average,
as the paper's 20 have). Each is transformed by NAT, by NAT++, and by uniformly
random transitions that NAT++'s rule and guards allow; all of them are then
trained from scratch, alike, and tested. NAT's three actions are applied to the
same 13 operations. One compiled program trains every network
(`slot_training`). As section 6.1 says, SGD with momentum and batches
of 128; there is no drop path, no auxiliary head and no cutout.

Commands, with DATA a folder that holds fashion_mnist.npz or another form that
`natjax.data.load` finds:
  python experiments/random_architectures.py --preset smoke --out runs/smoke
  python experiments/random_architectures.py --preset small --data-dir DATA \
      --out runs/random --report experiments/results/random_architectures
  python experiments/random_architectures.py --preset paper --data-dir DATA \
      --out runs/random_paper
Hardware and time: `smoke` one to two minutes; `small` was made for half an hour
on 2 CPU cores and took 67 minutes where other work had more than half of them;
`paper` one accelerator and weeks, 80 trainings of 600 epochs.
Expected, preset `paper` (Table 4): original 95.83 ± 1.08 %, NAT 96.56 ± 0.47,
NAT++ 96.79 ± 0.32; not run here. Preset `small`, recorded: NAT loses 1.1
points and NAT++ 2.1 with less than a quarter of the parameters, random
transitions 1.1 with two fifths; its supernets see few images, so that their
scores say little of a network's accuracy.

A stopped run goes on by the same command: searches and trainings from their
last checkpoint, what is finished from its file.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import functools
import pathlib
import shutil
import time
from typing import Any

import dry_runs
import figures
import jax
import jax.numpy as jnp
import numpy as np
import recording
import slot_training
import sweeps

import natjax
from natjax import data as data_lib
from natjax import operations, pipeline, spaces
from natjax.costs import exact as cost_lib
from natjax.graph import arrays as arrays_lib
from natjax.graph import genotype as genotype_lib
from natjax.graph import records
from natjax.methods import memory, nat, natpp, supervised
from natjax.pipeline import presets
from natjax.policies import sampling
from natjax.spaces import inputs
from natjax.training import devices as devices_lib
from natjax.training import fit, metrics
from natjax.training import method as base

METHODS = {"nat": nat.NAT, "natpp": natpp.NATpp}
KINDS = {"original": "original", "nat": "NAT", "natpp": "NAT++",
         "random": "random transitions"}


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the experiment.

  Attributes:
    dataset: name or path of the data set.
    image_size: side to which images are brought.
    train_images: how many training images to use, drawn; 0 is all.
    architectures: n.
    nodes: of a cell.
    operations: candidates, `null` last.
    score_images: at most so many images of the policy's split score a
      candidate.
    search: of NAT and of NAT++.
    train: of every network.
    seed: of everything random.
  """

  dataset: str
  image_size: int
  train_images: int
  architectures: int
  score_images: int
  search: nat.NATConfig
  train: supervised.TrainConfig
  nodes: int = 4
  operations: tuple[str, ...] = spaces.get("natpp").candidates
  seed: int = 0


PLAIN = supervised.TrainConfig(
    batch_size=128, drop_path=0.0, auxiliary=False, cutout=0)
PRESETS = {
    "smoke": Config(
        dataset="digits", image_size=8, train_images=128, architectures=2,
        score_images=32, nodes=2,
        operations=("max_pool_3x3", "skip_connect", "conv_1x1", "conv_3x3",
                    operations.NULL),
        search=nat.NATConfig(
            init_channels=2, cells=1, epochs=2, warmup_epochs=1, batch_size=32,
            samples=2, candidates=3, weights_fraction=0.5,
            prefer="accuracy", held_out=0.0),
        train=dataclasses.replace(
            PLAIN, init_channels=2, cells=1, epochs=2, batch_size=32)),
    "small": Config(
        dataset="fashion_mnist", image_size=16, train_images=8000,
        architectures=5, score_images=1024,
        search=nat.NATConfig(
            init_channels=8, cells=3, epochs=9, warmup_epochs=6,
            batch_size=64, learning_rate=0.05, final_learning_rate=0.005,
            max_grad_norm=5.0, policy_learning_rate=1e-3, samples=4,
            candidates=10, weights_fraction=0.5,
            prefer="accuracy", held_out=0.0),
        train=dataclasses.replace(
            PLAIN, init_channels=8, cells=3, epochs=3, learning_rate=0.05)),
    "paper": Config(
        dataset="cifar10", image_size=32, train_images=0, architectures=20,
        score_images=30000, search=presets.get("paper").search,
        train=dataclasses.replace(PLAIN, init_channels=36, cells=20)),
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  recording.add_flags(parser, PRESETS)
  sweeps.add_flags(parser)
  dry_runs.add_flags(parser)
  parser.add_argument("--dataset", help="default: the preset's")
  parser.add_argument("--architectures", type=recording.at_least(1),
                      help="default: the preset's")
  return parser.parse_args(argv)


class Experiment:
  """The parts of the experiment; each is computed once, in `out`."""

  def __init__(self, config: Config, dataset: data_lib.Dataset,
               out: pathlib.Path, device: jax.Device):
    self.config, self.dataset, self.out = config, dataset, out
    self.device = device
    self.space = spaces.get("natpp")._replace(
        candidates=config.operations, graph=spaces.complete(config.nodes))
    rows = np.arange(len(dataset.train_labels))
    if config.train_images:
      rows = np.random.default_rng([config.seed, 1]).permutation(rows)[
          :config.train_images]
    self.train = fit.Split(dataset.train_images[rows],
                           dataset.train_labels[rows])
    self.test = fit.Split(dataset.test_images, dataset.test_labels)
    self.preparation = fit.Preparation(
        tuple(map(float, dataset.mean)), tuple(map(float, dataset.std)),
        dataset.augmentation, jnp.dtype(config.train.dtype))
    self.trainer = slot_training.SupervisedSlots(
        config.train, self.space, num_classes=dataset.num_classes,
        image_size=config.image_size,
        steps_per_epoch=len(rows) // config.train.batch_size)

  def options(self, name: str, folder: pathlib.Path) -> fit.Options:
    """How `training.fit` runs a part of the experiment."""
    return fit.Options(
        seed=self.config.seed, devices=[self.device],
        checkpoint_dir=folder / "checkpoint",
        metrics_path=folder / "metrics.jsonl", run=name,
        should_stop=recording.asked,
        on_row=lambda row: say(" ".join(
            f"{k} {v:.4f}" if isinstance(v, float) else str(v)
            for k, v in row.items())))

  def estimate(self, teraflops: float) -> dry_runs.Estimates:
    """What `train_all` takes, paths drawn uniformly standing for networks."""
    found, config = dry_runs.Estimates(teraflops), self.config
    hours = lambda madds: devices_lib.hours(madds, [self.device], teraflops)
    search, net = config.search, self.trainer.network
    for name in METHODS:
      method = self.method(name)
      images = round(search.weights_fraction * len(self.train.labels))
      steps, madds = base.work(method.method(), {
          "weights": images // search.batch_size,
          "policy": (len(self.train.labels) - images) // search.batch_size},
                               method.supernet.plan.madds())
      found.add(KINDS[name], {
          **memory.supernet(method.supernet, search.batch_size),
          "steps": steps, "hours": hours(madds * search.batch_size)})
    size = config.train.batch_size
    steps = config.train.epochs * (len(self.train.labels) // size)
    found.add("trained", {
        **memory.supernet(net, size), "steps": steps,
        "hours": hours(3 * steps * size * net.plan.madds())},
              len(KINDS) * config.architectures)
    return found

  # What is compared.

  def draw(self) -> list[dict[str, Any]]:
    """n architectures: cells as `spaces.inputs` draws them, without nulls."""
    one = inputs.sampler(self.method("natpp").ground, published=True)
    keys = jax.random.split(
        jax.random.key(self.config.seed), self.config.architectures)
    return [self._decode(cells) for cells in map(jax.jit(one), keys)]

  def search(self, name: str) -> list[dict[str, Any]]:
    """Trains a supernet and a policy; transforms every architecture."""
    config, began = self.config.search, time.monotonic()
    folder = self.out / f"search-{name}"
    parts = data_lib.split(
        len(self.train.labels),
        (config.weights_fraction, 1 - config.weights_fraction),
        seed=self.config.seed)
    splits = {split: fit.Split(self.train.images[rows], self.train.labels[rows])
              for split, rows in zip(("weights", "policy"), parts, strict=True)}
    method = self.method(name, len(parts[0]) // config.batch_size)
    state = fit.fit(
        method.method(), splits, batch_size=config.batch_size,
        preparation=self.preparation,
        options=self.options(f"search-{name}", folder))
    state = jax.device_put(state, self.device)
    scored = fit.Split(*(a[:self.config.score_images]
                         for a in splits["policy"]))

    def score(function, argument, *, split, total):
      del split  # There is but one.
      return fit.walk(
          function, argument, scored, preparation=self.preparation,
          batch_size=config.batch_size, whole=True, total=total)

    found = []
    for i, genotype in enumerate(self.originals):
      derived = method.derive(
          state, genotype, score, jax.random.key(self.config.seed + i))
      scores = [c["score"] for c in derived.report["candidates"]]
      found.append({"architecture": genotype_lib.to_dict(
          derived.architecture),
                    "score_original": scores[0], "score": max(scores)})
    say(f"{name}: searched in {time.monotonic() - began:.0f} s")
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    return found

  def method(self, name: str, steps: int = 1) -> nat.NAT:
    """NAT or NAT++ in the space of the experiment."""
    return METHODS[name](
        self.config.search, self.space, num_classes=self.dataset.num_classes,
        image_size=self.config.image_size,
        targets=(self.trainer.network.place,), steps_per_epoch=steps)

  def random_transitions(self) -> list[dict[str, Any]]:
    """Of what NAT++'s table allows on each edge, one is drawn uniformly."""
    ground = self.method("natpp").ground
    logits = jnp.zeros((*ground.shape[1:], len(ground.table.actions)))

    @jax.jit
    def one(key, cells):
      actions = jax.vmap(lambda k, cell, rows: sampling.sample(
          k, logits, cell, rows, ground.table))(
              jax.random.split(key), cells, ground.rows(cells))
      return sampling.apply_actions(cells, actions, ground.table)

    keys = jax.random.split(
        jax.random.key(self.config.seed + 1), self.config.architectures)
    return [self._decode(one(key, ground.encode(genotype)))
            for key, genotype in zip(keys, self.originals, strict=True)]

  @functools.cached_property
  def originals(self) -> list[records.Genotype]:
    """The drawn architectures."""
    rows = recording.once(self.out / "original.json", self.draw)
    return [genotype_lib.from_dict(row["architecture"]) for row in rows]

  def transformed(self, sweep: sweeps.Sweep
                  ) -> dict[str, list[records.Genotype]]:
    """By kind, what is drawn and what the ways of transforming made of it."""
    everything = {"original": self.originals}
    found = sweep.run([
        sweeps.Part(kind, self.random_transitions if kind == "random" else (
            functools.partial(self.search, kind)), self.out / f"{kind}.json")
        for kind in KINDS if kind not in everything])
    return everything | {
        kind: [genotype_lib.from_dict(row["architecture"]) for row in rows]
        for kind, rows in found.items()}

  def _decode(self, cells):
    return {"architecture": genotype_lib.to_dict(records.Genotype(
        *arrays_lib.decode(cells, self.space.candidates)))}

  # How they do.

  def train_all(self, sweep: sweeps.Sweep) -> list[dict[str, Any]]:
    """Per drawn architecture, the results of it and of what became of it.

    Those of which everything is trained, once all ways have transformed them.
    """
    everything, networks, rows = self.transformed(sweep), {}, []
    if len(everything) < len(KINDS):
      return []
    for i in range(self.config.architectures):
      names = {}
      # What came out unchanged is the same network: trained once.
      rows.append({kind: names.setdefault(everything[kind][i], f"{i}-{kind}")
                   for kind in KINDS})
      networks |= {name: genotype for genotype, name in names.items()}
    found = sweep.run([
        sweeps.Part(name, functools.partial(self.train_one, name, genotype),
                    self.out / "networks" / name / "result.json")
        for name, genotype in networks.items()])
    return [{kind: found[name] for kind, name in row.items()} for row in rows
            if {*row.values()} <= {*found}]

  def train_one(self, name, genotype) -> dict[str, Any]:
    """Trains and tests a network; the test images choose nothing."""
    began = time.monotonic()
    folder = self.out / "networks" / name
    arrays = arrays_lib.encode(genotype, self.space.candidates)
    method = self.trainer.method(arrays, watch_test=True)
    state = fit.fit(
        method, {"train": self.train, "test": self.test},
        batch_size=self.config.train.batch_size, preparation=self.preparation,
        options=self.options(name, folder))
    accuracy = fit.evaluate(
        method.evaluate, jax.device_put(state, self.device), self.test,
        preparation=self.preparation,
        batch_size=max(self.config.train.batch_size, 128))
    shutil.rmtree(folder / "checkpoint")
    cost = cost_lib.network(genotype, self.trainer.network.place)
    curve = [row["accuracy"] for row in metrics.read(folder / "metrics.jsonl")
             if row["run"] == name and row["phase"] == "test"]
    say(f"{name}: {100 * accuracy:.2f} %, {cost.params} parameters")
    return {"accuracy": accuracy, "params": cost.params, "madds": cost.madds,
            "curve": curve, "architecture": genotype_lib.to_dict(genotype),
            "network": name, "seconds": round(time.monotonic() - began, 1)}


# The report.


def summarize(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
  """Table 4: per kind, mean and deviation over the architectures."""
  summary = {}
  for kind in KINDS:
    summary[kind] = {}
    for key in ("accuracy", "params", "madds"):
      values = np.array([row[kind][key] for row in rows], float)
      gains = values - [row["original"][key] for row in rows]
      deviation = lambda v: float(np.std(v, ddof=1)) if len(v) > 1 else 0.0
      summary[kind] |= {
          key: float(np.mean(values)), f"{key}_std": deviation(values),
          f"{key}_gain": float(np.mean(gains)),
          f"{key}_gain_std": deviation(gains)}
    summary[kind]["changed"] = sum(
        row[kind]["architecture"] != row["original"]["architecture"]
        for row in rows)
  return summary


def readme(config: Config, result: dict[str, Any]) -> str:
  """The record in words."""
  rows = result["architectures"]
  column = lambda kind, key: [row[kind][key] for row in rows]
  table = [
      [title, recording.spread(column(kind, "params"), 1, 1e-3),
       recording.spread(column(kind, "madds"), 2, 1e-6),
       recording.spread(column(kind, "accuracy"), 2, 100),
       recording.spread(np.subtract(column(kind, "accuracy"),
                                    column("original", "accuracy")), 2, 100),
       result["summary"][kind]["changed"]] for kind, title in KINDS.items()]
  each = [[i, *(f"{100 * row[k]['accuracy']:.2f} / {row[k]['params']}"
                for k in KINDS)] for i, row in enumerate(rows)]
  train, search = config.train, config.search
  return "\n".join([
      f"# Random architectures on {result['dataset']}", "",
      *recording.table(
          ("", "parameters, K", "multiply-adds, M", "test accuracy, %",
           "gain, points", "changed"), table), "",
      f"Mean ± deviation over {len(rows)} architectures; the gain is over the"
      " same architecture's original.", "",
      "![accuracy and parameters](accuracy.svg)", "",
      "![convergence](convergence.svg)", "",
      "Test accuracy, % / parameters of each:", "",
      *recording.table(("architecture", *KINDS.values()), each), "",
      f"Trained: {train.init_channels} channels, {train.cells} cells,"
      f" {config.image_size}x{config.image_size} pixels,"
      f" {result['train_images']} images, {train.epochs} epochs, one seed each."
      f" Searched: {search.init_channels} channels, {search.cells} cells,"
      f" {search.epochs} epochs ({search.warmup_epochs} of them for the weights"
      " alone).", "", *recording.in_words(result)])


def record(folder: pathlib.Path, config: Config, result) -> None:
  """Writes JSON, pictures and README.md."""
  folder.mkdir(parents=True, exist_ok=True)
  rows = result["architectures"]
  for suffix in ("svg", "png"):
    figures.accuracy_and_cost(rows, KINDS, folder / f"accuracy.{suffix}")
    figures.convergence(rows, KINDS, folder / f"convergence.{suffix}")
  recording.write(folder / "result.json", result)
  metrics.write_text(folder / "README.md", readme(config, result))


def say(text: str) -> None:
  """Prints a line at once."""
  print(text, flush=True)


def main(argv: Sequence[str] | None = None) -> None:
  args = parse(argv)
  natjax.configure_compilation()

  # Config.
  config = PRESETS[args.preset]
  config = dataclasses.replace(
      config, seed=args.seed, dataset=args.dataset or config.dataset,
      architectures=args.architectures or config.architectures)
  if dry_runs.asked(args):
    dataset = dry_runs.load(
        config.dataset, args.data_dir, image_size=config.image_size,
        train_images=config.train_images)
    Experiment(dataclasses.replace(config, train_images=0), dataset, args.out,
               jax.local_devices()[0]).estimate(args.teraflops).show()
    return
  sweep = sweeps.Sweep(__file__, args, argv, dataclasses.asdict(config))

  # Data and method.
  dataset = data_lib.load(config.dataset, data_dir=args.data_dir,
                          image_size=config.image_size)
  device = jax.local_devices()[0]
  experiment = Experiment(config, dataset, sweep.out, device)
  say(f"{recording.hardware()}; seed {config.seed}; {pipeline.versions()}")
  say(f"{config.architectures} architectures of {dataset.name}, in"
      f" {experiment.trainer.network.place}")

  # Search, train, evaluate.
  if not (rows := experiment.train_all(sweep)):
    say("no architecture is finished; the same command goes on")
    sweep.end()
    return

  # Report.
  result = {
      "summary": summarize(rows), "architectures": rows,
      "dataset": dataset.name, "train_images": len(experiment.train.labels),
      "config": dataclasses.asdict(config),
      **sweep.circumstances()}
  folder = args.report or sweep.out / "report"
  record(folder, config, result)
  for kind, row in result["summary"].items():
    say(f"{KINDS[kind]}: {100 * row['accuracy']:.2f} ±"
        f" {100 * row['accuracy_std']:.2f} %, {row['params']:.0f} parameters,"
        f" {row['changed']} changed")
  say(f"recorded in {folder}")
  sweep.end()


if __name__ == "__main__":
  recording.run(main)
