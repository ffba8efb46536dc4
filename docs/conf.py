"""How `make docs` builds the pages: read where they lie, so that links are those of GitHub.

The source folder is the repository's, not this one: `sphinx-build -c docs . docs/_build/html`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer

ROOT = Path(__file__).parents[1]

project = "retable"
author = "The retable contributors"
root_doc = "docs/index"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

include_patterns = ["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
include_patterns += ["docs/**.md", "slurm/README.md", "tests/README.md"]
# Named so that Sphinx does not walk through run folders and environments.
exclude_patterns = [
    path.name
    for path in ROOT.iterdir()
    if path.is_dir() and path.name not in {"docs", "slurm", "tests"}
]
exclude_patterns += ["docs/_build", "tests/*/**"]

myst_heading_anchors = 3  # those that GitHub makes
default_role = "py:obj"  # `name` in a docstring is code
smartquotes_action = "D"  # dashes alone: what is quoted is often typed

autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # fields have no text of their own, their class tells of them

html_theme = "furo"
html_title = "retable"
html_static_path = ["_static"]
html_css_files = ["retable.css"]
html_extra_path = ["_extra"]  # the address of the folder itself leads to the first page
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False


def contents(text: str) -> str:
    """Toctrees of the pages that a list of links names, one for each of its headings."""
    trees: list[str] = []
    for section in re.split(r"^##? ", text, flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        links = re.findall(r"\]\(([\w./-]+\.md)\)", body)
        if links:
            trees += ["```{toctree}", ":hidden:", f":caption: {heading}", "", *links, "```", ""]
    return "\n".join(trees)


def _with_contents(_app: Any, name: str, source: list[str]) -> None:
    if name in {root_doc, "docs/decisions/README"}:
        source[0] += "\n" + contents(source[0])


def _signature(
    _app: Any, kind: str, name: str, _obj: Any, _options: Any, signature: str | None, returns: Any
) -> tuple[str | None, Any]:
    """Nobody builds what functions return: it is told by its fields alone."""
    if kind == "class" and name.startswith("retable.tables."):
        return "", None
    return signature and signature.replace("<factory>", "..."), returns


def setup(app: Any) -> None:
    """Take the order of the pages from the lists of links that they are on GitHub."""
    app.connect("source-read", _with_contents)
    app.connect("autodoc-process-signature", _signature)
    app.add_lexer("mermaid", TextLexer)  # drawn on GitHub; elsewhere a script of another host's
