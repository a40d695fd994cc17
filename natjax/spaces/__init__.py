"""Search spaces, one file each, and what a search makes of them.

`base` says what a space is, `transitions` which operation may become which,
`ground` puts a space at the places where its networks stand.
"""

from natjax.spaces.base import cells, complete, Space
from natjax.spaces.nat import get, own, space_for, SPACES

__all__ = ["SPACES", "Space", "cells", "complete", "get", "own", "space_for"]
