"""Image classification sets: loading, dividing, augmenting.

Example:
  >>> from natjax import data
  >>> digits = data.load("digits", image_size=8)
  >>> digits.train_images.shape
  (1438, 8, 8, 3)
"""

from typing import TYPE_CHECKING

from natjax import _lazy
from natjax.data.dataset import Augmentation, Dataset, make_dataset, split
from natjax.data.sources import absent, load, LOADERS, names
from natjax.data.streamed import Absent, Streamed

if TYPE_CHECKING:
  from natjax.data.augmentation import crop_and_flip, cutout, normalize, prepare
  from natjax.data.views import check_views, two_views, TwoViews, Views

__all__ = ("LOADERS", "Absent", "Augmentation", "Dataset", "Streamed",
           "TwoViews", "Views", "absent", "check_views", "crop_and_flip",
           "cutout", "load", "make_dataset", "names", "normalize", "prepare",
           "split", "two_views")

# What needs jax.
__getattr__, __dir__ = _lazy.attach(__name__, {
    "augmentation": ("crop_and_flip", "cutout", "normalize", "prepare"),
    "views": ("TwoViews", "Views", "check_views", "two_views")})
