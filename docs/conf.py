"""Sphinx configuration."""

from __future__ import annotations

import attngrad_rs

project = "attngrad"
author = "attngrad contributors"
version = release = attngrad_rs.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "figures"]
numpydoc_show_class_members = False
autodoc_typehints = "none"
html_theme = "furo"
