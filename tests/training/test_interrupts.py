"""Ctrl-C, SIGTERM and SIGHUP ask to stop, and a second one stops at once."""

import signal

import pytest

from natjax.training import interrupts


def test_signals_ask_and_the_second_stops_at_once():
  before = signal.getsignal(signal.SIGTERM)
  asked, told = [], []
  with pytest.raises(KeyboardInterrupt) as raised, interrupts.interruptible(
      asked, lambda: told.append(len(asked))):
    signal.raise_signal(signal.SIGTERM)
    assert asked == [signal.SIGTERM] and told == [1]
    signal.raise_signal(signal.SIGINT)
  assert asked == [signal.SIGTERM, signal.SIGINT] and told == [1]
  assert raised.value.args == (signal.SIGINT,)
  assert signal.getsignal(signal.SIGTERM) is before


def test_a_terminal_that_closes_asks_unless_that_is_ignored():
  def gone():
    raise OSError("no terminal")

  asked = []
  with interrupts.interruptible(asked, gone):
    signal.raise_signal(signal.SIGHUP)
  assert asked == [signal.SIGHUP]
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # As `nohup` does.
  try:
    with interrupts.interruptible(asked, gone):
      signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
  finally:
    signal.signal(signal.SIGHUP, before)
  assert asked == [signal.SIGHUP]


def test_a_signal_that_never_stops_at_once_is_told_every_time():
  asked, told = [], []
  with interrupts.interruptible(
      asked, lambda: told.append(len(asked)), at_once=[signal.SIGINT]):
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
      signal.raise_signal(number)
    assert told == [1, 2, 3]
    with pytest.raises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)
