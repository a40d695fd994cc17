"""Where natjax keeps on disk what it can make anew."""

import os
import pathlib


def folder() -> pathlib.Path:
  """$NATJAX_CACHE, else `natjax` in the user's cache folder."""
  default = os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "natjax")
  return pathlib.Path(os.environ.get("NATJAX_CACHE") or default).expanduser()
