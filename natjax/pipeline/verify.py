"""Judges the networks of a run by pairs of faces."""

from collections.abc import Mapping
import functools
import os

import jax
import numpy as np

from natjax import errors
from natjax.data import face_pairs
from natjax.objectives import verification
from natjax.pipeline import networks as networks_lib

_BATCH = 128


def verify(run: str | os.PathLike[str],
           pairs: str | os.PathLike[str] | face_pairs.Pairs, *,
           network: str | None = None
           ) -> Mapping[str, verification.Verified]:
  """Judges a run's networks by whether pairs of images show one person.

  See `objectives.verification`: mirrored images count too, and ten folds
  choose each other's thresholds. Images of another size than the network's
  are resized as the run's were.

  Args:
    run: the folder of a training or transformation that learnt embeddings
      (`--objective arcface`, or without labels).
    pairs: a `.bin` file such as those of LFW, CFP-FP and AgeDB-30, or what
      `data.face_pairs.read` read of one.
    network: which of the run's networks, as for `load`; None is all.

  Returns:
    By the networks' names, `Verified`.

  Raises:
    InputError: no such run or network, one without an embedding, a file of
      another form, or fewer than ten pairs.
  """
  names = [*networks_lib.networks(run)] if network is None else [network]
  loaded = {name: networks_lib.load(run, name) for name in names}
  for name, found in loaded.items():
    if not found.embeds:
      raise errors.InputError(
          f"{run}: {name} has a linear classifier and no embedding; train it"
          " with --objective arcface")
  if not isinstance(pairs, face_pairs.Pairs):
    pairs = face_pairs.read(pairs)
  with errors.naming(pairs.where):
    verification.check(pairs.same)
  return {name: verification.judge(verification.distances(
      *embeddings(found, pairs)), pairs.same) for name, found in loaded.items()}


def embeddings(network: networks_lib.TrainedNetwork,
               pairs: face_pairs.Pairs) -> tuple[np.ndarray, np.ndarray]:
  """Computes those of all images of pairs, batch by batch.

  Args:
    network: that embeds.
    pairs: P of them.

  Returns:
    Of the images and of their mirror images, f32[2P, F].
  """
  size, found = network.module.frame.image_size, []
  run = _compiled(network.embedder, network.preparation)
  for images in pairs.decoded(size, _BATCH, resize=network.resize):
    spare = -len(images) % min(_BATCH, len(pairs.images))
    padded = np.concatenate([images, np.repeat(images[:1], spare, 0)])
    found.append([np.asarray(part)[:len(images)] for part in run(
        network.variables, padded)])
  plain, mirrored = map(np.concatenate, zip(*found, strict=True))
  return plain, mirrored


@functools.lru_cache(maxsize=8)
def _compiled(module, preparation):
  """Of stored images, and of their mirror images, the module's features."""
  def run(variables, images):
    images = preparation(None, images, train=False)
    return tuple(module.apply(variables, x)[0] for x in (
        images, images[:, :, ::-1]))

  return jax.jit(run)
