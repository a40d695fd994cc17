"""Accuracy of a run's networks on a part of the test images.

For settings that were chosen by the other part: no choice has seen this one.

  python experiments/part_of_test.py RUN --dataset cifar10 --data-dir DATA \
      --image-size 16 --start 5000

prints, of a finished `natjax transform`, the original and the transformed
network of every seed, and their paired difference. Seconds on a CPU.
"""

import re

import numpy as np
import recording

import natjax
from natjax import data
from natjax.pipeline import networks as networks_lib


def accuracies(run, kind, dataset, start):
  """Per seed, the accuracy of the networks of a kind, in [0, 1]."""
  names = sorted((n for n in networks_lib.networks(run) if re.fullmatch(
      rf"{kind}-\d+", n)), key=lambda n: int(n.rpartition("-")[2]))
  images, labels = dataset.test_images[start:], dataset.test_labels[start:]
  found = []
  for name in names:
    network = natjax.load(run, name)
    predicted = [np.asarray(network.predict(images[i:i + 1000]))
                 for i in range(0, len(images), 1000)]
    found.append(float(np.mean(np.concatenate(predicted) == labels)))
  return found


def main():
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  parser.add_argument("run")
  parser.add_argument("--dataset", required=True)
  parser.add_argument("--data-dir")
  parser.add_argument("--image-size", type=recording.at_least(1), default=32)
  parser.add_argument("--start", type=recording.at_least(0), required=True,
                      help="number of the first test image")
  args = parser.parse_args()
  dataset = data.load(args.dataset, data_dir=args.data_dir,
                      image_size=args.image_size)
  before, after = (accuracies(args.run, kind, dataset, args.start)
                   for kind in ("original", "transformed"))
  print(f"test images from {args.start} on: original"
        f" {recording.spread(before, 2, 100)} %, transformed"
        f" {recording.spread(after, 2, 100)} %, difference"
        f" {recording.paired(before, after)} points")


if __name__ == "__main__":
  recording.run(main)
