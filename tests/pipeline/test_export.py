"""Networks as files: written, read back, and refused."""

import dataclasses
import sys
import types

from jax import export as jax_export
import jax.numpy as jnp
import numpy as np
import pytest

import natjax
from natjax import cli, errors
from natjax.pipeline import export
from tests.methods import test_replace
from tests.pipeline import test_weights

pytest.importorskip("flatbuffers", reason="of the extra `export`")


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
  out = tmp_path_factory.mktemp("trained") / "run"
  test_weights.train(out, config=dataclasses.replace(
      test_weights.STILL, learning_rate=0.05))
  return out


@pytest.fixture(scope="module")
def a_file(a_run, tmp_path_factory):
  file = tmp_path_factory.mktemp("exported") / "network.stablehlo"
  return export.export(a_run, file)


@pytest.mark.long
def test_a_file_gives_what_the_network_gives(a_run, a_file):
  images = test_replace.dataset().test_images[:5]
  expected = natjax.load(a_run).logits(images)
  assert a_file.difference < 1e-5
  assert {"cpu", "cuda", "tpu"} <= {*a_file.platforms}
  # By natjax, and by jax alone; batches of any size.
  plain = jax_export.deserialize(bytearray(a_file.path.read_bytes()))
  for found in (natjax.load_exported(a_file.path), plain):
    np.testing.assert_allclose(found.call(images), expected, atol=1e-5)
    np.testing.assert_allclose(found.call(images[:2]), expected[:2], atol=1e-5)
  assert [str(n) for n in plain.in_avals[0].shape] == ["b", "8", "8", "3"]


@pytest.mark.long
def test_the_command_line_exports(a_run, tmp_path, capsys):
  file = tmp_path / "n.stablehlo"
  assert cli.main(["export", str(a_run), "--out", str(file), "--platforms",
                   "cuda", "--network", "network-0"]) == 0
  said = capsys.readouterr().out
  assert "for cuda, cpu" in said and "differ by at most" in said
  assert natjax.load_exported(file).platforms == ("cuda", "cpu")


@pytest.mark.long
@pytest.mark.parametrize("argv,words", [
    (["RUN", "--out", "n.pb"], "as .stablehlo or .onnx, not as '.pb'"),
    (["RUN", "--out", "n"], "as .stablehlo or .onnx, not as ''"),
    (["RUN", "--out", "n.onnx", "--platforms", "cpu"],
     "platforms are of .stablehlo; .onnx runs where its reader does"),
    (["RUN", "--out", "none/n.stablehlo"], "lies in none; name a file"),
    (["RUN", "--out", "n.stablehlo", "--platforms", "cpu,abacus"],
     "platform 'abacus' is unknown; choose one of cpu, cuda, rocm, tpu"),
    (["RUN", "--out", "n.STABLEHLO", "--platforms", "abacus"],
     "platform 'abacus' is unknown; choose one of cpu, cuda, rocm, tpu"),
    (["RUN", "--out", "n.stablehlo", "--network", "such"],
     "has no network 'such'; it has network-0"),
    ([".", "--out", "n.stablehlo"], "holds no trained network"),
    (["BARE", "--out", "n.stablehlo"], "not there; train the network again"),
    (["none", "--out", "n.stablehlo"], "holds no trained network")])
def test_what_cannot_be_exported_is_refused_in_a_line(
    a_run, argv, words, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  bare = tmp_path / "bare" / "networks" / "network-0"
  bare.mkdir(parents=True)
  (bare / "result.json").write_bytes(
      (a_run / "networks" / "network-0" / "result.json").read_bytes())
  argv = [{"RUN": str(a_run), "BARE": "bare"}.get(word, word) for word in argv]
  assert cli.main(["export", *argv]) == 2
  out, err = capsys.readouterr()
  assert not out and err.startswith("natjax: ") and words in err
  assert err.count("\n") == 1 and not (tmp_path / "n.stablehlo").exists()


@pytest.mark.long
def test_platforms_are_a_list(a_run, tmp_path):
  for wrong in ("cpu", ()):
    with pytest.raises(errors.InputError, match="a list of one or more"):
      export.export(a_run, tmp_path / "n.stablehlo", platforms=wrong)


@pytest.mark.long
def test_a_file_that_is_none_is_refused(a_file, tmp_path):
  whole = a_file.path.read_bytes()
  file = tmp_path / "n.stablehlo"
  for held in (b"", b"no such thing", whole[:len(whole) // 2], whole[1:]):
    file.write_bytes(held)
    with pytest.raises(errors.InputError, match="damaged, or not what jax"):
      export.load_exported(file)
  with pytest.raises(errors.InputError, match="no such file"):
    export.load_exported(tmp_path / "none")


@pytest.mark.long
def test_without_flatbuffers_it_is_said(a_run, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "flatbuffers", None)
  with pytest.raises(errors.InputError, match=r"natjax\[export\]"):
    export.export(a_run, tmp_path / "n.stablehlo")


@pytest.mark.long
@pytest.mark.parametrize("package", ["jax2onnx", "onnxruntime"])
def test_without_what_onnx_takes_it_is_said(
    a_run, tmp_path, monkeypatch, package):
  monkeypatch.setitem(sys.modules, "jax2onnx", types.ModuleType("jax2onnx"))
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(errors.InputError, match=package + r".*natjax\[onnx\]"):
    export.export(a_run, tmp_path / "n.onnx")


@pytest.mark.long
def test_what_onnx_cannot_express_is_one_line(a_run, tmp_path, monkeypatch):
  def refuse(*_, **__):
    raise NotImplementedError("no such\nprimitive")

  translator = types.ModuleType("jax2onnx")
  translator.to_onnx = refuse
  monkeypatch.setitem(sys.modules, "jax2onnx", translator)
  monkeypatch.setitem(sys.modules, "onnxruntime",
                      types.ModuleType("onnxruntime"))
  with pytest.raises(errors.InputError, match="cannot express") as caught:
    export.export(a_run, tmp_path / "n.onnx")
  assert "NotImplementedError: " in str(caught.value)
  assert "\n" not in str(caught.value) and not [*tmp_path.iterdir()]


@pytest.mark.long
@pytest.mark.parametrize("wrong", [
    lambda logits: logits + 0.1, lambda logits: logits[:1, :, None],
    lambda logits: logits * np.nan])
def test_another_network_in_onnx_is_refused(
    a_run, tmp_path, monkeypatch, wrong):
  network = natjax.load(a_run)
  model = types.SimpleNamespace(
      graph=types.SimpleNamespace(value_info=[]), SerializeToString=bytes)
  session = types.SimpleNamespace(run=lambda _, given: [
      wrong(np.asarray(network.logits(given["images"])))])
  for name, content in (
      ("jax2onnx", {"to_onnx": lambda *_, **__: model}),
      ("onnxruntime", {"InferenceSession": lambda *_, **__: session})):
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**content))
  with pytest.raises(errors.InputError, match="gives other outputs than the"):
    export.export(network, tmp_path / "n.onnx")
  assert not [*tmp_path.iterdir()]


# What comes with jax2onnx warns, each release of other things.
@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_onnx_gives_what_the_network_gives(a_run, tmp_path, dtype, capsys):
  pytest.importorskip("jax2onnx", reason="of the extra `onnx`")
  runtime = pytest.importorskip("onnxruntime", reason="of the extra `onnx`")
  network = natjax.load(a_run)
  network = network._replace(
      preparation=network.preparation._replace(dtype=jnp.dtype(dtype)))
  done = export.export(network, tmp_path / "n.onnx")
  # In float32, also what was trained in less.
  assert done.difference < 1e-5 and done.platforms == ()
  images = test_replace.dataset().test_images[:5]
  session = runtime.InferenceSession(done.path)
  assert [(i.name, i.type, i.shape[1:]) for i in session.get_inputs()] == [
      ("images", "tensor(uint8)", [8, 8, 3])]
  for batch in (images, images[:2]):
    found, = session.run(["logits"], {"images": batch})
    np.testing.assert_allclose(found, natjax.load(a_run).logits(batch),
                               atol=1e-5)
  assert capsys.readouterr() == ("", "")


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_the_command_line_writes_onnx(a_run, tmp_path, capsys):
  pytest.importorskip("jax2onnx", reason="of the extra `onnx`")
  file = tmp_path / "n.onnx"
  assert cli.main(["export", str(a_run), "--out", str(file)]) == 0
  said = capsys.readouterr().out
  assert said.startswith(
      f"network-0: {file}; read back, its outputs differ by at most")
