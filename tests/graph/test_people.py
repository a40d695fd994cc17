"""Architectures in the forms in which people have them."""

import bz2
import gzip
import json
import lzma
import time

import pytest

from natjax import cli, errors, zoo
from natjax.graph import codec, genotype, nasbench201
from natjax.zoo import exports

DARTS = zoo.get("darts")
TEXT = genotype.to_darts(DARTS)
OTHER = TEXT.replace("'skip_connect', 0", "'sep_conv_5x5', 0")
PAIRS = [("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
         ("sep_conv_3x3", 0), ("skip_connect", 1)]
NODES = [PAIRS[:2], PAIRS[2:]]
EDGES = (("sep_conv_3x3", 0, 2), ("sep_conv_3x3", 1, 2),
         ("sep_conv_3x3", 0, 3), ("skip_connect", 1, 3))
MODULE = f"""from collections import namedtuple
Genotype = namedtuple("Genotype", "normal normal_concat reduce reduce_concat")
# Older = {OTHER}
FIRST = {OTHER}
Second = \\
    genotypes.{TEXT}
raise SystemExit(3)
"""


@pytest.fixture
def read(tmp_path):
  def function(text, *name):
    path = tmp_path / "mine.txt"
    path.write_text(text, "utf-8")
    return codec.read(path, *name)

  return function


@pytest.mark.parametrize("text", [
    "# found on our own data\n{}", "genotypes.{}", "arch:{}", "\ufeff{}",
    "11/02 09:15:01 PM genotype = {}\n11/02 valid_acc 88.1 (best)",
    "DARTS = {}\nclass Genotype(object):\n  pass\n", "a = b = {}",
    f"x genotype = {OTHER}\nx genotype = {{}}\nx done (2 h)", "\n\n  {}  \n"])
def test_the_text_among_others(read, text):
  assert OTHER != TEXT and read(text.format(TEXT)) == DARTS


def test_a_module_is_read_by_name_and_not_executed(read, tmp_path, capsys):
  assert read(MODULE, "Second") == DARTS
  assert read(MODULE, "FIRST") == genotype.from_darts(OTHER)
  for name in (None, "Older", "Genotype"):
    with pytest.raises(errors.InputError, match="genotypes FIRST, Second; na"):
      read(MODULE, name)
  path = tmp_path / "mine.txt"
  for argument, code in ((f"{path}:Second", 0), (path, 2), (f"{path}:no", 2)):
    assert cli.main(["cost", str(argument)]) == code
  out, err = capsys.readouterr()
  assert "3349342 parameters" in out
  assert err.count("\n") == 2 == err.count("name one of them, as FILE:FIRST")


@pytest.mark.parametrize("text", [
    f"FIRST: Genotype = {TEXT}\nOTHER: g.Genotype = {OTHER}\n",
    f"ALL = {{'FIRST': {TEXT}, 'OTHER': {OTHER}}}\n",
    f"{{'FIRST': {TEXT}, 'OTHER': {OTHER}}}",
    f"ALL = dict(FIRST={TEXT},\n  OTHER={OTHER})\n",
    f"FIRST, OTHER = {TEXT}, {OTHER}\n",
    f"ALL = {{}}\nALL['FIRST'] = {TEXT}\nALL['OTHER'] = {OTHER}\n",
    f"class All:\n  FIRST = {TEXT}\n  OTHER = {OTHER}\n",
    f"FIRST: Genotype = {TEXT}\nOTHER: Genotype = {OTHER}\nthat's all"])
def test_every_way_to_name_genotypes(read, text):
  assert read(text, "FIRST") == DARTS
  assert read(text, "OTHER") == genotype.from_darts(OTHER)
  for name in (None, "Genotype", "ALL"):
    with pytest.raises(errors.InputError, match="genotypes FIRST, OTHER; name"):
      read(text, name)


def test_lists_of_genotypes_are_named_by_their_numbers(read):
  for owner in ("ALL", ""):
    text = f"{owner and 'ALL = '}[{TEXT}, {OTHER}]"
    assert read(text, f"{owner}[1]") == genotype.from_darts(OTHER)
    with pytest.raises(
        errors.InputError, match=rf"{owner}\[0\], {owner}\[1\];"):
      read(text)


@pytest.mark.parametrize("text, said", [
    (f"{TEXT}\n\n{OTHER}\n", "2 genotypes without names, in the lines 1, 3;"),
    (f"FIRST = {TEXT}\n{OTHER}\n", "FIRST, that of line 2; name one of them"),
    (f"A = {{'best': {TEXT}}}\nB = {{'best': {OTHER}}}\n",
     "2 genotypes called best, in the lines 1, 2; keep one")])
def test_genotypes_that_no_name_tells_apart(read, text, said):
  with pytest.raises(errors.InputError, match=said):
    read(text)


def test_a_name_that_is_not_there_is_said(read):
  with pytest.raises(errors.InputError, match=(
      r"holds the genotypes A, B; name one of them, as FILE:A"
      r" \(none is called 'C'\)")):
    read(f"A = {TEXT}\nB = {OTHER}\n", "C")


def test_a_name_that_is_given_again_is_the_last_one(read):
  assert read(f"A = {OTHER}\nA = {TEXT}\n") == DARTS


@pytest.mark.parametrize("text", [
    TEXT.replace("), (", "),  # node 2's edge, (of\n (", 1),
    "log: it's\n" + TEXT.replace("), (", "),  # node 2's edge, [of\n (", 1),
    TEXT.replace(", 0)", ", np.int64(0))"),
    TEXT.replace(", 1)", ", tensor(1))"),
    TEXT.replace(", 1)", ", torch.tensor(1, device='cuda:0'))"),
    TEXT.replace("'skip_connect'", "np.str_('skip_connect')"),
    TEXT.replace("[2, 3, 4, 5]", "list(range(2, 6))"),
    TEXT.replace("[2, 3, 4, 5]", "np.arange(2, 6)"),
    TEXT.replace("normal=", "").replace("normal_concat=", "").replace(
        "reduce=", "").replace("reduce_concat=", ""),
    TEXT.replace("normal=", "", 1),
    f"02 PM genotype = {OTHER}\n03 PM genotype = {TEXT}\n04 PM"
    f" genotype = {OTHER[:200]}",
    f"02 PM genotype = {TEXT}\n03 PM genotype = {OTHER[:24]}\n04 PM it's done",
    TEXT.replace(", ", ",\xa0"), TEXT.replace("'", "\u2019"),
    TEXT.replace("('", "(\u201c").replace("',", "\u201d,")])
def test_what_others_write_into_the_text(read, text):
  assert text != TEXT and read(text) == DARTS


@pytest.mark.parametrize("text", [
    TEXT.replace(", 0)", ", largest(0))"), TEXT.replace(", 0)", ", int(0, 1))"),
    TEXT.replace("reduce=", "normal=", 1), TEXT.replace(
        "Genotype(", "Genotype([], "), f"{TEXT[:-1]}, reduce_concat=[2])",
    f"02 PM genotype = {TEXT[:-1]}\n"])
def test_what_cannot_be_meant_is_refused(read, text):
  with pytest.raises(errors.InputError, match="not of the form Genotype"):
    read(text)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_what_windows_writes(encoding, tmp_path):
  path = tmp_path / "mine.txt"
  mark = "" if encoding == "utf-16" else "\ufeff"  # Which it has of itself.
  path.write_text(f"{mark}{TEXT}\r\n", encoding)
  assert codec.read(path) == DARTS


@pytest.mark.parametrize("edges, said", [
    (PAIRS[:1] + PAIRS[2:], r"has 3 \(operation, from\) pairs among 3 edges"),
    ([*PAIRS[:3], ("skip_connect", 1, 3)], "has 3 .* pairs among 4 edges"),
    ([*PAIRS[:2], (*PAIRS[2], 3)], "has 2 .* pairs among 3 edges")])
def test_pairs_that_lack_an_edge_lead_nowhere(read, edges, said):
  for text in (
      f"Genotype(normal={EDGES}, normal_concat=[2, 3], reduce={edges},"
      " reduce_concat=[2, 3])", json.dumps({
          "normal": EDGES, "normal_concat": [2, 3], "reduce": edges,
          "reduce_concat": [2, 3]})):
    with pytest.raises(errors.InputError, match=f"'reduce' {said}.*missing"):
      read(text)


def test_the_command_line_says_which_of_several_is_taken(tmp_path, capsys):
  path = tmp_path / "log.txt"
  path.write_text(f"02 PM = {OTHER}\n# {OTHER}\n03 PM = {OTHER}\n\n"
                  f"04 PM = {TEXT}\n05 PM = {OTHER[:90]}", "utf-8")
  assert cli.main(["cost", str(path)]) == 0
  out, err = capsys.readouterr()
  assert "3349342 parameters" in out
  assert "holds 3 architectures; the last one is taken, of line 5" in " ".join(
      err.split())
  path.write_text(f"04 PM = {TEXT}\n", "utf-8")
  assert cli.main(["cost", str(path)]) == 0
  assert capsys.readouterr().err == ""


def test_a_log_that_names_some_of_its_lines(read):
  text = (f"02 PM genotype = {OTHER}\n03 PM valid_acc 88.1 (best)\n"
          f"04 PM Genotype: {TEXT}\n")
  assert read(text) == DARTS
  assert read(text, "genotype") == genotype.from_darts(OTHER)
  assert genotype.last_of(text) == (2, 3)
  for two in ("best", "last"):
    text += f"05 PM {two} = {TEXT}\n"
  with pytest.raises(errors.InputError, match="genotypes genotype, best, last"):
    read(text)
  cells = ["|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|",
           "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"]
  found = nasbench201.find(f"2 PM arch = '{cells[0]}'\n3 PM it's {cells[1]}\n")
  assert [f.value for f in found] == cells


def test_python_is_told_of_what_is_passed_over(tmp_path):
  path = tmp_path / "log.txt"
  path.write_text(f"1 PM {OTHER}\n2 PM {TEXT}\n3 PM {TEXT[:50]}", "utf-8")
  with pytest.warns(UserWarning) as said:
    assert exports.read(path) == DARTS
  first, second = (str(line.message) for line in said)
  assert "2 architectures; the last one is taken, of line 2" in first
  assert "the genotype of line 3 is cut off" in second
  path.write_text(f"1 PM {TEXT}\n")
  assert exports.read(path) == DARTS  # A warning would be raised.


@pytest.mark.parametrize("later", [
    "FOUND = FOUND._replace(reduce=[])", "FOUND = load('best')",
    "FOUND: Any = None", "FOUND = OTHER"])
def test_a_name_that_is_given_to_something_else_later_is_refused(read, later):
  text = f"FOUND = {TEXT}\n{later}\n"
  with pytest.raises(errors.InputError, match="FOUND another value in line 2"):
    read(text)
  assert read(f"{later}\nFOUND = {TEXT}\n") == DARTS
  assert read(f"FOUND = {OTHER}\nFOUND = {TEXT}\nprint(FOUND)\n") == DARTS


def test_a_log_in_the_colours_of_a_terminal(read):
  log = (f"\x1b[32m12:30:12\x1b[0m | \x1b[1mINFO\x1b[0m | genotype ="
         f" \x1b[38;5;14m{OTHER}\x1b[0m\n\x1b[36m{TEXT}\x1b[0m\n")
  assert read(log) == DARTS


def test_triples_that_name_the_target_first(read):
  cells = [[(name, target, source) for name, source, target in EDGES]] * 2
  found = read("FairDARTS_a = Genotype(normal={}, normal_concat=range(2, 4),"
               " reduce={}, reduce_concat=range(2, 4))".format(*cells))
  assert found.normal.edges == found.reduce.edges == EDGES
  one = [("skip_connect", 2, 0), ("skip_connect", 1, 3)]  # Both ways.
  with pytest.raises(errors.InputError, match="renumber"):
    read(f"Genotype(normal={one}, normal_concat=[2, 3], reduce={one},"
         " reduce_concat=[2, 3])")


@pytest.mark.parametrize("text,said", [
    ("", "but empty"), ("\n \n", "but empty"),
    ("03/20 acc 61.2\n" * 3, "nor is there a Genotype"),
    ("normal:\n  - [sep_conv_3x3, 0]\n", "nor is there a Genotype"),
    ("{'a", r"\(Expecting")])
def test_a_file_without_an_architecture_is_said_to_be_one(tmp_path, text, said):
  path = tmp_path / "found.txt"
  path.write_text(text)
  with pytest.raises(errors.InputError, match=f"found.txt: not JSON,? {said}"):
    exports.read(path)


@pytest.mark.parametrize("name,content,said", [
    ("log.txt.gz", gzip.compress(b"x", mtime=0),
     r"unpack it \(gunzip log.txt.gz\)"),
    ("t.csv.gz", gzip.compress(b"x", mtime=0), r"a table as .*t.csv.gz:NUMBER"),
    ("log", bz2.compress(b"x"), r"\(bunzip2 log\)"),
    ("log.xz", lzma.compress(b"x"), r"\(unxz log.xz\)"),
    ("all.zip", b"PK\x03\x04\0", r"\(unzip all.zip\)"),
    ("m.pth", b"PK\x03\x04\0", "--weights m.pth"),
    ("weights", b"PK\x03\x04\0", "--weights weights"),
    ("m.ckpt", b"\x80\x02}q\x00.", "--weights m.ckpt"),
    ("m.h5", b"\x89HDF\r\n", "--weights m.h5"),
    ("g.yml", b"normal:\n- [sep_conv_3x3, 0]\n", r"YAML only .* as JSON, {"),
    ("m.pt", b"no weights", "not JSON, nor is there a Genotype")])
def test_what_is_no_text_says_what_to_give(tmp_path, name, content, said):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(errors.InputError, match=f"{name}.*{said}"):
    exports.read(tmp_path / name)


def test_the_text_in_yaml(tmp_path):
  path = tmp_path / "found.yaml"
  path.write_text(f"epoch: 3\ngenotype: {TEXT}\n")
  assert exports.read(path) == DARTS


def test_comments_in_the_letters_of_windows(tmp_path):
  path = tmp_path / "mine.txt"
  path.write_bytes(f"# gefunden f\u00fcr uns\n{TEXT}\n".encode("cp1252"))
  assert codec.read(path) == DARTS
  path.write_bytes(path.read_bytes() + b"\0\1")
  with pytest.raises(errors.InputError, match="not a text file"):
    codec.read(path)


def test_the_text_itself_as_an_argument(capsys):
  assert cli.main(["cost", TEXT]) == 0
  assert "3349342 parameters" in capsys.readouterr().out
  assert cli.main(["cost", TEXT[:300]]) == 2
  text = capsys.readouterr().err
  assert "the genotype given: not of the form" in text


@pytest.mark.parametrize("edges", [
    PAIRS, NODES, [tuple(n) for n in NODES], EDGES,
    [tuple((*edge, 0.125) for edge in node) for node in NODES]])
@pytest.mark.parametrize("more", [
    "", ", score=0.93", ", connectN=None, connects=None", ", mine=None"])
def test_pairs_by_node_and_further_fields(read, edges, more):
  found = read(f"Genotype(normal={edges}, normal_concat=range(2, 4),"
               f" reduce={edges}, reduce_concat=[2, 3]{more})")
  assert found.normal == found.reduce
  assert tuple(map(tuple, found.normal.edges)) == EDGES


@pytest.mark.parametrize("edges", [PAIRS, NODES, EDGES])
def test_json_takes_what_the_text_takes(read, edges):
  found = read(json.dumps({"normal": edges, "normal_concat": [2, 3],
                           "reduce": edges, "reduce_concat": [2, 3]}))
  assert tuple(map(tuple, found.normal.edges)) == EDGES


@pytest.mark.parametrize("text", [
    TEXT[:-1] + ", layers=8)", "x." * 10**6 + "Genotype(", "Genotype(" * 10**5,
    "Genotype('" + "x" * 10**6, "= " * 10**6 + "Genotype()",
    TEXT.replace("[('sep_conv_3x3', 0)", "[[('sep_conv_3x3', 0)]")])
def test_other_texts_are_refused_at_once(read, text):
  began = time.monotonic()
  with pytest.raises(errors.InputError, match=r"mine\.txt") as e:
    read(text)
  assert "\n" not in str(e.value) and time.monotonic() - began < 10


def test_a_string_of_nasbench201_in_a_file(tmp_path, capsys):
  text = ("|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|"
          "nor_conv_3x3~1|skip_connect~2|")
  (tmp_path / "n.txt").write_text(f"{text}\n")
  for argument in (text, tmp_path / "n.txt"):
    assert cli.main(["cost", str(argument)]) == 0
  first, second = capsys.readouterr().out.splitlines()
  assert "802426 parameters" in first and "802426 parameters" in second


def test_a_name_that_stands_for_another(read):
  text = MODULE + "NEW: Genotype = Second\nLAST = BEST = NEW\nA = B\nB = A\n"
  for name in ("NEW", "LAST", "BEST"):
    assert read(text, name) == DARTS
  assert read(text + "BEST = FIRST\n", "BEST") != DARTS
  assert read(f"V2 = {TEXT}\nDARTS = V2") == DARTS
  for name in ("A", "Third"):
    with pytest.raises(errors.InputError, match="holds the genotypes FIRST, S"):
      read(text, name)
  cell = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
  found = nasbench201.find(f"A = '{cell[::-1]}'\nB = '{cell}'\nC = B\n",
                           name="C")
  assert [f.value for f in found] == [cell]


def test_a_log_whose_last_genotype_is_cut_off(tmp_path, capsys):
  whole = f"epoch 1\ngenotype = {OTHER}\nepoch 2\n"
  log = tmp_path / "log.txt"
  for text, said in ((whole, False), (f"{whole}genotype = {TEXT}", False),
                     (f"{whole}genotype = {TEXT[:-40]}", True)):
    log.write_text(text)
    assert cli.main(["cost", str(log)]) == 0
    error = " ".join(capsys.readouterr().err.split())
    assert ("the genotype of line 4 is cut off, and that of line 2 is taken"
            in error) is said
