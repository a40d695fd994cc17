"""Differentiable transformation beside NAT, seed by seed: Tables 1 and 2.

Paper: "Differentiable Neural Architecture Transformation", section 4. ResNet20,
MobileNetV2, DARTS (9 cells) and ProxylessNAS on CIFAR-10, five seeds each: the
original; NAT as its authors published it, which the paper saw collapse for some
seeds; NAT as this library has it; and the differentiable transformation, cells
or blocks decided on together ("Cell") or each by itself ("Full"). Which of the
authors' samples the paper trained it does not say; here it is one draw of their
policy (Guo et al., 2021, section 3.5), and the supernet is not asked whether
the given network is better.

All rows of a network are trained alike: SGD at 0.025 and 600 epochs in `paper`,
without DARTS's auxiliary head and drop path, which unshared cells do not have;
with cutout for DARTS and ProxylessNAS. On the unlike blocks of ProxylessNAS
NAT decides one by one, which the published policy cannot ("-").

Commands, with DATA a folder that holds cifar10.npz or another form that
`natjax.data.load` finds:
  python experiments/differentiable_reproducibility.py --preset smoke \
      --out runs/smoke
  python experiments/differentiable_reproducibility.py --preset small \
      --data-dir DATA --out runs/reproducibility \
      --report experiments/results/differentiable_reproducibility
  python experiments/differentiable_reproducibility.py --preset paper \
      --data-dir DATA --out runs/reproducibility_paper
Hardware and time: `smoke` three minutes. `small`, ResNet20, is estimated at 22
minutes on 2 idle CPU cores: of 1500 steps of a training at 0.03 s, or half of
them 0.07 s while theta is trained, 14 minutes for 15 trainings; 3 for 6
searches of 744 steps of the supernet at 0.035 s; 5 for compiling. With
`--networks darts` about 35 minutes. `paper` one accelerator and months: 90
trainings, 30 searches.
Expected, preset `paper` (Table 1, mean ± deviation, %): ResNet20 91.66 ± 0.16,
NAT 55.78 ± 42.34, Cell 93.29 ± 0.11, Full 93.12 ± 0.12; the others in `PAPER`
below; not run here.

A stopped run goes on by the same command.
"""

from collections.abc import Sequence

import differentiable_tables as tables
import recording

from natjax.methods import differentiable, nat, supervised

SCRIPT = "differentiable_reproducibility.py"

PRESETS = {
    "smoke": tables.Config(
        datasets=("digits",), networks=("resnet20", "darts"), width=0.25,
        blocks=(0, 3), cells=(2, 1), search_cells=(2, 1), image_size=8,
        train_images=128,
        published=nat.NATConfig(
            init_channels=0, cells=0, epochs=2, warmup_epochs=1, batch_size=32,
            policy="published", candidates=1, weights_fraction=0.5),
        nat=nat.NATConfig(
            init_channels=0, cells=0, epochs=2, warmup_epochs=1, batch_size=32,
            samples=2, candidates=3, weights_fraction=0.5,
            prefer="accuracy", held_out=0.0),
        theta=differentiable.DifferentiableConfig(
            architecture_epochs=1, held_out=0.0),
        train=supervised.TrainConfig(
            init_channels=0, cells=0, epochs=2, batch_size=32,
            auxiliary=False, drop_path=0.0, cutout=0, seeds=2),
        cutout=2),
    "small": tables.Config(
        datasets=("cifar10",), networks=("resnet20",), width=0.5,
        cells=(8, 3), search_cells=(8, 3), image_size=16, train_images=8000,
        # The authors' settings of the policy, beside the other row's supernet.
        published=nat.NATConfig(
            init_channels=0, cells=0, epochs=12, batch_size=64,
            learning_rate=0.05, final_learning_rate=0.005, max_grad_norm=5.0,
            policy="published", candidates=1, weights_fraction=0.5),
        nat=nat.NATConfig(
            init_channels=0, cells=0, epochs=12, warmup_epochs=8,
            batch_size=64, learning_rate=0.05, final_learning_rate=0.005,
            max_grad_norm=5.0, policy_learning_rate=2e-4, samples=4,
            entropy_weight=0.03, candidates=20, weights_fraction=0.5,
            prefer="accuracy", held_out=0.0),
        theta=differentiable.DifferentiableConfig(
            architecture_epochs=6, held_out=0.0, theta_learning_rate=3e-3),
        train=supervised.TrainConfig(
            init_channels=0, cells=0, epochs=12, batch_size=64,
            learning_rate=0.05, final_learning_rate=0.0, auxiliary=False,
            drop_path=0.0, cutout=0, seeds=3),
        cutout=8),
    "card": tables.Config(
        datasets=("cifar10",), networks=("resnet20",), width=1.0,
        kinds=("original", "cell", "full"), cells=(16, 8),
        search_cells=(16, 8), image_size=32, train_images=0,
        published=nat.NATConfig(
            init_channels=0, cells=0, epochs=60, policy="published",
            candidates=1),
        nat=nat.NATConfig(
            init_channels=0, cells=0, epochs=60, prefer="accuracy",
            held_out=0.0),
        theta=differentiable.DifferentiableConfig(
            architecture_epochs=30, held_out=0.0),
        train=supervised.TrainConfig(
            init_channels=0, cells=0, epochs=60, batch_size=128,
            learning_rate=0.1, final_learning_rate=0.0, weight_decay=5e-4,
            auxiliary=False, drop_path=0.0, cutout=0, seeds=3),
        cutout=16),
    "paper": tables.Config(
        datasets=("cifar10",), networks=tuple(tables.NETWORKS), width=1.0,
        cells=(36, 9), search_cells=(20, 8), image_size=32, train_images=0,
        published=nat.NATConfig(
            init_channels=0, cells=0, policy="published", candidates=1),
        nat=nat.NATConfig(
            init_channels=0, cells=0, prefer="accuracy", held_out=0.0),
        theta=differentiable.DifferentiableConfig(
            architecture_epochs=300, held_out=0.0),
        train=supervised.TrainConfig(
            init_channels=0, cells=0, epochs=600, batch_size=96,
            learning_rate=0.025, auxiliary=False, drop_path=0.0, cutout=0,
            seeds=5),
        cutout=16),
}

# Tables 1 and 2 of the paper; the GPU of its hours it does not name.
PAPER = {
    "resnet20": {
        "original": tables.Published(
            91.66, 0.16, 8, (91.74, 91.74, 91.65, 91.76, 91.39)),
        "published": tables.Published(
            55.78, 42.34, 14, (10, 75.14, 91.05, 10, 92.68)),
        "cell": tables.Published(
            93.29, 0.11, 11.2, (93.21, 93.34, 93.4, 93.15, 93.37)),
        "full": tables.Published(
            93.12, 0.12, 8.7, (93.07, 93.26, 93.22, 93.06, 92.97)),
    },
    "mobilenetv2": {
        "original": tables.Published(
            93.91, 0.12, 20.5, (93.9, 94.04, 93.95, 93.95, 93.72)),
        "published": tables.Published(
            91.97, 5.10, 27.8, (83.36, 95.13, 94.95, 91.18, 95.21)),
        "cell": tables.Published(
            95.02, 0.31, 24.8, (94.57, 94.97, 95.41, 94.97, 95.18)),
        "full": tables.Published(
            94.93, 0.13, 22.1, (95.13, 94.81, 94.85, 95, 94.85)),
    },
    "darts": {
        "original": tables.Published(96.75, 0.11, 38.3),
        "published": tables.Published(96.95, 0.09, 47),
        "cell": tables.Published(96.97, 0.15, 45),
        "full": tables.Published(96.82, 0.13, 41.1),
    },
    "proxyless-cpu": {
        "original": tables.Published(94.19, 1.08, 15.3),
        "full": tables.Published(95.09, 0.23, 19.8),
    },
}


def main(argv: Sequence[str] | None = None) -> None:
  tables.main(
      SCRIPT, "Differentiable transformation beside NAT, seed by seed", PRESETS,
      PAPER, argv)


if __name__ == "__main__":
  recording.run(main)
