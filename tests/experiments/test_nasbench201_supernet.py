"""The judge that knows the truth, against a table that is made up."""

import functools
import importlib
import json
import types

import jax
import numpy as np
import pytest

from natjax import data, errors, zoo
from natjax.benchmarks import nasbench201
from natjax.costs import exact
from natjax.graph import codec, records
from natjax.graph import nasbench201 as cells
from natjax.training import engine
from tests.experiments import scripts


@pytest.fixture(scope="module")
def script():
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(scripts.EXPERIMENTS))
    yield importlib.import_module("nasbench201_supernet")


@pytest.fixture(scope="module")
def known(script):
  return script.known_truth


@pytest.fixture(scope="module")
def table():
  """Accuracies by code, so that a cell is known by what it reaches."""
  params, madds = zoo.nasbench201.costs("cifar10")
  code = np.arange(cells.COUNT, dtype=np.float64)
  one = {**dict.fromkeys(cells.COLUMNS[:4], code / 200), "params": params,
         "flops_M": madds / 1e6}
  return nasbench201.Table(
      np.arange(cells.COUNT, dtype=np.int32), {"cifar10": one})


@pytest.fixture(scope="module")
def images():
  rng = np.random.default_rng(0)
  make = lambda count: (rng.integers(0, 256, (count, 8, 8, 3), np.uint8),
                        np.arange(count) % 10)
  return data.make_dataset("noise", make(96), make(10), image_size=8)


@pytest.fixture(scope="module")
def made(script, known, table, images):
  return known.Searches(
      known.Truth(table), images, script.PRESETS["smoke"].search, repeats=1,
      seed=0)


@pytest.fixture
def searches(made, known, monkeypatch):
  """Searches over networks of two stages, which share their programs."""
  whole = known.network

  def shorter(names, repeats):
    found = whole(names, repeats)
    return found._replace(blocks=found.blocks[:3])

  monkeypatch.setattr(known, "network", shorter)
  return made


def flags(folder, table, *more):
  path = folder / "table.csv"
  path.write_text(nasbench201.to_csv(table))
  return [*map(str, scripts.flags(folder, "--table", path)), *more]


def test_the_truth_is_exact(known, table):
  truth = known.Truth(table)
  code = int(cells.encode(cells.to_array(
      ("conv_3x3", "null", "conv_1x1", "avg_pool_3x3", "skip_connect",
       "null"))))
  # By hand: what has the largest code among what NAT++ may make of each edge.
  best = ("avg_pool_3x3", "skip_connect", "conv_1x1", "avg_pool_3x3",
          "skip_connect", "skip_connect")
  assert known.names_of(int(truth.best["natpp"][code])) == best
  assert truth.best["nat"][code] < truth.best["natpp"][code]
  assert truth.gain(code, code + 200) == pytest.approx(1.0)
  assert truth.dearer(code, cells.COUNT - 1) is bool(
      truth.params[cells.COUNT - 1] > truth.params[code])
  assert truth.dearer(0, code) and not truth.dearer(code, 0)


def test_cells_are_spread_over_quality(known):
  accuracy = np.random.default_rng(0).permutation(cells.COUNT) / 200
  first = known.spread_over_quality(accuracy, 40, 1)
  ranks = np.argsort(np.argsort(accuracy))[first]
  assert (np.diff(ranks) > 0).all() and ranks[0] < 391 and ranks[-1] > 15233
  other = known.spread_over_quality(accuracy, 40, 2, first)
  assert not {*first} & {*other}
  assert first == known.spread_over_quality(accuracy, 40, 1)


def test_a_beginning_of_the_cells_is_spread_too(script):
  order = script.spread_first(40)
  assert sorted(order) == [*range(40)]
  for count in (4, 10, 20):
    assert np.diff(sorted(order[:count])).max() <= 2 * 40 / count


def test_codes_and_networks_are_one(known, searches):
  method = searches.make("natpp")
  codes = np.array([0, 1, 777, 15624])
  arrays = method.arrays(codes)
  assert np.asarray(method.codes(arrays)).tolist() == codes.tolist()
  for code, i in zip(codes.tolist(), range(4), strict=True):
    one = jax.tree.map(lambda x, i=i: x[i], arrays)
    network = known.network(known.names_of(code), 1)
    assert known.code_of(network) == code
    assert known.code_of(method.ground.decode(one, network)) == code
    assert known.code_of(codec.from_dict(codec.to_dict(network))) == code
    assert (method.ground.encode(network).operation == one.operation).all()


@pytest.mark.long
@pytest.mark.parametrize("focus", ["given", "general", "alone"])
def test_inputs_are_drawn_where_the_state_says(known, searches, focus):
  method = searches.make("natpp")
  names = ("conv_1x1", "null", "avg_pool_3x3", "conv_3x3", "skip_connect",
           "conv_1x1")
  code = int(cells.encode(cells.to_array(names)))
  state = method.begun(jax.random.key(0), code, focus)
  draw = jax.jit(lambda key: method.codes(method.inputs_at(state, key)))
  drawn = np.concatenate([
      draw(key) for key in jax.random.split(jax.random.key(1), 400)])
  found = [{*np.unique(ops)} for ops in cells.decode(drawn).T]
  reach = searches.truth.reach["natpp"]
  if focus == "alone":
    assert {*drawn.tolist()} == {code}
  elif focus == "general":
    assert [len(ops) for ops in found] == [4, 5, 5, 5, 5, 5]
  else:
    assert code in drawn
    for e, before in enumerate(cells.to_array(names)):
      wanted = {*np.flatnonzero(reach[before]).tolist()}
      # Node 1 has one edge, and what is drawn feeds every node.
      assert found[e] == wanted - ({0} if e == 0 else set())


@pytest.mark.long
def test_one_program_serves_all_cells_and_what_is_found_is_valid(
    script, searches):
  seen = []
  for code in (15624, 9000):
    before = engine.make_chunk.cache_info().misses
    weights = searches.weights(searches.start(code, 0), 0)
    seen.append(engine.make_chunk.cache_info().misses - before)
    state = searches.search("natpp", code, weights, 0)
    for a, b in zip(*map(jax.tree.leaves, (state.params, weights.params)),
                    strict=True):
      np.testing.assert_array_equal(a, b)  # The policy was trained alone.
    assert not all(np.array_equal(a, b) for a, b in zip(*map(
        jax.tree.leaves, (state.policy, searches.make("natpp").begun(
            jax.random.key(0), code, "given").policy)), strict=True))
    found = searches.choose("natpp", code, state, 0)
    assert found["candidates"][0] == code
    for name in ("sure", "cheapest"):
      assert found[name] in found["candidates"]
    score = dict(zip(found["candidates"], found["scores"], strict=True))
    assert found["sure"] == code or score[found["sure"]] > score[code]
    assert found["code"] == found["candidates"][int(np.argmax(
        found["scores"]))]
    own = searches.score(weights.params, found["candidates"])
    np.testing.assert_allclose(own, found["scores"], atol=1e-6)
    reach = searches.truth.reach["natpp"]
    for other in found["candidates"]:
      assert not searches.truth.dearer(code, other)
    evolved = searches.evolve(code, weights.params, 0)
    for other in evolved["candidates"]:
      assert all(reach[a, b] for a, b in zip(
          cells.decode(np.int32(code)), cells.decode(np.int32(other)),
          strict=True))
    assert len({*evolved["candidates"]}) == len(evolved["candidates"]) <= (
        searches.forwards() // len(searches.splits["policy"].labels))
  assert seen == [1, 0]
  # What is trained further begins with the same weights.
  further = searches.start(0, 0, "given", weights)
  for a, b in zip(*map(jax.tree.leaves, (further.params, weights.params)),
                  strict=True):
    np.testing.assert_array_equal(a, b)
  assert further.given.operation.tolist() != weights.given.operation.tolist()


@pytest.fixture
def ways(script):
  return script.score_trials


@pytest.mark.long
def test_scores_of_two_supernets_and_of_a_cells_own(known, ways, searches):
  codes = [15624, 9000, 77]
  one, two = (searches.start(0, seed).params for seed in (0, 1))
  alone = [searches.score(params, codes) for params in (one, two)]
  score = functools.partial(ways.score, searches)
  found = score([one], codes)
  np.testing.assert_allclose(found.means, alone[0], atol=1e-7)
  np.testing.assert_allclose(found.answers.scores, alone[0], atol=1e-7)
  np.testing.assert_allclose(
      score([one, two], codes).means, np.mean(alone, axis=0), atol=1e-7)
  np.testing.assert_allclose(
      score([one, two, one], codes, each=True).means,
      [alone[0][0], alone[1][1], alone[0][2]], atol=1e-7)
  loss = score([one], codes, what="loss", splits=("weights", "policy"))
  assert (loss.means < 0).all() and len({*loss.means.tolist()}) == 3


def test_what_is_surely_better_of_any_scores(ways):
  each = np.random.default_rng(0).normal(
      (0, -0.3, -0.1, 0, 0.3, 0.6), size=(400, 6))
  found = ways.Scores({"sum": each.sum(0), "product": each.T @ each}, 400)
  pairs = each - each[:, :1]
  low = pairs.mean(0) - 1.96 * pairs.std(0) / 20
  assert found.surely.tolist() == (low > 0).tolist()
  assert 0 < found.surely.sum() < 5


@pytest.mark.parametrize("prefer,right,trained,after", [
    # What is preferred, and what comes of it when each is trained by itself.
    ("cost", (50, 49, 51, 20), {0: 60, 1: 59, 2: 55, 3: 0}, 0),
    ("cost", (50, 49, 51, 20), {0: 60, 1: 60, 2: 55, 3: 0}, 1),
    ("accuracy", (50, 49, 51, 20), {0: 60, 1: 50, 2: 61, 3: 0}, 2),
    ("sure", (50, 49, 51, 20), {}, 0),
    ("sure", (50, 80, 51, 20), {0: 60, 1: 61}, 1)])
def test_the_first_few_are_tried_by_themselves(
    known, ways, table, monkeypatch, prefer, right, trained, after):
  truth = known.Truth(table)
  # Of one 3x3 convolution fewer each.
  codes = [int(cells.encode(cells.to_array(
      ("conv_3x3",) * (6 - i) + ("skip_connect",) * i))) for i in range(4)]

  def unlike(rights):  # Each is right on images of its own.
    both = np.outer(rights, rights) // 100
    np.fill_diagonal(both, rights)
    return ways.choice.Answers(100, both)

  asked = []

  def score(searches, params, some, *, each):
    assert each and params == [*some]
    asked.extend(codes.index(c) for c in some)
    rights = np.array([trained[codes.index(c)] for c in some])
    scores = ways.Scores.__new__(ways.Scores)
    scores.means, scores.answers = rights / 100, unlike(rights)
    return scores

  monkeypatch.setattr(ways, "score", score)
  order = ways.ordered(truth, {
      "candidates": codes, "answers": unlike(np.array(right))}, prefer)
  found = ways.tried(types.SimpleNamespace(truth=truth), order, codes[0],
                     prefer, lambda c: c)
  assert found == codes[after]
  assert set(asked) <= {*trained} and (bool(asked) == bool(trained))


def test_ways_that_differ_beyond_their_interval(ways):
  rows = [{"best": 2.0, "ways": {
      "first": {"gain": 1.0, "params": 1.0, "tau": 0.5, "sure": 0.0,
                "seconds": 1},
      "more": {"gain": 2.0 + 0.1 * i, "params": 0.5, "seconds": 2},
      "alike": {"gain": 1.0, "params": 1.0, "seconds": 2},
      "unsteady": {"gain": -4.0 + 5 * i, "params": 1.0, "seconds": 2}}}
          for i in range(3)]
  assert ways.beyond(rows) == ["more"]
  assert ways.beyond(rows[:1]) == []
  table = ways.lines(rows)
  assert "| unsteady | - | +1.00 ± 12.42 | 1 of 3 | 1.000 | - | - | 2 |" in (
      table)
  assert len({line.count("|") for line in table}) == 1


@pytest.mark.parametrize("names", [
    ("conv_3x3", "skip_connect", "conv_3x3", "avg_pool_3x3", "conv_1x1",
     "conv_1x1"),
    ("null", "conv_1x1", "skip_connect", "null", "avg_pool_3x3", "conv_3x3")])
def test_what_replace_chooses_is_the_cheapest_of_all_it_could_return(
    script, known, table, names):
  truth, place = known.Truth(table), records.Frame(10, 8)
  code = int(cells.encode(cells.to_array(names)))
  choices = script.replaced_cells.Choices(truth, code, 1, 0.5, place)
  reach = truth.reach["natpp"][cells.to_array(names)]
  for ops in cells.decode(choices.codes):
    assert reach[np.arange(6), ops].all()
  rng = np.random.default_rng(0)
  for choice in choices.space.drawn(8, seed=0):
    found = choices.space.apply(choice)
    (own,), (fed,) = choices.made(choice[None])
    assert own == known.code_of(found)
    assert exact.network(found, place).madds == choices.madds(own)
    # Of fixed blocks nothing changes.
    assert found.blocks[1] == choices.space.architecture.blocks[1]
    assert not fed or own in choices.codes
  for share in (0.75, 0.5):
    under = choices.under(share)
    assert 1 < len(under) < len(choices.codes)
    rivals = choices.rivals(share)
    for name in ("random", "dearest", "cheapest"):
      assert rivals[name] <= rivals["oracle"] <= rivals["oracle_natpp"]
    assert rivals["oracle"] == pytest.approx((under.max() - code) / 200)
    for _ in range(4):
      prices = choices.space.by_place(
          rng.random(len(choices.space.alone())))
      chosen = choices.choose(prices, share)
      assert chosen in under
      assert truth.madds[chosen] <= share * truth.madds[code]
      least = choices.least(prices)
      assert least[chosen] == pytest.approx(least[under].min())


def test_prices_that_know_the_truth_agree_with_it(script, known, table):
  truth, place = known.Truth(table), records.Frame(10, 8)
  code = int(cells.encode(cells.to_array((
      "skip_connect", "null", "null", "conv_1x1", "skip_connect", "null"))))
  choices = script.replaced_cells.Choices(truth, code, 1, 0.5, place)
  prices = [np.array([2.0 - cells.CANDIDATES.index(name)
                      for name in one.names]) for one in choices.space.places]
  assert len(choices.codes) == 3
  assert choices.tau(prices) == pytest.approx(1)
  assert choices.tau([-own for own in prices]) == pytest.approx(-1)
  rows = [{"price": price} for own in prices for price in own[1:]]
  for a, b in zip(choices.prices(rows), prices, strict=True):
    assert a.tolist() == b.tolist()


@pytest.mark.parametrize("names, judged", [
    (("conv_1x1",) * 6, True), (("skip_connect",) * 6, False),
    # Of one small convolution half of the network does not hang.
    ((*["skip_connect"] * 5, "conv_1x1"), False),
    # What leads nowhere goes for nothing.
    (("conv_3x3", "conv_3x3", "null", "conv_3x3", "null", "skip_connect"),
     False),
    (("conv_3x3", "conv_3x3", "null", "conv_3x3", "conv_1x1", "skip_connect"),
     True)])
def test_cells_that_can_be_judged(script, known, table, names, judged):
  code = int(cells.encode(cells.to_array(names)))
  assert script.replaced_cells.can_be_judged(
      known.Truth(table), code, (0.75, 0.5)) is judged


@pytest.fixture
def untrained(script, monkeypatch):
  """All but what trains: what was asked for, and what then fails."""
  asked, broken = [], set()

  def found(name, row):
    asked.append(name)
    if name in broken:
      raise ValueError("broken")
    return row

  def cell(searches, code, seed, states, epochs, keep):
    assert states == {"natpp": "state"} and keep("weights")["should_stop"]
    name = f"{'given' if epochs else 'general'} {seed}"
    one = {"code": code, "gain": 0.5, "dearer": False, "params": 0.5,
           "seconds": 1.0}
    return found(name, {
        "code": code, "accuracy": code / 200, "oracle": {"natpp": 1.0},
        "random": {"natpp": -1.0}, "tau": 0.25,
        **{name: one for name in script.report.TITLES if name not in (
            "keep", "random", "oracle", "differentiable", "climb")},
        "losses": dict.fromkeys(script.report.LOSSES, 0.5)})

  monkeypatch.setattr(script.known_truth, "Searches", lambda *_, **__: None)
  monkeypatch.setattr(script, "general", lambda *_: found("supernet", (
      {"natpp": "state"}, [{"tau": 0.5, "tau_better_half": 0.25}] * 4)))
  monkeypatch.setattr(script, "transform", cell)
  under = dict.fromkeys(script.replaced_cells.RIVALS, -1.0) | {
      "code": 7, "gain": -0.5, "oracle": 0.25, "random": -2.0}
  monkeypatch.setattr(script.replaced_cells, "one", lambda truth, dataset, code,
                      *_, **__: {
      "code": code, "accuracy": code / 200, "rank_correlation": 0.5,
      "tau": 0.25, "accepted": False, "difference": -0.01, "seconds": 1.0,
      "budgets": {"0.75": under, "0.5": under}})
  monkeypatch.setattr(script.climbed_cells, "one", lambda truth, images, code,
                      *_, **__: {"code": code - 200, "path": [code, code - 200],
                                 "evaluated": 7, "seconds": 1.0})
  monkeypatch.setattr(script, "differ", lambda truth, dataset, code, *_: (
      found("differentiable", {"code": code, "gain": 0.25, "dearer": False,
                               "params": 0.5, "seconds": 1.0})))
  return asked, broken


def test_a_report_of_what_is_finished(
    script, untrained, table, tmp_path, capsys):
  (asked, broken), argv = untrained, flags(tmp_path, table)

  def missing():
    asked.clear()
    with pytest.raises(SystemExit) as end:
      script.main(argv)
    assert end.value.code == 1

  broken.add("supernet")
  missing()
  assert asked == ["supernet"] and not (tmp_path / "report").exists()
  assert "nothing is finished" in capsys.readouterr().err
  broken.clear()
  broken.update(("given 1", "general 0", "general 1"))
  missing()
  assert "no cell is finished with either focus" in capsys.readouterr().out
  broken.remove("general 1")
  # What has stood there since there are no parts.
  given = tmp_path / "run" / "given"
  old = json.loads((given / "cell-0.json").read_text()) | {"tau": 0.75}
  (given / "cell-0.json").write_text(json.dumps(old))
  missing()
  assert asked == ["supernet", "general 0", "given 1", "general 1"]
  result = json.loads((tmp_path / "report" / "result.json").read_text())
  assert [row["number"] for row in result["given"]] == [0]
  assert [row["number"] for row in result["general"]] == [1]
  assert result["given"][0]["tau"] == 0.75
  assert result["given"][0]["differentiable"]["gain"] == 0.25
  assert result["missing"] == {"general cell 0": "ValueError: broken",
                               "given cell 1": "ValueError: broken"}
  text = (tmp_path / "report" / "README.md").read_text()
  assert "Missing: general cell 0 (ValueError: broken)" in text
  rows = [line.strip("| ").split(" | ") for line in text.partition(
      "## Every cell")[2].splitlines()[4:6]]
  assert [row[3:] for row in rows] == [
      ["+0.50"] * 4 + ["-1.00", "-", "-", "+1.00", "0.75"],
      ["-"] * 5 + ["+0.50", "+0.50", "+1.00", "-"]]
  broken.clear()
  script.main(argv)
  result = json.loads((tmp_path / "report" / "result.json").read_text())
  assert len(result["given"]) == len(result["general"]) == 2
  asked.clear()
  script.main(argv)
  assert asked == []  # Nor is the supernet read again.


def test_replace_alone_is_added_to_a_record(
    script, untrained, table, tmp_path):
  argv = flags(tmp_path, table)
  folder = tmp_path / "report"
  script.main(argv)
  before = json.loads((folder / "result.json").read_text())
  assert len(before["replaced"]["rows"]) == 1  # As the preset says.
  for key in ("given", "general"):  # As in records that were made before.
    for row in before[key]:
      del row["number"]
  del before["replaced"]
  (folder / "result.json").write_text(json.dumps(before))
  alone = [*argv, "--only", "replace"]
  alone[alone.index("--out") + 1] = str(tmp_path / "alone")
  script.main([*alone, "--cells", "2"])
  result = json.loads((folder / "result.json").read_text())
  found = result.pop("replaced")
  assert result == before
  # Of the other something leads nowhere.
  assert [row["number"] for row in found["rows"]] == [0]
  assert "--only replace" in found["command"] and "--table TABLE" in (
      found["command"])
  text = (folder / "README.md").read_text()
  for part in ("## Focus given", "## Replace", "Under 0.5 of the",
               "| replace | -0.50 | -0.50 | 67 % | - | - | - |",
               "| the best that it could return | +0.25 | +0.25 | 100 % | -0.75"
               " | 0 | 1 |", "0 of 1 were accepted", "--out OUT"):
    assert part in text
  with pytest.raises(errors.InputError, match="a record with seed 0, not 1"):
    script.main([*alone, "--out", str(tmp_path / "other"), "--seed", "1"])
  script.main([*alone, "--report", str(tmp_path / "new")])
  text = (tmp_path / "new" / "README.md").read_text()
  assert "Without a supernet." in text and "## Focus" not in text


def test_climbs_alone_are_added_to_a_record(script, untrained, table, tmp_path):
  argv = flags(tmp_path, table)
  folder = tmp_path / "report"
  script.main(argv)
  before = json.loads((folder / "result.json").read_text())
  assert len(before.pop("climbed")["rows"]) == 1  # As the preset says.
  (folder / "result.json").write_text(json.dumps(before))
  alone = [*argv, "--only", "climb"]
  alone[alone.index("--out") + 1] = str(tmp_path / "alone")
  script.main([*alone, "--cells", "2"])
  result = json.loads((folder / "result.json").read_text())
  found = result.pop("climbed")
  assert result == before
  assert [row["number"] for row in found["rows"]] == [0, 1]
  assert [row["gain"] for row in found["rows"]] == [-1.0, -1.0]
  text = (folder / "README.md").read_text()
  for part in ("| climb: share of the oracle's gain | at least 50 % | -100 % |"
               " missed |", "| climb: cells on which it loses | at most one in"
               " ten | 2 of 2 | missed |", "it scored 7 untrained networks a"
               " cell (7 to 7), of 8x8 pixels", "--only climb",
               "it loses 1.00 points"):
    assert part in text
  script.main([*alone, "--report", str(tmp_path / "new")])
  text = (tmp_path / "new" / "README.md").read_text()
  assert "Without a supernet." in text and "## Focus" not in text
  assert "| climb | 1 |" in text  # As many as the preset says.


@pytest.mark.long
def test_a_cell_is_climbed_from(script, known, table, images):
  truth = known.Truth(table)
  code = int(cells.encode(cells.to_array(
      ("conv_1x1", "null", "avg_pool_3x3", "conv_1x1", "null", "conv_1x1"))))
  found = script.climbed_cells.one(
      truth, images, code, 0, repeats=1,
      config=script.PRESETS["smoke"].climb)
  assert found["path"][0] == code and found["code"] in found["path"]
  assert 1 < found["evaluated"] <= 6
  may = truth.reach["natpp"]
  for after in found["path"]:
    assert all(may[a, b] for a, b in zip(
        cells.decode(np.int32(code)), cells.decode(np.int32(after)),
        strict=True))
    assert not truth.dearer(code, after)


def test_the_record_is_what_the_report_makes_of_it(script):
  folder = scripts.EXPERIMENTS / "results" / "nasbench201_supernet"
  result = json.loads((folder / "result.json").read_text())
  assert script.report.readme(script.PRESETS["small"], result) == (
      folder / "README.md").read_text()


def test_a_cell_with_a_focus_is_a_job(
    script, untrained, table, tmp_path, monkeypatch):
  (asked, _), argv = untrained, flags(tmp_path, table)
  for part, wanted in (("supernet", ["supernet"]),
                       ("general cell 1", ["supernet", "general 1"])):
    monkeypatch.setattr(script.sweeps.sweep_jobs, "PART", part)
    asked.clear()
    with pytest.raises(SystemExit) as end:
      script.main(argv)
    assert not end.value.code and asked == wanted
  assert (tmp_path / "run" / "general" / "cell-1.json").exists()


@pytest.mark.slow
def test_smoke_judges_all_methods_and_runs_nothing_again(
    script, table, tmp_path, capsys):
  argv = flags(tmp_path, table)
  script.main([*argv, "--cells", "1"])
  first = json.loads((tmp_path / "report" / "result.json").read_text())
  assert len(first["given"]) == 1
  argv = [*argv, "--tried", "1"]
  script.main(argv)
  result = json.loads((tmp_path / "report" / "result.json").read_text())
  assert result["given"][0] == first["given"][0]
  tried, = result["tried"]
  assert tried["code"] not in [row["code"] for row in result["given"]]
  for name, way in tried["ways"].items():
    assert way["gain"] <= tried["best"] + 1e-9 and way["params"] <= 1, name
    assert way.get("sure", 0) in (0, way["gain"])
  assert len(result["given"]) == len(result["general"]) == 2
  for row in (*result["given"], *result["general"]):
    for name in (*script.report.TITLES, *script.report.LOSSES):
      if "code" in (row.get(name) or {}):
        own = row[name]
        assert own["gain"] == pytest.approx((own["code"] - row["code"]) / 200)
        assert own["gain"] <= row["oracle"]["natpp"] + 1e-9
        assert not own["dearer"]
  for row in result["given"]:
    assert row["losses"]["natpp"] == row["natpp"]["gain"]
    assert row["losses"]["choice"] >= row["losses"]["natpp"]
    assert row["losses"]["both"] >= row["losses"]["policy"]
  assert "differentiable" in result["given"][0]
  cheaper, = result["replaced"]["rows"]
  for share, own in cheaper["budgets"].items():
    assert own["madds"] <= float(share) and not own["dearer"]
    assert own["gain"] == pytest.approx((own["code"] - cheaper["code"]) / 200)
    assert own["gain"] <= own["oracle"] <= own["oracle_natpp"]
  assert len(result["taus"]) == 4
  text = (tmp_path / "report" / "README.md").read_text()
  for part in ("## Tried", "prefer sure, the first 3", "at least 50 %",
               "| NAT++ |", "| oracle | 2 |", "missed", "--table TABLE",
               "Kendall"):
    assert part in text
  capsys.readouterr()
  script.main(argv)
  assert "tau" in capsys.readouterr().out
  again = json.loads((tmp_path / "report" / "result.json").read_text())
  assert again["given"] == result["given"]
  assert again["general"] == result["general"]


def test_a_summary_is_of_the_cells_that_were_transformed(script):
  row = lambda gain, most: {
      "oracle": {"natpp": most}, "random": {"natpp": -1.0},
      "natpp": {"code": 1, "gain": gain, "dearer": False, "params": 0.5,
                "seconds": 2.0}}
  rows = [row(1.0, 2.0), row(-0.5, 0.5), row(0.0, 1.5)]
  found = script.report.summary(rows, "natpp")
  assert found["share"] == pytest.approx(0.5 / 4)
  assert (found["lost"], found["kept"], found["dearer"]) == (1, 1, 0)
  assert script.report.summary(rows, "keep")["lost"] == 0
  assert script.report.summary(rows, "oracle")["share"] == 1.0
  rows[0]["differentiable"] = row(2.0, 2.0)["natpp"]
  assert script.report.summary(rows, "differentiable")["share"] == 1.0


@pytest.mark.parametrize("preset", ["small", "paper"])
def test_presets_leave_out_what_settings_were_chosen_by(script, preset):
  config = script.PRESETS[preset]
  trials = importlib.import_module("search_trials").PRESETS["small"]
  assert config.given == 40 and config.ranked == 200
  assert config.without_seed == trials.drawn_seed
  assert trials.drawn == config.given and trials.seeds >= 3


def test_refuses(script, table, tmp_path):
  with pytest.raises(errors.InputError, match="cells is 3"):
    script.main(flags(tmp_path, table, "--cells", "3"))
  with pytest.raises(errors.InputError, match="tried is 3"):
    script.main(flags(tmp_path, table, "--tried", "3"))
