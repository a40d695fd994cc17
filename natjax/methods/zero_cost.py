"""Zero-cost scores: what an untrained network shows of what it would reach.

NASWOT: Mellor, Turner, Storkey, Crowley, 2021, "Neural Architecture Search
without Training", ICML. SynFlow: Tanaka, Kunin, Yamins, Ganguli, 2020, "Pruning
neural networks without any data by iteratively conserving synaptic flow",
NeurIPS; as a score of architectures Abdelfattah et al., 2021, "Zero-Cost
Proxies for Lightweight NAS", ICLR. IT-NAS compares itself with both (appendix
A.7). Larger is better, and only the order of scores means anything.

Both are of a network's initial weights (`network.init`); another draw gives
other scores. They run operation by operation, so that networks of equal shapes
share what is compiled.

How this differs: SynFlow's logarithm is taken, since the sum is a product over
layers. Its signals begin at 1e-100, not 1, and so stay below the bend of ReLU6.
A code of NASWOT has a digit for every unit of ReLU6, too, but none for PReLU,
nor for what operations of one's own do without `primitives.relu`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax.networks import network as network_lib
from natjax.operations import primitives

_ONE = 1e-100


def naswot(network: network_lib.Network, variables: Any,
           images: jax.Array) -> float:
  """Computes NASWOT: log |det K|, K of the codes of images (`kernel`).

  Mellor et al., equation 2. BN normalises by the batch; dropout is off. Units
  count whether or not they lead to the output. Where all codes are alike it is
  -inf.

  Args:
    network: the network.
    variables: its initial "params" and "batch_stats".
    images: [B, H, W, 3], as it is trained on, without augmentation.

  Raises:
    InputError: the network has no ReLU.
  """
  return naswot_and_units(network, variables, images)[0]


def naswot_and_units(network: network_lib.Network, variables: Any,
                     images: jax.Array) -> tuple[float, int]:
  """Computes NASWOT, and N_A, of how many units the codes are.

  log |K| - B log N_A, of B images, is what codes of one length would have.

  Args:
    network: as of `naswot`.
    variables: likewise.
    images: likewise.

  Raises:
    InputError: the network has no ReLU.
  """
  if not len(images):
    raise errors.InputError("NASWOT compares images, and none is given; give"
                            " a batch", "images")
  with primitives.relu_inputs() as heard:
    network.clone(graph=_kept(network.graph)).apply(
        variables, images, train=True, mutable=["batch_stats"])
  if not heard:
    raise errors.InputError(
        f"network '{network.graph.name}' has no ReLU, whose signs NASWOT"
        " compares; score it by SynFlow")
  codes = [np.asarray(x > 0).reshape(len(x), -1) for x in heard]
  # Its sign is lost, as that of a determinant that should be 0 is noise.
  return (float(np.linalg.slogdet(sum(map(kernel, codes)))[1]),
          sum(one.shape[1] for one in codes))


def _kept(graph):
  """A network without dropout."""
  kept = lambda layers: tuple(
      layer._replace(rate=0.0) if layer.kind == "dropout" else layer
      for layer in layers)
  return graph._replace(stem=kept(graph.stem), head=kept(graph.head))


def kernel(codes: np.ndarray) -> np.ndarray:
  """Computes K, K_ij = N_A - d_H(c_i, c_j): in how many digits codes agree.

  Mellor et al., section 3. Of several layers it is the sum.

  Args:
    codes: bool[B, N_A], of every image, which units are above 0.

  Returns:
    f64[B, B].
  """
  digits = codes.shape[1]
  # Of +1 and -1, exact; four times as fast as both products in float64.
  kind = np.float32 if digits < 2**24 else np.float64
  signs = np.where(codes, kind(1), kind(-1))
  return (digits + np.asarray(signs @ signs.T, np.float64)) / 2


def synflow(network: network_lib.Network, variables: Any) -> float:
  """Computes SynFlow: the log of the sum over kernels of theta * dR/dtheta.

  Tanaka et al., section 5; R is the sum of the logits of an image of ones where
  all weights are their absolute values and BN hands on what it is given. Where
  no signal reaches the logits it is -inf. It is computed in float64.

  Args:
    network: the network.
    variables: its initial "params" and "batch_stats".
  """
  with jax.enable_x64(True), np.errstate(divide="ignore"):
    params = jax.tree_util.tree_map_with_path(_linear, variables["params"])
    epsilon = network.graph.norm_epsilon
    stats = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.full(leaf.shape, (
            1 - epsilon if _name(path) == "var" else 0.0)),
        variables.get("batch_stats", {}))
    size = network.frame.image_size
    ones = jnp.full((1, size, size, 3), _ONE, jnp.float64)

    def flow(params):
      return jnp.sum(network.apply(
          {"params": params, "batch_stats": stats}, ones)[0])

    grads = jax.tree_util.tree_leaves_with_path(jax.grad(flow)(params))
    total = sum(float(np.sum(theta * np.asarray(grad))) for theta, (path, grad)
                in zip(jax.tree.leaves(params), grads, strict=True)
                if _name(path) == "kernel")
    return float(np.log(total) - np.log(_ONE))


def _linear(path, leaf):
  """A parameter of the network that SynFlow runs."""
  leaf = np.abs(np.asarray(leaf, np.float64))
  if "bn" in [entry.key for entry in path]:
    return np.full(leaf.shape, float(_name(path) == "scale"))
  return leaf


def _name(path):
  return path[-1].key
