"""The code of README and docs runs as it stands, in processes of its own.

What differs from a reader's own stands in `tests/pages.py`. The page on the
parts is a process for itself, since it asks for two devices before anything is
computed, and finds the run of README's ten lines.
"""

import json
import os
import re
import subprocess
import sys

import pytest

from natjax import errors
from natjax.cli import parser
from tests import pages

PARTS = pages.ROOT / "docs" / "parts.md"
LINK = re.compile(r"\]\(([^)\s]+)\)")


def run(folder, files):
  """What the pages said (`pages.main`), and what went to standard error."""
  done = subprocess.run(
      [sys.executable, "-W", "error::DeprecationWarning:natjax", "-m",
       "tests.pages", *map(str, files)],
      cwd=folder, capture_output=True, text=True, timeout=1200, check=False,
      env={**os.environ, "PYTHONPATH": str(pages.ROOT)})
  assert done.returncode == 0, done.stderr[-2000:]
  return json.loads((folder / "said.json").read_text()), done.stderr


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
  """The folder in which all pages but one ran, and what they said."""
  folder = tmp_path_factory.mktemp("pages")
  return folder, *run(folder, [p for p in pages.PAGES if p != PARTS])


@pytest.mark.long
def test_the_python_runs(ran):
  _, said, heard = ran
  lines = {name: page["python"] for name, page in said.items()}
  original, transformed = map(float, lines["README.md"][0].split())
  assert 0.1 < original <= 1 and 0.1 < transformed <= 1
  before, after = map(float, lines["README.md"][1].split())
  assert after <= before
  # The default listener told of the course.
  assert "original-0, train: epoch" in heard and "tune: epoch" in heard
  # Within an epoch, which a slow machine tells of, nothing is held out.
  last = dict(re.findall(
      "(?m)^(.*(?:train|tune)): epoch (.* accuracy.*)$", heard))
  assert last and all("held out accuracy" in line for line in last.values())
  assert len(lines["first_steps.md"][0].split()) == 16
  # The user's own operation took the place of a separable convolution.
  assert int(lines["own_operation.md"][0]) < 3349342
  # 432 + 32; twice 2 (2304 + 32); 4608 + 64; 330: by hand.
  assert int(lines["own_network.md"][0]) == 14810
  assert lines["export.md"][-1] == "uint8[b,8,8,3] (5, 10)"
  assert float(lines["export.md"][0].split()[-1]) < 1e-4
  assert lines["own_data.md"] == [
      "(120, 8, 8, 3) 2", "(40, 16, 16, 3) Streamed",
      "(10, 16, 16, 3) (16, 16, 3)",
      "[(65, 22), (8, 3), (574, 191), (72, 24)]"]
  assert lines["add_a_method.md"] == ["['replace', 'mine']"]
  assert lines["add_a_space.md"][0].startswith("small ['darts', 'entrannas'")


@pytest.mark.long
def test_the_commands_run(ran):
  _, said, _ = ran
  done = [command for page in said.values() for command in page["commands"]]
  assert len(done) > 30
  assert not [(line, text[-300:]) for line, code, text in done if code]
  texts = {line: text for line, _, text in done}
  assert "3349342" in texts["natjax cost darts"].replace(",", "")
  assert texts["natjax convert runs/e --to genotype"].startswith("Genotype(")
  assert "transform runs/e, method natpp" in texts[
      "natjax transform runs/e --method natpp --dataset digits"]


@pytest.mark.long
def test_the_parts_run(ran):
  supernet, policy, tuned, shape, miou = run(
      ran[0], [PARTS])[0]["parts.md"]["python"]
  assert supernet.startswith("2 devices, loss of the supernet")
  assert 0 < float(supernet.rpartition(" ")[2]) < 2.3
  assert re.fullmatch(r"reward [+-]\d\.\d+; Edge\(operation='\w+', source=0,"
                      r" target=2\)", policy)
  assert 0.1 < float(tuned.rpartition(" ")[2]) <= 1
  # ResNet20, a quarter as wide; 33 and 50 halved, rounded up.
  assert shape == "(1, 17, 25, 16)"
  assert 0.3 < float(miou.rpartition(" ")[2]) <= 1


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.stem)
def test_every_block_is_run_or_says_why_not(page):
  text = page.read_text()
  blocks = pages.codes(page)
  assert len(blocks) == len(re.findall("^```", text, re.MULTILINE)) / 2
  for block in blocks:
    if included := re.fullmatch(
        r"\{(?:literalinclude|eval-rst)\}(?: (.*))?", block.language):
      # A file that other tests run, or a directive of the reference.
      assert not included[1] or (page.parent / included[1]).is_file()
      continue
    assert block.language in ("python", "sh")
    for words in pages.commands(block.text) * (block.language == "sh"):
      place = pages.elsewhere(words)
      if place and place.startswith("tests/"):
        assert (pages.ROOT / place).exists()
      if words[0] == "python":
        assert (pages.ROOT / words[1]).is_file()
      elif words[0] == "natjax" and "drop" not in words:  # The toy method's.
        parser.parse(words[1:])


def test_a_command_that_is_not_there_is_noticed():
  with pytest.raises(errors.InputError):
    parser.parse(["transform", "resnet20", "--dataset", "digits", "--no-such"])


@pytest.mark.parametrize(
    "page", [*pages.PAGES, pages.ROOT / "CONTRIBUTING.md"],
    ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
  for link in LINK.findall(page.read_text()):
    path, _, anchor = link.partition("#")
    target = page if not path else page.parent / path
    assert target.exists(), link
    if anchor:
      titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
      assert anchor in [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
                        for title in titles], link


def test_the_front_page_leads_to_every_page():
  text = (pages.ROOT / "README.md").read_text()
  for page in pages.PAGES[1:]:
    assert f"](docs/{page.name})" in text


def test_the_two_commands_are_there():
  makefile = (pages.ROOT / "Makefile").read_text()
  readme = (pages.ROOT / "README.md").read_text()
  for command in ("demo", "test", "docs"):
    assert f"make {command}" in readme
    assert f"\n{command}: " in makefile
