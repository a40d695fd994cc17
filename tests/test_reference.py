"""Every public name has a docstring and stands in the reference."""

import ast
import importlib
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys

import pytest

import natjax
from tests import pages

REFERENCE = sorted((pages.ROOT / "docs" / "reference").glob("*.md"))
# `__all__` is what they offer; of the other modules what is defined there.
OFFERING = ("natjax", *(
    f"natjax.{name}" for name in (
        "costs", "data", "drawing", "operations", "pipeline", "spaces", "zoo")))
DIRECTIVE = re.compile(r"^\.\. auto(module|data):: (\S+)\n((?:   :.*\n)*)",
                       re.MULTILINE)


def public(module):
  """The names that a module offers, or defines, but for other modules."""
  found = importlib.import_module(module)
  names = getattr(found, "__all__", None)
  if names is None:
    names = [n for n, value in vars(found).items() if not n.startswith("_")
             and getattr(value, "__module__", None) == module]
  return {name: getattr(found, name) for name in names}


def home(module, name):
  """The source that a constant stands in, with what stands before it."""
  source = inspect.getsource(importlib.import_module(module))
  return re.search(rf"((?:^#.*\n)*)^{name}\b(?:: [^=]+)? = ", source,
                   re.MULTILINE)


@pytest.fixture(scope="module")
def documented():
  """(modules, objects by id, names of constants) of the reference's pages."""
  modules, objects, constants = set(), {}, set()
  for page in REFERENCE:
    for kind, name, options in DIRECTIVE.findall(page.read_text()):
      module, _, last = name.rpartition(".")
      if kind == "data":
        found = home(module, last)
        assert found and found[1].startswith("#: "), name
        constants.add(last)
        continue
      assert name not in modules
      modules.add(name)
      left_out = re.search(":exclude-members: (.*)", options)
      names = public(name)
      assert ":imported-members:" in options or name not in OFFERING
      for word in left_out[1].split(", ") if left_out else ():
        assert hasattr(importlib.import_module(name), word)
        names.pop(word, None)
      objects.update((id(value), value) for value in names.values())
      constants |= {match[1] for match in re.finditer(
          r"^#: .*\n(?:#.*\n)*(\w+)\b", inspect.getsource(
              importlib.import_module(name)), re.MULTILINE)}
  return modules, objects, constants


@pytest.mark.parametrize("module", OFFERING)
def test_every_public_name_is_documented(documented, module):
  modules, objects, constants = documented
  assert module in modules
  for name, value in public(module).items():
    if inspect.ismodule(value):
      assert value.__name__ in modules and value.__doc__, name
    elif name in constants:
      continue
    elif inspect.isclass(value) or inspect.isfunction(value):
      own = value.__dict__.get("__doc__") if inspect.isclass(
          value) else value.__doc__
      # What dataclasses and named tuples write by themselves says nothing.
      assert own and not own.startswith(f"{value.__name__}("), name
      assert id(value) in objects, name
    else:
      pytest.fail(f"{module}.{name} has no comment that begins with #:")


def test_what_other_modules_of_the_reference_define_is_documented(documented):
  modules, _, constants = documented
  for module in modules:
    assert importlib.import_module(module).__doc__
    for name, value in public(module).items():
      if name not in constants and callable(value):
        assert inspect.getdoc(value), (module, name)


def imported(source):
  """The modules of natjax that some Python imports, by their own names."""
  for item in ast.walk(ast.parse(source)):
    if isinstance(item, ast.Import):
      names = [alias.name for alias in item.names]
    elif isinstance(item, ast.ImportFrom):
      names = [f"{item.module}.{alias.name}" for alias in item.names]
    else:
      continue
    for name in names:
      if name.split(".")[0] == "natjax":
        yield pkgutil.resolve_name(name)


def taught():
  """What pages, notebooks and the toys of pages have a reader import."""
  for page in pages.PAGES:
    for code in pages.codes(page):
      if code.language == "python":
        yield from imported(code.text)
  for notebook in (pages.ROOT / "experiments" / "notebooks").glob("*.ipynb"):
    for cell in json.loads(notebook.read_text())["cells"]:
      if cell["cell_type"] == "code":
        yield from imported("".join(cell["source"]))
  for toy in (pages.ROOT / "tests" / "toys").glob("toy_*.py"):
    yield from imported(toy.read_text())


def test_what_a_reader_imports_stands_in_the_reference(documented):
  found = {value.__name__ for value in taught() if inspect.ismodule(value)}
  assert {"natjax", "natjax.data"} <= found
  assert found - documented[0] == set()


def test_every_room_stands_in_the_reference(documented):
  """Itself, or modules of it."""
  parts = [module.split(".")[1:2] for module in documented[0]]
  rooms = [room.name for room in pkgutil.iter_modules(natjax.__path__)
           if not room.name.startswith("_")]
  assert len(rooms) > 15
  assert [room for room in rooms if [room] not in parts] == []


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
  pytest.importorskip("furo", reason="of the extra `docs`")
  pytest.importorskip("myst_parser", reason="of the extra `docs`")
  from sphinx.util import inventory

  done = subprocess.run(
      [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-b",
       "html", "-c", "docs", "-d", tmp_path / "trees", ".", tmp_path / "site"],
      cwd=pages.ROOT, env={**os.environ, "PYTHONPATH": str(pages.ROOT)},
      capture_output=True, text=True, timeout=900, check=False)
  assert done.returncode == 0, done.stderr[-3000:]
  found = inventory.InventoryFile.loads(
      (tmp_path / "site" / "objects.inv").read_bytes(), uri="")
  names = {name for domain in found.data.values() for name in domain}
  assert names >= {"natjax.transform", "natjax.data.load", "natjax.zoo.get",
                   "natjax.spaces.nat.SPACES", "natjax.graph.blocks",
                   "natjax.interchange.weights.read"}
