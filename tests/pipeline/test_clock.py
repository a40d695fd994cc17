"""Where the time of a job goes."""

import json
import threading
import time

import jax
import pytest

from natjax import errors, pipeline
from natjax.pipeline import clock as clock_lib
from tests.pipeline import test_pipeline

COMPILING = ("trace", "lower", "compile")


def told(clock, told_at, *spans, event="backend_compile_duration"):
  """Lets JAX tell of (start, end), each at its end."""
  for start, end in spans:
    told_at.now = end
    clock._hear(f"/jax/core/compile/{event}", end - start)


class Now:
  """A clock's hand."""

  now = 0.0


@pytest.fixture
def hand(monkeypatch):
  hand = Now()
  monkeypatch.setattr(clock_lib.time, "monotonic", lambda: hand.now)
  return hand


def test_parts_are_disjoint_and_compilation_is_taken_from_them(hand):
  clock = clock_lib.Clock()
  with clock.running():
    hand.now = 1.0
    with clock.part("search"):
      # A trace of 2 s with two in it, then 3 s of compiling.
      told(clock, hand, (1.5, 2.0), (2.0, 2.5), (1.0, 3.0),
           event="jaxpr_trace_duration")
      told(clock, hand, (3.0, 3.5), event="jaxpr_to_mlir_module_duration")
      told(clock, hand, (3.5, 6.0))
      clock._hear("/jax/something/else", 1.0)
      hand.now = 8.0
      with clock.part("evaluation"):
        hand.now = 10.0
      hand.now = 11.0
    with clock.paused():
      told(clock, hand, (11.0, 13.0))
    hand.now = 17.0
  assert clock.seconds == {
      "trace": 2.0, "lower": 0.5, "compile": 2.5, "search": 3.0,
      "training": 0.0, "evaluation": 2.0, "other": 5.0}
  assert sum(clock.rounded().values()) == 15.0


def test_earlier_starts_count():
  clock = clock_lib.Clock({"compile": 2.0, "search": 3.0})
  with clock.running():
    pass
  assert clock.rounded() == dict.fromkeys(clock_lib.PARTS, 0.0) | {
      "compile": 2.0, "search": 3.0}
  assert clock_lib.total([clock.rounded(), {}, {"other": 1.0}]) == {
      **clock.rounded(), "other": 1.0}


def test_jax_tells_what_it_compiles_in_this_thread_alone():
  clock, fresh = clock_lib.Clock(), lambda x: jax.numpy.sin(x) * 7.25
  other = threading.Thread(target=lambda: jax.jit(lambda x: x - 3.25)(2.0))
  with clock.running():
    began = time.monotonic()
    other.start()
    other.join()
    apart = time.monotonic() - began
    assert not any(clock.seconds[name] for name in COMPILING)
    with clock.part("training"):
      jax.jit(fresh)(2.0).block_until_ready()
  spent = [clock.seconds[name] for name in COMPILING]
  assert min(spent) > 0
  assert sum(spent) < sum(clock.seconds.values()) - apart / 2
  found = dict(clock.seconds)
  jax.jit(lambda x: x + 1.125)(2.0)
  assert clock.seconds == found  # It hears no more.


@pytest.mark.long
def test_a_result_says_where_the_time_went_over_all_starts(tmp_path):
  def train(out, **listener):
    return pipeline.train(
        test_pipeline.GENOTYPE, test_pipeline.dataset(), out=out,
        config=test_pipeline.TRAIN, seed=3, devices=1,
        listener=pipeline.Listener(
            chunk_seconds=0, checkpoint_seconds=0, **listener))

  stops = iter([False] * 4 + [True])
  with pytest.raises(errors.Interrupted):
    train(tmp_path, should_stop=lambda: next(stops))
  path = tmp_path / "checkpoint" / "time.json"
  before = json.loads(path.read_text())
  assert min(before[name] for name in (*COMPILING, "training")) > 0
  result = train(tmp_path)
  assert set(result["time"]) == set(clock_lib.PARTS)
  assert all(result["time"][name] + 0.051 >= seconds
             for name, seconds in before.items())
  assert json.loads(path.read_text())["evaluation"] > 0
  assert json.loads((tmp_path / "result.json").read_text()) == result
  assert train(tmp_path) == result  # Nothing is left to run, nor to count.
  (tmp_path / "result.json").unlink()
  path.write_text('{"compile": "long"}')
  with pytest.raises(errors.InputError, match=r"time.json is damaged"):
    train(tmp_path)
