"""Trains on a set that stays on disk, kills the run, and resumes it elsewise.

What: JPEGs of about 400 x 350 pixels are made and written as
tensorflow-datasets prepares a set, in the format array_record. A network is
trained for an epoch by the command line, once without interruption and with
processes that decode. Then again, killed (SIGKILL) in the middle of the epoch
behind some checkpoints, and resumed with threads in their place. Both must end
in the same weights, bit for bit, and no run may have held more memory than
`--most-mb`, that of its workers included.

Commands:
  python experiments/streaming.py --out runs/streaming
  python experiments/streaming.py --out runs/streaming --images 200 \
      --image-size 16 --width 0.125 --batch-size 8 --checkpoint-seconds 0
Expected time on 2 CPU cores: an hour beside other work, of ResNet18 as it is
for ImageNet, whose stem shrinks images to a quarter; with `--skeleton cifar`
fifteen times as much. The second command: three minutes.
"""

import argparse
from collections.abc import Sequence
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import recording

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "benchmarks"))
_SETS = {"imagenet": "ImageNet", "cifar": "CIFAR"}  # By skeleton.


def _input():
  """The script beside this one that makes JPEGs and watches memory."""
  spec = importlib.util.spec_from_file_location(
      "benchmark_input", HERE / "benchmarks" / "input.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _varint(number):
  found = b""
  while number > 127:
    found += bytes([number & 127 | 128])
    number >>= 7
  return found + bytes([number])


def _field(number, content):
  return _varint(number << 3 | 2) + _varint(len(content)) + content


def example(image: bytes, label: int) -> bytes:
  """A `tf.train.Example` with an encoded image and its label."""
  features = {"image": _field(1, _field(1, image)),
              "label": _field(3, _field(1, _varint(label)))}
  return _field(1, b"".join(
      _field(1, _field(1, name.encode()) + _field(2, value))
      for name, value in features.items()))


def prepare(jpegs: pathlib.Path, data_dir: pathlib.Path,
            shards: int = 8) -> pathlib.Path:
  """Writes a set as tensorflow-datasets does; a tenth is the test set.

  Args:
    jpegs: `LABEL/*.jpg`.
    data_dir: the folder of all sets.
    shards: files of a split.
  """
  from array_record.python import array_record_module

  folder = data_dir / "made" / "1.0.0"
  if (folder / "dataset_info.json").exists():
    return folder
  folder.mkdir(parents=True, exist_ok=True)
  paths = sorted(jpegs.glob("*/*.jpg"), key=lambda path: path.name)
  cut = len(paths) // 10
  splits = []
  for name, part in (("test", paths[:cut]), ("train", paths[cut:])):
    lengths = []
    for i, rows in enumerate(np.array_split(np.arange(len(part)), shards)):
      writer = array_record_module.ArrayRecordWriter(
          str(folder / f"made-{name}.array_record-{i:05}-of-{shards:05}"),
          "group_size:1")
      for row in rows:
        writer.write(example(
            part[row].read_bytes(), int(part[row].parent.name)))
      writer.close()
      lengths.append(str(len(rows)))
    splits.append({"name": name, "shardLengths": lengths})
  (folder / "features.json").write_text(json.dumps({"featuresDict": {
      "features": {
          "image": {"image": {"dtype": "uint8", "shape": {
              "dimensions": ["-1", "-1", "3"]}}},
          "label": {"classLabel": {"numClasses": "10"}}}}}))
  (folder / "dataset_info.json").write_text(json.dumps(
      {"name": "made", "fileFormat": "array_record", "splits": splits}))
  return folder


class Run:
  """A run of the command line.

  Attributes:
    out: its folder.
    process: of it.
    memory: what it and its workers held (`input.Memory`).
  """

  def __init__(self, args: argparse.Namespace, data_dir: pathlib.Path,
               name: str, workers: int, benchmark: Any):
    self.out = args.out / name
    self.process = subprocess.Popen(
        [sys.executable, "-m", "natjax.cli", "train", "resnet18", "--dataset",
         "made", "--data-dir", str(data_dir), "--image-size",
         str(args.image_size), "--width", str(args.width), "--skeleton",
         args.skeleton, "--preset", "small",
         "--epochs", "1", "--batch-size", str(args.batch_size), "--seeds", "1",
         "--resize", "imagenet", "--workers", str(workers), "--out",
         str(self.out), "--checkpoint-seconds", str(args.checkpoint_seconds),
         "--chunk-seconds", str(args.checkpoint_seconds)],
        start_new_session=True)
    self.memory = benchmark.Memory(self.process.pid)

  def finish(self) -> None:
    """Waits for its end (SystemExit: it failed)."""
    if self.process.wait():
      raise SystemExit(f"{self.out} failed; its error stands above")

  def kill(self) -> None:
    """Kills it behind its third checkpoint, in the middle of the epoch."""
    seen: set[str] = set()
    while len(seen) < 3:
      seen |= {path.name for path in self.out.glob(
          "networks/*/checkpoint/*.seal")}
      if self.process.poll() is not None:
        raise SystemExit(f"{self.out} ended before it could be killed; give"
                         " more images")
      time.sleep(0.02)
    os.killpg(self.process.pid, signal.SIGKILL)
    self.process.wait()
    if (self.out / "result.json").exists():
      raise SystemExit(f"{self.out} ended before it was killed; give more"
                       " images")

  def weights(self) -> dict[str, np.ndarray]:
    """What it trained."""
    path, = self.out.glob("networks/*/weights.npz")
    with np.load(path) as file:
      return {name: file[name] for name in file.files}


def record(folder: pathlib.Path, result: dict[str, Any], most_mb: float,
           found: dict[str, Any]) -> None:
  """Writes what came out as JSON and as README.md."""
  folder.mkdir(parents=True, exist_ok=True)
  recording.write(folder / "result.json", {**result, "circumstances": found})
  waited = result["waited"] or [0.0]
  lines = [
      "# A set on disk, killed and resumed elsewise", "",
      f"{result['images']} JPEGs, an epoch of ResNet18 in its form for"
      f" {_SETS[result['skeleton']]}"
      + f" at {result['width']:g} times its width" * (result["width"] != 1)
      + f", {result['image_size']} pixels, batches of"
      f" {result['batch_size']}. Decoded at this size all images are"
      f" {result['decoded_mb']} MB.", "",
      "| run | memory at most, MB |", "| --- | --- |",
      *(f"| {name} | {most} |" for name, most in result["peak_mb"].items()), "",
      f"Asked: at most {most_mb:g} MB, workers included. Killed in the middle"
      " of the epoch and resumed with threads in place of processes, it ended"
      " in " + ("the same weights, bit for bit" if result["same_bits"]
                else "other weights")
      + ". Steps waited for images at most"
      f" {100 * max(waited):.1f} % of the time.", "",
      *recording.in_words(found)]
  (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the experiment."""
  parser = recording.Parser(
      description=__doc__.partition("\n")[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  flag = parser.add_argument
  flag("--out", type=pathlib.Path, required=True, metavar="DIR",
       help="of images and runs; images that are there, and the run that is"
       " not killed, are gone on with")
  flag("--jpegs", type=pathlib.Path, metavar="DIR",
       help="where the JPEGs lie or are made; without, in --out")
  flag("--images", type=recording.at_least(1), default=20000, metavar="N")
  flag("--image-size", type=recording.at_least(1), default=64, metavar="N")
  flag("--width", type=float, default=1.0, metavar="F")
  flag("--skeleton", choices=_SETS, default="imagenet",
       help="for whose images the stem is")
  flag("--batch-size", type=recording.at_least(1), default=64, metavar="N")
  flag("--workers", type=recording.at_least(0), default=2, metavar="N")
  flag("--checkpoint-seconds", type=float, default=5, metavar="S",
       help="between checkpoints; the run is killed behind the third")
  flag("--most-mb", type=float, default=2000, metavar="MB",
       help="that natjax may hold")
  flag("--report", type=pathlib.Path, metavar="DIR",
       help="folder to record the results in")
  args = parser.parse_args(argv)
  began = time.monotonic()
  benchmark = _input()
  jpegs = args.jpegs or args.out / "jpegs"
  benchmark.make(jpegs, args.images)
  data_dir = args.out / "data"
  prepare(jpegs, data_dir)

  whole = Run(args, data_dir, "whole", args.workers, benchmark)
  whole.finish()
  shutil.rmtree(args.out / "killed", ignore_errors=True)
  killed = Run(args, data_dir, "killed", args.workers, benchmark)
  killed.kill()
  resumed = Run(args, data_dir, "killed", 0, benchmark)
  resumed.finish()

  expected, found = whole.weights(), resumed.weights()
  same = expected.keys() == found.keys() and all(
      np.array_equal(expected[name], found[name]) for name in expected)
  peaks = {name: round(run.memory.peak_mb) for name, run in (
      ("whole", whole), ("killed", killed), ("resumed", resumed))}
  rows = [json.loads(line) for line in
          (whole.out / "metrics.jsonl").read_text().splitlines()]
  result = {
      "images": args.images, "image_size": args.image_size,
      "width": args.width, "skeleton": args.skeleton,
      "batch_size": args.batch_size,
      "decoded_mb": round(3 * args.images * args.image_size**2 / 1e6),
      "same_bits": same, "peak_mb": peaks,
      "waited": [row["waited"] for row in rows]}
  recording.write(args.out / "result.json", result)
  print(json.dumps(result, indent=2))
  if args.report:
    record(args.report, result, args.most_mb, recording.circumstances(
        "streaming.py", argv, time.monotonic() - began))
  return 0 if same and max(peaks.values()) <= args.most_mb else 1


if __name__ == "__main__":
  recording.run(lambda: sys.exit(main()))
