"""IT-NAS over chains: one path runs, and every layer attends to all operations.

See `it_nas`. A chain's supernet is trained by single paths, as SPOS's is
(`spos`): a step draws one path and runs it, forward and backward, and what is
not on it takes no step. The attention would see a single token, so the other
operations of every layer are computed, too, on what the path feeds to that
layer: forward alone, and nothing of theirs is learnt. With o_s the operation on
the path, sg for no gradient, and a the attention, layers give

  o_s + m - sg(m),  m = sum_i a_i sg(o_i)

(`attention.Attention.path`): the network is SPOS's, to the bit, and so are the
gradients of its weights, while the transformer learns by dL/da_i = <g, o_i>,
what the loss would gain by more of an operation. The paper says nothing of
this; its Table 1 gives the memory of such a supernet beside SPOS's.

What else the paper leaves open:
- What a layer attends to depends on the path that leads there. In the pass that
  selects every batch of the other half has a path of its own, drawn uniformly,
  and the half is walked over again until there were at least 16; standard
  errors are over paths. BN normalises by the batch.
- Every layer keeps its strongest operation. Over a budget, the choice within it
  of the largest sum of log a, exactly (`connections.Connections.likeliest`).
- The accuracy of what was found is measured as SPOS measures its candidates.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import errors, spaces
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec
from natjax.methods import indicator, single_path
from natjax.networks import supernet as supernet_lib
from natjax.objectives import classification as objectives
from natjax.spaces import connections
from natjax.training import method as base
from natjax.training import optimizers

_PATHS = 16  # That the attention is a mean over, at the least.


class ChainState(NamedTuple):
  """Everything a resumed run needs.

  Attributes:
    step: i32[], updates so far.
    params: "supernet", and "attention" of every layer.
    opt_state: of params.
    path: `CellArrays` [G, N, K], that was trained last.
    rng: a key, split anew at every update.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  path: arrays_lib.CellArrays
  rng: jax.Array


class ITChain(indicator.Attending, single_path.SinglePath):
  """See the module."""

  def __init__(self, config: Any, space: spaces.Space, **sizes: Any):
    """As `search.Search`.

    Raises:
      InputError: as there, or an encoder, which would not be SPOS's network.
    """
    if config.reentry != "mix":
      raise errors.InputError(
          f"reentry is '{config.reentry}', and over the chains of search space"
          f" '{space.name}' layers give what the operation on a path gives;"
          " leave it out", "reentry")
    super().__init__(config, space, **sizes)
    self.optimizer = optimizers.scheduled(
        config, config.epochs * self.steps_per_epoch, nesterov=config.nesterov,
        decayed=None if config.decay_vectors else indicator.matrices)

  def method(self) -> base.Method:
    """The record that `training.fit` drives."""
    phase = base.Phase("search", ("weights",), self.update,
                       ("loss", "accuracy", "madds"), observe=self.observe)
    return base.Method(
        init=self.init, derive=self.derive, explain=self.explain,
        stages=(base.Stage("search", self.config.epochs, (phase,)),))

  def init(self, rng: jax.Array) -> ChainState:
    """Draws the state that training starts from."""
    rng_supernet, rng_attention, rng_path, rng_state = jax.random.split(rng, 4)
    params = {"supernet": self.supernet.init(rng_supernet)["params"],
              "attention": self.draw(rng_attention)}
    return ChainState(
        step=jnp.zeros((), jnp.int32), params=params,
        opt_state=jax.jit(self.optimizer.init)(params),
        path=jax.jit(self.paths.draw)(rng_path), rng=rng_state)

  def how(self, transformers: Any, path: arrays_lib.CellArrays,
          tells: bool = False) -> list[supernet_lib.How]:
    """What stands in every layer.

    Args:
      transformers: "attention" of the parameters.
      path: [G, N, K], what runs.
      tells: whether layers tell their attention.
    """
    found, count = self.supernet.selected(path), len(
        self.connections.space.candidates)
    for i, own in enumerate(transformers):
      if i in self._group_of:
        at = arrays_lib.slots(self.supernet.plan.cell(i))
        found[i] = found[i]._replace(source=None, value={
            **own, "allowed": jnp.asarray(self._allowed(i), jnp.float32),
            "chosen": jax.nn.one_hot(found[i].value[at], count)}, tells=tells,
            make=self.attention.telling_path if tells else self.attention.path)
    return found

  def update(self, state: ChainState, batch: base.Batch
             ) -> tuple[ChainState, dict[str, jax.Array]]:
    """A step of the weights on one path, and of all transformers."""
    rng, rng_path, rng_step = jax.random.split(state.rng, 3)
    path = self.paths.draw(rng_path)

    def loss(params):
      logits, _ = self.supernet.run(
          {"params": params["supernet"]}, self.how(params["attention"], path),
          batch["image"], rng=base.device_key(rng_step))
      return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(
          logits, batch["label"])), jnp.mean(
              objectives.right(logits, batch["label"]))

    (value, accuracy), grads = base.mean_over_devices(
        jax.value_and_grad(loss, has_aux=True)(state.params))
    params, opt_state = self.descend(state.params, state.opt_state, grads, {
        "supernet": self.on_path(state.params["supernet"], path),
        "attention": jax.tree.map(
            lambda _: jnp.ones((), bool), state.params["attention"])})
    return ChainState(state.step + 1, params, opt_state, path, rng), {
        "loss": value, "accuracy": accuracy, "madds": self.paths.madds(path)}

  def observe(self, state: ChainState, epoch: int) -> dict[str, Any]:
    """The path that was trained last."""
    del epoch
    return {"path": self._short(state.path)}

  def explain(self, state: ChainState) -> str:
    """The path that was trained last."""
    return codec.to_line(self.paths.decode(state.path))

  def keep(self, strengths: connections.Strengths) -> list[np.ndarray]:
    """Equation 6: bool[E, O] per group."""
    return [np.asarray(mask) for mask in self.connections.strongest(strengths)]

  def within(self, kept: connections.Strengths,
             strengths: connections.Strengths) -> list[np.ndarray]:
    """Of what keeps to the budget, the largest sum of log a (errors.NotMet)."""
    if not self.limits:
      return [np.asarray(mask) for mask in kept]
    with np.errstate(divide="ignore"):
      return self.connections.likeliest(
          [np.log(s) for s in strengths], self.limits)

  def derive(self, state: ChainState, given: codec.Architecture | None,
             score: base.Walk, rng: jax.Array) -> base.Derived:
    """Selects by the attention on the second half of the images.

    The report is that of `search.Search.derived`, where "parent_accuracy" is
    the mean over the paths, that of `indicator.Attending`, and "operations",
    of all layers.
    """
    walk = lambda number: _by_path(score(
        self._attended, (state.params, jax.random.fold_in(rng, number)),
        split="architecture", each=True))
    found = [walk(0)]
    for number in range(1, -(-_PATHS // len(found[0][0]))):
      found.append(walk(number))
    images, right, attended = jax.tree.map(
        lambda *parts: np.concatenate(parts), *found)
    share = images / images.sum()
    strengths = [np.tensordot(share, a, 1) for a in attended]
    kept = self.keep(strengths)
    chosen = self.within(kept, strengths)
    architecture = self.connections.architecture(chosen)
    path = self.paths.encode(architecture)
    return base.Derived(self.connections.space.written(architecture), None, {
        "parent_accuracy": float(share @ right),
        "child_accuracy": self.accuracy(
            state.params["supernet"], path, score),
        **self.counted(kept, chosen), **self.layers(path),
        **self.report(chosen, strengths, attended)})

  def _attended(self, params_and_key, batch):
    """Of every image the number of its path, whether it is right, and what it
    attends to.
    """
    params, rng = params_and_key
    path = self.paths.draw(jax.random.fold_in(rng, batch["number"]))
    logits, told = self.supernet.run(
        {"params": params["supernet"]},
        self.how(params["attention"], path, tells=True), batch["image"])
    number = jnp.full(len(logits), batch["number"])
    return (number, objectives.right(logits, batch["label"]), self.means(told))


def _by_path(values):
  """Of every path its number of images, and the means of what these have.

  Args:
    values: "number" f64[N] of the path, and two further trees f64[N, ...].
  """
  number, *others = values
  _, at, images = np.unique(number, return_inverse=True, return_counts=True)

  def mean(x):
    found = np.zeros((len(images), *x.shape[1:]))
    np.add.at(found, at, x)
    return found / images.reshape(-1, *(1,) * (x.ndim - 1))

  return images, *jax.tree.map(mean, others)
