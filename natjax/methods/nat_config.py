"""Settings of NAT and NAT++, and which of them fit together."""

import dataclasses

from natjax import errors
from natjax.policies import gcn
from natjax.training import settings

BASELINES = ("auto", "leave_one_out", "none", "moving_average", "published")
POLICIES = ("default", "published")
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class NATConfig:
  """Settings of the search. The defaults are section 5.1's where it has any.

  Attributes:
    init_channels: C of the supernet; 0 for a network of blocks.
    cells: L of the supernet; 0 for a network of blocks.
    supernet_width: factor of the supernet's widths, for a network of blocks.
    epochs: of the whole search.
    warmup_epochs: of these, the first, in which only the weights are trained;
      later each epoch has a weights phase, then a policy phase. 0 in the
      paper: the policy then first learns from the rewards of an untrained
      supernet.
    batch_size: over all devices, of both phases.
    learning_rate: of the supernet's SGD.
    final_learning_rate: where a cosine schedule ends; as `learning_rate`, the
      rate is constant (the released code's effective schedule).
    momentum: of SGD.
    weight_decay: of SGD.
    max_grad_norm: clips the supernet's gradient; 0 does not.
    policy: "default" or "published" (the authors' controller and training).
    gcn_layers: graph convolutions, 1, 2, 5 or 10.
    policy_learning_rate: of Adam.
    inputs: m, input architectures sampled per step and device.
    samples: n, transformations sampled per input.
    entropy_weight: lambda of equation 4.
    baseline: "leave_one_out", "moving_average" (of the reward), "none",
      "published" (their moving average, which is fed the advantage); "auto"
      is "published" with that policy, else leave-one-out if n > 1, else none.
    candidates: k, transformations sampled and scored at the end.
    selection: "sample" k candidates, or the "argmax" alone.
    max_params: the most parameters that a candidate may have: a number, with
      K, M or G, or a multiple of the given architecture's such as "0.8x"; empty
      for no limit but the guard's.
    max_madds: likewise, multiply-adds.
    weights_fraction: of the training images for the supernet's weights; the
      others are the policy's.
    dtype: "float32" or "bfloat16", of the supernet's computation.
  """

  init_channels: int = 20
  cells: int = 8
  supernet_width: float = 1.0
  epochs: int = 200
  warmup_epochs: int = 0
  batch_size: int = 64
  learning_rate: float = 0.01
  final_learning_rate: float = 0.01
  momentum: float = 0.9
  weight_decay: float = 3e-4
  max_grad_norm: float = 0.0
  policy: str = "default"
  gcn_layers: int = 2
  policy_learning_rate: float = 3e-4
  inputs: int = 1
  samples: int = 1
  entropy_weight: float = 0.003
  baseline: str = "auto"
  candidates: int = 10
  selection: str = "sample"
  max_params: str = ""
  max_madds: str = ""
  weights_fraction: float = 0.4
  dtype: str = "float32"


def check(config: NATConfig) -> NATConfig:
  """Returns the settings if they fit together.

  Raises:
    InputError: an unknown choice, a baseline that needs other samples, or a
      count below one.
  """
  settings.one_of(config, policy=POLICIES, baseline=BASELINES,
                  selection=("sample", "argmax"), dtype=DTYPES)
  settings.at_least_one(
      config, "epochs", "batch_size", "inputs", "samples", "candidates")
  settings.not_negative(
      config, "learning_rate", "final_learning_rate", "momentum",
      "weight_decay", "max_grad_norm", "policy_learning_rate",
      "entropy_weight")
  settings.other_samples(config)
  if not 0 <= config.warmup_epochs < config.epochs:
    raise errors.InputError(
        f"warmup-epochs is {config.warmup_epochs} and must lie in [0, epochs)"
        f" with epochs {config.epochs}, since the policy needs epochs too; pass"
        " a smaller --warmup-epochs")
  if not 0 < config.weights_fraction < 1:
    raise errors.InputError(
        f"weights-fraction is {config.weights_fraction} and must lie between 0"
        " and 1; the rest of the images trains the policy")
  gcn.check_layers(config.gcn_layers)
  return config


def check_size(config: NATConfig, blocks: bool) -> None:
  """Refuses sizes that do not apply to the kind of architecture."""
  names = ("init_channels", "cells") if blocks else ("supernet_width",)
  for name in names:
    value, unset = getattr(config, name), 0 if blocks else 1.0
    if value != unset:
      option = name.replace("_", "-")
      kind = "a network of blocks" if blocks else "cells"
      raise errors.InputError(
          f"{option} is {value} and does not apply to {kind}; leave --{option}"
          f" out (in Python: {name}={unset})")
