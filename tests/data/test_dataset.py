"""Tests of natjax.data.dataset."""

import gzip

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from natjax import data, errors
from natjax.data import dataset


def _images(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _make(images=None, labels=None, **options):
  """A set of which the training part may be replaced."""
  images = _images(4, 8, 8, 3) if images is None else images
  labels = np.array([0, 1, 0, 1]) if labels is None else labels
  test = (_images(2, 8, 8, 3, seed=1), np.array([0, 1]))
  options = {"image_size": 8, **options}
  return dataset.make_dataset("some", (images, labels), test, **options)


def test_make_dataset_keeps_rgb_images_of_the_right_size():
  images = _images(4, 8, 8, 3)
  made = _make(images, class_names=["cat", "dog"])
  np.testing.assert_array_equal(made.train_images, images)
  assert made.train_images.dtype == np.uint8
  assert made.train_labels.dtype == np.int32
  assert made.train_labels.tolist() == [0, 1, 0, 1]
  assert made.test_images.shape == (2, 8, 8, 3)
  assert made.test_labels.tolist() == [0, 1]
  assert made.num_classes == 2
  assert made.class_names == ("cat", "dog")
  assert made.augmentation == data.Augmentation(0, False, 0)
  assert made.image_size == 8
  assert made.name == "some"


@pytest.mark.parametrize("shape", [(4, 64), (4, 8, 8), (4, 8, 8, 1)])
def test_grey_images_become_three_equal_channels(shape):
  images = _images(*shape)
  made = _make(images)
  assert made.train_images.shape == (4, 8, 8, 3)
  for channel in range(3):
    np.testing.assert_array_equal(
      made.train_images[..., channel], images.reshape(4, 8, 8)
    )


def test_labels_of_shape_n_1_are_flattened():
  made = _make(labels=np.array([[0], [1], [2], [1]], np.uint8))
  assert made.train_labels.tolist() == [0, 1, 2, 1]
  assert made.class_names == ("0", "1", "2")


def test_number_of_classes_counts_the_labels_of_the_test_set_too():
  made = dataset.make_dataset(
    "some",
    (_images(4, 8, 8), np.array([0, 1, 2, 3])),
    (_images(1, 8, 8), np.array([4])),
    image_size=8,
  )
  assert made.num_classes == 5


@pytest.mark.parametrize("labels,message", [
  ((0, 5, 8), "labels are 0, 5, 8, and those of 3 classes must be 0 to 2"),
  (range(1, 11), "labels are 1, 2, 3, 4, 5, ..., .* must be 0 to 9"),
  ((0, 2**40), "must be 0 to 1"),
])
def test_classes_without_images_are_refused(labels, message):
  labels = np.array([*labels] * 2)
  part = _images(len(labels), 8, 8), labels
  with pytest.raises(errors.InputError, match=message):
    dataset.make_dataset("some", part, part, image_size=8)


def test_who_names_all_classes_may_have_images_of_some():
  part = _images(3, 8, 8), np.array([0, 5, 8])
  names = [*"abcdefghij"]
  made = dataset.make_dataset(
    "some", part, part, class_names=names, image_size=8)
  assert made.num_classes == 10 and made.class_names == tuple(names)


@pytest.mark.parametrize("size", [2**15 + 1, 10**400])
def test_sizes_that_no_machine_holds_are_refused_at_once(size):
  with pytest.raises(errors.InputError, match="image_size"):
    _make(_images(2, 8, 8), np.array([0, 1]), image_size=size)


def test_images_that_this_machine_cannot_hold_are_refused_at_once(monkeypatch):
  monkeypatch.setattr("os.sysconf", lambda name: 2**14)
  made = _make(_images(2, 8, 8), np.array([0, 1]), image_size=8)
  assert made.image_size == 8
  with pytest.raises(errors.InputError, match="take 12 GiB and this"):
    _make(_images(2, 8, 8), np.array([0, 1]), image_size=2**15)


def test_mean_and_std_of_known_pixels():
  images = np.zeros((2, 1, 1, 3), np.uint8)
  images[0, 0, 0] = (0, 51, 7)
  images[1, 0, 0] = (255, 153, 7)
  made = _make(images, np.array([0, 1]), image_size=1)
  # (0 + 1) / 2; (0.2 + 0.6) / 2; a channel of one value has std 1.
  assert made.mean == pytest.approx((0.5, 0.4, 7 / 255), abs=1e-12)
  assert made.std == pytest.approx((0.5, 0.2, 1.0), abs=1e-12)


def test_mean_and_std_equal_numpys_across_chunks():
  images = _images(2500, 2, 3, 3)
  images[:1200, ..., 1] //= 2
  mean, std = dataset.moments(images)
  pixels = images.reshape(-1, 3) / 255.0
  np.testing.assert_allclose(mean, pixels.mean(axis=0), rtol=1e-12)
  np.testing.assert_allclose(std, pixels.std(axis=0), rtol=1e-12)


def test_given_mean_and_std_are_kept_and_may_be_given_alone():
  made = _make(mean=(0.5, 0.25, 0.125), std=(0.1, 0.2, 0.3))
  assert made.mean == (0.5, 0.25, 0.125)
  assert made.std == (0.1, 0.2, 0.3)
  alone = _make(mean=(0.5, 0.25, 0.125))
  assert alone.mean == (0.5, 0.25, 0.125)
  assert alone.std == _make().std


def test_resizing_a_constant_keeps_it_and_halving_averages():
  constant = np.full((1, 5, 9, 3), 77, np.uint8)
  assert (dataset.resize_all(constant, 4) == 77).all()
  # Antialiased: stripes of one pixel become grey, and do not alias.
  stripes = np.zeros((1, 16, 16), np.uint8)
  stripes[:, :, ::2] = 255
  inner = dataset.resize_all(stripes, 8)[0, :, 1:-1].astype(int)
  assert np.abs(inner - 127.5).max() <= 8


@pytest.mark.parametrize("size", [5, 12])
def test_resizing_treats_channels_images_and_layouts_alike(size):
  images = _images(3, 8, 10, 3)
  resized = dataset.resize_all(images, size)
  assert resized.shape == (3, size, size, 3)
  for i in range(3):
    for c in range(3):
      grey = images[i : i + 1, :, :, c]
      alone = dataset.resize_all(grey, size)
      np.testing.assert_array_equal(alone[0], resized[i, :, :, c])
      np.testing.assert_array_equal(
        dataset.resize_all(grey[..., None], size), alone[..., None]
      )


def test_resizing_to_the_same_size_copies_nothing():
  images = _images(2, 8, 8, 3)
  assert dataset.resize_all(images, 8) is images


def test_images_of_another_size_are_resized():
  images = _images(4, 6, 6, 3)
  made = _make(images, image_size=8)
  np.testing.assert_array_equal(
    made.train_images, dataset.resize_all(images, 8)
  )
  mean, std = dataset.moments(made.train_images)
  assert (made.mean, made.std) == (mean, std)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"images": _images(4, 8, 8, 4)}, "drop an alpha channel"),
    ({"images": _images(4, 3, 8, 8)}, "move the channels to the end"),
    ({"images": _images(4, 63)}, r"uint8\[4, 63\]"),
    ({"images": _images(4)}, r"uint8\[4\]"),
    ({"images": _images(4, 0, 8, 3)}, r"uint8\[4, 0, 8, 3\]"),
    ({"images": np.zeros((4, 8, 8, 3))}, "float64.*give uint8"),
    ({"images": _images(3, 8, 8, 3)}, "3 images and 4 labels"),
    ({"images": _images(0, 8, 8, 3), "labels": np.zeros(0, int)}, "0 images"),
    ({"images": _images(4, 8, 8).astype(int)}, r"int64.*astype\(numpy.uint8"),
    ({"labels": np.eye(2, dtype=int)[[0, 1, 0, 1]]}, r"labels.argmax\(1\)"),
    ({"labels": np.array([0.0, 1, 0, 1])}, r"float64.*give int.*astype\(int\)"),
    ({"labels": np.array([True, False] * 2)}, "bool.*give integers"),
    ({"labels": np.zeros((4, 2), int)}, r"\[4, 2\].*give integers"),
    ({"labels": np.array([-1, 0, 1, 0])}, r"from -1 to 1.*0\.\.1"),
    ({"labels": np.array([-1, 3, -1, 3])}, "labels are -1, 0, 1, 3, and those"),
    (
      {"labels": np.array([1, 2, 1, 2]), "class_names": ("a", "b")},
      r"training labels run from 1 to 2.*0\.\.1: number the classes from 0",
    ),
    ({"class_names": ("a",)}, r"must be in 0\.\.0"),
    ({"class_names": {"dog": 1, "cat": 0}}, "class_names is .*a list of texts"),
    ({"class_names": {"dog", "cat"}}, "class_names is .*a list of texts"),
    ({"mean": 0.5}, "mean 0.5: give three numbers"),
    ({"std": ("a", "b", "c")}, "std .*: give three numbers"),
    ({"image_size": 0}, "image_size 0"),
    ({"image_size": 8.0}, "image_size 8.0"),
    ({"image_size": True}, "image_size True"),
    ({"mean": (125.3, 123.0, 113.9)}, "divide by 255"),
    ({"mean": (0.5, 0.5)}, "give three numbers"),
    ({"mean": (0.5, float("nan"), 0.5)}, "mean.*nan"),
    ({"mean": (0.5, -0.1, 0.5)}, "mean.*-0.1"),
    ({"std": (0.5, 0.0, 0.5)}, "std.*above 0"),
    ({"augmentation": data.Augmentation(crop_padding=-1)}, "crop_padding -1"),
    ({"augmentation": data.Augmentation(cutout=9)}, r"cutout 9.*size \(8\)"),
    ({"augmentation": data.Augmentation(cutout=1.5)}, "cutout 1.5"),
    ({"augmentation": data.Augmentation(flip=4)}, "flip 4"),
  ],
)
def test_make_dataset_refuses(options, message):
  with pytest.raises(errors.InputError, match=message) as refusal:
    _make(**options)
  assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("part", [None, _images(4, 8, 8, 3), (1, 2, 3)])
def test_make_dataset_names_the_part_that_is_no_pair(part):
  whole = _images(2, 8, 8, 3), np.array([0, 1])
  for name, given in (("train", (part, whole)), ("test", (whole, part))):
    with pytest.raises(
        errors.InputError, match=rf"^{name} is .*\(images") as e:
      dataset.make_dataset("some", *given, image_size=8)
    assert "\n" not in str(e.value)


def test_a_fraction_may_be_of_any_type_of_number():
  labels = np.arange(40) % 2
  np.testing.assert_array_equal(
      dataset.held_out(labels, np.float32(0.25)),
      dataset.held_out(labels, 0.25))
  assert type(dataset.check_fraction(np.float32(0.25))) is float
  for wrong in (True, np.float32(1), float("nan"), "0.2"):
    with pytest.raises(errors.InputError, match=(
        "must be above 0 and below 1")):
      dataset.check_fraction(wrong)
  assert dataset.check_fraction(np.float32(1), most=1) is None  # All.
  for wrong in (True, 1.5, 0, float("nan"), "1"):
    with pytest.raises(errors.InputError, match="above 0 and at most 1"):
      dataset.check_fraction(wrong, most=1)


def test_make_dataset_refuses_a_single_class():
  part = (_images(2, 8, 8), np.array([0, 0]))
  with pytest.raises(errors.InputError, match="1 class given"):
    dataset.make_dataset("some", part, part, image_size=8)


def test_make_dataset_names_the_part_that_is_refused():
  train = (_images(2, 8, 8), np.array([0, 1]))
  with pytest.raises(errors.InputError, match="test set has 2 images and 1"):
    dataset.make_dataset("some", train, (train[0], np.array([1])))


def test_split_has_the_sizes_of_the_nat_papers():
  parts = dataset.split(50000, (0.4, 0.6), seed=1234)
  assert [p.size for p in parts] == [20000, 30000]
  # At random: each half of the indices gives each part half of it.
  assert abs(np.count_nonzero(parts[0] < 25000) - 10000) < 300


def test_split_of_a_seed_stays_the_same():
  parts = dataset.split(10, (0.4, 0.6), seed=0)
  # Recorded; the raw bits behind it are promised not to change.
  assert parts[0].tolist() == [1, 2, 3, 8]
  assert parts[0].dtype == np.int32
  other = dataset.split(10, (0.4, 0.6), seed=1)
  assert other[0].tolist() != parts[0].tolist()


@hypothesis.settings(deadline=None, max_examples=50, database=None)
@hypothesis.given(
  size=st.integers(20, 500),
  weights=st.lists(st.integers(1, 3), min_size=1, max_size=5),
  seed=st.integers(0, 2**32),
)
def test_split_parts_hold_every_index_once_and_sorted(size, weights, seed):
  fractions = [w / sum(weights) for w in weights]
  parts = dataset.split(size, fractions, seed=seed)
  assert len(parts) == len(fractions)
  together = np.concatenate(parts)
  assert sorted(together.tolist()) == list(range(size))
  for part, fraction in zip(parts, fractions, strict=True):
    assert (np.diff(part) > 0).all()
    assert abs(part.size - fraction * size) <= 1


@pytest.mark.parametrize(
  ("size", "fractions", "seed", "message"),
  [
    (3, (0.1, 0.9), 0, r"parts of \[0, 3\].*at least 1"),
    (0, (0.5, 0.5), 0, "0 examples"),
    (10, (), 0, "above 0"),
    (10, (0.0, 1.0), 0, "above 0"),
    (10, (1.5, -0.5), 0, "above 0"),
    (10, (float("nan"), 0.5), 0, "above 0"),
    (10, (0.4, 0.5), 0, "sum to 0.9"),
    (10, (40, 60), 0, "sum to 100"),
    (10, (0.5, 0.5), -1, "seed -1"),
    (10, (0.5, 0.5), 1.0, "seed 1.0"),
  ],
)
def test_split_refuses(size, fractions, seed, message):
  with pytest.raises(errors.InputError, match=message) as refusal:
    dataset.split(size, fractions, seed=seed)
  assert "\n" not in str(refusal.value)


def test_divide_takes_a_fifth_of_every_class():
  labels = np.repeat([0, 1, 2], [10, 26, 2])
  np.random.default_rng(0).shuffle(labels)
  divided = dataset.divide(np.arange(38), labels)
  (rest, _), (test, held_out) = divided.train, divided.test
  # 0.2 * 10 = 2; 0.2 * 26 = 5.2; 0.2 * 2 = 0.4, but at least 1.
  assert np.bincount(held_out).tolist() == [2, 5, 1]
  assert held_out.tolist() == labels[test].tolist()
  assert sorted([*rest, *test]) == list(range(38))
  assert (np.diff(rest) > 0).all()
  assert (np.diff(test) > 0).all()
  again = dataset.divide(np.arange(38), labels)
  assert again.test[0].tolist() == test.tolist()


def test_many_classes_are_divided_in_one_go():
  """As sets of faces have them: class by class it took minutes."""
  labels = np.random.default_rng(0).permutation(np.arange(200_000) % 50_000)
  part = dataset.held_out(labels)
  assert (np.bincount(labels[part]) == 1).all()


def test_the_only_example_of_a_class_may_be_held_out():
  labels = np.array([0, 1, 1, 1, 1])
  with pytest.raises(errors.InputError, match="class 0 has 1 example"):
    dataset.held_out(labels, 0.5)
  part = dataset.held_out(labels, 0.5, alone=True)
  assert np.bincount(labels[part]).tolist() == [1, 2]


def test_divide_leaves_at_least_one_of_every_class():
  divided = dataset.divide(np.arange(4), np.array([0, 0, 1, 1]))
  assert len(divided.train[0]) == len(divided.test[0]) == 2


def test_divide_refuses_a_class_of_one():
  with pytest.raises(errors.InputError, match="class 7 has 1 example"):
    dataset.divide(np.zeros(3), np.array([0, 0, 7]))


def test_moments_of_fashion_mnist_are_the_published_ones(shared_data):
  path = shared_data / "fashion_mnist" / "train-images-idx3-ubyte.gz"
  raw = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16)
  mean, std = dataset.moments(raw.reshape(60000, 28, 28))
  assert mean == pytest.approx([0.2860] * 3, abs=5e-5)
  assert std == pytest.approx([0.3530] * 3, abs=5e-5)


def _labelled(*labels):
  labels = np.array(labels)
  return np.zeros((len(labels), 4, 4, 3), np.uint8), labels


@pytest.mark.parametrize(("labels", "names"), [
  ((8, 0, 5), ("0", "5", "8")), ((-1, 1), ("-1", "1")),
  ((2**40, 3), ("3", str(2**40))), ((1, 2, 3), ("1", "2", "3"))])
def test_labels_are_renumbered_and_it_is_said(labels, names):
  train, test = _labelled(*labels, labels[0]), _labelled(labels[-1])
  with pytest.raises(errors.InputError, match="renumber") as e:
    dataset.make_dataset("mine", train, test, image_size=4)
  assert e.value.field == "renumber_labels"
  made = dataset.make_dataset(
    "mine", train, test, image_size=4, renumber_labels=True)
  assert made.class_names == names and made.num_classes == len(names)
  for found, part in ((made.train_labels, train), (made.test_labels, test)):
    assert [names[label] for label in found] == [*map(str, part[1])]
  assert made.notes[0].startswith(f"labels {', '.join(names)} are renumbered 0")


def test_labels_that_need_no_other_numbers_keep_them():
  made = dataset.make_dataset(
    "mine", _labelled(0, 2), _labelled(2), image_size=4, renumber_labels=True,
    class_names=("a", "b", "c"))
  assert made.train_labels.tolist() == [0, 2] and made.notes == (
    "labels 0, 2 keep their numbers, since 3 classes are named, of which 1 have"
    " no images",)
  made = dataset.make_dataset(
    "mine", _labelled(0, 1), _labelled(1), image_size=4, renumber_labels=True)
  assert made.notes == ()
  made = dataset.make_dataset(
    "mine", _labelled(1, 2, 3), _labelled(2), image_size=4,
    renumber_labels=True, class_names=("a", "b", "c"))
  assert made.class_names == ("a", "b", "c") and made.test_labels == [1]
  with pytest.raises(errors.InputError, match="2 different ones, and there"):
    dataset.make_dataset("mine", _labelled(1, 3), _labelled(3), image_size=4,
                         renumber_labels=True, class_names=("a", "b", "c"))


def test_labels_of_two_types_are_joined_as_whole_numbers():
  large = 2**53
  train, test = _labelled(*range(large, large + 4)), _labelled(large, large + 3)
  made = dataset.make_dataset(
    "mine", (train[0], train[1].astype(np.uint64)), test, image_size=4,
    renumber_labels=True)
  assert made.class_names == tuple(str(large + k) for k in range(4))
  assert made.test_labels.tolist() == [0, 3]


def test_classes_that_only_test_images_have_are_refused():
  with pytest.raises(errors.InputError, match="hold 4, which the training"):
    dataset.make_dataset("mine", _labelled(0, 3), _labelled(3, 4),
                         image_size=4, renumber_labels=True)


def test_the_largest_square_in_the_middle():
  images = _images(2, 4, 8, 3)
  found = dataset.resize_all(images, 4, "crop")
  np.testing.assert_array_equal(found, images[:, :, 2:6])
  made = dataset.make_dataset(
    "mine", (images, np.arange(2)), (images, np.arange(2)), image_size=4,
    resize="crop")
  np.testing.assert_array_equal(made.train_images, found)
  with pytest.raises(errors.InputError, match="choose one of stretch, crop"):
    dataset.make_dataset("mine", (images, np.arange(2)), (images, np.arange(2)),
                         resize="pad")


def test_classes_that_are_never_trained_are_said():
  images = np.zeros((4, 2, 2, 3), np.uint8)
  part = lambda *labels: (images, np.array(labels))
  made = data.make_dataset(
      "x", part(0, 1, 0, 1), part(0, 1, 2, 2), image_size=2)
  assert made.num_classes == 3
  assert made.notes == ("no training image is of the classes [2], which test"
                        " images are of",)
  assert data.make_dataset(
      "x", part(0, 1, 2, 1), part(0, 1, 0, 1), image_size=2).notes == ()


@pytest.mark.parametrize("names", [
    "ab", b"ab", 5, (c for c in "ab"), [None, None], ["a", ["b"]], [b"a", b"b"],
    [True, False]])
def test_names_that_are_no_list_of_texts_are_refused(names):
  with pytest.raises(errors.InputError, match="give a list of texts"):
    _make(class_names=names)


@pytest.mark.parametrize("value", ["no", 1, 0, None, np.True_])
def test_a_switch_is_true_or_false(value):
  for make in (_make, lambda **options: data.load("digits", **options)):
    with pytest.raises(errors.InputError, match="True or False") as refusal:
      make(renumber_labels=value)
    assert refusal.value.field == "renumber_labels"


@pytest.mark.parametrize("given", [None, {}, (4, True, 0), "flip"])
def test_an_augmentation_is_one(given):
  with pytest.raises(errors.InputError, match="give an Augmentation"):
    _make(augmentation=given)


def test_ragged_and_masked_arrays_are_refused():
  with pytest.raises(errors.InputError, match="of unlike shapes"):
    _make(images=[_images(8, 8, 3), _images(4, 8, 3)])
  with pytest.raises(errors.InputError, match="masked"):
    _make(labels=np.ma.masked_equal([0, 1, 0, 1], 1))


@pytest.mark.parametrize("count, fractions", [
    (10.0, (0.5, 0.5)), ("10", (0.5, 0.5)), (True, (1.0,)), (10, 0.5),
    (10, ("0.5", "0.5")), (10, None)])
def test_split_refuses_other_types(count, fractions):
  with pytest.raises(errors.InputError):
    data.split(count, fractions, seed=0)
  parts = data.split(10, np.array([0.5, 0.5]), seed=0)
  assert [part.size for part in parts] == [5, 5]
