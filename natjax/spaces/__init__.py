"""Search spaces, one file each, and what a search makes of them.

`base` says what a space is, `transitions` which operation may become which,
`ground` puts a space at the places where its networks stand.
"""

from natjax.spaces.base import cells
from natjax.spaces.base import complete
from natjax.spaces.base import Space
from natjax.spaces.nat import get
from natjax.spaces.nat import own
from natjax.spaces.nat import space_for
from natjax.spaces.nat import SPACES

__all__ = ["SPACES", "Space", "cells", "complete", "get", "own", "space_for"]
