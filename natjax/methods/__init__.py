"""Methods, one file each, named after it; `METHODS` holds their entries.

They are imported when they are asked for; `listed` says what they are called.
"""

from typing import TYPE_CHECKING

from natjax import _lazy

if TYPE_CHECKING:
  from natjax.methods.known import METHODS as METHODS

__all__ = ("METHODS",)

__getattr__, __dir__ = _lazy.attach(__name__, {"known": ("METHODS",)})
