"""Names, folders, values and settings that are refused: one line, no more."""

import json
import sys

import pytest

from tests.cli.commands import assert_refused, run, train_argv, transform_argv


def valid(command, *, arch="g.json", out="new", dataset="digits"):
  """A small command that is refused for nothing but what a test changes."""
  make = transform_argv if command == "transform" else train_argv
  argv = make(arch, out)
  argv[argv.index("digits")] = dataset
  return argv


COMMANDS = pytest.mark.parametrize("command", ["transform", "train"])


@COMMANDS
@pytest.mark.parametrize("arch,fragment", [
    ("dart", "'dart'; did you mean darts"),
    ("no/such.json", "no/such.json: No such file"),
    ("such.json", "such.json: No such file"),
    ("unknown_op.json", "unknown_op.json, normal cell: unknown operation"
     " 'conv_9x9'; did you mean conv_"),
    ("unknown_op.txt", "unknown_op.txt, normal cell: unknown operation"),
    ("broken.json", "broken.json: not JSON"),
    ("list.json", "list.json: given list"),
    ("file", "file: not JSON"),
    ("./foreign", "foreign is a folder and holds no run of natjax"),
    ("model", "model is a folder and holds no run of natjax"),
    ("other", "other holds a run that is not finished; resume it"),
    ("x" * 300, "no architecture is named 'xxx"),
    ("1462", "the number of a cell in a benchmark's file means nothing"),
])
def test_refuses_architectures(place, command, arch, fragment):
  assert_refused(place, valid(command, arch=arch), fragment)


@COMMANDS
@pytest.mark.parametrize("arch", ["unequal.json", "three_inputs.json"])
def test_cells_of_any_form(place, command, arch):
  code, out, err = run(*valid(command, arch=arch), "--dry-run", "--json")
  assert code == 0 and json.loads(out)["configuration"]["kind"] == command, err


@COMMANDS
@pytest.mark.parametrize("dataset,fragment", [
    ("digit", "unknown data set 'digit'"),
    ("./nowhere", "nowhere: no such file or folder"),
    ("cifar10", "cifar10 not found"),
    ("small.npz", " images, fewer than a batch of 64"),
    ("negative.npz", "training labels run from -1 to 1"),
    ("named.npz", "training labels run from 0 to 2; with 2 classes"),
    ("keys.npz", "has the keys x, and lacks x_train"),
    ("./foreign", "has 0 class folders"),
])
def test_refuses_data_sets(place, monkeypatch, command, dataset, fragment):
  monkeypatch.setenv("TFDS_DATA_DIR", str(place))
  assert_refused(place, valid(command, dataset=dataset), fragment)


@COMMANDS
@pytest.mark.parametrize("out,fragment", [
    ("file", "file is a file"),
    ("file/run", "file/run cannot be made: Not a directory"),
    ("foreign", "foreign is not empty and holds no run"),
    ("model", "model is not empty and holds no run"),
    ("damaged", "config.json is not JSON and may be damaged"),
])
def test_refuses_folders(place, command, out, fragment):
  assert_refused(place, valid(command, out=out), fragment)
  if out != "damaged":  # Which a run of natjax may have been.
    assert_refused(place, [*valid(command, out=out), "--overwrite"], fragment)


@pytest.mark.parametrize("extra,difference", [
    (["--seed", 1], "seed 0 there and 1 here"),
    (["--samples", 3], "search.samples 2 there and 3 here"),
    (["--train-epochs", 3], "train.epochs 2 there and 3 here"),
    (["--space", "nat_loose_end"], "space.name 'nat' there"),
    (["--image-size", 9], "image_size 8 there and 9 here"),
])
def test_refuses_a_run_of_another_configuration(place, extra, difference):
  assert_refused(place, [*valid("transform", out="other"), *extra],
                 "other holds a run of another configuration", difference,
                 "--overwrite")


def test_refuses_a_run_of_another_command(place):
  assert_refused(place, valid("train", out="other"),
                 "kind 'transform' there and 'train' here", "more); give the")


@pytest.mark.parametrize("name,value,fragment", [
    ("preset", "tiny", "preset 'tiny' is unknown; choose one of demo, small"),
    ("devices", 0, "devices is 0"),
    ("devices", 5, "devices is 5 and this machine has 4"),
    ("epochs", "many", "argument --epochs: invalid int value: 'many'"),
    ("epochs", "1.5", "argument --epochs: invalid int value: '1.5'"),
    ("epochs", 0, "epochs is 0 and must be at least 1"),
    ("epochs", -1, "epochs is -1 and must be at least 1"),
    ("cells", 0, "cells is 0 and must be at least 1"),
    ("cells", -3, "cells is -3"),
    ("init-channels", 0, "init-channels is 0 and must be at least 2"),
    ("init-channels", -2, "init-channels is -2"),
    ("init-channels", 3, "init-channels is 3; a factorised reduce halves"),
    ("batch-size", 0, "batch-size is 0 and must be at least 1"),
    ("batch-size", -8, "batch-size is -8"),
    ("learning-rate", "high", "argument --learning-rate: invalid float"),
    ("learning-rate", "nan",
     "learning-rate is nan; give a finite number (--learning-rate)"),
    ("dtype", "int8", "dtype is 'int8'; choose"),
    ("image-size", 0, "image_size 0"),
    ("image-size", -8, "image_size -8"),
    ("image-size", 2, "image-size 2 is too small for the cifar skeleton"),
    ("seed", -1, "seed is -1 and must lie in [0, "),
    ("seed", 2**32, f"seed is {2**32} and must lie in [0, "),
    ("seed", "one", "argument --seed: invalid int value"),
    ("chunk-seconds", "nan", "chunk-seconds is nan"),
    ("checkpoint-seconds", -1, "checkpoint-seconds is -1.0"),
    ("data-dir", "foreign", "data_dir foreign given with digits"),
    ("speed", 9, "unrecognized arguments: --speed 9"),
    ("epoch", 9, "unrecognized arguments: --epoch 9"),
])
@COMMANDS
def test_refuses_values(place, command, name, value, fragment):
  assert_refused(place, [*valid(command), f"--{name}", value], fragment)


@pytest.mark.parametrize("extra,fragment", [
    (["--method", "darts"], "--method: invalid choice: 'darts'"),
    (["--space", "big"], "'big' is unknown; choose one of nat, nat_loose_end"),
    (["--policy", "new"], "policy is 'new'; choose one of default, published"),
    (["--baseline", "new"], "baseline is 'new'; choose one of auto"),
    (["--selection", "new"], "selection is 'new'; choose one of sample"),
    (["--samples", 0], "samples is 0 and must be at least 1"),
    (["--inputs", 0], "inputs is 0 and must be at least 1"),
    (["--candidates", -1], "candidates is -1 and must be at least 1"),
    (["--warmup-epochs", 2], "warmup-epochs is 2 and must lie in [0, epochs)"),
    (["--warmup-epochs", -1], "warmup-epochs is -1"),
    (["--gcn-layers", 3], "gcn-layers is 3; choose one of 1, 2, 5, 10"),
    (["--weights-fraction", 1], "weights-fraction is 1.0"),
    (["--weights-fraction", 0.01], "weights split has 13 images, fewer than"),
    (["--weights-fraction", 1e-9], "a larger fraction (--weights-fraction)"),
    (["--held-out", 1e-9], "a larger fraction (--held-out)"),
    (["--samples", 1, "--baseline", "leave_one_out"],
     "samples is 1; give 2 or more, or another baseline (--samples)"),
    (["--train-epochs", 0], "epochs is 0 and must be at least 1; give a larger"
     " number (--train-epochs)"),
    (["--train-seeds", 0], "give a larger number (--train-seeds)"),
    (["--train-cells", 0], "cells is 0 and must be at least 1"),
    (["--train-init-channels", -2], "init-channels is -2"),
    (["--train-init-channels", 5], "init-channels is 5; a factorised"),
    (["--train-batch-size", 0], "larger number (--train-batch-size)"),
    (["--train-skeleton", "mnist"], "skeleton 'mnist' is unknown"),
    (["--train-auxiliary"], "(--train-auxiliary)"),
    (["--train-cutout", -1], "cutout is -1 and must lie in [0, 8], the images'"
     " side; 0 turns it off (--train-cutout)"),
    (["--devices", 4, "--batch-size", 6],
     "(6) must be divisible by the number of devices (4); give batch-size 4 or"
     " devices 1 (--batch-size)"),
    (["--devices", 4, "--train-batch-size", 6],
     "give batch-size 4 or devices 1 (--train-batch-size)"),
])
def test_transform_refuses(place, extra, fragment):
  assert_refused(place, [*valid("transform"), *extra], fragment)


@pytest.mark.parametrize("extra,fragment", [
    (["--seeds", 0], "seeds is '0'; pass a range such as --seeds 0:5"),
    (["--skeleton", "imagenet"], "image-size 8 is too small for the imagenet"),
    (["--skeleton", ""], "skeleton '' is unknown; choose one of cifar"),
    (["--held-out", 1e-9], "a larger fraction (--held-out)"),
    (["--auxiliary"], "larger images or no auxiliary head (--auxiliary)"),
    (["--drop-path", 1], "drop-path is 1.0 and must lie in [0, 1)"),
    (["--cutout", 9], "cutout is 9 and must lie in [0, 8]"),
    (["--samples", 2], "unrecognized arguments: --samples 2"),
    (["--devices", 4, "--batch-size", 6],
     "(6) must be divisible by the number of devices (4)"),
])
def test_train_refuses(place, extra, fragment):
  assert_refused(place, [*valid("train"), *extra], fragment)


@pytest.mark.parametrize("argv,fragment", [
    (["train", "resnet20", "--skeleton", ""], "resnet20 has no skeleton ''"),
    (["train", "resnet20", "--width", 3000], "and their gradients take"),
    (["train", "darts", "--init-channels", 3000, "--cells", 20],
     "and their gradients take"),
    *(([command, *words, "--method", method, "--supernet-width", 1e30],
       "times 1e+30, and numbers are at most 1000000; give a smaller factor"
       " (--supernet-width)")
      for command, words, methods in (
          ("transform", ["resnet20"], ("nat", "evolution", "climb")),
          ("search", ["--space", "nasbench201"], ("darts", "random", "spos")))
      for method in methods),
    (["search", "--space", "nasbench201", "--method", "darts",
      "--supernet-width", 3000], "and their gradients take"),
    *((["search", "--space", "darts", "--no-train", f"--train-{name}", value],
       f"{name} is {value} and does nothing with --no-train, which trains"
       f" nothing that is found; leave one of them out (--train-{name})")
      for name, value in (("epochs", 3), ("learning-rate", 0.1),
                          ("seeds", 2), ("batch-size", 8))),
])
def test_refuses_what_no_machine_holds_or_nothing_uses(place, argv, fragment):
  assert_refused(place, [
      *argv, "--dataset", "digits", "--out", "new"], fragment)


@pytest.mark.parametrize("name,fragment", [
    ("missing", "config_missing.json: No such file or directory; name a file"),
    ("key", "must be an object with the keys search, train"),
    ("flat", "must be an object with the keys search, train"),
    ("setting", "config_setting.json: unknown setting 'epoch'; known are max"),
    ("text", "'epochs' is '3' and must be of type int"),
    ("bool", "'epochs' is True and must be of type int"),
    ("real", "'epochs' is 3.0 and must be of type int"),
    ("null", "'learning_rate' is None and must be of type float"),
    ("zero", "epochs is 0 and must be at least 1"),
    ("infinite", "learning-rate is inf"),
])
def test_refuses_config_files(place, name, fragment):
  argv = valid("transform")
  # Flags would take precedence over the file.
  for flag in ("--epochs", "--train-epochs"):
    del argv[argv.index(flag):argv.index(flag) + 2]
  assert_refused(
      place, [*argv, "--config", f"config_{name}.json"], fragment)


@pytest.mark.parametrize("name,fragment", [
    ("broken.json", "broken.json is not JSON and may be damaged; correct it"),
    ("list.json", "must be an object with the keys train"),
    ("foreign", "foreign: Is a directory; name a file"),
])
def test_train_refuses_config_files(place, name, fragment):
  assert_refused(place, [*valid("train"), "--config", name], fragment)


@COMMANDS
def test_refuses_missing_flags(place, command):
  argv = valid(command)
  where = argv.index("--dataset")
  assert_refused(place, argv[:where] + argv[where + 2:], "required: --dataset")


def test_refuses_tensorboard_where_it_is_not_installed(place, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorboardX", None)
  assert_refused(place, [*valid("train"), "--tensorboard"],
                 "--tensorboard needs tensorboardX; pip install")


@pytest.mark.parametrize("argv,fragment", [
    ([], "required: COMMAND"),
    (["search"], "required: --space, --dataset"),
    (["search", "--space", "nat", "--dataset", "digits", "--method", "m"],
     "invalid choice: 'm'"),
    (["find"], "invalid choice: 'find'"),
    (["cost"], "required: ARCH"),
    (["cost", "a\nb"], "no architecture is named 'a b'"),
    (["cost", "dart"], "did you mean darts"),
    (["cost", "unknown_op.txt"], "unknown operation 'conv_9x9'"),
    (["cost", "darts", "--cells", 0], "cells is 0 and must be at least 1"),
    (["cost", "darts", "--classes", -1], "classes is -1"),
    (["cost", "darts", "--init-channels", 7], "init-channels is 7"),
    (["cost", "darts", "--image-size", 7], "image-size 7 is too small"),
    (["cost", "darts", "--skeleton", "x"], "invalid choice: 'x'"),
    (["operations", "--channels", 0], "channels is 0"),
    (["operations", "--image-size", -4], "image-size is -4"),
    (["draw", "darts"], "required: --out"),
    (["draw", "dart", "--out", "f.svg"], "did you mean darts"),
    (["draw", "foreign", "--out", "f.svg"], "foreign is a folder and holds no"),
    (["draw", "darts", "other", "--out", "f.svg"], "run that is not finished"),
    (["cost", "other"], "run that is not finished"),
    (["cost", "model"], "model is a folder and holds no run"),
    (["draw", "darts", "nat_dart", "--out", "f.svg"], "did you mean nat_darts"),
    (["draw", "darts", "--out", "f.gif"], ".svg or .png, not as '.gif'"),
    (["draw", "darts", "--out", "no/f.svg"], "there is no directory 'no'"),
    (["evaluate", "nowhere"], "nowhere/config.json: No such file"),
    (["evaluate", "foreign"], "foreign/config.json: No such file"),
    (["evaluate", "model"], "model holds no run of natjax"),
    (["evaluate", "damaged"], "config.json is not JSON"),
    (["evaluate", "other"], "other holds no trained network"),
])
def test_short_commands_refuse(place, argv, fragment):
  assert_refused(place, argv, fragment)
