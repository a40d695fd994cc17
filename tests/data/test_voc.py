"""Folders of Pascal VOC's form, and crops of what is in them."""

import os

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest
from scipy import io

from natjax import errors
from natjax.data import voc


@pytest.fixture
def folder(tmp_path):
  return voc.make(tmp_path / "VOCdevkit" / "VOC2012", {
      "train": [(12, 16), (16, 10)], "val": [(8, 8)]})


def test_pictures_are_read_with_their_masks(folder):
  found = voc.load(folder.parent.parent, "train", num_classes=3)
  assert found.shape == (2, 16, 16, 4) and found.nbytes == 2048
  assert found.sizes.tolist() == [[12, 16], [16, 10]]
  picture = found[1]
  mask = np.asarray(Image.open(
      folder / "SegmentationClass" / f"{found.names[1]}.png"))
  assert set(np.unique(mask)) == {0, 1, 2, 255}
  np.testing.assert_array_equal(picture[:16, :10, 3], mask)
  assert (picture[:, 10:, 3] == 255).all() and not picture[:, 10:, :3].any()
  image = np.asarray(Image.open(
      folder / "JPEGImages" / f"{found.names[1]}.jpg"))
  np.testing.assert_array_equal(picture[:16, :10, :3], image)
  np.testing.assert_array_equal(found[np.array([1, 0, 1])][2], picture)
  np.testing.assert_array_equal(found[:][1], picture)
  with pytest.raises(IndexError, match="along one axis"):
    found[..., 1]
  assert len(voc.load(folder, "val", num_classes=3)) == 1


def test_a_list_may_begin_with_a_byte_order_mark(folder):
  listed = folder / "ImageSets" / "Segmentation" / "train.txt"
  names = voc.load(folder, "train", num_classes=3).names
  listed.write_text(listed.read_text(), "utf-8-sig")
  assert voc.load(folder, "train", num_classes=3).names == names


def test_other_masks_may_lie_beside(folder):
  (folder / "SegmentationClass").rename(folder / "SegmentationClassAug")
  assert len(voc.load(folder, masks="SegmentationClassAug", num_classes=3)) == 2


def test_bad_folders_are_refused_in_one_line(folder, tmp_path):
  name = voc.load(folder, num_classes=3).names[0]
  mask = folder / "SegmentationClass" / f"{name}.png"
  image = folder / "JPEGImages" / f"{name}.jpg"
  whole, pixels = mask.read_bytes(), np.asarray(Image.open(mask))

  def refused(words, **settings):
    with pytest.raises(errors.InputError) as error:
      voc.load(folder, **{"num_classes": 3, **settings})
    assert words in str(error.value) and "\n" not in str(error.value)

  refused("choose one of train, val", split="test")
  refused("holds class 2, and of 2 classes the last is 1", num_classes=2)
  Image.fromarray(pixels[1:]).save(mask)
  refused("has 16x11 pixels and its image 16x12")
  Image.fromarray(np.stack([pixels] * 3, -1)).save(mask)
  refused("is of mode RGB")
  mask.write_bytes(whole[:40])
  refused("cannot be read as an image")
  mask.unlink()
  refused(f"there is no mask {mask}")
  mask.write_bytes(whole)
  image.unlink()
  refused(f"{image}: No such file or directory; put it there")
  (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("\n")
  refused("names no images")
  with pytest.raises(errors.InputError, match="holds no folder JPEGImages"):
    voc.load(tmp_path / "none")


@pytest.fixture
def sbd(folder):
  """SBD's folder: pictures of both lists here, and two of its own."""
  own = folder.parent.parent / "benchmark_RELEASE" / "dataset"
  (own / "cls").mkdir(parents=True)
  (own / "train.txt").write_text("train_0\nval_0\nmore_1\n")
  (own / "val.txt").write_text("more_0\ntrain_1\nmore_1\n")
  rng = np.random.default_rng(0)
  for name, size in (("more_0", (9, 7)), ("more_1", (6, 16))):
    Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(
        folder / "JPEGImages" / f"{name}.jpg")
    save(own / "cls" / f"{name}.mat", rng.integers(0, 3, size, np.uint8))
  return own


def save(path, classes):
  io.savemat(path, {"GTcls": {
      "Segmentation": classes, "CategoriesPresent": np.unique(classes)}},
             do_compression=True)


def test_sbd_adds_pictures_that_neither_list_has(folder, sbd):
  found = voc.augmented(folder, sbd.parent.parent, num_classes=3)
  assert found.names == ("train_0", "train_1", "more_1", "more_0")
  assert found.sizes.tolist() == [[12, 16], [16, 10], [6, 16], [9, 7]]
  own = voc.load(folder, num_classes=3)
  np.testing.assert_array_equal(found[:2], own[:])
  wanted = io.loadmat(sbd / "cls" / "more_1.mat")["GTcls"]["Segmentation"]
  np.testing.assert_array_equal(found[2][:6, :16, 3], wanted[0, 0])
  assert (found[2][6:, :, 3] == 255).all()


def test_bad_files_of_sbd_are_refused_in_one_line(folder, sbd, tmp_path):
  path = sbd / "cls" / "more_0.mat"
  whole, whose = path.read_bytes(), np.zeros((9, 7), np.uint8)

  def refused(words, where=sbd):
    with pytest.raises(errors.InputError) as error:
      voc.augmented(folder, where, num_classes=3)
    assert words in str(error.value) and "\n" not in str(error.value)

  unreadable = f"{path} cannot be read as a mask of SBD"
  for damaged in (whole[:-20], whole[:100], b"", whole.replace(
      whole[140:150], b"\0" * 10), b"MATLAB 7.3 MAT-file" + b" " * 105
                  + b"\0\2IM" + bytes(512)):
    path.write_bytes(damaged)
    refused(unreadable)
  io.savemat(path, {"other": whose})
  refused(unreadable)
  save(path, whose.astype(np.float64))
  refused("holds float64[9, 7]")
  save(path, whose[0])
  refused("has 7x1 pixels and its image 7x9")
  save(path, whose + 3)
  refused("holds class 3, and of 3 classes the last is 2")
  path.unlink()
  refused(f"there is no mask {path}")
  refused("holds no folder cls", tmp_path / "none")
  (sbd / "val.txt").unlink()
  refused(f"there is no list {sbd / 'val.txt'}; choose one of train")
  os.mkfifo(sbd / "val.txt")
  refused("val.txt is a pipe or a device")


def crop(picture, sizes, **settings):
  rng = jax.random.key(settings.pop("seed", 0))
  return [np.asarray(x) for x in voc.random_crops(
      rng, jnp.asarray(picture), jnp.asarray(sizes), voc.Crops(**settings))]


def picture(height, width, side=20):
  """Pixels that say where they are, and classes that do so too."""
  found = np.full((1, side, side, 4), 255, np.uint8)
  rows, columns = np.mgrid[:height, :width]
  found[0, :height, :width] = np.stack(
      [10 * rows, 10 * columns, 0 * rows, rows // 3], -1)
  return found, np.array([[height, width]])


def test_a_crop_of_a_larger_picture_is_a_part_of_it():
  found, sizes = picture(16, 12)
  corners = set()
  for seed in range(12):
    image, mask, there = crop(found, sizes, size=8, scale=(1, 1), flip=False,
                              seed=seed)
    top, left = (image[0, 0, 0, :2] / 10).round().astype(int)
    corners.add((top, left))
    np.testing.assert_allclose(
        image[0], found[0, top:top + 8, left:left + 8, :3], atol=1e-3)
    np.testing.assert_array_equal(
        mask[0], found[0, top:top + 8, left:left + 8, 3])
    assert there.all() and top <= 8 and left <= 4
  assert len(corners) > 6


def test_a_smaller_picture_has_void_around():
  found, sizes = picture(6, 4)
  image, mask, there = crop(found, sizes, size=8, scale=(1, 1), flip=False)
  assert (mask[0, 6:] == 255).all() and (mask[0, :, 4:] == 255).all()
  np.testing.assert_array_equal(mask[0, :6, :4], found[0, :6, :4, 3])
  normal = voc.normalize(image, there, (0.5,) * 3, (0.25,) * 3)
  assert not normal[0, 6:].any() and normal[0, :6, :4].all()


def test_scale_is_bilinear_and_classes_are_the_nearest():
  found, sizes = picture(8, 8)
  image, mask, _ = crop(found, sizes, size=16, scale=(2, 2), flip=False)
  expected = jax.image.resize(
      found[0, :8, :8, :3].astype("f"), (16, 16, 3), "bilinear")
  np.testing.assert_allclose(image[0], expected, atol=1e-3)
  np.testing.assert_array_equal(
      mask[0], found[0, :8, :8, 3].repeat(2, 0).repeat(2, 1))
  half = crop(found, sizes, size=8, scale=(0.5, 0.5), flip=False)
  assert half[2].sum() == 16 and (half[1] != 255).sum() == 16


def test_half_of_the_crops_are_mirrored():
  found, sizes = picture(8, 8, 8)
  plain = crop(found, sizes, size=8, scale=(1, 1), flip=False)[0][0]
  seen = {np.abs(crop(found, sizes, size=8, scale=(1, 1), seed=seed)[0][0]
                 - plain[:, ::-1]).max() < 1e-3 for seed in range(8)}
  assert seen == {True, False}


def test_crops_are_a_function_of_the_key():
  found, sizes = picture(16, 12)
  a, b, c = (crop(found, sizes, size=8, seed=seed)[0] for seed in (1, 1, 2))
  np.testing.assert_array_equal(a, b)
  assert (a != c).any()
