"""Architectures in the forms of other libraries."""

import ast
import functools
import json
import os
import pathlib

import pytest

from natjax import cli, errors, operations, zoo
from natjax.costs import exact as cost
from natjax.graph import blocks, codec, genotype, nasbench201, records
from natjax.zoo import exports, proxyless
from natjax.zoo import nasbench201 as network201
from tests import architectures

STRING = ("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|none~1|"
          "avg_pool_3x3~2|")
SPACED = STRING.replace("+", " + ")
NAMES = ("conv_3x3", "null", "skip_connect", "conv_1x1", "null", "avg_pool_3x3")
CELL = network201.network(NAMES)
EDGES = {"normal": [("sep_conv_3x3", 0, 2), ("skip_connect", 1, 2)],
         "reduce": [("max_pool_3x3", 0, 2), ("skip_connect", 1, 2)]}
# Of the surrogate benchmark: inputs and operations of edges by hand.
_SOURCES = {2: (0, 1), 3: (0, 2), 4: (1, 3), 5: (2, 4)}
_NUMBERS = {2: (0, 1), 3: (2, 4), 4: (6, 8), 5: (11, 13)}
_OPERATIONS = ("sep_conv_3x3", "dil_conv_5x5")


def genotype_of(*cells):
  """A genotype of one or two lists of edges, all nodes concatenated."""
  found = [architectures.cell(*edges, concat=tuple(sorted({
      edge[2] for edge in edges}))) for edges in cells]
  return records.Genotype(found[0], found[-1])


def surrogate(colon):
  """A configuration, and the edges that it says."""
  found, edges = {}, []
  for node, sources in _SOURCES.items():
    for cell in records.CELL_TYPES:
      if node > 2:
        found[f"inputs_node_{cell}_{node}"] = "_".join(map(str, sources))
      for number, name in zip(_NUMBERS[node], _OPERATIONS, strict=True):
        found[f"edge_{cell}_{number}"] = name
    edges += [(name, source, node)
              for name, source in zip(_OPERATIONS, sources, strict=True)]
  prefix = f"NetworkSelectorDatasetInfo{colon}darts{colon}"
  return {f"{prefix}{key}": value for key, value in found.items()}, edges


def net_config(name):
  """ProxylessNAS's `net.config` of one of its networks, with one left out."""
  spec = proxyless.NETWORKS[name]
  conv = {"name": "ConvLayer", "act_func": "relu6", "use_bn": True}
  blocks, before = [], spec.stem
  for stage, (width, kinds) in enumerate(
      zip((spec.first, *spec.widths), (((3, 1),), *spec.stages), strict=True)):
    for i, (kernel, expansion) in enumerate(kinds):
      stride = 2 if i == 0 and stage in (1, 2, 3, 5) else 1
      keeps = stride == 1 and before == width
      blocks.append({
          "name": "MobileInvertedResidualBlock", "mobile_inverted_conv": {
              "name": "MBInvertedConvLayer", "in_channels": before,
              "out_channels": width, "kernel_size": kernel, "stride": stride,
              "expand_ratio": expansion},
          "shortcut": {"name": "IdentityLayer"} if keeps else None})
      before = width
  blocks.insert(3, {"mobile_inverted_conv": {"name": "ZeroLayer"},
                    "shortcut": {"name": "IdentityLayer"}})
  return {"name": name, "bn": {"momentum": 0.1, "eps": 1e-3}, "blocks": blocks,
          "first_conv": {**conv, "out_channels": spec.stem, "kernel_size": 3,
                         "stride": 2},
          "feature_mix_layer": {**conv, "out_channels": spec.last,
                                "kernel_size": 1, "stride": 1},
          "classifier": {"name": "LinearLayer", "out_features": 1000}}


OTHER = STRING.replace("nor_conv_3x3", "avg_pool_3x3")


@pytest.mark.parametrize("text", [
    f"'{STRING}'", f'"{STRING}"\n', f"arch: {STRING}", f"# best\n{STRING}\n",
    f"{STRING}  # it's good", f"# {OTHER}\n{STRING}", f"best = '{STRING}'\n",
    f"# {OTHER}\nBEST: str = (\n  '{STRING}')\nraise SystemExit(3)\n",
    f"Structure(4 nodes with {STRING})", f"('{STRING}', 91.2)",
    f"02 PM {OTHER} 88.1\n02 PM it's {STRING} 91.2\n03 PM done\n"])
def test_strings_of_nasbench201_among_others(text):
  assert OTHER != STRING
  assert exports.parse(text) == CELL


@pytest.mark.parametrize("old,new", [
    ("|", " | "), ("+", "  + "), ("~", " ~\t")])
def test_strings_of_nasbench201_with_blanks(old, new):
  assert exports.parse(STRING.replace(old, new)) == CELL


def test_named_strings_of_nasbench201(tmp_path, capsys):
  text = f"A = '{OTHER}'\nBEST = {{'b': '{STRING}'}}\n"
  assert exports.parse(text, name="b") == CELL
  for name in (None, "BEST"):
    with pytest.raises(errors.InputError, match="the cells A, b; name one of"):
      exports.parse(text, name=name)
  with pytest.raises(errors.InputError, match="2 cells without names, in the"):
    exports.parse(f"'{STRING}'\n'{OTHER}'\n")
  with pytest.raises(errors.InputError, match=r"2 cells without .* lines 1, 3"):
    exports.parse(f"{STRING}\n\n{OTHER}\n")
  for other in (STRING[:-9], STRING[1:]):
    with pytest.raises(errors.InputError, match=r"string|JSON"):
      exports.parse(other)
  with pytest.raises(errors.InputError, match="edge 0 -> 1 is unknown"):
    exports.parse(f"arch: {STRING.replace('nor_conv_3x3', 'conv_9x9')}")
  path = tmp_path / "log.txt"
  path.write_text(f"02 PM {OTHER}\n\n03 PM {STRING}\n", "utf-8")
  assert cli.main(["cost", str(path)]) == 0
  assert "holds 2 architectures; the last one is taken, of line 3" in (
      " ".join(capsys.readouterr().err.split()))
  assert cli.main(["cost", f"Structure(4 nodes with {STRING})"]) == 0
  assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", [
    STRING, f" {STRING}\n", f'"{SPACED}"', f"arch: {SPACED} (best)",
    f"ARCH = '{SPACED}'", json.dumps({"arch": SPACED}), json.dumps(
        {"run": {"best": {"arch": STRING}, "lr": 0.1}, "epochs": 3}),
    str(NAMES), "(3, 0, 1, 2, 0, 4)", "[3, 0, 1, 2, 0, 4]",
    "('nor_conv_3x3', 'none', 'identity', 'nor conv 1x1', 'zero',"
    " 'avg_pool_3x3')",
    "((('nor_conv_3x3', 0),), (('none', 0), ('skip_connect', 1)),"
    " (('nor_conv_1x1', 0), ('none', 1), ('avg_pool_3x3', 2)))"])
def test_cells_of_nasbench201(text):
  assert exports.parse(text) == CELL


def test_what_weights_and_biases_keep():
  text = genotype.to_darts(zoo.get("darts"))
  found = {"lr": {"desc": None, "value": 0.1},
           "genotype": {"desc": None, "value": text}}
  assert exports.parse(json.dumps(found)) == zoo.get("darts")
  found["genotype"] = {"value": json.loads(json.dumps(
      codec.to_dict(zoo.get("darts"))))}
  assert exports.parse(json.dumps(found)) == zoo.get("darts")
  found["other"] = {"of": {"value": text}}
  with pytest.raises(errors.InputError, match="genotype, other; name one"):
    exports.parse(json.dumps(found))


def test_where_a_cell_of_nasbench101_stands_is_said(capsys):
  cell = "010001000:input,conv3x3-bn-relu,output"
  assert cli.main(["cost", cell]) == 0
  assert f"{cell} stands in NAS-Bench-1Shot1's network, of 16 channels" in (
      " ".join(capsys.readouterr().err.split()))


SPEC = """# A cell of the benchmark's example.
INPUT = 'input'
inception = api.ModelSpec(
    # Adjacency.
    matrix={}[[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]{},
    ops=[INPUT, CONV1X1, 'maxpool3x3', OUTPUT])
print(nasbench.query(inception))
"""


def test_a_model_spec_of_nasbench101(capsys):
  text = "0110000100010000:input,conv1x1-bn-relu,maxpool3x3,output"
  found = exports.parse(text)
  for spec in (SPEC.format("", ""), SPEC.format("np.array(", ")")):
    assert exports.parse(spec) == exports.parse(spec, name="inception") == found
  call = "ModelSpec([[0, 1], [0, 0]], ['input', 'output'])"
  assert cli.main(["cost", call, "--json"]) == 0
  out, err = capsys.readouterr()
  assert json.loads(out)["params"] == cost.network(
      exports.parse("0100:input,output"), records.Frame(10, 32)).params
  assert "0100:input,output stands in NAS-Bench-1Shot1's" in err
  assert exports.parse(f"a = {call}\nb = {call}\n", name="b")
  for wrong, said in (
      (f"a = {call}\nb = {call}", "holds the cells a, b; name one"),
      ("ModelSpec(matrix=m, ops=[INPUT, OUTPUT])", "must be lists that are"),
      ("ModelSpec([[0, 1], [0, 0]], [INPUT, CONV])", "must be lists that are"),
      ("ModelSpec([[0, 1], [0, 0]])", "must be lists that are"),
      ("ModelSpec([[0, 1], [0, 0]], ['input', 'relu'])", "operations are input")
      ):
    with pytest.raises(errors.InputError, match=said):
      exports.parse(wrong)


def test_how_six_numbers_are_read_is_said(tmp_path, capsys):
  """NASLib writes the same six numbers for another cell."""
  path = tmp_path / "cell.txt"
  path.write_text("(3, 0, 1, 2, 0, 4)\n", "utf-8")
  for given in (str(path), "[3, 0, 1, 2, 0, 4]"):
    assert cli.main(["cost", given]) == 0
    err = " ".join(capsys.readouterr().err.split())
    assert "0 none, 1 skip_connect, 2 nor_conv_1x1" in err and STRING in err
  assert not exports.numbered(STRING) and not exports.numbered(str(NAMES))


@pytest.mark.parametrize("text", [
    "(3, 0, 1, 2, 0)", "(3, 0, 1, 2, 0, 5)", "(3, 0, 1, 2, 0, -1)", "((1, 2))",
    "[print(1), 0, 0, 0, 0, 0]", "((('none', 1),), (('none', 0), ('none', 1)),"
    " (('none', 0), ('none', 1), ('none', 2)))", "(" * 900,
    "[[0], 0, 0, 0, 0, 0]"])
def test_other_tuples_are_refused(text, capsys):
  with pytest.raises(errors.InputError, match=r"here: .* is no cell of NAS-B"):
    exports.parse(text, where="here")
  assert cli.main(["cost", text]) == 2


def test_a_genotype_without_the_names_of_its_fields(tmp_path, capsys):
  """As `json.dumps` and `tuple` leave a named tuple."""
  call = genotype.to_darts(zoo.get("darts"))
  fields = [ast.literal_eval(keyword.value) for keyword in ast.parse(
      call, mode="eval").body.keywords]
  for text in (json.dumps(fields), str(tuple(fields)), str(fields).replace(
      "[2, 3, 4, 5]", "range(2, 6)"), json.dumps(fields, indent=2) + "\n"):
    assert exports.parse(text) == zoo.get("darts")
  file = tmp_path / "genotype.json"
  file.write_text(json.dumps(fields))
  assert cli.main(["cost", str(file)]) == 0
  assert "3349342" in capsys.readouterr().out
  with pytest.raises(errors.InputError, match="sep_conv_9x9"):
    exports.parse(json.dumps(fields).replace("sep_conv_3x3", "sep_conv_9x9"))
  for wrong in (fields[:3], [*fields, 1], [*fields[:3], 5], [0, [1], 0, [1]]):
    with pytest.raises(errors.InputError):
      exports.parse(json.dumps(wrong))


def test_an_unknown_operation_of_a_cell():
  with pytest.raises(errors.InputError, match="'max_pool_3x3' on edge 0 -> 1"):
    exports.parse(str(("max_pool_3x3", *NAMES[1:])))


@pytest.mark.parametrize("wrap", [lambda source: source,
                                  lambda source: [source]])
def test_an_operation_and_an_input_per_slot(wrap):
  data = {"width": 36}
  for cell, edges in EDGES.items():
    for slot, (name, source, _) in enumerate(edges):
      data[f"{cell}/op_2_{slot}"] = name
      data[f"{cell}/input_2_{slot}"] = wrap(source)
  found = exports.parse(json.dumps(data))
  assert found == genotype_of(*EDGES.values())
  for lacks in ("reduce/input_2_1", "reduce/op_2_1", "normal/op_2_1"):
    rest = {key: value for key, value in data.items() if key != lacks}
    with pytest.raises(errors.InputError, match=f"here: .*complete .*{lacks}"):
      exports.parse(json.dumps(rest), where="here")


def test_the_first_form_of_such_an_export():
  data = {"normal_n2_p0": "sepconv3x3", "normal_n2_p1": ["skipconnect"],
          "normal_n2_switch": ["normal_n2_p0", "normal_n2_p1"],
          "reduce_n2_p0": "maxpool", "reduce_n2_p1": "skipconnect",
          "reduce_n2_switch": ["reduce_n2_p0", "reduce_n2_p1"]}
  assert exports.parse(json.dumps(data)) == genotype_of(
      *EDGES.values())


def test_masks_of_such_an_export_name_no_operations():
  data = {f"{cell}_n2_{key}": value for cell in records.CELL_TYPES
          for key, value in (("p0", [True, False]), ("p1", [False, True]),
                             ("switch", [True, True]))}
  with pytest.raises(errors.InputError, match=r"here: masks .*no operations"):
    exports.parse(json.dumps(data), where="here")


@pytest.mark.parametrize("colon", [":", "_COLON_"])
def test_a_configuration_of_the_surrogate_benchmark(colon):
  data, edges = surrogate(colon)
  found = exports.parse(json.dumps(data))
  assert found == genotype_of(edges, edges)
  key = next(key for key in data if key.endswith("inputs_node_reduce_5"))
  for wrong in ("0_5", "2", "2_2", "-1_4", "x"):
    data[key] = wrong
    if wrong == "2":  # One input is one edge.
      assert len(exports.parse(json.dumps(data)).reduce.edges) == 7
    else:
      with pytest.raises(errors.InputError, match="complete"):
        exports.parse(json.dumps(data))


@pytest.mark.parametrize("name", proxyless.NETWORKS)
def test_a_chain_of_inverted_residuals(name):
  found = exports.parse(json.dumps(net_config(name)))
  assert found == proxyless.network(name, "imagenet")


def test_what_is_unlike_a_chain_is_refused():
  config = net_config("proxyless-cpu")
  config["first_conv"]["act_func"] = "swish"
  with pytest.raises(errors.InputError, match="act_func of ConvLayer is 'swis"):
    exports.parse(json.dumps(config))
  config = net_config("proxyless-cpu")
  config["blocks"][1]["shortcut"] = {"name": "IdentityLayer"}
  with pytest.raises(errors.InputError, match="block 1 from 24 to 32 channels"):
    exports.parse(json.dumps(config))
  config["blocks"][1] = {"name": "ResidualBlock", "conv": {}, "shortcut": None}
  with pytest.raises(errors.InputError, match="a block is a 'ResidualBlock'"):
    exports.parse(json.dumps(config))
  config["feature_mix_layer"] = None
  with pytest.raises(errors.InputError, match="feature_mix_layer is None"):
    exports.parse(json.dumps(config))
  config = net_config("proxyless-cpu")
  config["blocks"][1] = {"mobile_inverted_conv": 3, "shortcut": None}
  with pytest.raises(errors.InputError, match="complete"):
    exports.parse(json.dumps(config))


@pytest.mark.parametrize("key, value", [
    ("mid_channels", 71), ("use_se", True), ("act_func", "h_swish"),
    ("groups", 2)])
def test_what_a_block_of_the_chain_says_of_itself_counts(key, value):
  config = net_config("proxyless-cpu")
  conv = config["blocks"][1]["mobile_inverted_conv"]
  usual = {"mid_channels": conv["in_channels"] * conv["expand_ratio"],
           "use_se": False, "act_func": "relu6", "groups": None}
  conv |= usual
  assert exports.parse(json.dumps(config)) == proxyless.network(
      "proxyless-cpu", "imagenet")
  conv[key] = value
  with pytest.raises(errors.InputError, match=f"{key} of MBInv.* is .*{value}"):
    exports.parse(json.dumps(config))


@pytest.mark.parametrize("part, key", [
    ("first_conv", "in_channels"), ("feature_mix_layer", "in_channels"),
    ("classifier", "in_features")])
def test_widths_of_a_chain_that_contradict_each_other(part, key):
  config = net_config("proxyless-cpu")
  config.setdefault(part, {})[key] = 7
  with pytest.raises(errors.InputError, match=f"{key} of .* is 7, and only"):
    exports.parse(json.dumps(config))


@pytest.mark.parametrize("part, changes", [
    (("first_conv",), {"bias": True}),
    (("feature_mix_layer",), {"dropout_rate": 0.1}),
    (("classifier",), {"bias": False}), (("classifier",), {"use_bn": True}),
    (("classifier",), {"act_func": "relu"}),
    (("blocks", 2, "shortcut"), {"name": "ConvLayer"}),
    (("blocks", 2, "shortcut"), {"use_bn": True}),
    (("blocks", 2, "shortcut"), {"act_func": "relu6"})])
def test_nothing_of_a_chain_is_passed_over(part, changes):
  """Its biases, shortcuts and classifier, which would count otherwise."""
  config = net_config("proxyless-cpu")
  functools.reduce(lambda at, key: at[key], part, config).update(changes)
  key, = changes
  with pytest.raises(errors.InputError, match=f"{key} of .*, and only"):
    exports.parse(json.dumps(config))


def test_the_dropout_of_a_chain_is_that_of_its_classifier():
  config = net_config("proxyless-cpu")
  config["classifier"]["dropout_rate"] = 0.2
  head = exports.parse(json.dumps(config)).head
  assert head[2:] == (records.Layer("dropout", rate=0.2), head[-1])
  config["classifier"]["dropout_rate"] = 1
  with pytest.raises(errors.InputError, match=r"rate is 1\.0 and must lie"):
    exports.parse(json.dumps(config))


def test_dictionaries_as_python_prints_them():
  for data in (net_config("proxyless-cpu"), surrogate(":")[0]):
    assert exports.parse(str(data)) == exports.parse(json.dumps(data))
  nodes = [(("sep_conv_3x3", 0, 0.13), ("skip_connect", 1, 0.12))]
  assert exports.parse(str({
      "normal": nodes, "normal_concat": [2], "reduce": nodes,
      "reduce_concat": [2]})) == genotype_of(EDGES["normal"])
  for text in ("{1: 2", "{'a': print()}", "{1, 2}", "{" * 900):
    with pytest.raises(errors.InputError, match="here: not JSON"):
      exports.parse(text, where="here")


def test_an_object_that_holds_one_architecture_as_a_text():
  line = codec.to_line(zoo.get("darts"))
  for data, wanted in (
      ({"epoch": 3, "genotype": line}, zoo.get("darts")),
      ({"arch_str": STRING, "accuracy": 94.3, "by": "me"}, CELL)):
    for text in (json.dumps(data), str(data)):
      assert exports.parse(text) == wanted
  several = {"a": line, "b": STRING, "note": "none", "by": {"format": "png"}}
  for text in (json.dumps(several), str(several)):
    with pytest.raises(errors.InputError, match=r"the .* a, b; name one of"):
      exports.parse(text)
    assert exports.parse(text, name="b") == CELL
  with pytest.raises(errors.InputError, match=r"given .*'note'"):
    exports.parse(json.dumps({"note": "none"}))


def _own(edges):
  return {"normal": edges, "normal_concat": [2], "reduce": edges,
          "reduce_concat": [2]}


def test_an_object_or_a_module_that_holds_cells():
  edges = [edge[:2] for edge in EDGES["normal"]]
  own, wanted = _own(edges), genotype_of(EDGES["normal"])
  exported = {f"{i}_{j}": "conv_3x3" for i, j in nasbench201.EDGES}
  for text in (json.dumps({"genotype": own, "accuracy": 97.4}),
               str({"genotype": own}), f"# Found\nBEST = {own}\n",
               f"BEST = {{'genotype': {own}}}\nraise SystemExit(3)\n",
               f"a = {_own([])}\na = {own}".replace("[2]", "range(2, 3)")):
    assert exports.parse(text) == wanted
  cell = exports.parse(json.dumps({"arch": exported}))
  assert cell.name.count("nor_conv_3x3") == 6
  network = codec.to_dict(CELL)
  assert exports.parse(json.dumps({"architecture": network})) == CELL
  two = f"A = {own}\nB = {_own([])}\n"
  assert exports.parse(two, name="A") == wanted
  with pytest.raises(errors.InputError, match="the genotypes A, B; name one"):
    exports.parse(two)
  with pytest.raises(errors.InputError, match=r"here: 'genotype': .*_con"):
    exports.parse(json.dumps({"genotype": {"normal": [], "reduce": []}}),
                  where="here")
  for text in (f"A = {own}".replace("0)", "print())"),
               "{'a': 1" + " " * 2**20 + ", 'b': (2,)}"):
    with pytest.raises(errors.InputError, match="not"):
      exports.parse(text)


@pytest.mark.parametrize("label", ["", "cell/", "cell__", "model_1__"])
def test_a_cell_that_nni_exports(label):
  data = {f"{label}{i}_{j}": name for (i, j), name in zip(
      nasbench201.EDGES, NAMES, strict=True)}
  assert exports.parse(json.dumps({**data, "width": 16})) == CELL
  listed = {key: [name] for key, name in data.items()}
  assert exports.parse(json.dumps(listed)) == CELL
  first = f"{label}0_1"
  for wrong in ({first: [True, False]}, {"other/0_1": "none"}, {"3_0": "none"}):
    with pytest.raises(errors.InputError, match=r"here: given .* each of 0_1"):
      exports.parse(json.dumps({**data, **wrong}), where="here")
  del data[first]
  with pytest.raises(errors.InputError, match=r"each of 0_1, 0_2"):
    exports.parse(json.dumps(data))
  with pytest.raises(errors.InputError, match="'max_pool_3x3' on edge 0 -> 1"):
    exports.parse(json.dumps({**data, first: "max_pool_3x3"}))


@pytest.mark.parametrize("text", ["1462", " 1462\n", "9" * 9000])
def test_the_index_of_a_cell_alone_is_refused(text):
  with pytest.raises(errors.InputError, match=r"here holds a number alone, .*"
                     r"give TABLE\.csv:NUMBER, or the cell's string"):
    exports.parse(text, where="here")


def test_a_library_call_takes_file_and_name_together(tmp_path):
  text = "".join(f"{name} = {genotype.to_original(zoo.get(name.lower()))}\n"
                 for name in ("DARTS", "ENAS"))
  (tmp_path / "all.py").write_text(text)
  assert exports.read(f"{tmp_path}/all.py:ENAS") == exports.read(
      tmp_path / "all.py", "ENAS") != exports.read(tmp_path / "all.py:DARTS")
  for path, said in ((tmp_path / "all.py:SNAS", "none is called 'SNAS'"),
                     (tmp_path / "other.py:DARTS", "No such file")):
    with pytest.raises(errors.InputError, match=said):
      exports.read(path)
  # A file of that very name is that file.
  (tmp_path / "all.py:ENAS").write_text(text.splitlines()[0])
  assert exports.read(tmp_path / "all.py:ENAS") == exports.read(
      tmp_path / "all.py", "DARTS")


def test_a_chain_of_nasbench_macro_is_its_eight_digits(
    tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  found = exports.parse(" 22212220\n")
  assert found.name == "22212220" and cost.network(
      found, records.Frame(10, 32)).params == 1985514  # As the table has it.
  (tmp_path / "chain.txt").write_text("00000001")
  for name, params in (("22212220", "1985514"), ("chain.txt", "")):
    assert cli.main(["cost", name]) == 0
    assert f"{params} parameters" in capsys.readouterr().out
  # A file of that name is the file.
  (tmp_path / "22212220").write_text("00000000")
  assert cli.main(["cost", "./22212220"]) == 0
  assert capsys.readouterr().out.startswith("./22212220: 387882 parameters")
  assert cli.main(["cost", "22212223"]) == 2
  assert cli.main(["cost", "22212220", "--skeleton", "imagenet"]) == 2
  assert "brings its own" in capsys.readouterr().err


def test_a_network_is_not_the_cell_that_it_is_named_after(tmp_path, capsys):
  for width in (0.5, 1.0):
    network = blocks.scale(CELL, width)
    assert network.name == STRING
    assert exports.parse(codec.to_json(network)) == network
    (tmp_path / "cell.json").write_text(codec.to_json(network), "utf-8")
    assert cli.main(["cost", "--json", str(tmp_path / "cell.json")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["params"] == cost.network(network, blocks.Frame()).params
  data = codec.to_dict(CELL)
  data["blocks"][0]["edges"][0][0] = "conv_1x1"
  assert exports.parse(json.dumps(data)).blocks[0].edges[0].operation == (
      "conv_1x1")
  with pytest.raises(errors.InputError, match="kind None"):
    exports.parse(json.dumps({"format": 1, "name": STRING}))
  data["blocks"][0]["nodes"] = None
  with pytest.raises(errors.InputError, match="block 0: given NoneType"):
    exports.parse(json.dumps(data))


def test_a_cell_of_more_nodes_is_not_cut_off():
  text = f"{STRING}+|none~0|none~1|none~2|none~3|"
  for given in (text, f"arch: {text}", f"ARCH = '{text}'"):
    with pytest.raises(errors.InputError, match="not"):
      exports.parse(given)


@pytest.mark.parametrize("name", zoo.genotype_names())
def test_every_genotype_is_written_for_the_original_code(name):
  given = zoo.get(name)
  text = exports.write(given, "genotype")
  assert "null" not in text
  found = genotype.from_darts(text)
  for cell, written in zip(given, found, strict=True):
    assert cell.concat == written.concat
    for node in range(2, 2 + cell.num_nodes):
      assert len(written.incoming(node)) == 2
      real = lambda edges: [e for e in edges if e.operation != operations.NULL]
      assert real(written.incoming(node)) == real(cell.incoming(node))


def test_what_a_form_cannot_say():
  three = genotype_of(
      [("conv_3x3", 0, 2), ("conv_3x3", 1, 2), ("conv_1x1", 1, 2)])
  with pytest.raises(errors.InputError, match="node 2 of the normal cell"):
    exports.write(three, "genotype")
  with pytest.raises(errors.InputError, match="no pair of cells"):
    exports.write(zoo.get("resnet20"), "genotype")
  for other in (zoo.get("resnet20"), three):
    with pytest.raises(errors.InputError, match="NAS-Bench-201"):
      exports.write(other, "nasbench201")
    assert exports.shortest(other) is None
    assert codec.from_dict(json.loads(exports.write(other, "json"))) == other
  assert exports.shortest(CELL) == STRING == exports.write(CELL, "nasbench201")


def test_convert(tmp_path, capsys):
  path = tmp_path / "n.txt"
  path.write_text("(3, 0, 1, 2, 0, 4)", "utf-8")
  assert cli.main(["convert", str(path), "--to", "nasbench201"]) == 0
  assert capsys.readouterr().out == f"{STRING}\n"
  out = tmp_path / "darts.json"
  assert cli.main(["convert", "darts", "--to", "json", "--out", str(out)]) == 0
  assert codec.read(out) == zoo.get("darts")
  for nowhere in (tmp_path, tmp_path / "no" / "x"):
    assert cli.main(["convert", "darts", "--to", "json", "--out",
                     str(nowhere)]) == 2
    assert "name a file" in capsys.readouterr().err
  assert cli.main(["convert", str(path), "--to", "genotype"]) == 2
  assert "(--to)" in capsys.readouterr().err
  assert cli.main(["convert", "darts", "--to", "genotype"]) == 0
  text = capsys.readouterr().out
  assert text.count("\n") == 1 and exports.parse(text) == zoo.get("darts")


def test_a_cell_by_the_benchmarks_own_index(tmp_path, capsys):
  for file in ("table.csv", "TABLE.CSV"):
    (tmp_path / file).write_text("index,arch\n0,x\n", "utf-8")
    assert cli.main(["cost", f"{tmp_path / file}:0"]) == 2
    assert f"{file}: without the columns" in capsys.readouterr().err
  table = (pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"
           / "nasbench201.csv.gz")
  if not table.is_file():
    pytest.skip(f"{table} is not here; see shared/data/README.md")
  assert cli.main(["cost", f"{table}:1"]) == 0
  assert "802426 parameters" in capsys.readouterr().out
  assert cli.main(["cost", f"{table}:15625"]) == 2


def test_a_pipe_and_a_file_without_end_are_refused_at_once(tmp_path):
  os.mkfifo(tmp_path / "pipe.txt")
  with pytest.raises(errors.InputError, match="is a pipe or a device"):
    exports.read(tmp_path / "pipe.txt")
  with (tmp_path / "huge.txt").open("wb") as f:
    f.truncate(2**33)
  with pytest.raises(errors.InputError, match="has more than 64 MB"):
    exports.read(tmp_path / "huge.txt")


def _notebook(*sources, kind="code"):
  return json.dumps({"cells": [
      {"cell_type": "markdown", "source": [f"# {OTHER}\n", "Genotype()"]}, *(
          {"cell_type": kind, "source": source, "outputs": [{"text": OTHER}]}
          for source in sources)], "metadata": {}, "nbformat": 4}, indent=1)


def test_the_code_of_a_notebook_is_read(tmp_path, capsys):
  wanted = zoo.get("darts")
  magic = ["%matplotlib inline\n", "if True:\n", "  !pip install torch"]
  text = f"DARTS = {genotype.to_original(wanted)}"
  for sources in ([magic, text], [[text]], [magic, [f"{text}\n", "other = 1"]]):
    assert exports.parse(_notebook(*sources)) == wanted
    assert exports.parse(_notebook(*sources), name="DARTS") == wanted
  assert exports.parse(_notebook(f"cell = '{STRING}'")) == CELL
  path = tmp_path / "two.ipynb"
  path.write_text(_notebook(text, f"OTHER = {text[8:]}"), "utf-8")
  assert exports.read(path, "OTHER") == wanted
  assert cli.main(["cost", str(path)]) == 2
  assert "two.ipynb holds the genotypes DARTS, OTHER" in capsys.readouterr().err
  path.write_text(_notebook(text, text), "utf-8")
  assert cli.main(["cost", str(path)]) == 0
  assert "the last one is taken, of line 2 of its code" in " ".join(
      capsys.readouterr().err.split())


def _printed(*outputs, source="search()"):
  return json.dumps({"cells": [
      {"cell_type": "code", "source": source, "outputs": [output]}
      for output in outputs], "metadata": {}, "nbformat": 4})


def test_what_a_notebook_printed_is_read(tmp_path, capsys):
  wanted = zoo.get("darts")
  line = genotype.to_original(wanted)
  stream = {"output_type": "stream", "text": ["epoch 1\n", f"arch = {line}\n"]}
  given = {"output_type": "execute_result", "data": {"text/plain": [line]}}
  made = "def derive(n, r):\n  return Genotype(n, [2], reduce=r)\n"
  for outputs in ([stream], [given], [{}, {"text": 3}, {"data": []}, given]):
    for source in ("search()", made, [f"%time\n{made}"]):
      assert exports.parse(_printed(*outputs, source=source)) == wanted
  assert exports.parse(_printed({"text": f"'{STRING}'"})) == CELL
  own = f"BEST = {_own(EDGES['normal'])}"
  assert exports.parse(_printed(given, source=own)) == genotype_of(
      EDGES["normal"])
  path = tmp_path / "two.ipynb"
  path.write_text(_printed(given, given), "utf-8")
  assert cli.main(["cost", str(path)]) == 0
  assert "2 architectures; the last one is taken, of line 4 of its outputs" in (
      " ".join(capsys.readouterr().err.split()))
  with pytest.raises(errors.InputError, match="not of the form Genotype"):
    exports.parse(_printed({"text": "nothing"}, source=made))


@pytest.mark.parametrize("notebook", [
    _notebook(), _printed({"text": "nothing"}), _printed({"data": STRING}),
    _notebook(STRING, kind="raw"),
    json.dumps({"cells": [None, {"cell_type": "code", "source": 3}],
                "nbformat": 4})])
def test_a_notebook_without_an_architecture_is_refused(notebook):
  with pytest.raises(errors.InputError, match="no code cell of this notebook"):
    exports.parse(notebook)
