"""Parts of an experiment: here, as local jobs, and by a Slurm made up."""

import importlib
import json
import os
import signal
import sys
import threading
import time
import types

import pytest

from natjax import errors
from tests.experiments import scripts
from tests.experiments import test_nasbench201_search as search_test

SEARCH = scripts.EXPERIMENTS / "nasbench201_search.py"
TOY = scripts.ROOT / "tests" / "toys" / "toy_sweep.py"
# Commands of Slurm, which run jobs at once, in the background. $SLURM holds an
# empty file per job in `queue`, and one in `again` of those to run anew.
SLURM = {
    "sbatch": r"""
number=$(($(ls "$SLURM/scripts" | wc -l) + 40))
cp "$1" "$SLURM/scripts/$number"
last=$(sed -n 's/^#SBATCH --array=0-\([0-9]*\)%.*/\1/p' "$1")
for task in ${last:+$(seq 0 "$last")} ${last:-alone}; do
  id=$number; [ -n "$last" ] && id=${number}_$task
  [ -e "$SLURM/queue/$id" ] && continue
  touch "$SLURM/queue/$id"
  ( export SLURM_JOB_ID=$number
    [ -n "$last" ] &&
      export SLURM_ARRAY_JOB_ID=$number SLURM_ARRAY_TASK_ID=$task
    while :; do
      bash "$SLURM/scripts/$number"
      rm "$SLURM/again/$id" || break
    done
    rm "$SLURM/queue/$id" ) >"$SLURM/said-$id" 2>&1 &
done
echo "Submitted batch job $number"
""",
    "srun": r"""
while [ "${1#--}" != "$1" ]; do
  case $1 in --output|--error) shift;; esac
  shift
done
exec "$@"
""",
    "squeue": 'ls "$SLURM/queue"',
    "scontrol": '[ "$1" = requeue ] && touch "$SLURM/again/$2"'}


@pytest.fixture
def toy(monkeypatch):
  monkeypatch.syspath_prepend(str(scripts.EXPERIMENTS))
  monkeypatch.syspath_prepend(str(TOY.parent))
  return importlib.import_module("toy_sweep")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
  """The folder of a Slurm whose commands are first in the path."""
  folder = tmp_path / "slurm"
  for name in ("bin", "scripts", "queue", "again"):
    (folder / name).mkdir(parents=True)
  for name, text in SLURM.items():
    path = folder / "bin" / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
  monkeypatch.setenv("SLURM", str(folder))
  monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
  return folder


A = "sweep/part-a/result.json"


def begun(out):
  """The starts of every part: their processes."""
  rows = [line.split() for line in (out / "begun").read_text().splitlines()]
  return {name: [int(pid) for other, pid in rows if other == name]
          for name in "abc"}


def recorded(out):
  result = json.loads((out / "report" / "result.json").read_text())
  return [*result["found"]], result.get("missing"), (
      out / "report" / "README.md").read_text()


def when(there, do):
  """Does something in a while, once there is something."""
  def wait():
    while not there():
      time.sleep(0.05)
    do()

  thread = threading.Thread(target=wait, daemon=True)
  thread.start()
  return thread


def has_begun(out, name):
  return (out / "begun").exists() and bool(begun(out)[name])


def test_a_part_that_fails_ends_no_other(toy, tmp_path, capsys):
  argv, out = ["--out", str(tmp_path / "run")], tmp_path / "run"
  out.mkdir()
  toy.sweeps.recording.write(out / "experiment.json", {"seed": 0})
  (out / "saved").touch()
  with pytest.raises(SystemExit) as end:
    toy.main(argv)
  assert end.value.code == 1
  found, missing, text = recorded(out)
  assert found == ["part a", "part c"]
  assert missing == {"part b": "ValueError: it is broken"}
  assert "Missing: part b (ValueError: it is broken)." in text
  assert "part b: ValueError: it is broken\n" in capsys.readouterr().err
  (out / "mended").touch()
  toy.main(argv)
  assert recorded(out)[:2] == (["part a", "part b", "part c"], None)
  assert "Missing" not in recorded(out)[2]
  assert {name: len(pids) for name, pids in begun(out).items()} == {
      "a": 1, "b": 2, "c": 1}


def test_ctrl_c_saves_and_reports_what_is_finished(toy, tmp_path, capsys):
  out = tmp_path / "run"
  when(lambda: has_begun(out, "c"), lambda: os.kill(
      os.getpid(), signal.SIGINT))
  with pytest.raises(SystemExit) as end:
    toy.main(["--out", str(out)])
  assert end.value.code == 130
  assert (out / "saved").exists()
  assert recorded(out)[1] == {"part b": "ValueError: it is broken",
                              "part c": "stopped and saved"}
  assert "Stopping" in capsys.readouterr().err


def test_nothing_finished_is_no_report(toy, tmp_path, monkeypatch, capsys):
  out = tmp_path / "run"
  monkeypatch.setattr(toy.sweeps.Sweep, "_make", lambda self, part: 1 / 0)
  with pytest.raises(SystemExit) as end:
    toy.main(["--out", str(out)])
  assert end.value.code == 1 and not (out / "report").exists()
  assert "nothing is finished" in capsys.readouterr().err


@pytest.mark.long
def test_local_jobs_are_told_to_save(toy, tmp_path, monkeypatch):
  pytest.importorskip("submitit")
  out = tmp_path / "run"
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
  argv = ["--out", str(out), "--executor", "local", "--jobs", "2", "--parts"]
  when(lambda: has_begun(out, "c") and (out / A).exists(),
       lambda: os.kill(os.getpid(), signal.SIGTERM))
  with pytest.raises(SystemExit) as end:
    toy.main([*argv, "ac"])
  assert end.value.code == 143
  found, missing, text = recorded(out)
  assert found == ["part a"] and (out / "saved").exists()
  assert missing == {"part c": "stopped and saved"}
  assert "load average" not in text and "CPU cores" in text
  rows = json.loads((out / "report" / "result.json").read_text())["found"]
  assert rows["part a"] == {"seed": 0, "cards": "4"}
  (out / "mended").touch()
  toy.main(argv[:2])  # What jobs began goes on here.
  assert recorded(out)[:2] == (["part a", "part b", "part c"], None)
  (a,), _, (c, again) = begun(out).values()
  assert again == os.getpid() and len({a, c, again}) == 3


@pytest.mark.long
def test_slurm_queues_again_what_its_time_ends(
    toy, slurm, tmp_path, monkeypatch):
  pytest.importorskip("submitit")
  monkeypatch.setattr(toy.sweeps.sweep_jobs, "POLL", 0.2)
  out = tmp_path / "run"
  argv = ["--out", str(out), "--executor", "slurm", "--slurm", "timeout_min=30",
          "partition=gpu", "--jobs", "9", "--parts", "bc"]
  when(lambda: has_begun(out, "c"),
       lambda: os.kill(begun(out)["c"][0], signal.SIGUSR2))
  with pytest.raises(SystemExit) as end:
    toy.main(argv)
  assert end.value.code == 1
  found, missing, _ = recorded(out)
  assert found == ["part c"]
  assert missing == {"part b": "ValueError: it is broken"}
  assert len(begun(out)["c"]) == 2 and (out / "saved").exists()
  script = (slurm / "scripts" / "40").read_text()
  for line in ("--partition=gpu", "--time=30", "--requeue",
               "--job-name=toy_sweep", "--array=0-1%2"):
    assert f"#SBATCH {line}\n" in script


def test_jobs_in_the_queue_are_waited_for(toy, slurm, tmp_path, monkeypatch):
  """And not submitted twice; what is not in it any more is."""
  pytest.importorskip("submitit")
  monkeypatch.setattr(toy.sweeps.sweep_jobs, "POLL", 0.1)
  (slurm / "bin" / "sbatch").write_text("""#!/bin/bash
touch "$SLURM/queue/7_"{0,1,2}
echo >>"$SLURM/count"
echo job 7
""")
  out = tmp_path / "run"
  argv = ["--out", str(out), "--executor", "slurm", "--slurm", "time=30"]
  stop = lambda: os.kill(os.getpid(), signal.SIGINT)
  for _ in range(2):
    when(lambda: (out / "sweep" / "jobs.json").exists(),
         lambda: (time.sleep(0.5), stop()))
    with pytest.raises(SystemExit) as end:
      toy.main(argv)
    assert end.value.code == 130 and not (out / "report").exists()
    assert (slurm / "count").read_text() == "\n"
  for path in (slurm / "queue").iterdir():
    path.unlink()
  (slurm / "bin" / "sbatch").write_text("#!/bin/bash\necho no such partition"
                                        " >&2; exit 1")
  with pytest.raises(errors.InputError, match=r"refused.*no such partition"):
    toy.main(argv)


def test_a_job_runs_its_part_alone_and_once(toy, tmp_path, monkeypatch):
  argv, out = ["--out", str(tmp_path / "run")], tmp_path / "run"
  monkeypatch.setattr(toy.sweeps.sweep_jobs, "PART", "part a")
  for more in ((), ("--overwrite",)):  # Which was for the first process.
    with pytest.raises(SystemExit) as end:
      toy.main([*argv, *more])
    assert not end.value.code
  assert [len(pids) for pids in begun(out).values()] == [1, 0, 0]
  assert (out / A).exists() and not (out / "report").exists()
  monkeypatch.setattr(toy.sweeps.sweep_jobs, "PART", "part d")
  with pytest.raises(errors.InputError, match="part d is none of the parts"):
    toy.main(argv)


@pytest.fixture
def job(toy, monkeypatch):
  """Runs a function as the script of a job on a cluster; its exit code."""
  def run(main, cluster, patience=60):
    where = types.SimpleNamespace(cluster=cluster)
    environment = lambda: where
    environment.USR_SIG = "USR2"
    monkeypatch.setattr(toy.sweeps.sweep_jobs, "submitit",
                        types.SimpleNamespace(JobEnvironment=environment))
    monkeypatch.setitem(sys.modules, "script", types.SimpleNamespace(main=main))
    # As submitit does, whose exit codes are others.
    signal.signal(signal.SIGUSR2, lambda number, frame: sys.exit(77))
    monkeypatch.setattr(toy.sweeps.sweep_jobs, "PART", None)
    toy.sweeps.recording.ASKED.clear()
    try:
      toy.sweeps.sweep_jobs.work("script", [], "part", patience)
    except SystemExit as end:
      return end.code
    finally:
      assert signal.alarm(0) == 0
    return 0

  numbers = (signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM)
  old = [signal.getsignal(number) for number in numbers]
  yield run
  for number, handler in zip(numbers, old, strict=True):
    signal.signal(number, handler)
  toy.sweeps.recording.ASKED.clear()


@pytest.mark.parametrize("number,cluster,code,times", [
    (signal.SIGUSR2, "slurm", 77, 1), (signal.SIGUSR2, "local", 77, 1),
    (signal.SIGTERM, "local", 143, 1), (signal.SIGTERM, "slurm", 0, 2)])
def test_a_job_saves_before_it_ends(toy, job, number, cluster, code, times):
  begun = []

  def main(argv):
    begun.append(argv)
    if len(begun) > 1:
      sys.exit()  # Its part is finished.
    os.kill(os.getpid(), number)
    assert toy.recording.asked()
    raise errors.Interrupted("saved")

  assert job(main, cluster) == code
  assert begun == [[]] * times


def test_a_job_that_cannot_be_asked_is_queued_again_all_the_same(job):
  def main(argv):
    os.kill(os.getpid(), signal.SIGUSR2)
    time.sleep(30)

  began = time.monotonic()
  assert job(main, "slurm", patience=1) == 77
  assert time.monotonic() - began < 20


@pytest.mark.parametrize("flags,message", [
    (["--jobs", "2"], "--jobs is 2; give at least 1, and an --executor"),
    (["--executor", "local", "--jobs", "0"], "--jobs is 0"),
    (["--slurm", "partition=gpu"], "--slurm is for --executor slurm"),
    (["--executor", "slurm"], "how long a job may run"),
    (["--executor", "slurm", "--slurm", "timeout_min"], "form KEY=VALUE"),
    (["--executor", "slurm", "--slurm", "time=9", "nodes=2"], "one process"),
    (["--executor", "slurm", "--slurm", "time=9", "speed=2"], "'speed'"),
    (["--executor", "slurm", "--slurm", "time=9", "signal_delay_s=soon"],
     "whole seconds"),
])
def test_refuses(toy, slurm, tmp_path, flags, message):
  pytest.importorskip("submitit")
  with pytest.raises(errors.InputError, match=message) as error:
    toy.main(["--out", str(tmp_path / "run"), *flags])
  assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_without_slurm_or_submitit(toy, tmp_path, monkeypatch):
  argv = ["--out", str(tmp_path / "run"), "--executor", "slurm", "--slurm",
          "time=9"]
  if toy.sweeps.sweep_jobs.submitit is not None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(errors.InputError, match="srun"):
      toy.main(argv)
  monkeypatch.setattr(toy.sweeps.sweep_jobs, "submitit", None)
  with pytest.raises(errors.InputError, match="pip install submitit"):
    toy.main(argv)
  assert not (tmp_path / "run").exists()


def test_jobs_divide_the_cards(toy, monkeypatch):
  cards = toy.sweeps.sweep_jobs.cards
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
  monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
  assert [cards(slot, 2) for slot in range(2)] == [
      {"CUDA_VISIBLE_DEVICES": "0,2"}, {"CUDA_VISIBLE_DEVICES": "1"}]
  assert cards(3, 4) == {"CUDA_VISIBLE_DEVICES": "0",
                         "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45"}
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
  assert cards(0, 2) == {}


@pytest.mark.slow
def test_what_saved_in_a_job_ends_as_what_was_not_stopped(tmp_path):
  """A whole script: in one process, and as jobs that are told to save."""
  pytest.importorskip("submitit")
  rows = []
  for name, *flags in (("here",), ("jobs", "--executor", "local")):
    (tmp_path / name).mkdir()
    argv = [SEARCH, *search_test.flags(
        tmp_path / name, search_test.make_table(), "--methods", "darts",
        *flags)]
    out = tmp_path / name / "run"
    if flags:
      stopped = scripts.start(*argv)
      when(lambda out=out: (out / "darts" / "seed-0" / "config.json").exists(),
           lambda stopped=stopped: stopped.send_signal(signal.SIGTERM))
      _, heard = stopped.communicate(timeout=300)
      assert stopped.returncode == 143, heard
      assert "darts seed 0: stopped and saved\ndarts seed 1: not run" in heard
      assert [*(out / "darts" / "seed-0" / "checkpoint").glob("search/*")]
    done = scripts.run(*argv)
    assert done.returncode == 0, done.stderr
    result = json.loads((out.parent / "report" / "result.json").read_text())
    rows.append([{key: value for key, value in row.items() if "sec" not in key}
                 for row in result["methods"]["darts"]["seeds"]])
  assert rows[0] == rows[1]
