"""What the speed half of `natjax selftest` measures, at tiny sizes."""

import itertools
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, selftest, zoo
from natjax.graph import codec
from natjax.methods import nat
from natjax.networks import network as network_lib
from natjax.selftest import forms, programs, report, speed
from natjax.training import method as base

TINY = programs.Sizes(4, 4, 3, 8, 4, 8, 8, 32)
LATER = lambda: 1000.0


def update(state, batch):
  """A step of logistic regression, written as a method's update is."""

  def loss(w):
    x = jnp.mean(batch["image"], (1, 2)) @ w
    return -jnp.mean(jax.nn.log_softmax(x)[
        jnp.arange(len(x)), batch["label"]])

  value, grad = jax.value_and_grad(loss)(state["w"])
  return {"step": state["step"] + 1, "w": state["w"] - 0.1 * (
      base.mean_over_devices(grad))}, {"loss": base.mean_over_devices(value)}


def small(**changes):
  """A program that compiles in no time."""
  state = {"step": np.int32(0), "w": np.ones((3, 10), np.float32)}
  phase = base.Phase("train", ("train",), changes.pop("update", update),
                     ("loss",), augment=False)
  return programs.Program(phase, state, 4, 8, 16, **changes)


def subject(name, **changes):
  return speed.Subject(name, lambda: small(**changes))


def measure(monkeypatch, *groups, remaining=LATER, sides=None):
  """The rows of other subjects."""
  monkeypatch.setattr(speed, "subjects", lambda quick: list(groups))
  return {row.name: row for row in speed._measure(True, sides, remaining, "")}


@pytest.fixture
def torch_sides():
  """PyTorch's sides, where it is installed; on one core, as tests run."""
  torch = pytest.importorskip("torch")
  before = torch.get_num_threads()
  torch.set_num_threads(1)
  yield speed.load_torch()
  torch.set_num_threads(before)


@pytest.mark.parametrize("changes", [{}, {"loop": False}, {"lanes": 3}],
                         ids=str)
def test_runner_takes_the_steps(changes):
  runner = programs.Runner(small(**changes)).compile()
  runner.run(6)  # An epoch has four.
  runner.run(1)
  steps = np.asarray(runner._state["step"])
  np.testing.assert_array_equal(steps, np.full(steps.shape, 7))
  assert steps.size == changes.get("lanes", 1)
  assert runner.seconds > 0


def test_steps_in_and_out_of_the_loop_agree():
  found = []
  for loop in (True, False):
    runner = programs.Runner(small(loop=loop)).compile()
    runner.run(1)
    found.append(np.asarray(runner._state["w"]))
  np.testing.assert_allclose(*found, rtol=1e-6)
  assert np.ptp(found[0]) > 0


def test_a_walk_goes_through_all_epochs_by_the_compiled_program():
  runner = programs.Runner(small()).compile()
  calls = []

  def counted(*args):
    calls.append(int(args[4][1] - args[4][0]))
    return compiled(*args)

  compiled, runner.compiled = runner.compiled, counted
  assert len(runner.walk()) == programs.EPOCHS
  assert sum(calls) == programs.EPOCHS * 4
  runner.run(1)  # The state that it started from is still there.


def test_not_finite_is_said(monkeypatch):
  broken = lambda state, batch: (state, {"loss": jnp.log(
      -jnp.ones(()) - jnp.max(batch["image"]) ** 2)})
  rows = measure(monkeypatch, [
      subject("broken", update=broken), subject("good")])
  assert rows["broken"].seconds is None
  assert rows["broken"].note.startswith("ArithmeticError: a metric")
  assert "Traceback" in rows["broken"].error
  assert rows["good"].seconds > 0 and not rows["good"].error


def test_rows(monkeypatch):
  def unknown():
    raise ValueError("what is that?\nmore of it")

  rows = measure(
      monkeypatch,
      [subject("one"),
       speed.Subject("three", lambda: small(lanes=3, madds=1e6),
                     remark=lambda *args: speed._together("one", *args))],
      [speed.Subject("bad", unknown), subject("last")])
  assert list(rows) == ["one", "three", "bad", "last"]
  assert rows["bad"].note == "ValueError: what is that?"
  assert "unknown" in rows["bad"].error
  for name in ("one", "three", "last"):
    row = rows[name]
    assert row.per_second == pytest.approx(4 / row.seconds)
    assert row.compile_seconds > 0 and row.temporaries_mb >= 0
  assert rows["three"].share.startswith("products ")
  assert rows["three"].note.startswith("vmap of 3 seeds takes ")
  assert rows["one"].note.endswith("if every step is waited for")


def test_of_runs_at_once_each_has_its_share():
  runner = programs.Runner(small(lanes=4))
  seconds, note = speed._together(
      "one", {"one": 0.1, None: 0.2}, runner, LATER)
  assert seconds == pytest.approx(0.05)
  assert note == "vmap of 4 seeds takes 0.50 times 4 single steps"


def test_without_time_nothing_is_run(monkeypatch):
  rows = measure(monkeypatch, [subject("one")], [subject("two")],
                 remaining=lambda: speed.LEAST_SECONDS - 1)
  assert [row.note for row in rows.values()] == ["not run: time limit"] * 2
  assert all(row.seconds is None for row in rows.values())


def slow_compiler(monkeypatch, seconds):
  """Programs with `madds` compile for longer; returns what happens, in order.
  """
  happened = []
  compile_, time_ = programs.Runner.compile, speed.time_in_turns

  def compiled(self):
    time.sleep(seconds if self.program.madds else 0)
    result = compile_(self)
    happened.append("compiled")
    return result

  def timed(*args):
    happened.append("timed")
    return time_(*args)

  monkeypatch.setattr(programs.Runner, "compile", compiled)
  monkeypatch.setattr(speed, "time_in_turns", timed)
  return happened


def test_nothing_is_timed_while_others_compile(monkeypatch):
  happened = slow_compiler(monkeypatch, 0.5)
  rows = measure(monkeypatch, [subject("late", madds=1.0), subject("early")])
  assert happened[:2] == ["compiled", "compiled"] and "timed" in happened
  assert list(rows) == ["late", "early"]
  assert not any("upper bound" in row.note for row in rows.values())


def test_what_compiles_for_too_long_is_not_waited_for(monkeypatch):
  slow_compiler(monkeypatch, 1.5)
  left = iter([1000.0] * 2 + [2 * speed.LEAST_SECONDS + 0.1])
  rows = measure(monkeypatch, [subject("late", madds=1.0), subject("early")],
                 remaining=lambda: next(left, 2.0 * speed.LEAST_SECONDS))
  assert rows["early"].seconds is not None
  assert "an upper bound" in rows["early"].note
  assert "not run: time limit" in rows["late"].note


def test_nothing_is_read_from_the_cache():
  events = []
  listen = lambda name, **_: events.append(name)
  jax.monitoring.register_event_listener(listen)
  compile_ = lambda: jax.jit(lambda x: x * 3.25).lower(1.0).compile()
  before = jax.config.values["jax_enable_compilation_cache"]
  used = lambda: [e for e in events if "compile_requests_use_cache" in e]
  compile_()
  assert used()  # The tests have a cache.
  events.clear()
  with speed._cold():
    compile_()
  assert not used()
  assert jax.config.values["jax_enable_compilation_cache"] == before
  compile_()
  assert used()


def test_share():
  program = small(madds=2e6, lanes=2)
  rates = {"float32_tflops": 0.01, "copy_gb_per_s": 10.0}
  # Six operations per multiply-add, 4 images of 2 runs: 96 MFLOP.
  assert speed.share(program, 0.1, 5e8, rates) == (
      "products 9.60%, copying 50%")
  assert speed.share(small(), 0.1, 0.0, rates) == ""


def test_turns_alternate():
  order = []

  def side(name):
    def run(steps):
      order.append((name, steps))
      time.sleep(0.01 * steps)

    return run

  found = speed.time_in_turns([side("ours"), side("theirs")], 0.03, rounds=2)
  names = [name for name, _ in order]
  assert names[-4:] == ["ours", "theirs"] * 2
  assert all(1 <= steps <= 3 for _, steps in order)
  assert np.shape(found) == (2, 2) and np.min(found) >= 0.01


def test_ceilings_are_measured_once():
  speed._ceilings.cache_clear()
  rates = speed.ceilings()
  assert set(rates) == {"bfloat16_tflops", "float32_tflops",
                        "float32_highest_tflops", "copy_gb_per_s"}
  assert all(0 < rate < 1e5 for rate in rates.values())
  assert speed.ceilings() == rates


@pytest.mark.long
def test_a_program_of_the_library_is_compiled_and_walks():
  program = programs.plain(TINY, "resnet20", images=TINY.images, augment=True)
  assert program.phase.augment and program.madds > 1e6
  runner = programs.Runner(program).compile()
  runner.run(2)
  assert int(runner._state.step) == 2
  seconds, note = speed._epoch("ResNet20", {None: 1e-3}, runner, LATER)
  assert seconds > 0 and note.startswith("epochs of 4 steps")
  seconds, note = speed._epoch("ResNet20", {None: 1.0}, runner, lambda: 15.0)
  assert seconds == 1.0 and "epochs not run" in note


@pytest.mark.long
@pytest.mark.parametrize("quick", [True, False])
def test_all_programs_are_built(monkeypatch, quick):
  monkeypatch.setattr(programs, "QUICK", TINY)
  monkeypatch.setattr(programs, "FULL", TINY)
  names = []
  for each in itertools.chain(*speed.subjects(quick)):
    program = each.make()
    names.append(each.name)
    assert np.all([np.isfinite(np.asarray(leaf, np.float32)).all()
                   for leaf in jax.tree.leaves(program.state)
                   if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)])
  assert len(set(names)) == len(names)


@pytest.mark.long
def test_a_step_of_the_policy_counts_forward_passes_alone():
  """Of an input and of its sample, which computes less of it."""
  weights, policy = (programs.supernet(TINY, phase=phase)
                     for phase in ("weights", "policy"))
  assert weights.madds / 3 < policy.madds < 2 * weights.madds / 3
  rates = {"float32_tflops": 1.0, "copy_gb_per_s": 1.0}
  assert speed.share(policy, 1e-3, 0.0, rates).startswith("products 0.")
  assert "NAT, policy" in [
      s.name for s in itertools.chain(*speed.subjects(quick=True))]


def test_a_drawn_state_is_one_of_the_method():
  method = nat.NAT(nat.NATConfig(init_channels=4, cells=3),
                   programs.spaces.get("nat"), num_classes=10, image_size=8)
  drawn = programs.draw_state(method.init)
  like = jax.eval_shape(method.init, jax.random.key(0))
  assert jax.tree.map(lambda x: (x.shape, x.dtype), drawn) == jax.tree.map(
      lambda x: (x.shape, x.dtype), like)
  stem = drawn.params["stem"]["layer0"]
  assert np.all(stem["norm"]["scale"] == 1) and not np.any(
      stem["norm"]["bias"])
  assert 0.5 < np.std(stem["conv"]["kernel"]) * 27**0.5 < 1.5


@pytest.mark.parametrize("theirs,ours", list(zip(
    forms.FORMS[::2], forms.FORMS[1::2], strict=True)),
    ids=lambda form: f"{form.operation}, {form.name}")
def test_both_forms_compute_the_same(theirs, ours):
  assert theirs.operation == ours.operation and theirs.name == "XLA's"
  rng = np.random.default_rng(0)
  x = np.float32(rng.standard_normal((2, 8, 8, 4)))
  kernel = np.float32(rng.standard_normal(ours.kernel(4)))
  found = [jax.jit(jax.value_and_grad(lambda x, kernel, form=form: jnp.sum(
      jnp.square(form.run(x, kernel))), (0, 1)))(x, kernel)
      for form in (theirs, ours)]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-4, atol=1e-4), *found)


def test_a_form_is_timed(monkeypatch):
  form = forms.FORMS[8]
  rows = measure(monkeypatch, [speed.Subject(
      "x", lambda: forms.program(TINY, form),
      remark=lambda *args: speed._form(form, *args))])
  assert rows["x"].seconds > 0 and rows["x"].note == "forward and backward"
  seconds, note = speed._form(
      forms.FORMS[9], {None: 8.0, "average pool 3x3, XLA's": 4.0}, None, LATER)
  assert seconds == 1.0 and note.endswith("takes 2.00 times XLA's")


def test_without_torch_one_line_says_so(monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  monkeypatch.delitem(sys.modules, "natjax.selftest.torch_sides",
                      raising=False)
  monkeypatch.delattr(selftest, "torch_sides", raising=False)
  with pytest.raises(errors.InputError, match="PyTorch is not installed"):
    speed.measure(quick=True, against_torch=True, remaining=LATER)


def test_sides_of_pytorch_have_our_parameters(torch_sides):
  darts = speed.cells_of(torch_sides, zoo.get("darts"))
  cells = codec.place("cells", "cifar", 20, 8, num_classes=10, image_size=32)
  frame = codec.place("blocks", None, 0, 0, num_classes=10, image_size=32)
  for model, name, place in (
      (torch_sides.Network(20, 8, *darts), "darts", cells),
      (torch_sides.ResNet20(), "resnet20", frame)):
    shapes = jax.eval_shape(
        lambda rng, name=name, place=place: network_lib.init(
            network_lib.module(zoo.get(name), place), rng),
        jax.random.key(0))
    assert torch_sides.count(model) == sum(
        x.size for x in jax.tree.leaves(shapes["params"]))
  assert torch_sides.count(torch_sides.Supernet(20, 8)) == 5997350
  assert torch_sides.count(torch_sides.SearchNetwork(16, 8)) == 1930618


def test_pytorch_is_timed_beside(monkeypatch, torch_sides):
  theirs = speed._Theirs(TINY)
  rows = measure(
      monkeypatch,
      [speed.Subject("both", small, theirs.resnet()),
       speed.Subject("search", small, theirs.search()),
       speed.Subject("supernet", small, theirs.supernet(4)),
       speed.Subject("bad", small, lambda sides, device: sides.missing())],
      sides=torch_sides)
  for name in ("both", "search", "supernet"):
    assert rows[name].torch_eager > 0, rows[name]
    assert rows[name].torch_compiled is None
  assert rows["bad"].note.startswith("PyTorch: AttributeError")
  assert rows["bad"].seconds > 0  # Ours goes on.


def test_plain_training_learns_in_pytorch(torch_sides):
  training = speed._Theirs(TINY).resnet()(torch_sides, "cpu")
  first = training.step().item()
  training.run(20)
  assert training.step().item() < first


def test_torch_compile_comes_last(monkeypatch, torch_sides):
  """When all else has numbers, and what came of it stands for the row."""
  theirs = speed._Theirs(TINY).resnet()
  monkeypatch.setattr(torch_sides.Training, "compiled", lambda self: self)
  groups = [[speed.Subject("second", small, theirs, fixed=2),
             speed.Subject("first", small, theirs, fixed=1)],
            [speed.Subject("other", small, theirs)]]
  monkeypatch.setattr(speed, "subjects", lambda quick: groups)
  rows = list(speed._measure(True, torch_sides, LATER, ""))
  assert [row.name for row in rows] == [
      "second", "first", "other", "first", "second"]
  for row in rows:
    assert row.seconds > 0 and row.torch_eager > 0
  assert [row.torch_compiled is None for row in rows] == [1, 1, 1, 0, 0]
  assert "torch.compile took" in rows[-1].note


def test_a_row_that_comes_again_stands_for_the_earlier(monkeypatch):
  rows = [speed.Row("a", 1.0), speed.Row("b", 2.0),
          speed.Row("a", 1.0, torch_compiled=0.5)]
  monkeypatch.setattr(speed, "measure", lambda **_: iter(rows))
  monkeypatch.setattr(speed, "ceilings", lambda: {})
  found = report.run(quick=True, against_torch=False, only="speed",
                     time_limit=60, say=lambda line: None)
  assert [(row["name"], row["torch_compiled"]) for row in found["speed"]] == [
      ("a", 0.5), ("b", None)]
