"""Where natjax keeps on disk what it can make anew."""

import os
import pathlib

from natjax import errors


def folder() -> pathlib.Path:
  """$NATJAX_CACHE, else `natjax` in the user's cache folder.

  Raises:
    InputError: it is no path, or not in Unicode.
  """
  default = os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "natjax")
  with errors.naming("NATJAX_CACHE"):
    found = errors.path(
        os.environ.get("NATJAX_CACHE") or default).expanduser()
    errors.in_unicode(found)
  return found
