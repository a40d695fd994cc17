"""NAT's updates, its baseline and its inference."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, spaces, zoo
from natjax.costs import exact as cost
from natjax.graph import genotype, records, skeleton
from natjax.methods import nat, nat_config, natpp
from natjax.networks import supernet as supernet_lib
from natjax.policies import sampling
from natjax.spaces import ground as ground_lib
from natjax.spaces import inputs
from natjax.training import devices, fit
from tests import architectures, tiny


def test_advantages_by_hand():
  rewards = jnp.array([[1.0, 2.0, 6.0]])
  np.testing.assert_allclose(
      nat.advantages(rewards, "leave_one_out", jnp.float32(9)),
      [[1 - 4, 2 - 3.5, 6 - 1.5]])
  np.testing.assert_allclose(
      nat.advantages(rewards, "none", jnp.float32(9)), rewards)
  for name in ("moving_average", "published"):
    np.testing.assert_allclose(
        nat.advantages(rewards, name, jnp.float32(0.5)), rewards - 0.5)


def test_the_last_epochs_may_be_the_policys_alone():
  method = lambda **epochs: nat.NAT(
      nat.NATConfig(init_channels=2, cells=2, epochs=10, **epochs),
      spaces.get("nat"), num_classes=2, image_size=8, steps_per_epoch=3)
  stages = lambda **epochs: [
      (stage.name, stage.epochs, [phase.name for phase in stage.phases])
      for stage in method(**epochs).method().stages]
  both = ["weights", "policy"]
  usual = [("warmup", 4, both[:1]), ("search", 6, both)]
  assert stages(warmup_epochs=4) == usual
  assert stages(warmup_epochs=4, policy_epochs=2) == [
      usual[0], ("search", 4, both), ("policy", 2, both[1:])]
  assert stages(warmup_epochs=4, policy_epochs=6)[1] == ("search", 0, both)


def test_moving_averages_and_their_fixed_points():
  rewards = jnp.array([[1.0]])
  average = published = jnp.float32(0)
  for _ in range(2000):
    average = nat.next_average(rewards, "moving_average", average)
    published = nat.next_average(rewards, "published", published)
  np.testing.assert_allclose(average, 1.0, rtol=1e-3)
  # The released code feeds the advantage: half the mean reward.
  np.testing.assert_allclose(published, 0.5, rtol=1e-3)
  np.testing.assert_allclose(
      nat.next_average(rewards, "published", jnp.float32(0.2)),
      0.99 * 0.2 + 0.01 * 0.8, rtol=1e-6)


@pytest.mark.parametrize("change,message", [
    ({"policy": "lstm"}, "default, published"),
    ({"baseline": "leave_one_out", "samples": 1}, "samples"),
    ({"samples": 0}, "at least 1"),
    ({"epochs": -1}, "at least 1"),
    ({"weights_fraction": 1.0}, "between 0"),
    ({"gcn_layers": 3}, "1, 2, 5, 10"),
    ({"warmup_epochs": 200}, "warmup-epochs"),
    ({"policy_epochs": 200}, "policy-epochs is 200 .* the 199 epochs"),
    ({"warmup_epochs": 150, "policy_epochs": 51}, "the 50 epochs"),
    ({"policy_epochs": -1}, "policy-epochs is -1"),
    ({"prefer": "params"}, "auto, cost, accuracy, sure"),
    ({"held_out": 1.0}, r"held-out is 1.0 and must lie in \[0, 1\)"),
    ({"held_out": -0.1}, "held-out is -0.1"),
    ({"tolerance": -1.0}, "tolerance is -1.0 and must not be negative"),
    ({"finalists": 0}, "finalists is 0"),
    ({"trial_epochs": -1}, "trial-epochs is -1"),
])
def test_settings_that_do_not_fit_are_refused_in_one_line(change, message):
  config = dataclasses.replace(nat.NATConfig(), **change)
  with pytest.raises(errors.InputError, match=message) as e:
    nat_config.resolve(config, "cells")
  assert "\n" not in str(e.value)


@pytest.mark.parametrize("kind", [nat.NAT, natpp.NATpp])
def test_a_cell_of_too_many_nodes_for_the_guard_is_refused(kind):
  def make(count, **changes):
    given = architectures.wide(count)
    return kind(dataclasses.replace(tiny.SEARCH, **changes),
                spaces.space_for(given, method=kind.scheme), num_classes=10,
                image_size=8, given=given)

  most = sampling.MOST_NODES
  for count in (most + 1, 33):
    with pytest.raises(errors.InputError, match=(
        f"{count} nodes, .*at most {most}; .*evolution")) as e:
      make(count)
    assert "\n" not in str(e.value)
  make(most)
  make(most + 1, policy="published")  # It has no such guard.


def draw(space, *, published=False, count=400):
  """Drawn normal and reduction cells, `CellArrays` [count, N, K] each."""
  place = records.Skeleton("cifar", 4, 3, 10, 8)
  sample = inputs.sampler(ground_lib.Ground(space, place, scheme="nat"),
                          published=published)
  drawn = jax.device_get(jax.jit(jax.vmap(sample))(
      jax.random.split(jax.random.key(0), count)))
  return [jax.tree.map(lambda a, g=g: a[:, g], drawn) for g in (0, 1)]


def test_sampled_cells_are_well_formed_and_cover_the_space():
  space = spaces.get("nat")._replace(graph=spaces.complete(5))
  cells, _ = draw(space)
  for node in range(5):
    assert set(np.unique(cells.source[:, node])) == set(range(node + 2))
  null = cells.operation == 8
  assert 0.05 < null.mean() < 0.12
  assert not null.all(axis=-1).any(), "a node without a signal"
  assert set(np.unique(cells.operation)) == set(range(9))
  assert cells.concat.all()
  assert not (draw(space, published=True)[0].operation == 8).any()


def test_loose_ends_are_the_nodes_that_feed_no_other():
  cells, _ = draw(spaces.get("nat_loose_end"))
  for source, concat in zip(cells.source, cells.concat, strict=True):
    for node, kept in enumerate(concat):
      assert kept == (node + 2 not in source)
  assert cells.concat[:, -1].all()


def test_no_operation_is_drawn_at_a_stride_at_which_it_cannot_stand():
  space = spaces.space_for(zoo.get("naonet"))
  pool = space.candidates.index("avg_pool_2x2")
  for reduction, cells in enumerate(draw(space)):
    at = cells.source[cells.operation == pool]
    assert (at < 2).all() and (len(at) > 0) == reduction


def mapped(update, num_devices):
  """The update under pmap, image and label sharded."""
  run = lambda state, image, label: update(
      state, {"image": image, "label": label})
  return devices.spread(
      run, devices.choose(num_devices), sharded=(False, True, True))


def shards(batch, num_devices):
  return [a.reshape(num_devices, -1, *a.shape[1:])
          for a in (batch["image"], batch["label"])]


@pytest.fixture(scope="module")
def four():
  """One update of the weights on four devices: (method, before, after)."""
  # Without momentum's history or decay a step is the gradient itself.
  method = tiny.make_nat(4, cells=1, learning_rate=1.0,
                         final_learning_rate=1.0, weight_decay=0.0)
  state = method.init(jax.random.key(0))
  batch = tiny.batch(8)
  after, metrics = mapped(method.update_weights, 4)(
      state, *shards(batch, 4))
  return method, state, after, metrics, batch


@pytest.mark.long
def test_gradient_on_four_devices_is_the_mean_of_four_single_ones(four):
  method, state, after, metrics, batch = four
  gradient = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
  images, labels = shards(batch, 4)
  grads, losses = [], []
  for i in range(4):
    cells = jax.tree.map(lambda a, i=i: jnp.asarray(np.asarray(a)[i, 0]),
                         after.drawn)
    (loss, _), g = gradient(
        state.params, cells, {"image": images[i], "label": labels[i]})
    grads.append(g)
    losses.append(float(loss))
  mean = jax.tree.map(lambda *g: np.mean(np.stack(g), 0), *grads)
  step = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b),
                      state.params, after.params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=2e-3, atol=2e-5), step, mean)
  np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-4)


@pytest.mark.long
def test_each_device_draws_its_own_architecture(four):
  after = four[2]
  drawn = np.asarray(after.drawn.operation).reshape(4, -1)
  assert len(np.unique(drawn, axis=0)) == 4


@pytest.fixture(scope="module")
def traced():
  """A short search whose forward traces are counted, and its inference."""
  counts = []
  original = supernet_lib.Supernet.apply

  def apply(self, *args):
    counts.append(1)
    return original(self, *args)

  patch = pytest.MonkeyPatch()
  patch.setattr(supernet_lib.Supernet, "apply", apply)
  method = nat.NAT(
      dataclasses.replace(tiny.SEARCH, epochs=9, prefer="cost"), tiny.SPACE,
      num_classes=10, image_size=tiny.IMAGE_SIZE, steps_per_epoch=3)
  split = tiny.splits()
  after_first = []
  state = fit.fit(
      method.method(), split, batch_size=8, preparation=tiny.preparation(),
      options=fit.Options(
          devices=devices.choose(1), chunk_seconds=0.01,
          on_row=lambda row: after_first.append(len(counts))))
  after_scores = []

  def score(function, argument, *, split, total):
    value = fit.walk(
        function, argument, tiny.splits()[split], total=total,
        preparation=tiny.preparation(), batch_size=8, whole=True)
    after_scores.append(len(counts))
    return value

  derived = method.derive(state, tiny.GENOTYPE, score, jax.random.key(1))
  config, method.config = method.config, dataclasses.replace(
      method.config, max_params="0.999x")  # Without the input, one fewer.
  other = method.derive(state, tiny.GENOTYPE, score, jax.random.key(1))
  method.config = config
  patch.undo()
  assert len({len(found.report["candidates"])
              for found in (derived, other)}) == 2
  assert derived.variables is None  # To be trained from scratch.
  return (method, state, derived.architecture, derived.report, after_scores,
          after_first)


@pytest.mark.long
def test_every_program_is_traced_once(traced):
  _, _, _, report, after_scores, after_first = traced
  # 27 updates of the weights and 27 of the policy, of 3 architectures each.
  assert len(after_first) == 18
  training = after_first[1]
  assert after_first[1:] == [training] * 17
  # Python may see a function more than once while one program is built; what
  # counts is that later architectures never reach it again, however many.
  assert len(report["candidates"]) >= 2
  assert len(after_scores) > 2 and {*after_scores} == {after_scores[0]}


@pytest.mark.long
def test_scores_are_those_of_the_supernet_candidate_by_candidate(traced):
  method, state, _, report, _, _ = traced
  split, right = tiny.splits()["policy"], []
  prepared = tiny.preparation()(None, split.images, train=False)
  for row in report["candidates"]:
    cells = method.ground.encode(genotype.from_dict(row["architecture"]))
    logits = np.concatenate([
        method.supernet.apply(state.params, cells, prepared[i:i + 8])
        for i in range(0, len(prepared), 8)])
    right.append(np.argmax(logits, -1) == split.labels)
  best = right[int(np.argmax(np.mean(right, axis=1)))].astype(float)
  for row, mine in zip(report["candidates"], right, strict=True):
    assert row["score"] == mine.mean()
    np.testing.assert_allclose(row["standard_error"], np.std(
        mine - best) / np.sqrt(len(best)), atol=1e-12)


@pytest.mark.long
def test_derived_architecture_is_the_cheapest_of_those_as_good(traced):
  _, _, best, report, _, _ = traced
  candidates = report["candidates"]
  assert candidates[0]["original"]
  assert candidates[0]["architecture"] == genotype.to_dict(tiny.GENOTYPE)
  chosen = [c for c in candidates if c["chosen"]]
  assert len(chosen) == 1
  most = max(c["score"] for c in candidates)
  assert chosen[0] == min(
      (c for c in candidates if most - c["score"] <= c["standard_error"]),
      key=lambda c: (c["madds"], c["params"], -c["score"]))
  assert chosen[0]["architecture"] == genotype.to_dict(best)
  assert report["sampled"] == tiny.SEARCH.candidates
  drawn = len(candidates) - 1  # The input may be among the samples.
  assert report["distinct"] in (drawn, drawn + 1)
  assert all(candidates[i]["madds"] < candidates[0]["madds"]
             or candidates[i]["score"] > candidates[0]["score"]
             for i in report["finalists"])


@pytest.mark.long
def test_no_candidate_costs_more_and_graphs_are_kept(traced):
  _, _, _, report, _, _ = traced
  place = skeleton.Skeleton()
  before = cost.network(tiny.GENOTYPE, place)
  for c in report["candidates"]:
    g = genotype.from_dict(c["architecture"])
    after = cost.network(g, place)
    assert after.params <= before.params and after.madds <= before.madds
    for old, new in zip(tiny.GENOTYPE, g, strict=True):
      assert old.concat == new.concat
      assert [e[1:] for e in old.edges] == [e[1:] for e in new.edges]
      assert set(new.concat) <= architectures.alive(new)


@pytest.mark.long
def test_a_stopped_search_resumes_to_the_same_bits(traced, tmp_path):
  """Stopped in either phase; `fit` has the compiled programs still."""
  method, whole = traced[:2]

  def run(stop_in=None):
    chunks = []
    return fit.fit(
        method.method(), tiny.splits(), batch_size=8,
        preparation=tiny.preparation(), options=fit.Options(
            devices=devices.choose(1), chunk_seconds=0.01,
            checkpoint_dir=tmp_path / "checkpoint", checkpoint_seconds=1e9,
            on_progress=chunks.append,
            should_stop=lambda: chunks[-1].phase == stop_in))

  for phase in ("policy", "weights"):
    with pytest.raises(errors.Interrupted):
      run(stop_in=phase)
  for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(run()),
                  strict=True):
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
      a, b = jax.random.key_data(a), jax.random.key_data(b)
    np.testing.assert_array_equal(a, b)


@pytest.mark.long
def test_argmax_is_one_candidate(traced):
  state = traced[1]
  argmax = nat.NAT(
      dataclasses.replace(tiny.SEARCH, selection="argmax", prefer="accuracy"),
      tiny.SPACE, num_classes=10, image_size=tiny.IMAGE_SIZE)
  report = argmax.derive(
      state, tiny.GENOTYPE, lambda function, argument, *, split, total: {
          "images": 24.0, "both": np.full((5, 5), 12.0)},
      jax.random.key(0)).report
  assert len(report["candidates"]) <= 2
  # Of equal scores the input stays.
  assert report["candidates"][0]["chosen"] and not report["finalists"]
  assert "distinct" not in report


@pytest.mark.long
def test_explain_names_the_architecture(traced):
  method, state = traced[:2]
  text = method.explain(state)
  assert text.startswith("device 0: Genotype(")
  genotype.from_darts(text.removeprefix("device 0: "))


def policy_gain(method, key, steps=60):
  """Trains a policy on a reward that is known: the share of nulled edges."""
  state = method.init(key)
  betas = method.sample_inputs(jax.random.key(5))
  beta = jax.tree.map(lambda a: a[0], betas)
  null = method.table.null

  def rewards(actions):
    after = jnp.asarray(method.table.outcome)[beta.operation, actions]
    return jnp.mean((after == null).astype(jnp.float32), axis=(1, 2, 3))

  @jax.jit
  def step(policy, opt_state, rng):
    actions = method.sample_actions(rng, policy, beta, 8)
    r = rewards(actions)
    adv = nat.advantages(r[None], "leave_one_out", jnp.zeros(()))[0]

    def objective(policy):
      log_p = jax.vmap(lambda a: method.log_prob(policy, beta, a))(actions)
      return -jnp.mean(log_p * adv)

    grads = jax.grad(objective)(policy)
    updates, opt_state = method.policy_optimizer.update(
        grads, opt_state, policy)
    policy = jax.tree.map(jnp.add, policy, updates)
    return policy, opt_state, jnp.mean(r)

  policy, opt_state = state.policy, state.policy_opt_state
  seen = []
  for i in range(steps):
    policy, opt_state, r = step(policy, opt_state, jax.random.key(100 + i))
    seen.append(float(r))
  return np.mean(seen[:5]), np.mean(seen[-5:])


@pytest.mark.long
def test_reinforce_climbs_a_known_reward():
  method = tiny.make_nat(policy_learning_rate=3e-3)
  first, last = policy_gain(method, jax.random.key(0))
  # Every node must keep a signal, so that half of the edges can go at most.
  assert first < 0.46 and last > 0.48


@pytest.mark.long
def test_the_gradient_is_that_of_the_expected_reward():
  """Equation 5 with many samples equals the exact gradient of equation 2."""
  method = tiny.make_nat()
  state = method.init(jax.random.key(0))
  beta = jax.tree.map(lambda a: a[0], method.sample_inputs(jax.random.key(5)))
  weight = jax.random.normal(jax.random.key(6), (3,))
  reward = lambda actions: jnp.mean(weight[actions], axis=(-3, -2, -1))
  actions = jax.jit(lambda k: method.sample_actions(
      k, state.policy, beta, 4096))(jax.random.key(7))

  def surrogate(policy):
    log_p = jax.vmap(lambda a: method.log_prob(policy, beta, a))(actions)
    adv = nat.advantages(reward(actions)[None], "leave_one_out",
                         jnp.zeros(()))[0]
    return jnp.mean(log_p * adv)

  bias = lambda tree: tree["out"]["bias"]
  estimate = bias(jax.jit(jax.grad(surrogate))(state.policy))

  def expected(policy, key):
    drawn = method.sample_actions(key, policy, beta, 20_000)
    return jnp.mean(reward(drawn))

  # Common random numbers make finite differences of the expectation usable.
  expected = jax.jit(expected)
  direction = jnp.sign(estimate)
  move = lambda scale: {**state.policy, "out": {
      **state.policy["out"], "bias": bias(state.policy) + scale * direction}}
  slope = (expected(move(0.1), jax.random.key(8))
           - expected(move(-0.1), jax.random.key(8))) / 0.2
  np.testing.assert_allclose(
      jnp.vdot(estimate, direction), slope, rtol=0.15)
