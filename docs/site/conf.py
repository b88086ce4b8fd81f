"""The site: what `make site` gives Sphinx. Its pages are gathered by tools/site.py from README, docs, records and figures."""

from html import escape

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

project, author, html_title = "Escaping collapse with weak data", "the boostlib authors", "Escaping collapse"
extensions, html_theme = ["myst_nb"], "sphinx_book_theme"
nb_execution_mode = "off"  # the pages are the records
nb_output_stderr = "remove"
myst_enable_extensions, myst_heading_anchors = ["dollarmath", "colon_fence"], 3
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header", "myst.xref_missing"]
html_math_renderer = "mathml"  # browsers read it: no script, no network
html_theme_options = {"show_navbar_depth": 1, "home_page_in_toc": True, "use_download_button": False}
html_context = {"default_mode": "auto"}
html_show_search_summary = False  # it fetches pages, which file:// forbids
html_copy_source = html_show_sourcelink = False


def setup(app) -> None:
    def visit(block: bool):
        def write(translator, node):
            try:
                shown = tex2mathml(node.astext(), as_block=block)
            except Exception:  # what docutils cannot set stays as it was written
                shown = f"<code>{escape(node.astext())}</code>"
            translator.body.append(shown)
            raise nodes.SkipNode

        return write, None

    app.add_html_math_renderer("mathml", visit(False), visit(True))
