"""`natjax cost`, which imports little, so that it answers at once."""

from natjax import errors, zoo
from natjax.cli import console, inputs
from natjax.costs import amounts, exact
from natjax.graph import blocks, skeleton
from natjax.training import settings


def run_cost(args) -> int:
  """`natjax cost`."""
  if args.classes is not None:
    settings.at_least_one(args, "classes")
  architecture = inputs.read_architecture(
      args.architecture, args.skeleton, args.width)
  where, words = place(
      args, architecture, inputs.sizes(args.architecture))
  total = exact.network(architecture, where)
  found = {"params": total.params, "madds": total.madds}
  if getattr(architecture, "name", "").startswith("|"):
    # As NAS-Bench-201 counts them, with the classifier's additions.
    found["flops"] = total.madds + where.num_classes
  if args.json:
    console.print_json({**found, "architecture": args.architecture,
                       "skeleton": where._asdict()})
  else:
    console.out.print(
        f"{args.architecture}: {total.params} parameters,"
        f" {amounts.count(total.madds, 1)} multiply-adds ({words}"
        f" {where.num_classes} classes, {where.image_size} pixels)")
  return 0


def place(args, architecture, sizes=None):
  """Where an architecture stands, and that in words.

  Args:
    args: the arguments.
    architecture: that is costed.
    sizes: image size and number of classes of the run that it is of.
  """
  data = inputs.given(args, ("image_size",))
  if args.classes is not None:
    data["num_classes"] = args.classes
  cells = inputs.given(args, ("init_channels", "cells"))
  if architecture.kind == "blocks":
    for name in cells:
      settings.refuse(args, name, "does not apply to a network of blocks; leave"
                      " it out, or scale the network by --width")
    frame = blocks.Frame()
    if architecture.name in zoo.handcrafted.BUILDERS:
      usual = zoo.handcrafted.skeletons(architecture.name)[0]
      frame = zoo.handcrafted.FRAMES[args.skeleton or usual]
    frame = frame._replace(**sizes or {})
    return frame._replace(**data), f"{len(architecture.blocks)} blocks,"
  kind = args.skeleton or "cifar"
  if kind not in skeleton.KINDS:
    raise errors.InputError(
        f"skeleton is '{kind}', which hand-crafted networks alone have; choose"
        f" {' or '.join(skeleton.KINDS)}")
  found = skeleton.DEFAULTS[kind]._replace(**cells, **data)
  return found, (f"{found.kind} skeleton, {found.init_channels} channels,"
                 f" {found.cells} cells,")
