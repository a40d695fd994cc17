"""A plain numpy form of operations, networks and supernets.

Written from the papers' definitions: [B, H, W, C] in float64, one output pixel
at a time, windows cut out of explicitly padded images, cells unrolled, no part
of the library used but the names of its weights and the records of its cells.
"""

import functools
import re
from typing import NamedTuple

import jax
import numpy as np


class Scope(NamedTuple):
  """The weights of one module, and how its BNs normalise.

  Attributes:
    params: nested dict of weights.
    stats: nested dict of running statistics, nested alike; None normalises by
      the batch.
    path: names that lead here.
    seen: path of a BN -> (mean, variance) of the batch it saw.
  """

  params: dict
  stats: dict | None
  path: tuple[str, ...]
  seen: dict

  def at(self, name):
    """The scope of a submodule; empty if it has no weights."""
    stats = None if self.stats is None else self.stats.get(name, {})
    return Scope(self.params.get(name, {}), stats, (*self.path, name),
                 self.seen)


def scope(params, stats=None):
  """The scope of a whole tree of weights."""
  def float64(tree):
    return jax.tree.map(functools.partial(np.asarray, dtype=np.float64), tree)

  return Scope(float64(params), None if stats is None else float64(stats), (),
               {})


def random_weights(shapes, seed):
  """Random weights, scales, biases and statistics of the given shapes."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    kind, shape = path[-1].key, leaf.shape
    if kind == "kernel":
      x = rng.normal(size=shape) / np.sqrt(np.prod(shape[-4:-1]))
    elif kind in ("scale", "var"):
      x = rng.uniform(0.5, 1.5, shape)
    elif kind in ("bias", "mean") or kind.startswith("slope"):
      x = 0.3 * rng.normal(size=shape)
    else:
      raise ValueError(f"unknown kind of weight {kind}")
    return x.astype(leaf.dtype)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def relu(x):
  return np.maximum(x, 0)


def conv(x, kernel, *, stride=1, dilation=1, padding=None, depthwise=False):
  """A convolution; kernel: [h, w, C_in or 1, C_out]."""
  kernel = np.asarray(kernel, np.float64)
  stride = (stride, stride) if isinstance(stride, int) else stride
  span = [(k - 1) * dilation + 1 for k in kernel.shape[:2]]
  pads = [s // 2 if padding is None else padding for s in span]
  x = np.pad(np.asarray(x, np.float64),
             ((0, 0), (pads[0],) * 2, (pads[1],) * 2, (0, 0)))
  size = [(x.shape[1 + i] - span[i]) // stride[i] + 1 for i in range(2)]
  out = np.zeros((x.shape[0], *size, kernel.shape[-1]))
  for i, j in np.ndindex(*size):
    top, left = i * stride[0], j * stride[1]
    window = x[:, top:top + span[0]:dilation, left:left + span[1]:dilation]
    out[:, i, j] = (
        np.einsum("bhwc,hwc->bc", window, kernel[:, :, 0]) if depthwise
        else np.einsum("bhwi,hwio->bo", window, kernel)
    )
  return out


def pool(x, size, reduce, *, stride=1, padding=0):
  """Reduces windows, of which only the part inside the image counts."""
  x = np.asarray(x, np.float64)
  sides = [(n + 2 * padding - size) // stride + 1 for n in x.shape[1:3]]
  out = np.zeros((x.shape[0], *sides, x.shape[-1]))
  for i, j in np.ndindex(*sides):
    top, left = i * stride - padding, j * stride - padding
    window = x[:, max(top, 0):top + size, max(left, 0):left + size]
    out[:, i, j] = reduce(window, axis=(1, 2))
  return out


def norm(x, scope, epsilon=1e-5):
  """BN, with a scale and a bias where there are such weights."""
  params = scope.params.get("bn", scope.params)
  if scope.stats is None:
    mean, var = np.mean(x, (0, 1, 2)), np.var(x, (0, 1, 2))
    scope.seen[scope.path] = mean, var
  else:
    mean, var = scope.stats["bn"]["mean"], scope.stats["bn"]["var"]
  x = (x - mean) / np.sqrt(var + epsilon)
  return x * params.get("scale", 1.0) + params.get("bias", 0.0)


def relu_conv_norm(x, scope, *, stride=1):
  x = conv(relu(x), scope.params["conv"]["kernel"], stride=stride)
  return norm(x, scope.at("norm"))


def separable(x, scope, *, stride, repeats, dilation=1):
  for i in range(repeats):
    x = conv(relu(x), scope.params[f"depthwise{i}"]["kernel"], stride=stride,
             dilation=dilation, depthwise=True)
    x = conv(x, scope.params[f"pointwise{i}"]["kernel"])
    x, stride = norm(x, scope.at(f"norm{i}")), 1
  return x


def group_conv(x, scope, groups, *, stride, activate=True):
  kernel = scope.params["kernel"][0, 0]
  x = (relu(x) if activate else x)[:, ::stride, ::stride]
  parts = [a @ b for a, b in zip(
      np.split(x, groups, axis=-1), np.split(kernel, groups, axis=-1),
      strict=True)]
  return norm(np.concatenate(parts, axis=-1), scope.at("norm"))


def factorized_reduce(x, scope):
  x = relu(x)
  if x.shape[1] % 2:
    x = np.concatenate([np.zeros_like(x[:, :1]), x], axis=1)
  if x.shape[2] % 2:
    x = np.concatenate([np.zeros_like(x[:, :, :1]), x], axis=2)
  halves = [x[:, 0::2, 0::2] @ scope.params["conv0"]["kernel"][0, 0],
            x[:, 1::2, 1::2] @ scope.params["conv1"]["kernel"][0, 0]]
  return norm(np.concatenate(halves, axis=-1), scope.at("norm"))


def _then(x, scope, name, number, *, stride=1, prefix=""):
  """A convolution of a unit and its BN."""
  x = conv(x, scope.params[f"{prefix}{name}{number}"]["kernel"], stride=stride,
           depthwise=name == "depthwise")
  return norm(x, scope.at(f"{prefix}norm{number}"))


def squeeze_excite(x, scope):
  """Hu et al., 2018, equations 2 to 4."""
  linear = lambda x, part: (
      x @ part.params["conv"]["kernel"][0, 0] + part.params["bias"])
  gate = relu(linear(np.mean(x, (1, 2)), scope.at("reduce")))
  gate = 1 / (1 + np.exp(-linear(gate, scope.at("restore"))))
  return x * gate[:, None, None]


def inverted_residual(x, scope, stride, squeeze):
  """Sandler et al., 2018, figure 4(d)."""
  relu6 = lambda x: np.clip(x, 0, 6)
  y = relu6(_then(x, scope, "conv", 0))
  y = relu6(_then(y, scope, "depthwise", 1, stride=stride))
  y = squeeze_excite(y, scope.at("squeeze2")) if squeeze else y
  y = _then(y, scope, "conv", 3 if squeeze else 2)
  return x + y if y.shape == x.shape else y


def shuffle_unit(x, scope, stride, xception):
  """Guo et al., 2020, SPOS, figure 3."""

  def main(x):
    then = functools.partial(_then, scope=scope, prefix="main_")
    if not xception:
      x = relu(then(x, name="conv", number=0))
      x = then(x, name="depthwise", number=1, stride=stride)
      return relu(then(x, name="conv", number=2))
    for i in (0, 2, 4):
      x = then(x, name="depthwise", number=i, stride=1 if i else stride)
      x = relu(then(x, name="conv", number=i + 1))
    return x

  if "side_conv1" not in scope.params:
    return np.concatenate([x[..., 0::2], main(x[..., 1::2])], axis=-1)
  side = _then(x, scope, "depthwise", 0, stride=stride, prefix="side_")
  side = relu(_then(side, scope, "conv", 1, prefix="side_"))
  return np.concatenate([side, main(x)], axis=-1)


def operation(name, x, scope, stride):
  """The operation `name` of the library, by the tables of the papers."""
  if name == "squeeze_excite":
    return squeeze_excite(x, scope)
  if name.startswith("mbconv"):
    return inverted_residual(x, scope, stride, name.endswith("_se"))
  if name.startswith("shuffle"):
    return shuffle_unit(x, scope, stride, "xception" in name)
  if name == "null":
    return 0 * x[:, ::stride, ::stride]
  if name == "skip_connect":
    return x if stride == 1 else factorized_reduce(x, scope)
  if name in ("conv_1x3_3x1", "conv_1x5_5x1", "conv_1x7_7x1", "conv_7x1_1x7"):
    x = conv(relu(x), scope.params["conv0"]["kernel"], stride=(1, stride))
    x = conv(x, scope.params["conv1"]["kernel"], stride=(stride, 1))
    return norm(x, scope.at("norm"))
  if name.startswith("plain_conv"):
    return conv(x, scope.params["conv"]["kernel"], stride=stride)
  kind, size = re.fullmatch(r"(\w+)_(\d)x\2", name).groups()
  size = int(size)
  if kind.startswith("group"):
    return group_conv(x, scope, int(kind[5]), stride=stride)
  if kind == "depthwise_conv":
    x = conv(relu(x), scope.params["depthwise"]["kernel"], stride=stride,
             depthwise=True)
    return norm(x, scope.at("norm"))
  if kind == "conv":
    return relu_conv_norm(x, scope, stride=stride)
  if kind == "sep_conv":
    return separable(x, scope, stride=stride, repeats=2)
  if kind == "dil_conv":
    return separable(x, scope, stride=stride, repeats=1, dilation=2)
  return pool(x, size, {"max_pool": np.max, "avg_pool": np.mean}[kind],
              stride=stride, padding=(size - 1) // 2)


def cell(edges, inputs, reduction, run):
  """Node values of a cell; `run(number of the edge, edge, x, stride)`."""
  nodes = dict(enumerate(inputs))
  for i, edge in enumerate(edges):
    stride = 2 if reduction and edge.source < 2 else 1
    y = run(i, edge, nodes[edge.source], stride)
    nodes[edge.target] = nodes.get(edge.target, 0) + y
  return nodes


def stem(x, scopes):
  """The outputs that stand for the two cells before the first.

  Of one convolution (CIFAR), or of three strided ones (ImageNet).
  """
  outputs, stride = [], 1 if len(scopes) == 1 else 2
  for layer in scopes:
    x = conv(x, layer.params["conv"]["kernel"], stride=stride)
    x = norm(x, layer.at("norm"))
    outputs.append(x)
    x = relu(x)
  return outputs[-2:] if len(outputs) > 1 else outputs * 2


def preprocess(outputs, scopes):
  """Both inputs of a cell; node 0 is reduced where it is twice as large."""
  first = (factorized_reduce if "conv0" in scopes[0].params
           else relu_conv_norm)
  return first(outputs[0], scopes[0]), relu_conv_norm(outputs[1], scopes[1])


def classify(x, scope):
  linear = scope.at("linear").params
  return x @ linear["kernel"] + linear["bias"]


def auxiliary_head(x, scope, kind):
  x = pool(relu(x), 5, np.mean, stride=3 if kind == "cifar" else 2)
  x = conv(x, scope.params["conv0"]["kernel"])
  x = relu(norm(x, scope.at("norm0")))
  x = conv(x, scope.params["conv1"]["kernel"], padding=0)
  if kind == "cifar":
    x = norm(x, scope.at("norm1"))
  return classify(relu(x).reshape(len(x), -1), scope.at("classifier"))


def network(genotype, skeleton, variables, images, *, train):
  """Logits, auxiliary logits or None, and the batch statistics per BN."""
  stats = None if train else variables["batch_stats"]
  top = scope(variables["params"], stats)
  count, auxiliary = skeleton.cells, None
  outputs = stem(images, [top.at(name) for name in (
      ("stem",) if skeleton.kind == "cifar" else ("stem0", "stem1", "stem2"))])
  for i in range(count):
    reduction = i in (count // 3, 2 * count // 3)
    here, graph = top.at(f"cell{i}"), genotype[int(reduction)]

    def run(j, edge, x, stride, here=here):
      own = here.at(f"edge{j}_{edge.operation}")
      return operation(edge.operation, x, own, stride)

    inputs = preprocess(outputs,
                        [here.at("preprocess0"), here.at("preprocess1")])
    nodes = cell(graph.edges, inputs, reduction, run)
    out = np.concatenate([nodes[n] for n in graph.concat], axis=-1)
    outputs = outputs[1], out
    if train and i == 2 * count // 3 and "auxiliary" in top.params:
      auxiliary = auxiliary_head(out, top.at("auxiliary"), skeleton.kind)
  features = outputs[1].mean((1, 2))
  return classify(features, top.at("head")), auxiliary, top.seen


def row(reduction, edge):
  """Where the weights of an edge of a complete cell lie: (store, row)."""
  f, t = edge.source, edge.target
  if not reduction:
    return "edges0", sum(range(2, t)) + f
  if f < 2:
    return "edges0", 2 * (t - 2) + f
  return "edges1", sum(range(t - 2)) + f - 2


def supernet_of(skeleton, params, images, nodes, rows=row):
  """Logits of a supernet of cells; pooling is followed by a BN.

  `nodes(i, inputs, run)` gives the nodes of cell `i`, inputs first;
  `run(edge, x, stride)` is what an operation makes of x there.
  """
  top, runs = scope({k: v for k, v in params.items() if k != "blocks"}), [
      scope(run).params for run in params["blocks"]]
  places = [(run, j) for run in runs for j in range(len(run["preprocess"]))]
  outputs = stem(images, [top.at("stem").at(f"layer{i}")
                          for i in range(len(params["stem"]))])
  for i, (stored, j) in enumerate(places):
    def run(edge, x, stride, i=i, stored=stored, j=j):
      store, at = rows(i in skeleton.reductions, edge)
      own = jax.tree.map(lambda leaf: leaf[j, at],
                         stored.get(store, {}).get(edge.operation, {}))
      y = operation(edge.operation, x, scope(own), stride)
      return norm(y, scope({})) if "pool" in edge.operation else y

    inputs = preprocess(outputs, [scope(stored["preprocess"][j][f"node{k}"])
                                  for k in range(2)])
    outputs = outputs[1], np.concatenate(nodes(i, inputs, run)[2:], axis=-1)
  return classify(outputs[1].mean((1, 2)), top.at("head").at("layer1"))


def supernet(genotype, skeleton, params, images, weights=None, rows=row):
  """Logits of a genotype in a supernet.

  `weights`: per cell type, factors of the edges, which may be any number.
  """
  def nodes(i, inputs, run):
    kind = int(i in skeleton.reductions)

    def weighed(e, edge, x, stride):
      return (1 if weights is None else weights[kind][e]) * run(edge, x, stride)

    found = cell(genotype[kind].edges, inputs, bool(kind), weighed)
    return [x if n < 2 or n in genotype[kind].concat else 0 * x
            for n, x in sorted(found.items())]

  return supernet_of(skeleton, params, images, nodes, rows)


def activate(kind, x, slope=None):
  if kind == "prelu":
    return np.where(x > 0, x, slope * x)
  return {"none": lambda x: x, "relu": relu,
          "relu6": lambda x: np.minimum(relu(x), 6)}[kind](x)


def block_operation(name, x, scope, stride, norm=norm):
  """An operation of a network whose nodes activate, by the words of papers."""
  weights = scope.params
  if name == "skip_connect":
    return x if not weights else norm(
        conv(x, weights["conv"]["kernel"], stride=stride), scope.at("norm"))
  if name == "max_pool_2x2":
    return pool(x, 2, np.max, stride=2)
  if name in ("avg_pool_3x3", "max_pool_3x3"):
    reduce = np.mean if name.startswith("avg") else np.max
    return pool(x, 3, reduce, stride=stride, padding=1)
  if name.startswith("group"):
    return group_conv(x, scope, int(name[5]), stride=stride, activate=False)
  if name.startswith("depthwise"):
    return norm(conv(x, weights["depthwise"]["kernel"], stride=stride,
                     depthwise=True), scope.at("norm"))
  assert name in ("conv_1x1", "conv_3x3")
  return norm(conv(x, weights["conv"]["kernel"], stride=stride),
              scope.at("norm"))


def block(block, inputs, run, normalize, slopes):
  """A block; `run(number of the edge, x)` is what an edge adds, or None.

  `normalize(n, x)` is the BN of node `n`, `slopes(n)` those of its PReLU.
  """
  values = list(inputs)
  for n, node in enumerate(block.nodes, 2):
    total = 0
    for e, edge in enumerate(block.edges):
      y = run(e, values[edge.source]) if edge.target == n else None
      total = total if y is None else total + y
    if node.norm:
      total = normalize(n, total)
    total = activate(node.activation, total,
                     slopes(n) if node.activation == "prelu" else None)
    if node.shuffle:
      b, h, w, c = total.shape
      total = total.reshape(b, h, w, node.shuffle, c // node.shuffle).transpose(
          0, 1, 2, 4, 3).reshape(b, h, w, c)
    values.append(total)
  return np.concatenate([values[n] for n in block.outputs], axis=-1)


def bias(x, scope):
  return x + scope.params["bias"]


def layer(layer, x, scope, norm=norm):
  """A layer of the stem or the head of a network of blocks."""
  if layer.kind == "conv":
    x = conv(x, scope.params["conv"]["kernel"], stride=layer.stride)
  elif layer.kind == "depthwise_conv":
    x = conv(x, scope.params["conv"]["kernel"], stride=layer.stride,
             depthwise=True)
  elif layer.kind == "global_depthwise":
    x = np.sum(x * scope.params["kernel"][:, :, 0], (1, 2), keepdims=True)
  elif layer.kind == "max_pool":
    return pool(x, 3, np.max, stride=2, padding=1)
  elif layer.kind == "global_pool":
    return np.mean(x, (1, 2), keepdims=True)
  elif layer.kind == "linear":
    linear = scope.params["linear"]
    x = x.reshape(x.shape[0], 1, 1, -1) @ linear["kernel"]
    x = x + linear.get("bias", 0)
  if layer.kind in ("dropout", "flatten"):
    return x
  if layer.norm:
    x = norm(x, scope.at("norm"))
  elif layer.kind != "linear":
    x = bias(x, scope.at("bias"))
  return activate(layer.activation, x,
                  scope.at("activation").params.get("slope"))


def assert_close(ours, theirs, rtol=2e-3):
  """Leaves differ little where they are large, and nowhere much."""
  def close(path, a, b):
    scale = np.max(np.abs(b)) + 1e-3
    np.testing.assert_allclose(
        a, b, rtol=rtol, atol=rtol * scale,
        err_msg=jax.tree_util.keystr(path))

  jax.tree_util.tree_map_with_path(close, ours, theirs)


def assert_slopes(function, values, gradients, seed=0, *, length=1e-7,
                  rtol=1e-2):
  """Gradients against central differences, along two random directions.

  Args:
    function: `(*values) -> float` in float64.
    values: where the gradients were taken.
    gradients: one per value.
    seed: of the directions.
    length: of the step.
    rtol: how far the slopes may differ.
  """
  rng = np.random.default_rng(seed)
  for _ in range(2):
    step = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), values)
    ends = [function(*jax.tree.map(
        lambda x, d, sign=sign: np.asarray(x, np.float64) + sign * length * d,
        values, step)) for sign in (1, -1)]
    along = sum(np.sum(g * d) for g, d in zip(
        jax.tree.leaves(gradients), jax.tree.leaves(step), strict=True))
    np.testing.assert_allclose(along, (ends[0] - ends[1]) / (2 * length),
                               rtol=rtol)
