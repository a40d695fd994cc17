"""The supernet of a search: its candidates' maps, from Python and the shell."""

import json
import operator
import shutil
import types
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import cli, data, errors, pipeline, spaces, zoo
from natjax.benchmarks import nasbench201, nasbench_macro
from natjax.cli import rank
from natjax.data import dataset
from natjax.graph import blocks, codec
from natjax.graph import nasbench201 as cells201
from natjax.methods import spos, supervised
from natjax.networks import grad_cam
from natjax.pipeline import run_data, runs, supernets
from natjax.spaces import chains
from natjax.spaces import connections as connections_lib
from natjax.spaces import paths as paths_lib
from tests.methods import searching
from tests.methods.test_spos import CHAIN, config, filled, make


def test_a_probe_carries_out_what_the_head_sees(monkeypatch):
  """Of the last layer the logits are linear in what it gives."""
  monkeypatch.setattr(
      grad_cam, "_map", lambda slopes, features: (slopes, features))
  method = make("chain")
  params = method.init(jax.random.key(0)).params
  images = searching.batches(1)[0]["image"]
  labels = jnp.array([2, 0, 1, 1])
  for names in (["mbconv3_3x3"] * 3, ["mbconv6_3x3", "skip_connect",
                                      "skip_connect"]):
    path = method.paths.encode(filled(names))
    stats = jax.tree.map(lambda leaf: leaf[0], method._measure(
        (params, path), {"image": images, "label": labels}))
    variables = {"params": params, "batch_stats": stats}
    (slopes, features), logits = grad_cam.of_candidates(
        method.judged, 2, 0)(variables, path, images, labels)
    wanted, _ = method.judged.run(
        variables, method.judged.selected(path), images, train=False)
    np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-6)
    last = [leaf for leaf in jax.tree.leaves(params["head"])
            if leaf.shape == (6, 3)]
    bias = [leaf for leaf in jax.tree.leaves(params["head"])
            if leaf.shape == (3,)]
    np.testing.assert_allclose(
        jnp.mean(features, (1, 2)) @ last[0] + bias[0], logits, rtol=1e-4,
        atol=1e-5)
    np.testing.assert_allclose(slopes, jnp.broadcast_to(
        last[0].T[labels][:, None, None] / features[0, ..., 0].size,
        slopes.shape), rtol=1e-4, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("choices", [False, True])
def test_an_edge_of_a_found_cell_is_explained(choices, monkeypatch):
  """Where nodes choose their inputs: another operation on an edge they chose.
  """
  space = searching.SPACE if not choices else searching.SPACE._replace(
      choices=((("max_pool_3x3", "dil_conv_3x3"),) * 5,
               (("dil_conv_3x3", "skip_connect"),) * 5))
  method = spos.SPOS(config("cells"), space, target=None, steps_per_epoch=2,
                     **searching.SIZES)
  params = method.init(jax.random.key(0)).params
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (8, 8, 8, 3)).astype(np.uint8)
  loaded = dataset.make_dataset(
      "noise", (images, np.arange(8) % 3), (images[:3], np.arange(3)),
      image_size=8)
  searched = lambda path: supernets.SearchedSupernet(
      method.supernet, params, method.paths, method.paths.decode(path), loaded,
      lambda rng, x, *, train: x.astype(jnp.float32) / 255)
  path = jax.tree.map(np.asarray, method.paths.draw(jax.random.key(1)))
  found = searched(path)
  # Eight edges of two nodes in three cells, that of the first type twice.
  assert [*found.layers] == [f"cell{i}/edge{e}" for i in range(3)
                             for e in range(4)]
  cells = [d.cell for d in method.paths.decisions(method.paths.decode(path))]
  plan, kernel = method.supernet.plan, [
      leaf for leaf in jax.tree.leaves(params["head"]) if leaf.shape == (32, 3)]
  for name in ("cell0/edge1", "cell2/edge3"):
    layer, (_, e) = found.layer(name), map(int, name[4:].split("/edge"))
    group = plan.decided[layer.block]
    assert cells[group].edges[e] == (
        layer.chosen, *plan.cell(layer.block).edges[layer.edge][1:])
    maps = found.candidate_activations(images[1], 2, name)
    assert {*maps} == {*space.names(group, layer.edge)} - {"null"}
    for operation, (of_it, logits) in maps.items():
      swapped = path.operation.copy()
      swapped[group, layer.slot[0], layer.slot[1]] = (
          space.candidates.index(operation))
      wanted = searched(path.replace(operation=swapped)).logits(images[1])
      np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-5)
      assert (of_it >= 0).all() and of_it.shape[0] in (2, 8)
  # Of the last node the logits are linear in what its edges give.
  monkeypatch.setattr(
      grad_cam, "_map", lambda slopes, features: (slopes, features))
  at = found.layer("cell2/edge3")
  (slopes, _), _ = grad_cam.of_candidates(
      found.supernet, at.block, at.edge)(
          found._variables(found.found), found.found,
          jnp.ones((1, 8, 8, 3)), jnp.array([1]))
  np.testing.assert_allclose(slopes, jnp.broadcast_to(
      kernel[0][16:, 1] / slopes[0, ..., 0].size, slopes.shape), rtol=1e-4,
      atol=1e-6)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A search over a chain of which nothing was learnt, and its images."""
  folder = tmp_path_factory.mktemp("chain")
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (96, 8, 8)).astype(np.uint8)
  np.savez(folder / "noise.npz", x_train=images, y_train=np.arange(96) % 3,
           x_test=images[:9], y_test=np.arange(9) % 3)
  found = data.load(str(folder / "noise.npz"), image_size=8)
  with mock.patch.dict(spaces.SPACES, {"chain": CHAIN}):
    pipeline.search(
        "chain", found, out=folder / "run", method="spos", devices=1,
        search=spos.SPOSConfig(
            epochs=1, batch_size=16, population=2, parents=1, generations=1,
            mutations=0, crossovers=0, calibration=32), train_found=False,
        listener=None)
    yield folder / "run"


@pytest.mark.long
def test_candidates_of_a_layer_are_explained(run, tmp_path, capsys):
  out = tmp_path / "maps.svg"
  assert cli.main(["explain", str(run), "--candidates", "--image", "1", "--out",
                   str(out), "--layer", "1", "--json"]) == 0
  facts = json.loads(capsys.readouterr().out)
  chosen = json.loads((run / "result.json").read_text())["operations"]
  assert (facts["layer"], facts["selected"]) == ("block1", chosen[1])
  rows = {row["operation"]: row for row in facts["candidates"]}
  assert [*rows] == ["mbconv3_3x3", "mbconv6_3x3", "skip_connect"]
  loaded, _ = run_data.load(run)
  searched = supernets.load(run, loaded)
  image = loaded.test_images[1]
  label = loaded.class_names.index(facts["class"])
  logits = searched.logits(image)
  assert int(np.argmax(logits)) == label and facts["label"] == "1"
  maps = searched.candidate_activations(image, label, "block1")
  for name, (found, of_it) in maps.items():
    assert found.shape == (4, 4) and (found >= 0).all()
    np.testing.assert_allclose(rows[name]["map"], found, rtol=1e-4, atol=1e-6)
    likely = np.exp(of_it) / np.exp(of_it).sum()
    assert rows[name]["probability"] == pytest.approx(likely[label], rel=1e-4)
  np.testing.assert_allclose(maps[chosen[1]][1], logits, rtol=1e-4, atol=1e-5)
  text = out.read_text()
  assert [name for name in rows if f"{name} (selected)" in text] == [chosen[1]]
  assert cli.main(["explain", str(run), "--candidates", "--image", "1"]) == 0
  assert "selected" in capsys.readouterr().out
  assert (run / "candidates.svg").exists()


@pytest.mark.slow
def test_the_command_explains_an_edge_of_a_cell(run, tmp_path, capsys):
  found = data.load(str(run.parent / "noise.npz"), image_size=8)
  out = tmp_path / "run"
  with mock.patch.dict(spaces.SPACES, {"tiny": searching.SPACE}):
    pipeline.search(
        "tiny", found, out=out, method="spos", devices=1,
        search=spos.SPOSConfig(
            init_channels=4, cells=3, epochs=1, batch_size=16, population=1,
            parents=1, generations=1, mutations=0, crossovers=0,
            calibration=16), train=supervised.TrainConfig(
                batch_size=16, cutout=0, auxiliary=False), train_found=False)
    explain = ["explain", str(out), "--candidates", "--image", "1"]
    assert cli.main([*explain, "--layer", "cell2/edge3", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert cli.main([*explain, "--layer", "2"]) == 2
    assert "are cell0/edge0, cell0/edge1" in capsys.readouterr().err
    assert cli.main(["rank", str(out)]) == 2
    assert "are not ranked" in capsys.readouterr().err
  edges = codec.read(out / "architecture.json").reduce.edges
  assert facts["layer"] == "cell2/edge3"
  assert facts["selected"] == edges[3].operation
  assert [row["operation"] for row in facts["candidates"]] == [
      "max_pool_3x3", "skip_connect", "dil_conv_3x3"]
  assert (out / "candidates.svg").exists()


@pytest.mark.long
def test_candidates_are_judged_as_one_by_one(run):
  loaded, _ = run_data.load(run)
  searched = supernets.load(run, loaded)
  paths = searched.paths
  every = paths.numbered(np.arange(paths.count))
  assert paths.count == 18 == len({
      codec.to_json(paths.decode(jax.tree.map(operator.itemgetter(i), every)))
      for i in range(18)})
  images, labels = (part[:11] for part in searched.judging)
  alone = []
  for i in (0, 9, 17):
    searched.found = jax.tree.map(operator.itemgetter(i), every)
    alone.append(np.mean([int(np.argmax(searched.logits(image))) == label
                          for image, label in zip(
                              images, labels, strict=True)]))
  told = []
  together = searched.accuracies(every, images=11, batch=4,
                                 listener=told.append)
  assert together.shape == (18,) and told == [18]
  np.testing.assert_allclose(together[[0, 9, 17]], alone)


@pytest.mark.long
def test_rank_orders_what_it_is_given(run, capsys):
  assert cli.main(["rank", str(run), "--json", "--top", "18"]) == 0
  facts = json.loads(capsys.readouterr().out)
  assert facts["judged"] == 18 and facts["space"] == "chain"
  scores = [row["accuracy"] for row in facts["architectures"]]
  assert scores == sorted(scores, reverse=True) and len(scores) == 18
  names = {row["architecture"] for row in facts["architectures"]}
  assert len(names) == 18 and all(len(name.split()) == 3 for name in names)
  assert cli.main(["rank", str(run), str(run), "--json"]) == 0
  [row] = json.loads(capsys.readouterr().out)["architectures"]
  assert row in facts["architectures"]
  assert cli.main(["rank", str(run), "--count", "5", "--top", "2"]) == 0
  assert "5 architectures of chain" in capsys.readouterr().out


def test_a_seed_draws_nothing_where_architectures_are_named():
  paths = in_space(spaces.get("nasbench-macro"))
  with pytest.raises(errors.InputError, match="are named, so that nothing"):
    rank._paths(types.SimpleNamespace(
        architectures=["11111120"], count=None, seed=5), types.SimpleNamespace(
            paths=paths, supernet=types.SimpleNamespace(space=paths.space)))


def test_what_is_named_twice_is_ranked_once(capsys):
  paths = in_space(spaces.get("nasbench-macro"))
  ranked = lambda *names: rank._paths(
      types.SimpleNamespace(architectures=names, count=None, seed=None),
      types.SimpleNamespace(paths=paths, supernet=types.SimpleNamespace(
          space=paths.space)))
  one, two = "11111120", "11111111"
  alone = ranked(one, two)
  assert capsys.readouterr().err == ""
  jax.tree.map(np.testing.assert_array_equal, alone, ranked(one, two, one))
  assert "architecture 3 is the same as 1, and is ranked once" in " ".join(
      capsys.readouterr().err.split())
  assert len(ranked(one, one, one).source) == 1


@pytest.mark.parametrize("scores, known, expected", [
    ([3.0, 1.0, 2.0], [30.0, 10.0, 20.0], 1.0), ([1.0, 2.0], [2.0, 1.0], -1.0),
    ([5.0], [7.0], None), ([5.0, 5.0], [1.0, 2.0], None)])
def test_tau_is_a_number_or_none(scores, known, expected):
  """JSON has no NaN."""
  assert rank._tau(np.array(scores), np.array(known)) == expected


@pytest.mark.long
def test_rank_as_json_says_how_far_it_is(run, capsys, monkeypatch):
  monkeypatch.setattr(rank, "_SECONDS", 0.0)
  monkeypatch.setattr(supernets.SearchedSupernet, "accuracies", (
      lambda self, paths, images, listener: (
          listener(9), np.zeros(len(paths.source)))[1]))
  assert cli.main(["rank", str(run), "--json"]) == 0
  shown = capsys.readouterr()
  assert json.loads(shown.out)["judged"] == 18
  assert "9 of 18 judged, about 0.1 minutes left" in shown.err


def in_space(space):
  """Paths of a space of chains."""
  place = blocks.Frame(num_classes=10, image_size=32)
  return paths_lib.Paths(connections_lib.Connections(space, place), place)


@pytest.mark.parametrize("number, named", [
    (0, "11111111"), (5, "11111120"), (6560, "00000000")])
def test_chains_of_nasbench_macro_are_ranked_by_their_digits(
    number, named, tmp_path):
  paths = in_space(spaces.get("nasbench-macro"))
  network = paths.decode(jax.tree.map(
      operator.itemgetter(0), paths.numbered(np.array([number]))))
  assert rank._name(paths, network) == named
  # Named by its digits and by what a search hands on.
  (tmp_path / "found.json").write_text(codec.to_json(
      paths.space.written(network)), "utf-8")
  for given in (named, str(tmp_path / "found.json")):
    path = rank._encoded(
        paths, "nasbench-macro", rank._read(paths.space, given))
    assert codec.to_json(paths.decode(path)) == codec.to_json(network)
  with pytest.raises(errors.InputError, match="write 8 digits"):
    rank._read(paths.space, "0121")
  fewer = in_space(chains.fit(paths.space, 32, layers=2))
  assert rank._name(fewer, fewer.decode(jax.tree.map(
      operator.itemgetter(0), fewer.numbered(np.array([0]))))).count(" ") == 5


@pytest.mark.parametrize("name", ["nasbench-macro", "proxyless", "shufflenet"])
def test_a_run_says_where_layers_of_nothing_stand(name, tmp_path):
  space = spaces.get(name)
  names = [choices[0][-1] for block, choices in zip(
      space.graph.blocks, space.choices, strict=True)
           if not block.nodes[0].fixed]
  config = {"kind": "search", "space": {"name": name}, "seeds": [4],
            "dataset": "d", "image_size": 32, "classes": 10, "crc32": 1}
  (tmp_path / "seed-4").mkdir()
  (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
  (tmp_path / "seed-4" / "result.json").write_text(
      json.dumps({"operations": names}), "utf-8")
  found = supernets.found_in(space, tmp_path)
  assert codec.to_json(found) == codec.to_json(supernets.filled(space, names))
  paths = in_space(space)
  path = rank._encoded(paths, name, rank._read(space, str(tmp_path)))
  assert codec.to_json(paths.decode(path)) == codec.to_json(found)
  assert supernets.found_in(spaces.get("proxyless-se"), tmp_path) is None
  (tmp_path / "seed-4" / "result.json").write_text(
      json.dumps({"operations": names[1:]}), "utf-8")
  assert supernets.found_in(space, tmp_path) is None


@pytest.mark.long
@pytest.mark.parametrize("flags, message", [
    (["darts"], "architecture 1: it is no architecture of search space"),
    (["resnet20", "--count", "2"], "1 architectures are named; leave one"),
    (["--count", "19"], "holds 18 architectures"),
    (["--images", "0"], "at least 1 (--images)"),
    (["--top", "0"], "top is 0"),
    (["--seed", "5"], "seed is 5, and all are ranked, so that nothing is"),
    (["--count", "18", "--seed", "5"], "so that nothing is drawn; leave it"),
    (["--count", "5", "--seed", "-1"], "seed is -1 and must lie in"),
    (["--table", "none.csv"], "the search was in chain; leave --table out")])
def test_what_cannot_be_ranked_is_refused(run, flags, message, capsys):
  assert cli.main(["rank", str(run), *flags]) == 2
  err = capsys.readouterr().err
  assert message in err and err.count("\n") == 1


def test_tables_say_what_is_true():
  cell = zoo.nasbench201.from_string(
      "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|")
  code = int(cells201.encode(cells201.to_array(
      zoo.nasbench201.names_of(cell))))
  columns = {"cifar10": {"test_200ep": np.arange(cells201.COUNT) / 200}}
  with mock.patch.object(nasbench201, "read", lambda _: nasbench201.Table(
      np.arange(1), columns)):
    assert rank._truth("t", "nasbench201", "cifar10")(cell) == code / 200
    with pytest.raises(errors.InputError, match="imagenet16-120, and the"
                       " search was on digits; leave --table out"):
      rank._truth("t", "nasbench201", "digits")
  with mock.patch.object(nasbench_macro, "read", lambda _: nasbench_macro.Table(
      {"mean_acc": np.arange(6561.)})):
    chain = zoo.nasbench_macro.network(np.array([0, 1, 2, 0, 0, 1, 2, 0]))
    assert rank._truth("t", "nasbench-macro", "cifar10")(chain) == int(
        "01200120", 3)
    with pytest.raises(errors.InputError, match="was on digits"):
      rank._truth("t", "nasbench-macro", "digits")


@pytest.mark.long
@pytest.mark.parametrize("flags, message", [
    (["--layer", "7"], "the layers that were decided on are block0, block1"),
    (["--network", "derived-0"], "does not apply to candidates")])
def test_what_cannot_be_explained_is_refused(run, flags, message, capsys):
  assert cli.main(["explain", str(run), "--candidates", "--image", "1",
                   *flags]) == 2
  err = capsys.readouterr().err
  assert message in err and err.count("\n") == 1


@pytest.mark.long
def test_runs_without_such_a_supernet_are_refused(run, tmp_path):
  loaded, _ = run_data.load(run)
  lost = tmp_path / "lost"
  shutil.copytree(run, lost)
  shutil.rmtree(lost / "checkpoint")
  with pytest.raises(errors.InputError, match="no longer holds its supernet"):
    supernets.load(lost, loaded)
  change = lambda **parts: mock.patch.object(
      runs, "read_config", lambda *a, **k: {**config, **parts})
  config = runs.read_config(run)
  with change(kind="transform"), pytest.raises(
      errors.InputError, match="holds no finished search in a space"):
    supernets.load(run, loaded)
  with change(space={"name": "gone"}), pytest.raises(
      errors.InputError, match="search space is unknown"):
    supernets.load(run, loaded)
