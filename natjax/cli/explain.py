"""`natjax explain`: where in an image a network sees a class."""

import os
import re
from typing import Any

import numpy as np

from natjax import drawing, errors
from natjax.cli import console, inputs
from natjax.data import image_folder
from natjax.drawing import files
from natjax.networks import grad_cam
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import run_data, runs, supernets
from natjax.training import devices, settings

_DIGITS = 10  # More than the number of an image, a class or a block has.
_NUMBER = re.compile(r"[-+]?\d{1,10}(\.\d*)?(e\d+)?")  # Also of no image.


def run_explain(args) -> int:
  """`natjax explain`.

  With --json, an object with "network", "layer", "class" and its
  "probability", "predicted", of a test image "label", "map", rows of numbers of
  at least 0 in logits per position, and "picture", the file.
  """
  devices.configure_compilation()
  if args.candidates:
    return _run_candidates(args)
  folder = errors.path(args.directory)
  out = _own(args.out)
  trained = networks_lib.networks(folder)
  out = out or files.checked(folder / "explanation.svg")
  name = args.network
  if name is None:
    name = networks_lib.usual(trained)
  net = networks_lib.load(folder, name)
  image, label = _image(
      args, folder, net.module.frame.image_size, net.resize)
  names, layers = net.class_names, net.layers()
  layer = grad_cam.choose(net.module, layers, _number(args.layer))
  chosen = None if args.label is None else _class(args.label, names)
  logits = np.asarray(net.logits(image))[0]
  predicted = int(np.argmax(logits))
  chosen = predicted if chosen is None else chosen
  found = np.asarray(net.class_activation(image, [chosen], layer))[0]
  likely = np.exp(logits - logits.max())
  facts: dict[str, Any] = {
      "network": name, "layer": layer, "class": names[chosen],
      "probability": float(likely[chosen] / likely.sum()),
      "predicted": names[predicted],
      **({} if label is None else {"label": names[label]}),
      "map": found.tolist(), "picture": str(out)}
  said = _sentence(facts, found)
  drawing.save_activation(out, image[0], found, title=said)
  if args.json:
    console.print_json(facts)
  else:
    console.out.print(f"{said}: {out}")
  return 0


def _own(out):
  """Where the user wants the picture; None where they do not say."""
  return None if out is None else files.checked(out)


def _sentence(facts, found):
  """What was explained, in a line."""
  height, width = found.shape
  words = [f"{facts['network']}, {facts['layer']} ({height} x {width}"
           f" positions): class {errors.short(facts['class'])}, with a"
           f" probability of {100 * facts['probability']:.1f} %"]
  if facts["class"] != facts["predicted"]:
    words.append(f"{errors.short(facts['predicted'])} is likelier")
  if "label" in facts:
    words.append(f"labelled {errors.short(facts['label'])}")
  if not found.any():
    words.append("no position speaks for it")
  return ", ".join(words)


def _run_candidates(args):
  """`natjax explain --candidates`, of a search's supernet.

  With --json, an object with "layer", "class", of a test image "label",
  "selected", the operation that was found, "candidates", per operation its
  "probability" of the class and its "map", and "picture".
  """
  if args.network is not None:
    settings.refuse(args, "network", "does not apply to candidates, which run"
                    " in the search's supernet; leave it out")
  folder = errors.path(args.directory)
  out = _own(args.out)
  runs.read_config(folder)
  out = out or files.checked(folder / "candidates.svg")
  data, _ = run_data.load(folder, data_dir=args.data_dir)
  searched = supernets.load(folder, data)
  image, label = _image(args, folder, data.image_size, data.resize)
  layer = searched.layer(_number(args.layer))
  chosen = int(np.argmax(searched.logits(image[0]))) if (
      args.label is None) else _class(args.label, data.class_names)
  found = searched.candidate_activations(image[0], chosen, layer.name)
  likely = {name: np.exp(logits - logits.max())
            for name, (_, logits) in found.items()}
  rows = [{"operation": name, "probability": float(
      likely[name][chosen] / likely[name].sum()), "map": map_.tolist()}
          for name, (map_, _) in found.items()]
  facts: dict[str, Any] = {
      "layer": layer.name, "class": data.class_names[chosen],
      **({} if label is None else {"label": data.class_names[label]}),
      "selected": layer.chosen, "candidates": rows, "picture": str(out)}
  said = f"{layer.name}: class {errors.short(facts['class'])}" + (
      "" if label is None else f", labelled {errors.short(facts['label'])}")
  drawing.save_activations(out, image[0], {
      row["operation"] + " (selected)" * (row["operation"] == layer.chosen)
      + f" {100 * row['probability']:.1f} %": found[row["operation"]][0]
      for row in rows}, title=said)
  if args.json:
    console.print_json(facts)
    return 0
  console.print_table(said, ("operation", ">probability", "selected"), [
      (row["operation"], f"{100 * row['probability']:.1f} %",
       "yes" * (row["operation"] == layer.chosen)) for row in rows])
  console.out.print(str(out))
  return 0


def _image(args, folder, size, resize):
  """An image u8[1, S, S, 3], and its label, None where it is not known."""
  number = _number(args.image)
  if isinstance(number, int) or (
      _NUMBER.fullmatch(args.image) and not os.path.lexists(args.image)):
    if args.resize:
      settings.refuse(args, "resize", "does not apply to a test image, which"
                      " has the network's size; leave it out")
    data, _ = run_data.load(folder, args.dataset, args.data_dir)
    if not isinstance(number, int) or number >= len(data.test_labels):
      raise errors.InputError(
          f"image is {args.image} and {data.name} has the test images 0 to"
          f" {len(data.test_labels) - 1}; give one of these numbers, or write"
          f" ./{number} for a file", "image")
    return data.test_images[number][None], int(data.test_labels[number])
  for name in inputs.given(args, ("dataset", "data_dir")):
    settings.refuse(args, name, "does not apply to an image from a file; leave"
                    " it out")
  path = errors.path(args.image, "image")
  if not path.exists():
    raise errors.InputError(
        f"image is {args.image}, and no file is there; name an image, or give"
        " the number of a test image", "image")
  image = image_folder.read_image(
      path, size if args.resize else None, resize)
  if image.shape[:2] != (size, size):
    raise errors.InputError(
        f"{args.image} has {image.shape[1]} x {image.shape[0]} pixels and the"
        f" network was trained on {size} x {size}; pass --resize to bring it"
        " there as the run did", "image")
  return image[None], None


def _class(text, names):
  """The number of a class by its name, or else by its number."""
  if (times := names.count(text)) > 1:
    raise errors.InputError(
        f"class is {errors.short(text)}, the name of {times} classes, numbers"
        f" {', '.join(str(i) for i, n in enumerate(names) if n == text)}; give"
        " one of these", "class")
  number = names.index(text) if text in names else _number(text)
  if not isinstance(number, int) or number >= len(names):
    raise errors.InputError(
        f"class is {errors.short(text)}, and the network's are"
        f" {', '.join(names[:8])}{', ...' * (len(names) > 8)}; name one, or"
        f" give its number, which is at most {len(names) - 1}", "class")
  return number


def _number(text):
  """The number that a text is, or else the text."""
  return int(text) if text is not None and text.isdecimal() and (
      len(text) <= _DIGITS) else text
