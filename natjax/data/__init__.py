"""Image classification sets: loading, dividing, augmenting.

Example:
  >>> from natjax import data
  >>> digits = data.load("digits", image_size=8)
  >>> digits.train_images.shape
  (1438, 8, 8, 3)
"""

from natjax.data.augmentation import crop_and_flip
from natjax.data.augmentation import cutout
from natjax.data.augmentation import normalize
from natjax.data.augmentation import prepare
from natjax.data.dataset import Augmentation
from natjax.data.dataset import Dataset
from natjax.data.dataset import hold_out
from natjax.data.dataset import make_dataset
from natjax.data.dataset import split
from natjax.data.sources import load
from natjax.data.sources import LOADERS
from natjax.data.sources import names
from natjax.data.views import check_views
from natjax.data.views import two_views
from natjax.data.views import TwoViews
from natjax.data.views import Views

__all__ = (
    "LOADERS", "Augmentation", "Dataset", "TwoViews", "Views", "check_views",
    "crop_and_flip", "cutout", "hold_out", "load", "make_dataset", "names",
    "normalize", "prepare", "split", "two_views")
