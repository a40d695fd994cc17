"""Image classification sets: loading, dividing, augmenting.

Example:
  >>> from natjax import data
  >>> digits = data.load("digits", image_size=8)
  >>> digits.train_images.shape
  (1438, 8, 8, 3)
"""

from natjax.data.augmentation import crop_and_flip, cutout, normalize, prepare
from natjax.data.dataset import Augmentation, Dataset, make_dataset, split
from natjax.data.sources import absent, load, LOADERS, names
from natjax.data.streamed import Absent, Streamed
from natjax.data.views import check_views, two_views, TwoViews, Views

__all__ = ("LOADERS", "Absent", "Augmentation", "Dataset", "Streamed",
           "TwoViews", "Views", "absent", "check_views", "crop_and_flip",
           "cutout", "load", "make_dataset", "names", "normalize", "prepare",
           "split", "two_views")
