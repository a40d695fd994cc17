"""Search spaces, one file each."""

from natjax.spaces.blocks import BlockSpace
from natjax.spaces.nat import get
from natjax.spaces.nat import SearchSpace
from natjax.spaces.nat import space_for
from natjax.spaces.nat import SPACES

__all__ = ["SPACES", "BlockSpace", "SearchSpace", "get", "space_for"]
