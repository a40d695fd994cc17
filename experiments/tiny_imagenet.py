"""Differentiable transformation on Tiny-ImageNet: Table 3.

Paper: "Differentiable Neural Architecture Transformation", section 4. ResNet20,
MobileNetV2 and DARTS (9 cells) on the 200 classes of Tiny-ImageNet, 64x64
pixels, five seeds each: the original, and the differentiable transformation,
cells or blocks decided on together ("Cell") or each by itself ("Full"). Trained
as in `differentiable_reproducibility.py`, but MobileNetV2 and DARTS for 300
epochs, and with a cutout of half the images' side for DARTS. Accuracy is on the
validation images, since the labels of the test images are not public.

Commands, with DATA the folder that holds tiny-imagenet-200, which
tiny-imagenet-200.zip of Stanford's CS231n unpacks to:
  python experiments/tiny_imagenet.py --preset smoke --data-dir DATA \
      --out runs/smoke
  python experiments/tiny_imagenet.py --preset small --data-dir DATA \
      --out runs/tiny_imagenet --report experiments/results/tiny_imagenet
  python experiments/tiny_imagenet.py --preset paper --data-dir DATA \
      --out runs/tiny_imagenet_paper
Hardware and time: `smoke` two minutes. `small`, ResNet20 on a fifth of the
images at 16 pixels, is estimated at 27 minutes on 2 idle CPU cores: of 3744
steps of a training at 0.03 s, or half of them 0.07 s while theta is trained, 24
minutes for 9 trainings, one for reading the images, 2 for compiling; it has not
been run. `paper` one accelerator and weeks: 45 trainings.
Expected, preset `paper` (Table 3, mean ± deviation, %): ResNet20 50.72 ± 0.41,
Cell 52.86 ± 0.49, Full 52.71 ± 0.23; the others in `PAPER` below; not run here.

A stopped run goes on by the same command.
"""

from collections.abc import Sequence
import dataclasses

import differentiable_reproducibility as reproducibility
import differentiable_tables as tables
import recording

SCRIPT = "tiny_imagenet.py"


def _preset(name, **changes):
  """That of CIFAR-10, with what is different here."""
  return dataclasses.replace(
      reproducibility.PRESETS[name], datasets=("tiny_imagenet",),
      kinds=("original", "cell", "full"), **changes)


PRESETS = {
    "smoke": _preset("smoke", networks=("resnet20",)),
    "small": _preset("small", train_images=20000),
    "paper": _preset(
        "paper", networks=("resnet20", "mobilenetv2", "darts"), image_size=64,
        epochs={"mobilenetv2": 300, "darts": 300}, cutout=32),
}

# Table 3 of the paper.
PAPER = {
    "resnet20": {
        "original": tables.Published(50.72, 0.41, 16.1),
        "cell": tables.Published(52.86, 0.49, 22),
        "full": tables.Published(52.71, 0.23, 17.5),
    },
    "mobilenetv2": {
        "original": tables.Published(51.57, 0.76, 20.3),
        "cell": tables.Published(53.17, 1.03, 25.5),
        "full": tables.Published(52.92, 0.50, 23.7),
    },
    "darts": {
        "original": tables.Published(59.25, 0.44, 39.2),
        "cell": tables.Published(60.24, 0.35, 47),
        "full": tables.Published(60.63, 0.50, 43.8),
    },
}


def main(argv: Sequence[str] | None = None) -> None:
  tables.main(
      SCRIPT, "Differentiable transformation on Tiny-ImageNet", PRESETS, PAPER,
      argv)


if __name__ == "__main__":
  recording.run(main)
