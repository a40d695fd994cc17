"""What the command line prints while a job runs and when it is done."""

import pathlib
import time
from typing import Any

from rich import progress as rich_progress

from natjax import errors, pipeline
from natjax.cli.console import err, out, print_table
from natjax.costs import amounts
from natjax.drawing import files as files_lib
from natjax.pipeline import choosing, progress, run_files, runs, tables


def print_head(job):
  """Says what a job runs on and how large it is."""
  estimate, devices = job.estimate(), job.trainer.devices
  given = {name: estimate[name]["train"] for name in job.parts}
  kinds = ", ".join(sorted({d.device_kind for d in devices}))
  err.print(f"devices: {len(devices)} ({kinds}); seed {job.trainer.seed}; "
            + ", ".join(f"{k} {v}" for k, v in pipeline.versions().items()))
  dataset, train = job.trainer.dataset, job.trainer.config
  held_out = job.trainer.held_out
  kept = f" ({len(held_out.labels)} of them held out)" if held_out else ""
  ends = "" if job.describe().get("no_train") else (
      f"; trained in batches of {train.batch_size}, {job.trainer.steps} steps"
      " an epoch")
  err.print(f"{dataset.name}: {len(dataset.train_labels)} training{kept} and"
            f" {len(dataset.test_labels)} test images of {dataset.num_classes}"
            f" classes, {dataset.image_size} pixels a side"
            f"{_streamed(dataset)}{ends}")
  print_note(job)
  parts = {"network": estimate} if job.entry is None else {
      job.plan.model or job.entry.model: estimate["search"],
      **(given or {"network": estimate.get("train")})}
  for name, part in parts.items():
    if part:
      madds = (f", {amounts.count(part['madds'], 1)} multiply-adds"
               if "madds" in part else "")
      err.print(f"{name}: {part['params']} parameters{madds}, {part['steps']}"
                f" steps, about {amounts.memory(part['memory_bytes'], 0)} of"
                " arrays")


def _streamed(dataset):
  """How images that stay on disk are read, in words."""
  if dataset.source is None or not dataset.source.stream:
    return ""
  workers, skips = dataset.train_images.reading
  by = f"{workers} workers" if workers else "threads"
  return f", streamed by {by}" + ", damaged ones left out" * skips


def print_note(job):
  """Says what a user should know of what was given."""
  for text in filter(None, (job.note, job.coarse)):
    err.print(f"note: {text}")


class Display(rich_progress.Progress):
  """Progress on a terminal; one line per row of metrics elsewhere."""

  def __init__(self, args):
    super().__init__(*self.get_default_columns(),
                     rich_progress.TextColumn("{task.fields[metrics]}"),
                     console=err, disable=not err.is_terminal)
    self._of_run: dict[str, Any] = {}
    self._timers: dict[str, progress.Left] = {}
    self._left: dict[str, float | None] = {}  # Seconds, of a run.
    self._epochs: dict[tuple[str, str], int] = {}  # Of a run's stage.
    self._writer = args.tensorboard and tensorboard_module().SummaryWriter(
        str(pathlib.Path(args.out) / "tensorboard"))

  def stop(self):
    """Ends the display."""
    super().stop()
    if self._writer:
      self._writer.close()

  def resumed(self, p):
    """Says from where a run goes on."""
    self.console.print(f"{_words(p.run, p.stage)}: resumed at epoch"
                       f" {p.epoch + 1} of {p.epochs}"
                       f"{f', step {p.step}' if p.step else ''}")

  def progress(self, p):
    """Shows a chunk's end, or that a phase begins."""
    self._epochs[p.run, p.stage] = p.epochs
    timer = self._timers.setdefault(p.run, progress.Left())
    self._left[p.run] = timer(p)
    if not p.metrics and not err.is_terminal:
      err.print(f"{_words(p.run, p.stage, p.phase)}: starts; compiles where the"
                " cache does not have it")
    if p.run not in self._of_run:
      self._of_run[p.run] = self.add_task(p.run, total=1.0, metrics="")
    metrics = " ".join(f"{k} {v:.3f}" for k, v in p.metrics.items()) or (
        "compiles where the cache does not have it")
    self.update(self._of_run[p.run], completed=p.done,
                metrics=f"epoch {p.epoch + 1}/{p.epochs} {p.phase}: {metrics}")

  def row(self, row):
    """Shows a phase's end where there is no terminal."""
    values = {k: v for k, v in row.items() if isinstance(v, float)}
    if not err.is_terminal:
      text = " ".join(
          f"{k} {v:.4f}" for k, v in values.items() if k != "seconds")
      text += f", after {progress.duration(row['seconds'])}"
      if (left := self._left.get(row["run"])) is not None:
        text += f", {progress.duration(left)} left"
      where = _words(row["run"], row["stage"], row["phase"])
      epochs = self._epochs.get((row["run"], row["stage"]))
      err.print(f"{where} epoch {row['epoch'] + 1}"
                f"{f' of {epochs}' if epochs else ''}: {text}")
    if self._writer:
      for key, value in values.items():
        self._writer.add_scalar(f"{row['run']}/{row['phase']}/{key}", value,
                                row["epoch"], walltime=time.time())


def _words(*names):
  """Names of a run, its stage and its phase, each word once."""
  return " ".join(dict.fromkeys(names))


def tensorboard_module():
  """tensorboardX, an optional dependency (InputError)."""
  try:
    import tensorboardX
  except ImportError as e:
    raise errors.InputError("--tensorboard needs tensorboardX; pip install"
                            " \"natjax[tensorboard]\"") from e
  return tensorboardX


def print_transformed(result, folder, entry):
  """Shows the result of `natjax transform` or `natjax search`."""
  found = tables.comparison(result, _test_images(folder), entry.kept)
  print_table(*found[:3])
  _print_search(result)
  for sentence in _timed(result):
    out.print(sentence)
  if found.verdict:
    out.print(found.verdict)
  for sentence in choosing.sentences(result):
    out.print(sentence)
  if "note" in result:
    out.print(f"Note: {result['note']}.")
  for sentence in tables.others(result):
    out.print(sentence)
  _print_tries(result)
  _print_details(result)
  folder = pathlib.Path(folder)
  files = _files(folder, *entry.drawn, run_files.POINTS,
                 run_files.NETWORKS, "seed-*")
  _print_time(result)
  out.print(f"{folder}: {files} ({_in_all(result):.1f} s in all)"
            f"{_not_drawn(folder, entry)}")


def _files(folder, *names):
  """What of a run's files and folders is there, in a line."""
  names = (run_files.RESULT, run_files.ARCHITECTURE, "architecture.svg", *names)
  return ", ".join(name if "." in name else f"{name}/" for name in names
                   if any(pathlib.Path(folder).glob(name)))


def _not_drawn(folder, entry):
  """Which pictures a run lacks for want of matplotlib, in words; "" if none."""
  missing = [name for name in entry.drawn if not any(
      any(folder.glob(at + name)) for at in ("", "*/", "*/*/"))]
  if not missing or files_lib.there():
    return ""
  return (f"; {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} drawn"
          " only where matplotlib is installed: pip install 'natjax[plots]'")


def _test_images(folder):
  """How many test images a run has."""
  return runs.read_config(folder)["images"]["test"]


def print_union(result, folder, entry, names):
  """Shows the result of `natjax transform` of several architectures.

  Args:
    result: of the run.
    folder: of it.
    entry: of the method.
    names: of the architectures, as they were given.
  """
  parts, rows, said = result["union"], [], []
  images = _test_images(folder)
  more = [kind for kind in tables.ASKED if all(
      kind in part["transformed"] for part in parts)]
  titles = [f"{number}: {name}" for number, name in enumerate(names, 1)]
  for number, (title, part) in enumerate(zip(titles, parts, strict=True), 1):
    shown, ratios, verdict = tables.difference(part, images, entry.kept, more)
    rows.append((title, *(tables.percent(part[key]) for key in (
        "original", "transformed")), shown, *ratios))
    said += [f"{number}: {sentence}" for sentence in (
        *_timed(part), verdict, *choosing.sentences(part),
        *tables.others(part))]
  seeds = len(parts[0]["transformed"]["accuracies"])
  print_table(
      f"{tables.measure(result)} on {result['dataset']}, {seeds} seed(s) each;"
      " one search for all", (
          "", ">original", ">transformed", ">difference", ">parameters",
          ">multiply-adds", *(f">{kind}" for kind in more)), rows)
  for sentence in said:
    out.print(sentence)
  if "note" in result:
    out.print(f"Note: {result['note']}.")
  for title, part in zip(titles, parts, strict=True):
    _print_details(part, f"{title}, ")
  _print_time(result)
  folder = pathlib.Path(folder)
  where = [f"{path.relative_to(folder)}/" for pattern in (
      "architecture-[0-9]*", "seed-*") for path in sorted(
          folder.glob(pattern)) if path.is_dir()]
  out.print(f"{folder}: result.json, {', '.join(where)} (search"
            f" {result['search_seconds']:.1f} s, in all"
            f" {_in_all(result):.1f} s){_not_drawn(folder, entry)}")


def _print_details(result, whose=""):
  """Tables of one transformation: its seeds, its changes, and its points.

  Args:
    result: of one architecture.
    whose: what their titles begin with.
  """
  _print_seeds(result.get("seeds", []), "derived" not in result, whose)
  for shown in filter(None, (tables.changes(result), choosing.table(result))):
    title, *found = shown[:3]
    print_table(whose + title, *found)


def _timed(result):
  """How latencies were measured, of every seed."""
  for row in tables.timed(result):
    found = row["latency"]
    told = ", ".join(
        "{} {} (half of {} runs {} to {})".format(
            name, amounts.seconds(of["median"]), of["runs"],
            *map(amounts.seconds, of["quartiles"])) for name, of in (
                ("original", found["original"]),
                ("transformed", found["changed"])))
    whose = f"seed {row['seed']}: " * ("seeds" in result)
    yield (f"{whose}latency of a batch of {found['batch']} on"
           f" {found['device']}, {found['dtype']}, in turns: {told}")


def _print_search(result):
  """What a search in a supernet came to before anything was trained."""
  chain = result.get("operations")
  if chain:
    out.print(f"layers: {', '.join(chain)}")
  if tried := result.get("tried"):
    out.print(f"{len(tried)} candidates were scored{_best(tried)}; search"
              f" {result['search_seconds']:.0f} s")
  if "parent_accuracy" not in result:
    return
  print_table("on the search's validation images", ("", ">accuracy"), [
      (name, f"{100 * result[key]:.2f} %") for name, key in (
          ("supernet (parent)", "parent_accuracy"),
          ("what was found, with its weights (child)", "child_accuracy"))])
  cells = (f"{sum(result['skips'].values())} of {len(chain)} layers are skips"
           if chain else ", ".join(
               f"{name} {n} connections, {result['skips'][name]} of them skips"
               for name, n in result["connections"].items()))
  if ties := sum(result.get("ties", {}).values()):
    cells += (f"; of {ties} {'layers' if chain else 'edges that are kept'}, the"
              " strongest operation lies within two standard errors of the next"
              f" ({', '.join(_tied(result))})")
  if nodes := [*_tied_nodes(result)]:
    cells += ("; so do the edges that are kept of those that are not at"
              f" {len(nodes)} nodes ({', '.join(nodes)})")
  if result.get("reconnected"):
    cells += ("; what is strongest let nothing through a cell, and the way that"
              " loses least was opened")
  memory = result["peak_memory_bytes"]
  whole = " by the process as a whole" * ({*result["devices"]} == {"cpu"})
  out.print(f"{cells}; search {result['search_seconds']:.1f} s" + (
      f"; at most {amounts.memory(memory, 0)} in use{whole}" if memory else ""))


def _best(tried):
  """What the best of some candidates has, by the score that they have."""
  for key, text in (
      ("accuracy", ", and the best has {:.2%} on the search's validation"
       " images"), ("naswot", " by NASWOT, and the best has {:.4g}"),
      ("synflow", " by SynFlow, and the best has {:.4g}")):
    scores = [row[key] for row in tried if row.get(key) is not None]
    if scores:
      return text.format(max(scores)).replace("%", " %")
  return ""


def _tied(result):
  """The edges that are kept, or layers, of which the operation is a tie."""
  cells = result["architectures"]["derived"]
  for group, rows in result.get("attention", {}).items():
    there = {tuple(edge[1:]) for edge in cells.get(group, ())}
    for row in filter(None, rows):
      if row["tie"] and (not there or tuple(row["edge"]) in there):
        where = group if len(rows) == 1 else "{} {}-{}".format(
            group, *row["edge"])
        yield f"{where} {row['strongest']}, then {row['next']}"


def _tied_nodes(result):
  """The nodes of which the edges that are kept are a tie."""
  for group, rows in result.get("nodes", {}).items():
    for row in rows:
      if row["tie"]:
        kept, other = ([e["edge"][0] for e in row["edges"] if e["kept"] is is_]
                       for is_ in (True, False))
        yield (f"{group} {row['node']}: from {kept[-1]}, then {other[0]}")


def _in_all(result):
  """Seconds of all starts of a run."""
  return max(result["seconds"], sum(result.get("time", {}).values()))


def _print_time(result):
  """What was left out, and where the time went."""
  for sentence in tables.spent(result):
    out.print(sentence)


def _print_tries(result):
  """What was tried and compared with the original, of every seed."""
  rows = [(str(row["seed"]), tried, tables.outcome(row, number))
          for row in result.get("seeds", [])
          for number, tried in enumerate(row.get("tries", []))
          if "difference" in tried]
  if not rows:
    return
  original = result["original"]
  ratio = lambda tried, k: tried[k] / original.get(k, 1)  # Or one already.
  names = {k: name for k, name in (
      ("params", "parameters"), ("madds", "multiply-adds"),
      ("latency_ratio", "latency"), ("memory", "memory")) if all(
          k in tried for _, tried, _ in rows)}
  print_table(
      "cuts that were tried, against the original on held-out images",
      (">seed", *(f">{name}" for name in names.values()), ">points", ">95 %",
       ""), [
          (seed, *(tables.latency_ratio(tried) if k == "latency_ratio" else
                   f"{ratio(tried, k):.2f}x" for k in names),
           f"{100 * tried['difference']:+.2f}",
           "{:+.2f} to {:+.2f}".format(*(
               100 * end for end in tried["interval"])),
           said + ", by too few images" * tried.get("few", False))
          for seed, tried, said in rows])
  for line in (*tables.refused(result), *tables.fresh(result)):
    out.print(line)


def _print_seeds(rows, changes, whose=""):
  """What every seed of several transformations or searches came to.

  Args:
    rows: of the seeds.
    changes: whether they changed a given architecture.
    whose: what the title begins with.
  """
  if not rows:
    return
  derived = "train_accuracy_before_derivation" in rows[0]
  searched = "parent_accuracy" in rows[0]
  more = [">parent", ">child", ">skips"] if searched else (
      [">changes"] * changes)
  columns = (">seed", *tables.MEASURED, *more, *[">derivation"] * derived)
  cells = [[str(row["seed"]), *own] for row, own in zip(
      rows, tables.measured(*rows), strict=True)]
  for cell, row in zip(cells, rows, strict=True):
    cell += [*(f"{100 * row[k]:.2f} %" for k in (
        "parent_accuracy", "child_accuracy")), str(sum(row["skips"].values()))
             ] if searched else [str(row["num_changes"])] * changes
    if derived:
      cell.append(f"{100 * row['train_accuracy_before_derivation']:.1f} ->"
                  f" {100 * row['train_accuracy_after_derivation']:.1f} %")
  print_table(f"{whose}seed by seed", columns, cells)
  if derived:
    out.print("derivation: accuracy on training images just before and just"
              " after theta gave way to its choice, which weighs 1, by running"
              " statistics")
  for row in rows:
    if row.get("guarded"):
      out.print(f"seed {row['seed']}: the guards or the budget overruled theta"
                f" on {len(row['guarded'])} edge(s); \"guarded\" in result.json"
                " lists them")


def print_trained(result, folder, entry):
  """Shows the result of `natjax train`, which has no entry."""
  print_table(tables.measure(result), tables.MEASURED,
              tables.measured(result))
  for sentence in tables.others(result):
    out.print(sentence)
  if "note" in result:
    out.print(f"Note: {result['note']}.")
  _print_time(result)
  out.print(f"{folder}: {_files(folder, run_files.NETWORKS)}"
            f" ({_in_all(result):.1f} s in all)")
