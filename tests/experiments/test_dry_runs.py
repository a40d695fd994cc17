"""What the papers' tables would take, of every script that trains for one."""

import pytest

from tests.experiments import scripts

# Of every script a part of its preset "paper", and of some rows runs and steps.
CASES = {
    "handcrafted": (["--networks", "resnet20", "--datasets", "cifar10"], {
        "cifar10: resnet20: NAT++": (1, 200 * (156 + 234) * 2),
        "cifar10: resnet20: trained as given and by both": (
            3, 3 * 3 * 200 * 390)}),
    "nas_architectures": (
        ["--networks", "pc_darts_cifar", "--datasets", "cifar100"], {
            "cifar100: pc_darts_cifar: trained as given and by both": (
                3, 3 * 3 * 600 * 520)}),
    "random_architectures": ([], {"trained": (80, 80 * 600 * 390)}),
    "differentiable_reproducibility": (
        ["--networks", "resnet20", "--kinds", "original", "nat", "full"], {
            "cifar10: resnet20: original": (1, 5 * 600 * 520),
            "cifar10: resnet20: NAT, default, trained": (5, 5 * 600 * 520),
            "cifar10: resnet20: Full": (1, 5 * 600 * 520)}),
    "tiny_imagenet": (["--networks", "resnet20", "--kinds", "cell"], {
        "tiny_imagenet: resnet20: Cell": (1, 5 * 600 * 1041)}),
    "self_supervised": (["--networks", "darts"], {
        "darts: as it is": (1, 500 * 97), "darts: with theta": (1, 500 * 97)}),
    "entrannas": (["--tables", "4"], {
        "sparsity-0.2": (5, 5 * 50 * (25000 // 512))}),
    "nasbench201_search": (["--methods", "darts", "random"], {
        "DARTS": (5, 5 * 50 * (25000 // 64)),
        "random search": (5, 5 * 10 * (12 + 1) * (25000 // 64))}),
    "it_nas": (["--parts", "s1-s4"], {
        "s4: DARTS": (4, 4 * 50 * (25000 // 64)),
        "s4: trained": (8, 8 * 600 * 520)})}
_ALL = """
import importlib
import sys
for name, flags in {cases}.items():
  print("script:", name)
  importlib.import_module(name).main(
      [*flags, "--preset", "paper", "--dry-run", "--out", sys.argv[1]])
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
  out = tmp_path_factory.mktemp("dry") / "run"
  done = scripts.run("-c", _ALL.format(
      cases={name: flags for name, (flags, _) in CASES.items()}), out)
  assert done.returncode == 0, done.stderr
  assert not out.exists()
  return {part.split("\n", 1)[0]: part
          for part in done.stdout.split("script: ")[1:]}


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_steps_memory_and_hours(printed, name):
  rows = {row[1]: row for row in (
      [cell.strip() for cell in line.split("|")]
      for line in printed[name].splitlines() if line.startswith("|"))}
  assert rows[""][2:-1] == [
      "runs", "steps", "memory of a device, GiB", "hours"]
  found = {what: tuple(map(int, row[2:4])) for what, row in rows.items()
           if row[2].isdecimal()}
  for what, wanted in CASES[name][1].items():
    assert found[what] == wanted
  total = found.pop("all")
  assert total == tuple(map(sum, zip(*found.values(), strict=True)))
  for what in (*found, "all"):
    assert 0 < float(rows[what][5]) < 1e4 and float(rows[what][4]) > 0.1


@pytest.mark.long
def test_bad_input_is_one_line(tmp_path):
  for flags, words in ((["--teraflops", "0"], "teraflops is 0 and must"),
                       (["--data-dir", tmp_path], "cifar10 not found in")):
    done = scripts.run(
        scripts.EXPERIMENTS / "self_supervised.py", "--preset", "paper",
        "--dry-run", "--out", tmp_path / "run", *flags)
    assert done.returncode == 2
    assert words in done.stderr and done.stderr.count("\n") == 1


_REFUSED = """
import importlib
import sys
from natjax import errors
for name, *flags in {cases}:
  try:
    importlib.import_module(name).main([*flags, "--out", sys.argv[1]])
  except errors.InputError as error:
    print("script:", name, *flags, error)
"""


def test_what_has_no_effect_is_refused(tmp_path):
  cases = [(name, "--dry-run", *flags) for name, flags in (
      ("entrannas", ["--jobs", "3"]), ("entrannas", ["--executor", "local"]),
      ("handcrafted", ["--slurm", "timeout_min=3"]),
      ("random_architectures", ["--overwrite"]),
      ("segmentation", ["--report", "there"]))]
  cases += [(name, "--teraflops", "3") for name in CASES]
  done = scripts.run("-c", _REFUSED.format(cases=cases), tmp_path / "run")
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  assert len(lines) == len(cases) and not (tmp_path / "run").exists()
  for line, (name, first, second, *_) in zip(lines, cases, strict=True):
    assert line.startswith(f"script: {name} {first} ")
    assert (f"{second} has no effect with --dry-run, which runs nothing"
            if first == "--dry-run" else
            f"{first} has no effect without --dry-run") in line
