"""The notebooks hold no outputs, and run to their ends."""

import json
import os

import pytest

from tests import pages

FOLDER = pages.ROOT / "experiments" / "notebooks"
NAMES = ("policy", "results", "search", "transform")


def test_the_notebooks_are_kept_without_outputs():
  assert sorted(file.stem for file in FOLDER.glob("*.ipynb")) == [*NAMES]
  for name in NAMES:
    for cell in json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]:
      assert not cell.get("outputs") and not cell.get("execution_count")


def texts(notebook):
  """What the cells of a notebook that ran printed or showed, as one text."""
  return "".join(
      output.get("text", "") + output.get("data", {}).get("text/plain", "")
      for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.mark.slow
def test_the_notebooks_run(tmp_path, monkeypatch):
  nbformat = pytest.importorskip("nbformat", reason="of the extra `docs`")
  nbclient = pytest.importorskip("nbclient", reason="of the extra `docs`")
  pytest.importorskip("ipykernel", reason="of the extra `docs`")
  monkeypatch.setenv("PYTHONPATH", str(pages.ROOT))
  monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
  monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
  said = {}
  for name in NAMES:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=1200, kernel_name="python3",
        resources={"metadata": {"path": os.fspath(tmp_path)}}).execute()
    said[name] = texts(notebook)
  assert "original: 86.66 % ± 0.37" in said["results"]
  assert "resnet20" in said["results"]
  assert "original" in said["transform"]
  assert "Cell(edges=" in said["search"]
  assert (tmp_path / "runs" / "found.svg").is_file()
  words = said["policy"].split()
  assert float(words[words.index("last") + 1]) > 1.5 * float(
      words[words.index("first") + 1])
