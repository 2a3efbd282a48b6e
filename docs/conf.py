"""How the documentation is built: MyST Markdown, furo, equations as MathML; nothing is fetched from a network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

project = "netpaths"
author = "The netpaths authors"
copyright = "The netpaths authors"
release = version = "0.1.0"

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "discussion"]
html_theme = "furo"
html_title = "netpaths"
html_math_renderer = "mathml"
html_show_copyright = False
html_copy_source = False


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Render equations with docutils' own translator: browsers read MathML without any script."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
