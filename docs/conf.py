"""Settings of sphinx, which makes the site of the pages (`make docs`).

The sources are the repository's: README is the front page, so that a page reads
alike there and on the site, and links between them hold in both.
"""

import natjax

project = "natjax"
version = release = natjax.__version__
root_doc = "README"
include_patterns = [
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**.md",
    "experiments/benchmarks/README.md", "experiments/results/**/README.md"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
default_role = "code"  # Of docstrings, which write `name` as Markdown does.
html_theme = "furo"
html_title = "natjax"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True  # Fields of a record stand in its description alone.
# What `natjax` offers stands at its home, too.
suppress_warnings = ["ref.python"]

PAGES = {
    "Use": ("first_steps", "transform", "search", "export", "several_hosts"),
    "Your own": ("own_data", "own_network", "own_operation", "add_a_method",
                 "add_a_space", "parts"),
    "Measured": ("results", "known_truth"),
    "Reference": ("reference/*",)}


def _add_contents(app, name, source):
  """Gives the front page the table of contents, which only the site needs."""
  if name != root_doc:
    return
  for caption, pages in PAGES.items():
    glob = ":glob:\n" if any("*" in page for page in pages) else ""
    source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n{glob}\n"
    source[0] += "".join(f"docs/{page}\n" for page in pages) + "```\n"


def setup(app):
  """Called by sphinx."""
  app.connect("source-read", _add_contents)
