"""Sphinx configuration."""

from __future__ import annotations

import sys
from pathlib import Path

import attngrad_rs

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "attngrad"
author = "attngrad contributors"
version = release = attngrad_rs.__version__
extensions = [
    "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc", "statements",
]  # fmt: skip
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "figures"]
numpydoc_show_class_members = False
autodoc_typehints = "none"
html_theme = "furo"
