"""Sphinx configuration of the site; `build_site.py` puts this file beside the pages."""

from importlib.metadata import files, version

(mathjax,) = [
    str(file.locate())
    for file in files("sphinx-mathjax-offline") or []
    if file.match("static/mathjax/tex-svg.js")
]

project = "satclip-lib"
copyright = "the satclip-lib authors, MIT licence"
version = release = version("satclip-lib")
language = "en"
highlight_language = "none"  # of blocks that do not name theirs

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["extra"]

nb_execution_mode = "off"  # the notebooks were run by `make figures`
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]  # a richer form of an output that is shown as text

requests = [f"set_{step}_request" for step in ("fit", "predict", "score", "transform")]
autodoc_default_options = {
    "members": True,
    "ignore-module-all": True,  # what a package re-exports is described in its own module
    "show-inheritance": True,
    "exclude-members": ", ".join(requests),  # scikit-learn adds these to every estimator
}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True  # or attributes of dataclasses are described twice
python_maximum_signature_line_length = 80

# One file, with all glyphs, that works from file:// and asks no network for more.
mathjax_path = "tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}}

html_theme = "pydata_sphinx_theme"
html_title = "satclip-lib"
html_static_path = ["static", mathjax]
html_css_files = ["site.css"]
html_extra_path = ["extra"]
html_copy_source = False
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system has it
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
alone = (
    "index", "gallery", "results", "benchmarks", "faq", "locations", "data/*", "models",
    "regional", "cloud", "project/*",
)  # fmt: skip
html_sidebars = {page: [] for page in alone}  # nothing to list at the side
