"""The site: the notebooks as they are committed, and a reference from the docstrings.

`make site` copies this folder, the notebooks and the deviations into one, which Sphinx reads.
"""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

import remi
from remi.paper import prose

project, author, copyright = "remi", "the remi developers", "2026, the remi developers"  # noqa: A001
release = remi.__version__
extensions = ["myst_nb", "sphinx.ext.apidoc", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["figures"]  # copied for the pictures that notebooks show
default_role = "literal"
suppress_warnings = ["ref.python"]  # napoleon takes "(runs,) mean value: ..." for a type

nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "gfm"  # tables in what a cell shows, too
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

apidoc_modules = [{"path": "../remi", "destination": "reference", "separate_modules": True, "module_first": True}]
autodoc_default_options = {"members": True, "member-order": "bysource", "ignore-module-all": True}
autodoc_typehints = "none"
autodoc_preserve_defaults = True

highlight_language = "none"
html_theme = "furo"
html_title = "remi"
html_math_renderer = "mathml"
html_copy_source = html_show_sourcelink = html_show_sphinx = False
html_show_search_summary = False  # excerpts would be fetched, which a browser refuses from disk
html_static_path = ["static", "../remi/paper/templates/mathematics.woff"]
html_css_files = ["site.css"]


def formula(display: bool) -> tuple[Any, None]:
    """The renderer of the report, so that a formula needs no script here either."""

    def visit(translator: Any, node: nodes.Element) -> None:
        shown = prose.mathematics(node.astext().strip(), display=display)
        translator.body.append(f'<div class="formula">{shown}</div>' if display else shown)
        raise nodes.SkipNode

    return visit, None


def readable(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings as they are written, for docutils: formulas stand indented, and no sign of them is markup."""
    found, literal, section = [], False, False
    for before, line in zip(["", *lines], lines, strict=False):
        section |= bool(re.fullmatch(r"(Args|Returns|Raises|Source|Yields):.*", line))
        if line.startswith("    ") and not before and not section and not literal:
            found += ["::", ""]
            literal = True
        literal &= line.startswith("    ") or not line
        if not literal:
            parts = re.split(r"(`[^`]*`)", line)
            line = "".join(
                re.sub(r"((?<!^)\*|[|\\]|_(?!\w))", r"\\\1", part) if k % 2 == 0 else part for k, part in enumerate(parts)
            )
        found.append(line)
    lines[:] = [] if found[:1] and found[0].startswith("Alias for field") else found


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", formula(False), formula(True))
    app.connect("autodoc-process-docstring", readable, priority=400)
