"""NAT: Neural Architecture Transformer.

Guo, Zheng, Tan, Chen, Wang, Chen, Zhao, Huang: "NAT: Neural Architecture
Transformer for Accurate and Compact Architectures", NeurIPS 2019; section 3 of
"Towards Accurate and Compact Architectures via Neural Architecture
Transformer", TPAMI 2021 (equations and Algorithm 1 by its numbers).

A supernet is trained on sampled architectures; a graph convolutional policy is
trained by REINFORCE to replace operations by skip or null connections where
that helps the supernet's accuracy; at the end the given architecture is
transformed by the best of k samples.

How this differs from the released code, unless `policy="published"`:
- The policy sees the operations it decides about (`policies.gcn`).
- Nothing that is sampled raises the cost of an edge or cuts a node off
  (`transitions`, `policies.sampling`).
- Sampled input architectures hold null connections, at most one per node, so
  that null-to-skip is trained; every node keeps a signal.
- Rewards are taken on images that are not augmented.
- The baseline is the mean reward of the other samples of the same input
  (leave one out), where there are other samples.
And always: the last, smaller batch of an epoch is left out; candidates are
scored on the policy's split and the input is itself a candidate, so what comes
out never scores worse than what went in. Batch statistics are used throughout,
as there.
"""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import architecture as architecture_lib
from natjax import errors
from natjax import operations
from natjax import skeleton as skeleton_lib
from natjax import spaces
from natjax import transitions
from natjax.methods import base
from natjax.networks import supernet as supernet_lib
from natjax.policies import gcn
from natjax.policies import sampling
from natjax.training import optimizers

BASELINES = ("auto", "leave_one_out", "none", "moving_average", "published")
POLICIES = ("default", "published")


@dataclasses.dataclass(frozen=True)
class NATConfig:
  """Settings of the search. The defaults are section 5.1's where it has any.

  Attributes:
    init_channels: C of the supernet.
    cells: L of the supernet.
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
    weights_fraction: of the training images for the supernet's weights; the
      others are the policy's.
    dtype: "float32" or "bfloat16", of the supernet's computation.
  """

  init_channels: int = 20
  cells: int = 8
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
  weights_fraction: float = 0.4
  dtype: str = "float32"


class NATState(NamedTuple):
  """Everything a resumed run needs.

  Attributes:
    step: i32[], updates of the weights so far.
    params: the supernet's weights w.
    opt_state: of w.
    policy: the policy's parameters theta.
    policy_opt_state: of theta.
    baseline: f32[], the moving average, where one is used.
    rng: a key, split anew at every update.
    drawn: `CellArrays` [D, m, 2, N, 2], the inputs that the last update drew
      on each device, to name the culprit of a failed step.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  policy: Any
  policy_opt_state: Any
  baseline: jax.Array
  rng: jax.Array
  drawn: architecture_lib.CellArrays


def check(config: NATConfig) -> NATConfig:
  """Returns the settings if they fit together.

  Raises:
    InputError: an unknown choice, a baseline that needs other samples, or a
      count below one.
  """
  for name, allowed in (("policy", POLICIES), ("baseline", BASELINES),
                        ("selection", ("sample", "argmax")),
                        ("dtype", ("float32", "bfloat16"))):
    value = getattr(config, name)
    if value not in allowed:
      raise errors.InputError(
          f"{name} is '{value}'; choose one of {', '.join(allowed)}")
  for name in ("epochs", "batch_size", "inputs", "samples", "candidates"):
    if getattr(config, name) < 1:
      option = name.replace("_", "-")
      raise errors.InputError(
          f"{option} is {getattr(config, name)} and must be at least 1; pass a"
          f" larger --{option}")
  for name in ("learning_rate", "final_learning_rate", "momentum",
               "weight_decay", "max_grad_norm", "policy_learning_rate",
               "entropy_weight"):
    if getattr(config, name) < 0:
      option = name.replace("_", "-")
      raise errors.InputError(
          f"{option} is {getattr(config, name)} and must not be negative;"
          f" pass 0 or more with --{option}")
  if config.baseline == "leave_one_out" and config.samples == 1:
    raise errors.InputError(
        "baseline 'leave_one_out' needs other samples and samples is 1; pass"
        " --samples 2 or more, or another --baseline")
  if not 0 <= config.warmup_epochs < config.epochs:
    raise errors.InputError(
        f"warmup-epochs is {config.warmup_epochs} and must lie in [0, epochs)"
        f" with epochs {config.epochs}; the policy needs epochs too")
  if not 0 < config.weights_fraction < 1:
    raise errors.InputError(
        f"weights-fraction is {config.weights_fraction} and must lie between 0"
        " and 1; the rest of the images trains the policy")
  gcn.check_layers(config.gcn_layers)
  return config


def sample_cell(
    rng: jax.Array,
    reduction: jax.Array | bool,
    num_nodes: int,
    stand_in: np.ndarray,
    *,
    nulls: bool,
    loose_end: bool,
) -> architecture_lib.CellArrays:
  """Draws an input cell beta ~ p.

  Sources are uniform over all earlier nodes, with replacement; operations are
  uniform. `null` is the last operation.

  Args:
    rng: a key.
    reduction: whether it is a reduction cell.
    num_nodes: N.
    stand_in: i32[2, O], what takes the place of a drawn operation at stride 1
      (row 0) and 2: itself, or a skip where it cannot stand (`stand_ins`).
    nulls: whether to draw null connections too, at most one per node, so that
      every node carries a signal.
    loose_end: whether only nodes that feed no other are concatenated.

  Returns:
    `CellArrays` of shape [N, 2].
  """
  rng_source, rng_operation, rng_other = jax.random.split(rng, 3)
  shape = (num_nodes, 2)
  earlier = jnp.arange(num_nodes)[:, None] + architecture_lib.NUM_INPUTS
  source = jax.random.randint(rng_source, shape, 0, earlier)
  null = stand_in.shape[1] - 1
  operation = jax.random.randint(rng_operation, shape, 0,
                                 null + 1 if nulls else null)
  other = jax.random.randint(rng_other, (num_nodes,), 0, null)
  both_null = jnp.all(operation == null, axis=1)
  operation = operation.at[:, 1].set(
      jnp.where(both_null, other, operation[:, 1]))
  strided = (source < architecture_lib.NUM_INPUTS) & reduction
  operation = jnp.asarray(stand_in)[strided.astype(jnp.int32), operation]
  nodes = jnp.arange(num_nodes) + architecture_lib.NUM_INPUTS
  used = jnp.any(source.reshape(-1)[:, None] == nodes, axis=0)
  return architecture_lib.CellArrays(
      source=source, operation=operation, concat=~used | (not loose_end))


def stand_ins(candidates: Sequence[str]) -> np.ndarray:
  """i32[2, O]: each operation, or a skip where its stride is impossible."""
  skip = candidates.index(operations.SKIP)
  return np.array([
      [o if stride in operations.get(name).strides else skip
       for o, name in enumerate(candidates)] for stride in (1, 2)], np.int32)


def advantages(
    rewards: jax.Array, baseline: str, average: jax.Array
) -> jax.Array:
  """Computes reward minus baseline.

  Args:
    rewards: f32[m, n].
    baseline: one of `BASELINES` but "auto".
    average: f32[], the moving average.

  Returns:
    f32[m, n]. Leave-one-out: r_j minus the mean of the other n - 1 rewards of
    the same input.
  """
  if baseline == "none":
    return rewards
  if baseline == "leave_one_out":
    n = rewards.shape[1]
    others = jnp.sum(rewards, axis=1, keepdims=True) - rewards
    return rewards - others / (n - 1)
  return rewards - average


def next_average(
    rewards: jax.Array, baseline: str, average: jax.Array, decay: float = 0.99
) -> jax.Array:
  """Updates the moving average; the released code feeds it the advantage."""
  fed = jnp.mean(rewards)
  if baseline == "published":
    fed = fed - average
  return decay * average + (1 - decay) * fed


class NAT:
  """The method's parts, built from its settings; `method` makes the record.

  Attributes:
    scheme: which of `transitions.SCHEMES` says what may become what.
    smoothing: of the published policy's probabilities (`transitions`).
    config: the settings.
    space: the search space.
    supernet: the supernet.
    table: the transition table.
    policy: the policy's module.
  """

  scheme = "nat"
  smoothing = 1e-5

  def __init__(
      self,
      config: NATConfig,
      space: spaces.SearchSpace,
      *,
      num_classes: int,
      image_size: int,
      targets: tuple[skeleton_lib.Skeleton, ...] = (),
      steps_per_epoch: int = 1,
      num_devices: int = 1,
  ):
    """Args:
      config: the settings.
      space: candidate operations and number of nodes.
      num_classes: of the data.
      image_size: side of the images.
      targets: skeletons, besides the supernet's, in which no transformation
        may raise the cost.
      steps_per_epoch: updates of the weights per epoch.
      num_devices: D, over which updates will be mapped.
    """
    self.num_devices = num_devices
    self.config = check(config)
    self.space = space
    skeleton = skeleton_lib.check(skeleton_lib.Skeleton(
        "cifar", config.init_channels, config.cells, num_classes, image_size))
    self.supernet = supernet_lib.Supernet(
        space, skeleton, jnp.dtype(config.dtype))
    self.published = config.policy == "published"
    self.baseline = config.baseline
    if self.baseline == "auto":
      self.baseline = "published" if self.published else (
          "leave_one_out" if config.samples > 1 else "none")
    scheme = transitions.SCHEMES[self.scheme](space.candidates)
    if self.published:
      self.table = transitions.published_table(
          scheme, space.candidates, smoothing=self.smoothing)
    else:
      self.table = transitions.guarded_table(
          scheme, space.candidates, (skeleton, *targets))
    self.policy = gcn.GCNPolicy(
        len(space.candidates), len(self.table.actions), config.gcn_layers,
        self.published)
    self.optimizer = optimizers.sgd(
        optimizers.cosine(config.learning_rate,
                          config.epochs * steps_per_epoch,
                          config.final_learning_rate),
        momentum=config.momentum, weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm)
    self.policy_optimizer = optimizers.adam(
        config.policy_learning_rate,
        **({"b1": 0.5, "weight_decay": 5e-4} if self.published else {}))

  def method(self) -> base.Method:
    """The record that `training.fit` drives."""
    phases = (
        base.Phase("weights", "weights", self.update_weights,
                   ("loss", "accuracy")),
        base.Phase("policy", "policy", self.update_policy,
                   ("loss", "reward", "entropy", "accuracy", "changed"),
                   augment=self.published),
    )
    return base.Method(
        init=self.init,
        stages=(
            base.Stage("warmup", self.config.warmup_epochs, phases[:1]),
            base.Stage("search", self.config.epochs
                       - self.config.warmup_epochs, phases)),
        evaluate=self.evaluate,
        derive=self.derive,
        explain=self.explain,
    )

  def init(self, rng: jax.Array) -> NATState:
    """Draws the state that training starts from."""
    rng_w, rng_policy, rng_state = jax.random.split(rng, 3)
    params = self.supernet.init(rng_w)
    shape = (self.num_devices, self.config.inputs, 2, self.space.num_nodes)
    drawn = architecture_lib.CellArrays(
        source=jnp.zeros((*shape, 2), jnp.int32),
        operation=jnp.zeros((*shape, 2), jnp.int32),
        concat=jnp.ones(shape, bool))
    cell = jax.tree.map(lambda a: a[0, 0, 0], drawn)
    policy = jax.jit(self.policy.init)(rng_policy, cell, 0)["params"]
    return NATState(
        step=jnp.zeros((), jnp.int32), params=params,
        opt_state=jax.jit(self.optimizer.init)(params), policy=policy,
        policy_opt_state=jax.jit(self.policy_optimizer.init)(policy),
        baseline=jnp.zeros(()), rng=rng_state, drawn=drawn)

  def sample_inputs(self, rng: jax.Array) -> architecture_lib.CellArrays:
    """Draws m input architectures: `CellArrays` of shape [m, 2, N, 2]."""
    keys = jax.random.split(rng, (self.config.inputs, 2))
    draw = functools.partial(
        sample_cell, num_nodes=self.space.num_nodes,
        stand_in=stand_ins(self.space.candidates), nulls=not self.published,
        loose_end=self.space.loose_end)
    return jax.vmap(jax.vmap(draw), (0, None))(keys, jnp.arange(2) == 1)

  def loss(
      self, params: Any, cells: architecture_lib.CellArrays, batch: base.Batch
  ) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy L(beta, w) and accuracy of one architecture, f32[]."""
    logits = self.supernet.apply(params, cells, batch["image"])
    loss = optax.softmax_cross_entropy_with_integer_labels(
        logits, batch["label"])
    right = jnp.argmax(logits, -1) == batch["label"]
    return jnp.mean(loss), jnp.mean(right.astype(jnp.float32))

  def update_weights(
      self, state: NATState, batch: base.Batch
  ) -> tuple[NATState, dict[str, jax.Array]]:
    """Algorithm 1, lines 5 and 6: descends the mean loss of m sampled betas."""
    rng, rng_draw = jax.random.split(state.rng)
    betas = self.sample_inputs(base.device_key(rng_draw))

    def one(beta):
      return jax.value_and_grad(self.loss, has_aux=True)(
          state.params, beta, batch)

    (loss, accuracy), grads = _mean_over(one, betas)
    grads = base.mean_over_devices(grads)
    updates, opt_state = self.optimizer.update(
        grads, state.opt_state, state.params)
    metrics = base.mean_over_devices({"loss": loss, "accuracy": accuracy})
    return state._replace(
        step=state.step + 1, params=optax.apply_updates(state.params, updates),
        opt_state=opt_state, rng=rng,
        drawn=lax.all_gather(betas, base.AXIS)), metrics

  def logits(self, policy: Any, cells: architecture_lib.CellArrays):
    """Logits f32[..., 2, N, 2, A] for `CellArrays` [..., 2, N, 2]."""
    apply = lambda cell, reduction: self.policy.apply(
        {"params": policy}, cell, reduction)
    return _over_cells(apply, cells)

  def log_prob(self, policy, cells, actions) -> jax.Array:
    """log pi(alpha | beta), f32[...]; actions i32[..., 2, N, 2]."""
    logits = self.logits(policy, cells)
    each = _over_cells(
        lambda cell, reduction, a, row: sampling.log_prob(
            row, cell, reduction, a, self.table), cells, actions, logits)
    return jnp.sum(each, axis=-1)

  def entropy(self, policy, cells) -> jax.Array:
    """H(pi(. | beta)), f32[...], the sum over both cells."""
    logits = self.logits(policy, cells)
    each = _over_cells(
        lambda cell, reduction, row: sampling.entropy(
            row, cell, reduction, self.table), cells, logits)
    return jnp.sum(each, axis=-1)

  def sample_actions(self, rng, policy, cells, count: int) -> jax.Array:
    """Draws `count` transformations, i32[count, 2, N, 2], of one input."""
    logits = self.logits(policy, cells)
    keys = jax.random.split(rng, (count, 2))
    draw = lambda key: _over_cells(
        lambda cell, reduction, k, row: sampling.sample(
            k, row, cell, reduction, self.table), cells, key, logits)
    return jax.vmap(draw)(keys)

  def best_actions(self, policy, cells) -> jax.Array:
    """The likeliest action of each edge in turn, i32[2, N, 2]."""
    logits = self.logits(policy, cells)
    return _over_cells(
        lambda cell, reduction, row: sampling.mode(
            row, cell, reduction, self.table), cells, logits)

  def update_policy(
      self, state: NATState, batch: base.Batch
  ) -> tuple[NATState, dict[str, jax.Array]]:
    """Algorithm 1, lines 11 to 13: ascends equation 5."""
    rng, rng_draw = jax.random.split(state.rng)
    rng_beta, rng_alpha = jax.random.split(base.device_key(rng_draw))
    m, n = self.config.inputs, self.config.samples
    betas = self.sample_inputs(rng_beta)
    actions = jax.vmap(
        lambda key, beta: self.sample_actions(key, state.policy, beta, n))(
            jax.random.split(rng_alpha, m), betas)  # [m, n, 2, N, 2]
    alphas = sampling.apply_actions(
        _repeat(betas, n), actions, self.table)

    # A map, not a vmap, keeps the selection of operations (DESIGN.md).
    everything = jax.tree.map(
        lambda b, a: jnp.concatenate([b[:, None], a], axis=1), betas, alphas)
    accuracy = lax.map(
        lambda cells: self.loss(state.params, cells, batch)[1],
        jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), everything))
    accuracy = accuracy.reshape(m, n + 1)
    rewards = accuracy[:, 1:] - accuracy[:, :1]  # R(alpha | beta), [m, n]
    advantage = advantages(rewards, self.baseline, state.baseline)

    def objective(policy):
      log_p = jax.vmap(jax.vmap(
          functools.partial(self.log_prob, policy), (None, 0)))(betas, actions)
      entropy = jnp.mean(jax.vmap(functools.partial(
          self.entropy, policy))(betas))
      gain = jnp.mean(log_p * advantage)
      return -gain - self.config.entropy_weight * entropy, entropy

    (loss, entropy), grads = jax.value_and_grad(
        objective, has_aux=True)(state.policy)
    grads = base.mean_over_devices(grads)
    updates, opt_state = self.policy_optimizer.update(
        grads, state.policy_opt_state, state.policy)
    changed = jnp.mean((alphas.operation != betas.operation[:, None]).astype(
        jnp.float32))
    metrics = base.mean_over_devices({
        "loss": loss, "reward": jnp.mean(rewards), "entropy": entropy,
        "accuracy": jnp.mean(accuracy[:, 1:]), "changed": changed})
    average = base.mean_over_devices(
        next_average(rewards, self.baseline, state.baseline))
    return state._replace(
        policy=optax.apply_updates(state.policy, updates),
        policy_opt_state=opt_state, baseline=average, rng=rng,
        drawn=lax.all_gather(betas, base.AXIS)), metrics

  def evaluate(
      self,
      state: NATState,
      batch: base.Batch,
      cells: architecture_lib.CellArrays,
  ) -> jax.Array:
    """f32[B], 1 where the supernet with one architecture is right."""
    logits = self.supernet.apply(state.params, cells, batch["image"])
    return (jnp.argmax(logits, -1) == batch["label"]).astype(jnp.float32)

  def derive(
      self,
      state: NATState,
      genotype: architecture_lib.Genotype,
      score: Any,
      rng: jax.Array,
  ) -> tuple[architecture_lib.Genotype, dict[str, Any]]:
    """Transforms a genotype: the best of k samples and of itself.

    Args:
      state: after training.
      genotype: beta.
      score: `(CellArrays [2, N, 2]) -> float`, accuracy of the supernet on
        whole batches of the policy's split, not augmented.
      rng: a key.

    Returns:
      The genotype with the best score, the input where none is better, and a
      report: every distinct candidate with its score, the input first.
    """
    candidates = self.space.candidates
    beta = architecture_lib.genotype_arrays(genotype, candidates)
    if self.config.selection == "argmax":
      actions = jax.jit(self.best_actions)(state.policy, beta)[None]
    else:
      actions = jax.jit(self.sample_actions, static_argnums=3)(
          rng, state.policy, beta, self.config.candidates)
    found = {genotype: beta}
    for action in jax.device_get(actions):
      # Host arrays, so that all candidates share one compiled scoring.
      alpha = jax.device_get(sampling.apply_actions(beta, action, self.table))
      decoded = architecture_lib.genotype_from_arrays(alpha, candidates)
      # The order of the input's concat is kept.
      decoded = architecture_lib.Genotype(*(
          new._replace(concat=old.concat)
          for new, old in zip(decoded, genotype, strict=True)))
      found.setdefault(decoded, alpha)
    scores = {g: float(score(cells)) for g, cells in found.items()}
    # Of equal scores the first found stays: a change must pay.
    best = max(scores, key=lambda g: scores[g])
    report = {"candidates": [
        {"architecture": architecture_lib.to_dict(g), "score": s,
         "original": g == genotype, "chosen": g == best}
        for g, s in scores.items()]}
    return best, report

  def explain(self, state: NATState) -> str:
    """The architectures that the last update drew, per device."""
    lines = []
    devices, inputs = state.drawn.source.shape[:2]
    for d in range(devices):
      for i in range(inputs):
        cells = jax.tree.map(lambda a, d=d, i=i: a[d, i], state.drawn)
        genotype = architecture_lib.genotype_from_arrays(
            cells, self.space.candidates)
        lines.append(f"device {d}: {architecture_lib.to_darts(genotype)}")
    return "; ".join(lines)


def _mean_over(function, items):
  """Mean of `function` over the leading axis of `items`, one at a time.

  The sums are carried along, so that gradients are never stacked.
  """
  count = jax.tree.leaves(items)[0].shape[0]
  first = jax.tree.map(lambda a: a[0], items)
  if count == 1:
    return function(first)
  shape = jax.eval_shape(function, first)
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shape)
  add = lambda total, item: (
      jax.tree.map(jnp.add, total, function(item)), None)
  total, _ = lax.scan(add, zeros, items)
  return jax.tree.map(lambda a: a / count, total)


def _over_cells(function, cells, *others):
  """`vmap`s `function(cell, reduction, *others)` over axes [..., 2]."""
  depth = cells.source.ndim - 2
  reduction = jnp.broadcast_to(jnp.arange(2), cells.source.shape[:depth])
  for _ in range(depth):
    function = jax.vmap(function)
  return function(cells, reduction, *others)


def _repeat(cells, count):
  """`CellArrays` [m, ...] -> [m, count, ...]."""
  return jax.tree.map(
      lambda a: jnp.broadcast_to(a[:, None], (a.shape[0], count,
                                              *a.shape[1:])), cells)
