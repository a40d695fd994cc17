"""Tests of natjax.data.face_pairs: files of pairs as the field has them."""

import pickle

import numpy as np
import pytest

from natjax import errors
from natjax.data import face_pairs
from tests import faces

IMAGES, SAME = faces.pairs(*faces.people(4, 3, 8), 12)


class Calls:
  """Makes a file when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_what_python_3_wrote(tmp_path, protocol):
  path = faces.write_pairs(tmp_path / "lfw.bin", IMAGES, SAME, protocol)
  found = face_pairs.read(path)
  assert found.images == IMAGES and found.same.tolist() == SAME


def test_what_python_2_wrote(tmp_path):
  path = faces.write_pairs_of_python2(tmp_path / "lfw.bin", IMAGES, SAME)
  found = face_pairs.read(path)
  assert found.images == IMAGES and found.same.tolist() == SAME


@pytest.mark.parametrize("form", [
    lambda images, same: (images, np.array(same)),
    lambda images, same: (images, [np.bool_(x) for x in same]),
    lambda images, same: [tuple(images), [int(x) for x in same]],
    lambda images, same: (
        [np.frombuffer(x, np.uint8) for x in images], same)])
def test_other_spellings_of_the_same(tmp_path, form):
  path = tmp_path / "lfw.bin"
  path.write_bytes(pickle.dumps(form(IMAGES, SAME)))
  found = face_pairs.read(path)
  assert found.images == IMAGES and found.same.tolist() == SAME


def test_images_are_decoded_some_at_a_time(tmp_path):
  path = faces.write_pairs(tmp_path / "lfw.bin", IMAGES, SAME)
  parts = [*face_pairs.read(path).decoded(8, 10)]
  assert [len(part) for part in parts] == [10, 10, 4]
  again = np.concatenate([*face_pairs.read(path).decoded(8, 24)])
  np.testing.assert_array_equal(np.concatenate(parts), again)
  assert {faces.encoded(x, "PNG") for x in again} == set(IMAGES)
  # Of another size, they are brought to the network's.
  assert next(face_pairs.read(path).decoded(5)).shape == (24, 5, 5, 3)


@pytest.mark.parametrize("content,message", [
    ((IMAGES[:-1], SAME), "23 images and 12 bools"),
    ((IMAGES[:-2], SAME), "22 images and 12 bools"),
    ((IMAGES, SAME, 1), "two lists"), (IMAGES, "two lists"),
    ((1, 2), "two lists"), ((SAME, SAME), "no encoded images"),
    ((IMAGES, [2] * 12), "one person"), ((IMAGES, ["yes"] * 12), "one person"),
    ({"images": IMAGES, "same": SAME}, "two lists")])
def test_another_form_is_refused(tmp_path, content, message):
  path = tmp_path / "lfw.bin"
  path.write_bytes(pickle.dumps(content))
  with pytest.raises(errors.InputError, match=message) as refusal:
    face_pairs.read(path)
  assert "\n" not in str(refusal.value) and refusal.value.field == "pairs"


def test_nothing_is_executed(tmp_path):
  path, made = tmp_path / "lfw.bin", tmp_path / "made"
  path.write_bytes(pickle.dumps((IMAGES, [Calls(made)])))
  with pytest.raises(errors.InputError, match="no plain data"):
    face_pairs.read(path)
  assert not made.exists()


def test_what_is_no_pickle_or_not_there(tmp_path):
  (tmp_path / "lfw.bin").write_bytes(b"\xff no pickle")
  with pytest.raises(errors.InputError, match="no pickle"):
    face_pairs.read(tmp_path / "lfw.bin")
  with pytest.raises(errors.InputError, match="No such file"):
    face_pairs.read(tmp_path / "cfp.bin")


def test_an_image_that_does_not_decode_is_named(tmp_path):
  images = [*IMAGES]
  images[5] = b"no image"
  path = faces.write_pairs(tmp_path / "lfw.bin", images, SAME)
  with pytest.raises(errors.InputError, match="image 5 cannot be read"):
    [*face_pairs.read(path).decoded(8)]
