"""Settings of sphinx, which makes the site of the pages (`make docs`).

The sources are the repository's: README is the front page, so that a page reads
alike there and on the site, and links between them hold in both.
"""

import re

import natjax

project = "natjax"
version = release = natjax.__version__
root_doc = "README"
include_patterns = [
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**.md",
    "experiments/benchmarks/README.md", "experiments/results/**/README.md"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
default_role = "code"  # What a docstring names over two lines.
html_theme = "furo"
html_title = "natjax"
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True  # Fields of a record stand in its description alone.
# What `natjax` offers stands at its home, too.
suppress_warnings = ["ref.python"]

# Pages under captions; a page may have others beneath it.
PAGES = {
    "Use": ("docs/first_steps", "docs/transform", "docs/search", "docs/export",
            "docs/several_hosts"),
    "Your own": ("docs/own_data", "docs/own_network", "docs/own_operation",
                 "docs/add_a_method", "docs/add_a_space", "docs/parts"),
    "Measured": ("docs/results", "docs/known_truth",
                 "experiments/benchmarks/README"),
    "Reference": ("docs/reference/natjax", "docs/reference/*"),
    "About": ("CONTRIBUTING", "CHANGELOG")}
BENEATH = {"docs/results": ("experiments/results/*/README",)}
SECTIONS = ("Args:", "Attributes:", "Example:", "Examples:", "Raises:",
            "Returns:", "Yields:")


def add_contents(app, name, source):
  """Adds the tables of contents, which only the site needs."""
  trees = PAGES if name == root_doc else (
      {"Records": BENEATH[name]} if name in BENEATH else {})
  for caption, pages in trees.items():
    lines = "".join(f"/{page}\n" for page in pages)
    source[0] += (f"\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {caption}\n\n"
                  f"{lines}```\n")


def write_markup(app, what, name, item, options, lines):
  """Rewrites a docstring's lists and names as sphinx reads them, in place.

  Lines that are indented below a line of text are the items of a list; what is
  indented more goes on with an item. After "::" lines are left as they are, and
  so are the sections of arguments. A name is `such`, maybe in `such`es.
  """
  found, alone, bullets, depth = [], False, False, 0
  for line in lines:
    text, indent = line.strip(), len(line) - len(line.lstrip())
    if text and not indent:
      alone = text in SECTIONS or text.endswith("::")
      if depth or bullets != text.startswith("- "):
        found.append("")
      bullets, depth = text.startswith("- "), 0
    elif text and not alone and not bullets:
      if not depth:
        found.append("")
        depth, alone = indent, text.startswith(">>>")
      if not alone:
        line = f"{'- ' if indent == depth else '  '}{text}"
    if line.count("`") % 2 == 0:  # No name goes on in the next line.
      line = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``\\ ", line)
    found.append(line)
  lines[:] = found


def setup(app):
  """Called by sphinx."""
  app.connect("source-read", add_contents)
  # Before napoleon, which comes at 500.
  app.connect("autodoc-process-docstring", write_markup, priority=400)
