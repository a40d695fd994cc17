"""Tables on the terminal, and a terminal that is gone."""

import errno
import io
import signal
import sys

import pytest

from natjax.cli import console, jobs

COLUMNS = ("cell", "edge", "before", "after", ">parameters", ">multiply-adds",
           ">price, nats")
ROW = ("blocks 4-5", "2 -> 3", "conv_3x3", "sep_conv_3x3", "27392", "110080",
       "0.0028")


@pytest.fixture
def shown(monkeypatch, capsys):
  """Prints a table at a width, and returns its lines."""

  def show(width, columns, rows):
    monkeypatch.setattr(console.out, "_width", width)
    console.print_table("title", columns, rows)
    return capsys.readouterr().out.splitlines()

  return show


@pytest.mark.parametrize("width, words", [
    (100, ["multiply-adds", "price, nats", "blocks 4-5"]),
    (85, ["multiply-", "price,", "blocks 4-5"]),
    (80, ["multiply-", "price,", "blocks"])])
def test_a_table_of_changes_breaks_no_word(shown, width, words):
  lines = shown(width, COLUMNS, [ROW])
  assert max(map(len, lines)) <= width
  text = "\n".join(lines)
  for word in ("parameters", *words, *ROW[1:]):
    assert f" {word} " in text


def test_what_fits_no_line_is_folded_whole(shown):
  lines = shown(30, ("name", ">count"), [("a" * 60, "12")])
  assert max(map(len, lines)) <= 30
  assert sum(line.count("a") for line in lines) == 60 + "name".count("a")


@pytest.mark.parametrize("stderr", [False, True])
@pytest.mark.parametrize("columns", ["0", "00"])
def test_a_terminal_of_no_columns_is_printed_to(
    columns, stderr, monkeypatch, capsys):
  monkeypatch.setenv("COLUMNS", columns)
  console.make(stderr).print("a line")
  assert capsys.readouterr()[stderr] == "a line\n"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="not on Windows")
def test_what_is_done_at_a_closing_terminal_is_said(monkeypatch, capsys):
  for one in (console.err, console.out):
    monkeypatch.setattr(one, "quiet", False)
  jobs._stopping(signal.SIGHUP)
  console.err.print("what a display would show")
  console.tell("Interrupted and saved")
  said = capsys.readouterr().err.splitlines()
  assert said[0].startswith("Stopping after this chunk of steps")
  assert said[1:] == ["Interrupted and saved"]


@pytest.mark.parametrize("kind", [OSError, BrokenPipeError, ValueError])
def test_a_line_that_a_gone_terminal_does_not_take_is_left(kind, monkeypatch):
  class Gone(io.StringIO):

    def flush(self):
      raise kind(errno.EIO, "gone")

  monkeypatch.setattr(sys, "stderr", Gone())
  console.tell("a line")
  assert sys.stderr.getvalue() == "a line\n"
