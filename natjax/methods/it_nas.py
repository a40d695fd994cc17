"""IT-NAS: operations as tokens; the indicator token's attention selects.

"IT-NAS: Integrating Lite-Transformer into NAS for Architecture Selection"
(under review at ICLR 2023; no code was published). On every edge of every cell
of the supernet stands a Lite-Transformer (`networks.attention`), and both are
trained by one loss on one half of the images (equation 5): there is no alpha
and nothing bilevel. Then all images of the other half go through once, and of
every edge the mean attention of the indicator token to the operations says
which one stays (equation 6); a_0 is left out.

What the paper leaves open, and how this differs from it:
- Means are over images, then over the cells that are decided on together, which
  have transformers of their own. They are summed in float64: the paper's
  weights differ in the third decimal. How far the strongest stands before the
  next, of an edge's operations and of a node's edges, and the standard error of
  that over images, are in the report.
- A node keeps two edges, those whose strongest operation has most attention,
  as DARTS does; `null` is a token, but is not kept where nodes choose their
  inputs. In NAS-Bench-201 every edge keeps its strongest token, `null` too.
- What the picture and the rows of metrics show of an epoch is the attention on
  that epoch's training images.
- BN normalises by the batch in the pass that selects, too.
- Over chains it trains single paths (`it_nas_chains`). Spaces whose nodes are
  unlike are refused.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import drawing, errors, spaces
from natjax.graph import codec
from natjax.methods import entry as entry_lib
from natjax.methods import halves, indicator, it_nas_chains, listed
from natjax.methods import search as search_lib
from natjax.networks import attention
from natjax.networks import supernet as supernet_lib
from natjax.objectives import classification as objectives
from natjax.spaces import connections
from natjax.training import method as base
from natjax.training import optimizers, settings

REPORTS = (*search_lib.REPORTS, "ties", "operations")


@dataclasses.dataclass(frozen=True)
class ITConfig(search_lib.SupernetConfig):
  """Settings of IT-NAS; those of `search.SupernetConfig`, and

  Attributes:
    tokens: "full", an operation's whole output; "separable", with a query of
      one vector over pixels and one over channels; or "gap", means over pixels.
    reentry: what an edge adds: the attention's "mix" of operations, or what an
      "encoder" layer makes of it.
    temperature: divides the logits of the attention.
    decay_vectors: whether weight decay holds for the indicator token, for
      positions and for layer norms, too.
  """

  tokens: str = "full"
  reentry: str = "mix"
  temperature: float = 1.0
  decay_vectors: bool = True


PRESETS = {
    "demo": ITConfig(init_channels=8, cells=4, epochs=30),
    "small": ITConfig(epochs=25),
    "paper": ITConfig()}
CHAINS = {
    # Every choice of a layer is trained in its turn, which takes many steps.
    "demo": ITConfig(epochs=80, batch_size=32, learning_rate=0.05),
    "small": ITConfig(epochs=25),
    # Of ImageNet (section 4.2).
    "paper": ITConfig(
        epochs=240, batch_size=512, learning_rate=0.25,
        final_learning_rate=5e-4, weight_decay=4e-5)}


class ITState(NamedTuple):
  """Everything a resumed run needs.

  Attributes:
    step: i32[], updates so far.
    params: "supernet", and "attention" of every block, {} where nothing is
      decided.
    opt_state: of params.
    attention: f32[E, O] per group, the sum over the epoch's steps.
    rng: a key, split anew at every update.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  attention: list[jax.Array]
  rng: jax.Array


class ITNAS(indicator.Attending):
  """See the module; of spaces of cells."""

  def __init__(self, config: ITConfig, space: spaces.Space, **sizes: Any):
    """As `search.Search`."""
    super().__init__(resolve(config, space.graph.kind), space, **sizes)
    config = self.config
    self.optimizer = optimizers.scheduled(
        config, config.epochs * self.steps_per_epoch, nesterov=config.nesterov,
        decayed=None if config.decay_vectors else indicator.matrices)
    first = self.supernet.plan.network.prefix
    for i in self._group_of:
      if len({shape._replace(stride=0) for shape in self.supernet.plan.shapes[
          i].nodes[first + 2:]}) > 1:
        raise errors.InputError(
            f"search space '{space.name}' has blocks whose nodes are unlike,"
            " and it-nas compares the outputs of operations of one shape;"
            " choose a space of cells", "space")

  def within(self, kept: connections.Strengths,
             strengths: connections.Strengths) -> list[np.ndarray]:
    """As `search.Search`, by two edges per node."""
    return self.connections.within(
        kept, strengths, self.limits, distinct_edges=True)

  def method(self) -> base.Method:
    """The record that `training.fit` drives."""
    phase = base.Phase("search", ("weights",), self.update,
                       ("loss", "accuracy"), observe=self.observe)
    return base.Method(
        init=self.init, derive=self.derive, explain=self.explain,
        stages=(base.Stage("search", self.config.epochs, (phase,)),))

  def init(self, rng: jax.Array) -> ITState:
    """Draws the state that training starts from."""
    rng_supernet, rng_attention, rng_state = jax.random.split(rng, 3)
    params = {"supernet": self.supernet.init(rng_supernet)["params"],
              "attention": self.draw(rng_attention)}
    return ITState(
        step=jnp.zeros((), jnp.int32), params=params,
        opt_state=jax.jit(self.optimizer.init)(params),
        attention=[jnp.zeros(g.allowed.shape) for g in self.connections.groups],
        rng=rng_state)

  def how(self, transformers: Any) -> list[supernet_lib.How]:
    """What stands on the edges of every block; it tells its attention.

    Args:
      transformers: "attention" of the parameters.
    """
    fixed = self.how_kept([np.zeros(g.allowed.shape)
                           for g in self.connections.groups])
    return [h if i not in self._group_of else h._replace(
        value={**own, "allowed": jnp.asarray(self._allowed(i), jnp.float32)},
        make=self._telling, tells=True)
            for i, (h, own) in enumerate(zip(fixed, transformers, strict=True))]

  @functools.cached_property
  def _telling(self):
    return self.attention.telling  # One object, by which programs are known.

  def run(self, params: Any, batch: base.Batch, rng: jax.Array | None = None
          ) -> tuple[jax.Array, list[jax.Array]]:
    """The logits, and per group the attention of every image, f32[B, E, O].

    Means over the blocks of a group.
    """
    logits, told = self.supernet.run(
        {"params": params["supernet"]}, self.how(params["attention"]),
        batch["image"], rng=rng)
    return logits, self.means(told)

  def update(self, state: ITState, batch: base.Batch
             ) -> tuple[ITState, dict[str, jax.Array]]:
    """A step of the supernet and of its transformers (equation 5)."""
    rng, rng_step = jax.random.split(state.rng)

    def loss(params):
      logits, attended = self.run(params, batch, base.device_key(rng_step))
      losses = optax.softmax_cross_entropy_with_integer_labels(
          logits, batch["label"])
      return jnp.mean(losses), (
          jnp.mean(objectives.right(logits, batch["label"])),
          [jnp.mean(a, 0) for a in attended])

    (value, (accuracy, attended)), grads = base.mean_over_devices(
        jax.value_and_grad(loss, has_aux=True)(state.params))
    updates, opt_state = self.optimizer.update(
        grads, state.opt_state, state.params)
    begins = state.step % self.steps_per_epoch == 0
    sums = [jnp.where(begins, 0.0, total) + a
            for total, a in zip(state.attention, attended, strict=True)]
    return ITState(state.step + 1, optax.apply_updates(state.params, updates),
                   opt_state, sums, rng), {"loss": value, "accuracy": accuracy}

  def observe(self, state: ITState, epoch: int) -> dict[str, Any]:
    """The epoch's attention and what would be derived by it, for a row."""
    del epoch
    strengths = self._of_epoch(state)
    return self.shown(strengths, self.within(self.keep(strengths), strengths))

  def _of_epoch(self, state):
    return [np.asarray(a, np.float64) / self.steps_per_epoch
            for a in state.attention]

  def keep(self, strengths: connections.Strengths) -> list[np.ndarray]:
    """Equation 6, and two edges per node: bool[E, O] per group."""
    return [np.asarray(mask) for mask in self.connections.strongest(
        strengths, distinct_edges=True)]

  def derive(self, state: ITState, given: codec.Architecture | None,
             score: base.Walk, rng: jax.Array) -> base.Derived:
    """Selects by the attention on the second half of the images.

    The report is that of `search.Search.derived` and of `indicator.Attending`.
    """
    right, attended = score(
        self._attended, state.params, split="architecture", each=True)
    strengths = [a.mean(0) for a in attended]
    kept = self.keep(strengths)
    derived = self.derived(
        state.params["supernet"], kept, strengths, float(right.mean()), score)
    return derived._replace(report={
        **derived.report, **self.report(kept, strengths, attended)})

  def _attended(self, params, batch):
    """Of every image whether it is right, and what it attends to."""
    logits, attended = self.run(params, batch)
    return objectives.right(logits, batch["label"]), attended

  def explain(self, state: ITState) -> str:
    """The architecture that would have been derived."""
    return "the supernet of " + codec.to_line(self.connections.architecture(
        self.keep(self._of_epoch(state))))


def resolve(config: ITConfig, kind: str) -> Any:
  """The settings for a kind of architecture, if they fit together.

  Args:
    config: the settings; None is filled in.
    kind: "cells" or "blocks", of the space's graph.

  Raises:
    InputError: a number out of range, or sizes that do not apply to the kind.
  """
  settings.one_of(config, tokens=attention.TOKENS,
                  reentry=attention.REENTRIES)
  config = search_lib.resolve(config, kind)
  settings.above_zero(config, "temperature")
  return config


def build(request: entry_lib.Request) -> entry_lib.Plan:
  """What a job needs to run it; see `entry`."""
  space = halves.space_of(request)
  config = resolve(request.settings, space.graph.kind)
  make = it_nas_chains.ITChain if space.chain else ITNAS
  method = make(
      config, space, num_classes=request.num_classes,
      image_size=request.image_size, target=request.place,
      steps_per_epoch=halves.steps(request, config)["weights"])
  return halves.plan(method.method(), method.supernet, space, config,
                     lambda state: state.params["supernet"],
                     () if space.chain else range(
                         len(method.supernet.plan.network.blocks)))


ENTRY = entry_lib.Entry(
    ITConfig, build,
    lambda preset, objective, kind: halves.preset(
        (CHAINS if kind == "chain" else PRESETS)[preset], kind, preset),
    listed.LINES["it-nas"], starts="space", reports=REPORTS,
    pictures={"alpha.svg": drawing.save_alpha},
    charts={"attention.svg": drawing.save_attention})
