"""Tests of natjax.data.image_folder."""

import numpy as np
from PIL import Image
import pytest

from natjax import errors
from natjax.data import image_folder


def _pixels(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _save(path, image=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(_pixels(4, 6, 3) if image is None else image).save(path)


def _refusal(folder):
  with pytest.raises(errors.InputError) as refusal:
    image_folder.read(folder)
  assert "\n" not in str(refusal.value)
  return str(refusal.value)


@pytest.mark.parametrize("test_name", ["test", "val", "validation"])
def test_read_a_divided_folder(tmp_path, test_name):
  images = _pixels(5, 4, 6, 3)
  _save(tmp_path / "train" / "dog" / "b.png", images[2])
  _save(tmp_path / "train" / "dog" / "a.PNG", images[1])
  _save(tmp_path / "train" / "cat" / "z.bmp", images[0])
  _save(tmp_path / test_name / "cat" / "1.png", images[3])
  _save(tmp_path / test_name / "dog" / "1.png", images[4])
  (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
  (tmp_path / "train" / ".hidden").mkdir()
  raw = image_folder.read(tmp_path)
  assert raw.class_names == ("cat", "dog")
  np.testing.assert_array_equal(raw.train[0], images[:3])
  assert raw.train[1].tolist() == [0, 1, 1]
  np.testing.assert_array_equal(raw.test[0], images[3:])
  assert raw.test[1].tolist() == [0, 1]


def test_test_is_preferred_to_val(tmp_path):
  for i, part in enumerate(["train", "test", "val"]):
    for label in ("a", "b"):
      image = np.full((2, 2, 3), 100 * i, np.uint8)
      _save(tmp_path / part / label / "1.png", image)
  assert (image_folder.read(tmp_path).test[0] == 100).all()


def test_an_undivided_folder_gives_up_a_fixed_fifth(tmp_path):
  images = _pixels(15, 3, 3, 3)
  for i, image in enumerate(images):
    label = "a" if i < 10 else "b"
    _save(tmp_path / label / f"{i:02}.png", image)
  raw = image_folder.read(tmp_path)
  assert raw.class_names == ("a", "b")
  assert np.bincount(raw.train[1]).tolist() == [8, 4]
  assert np.bincount(raw.test[1]).tolist() == [2, 1]
  together = {x.tobytes() for x in (*raw.train[0], *raw.test[0])}
  assert together == {x.tobytes() for x in images}
  for part in (raw.train, raw.test):
    for image, label in zip(*part, strict=True):
      index = (images == image).all(axis=(1, 2, 3)).argmax()
      assert label == (index >= 10)
  again = image_folder.read(tmp_path)
  np.testing.assert_array_equal(again.test[0], raw.test[0])


def test_grey_palette_and_transparent_images_become_rgb(tmp_path):
  grey, colour = _pixels(4, 4), _pixels(4, 4, 3)
  _save(tmp_path / "grey.png", grey)
  np.testing.assert_array_equal(
    image_folder.read_image(tmp_path / "grey.png"),
    np.stack([grey] * 3, axis=-1),
  )
  alpha = np.full((4, 4, 1), 100, np.uint8)
  _save(tmp_path / "alpha.png", np.concatenate([colour, alpha], axis=-1))
  np.testing.assert_array_equal(
    image_folder.read_image(tmp_path / "alpha.png"), colour
  )
  # Palette entries 0 and 1; Pillow warns of the transparency given as bytes.
  palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
  palette.putpalette([10, 20, 30, 40, 50, 60])
  palette.save(tmp_path / "palette.png", transparency=bytes([0, 128]))
  assert image_folder.read_image(tmp_path / "palette.png").tolist() == [
    [[10, 20, 30], [40, 50, 60]]
  ]


def test_jpeg_is_read_nearly(tmp_path):
  image = np.full((8, 8, 3), (200, 100, 50), np.uint8)
  _save(tmp_path / "some.jpg", image)
  found = image_folder.read_image(tmp_path / "some.jpg").astype(int)
  assert np.abs(found - image).max() <= 4


def test_images_of_unequal_size_are_refused(tmp_path):
  _save(tmp_path / "a" / "1.png", _pixels(4, 6, 3))
  _save(tmp_path / "a" / "2.png", _pixels(4, 6, 3))
  _save(tmp_path / "b" / "1.png", _pixels(6, 4, 3))
  _save(tmp_path / "b" / "2.png", _pixels(4, 6, 3))
  message = _refusal(tmp_path)
  assert message.startswith("images of unequal size: ")
  assert f"{tmp_path / 'a' / '1.png'} is 6x4" in message
  assert f"{tmp_path / 'b' / '1.png'} is 4x6" in message
  assert "bring them to one size" in message


def test_train_without_test_is_refused(tmp_path):
  _save(tmp_path / "train" / "a" / "1.png")
  assert f"or give {tmp_path / 'train'}" in _refusal(tmp_path)


def test_test_without_train_is_refused(tmp_path):
  _save(tmp_path / "val" / "a" / "1.png")
  assert "has val but no train" in _refusal(tmp_path)


def test_other_classes_in_test_are_refused(tmp_path):
  for path in ("train/a", "train/b", "test/a", "test/c"):
    _save(tmp_path / path / "1.png")
  assert "only one of them holds b, c" in _refusal(tmp_path)


def test_fewer_than_two_classes_are_refused(tmp_path):
  assert "has 0 class folders" in _refusal(tmp_path)
  _save(tmp_path / "a" / "1.png")
  assert "has 1 class folders" in _refusal(tmp_path)


def test_a_class_without_images_is_refused(tmp_path):
  _save(tmp_path / "a" / "1.png")
  _save(tmp_path / "b" / "deeper" / "1.png")
  message = _refusal(tmp_path)
  assert f"{tmp_path / 'b'} holds no images" in message
  assert ".png" in message


def test_a_single_image_cannot_be_held_out(tmp_path):
  _save(tmp_path / "a" / "1.png")
  _save(tmp_path / "b" / "1.png")
  assert "class 0 has 1 example" in _refusal(tmp_path)


@pytest.mark.parametrize("content", [b"no image", b""])
def test_a_file_that_is_no_image_is_refused(tmp_path, content):
  (tmp_path / "some.png").write_bytes(content)
  with pytest.raises(errors.InputError, match="cannot be read as an image"):
    image_folder.read_image(tmp_path / "some.png")


def test_a_truncated_image_is_refused(tmp_path):
  _save(tmp_path / "some.png", _pixels(32, 32, 3))
  content = (tmp_path / "some.png").read_bytes()
  (tmp_path / "some.png").write_bytes(content[:1000])
  with pytest.raises(errors.InputError, match="cannot be read as an image"):
    image_folder.read_image(tmp_path / "some.png")


def test_an_image_of_16_bits_is_refused(tmp_path):
  _save(tmp_path / "some.png", np.full((4, 4), 40000, np.uint16))
  with pytest.raises(errors.InputError, match="more than 8 bits"):
    image_folder.read_image(tmp_path / "some.png")
