"""The last program of a replacement: what was chosen is tuned, and compared."""

import functools
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import optax

from natjax.graph import codec, records
from natjax.methods import replace_config, supervised
from natjax.networks import network as network_lib
from natjax.objectives import classification as objectives
from natjax.training import method as base
from natjax.training import optimizers


class TuneState(NamedTuple):
  """While what was chosen is tuned, and compared.

  Attributes:
    step: i32[], updates so far.
    params: of the chosen network.
    batch_stats: its running statistics.
    opt_state: of `params`.
    held: variables of all operations, to choose others from.
    original: variables of the given network, as it was given.
    pairs: i32[3], held-out images, and those that the chosen network alone and
      the original alone got right.
    rng: a key, split anew at every update.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  held: Any
  original: Any
  pairs: jax.Array
  rng: jax.Array


class Tuning:
  """How a chosen network is tuned, towards labels and the original."""

  def __init__(self, config: replace_config.ReplaceConfig,
               train: supervised.FullTrainConfig, given: codec.Architecture,
               place: records.Place, steps: int,
               watch: supervised.Watch | None = None):
    """Args:
      config: the settings, resolved.
      train: those of the training.
      given: the original.
      place: where it stands.
      steps: updates per epoch.
      watch: see `supervised.Supervised`.
    """
    self.config, self._steps, self._watch = config, steps, watch
    self._train, self._given, self._place = train, given, place

  @functools.cached_property
  def _optimizer(self):
    train, config = self._train, self.config
    return optimizers.coupled(
        train.optimizer, optimizers.cosine(
            config.tune_learning_rate, config.tune_epochs * self._steps),
        momentum=train.momentum, weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm)

  def start(self, own: Any, held: Any, original: Any,
            rng: jax.Array) -> TuneState:
    """The first state.

    Args:
      own: variables of the chosen network.
      held: those of all operations.
      original: those of the original.
      rng: a key.
    """
    # Apart from what is held: both are donated.
    own = jax.device_put(own, may_alias=False)
    return TuneState(
        step=jnp.zeros((), jnp.int32), **own,
        opt_state=jax.jit(self._optimizer.init)(own["params"]), held=held,
        original=original, pairs=jnp.zeros(3, jnp.int32), rng=rng)

  def stages(self, objective: objectives.Classification,
             last: bool) -> list[base.Stage]:
    """A network is tuned, and compared if it is the last.

    Args:
      objective: of the network.
      last: whether no other may follow.
    """
    tune, compare = self._phases(objective)
    stages = [base.Stage("tune", self.config.tune_epochs, (tune,))]
    if last and self.config.held_out:
      stages.append(base.Stage("compare", 1, (compare,)))
    return stages

  @functools.lru_cache(maxsize=16)  # noqa: B019
  def _phases(self, objective):
    """The same ones for all seeds, which share what is compiled."""
    observe = None
    if self._watch is not None:
      observe = functools.partial(self._watch, base.Method(
          init=no_init, stages=(), evaluate=functools.partial(
              self._is_right, objective)))
    return (
        base.Phase("tune", ("train",), functools.partial(
            self.update_network, objective), ("loss", "accuracy"),
                   observe=observe),
        base.Phase("compare", ("held_out",), functools.partial(
            self.update_pairs, objective), ("difference",), augment=False))

  @functools.cached_property
  def _teacher(self):
    return network_lib.module(self._given, self._place)

  def update_network(
      self, objective: objectives.Classification, state: TuneState,
      batch: base.Batch) -> tuple[TuneState, dict[str, jax.Array]]:
    """One step of the tuning: labels, and the original's predictions."""
    share, degree = self.config.distillation, self.config.temperature
    rng, rng_drop = jax.random.split(state.rng)

    def gradient(batch, batch_stats, rng):
      wanted = jax.nn.softmax(predict(
          self._teacher, state.original, batch["image"]) / degree)

      def loss(params):
        outputs, stats = objective.forward(
            params, batch_stats, batch["image"], rng, drop_path=None)
        apart = degree**2 * jnp.mean(optax.softmax_cross_entropy(
            outputs[0] / degree, wanted))
        total = (1 - share) * objective.cross_entropy(
            outputs, batch["label"]) + share * apart
        right = jnp.mean(objectives.right(outputs[0], batch["label"]))
        return total, (stats, {"loss": total, "accuracy": right})

      grads, (stats, metrics) = jax.grad(loss, has_aux=True)(state.params)
      return grads, stats, metrics

    grads, stats, metrics = supervised.in_parts(
        gradient, self._train.accumulate, state.params, batch,
        state.batch_stats, base.device_key(rng_drop))
    grads, stats, metrics = base.mean_over_devices((grads, stats, metrics))
    return supervised.descend(
        self._optimizer, state, grads, batch_stats=stats,
        step=state.step + 1, rng=rng), metrics

  def update_pairs(
      self, objective: objectives.Classification, state: TuneState,
      batch: base.Batch) -> tuple[TuneState, dict[str, jax.Array]]:
    """Counts which of the two networks is right on a held-out batch."""
    theirs = objectives.right(predict(
        self._teacher, state.original, batch["image"]), batch["label"])
    return counted(state, self._is_right(objective, state, batch), theirs,
                   batch["label"])

  def _is_right(self, objective, state, batch):
    """f32[B], 1 where the chosen network is right."""
    return objective.is_right(supervised.variables(state), batch)


def no_init(rng: jax.Array) -> Any:
  """The `init` of a program that begins with what was handed over."""
  raise AssertionError("it begins with what was handed over")


def predict(network: network_lib.Network, variables: Any,
            images: jax.Array) -> jax.Array:
  """Logits of a network by its running statistics.

  Args:
    network: its module, without an auxiliary head.
    variables: of the network, which may have those of such a head beside.
    images: [B, H, W, 3].
  """
  known = {kind: {name: part for name, part in tree.items()
                  if name != "auxiliary"} for kind, tree in variables.items()}
  return network.apply(known, images)[0]


def counted(state: Any, ours: jax.Array, theirs: jax.Array,
            labels: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
  """A state with the pairs of a batch added, and their difference.

  That of a batch is such that its mean over batches is the one of all images,
  of which the last batch may have fewer.

  Args:
    state: with "pairs".
    ours: f32[B], 1 where the changed network is right.
    theirs: the same of the other.
    labels: i32[B].
  """
  there = labels >= 0  # Not what fills up the last batch.
  counts = jnp.array([
      jnp.sum(there), jnp.sum(there & (ours > theirs)),
      jnp.sum(there & (theirs > ours))], jnp.int32)
  size = lax.psum(len(labels), base.AXIS)
  pairs = state.pairs + lax.psum(counts, base.AXIS)
  # Times the batches so far, which are as many as hold the images.
  whole = lambda pairs: -(-pairs[0] // size) * (
      pairs[1] - pairs[2]) / jnp.maximum(pairs[0], 1)
  return state._replace(pairs=pairs), {
      "difference": whole(pairs) - whole(state.pairs)}
