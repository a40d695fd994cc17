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
- Sampled input architectures are drawn around the given one (`focus`), and hold
  null connections, so that null-to-skip is trained; every node keeps a signal.
- Rewards are taken on images that are not augmented.
- The baseline is the mean reward of the other samples of the same input
  (leave one out), where there are other samples.
- Edges into nodes that no longer lead to an output become null (`inference`).
- Only a candidate that scores surely better than the given architecture is
  preferred to it, or, if so asked, the cheapest of those whose score is within
  one standard error of the best (`choice`); the preset "paper" takes the best
  score.
- The best few are tried on images that the search has not seen, and one that
  is worse there is not returned (`acceptance`, `pipeline.trials`); not so with
  the preset "paper".
And always: the last, smaller batch of an epoch is left out; candidates are
scored on the policy's split and the input is itself a candidate, unless it is
over a budget. Batch statistics are used throughout, as there. What is
transformed is a domain's affair (`spaces`): cells, or a network of blocks,
whose random inputs differ from the given one in operations alone.

Weights are an option (`begin`, `inherit`): the supernet then begins with those
of the given network, `networks.inherit.held`, and a network that it comes to
may begin with what the supernet holds for it. Both need a supernet of the
network's own size, and its BN is affine, so that with the given architecture it
computes what the network does, normalised by the batch. Without, nothing is
inherited, as in the papers.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import data as data_lib
from natjax import drawing, errors, spaces
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec, keeping, records
from natjax.methods import (
    aims,
    bounds,
    candidates,
    choice,
    inference,
    listed,
    memory,
    nat_config,
    supervised,
)
from natjax.methods import entry as entry_lib
from natjax.networks import inherit
from natjax.networks import network as network_lib
from natjax.networks import supernet as supernet_lib
from natjax.objectives import classification as objectives
from natjax.policies import policy as policy_lib
from natjax.policies import sampling
from natjax.spaces import ground as ground_lib
from natjax.spaces import inputs
from natjax.training import method as base
from natjax.training import optimizers, settings

NATConfig = nat_config.NATConfig


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
  drawn: arrays_lib.CellArrays


def advantages(rewards: jax.Array, baseline: str,
               average: jax.Array) -> jax.Array:
  """Computes reward minus baseline.

  Args:
    rewards: f32[m, n].
    baseline: one of `nat_config.BASELINES` but "auto".
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


def next_average(rewards: jax.Array, baseline: str, average: jax.Array,
                 decay: float = 0.99) -> jax.Array:
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
    learns: whether there is a policy to learn.
    resolve: fills in settings for a kind of architecture, and checks them.
    config: the settings.
    ground: the search space at its places, with the transition table.
    supernet: the supernet.
    policy: the policy.
    sample: draws an input architecture beta ~ p.
    compiled_sample: `sample_actions`, compiled once.
    compiled_best: `best_actions`, compiled once.
    final_dtype: of the networks that are trained at the end.
    bounds: budgets, by settings and given architectures (`inference`).
  """

  scheme = "nat"
  smoothing = 1e-5
  learns = True
  resolve: Callable[[Any, str], Any] = staticmethod(nat_config.resolve)

  def __init__(self, config: NATConfig, space: spaces.Space, *,
               num_classes: int, image_size: int,
               targets: Sequence[records.Place] = (), steps_per_epoch: int = 1,
               num_devices: int = 1,
               given: codec.Architecture | None = None,
               others: Sequence[codec.Architecture] = (),
               inherits: bool = False, final_dtype: str = "float32",
               criterion: objectives.Criterion = objectives.CROSS_ENTROPY):
    """Args:
      config: the settings.
      space: the search space.
      num_classes: of the data.
      image_size: side of the images.
      targets: places, besides the supernet's, in which no transformation may
        raise the cost; the first is that of the network trained at the end,
        whose embedding the supernet has, too.
      steps_per_epoch: updates of the weights per epoch.
      num_devices: D, over which updates will be mapped.
      given: the architecture to transform, around which inputs are drawn unless
        the settings' focus is general; without it they always are.
      others: further ones, around which they are drawn, too.
      inherits: whether the supernet shares weights with trained networks; its
        BN is then affine, as theirs is.
      final_dtype: of the networks that are trained at the end, in which their
        latency is measured and their memory counted.
      criterion: what the supernet's weights minimise; where it divides some of
        them, devices do.

    Raises:
      InputError: settings that do not fit together, cells too large for the
        policy, or a supernet of another size than the network at the end, with
        which it is to share weights.
    """
    self.num_devices = num_devices
    self.final_dtype = final_dtype
    self._criterion = criterion.over(num_devices)
    self._divided = base.parts_of(self._criterion.divides)
    self.bounds: dict[Any, bounds.Bounds] = {}
    self.config = config = nat_config.resolve(config, space.graph.kind)
    self.published = config.policy == "published"
    self.baseline = config.baseline
    if self.baseline == "auto":
      self.baseline = "published" if self.published else (
          "leave_one_out" if config.samples > 1 else "none")
    place = codec.place(
        space.graph.kind, "cifar", config.init_channels, config.cells,
        num_classes=num_classes, image_size=image_size,
        embedding=targets[0].embedding if targets else 0)
    self.ground = ground_lib.Ground(
        space, place, targets, scheme=self.scheme, published=self.published,
        smoothing=self.smoothing, width=config.supernet_width, others=others)
    self.table = self.ground.table
    if self.learns:
      sampling.check_nodes(self.ground.shape[1], self.table)
    # A supernet never holds what no transformation reaches.
    self.supernet = supernet_lib.Supernet(
        space if space.inputs is not None else self.ground.around(), place,
        jnp.dtype(config.dtype), config.supernet_width,
        "running" if inherits else "batch")
    # That of the features, where devices divide the last layer.
    self._embedder = dataclasses.replace(
        self.supernet, place=place._replace(num_classes=0)
    ) if self._divided else None
    self.given = given
    if inherits:
      _check_shared(config, place, targets[0], self.supernet)
    self.policy = policy_lib.CellPolicy(
        self.ground, layers=config.gcn_layers, published=self.published)
    around = [] if self.published or config.focus == "general" else [
        self.ground.encode(one) for one in (given, *others) if one is not None]
    self.sample = inputs.sampler(
        self.ground, published=self.published, given=around)
    self.compiled_sample = jax.jit(self.sample_actions, static_argnums=3)
    self.compiled_best = jax.jit(self.best_actions)
    self.optimizer = optimizers.scheduled(
        config, (config.epochs - config.policy_epochs) * steps_per_epoch,
        divided=self._divided)
    momentum, decay = (0.5, 5e-4) if self.published else (0.9, 0.0)
    self.policy_optimizer = optimizers.coupled(
        "adam", config.policy_learning_rate, momentum=momentum,
        weight_decay=decay)

  @staticmethod
  def fractions(config: Any) -> dict[str, float]:
    """Of the training images, for every split of the phases."""
    return {"weights": config.weights_fraction,
            "policy": 1 - config.weights_fraction}

  def estimate(self, batch: int) -> dict[str, Any]:
    """Of the supernet; see `entry.Plan`."""
    return {**memory.supernet(self.supernet, batch),
            "madds": round(self.supernet.plan.madds())}

  def check_budget(self, given: codec.Architecture) -> None:
    """Refuses a budget that no transformation can keep to.

    Raises:
      InputError: see `aims.budget`.
      errors.NotMet: see there.
    """
    aims.budget(self, given)

  def method(self) -> base.Method:
    """The record that `training.fit` drives."""
    phases = (
        base.Phase("weights", ("weights",), self.update_weights,
                   ("loss", "accuracy"), passes=3 * self.config.inputs),
        base.Phase("policy", ("policy",), self.update_policy,
                   ("loss", "reward", "entropy", "accuracy", "changed"),
                   augment=self.published, passes=self.config.inputs * (
                       1 + self.config.samples)))
    warmup, alone = self.config.warmup_epochs, self.config.policy_epochs
    return base.Method(
        init=self.init, stages=(
            base.Stage("warmup", warmup, phases[:1]),
            base.Stage("search", self.config.epochs - warmup - alone, phases),
            # Where there is none, a run is in the stages that it always had.
            *([base.Stage("policy", alone, phases[1:])] if alone else [])),
        derive=self.derive, explain=self.explain, divided=self._divided)

  def init(self, rng: jax.Array) -> NATState:
    """Draws the state that training starts from."""
    rng_w, rng_policy, rng_state = jax.random.split(rng, 3)
    params = self._criterion.filled(self.supernet.init(rng_w)["params"])
    lead = (self.num_devices, self.config.inputs)
    zeros = lambda: jnp.zeros((*lead, *self.ground.shape), jnp.int32)
    drawn = arrays_lib.CellArrays(
        source=zeros(), operation=zeros(),  # Both are donated.
        concat=jnp.ones((*lead, *self.ground.shape[:2]), bool))
    policy = self.init_policy(rng_policy)
    return NATState(
        step=jnp.zeros((), jnp.int32), params=params,
        opt_state=jax.jit(self.optimizer.init)(params), policy=policy,
        policy_opt_state=jax.jit(self.policy_optimizer.init)(policy),
        baseline=jnp.zeros(()), rng=rng_state, drawn=drawn)

  def init_policy(self, rng: jax.Array) -> Any:
    """Draws the policy's parameters."""
    return self.policy.init(rng)

  def begin(self, variables: Any, rng: jax.Array) -> NATState:
    """The state that training starts from, of a trained network's variables.

    Args:
      variables: of the given architecture, "params" and "batch_stats".
      rng: a key.
    """
    assert self.given is not None  # Whose weights they are.
    state = self.init(rng)
    network = network_lib.module(self.given, self.supernet.place)
    variables = inherit.renumbered(variables, jax.eval_shape(
        functools.partial(network_lib.init, network), rng))
    found = inherit.held(
        self.supernet, {"params": jax.device_get(self.whole(state)),
                        "batch_stats": self._statistics},
        self.given, variables)
    return state._replace(params=self._criterion.filled(
        jax.tree.map(jnp.asarray, found["params"])))

  def inherit(self, state: NATState, architecture: codec.Architecture) -> Any:
    """The variables that a network of an architecture begins with.

    The running statistics are those of a network that is drawn: the supernet
    normalises by the batch, and keeps none.
    """
    return inherit.variables(
        self.supernet, {"params": jax.device_get(self.whole(state)),
                        "batch_stats": self._statistics}, architecture)

  def whole(self, state: NATState) -> Any:
    """The supernet's parameters, without what filled them up."""
    return self._criterion.whole(
        state.params, self.supernet.place.num_classes)

  @functools.cached_property
  def _statistics(self):
    """Running statistics as they are drawn, of a supernet that has them."""
    with jax.ensure_compile_time_eval():  # A program may be the first to ask.
      return jax.device_get(
          self.supernet.init(jax.random.key(0)))["batch_stats"]

  def logits(self, params: Any, cells: arrays_lib.CellArrays,
             images: jax.Array, supernet: supernet_lib.Supernet | None = None
             ) -> jax.Array:
    """f32[B, K] of one architecture, normalised by the batch.

    Args:
      params: of the supernet, whole.
      cells: `CellArrays` [G, N, K].
      images: [B, H, W, 3].
      supernet: another of the same parameters.
    """
    supernet = supernet or self.supernet
    if supernet.norm == "batch":
      return supernet.apply(params, cells, images)
    return supernet.run(
        {"params": params, "batch_stats": self._statistics},
        supernet.selected(cells), images)[0]

  def sample_inputs(self, rng: jax.Array) -> arrays_lib.CellArrays:
    """Draws m input architectures: `CellArrays` of shape [m, G, N, K]."""
    return jax.vmap(self.sample)(jax.random.split(rng, self.config.inputs))

  def inputs_at(self, state: NATState, rng: jax.Array) -> arrays_lib.CellArrays:
    """`sample_inputs`; a subclass may draw them by what its state holds."""
    del state
    return self.sample_inputs(rng)

  def accuracies(self, state: NATState, cells: arrays_lib.CellArrays,
                 batch: base.Batch) -> jax.Array:
    """What rewards are differences of, f32[R], of `CellArrays` [R, G, N, K].

    The supernet's accuracies on a batch. A map, not a vmap, keeps the selection
    of operations (DESIGN.md).
    """
    return lax.map(lambda one: self.loss(state.params, one, batch)[1], cells)

  def loss(self, params: Any, cells: arrays_lib.CellArrays,
           batch: base.Batch) -> tuple[jax.Array, jax.Array]:
    """The loss L(beta, w) and the accuracy of one architecture, f32[].

    L is the cross-entropy, or what the criterion says. Rewards are of the
    accuracy: of identities that are learnt by their angles, too. Where devices
    divide parameters, `params` has this device's.
    """
    if self._embedder is not None:
      return self._criterion.divided(
          self.logits(params, cells, batch["image"], self._embedder), params,
          batch["label"], self.supernet.place.num_classes)
    logits = self.logits(params, cells, batch["image"])
    return (self._criterion(logits, batch["label"]),
            jnp.mean(objectives.right(logits, batch["label"])))

  def update_weights(self, state: NATState, batch: base.Batch
                     ) -> tuple[NATState, dict[str, jax.Array]]:
    """Algorithm 1, lines 5 and 6: descends the mean loss of m sampled betas."""
    rng, rng_draw = jax.random.split(state.rng)
    betas = self.inputs_at(state, base.device_key(rng_draw))

    def one(beta):
      return jax.value_and_grad(self.loss, has_aux=True)(
          state.params, beta, batch)

    (loss, accuracy), grads = _mean_over(one, betas)
    grads = base.mean_over_devices(
        grads, self._divided(grads) if self._divided else None)
    metrics = base.mean_over_devices({"loss": loss, "accuracy": accuracy})
    return supervised.descend(
        self.optimizer, state, grads, step=state.step + 1, rng=rng,
        drawn=lax.all_gather(betas, base.AXIS)), metrics

  def log_prob(self, policy, cells, actions) -> jax.Array:
    """log pi(alpha | beta), f32[]; actions i32[G, N, K]."""
    return self.policy.log_prob(policy, cells, actions)

  def entropy(self, policy, cells) -> jax.Array:
    """H(pi(. | beta)), f32[], the sum over all cells."""
    return self.policy.entropy(policy, cells)

  def sample_actions(self, rng, policy, cells, count: int,
                     tilt: jax.Array | float = 0.0) -> jax.Array:
    """Draws `count` transformations, i32[count, G, N, K], of one input.

    Args:
      rng: a key.
      policy: the policy's parameters.
      cells: `CellArrays` [G, N, K].
      count: how many to draw.
      tilt: f32[G, N, K, A] or a number, added to the logits.
    """
    keys = jax.random.split(rng, (count, cells.source.shape[0]))
    return jax.vmap(lambda key: self.policy.each_cell(
        sampling.sample, policy, cells, tilt, rng=key))(keys)

  def best_actions(self, policy, cells) -> jax.Array:
    """The likeliest action of each edge in turn, i32[G, N, K]."""
    return self.policy.mode(policy, cells)

  def update_policy(self, state: NATState,
                    batch: base.Batch) -> tuple[NATState, dict[str, jax.Array]]:
    """Algorithm 1, lines 11 to 13: ascends equation 5."""
    rng, rng_draw = jax.random.split(state.rng)
    rng_beta, rng_alpha = jax.random.split(base.device_key(rng_draw))
    m, n = self.config.inputs, self.config.samples
    betas = self.inputs_at(state, rng_beta)
    actions = jax.vmap(
        lambda key, beta: self.sample_actions(key, state.policy, beta, n))(
            jax.random.split(rng_alpha, m), betas)  # [m, n, 2, N, 2]
    alphas = jax.vmap(jax.vmap(
        functools.partial(sampling.apply_actions, table=self.table),
        (None, 0)))(betas, actions)

    everything = jax.tree.map(
        lambda b, a: jnp.concatenate([b[:, None], a], axis=1).reshape(
            -1, *b.shape[1:]), betas, alphas)
    accuracy = self.accuracies(state, everything, batch).reshape(m, n + 1)
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
    changed = jnp.mean((alphas.operation != betas.operation[:, None]).astype(
        jnp.float32))
    metrics = {"loss": loss, "reward": jnp.mean(rewards), "entropy": entropy,
               "accuracy": jnp.mean(accuracy[:, 1:]), "changed": changed}
    average = next_average(rewards, self.baseline, state.baseline)
    grads, metrics, average = base.mean_over_devices((grads, metrics, average))
    updates, opt_state = self.policy_optimizer.update(
        grads, state.policy_opt_state, state.policy)
    return state._replace(policy=optax.apply_updates(state.policy, updates),
                          policy_opt_state=opt_state, baseline=average, rng=rng,
                          drawn=lax.all_gather(betas, base.AXIS)), metrics

  def derive(self, state: NATState, given: codec.Architecture | None,
             score: base.Walk, rng: jax.Array) -> base.Derived:
    """Transforms an architecture by its scores on the policy's split.

    See `inference.derive`; the batches of the scores are whole, since the
    supernet normalises by the batch.
    """
    assert given is not None  # As the entry says.
    best, report = inference.derive(
        self, state.policy, given, self.answer(state, score), rng)
    return base.Derived(best, None, report)

  def answer(self, state: NATState, score: base.Walk) -> Callable[
      [Sequence[arrays_lib.CellArrays]], choice.Answers]:
    """What asks the supernet about up to k + 1 candidates; see `inference`."""
    def answer(cells):
      # Padded, so that any number of candidates shares one program.
      count, most = len(cells), self.config.candidates + 1
      every = jax.tree.map(lambda *x: np.stack(x), *cells,
                           *cells[:1] * (most - count))
      found = score(self._answers, (self.whole(state), every, np.int32(count)),
                    split="policy", total=True)
      return choice.Answers(int(found["images"]), found["both"][
          :count, :count].astype(int))

    return answer

  def right(self, argument: Any, batch: base.Batch) -> jax.Array:
    """Where architectures are right in the supernet, f32[B, k].

    Args:
      argument: the weights, `CellArrays` [k, G, N, K], and how many of the k
        are asked; the others are never right.
      batch: images and labels.
    """
    params, every, count = argument
    labels = batch["label"]

    def ask(i, found):
      cells = jax.tree.map(lambda x: x[i], every)
      logits = self.logits(params, cells, batch["image"])
      return found.at[:, i].set(objectives.right(logits, labels))

    return lax.fori_loop(
        0, count, ask, jnp.zeros((len(labels), len(every.source))))

  def _answers(self, argument, batch):
    """Where two architectures are both right, f32[B, k, k]; see `right`."""
    right = self.right(argument, batch)
    return {"images": jnp.ones(len(right)),
            "both": right[:, :, None] * right[:, None]}

  def explain(self, state: NATState) -> str:
    """The architectures that the last update drew, per device."""
    drawn = lambda *at: codec.to_line(self.ground.decode(
        jax.tree.map(lambda a: a[at], state.drawn)))
    return "; ".join(f"device {d}: {drawn(d, i)}" for d, i in np.ndindex(
        state.drawn.source.shape[:2]))


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
  add = lambda total, item: (jax.tree.map(jnp.add, total, function(item)), None)
  total, _ = lax.scan(add, zeros, items)
  return jax.tree.map(lambda a: a / count, total)


def build(kind: type[NAT], request: entry_lib.Request) -> entry_lib.Plan:
  """What a job needs to run NAT or NAT++; see `entry`."""
  given = request.architecture
  assert given is not None  # As the entry says.
  given, *others = map(codec.pad, (given, *request.others))
  config = kind.resolve(request.settings, given.kind)
  for number, one in enumerate((given, *others), 1):
    with errors.naming(f"architecture {number}" * bool(others)):
      keeping.read(config.keep, one)  # A space's graph may have more.
  space = spaces.space_for(
      given, name=request.space, method=kind.scheme, share=request.share,
      others=others)._replace(keep=config.keep)
  fractions = kind.fractions(config)
  weights, *_ = data_lib.split(
      request.num_images, tuple(fractions.values()), seed=0,
      field="weights_fraction")
  method = kind(config, space, num_classes=request.num_classes,
                image_size=request.image_size, targets=(request.place,),
                steps_per_epoch=len(weights) // config.batch_size,
                num_devices=request.num_devices, given=given,
                others=others, inherits=request.inherits,
                final_dtype=request.train.dtype, criterion=request.criterion)
  for number, one in enumerate((given, *others), 1):
    with errors.naming(f"architecture {number}" * bool(others)):
      keeping.check_left(config.keep, aims.changeable(method, one))
      method.check_budget(one)

  every = (given, *others)
  plan = entry_lib.Plan(
      method.method(), config, given, space.describe(), fractions,
      config.batch_size, method.estimate, config.dtype, others=tuple(others),
      bounds=tuple(aims.bounds_of(method, one) for one in every),
      prepare=functools.partial(candidates.prepare, method, every) if (
          config.max_latency) else None)
  return plan._replace(begin=method.begin, inherit=method.inherit) if (
      request.inherits) else plan


def _check_shared(config, place, target, supernet):
  """Refuses a supernet that cannot share the weights of a trained network."""
  if supernet.plan.network.norm == "bias":
    raise errors.InputError(
        "the given network has no BN, and a supernet of it would not train"
        " without; leave --weights and --train-from out, or give another",
        "weights")
  if config.supernet_width != 1:
    settings.refuse(config, "supernet_width", "must be 1 to share the weights"
                    " of networks that are trained; leave it out")
  if place == target:
    return
  if place.kind != target.kind:
    raise errors.InputError(
        f"skeleton is {target.kind} and must be {place.kind} to share weights"
        " with the supernet; leave --weights and --train-from out",
        "train.skeleton")
  name = "cells" if place.init_channels == target.init_channels else (
      "init_channels")
  settings.refuse(
      config, name, f"must be {getattr(target, name)} to share the weights of"
      " the networks that are trained; give --init-channels"
      f" {target.init_channels} --cells {target.cells}")


def entry(kind: type[NAT], text: str) -> entry_lib.Entry:
  """The entry of NAT or of NAT++."""
  return entry_lib.Entry(
      NATConfig, functools.partial(build, kind), nat_config.preset, text,
      objectives=("supervised", "arcface"), spaces=True, unions=True,
      kept="The original was kept: no sampled transformation was found to"
      " be better (surely so, where that is preferred), or as good and cheaper"
      " (where cost is).",
      charts={"pareto.svg": drawing.save_pareto})


ENTRY = entry(NAT, listed.LINES["nat"])
