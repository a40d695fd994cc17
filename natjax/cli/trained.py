"""The commands that look at trained networks: evaluate, export."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from natjax import data, errors
from natjax.cli import console
from natjax.costs import exact
from natjax.methods import acceptance
from natjax.objectives import classification, simclr
from natjax.pipeline import export as export_lib
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import run_data, run_files, runs, tables, versus
from natjax.training import devices, fit


def run_evaluate(args) -> int:
  """`natjax evaluate`, of one run or of several beside each other."""
  devices.configure_compilation()
  if args.others:
    return _compare(args)
  dataset, own = run_data.load(
      args.directory, args.dataset, args.data_dir)
  config = runs.read_config(args.directory)
  train = fit.Split(dataset.train_images, dataset.train_labels)
  test = fit.Split(dataset.test_images, dataset.test_labels)
  accuracies, firsts = {}, {}
  for name in networks_lib.networks(args.directory):
    net = networks_lib.load(args.directory, name)
    if net.classifies:
      objective = classification.Classification(net.module)
      found = fit.walk(
          objective.ranks, net.variables, test, preparation=net.preparation,
          batch_size=128)
      accuracies[name] = float(found["accuracy"])
      if dataset.num_classes >= classification.MANY:
        firsts[name] = float(found["top5_accuracy"])
    else:
      features = lambda variables, images, module=net.module: module.apply(
          variables, images)[0]
      bank, queries = (
          simclr.extract(features, net.variables, part, net.preparation)
          for part in (train, test))
      with run_files.reading(errors.path(args.directory) / run_files.CONFIG):
        settings = simclr.SimCLRConfig(**config["simclr"])
      accuracies[name] = float(np.mean(simclr.right(
          settings, bank, queries, dataset.num_classes)))
  skipped = _skipped(dataset)
  if args.json:
    console.print_json({"dataset": dataset.name, "own": own, "finished": (
        runs.finished(args.directory)), **(
            {"skipped": {"test": skipped}} if skipped else {}), "networks": [
        {"network": k, "accuracy": v, **(
            {"top5_accuracy": firsts[k]} if k in firsts else {})}
        for k, v in accuracies.items()], **(
            {"gone": gone} if (gone := run_files.gone(args.directory))
            else {}), **({"changed": changed} if (
                changed := run_files.changed(args.directory)) else {})})
  else:
    other = "" if own else ", which is not what they were trained on"
    console.print_table(
        f"{tables.measure(config)} on {dataset.name}{other}",
        ("network", ">accuracy", *[">five first"] * bool(firsts)),
        [(k, *(f"{100 * v:.2f} %" for v in (value, *(
            [firsts[k]] if k in firsts else []))))
         for k, value in accuracies.items()])
    if skipped:
      console.out.print(f"left out as damaged: {skipped} test images")
    if text := _lacking(args.directory):
      console.out.print(f"{args.directory}: {text}")
    if text := run_files.changed(args.directory):
      console.out.print(text)
  return 0


def _skipped(dataset):
  """How many test images were left out as damaged, now that all were read."""
  images = dataset.test_images
  return len(images.damaged) if isinstance(images, data.Streamed) else 0


def _compare(args):
  """The networks of several runs, each beside the first of all.

  Two networks are compared image by image where the runs have the same images,
  normalised alike (`acceptance.Pairs`).
  """
  rows: list[dict[str, Any]] = []
  first = None
  folders: dict[pathlib.Path, str] = {}  # As they were given.
  for folder in (args.directory, *args.others):  # Before anything is computed.
    runs.read_config(folder)
    networks_lib.networks(folder)
    if (whole := pathlib.Path(folder).resolve()) in folders:
      raise errors.InputError(
          f"{folder} is the same run as {folders[whole]}; name every run once")
    folders[whole] = folder
  for folder in folders.values():
    dataset, _ = run_data.load(folder, args.dataset, args.data_dir)
    test = fit.Split(dataset.test_images, dataset.test_labels)
    seen = run_data.describe(dataclasses.replace(
        dataset, train_images=test.images, train_labels=test.labels))
    for name in networks_lib.networks(folder):
      net = networks_lib.load(folder, name)
      if not net.classifies:
        raise errors.InputError(
            f"{folder} learnt without labels, and its features are judged by"
            " their neighbours; evaluate it alone")
      one = versus.Trained(
          classification.Classification(net.module), net.variables)
      images = (seen["crc32"], seen.get("sampled"), seen["image_size"],
                net.preparation)
      first = first or (images, one)
      found = versus.count(
          one, first[1] if images == first[0] else one, test,
          preparation=net.preparation, batch_size=128)
      pairs = acceptance.Pairs(found["images"], found["won"], found["lost"])
      total = exact.network(net.module.graph, net.module.frame)
      rows.append({
          "run": folder, "finished": runs.finished(folder), "network": name,
          "dataset": dataset.name,
          "params": total.params, "madds": total.madds,
          "accuracy": found["right"] / pairs.images, "images": pairs.images,
          "reach": acceptance.reach(found["right"], pairs.images),
          **({"skipped": skipped} if (skipped := _skipped(dataset)) else {}),
          **({"difference": pairs.difference, "interval": [*pairs.interval]}
             if one is not first[1] and images == first[0] else {})})
  if args.json:
    console.print_json({"networks": rows})
    return 0
  # A line of 80 columns is to do: what may be long stands below.
  number = {folder: i for i, folder in enumerate(folders.values(), 1)}
  columns = (">run", "network", ">parameters", ">multiply-\nadds",
             ">accuracy, %", ">difference")
  console.print_table(
      "test accuracy, and the difference from the first network, points",
      columns, [
          (str(number[row["run"]]), row["network"], *cost,
           f"{100 * row['accuracy']:.2f} ± {100 * row['reach']:.2f}",
           _beside(row, row is rows[0])) for row, *cost in zip(
               rows, *tables.costs(rows), strict=True)])
  console.out.print(
      "± is 95 % over test images. Differences are image by image, where these"
      " are the same and normalised alike.")
  for row in {row["run"]: row for row in rows}.values():
    text = _lacking(row["run"])
    console.out.print(f"run {number[row['run']]}: {row['run']}, of"
                      f" {row['dataset']}" + (
                          f"; left out as damaged: {row['skipped']} test images"
                          if "skipped" in row else "") + (text and f"; {text}"))
    if text := run_files.changed(row["run"]):
      console.out.print(text)
  return 0


def _lacking(folder):
  """What is said of a run that is not whole; "" of one that is."""
  if not runs.finished(folder):
    return "not finished; these are the networks that it has trained so far"
  return run_files.lacking(folder)


def _beside(row, first):
  """The cell of a network's difference from the first one."""
  if "difference" not in row:
    return "" if first else "not paired"
  low, high = row["interval"]
  return f"{100 * row['difference']:+.2f} ± {50 * (high - low):.2f}"


def run_export(args) -> int:
  """`natjax export`.

  With --json, an object with "file", "network", "platforms", "difference".
  """
  devices.configure_compilation()
  name = args.network or networks_lib.usual(
      networks_lib.networks(args.directory))
  done = export_lib.export(
      args.directory, args.out, name=name,
      platforms=args.platforms and [
          word.strip() for word in args.platforms.split(",")])
  if args.json:
    console.print_json({"file": str(done.path), "network": name,
                        "platforms": done.platforms,
                        "difference": done.difference})
  else:
    console.out.print(
        f"{name}: {done.path}{', for ' * bool(done.platforms)}"
        f"{', '.join(done.platforms)}; read back, its outputs differ by at most"
        f" {done.difference:.1e} from the network's")
  return 0
