"""What was chosen, trained from drawn weights beside what it inherited.

It is compared, image by image on the held-out images, with what would be
returned without it: the chosen network with the weights that it inherited or,
where that was refused, the original.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from natjax.graph import codec, records
from natjax.methods import replace_tune, supervised
from natjax.networks import network as network_lib
from natjax.objectives import classification as objectives
from natjax.training import method as base


class FreshState(NamedTuple):
  """While what was chosen is trained from scratch, and compared.

  Attributes:
    step: i32[], updates so far.
    params: of the network that is trained.
    batch_stats: its running statistics.
    opt_state: of `params`.
    rng: a key, split anew at every update.
    rival: variables of the network that it is compared with.
    pairs: i32[3], held-out images, and those that the trained network alone and
      the rival alone got right.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  rng: jax.Array
  rival: Any
  pairs: jax.Array


class Fresh:
  """How a chosen architecture is trained as any network is, and compared."""

  def __init__(self, train: supervised.FullTrainConfig, place: records.Place,
               steps: int, watch: supervised.Watch | None = None):
    """Args:
      train: settings of the training.
      place: where the networks stand.
      steps: updates per epoch.
      watch: see `supervised.Supervised`.
    """
    self._train, self._place, self._steps = train, place, steps
    self._watch = watch

  @property
  def steps(self) -> int:
    """Updates of the whole training."""
    return self._train.epochs * self._steps

  @functools.lru_cache(maxsize=16)  # noqa: B019
  def _supervised(self, architecture, objective):
    return supervised.Supervised(
        self._train, architecture, num_classes=self._place.num_classes,
        image_size=self._place.image_size, steps_per_epoch=self._steps,
        objective=objective, watch=self._watch)

  def start(self, architecture: codec.Architecture,
            objective: objectives.Classification, rival: Any,
            rng: jax.Array) -> FreshState:
    """The first state, of drawn weights.

    Args:
      architecture: what to train.
      objective: of it.
      rival: variables of the network that it is compared with.
      rng: a key.
    """
    begun = self._supervised(architecture, objective).init(rng)
    return FreshState(
        **begun._asdict(), rival=rival, pairs=jnp.zeros(3, jnp.int32))

  @functools.lru_cache(maxsize=16)  # noqa: B019
  def stages(self, architecture: codec.Architecture,
             objective: objectives.Classification,
             rival: codec.Architecture) -> tuple[base.Stage, base.Stage]:
    """A network is trained, and compared; the same ones for all seeds.

    Args:
      architecture: what to train.
      objective: of it.
      rival: what it is compared with.
    """
    trained, = self._supervised(architecture, objective).method().stages
    train = trained.phases[0]._replace(name="fresh")
    compare = base.Phase(
        "compare", ("held_out",), functools.partial(
            self.update_pairs, objective, rival), ("difference",),
        augment=False)
    return (base.Stage("fresh", self._train.epochs, (train,)),
            base.Stage("compare", 1, (compare,)))

  def update_pairs(
      self, objective: objectives.Classification, rival: codec.Architecture,
      state: FreshState, batch: base.Batch
  ) -> tuple[FreshState, dict[str, jax.Array]]:
    """Counts which of the two networks is right on a held-out batch."""
    ours = objective.is_right(supervised.variables(state), batch)
    theirs = objectives.right(replace_tune.predict(
        network_lib.module(rival, self._place), state.rival, batch["image"]),
                              batch["label"])
    return replace_tune.counted(state, ours, theirs, batch["label"])
