"""What is imported when, and Ctrl-C meanwhile."""

import subprocess
import sys

import pytest

import natjax
from natjax import methods
from natjax.cli import inspection
from natjax.methods import listed
from natjax.pipeline import presets

HEAVY = {"chex", "flax", "jraph", "matplotlib", "optax", "orbax", "PIL", "rich",
         "scipy", "sklearn", "tensorstore"}


def python(code):
  """A process that runs code; its exit code and what it printed."""
  done = subprocess.run([sys.executable, "-c", code], capture_output=True,
                        text=True, timeout=120)
  return done.returncode, done.stdout, done.stderr


def imported(code):
  """The packages that code has imported at its end."""
  status, out, err = python(f"import sys\n{code}\n"
                            "print(*{m.split('.')[0] for m in sys.modules})")
  assert status == 0, err
  return set(out.splitlines()[-1].split())


def test_natjax_imports_what_is_asked_for():
  found = imported("import natjax, sys; before = {*sys.modules}\n"
                   "assert natjax.training.fit.Listener is natjax.Listener\n"
                   "for m in {*sys.modules} - before: del sys.modules[m]")
  assert "natjax" in found and not found & {*HEAVY, "jax", "numpy"}


def test_what_only_counts_or_shows_imports_no_jax(tmp_path):
  commands = [["cost", "darts"], ["cost", "resnet20"], ["list"],
              ["cost", "proxyless-mobile", "--json"],
              ["convert", "darts", "--to", "genotype"],
              ["operations", "--space", "darts"], ["cost", "--help"],
              ["draw", "darts", "nat_darts", "--out", str(tmp_path / "a.svg")]]
  found = imported(f"""
from natjax import cli, data
for command in {[*commands, ["--version"], ["--help"]]}:
  try:
    code = cli.main(command)
  except SystemExit as e:
    code = e.code
  assert code == 0, command
  assert not {{*sys.modules}} & {{"jax", "jaxlib", "flax"}}, command
""")
  assert "natjax" in found and not found & HEAVY - {"PIL", "rich"}


def test_what_needs_jax_is_imported_when_it_is_asked_for():
  found = imported("""
from natjax import data, methods, operations
assert "jax" not in sys.modules
assert {"Conv", "kernel_init"} <= {*dir(operations)} and "METHODS" in (
    dir(methods)) and "Views" in dir(data)
operation = operations.get("conv_3x3")
module = operation.module(features=4, stride=1, norm=None)
assert type(module).__module__ == "natjax.operations.convolutions"
assert operations.Conv.__module__ == "natjax.operations.convolutions"
assert operations.primitives.output_size(5, 2) == 3
assert data.Views.__module__ == "natjax.data.views"
""")
  assert "jax" in found


def test_the_listed_names_are_those_of_methods_and_presets():
  assert {name: entry.help for name, entry in methods.METHODS.items()} == (
      listed.LINES)
  assert (*presets.IMAGENET, presets.SEARCH) == listed.ON_IMAGENET


def test_methods_leave_out_what_few_of_them_need():
  found = imported("import natjax.methods.known, natjax.cli.parser")
  assert "optax" in found and not found & {"matplotlib", "scipy", "sklearn"}


def test_every_name_is_there():
  for name in (*natjax.__all__, "graph", "policies", "errors"):
    assert getattr(natjax, name) is not None and name in dir(natjax)
  assert "transform" in natjax.__all__


def test_an_unknown_name_is_refused():
  with pytest.raises(AttributeError, match="no attribute 'transfrom'"):
    natjax.transfrom  # noqa: B018
  assert not hasattr(natjax, "__wrapped__")


# One of the library's own imports, and two within other packages.
@pytest.mark.parametrize("name", ["natjax.cli.parser", "jax", "optax"])
def test_ctrl_c_during_an_import_is_one_line(name):
  code, out, err = python(f"""
import os, signal, sys
from natjax.cli import main

# A shell's background jobs begin with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

class Interrupting:
  def find_spec(self, name, path=None, target=None):
    if name == {name!r}:
      try:
        os.kill(os.getpid(), signal.SIGINT)
      except BaseException:
        raise ImportError("as an extension that it stops")

sys.meta_path.insert(0, Interrupting())
sys.argv[1:] = ["search", "--space", "none", "--dataset", "digits"]
sys.exit(main())""")
  assert (code, out, err) == (130, "", "natjax: interrupted\n")


def test_ctrl_c_at_the_end_of_the_process_ends_it():
  code, out, err = python("""
import atexit, os, signal, sys
from natjax.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
sys.argv[1:] = ["cost", "darts"]
sys.exit(main())""")
  assert (code, err) == (0, "") and out.startswith("darts: 3349342 parameters")


def test_after_ctrl_c_nothing_is_torn_down():
  code, out, err = python("""
import atexit, signal, sys
from natjax.cli import inspection, main

signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(print, "torn down")

def interrupted(args):
  print("half")
  signal.raise_signal(signal.SIGINT)

inspection.run_list = interrupted
sys.argv[1:] = ["list"]
sys.exit(main())""")
  assert (code, out, err) == (130, "half\n", "natjax: interrupted\n")


def test_ctrl_c_that_became_another_error(monkeypatch, capsys):
  def fail(args):
    try:
      raise KeyboardInterrupt
    except KeyboardInterrupt as e:
      raise RuntimeError("Error calling __set_name__") from e

  monkeypatch.setattr(inspection, "run_list", fail)
  assert natjax.cli.main(["list"]) == 130
  assert capsys.readouterr().err == "natjax: interrupted\n"
