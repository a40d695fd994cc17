"""What methods and presets are called, a line each; needs none of them."""

import sys

# Of the library's own, in the order in which they are listed (`Entry.help`).
LINES = {
    "nat": "replaces operations by skips or null connections, by a policy that"
    " learns from a supernet",
    "natpp": "replaces operations by cheaper ones, as nat, by types and"
    " kernels",
    "differentiable": "trains the network and what stands on its edges at once",
    "darts": "weighs all operations of every edge by a softmax",
    "entrannas": "weighs operations in Engine cells alone; others have what"
    " would be derived",
    "entrannas-dst": "learns the number of connections, too",
    "it-nas": "lets an indicator token attend to operations, and keeps what it"
    " attends to most",
    "spos": "trains a supernet by single paths, and takes the candidate that is"
    " most accurate in it",
    "evolution": "replaces operations as natpp, found by an evolution that a"
    " supernet scores",
    "climb": "replaces operations as natpp, one at a time, while untrained"
    " networks show it better",
    "random": "draws or breeds architectures, scores each trained a little or"
    " untrained, and takes the best",
    "replace": "replaces operations of a trained network, whose weights are"
    " kept"}
# Presets of every method, and further ones on ImageNet (`pipeline.presets`).
PRESETS = ("demo", "small", "paper")
ON_IMAGENET = ("imagenet-nat", "imagenet-darts", "imagenet-pcdarts",
               "imagenet-itnas", "imagenet-search")


def methods() -> dict[str, str]:
  """A line on every method, also of other packages that have been added."""
  known = sys.modules.get("natjax.methods.known")
  return LINES if known is None else {
      name: entry.help for name, entry in known.METHODS.items()}
