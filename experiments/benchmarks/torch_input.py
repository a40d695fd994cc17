"""The side of torchvision in `input.py`, by an interpreter that has it."""

import argparse
import itertools
import warnings

import torch
from torch import utils
import torch.utils.data
import workers


def torchvision():
  """torchvision, also where its compiled operations do not fit to torch.

  As of a torch for CPUs beside a torchvision for CUDA; none of them is used.
  """
  while True:
    try:
      import torchvision
      from torchvision import datasets, transforms
      return torchvision, datasets, transforms
    except RuntimeError as e:
      name = str(e).partition("operator ")[2].partition(" does not exist")[0]
      if not name:
        raise
      torch.library.define(name, "(Tensor x) -> Tensor")


def main() -> None:
  """Reads a round of images per line."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--folder")
  for name in ("image-size", "batch-size", "round-images", "workers"):
    parser.add_argument(f"--{name}", type=int)
  args = parser.parse_args()
  warnings.simplefilter("ignore")
  _, datasets, transforms = torchvision()
  images = datasets.ImageFolder(args.folder, transforms.Compose([
      transforms.RandomResizedCrop(args.image_size),
      transforms.PILToTensor()]))
  order = torch.randperm(len(images)).tolist()
  rounds = itertools.count()

  def read():
    first = next(rounds) * args.round_images
    rows = [order[(first + i) % len(order)] for i in range(args.round_images)]
    loader = utils.data.DataLoader(
        utils.data.Subset(images, rows), args.batch_size,
        num_workers=args.workers)
    assert sum(len(batch) for batch, _ in loader) == args.round_images

  def start():
    read()
    return {}, read

  workers.serve(start)


if __name__ == "__main__":
  main()
