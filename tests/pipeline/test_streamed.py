"""Jobs on images that stay on disk."""

import dataclasses
import json
import pathlib

import pytest

from natjax import cli, data, pipeline, zoo
from natjax.cli import output
from natjax.graph import blocks
from natjax.methods import supervised
from tests.data import test_streamed as made

pytest.importorskip("grain", reason="needs grain, of the extra `data`")
RESNET = zoo.get("resnet20")
NETWORK = blocks.check(blocks.scale(
    RESNET._replace(blocks=RESNET.blocks[:1]), 0.125))


def test_a_result_says_what_was_left_out(tmp_path, capsys):
  folder = made.make_folder(tmp_path / "photographs", 60)
  whole = data.load(folder, image_size=8, stream=True)
  for images, count in ((whole.train_images, 3), (whole.test_images, 2)):
    for number in images.rows[:count]:
      path = pathlib.Path(images.records.name(number))
      path.write_bytes(path.read_bytes()[:40])
  config = supervised.TrainConfig(epochs=2, batch_size=8, cutout=0, seeds=2)
  train = lambda out, dataset: pipeline.train(
      NETWORK, dataset, out=out, config=config)
  out = tmp_path / "run"
  result = train(out, data.load(folder, image_size=8, stream=True,
                                skip_damaged=True))
  assert result["skipped"] == {"train": 3, "test": 2}
  again = data.load(folder, image_size=8, stream=True, skip_damaged=True)
  (out / "result.json").unlink()  # Of networks that are there already.
  assert train(out, again)["skipped"] == {"train": 3, "test": 2}
  output.print_trained(result, out, None)
  assert "left out as damaged: 3 training and 2 test images" in (
      capsys.readouterr().out)
  assert cli.main(["evaluate", str(out), "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["skipped"] == {"test": 2}
  assert cli.main(["evaluate", str(out)]) == 0
  assert "left out as damaged: 2 test images" in capsys.readouterr().out
  pipeline.train(NETWORK, again, out=tmp_path / "other", seed=7, config=(
      dataclasses.replace(config, seeds=1)))
  assert cli.main(["evaluate", str(out), str(tmp_path / "other")]) == 0
  assert "; left out as damaged: 2 test images" in capsys.readouterr().out
