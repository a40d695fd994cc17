"""Trained networks of runs: their weights, and finding and loading them."""

import json
import os
import zipfile

import jax
import numpy as np
import pytest

from natjax import data, errors
from natjax.data import dataset
from natjax.graph import genotype as architecture
from natjax.graph import skeleton
from natjax.networks import network
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import run_files, runs
from tests.pipeline.test_runs import CONFIG, contents, GENOTYPE


def test_weights_round_trip(tmp_path):
  rng = np.random.default_rng(0)
  tree = {"params": {"a": {"kernel": rng.normal(size=(3, 2)).astype("f")},
                     "b": np.float32(2)},
          "batch_stats": {"a": {"mean": np.zeros(0, np.float32)}}}
  networks_lib.save_weights(tmp_path / "w.npz", tree)
  jax.tree.map(np.testing.assert_array_equal,
               networks_lib.load_weights(tmp_path / "w.npz"), tree)
  assert set(contents(tmp_path)) == {"w.npz"}


@pytest.mark.parametrize("damage", [
    lambda b: b[:-50], lambda b: b[:10], lambda b: b"", lambda b: b"not zip",
    lambda b: b[:200] + bytes([b[200] ^ 1]) + b[201:], None])
def test_damaged_weights(tmp_path, damage):
  path = tmp_path / "w.npz"
  if damage is not None:
    networks_lib.save_weights(path, {"a": np.ones(100, np.float32)})
    path.write_bytes(damage(path.read_bytes()))
  with pytest.raises(errors.InputError, match=(
      "is not there;" if damage is None else "is damaged, or no file of wei")):
    networks_lib.load_weights(path)


def test_weights_that_stand_twice_in_a_file(tmp_path):
  path = tmp_path / "w.npz"
  networks_lib.save_weights(path, {"a": np.ones(2, np.float32)})
  with zipfile.ZipFile(path) as file:
    array = file.read("a.npy")
  with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning):
    file.writestr("a.npy", array)
  with pytest.raises(errors.InputError, match="is damaged, or no file of wei"):
    networks_lib.load_weights(path)


def test_pickled_weights_are_not_executed(tmp_path):
  class Evil:
    def __reduce__(self):
      return os.mkdir, (str(tmp_path / "executed"),)

  np.savez(tmp_path / "w.npz", a=np.array([Evil()], object))
  with pytest.raises(errors.InputError):
    networks_lib.load_weights(tmp_path / "w.npz")
  assert not (tmp_path / "executed").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A run whose networks nobody trained."""
  out = runs.open_run(tmp_path_factory.mktemp("runs") / "run", CONFIG)
  place = skeleton.Skeleton("cifar", 2, 1, 3, 4)
  variables = network.init(network.module(GENOTYPE, place), jax.random.key(0))
  for name in ("original-0", "original-1", "transformed-0", "transformed-1"):
    folder = out / "networks" / name
    folder.mkdir(parents=True)
    networks_lib.save_weights(folder / "weights.npz", variables)
    run_files.write_json(folder / "result.json", {
        "accuracy": 0.25, "seed": int(name[-1]),
        "architecture": architecture.to_dict(GENOTYPE),
        "place": place._asdict(), "auxiliary": False, "dtype": "float32",
        "mean": [0.5] * 3, "std": [0.25] * 3, "class_names": list("abc")})
  (out / "networks" / "unfinished-0").mkdir()
  return out, variables


def test_load(trained):
  out, variables = trained
  net = networks_lib.load(out)
  assert net.architecture == GENOTYPE
  assert net.class_names == ("a", "b", "c")
  assert net.test_accuracy == 0.25
  jax.tree.map(np.testing.assert_array_equal, net.variables, variables)
  images = np.random.default_rng(0).integers(
      0, 256, (5, 4, 4, 3)).astype(np.uint8)
  normalised = data.normalize(images, (0.5,) * 3, (0.25,) * 3)
  expected, _ = jax.jit(net.module.apply)(variables, normalised)
  logits = net.logits(images)
  np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(net.predict(images), np.argmax(logits, -1))


def test_an_imagenet_stem_that_natjax_0_1_named_otherwise(tmp_path):
  place = skeleton.Skeleton("imagenet", 2, 1, 3, 32)
  variables = network.init(network.module(GENOTYPE, place), jax.random.key(0))
  old = {}
  for kind, layers in variables.items():
    stems = {n: layer for n, layer in layers.items() if n.startswith("stem")}
    assert set(stems) == {"stem0", "stem1", "stem2"}
    rest = {n: layer for n, layer in layers.items() if n not in stems}
    old[kind] = rest | {"stem": {
        f"{part}{name[-1]}": value for name, layer in stems.items()
        for part, value in layer.items()}}
  networks_lib.save_weights(tmp_path / "weights.npz", old)
  jax.tree.map(np.testing.assert_array_equal,
               networks_lib.load_weights(tmp_path / "weights.npz"), variables)


@pytest.mark.parametrize("damage", [
    lambda r: [], lambda r: {**r, "place": None}, lambda r: {**r, "dtype": 3},
    lambda r: {k: v for k, v in r.items() if k != "mean"}])
def test_a_result_that_is_damaged_is_refused(trained, damage, tmp_path):
  out, _ = trained
  path = out / "networks" / "original-0" / "result.json"
  text = path.read_text()
  try:
    path.write_text(json.dumps(damage(json.loads(text))))
    with pytest.raises(errors.InputError, match="is damaged"):
      networks_lib.load(out, "original-0")
  finally:
    path.write_text(text)


def test_the_first_of_the_transformed_is_loaded(trained, tmp_path):
  out, _ = trained
  found = networks_lib.networks(out)
  assert [f.name for f in found.values()] == list(found) == [
      "original-0", "original-1", "transformed-0", "transformed-1"]
  result = out / "networks" / "transformed-0" / "result.json"
  text = result.read_text()
  result.write_text(text.replace("0.25,", "0.75,", 1))
  try:
    assert networks_lib.load(out).test_accuracy == 0.75
    assert networks_lib.load(str(out), "original-1").test_accuracy == 0.25
  finally:
    result.write_text(text)


def test_unknown_network(trained):
  with pytest.raises(errors.InputError, match="no network 'n'; it has orig"):
    networks_lib.load(trained[0], "n")


@pytest.mark.parametrize("make", [False, True])
def test_no_trained_network(tmp_path, make):
  if make:
    runs.open_run(tmp_path / "run", CONFIG)
  with pytest.raises(errors.InputError, match="holds no trained network"):
    networks_lib.load(tmp_path / "run")


def test_images_of_another_kind_are_refused(trained):
  net = networks_lib.load(trained[0])
  images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
  for call in (net.logits, net.predict):
    for wrong, message in (
        (images, "uint8.5, 8, 8, 3. and the network was trained on 4 x 4"),
        (images[:, :4], "trained on 4 x 4 pixels; .* pass resize=True"),
        (images / 255, "images are float64.* must be uint8.B, 4, 4, 3."),
        (images[0], "must be uint8"), (images[..., :1], "must be uint8"),
        (images[:0], "hold no pixels; give at"), ([[1]], "must be uint8")):
      with pytest.raises(errors.InputError, match=message):
        call(wrong)
    with pytest.raises(errors.InputError, match="resize is 'no' and must be"):
      call(images, resize="no")
  small = dataset.resize_all(images, 4)
  np.testing.assert_array_equal(
      net.logits(images, resize=True), net.logits(small))
  np.testing.assert_array_equal(
      net.predict(jax.numpy.asarray(images), resize=True), net.predict(small))


def test_forward_takes_bytes_or_what_is_prepared(trained):
  net = networks_lib.load(trained[0])
  images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)
  wanted = net.logits(images)
  for same in (images, net.preparation(None, images, train=False)):
    np.testing.assert_array_equal(
        net.forward(net.variables, same)[0], wanted)
  for other in (images.astype(np.int64), images.astype(np.int32), images > 9,
                images.tolist()):
    with pytest.raises(errors.InputError, match="must be uint8, pixels"):
      net.forward(net.variables, other)


def test_maps_are_made_in_a_program_too(trained):
  net = networks_lib.load(trained[0])
  images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
  compiled = jax.jit(net.class_activation, static_argnames="layer")
  for labels in ((), (np.array([1, 0]),)):
    np.testing.assert_allclose(
        compiled(images, *labels, layer="cell0"),
        net.class_activation(images, *labels, layer="cell0"),
        rtol=1e-5, atol=1e-7)
  with pytest.raises(errors.InputError, match="resize them before"):
    jax.jit(lambda images: net.predict(images, resize=True))(images)
  for wrong in (np.array([1]), np.array([1.0, 0.0])):
    with pytest.raises(errors.InputError, match=r"labels are .* and must be 2"):
      compiled(images, wrong, layer="cell0")


@pytest.mark.parametrize("change,message", [
    (lambda w: {}, "does not hold the weights of its network"),
    (lambda w: {k: v for k, v in w.items() if "head" not in k},
     "they lack .*head"),
    (lambda w: {k: v[..., :1] for k, v in w.items()}, "of another shape"),
])
def test_weights_of_another_network_are_refused(trained, change, message):
  path = trained[0] / "networks" / "original-1" / "weights.npz"
  content = path.read_bytes()
  try:
    with np.load(path) as f:
      np.savez(path, **change(dict(f)))
    with pytest.raises(errors.InputError, match=message):
      networks_lib.load(trained[0], "original-1")
  finally:
    path.write_bytes(content)


@pytest.mark.parametrize("name", [5, [], b"original-0"])
def test_names_that_are_no_text(trained, name):
  with pytest.raises(errors.InputError, match=r"has no network .* it has orig"):
    networks_lib.load(trained[0], name)
