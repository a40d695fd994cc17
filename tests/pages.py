"""The code of README and of the pages in docs, and what runs it.

Run as `python -m tests.pages PAGE ...`, it runs what stands in pages, one after
another, in the working folder, and writes what came of it to said.json: per
page, what its Python printed, and per command its exit code and what it said.
The pages' runs stay for later ones. All that differs from what a reader types:

- data sets have fewer images to train on, ResNet20 has a quarter of its
  channels and one block of three, and on the page on parts, which costs none,
  DARTS has two nodes of four, which takes a fraction of the time;
- a command that trains or searches only says what it would do (`--dry-run`),
  so all is checked and nothing compiled; where one names a run that no page
  has made, there is another in its place (`stand_ins`), and what makes it names
  a folder beside that.
"""

import contextlib
import dataclasses
import io
import json
import pathlib
import re
import shlex
import shutil
import sys
import typing

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
JOBS = ("transform", "search", "train")
# What is only parsed, and where else it runs.
ELSEWHERE = {
    "natjax selftest": "tests/cli/test_selftest.py",
    "natjax benchmark": "tests/cli/test_benchmark.py",
    "natjax rank": "tests/pipeline/test_supernets.py",
    "natjax verify": "tests/cli/test_verify.py",
    "natjax draw runs/dnat --theta": "tests/cli/test_differentiable.py",
    "make": "test_the_two_commands_are_there",
    "python experiments/": "tests/experiments"}


class Code(typing.NamedTuple):
  """A block of code.

  Attributes:
    language: what stands behind its fence.
    text: its lines.
    reason: why it is not run, of a comment `<!-- not run: REASON -->` before.
  """

  language: str
  text: str
  reason: str


def codes(page):
  """The blocks of a page, in order."""
  return [Code(*found.group(2, 3), found[1] or "") for found in re.finditer(
      r"(?:<!-- not run: ([^\n]+) -->\n)?^```([^\n]*)\n(.*?)^```$",
      page.read_text(), re.DOTALL | re.MULTILINE)]


def commands(text):
  """The commands of a block, each as a list of words."""
  found = (shlex.split(line, comments=True)
           for line in text.replace("\\\n", " ").splitlines())
  return [words for words in found if words]


def elsewhere(words):
  """Where a command runs that is only parsed here; None of others."""
  line = " ".join(words)
  return next((v for k, v in ELSEWHERE.items() if line.startswith(k)), None)


def fewer(nodes):
  """Makes data sets, ResNet20 and, by its nodes, DARTS smaller."""
  from natjax import blocks, data, zoo
  from natjax.graph import genotype

  get, load = zoo.get, data.load

  def narrower(name, *args):
    found = get(name, *args)
    if name == "darts":
      return genotype.Genotype(*(cell._replace(
          edges=tuple(e for e in cell.edges if e.target < 2 + nodes),
          concat=tuple(n for n in cell.concat if n < 2 + nodes))
                                 for cell in found))
    if name != "resnet20":
      return found
    return blocks.scale(found._replace(blocks=found.blocks[::3]), 0.25)

  def fewer_images(*args, **settings):
    found = load(*args, **settings)
    return dataclasses.replace(found, train_images=found.train_images[:512],
                               train_labels=found.train_labels[:512])

  zoo.get, data.load = narrower, fewer_images


def stand_ins(folder):
  """Makes what the commands of pages name: a data set, and runs.

  `runs/e` is a network of cells, the others the run of README's ten lines.
  """
  import numpy as np

  from natjax import codec, zoo
  from natjax.pipeline import run_files

  (folder / "DATA").mkdir()
  labels = np.arange(640) % 10
  images = np.zeros((640, 8, 8, 3), np.uint8) + labels[:, None, None, None]
  np.savez(folder / "DATA" / "cifar10.npz", x_train=images.astype(np.uint8),
           y_train=labels, x_test=images[:10].astype(np.uint8),
           y_test=labels[:10])
  runs = folder / "runs"
  for name in ("r", "d", "t"):
    shutil.copytree(runs / "notebook", runs / name)
  for seed in (1, 2):  # The presets train three networks.
    network = shutil.copytree(runs / "r" / "networks" / "original-0",
                              runs / "r" / "networks" / f"original-{seed}")
    kept = network / run_files.RESULT
    run_files.write_kept(kept, {**json.loads(kept.read_text()), "seed": seed})
  shutil.copytree(runs / "notebook" / "networks" / "original-0", runs / "e",
                  ignore=shutil.ignore_patterns("checksums.json"))
  file = runs / "e" / "result.json"
  file.write_text(json.dumps({**json.loads(file.read_text()), "architecture":
                              codec.to_dict(zoo.get("darts"))}))


def run(words):
  """Runs a command; returns its exit code and what it said."""
  from natjax import cli
  said = io.StringIO()
  if words[1] in JOBS:
    words = [f"{word}-new" if before == "--out" else word
             for before, word in zip(["", *words], words, strict=False)]
  with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
    code = cli.main([*words[1:], *["--dry-run"] * (words[1] in JOBS)])
  return code, said.getvalue()


def main(folder, pages):
  """Runs the pages; see the head of this file."""
  fewer(nodes=2 if [pathlib.Path(page).stem for page in pages] == ["parts"]
        else 4)
  file = folder / "said.json"
  said = json.loads(file.read_text()) if file.exists() else {}
  for page in map(pathlib.Path, pages):
    own, heard = {}, io.StringIO()  # A page is a script by itself.
    with contextlib.redirect_stdout(heard):
      for code in codes(page):
        if code.language == "python" and not code.reason:
          exec(compile(code.text, page.name, "exec"), own)
    said[page.name] = {"python": heard.getvalue().splitlines()}
  if not (folder / "DATA").exists():
    stand_ins(folder)
  for page in map(pathlib.Path, pages):
    said[page.name]["commands"] = [
        [" ".join(words), *run(words)] for code in codes(page)
        if code.language == "sh" and not code.reason
        for words in commands(code.text) if not elsewhere(words)]
  file.write_text(json.dumps(said))


if __name__ == "__main__":
  main(pathlib.Path.cwd(), sys.argv[1:])
