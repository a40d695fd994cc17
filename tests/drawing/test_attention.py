"""Pictures of attention."""

import pytest

from natjax import drawing, errors

ROW = {"edge": [1, 2], "weights": {"conv": 0.26, "pool": 0.24, "null": 0.25},
       "strongest": "conv", "next": "null", "margin": 0.01,
       "standard_error": 0.02, "tie": True}


def test_every_edge_has_a_panel_with_its_margin(tmp_path):
  pytest.importorskip("matplotlib")
  path = tmp_path / "attention.svg"
  alone = {"edge": [1, 2], "weights": {"conv": 0.4}, "strongest": "conv",
           "tie": False}
  sure = {**ROW, "edge": [1, 3], "tie": False}
  node = {"node": 5, "margin": 3e-3, "standard_error": 1e-4, "tie": False,
          "edges": [{"edge": [source, 5], "operation": "conv",
                     "weight": 0.26 - 0.01 * k, "kept": k < 2}
                    for k, source in enumerate((3, 0, 4))]}
  assert drawing.save_attention(path, {"attention": {
      "normal": [ROW, None, sure], "layer_0": [alone]},
                                       "nodes": {"normal": [node]}})
  text = path.read_text()
  for part in ("normal: 1 -&gt; 2", "normal: 1 -&gt; 3", "layer_0",
               "margin 1.0e-02 ± 2e-02 (a tie)", "attention",
               "normal: node 5", "4: conv", "margin 3.0e-03 ± 1e-04"):
    assert part in text or part.replace("&gt;", ">") in text
  assert text.count("a tie") == text.count("(a tie)") > 0
  assert not drawing.save_attention(tmp_path / "no.svg", {})
  with pytest.raises(errors.InputError, match="no edge has weights"):
    drawing.attention_bars({"normal": [None]}, path)
