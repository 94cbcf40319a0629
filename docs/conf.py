"""Configuration of Sphinx. ``nox -s docs`` builds the pages and checks their links."""

from __future__ import annotations

import inspect
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import numpy.typing as npt
import typer
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.typing import stringify_annotation
from typer.cli import get_docs_for_click

import attngrad_rs
from attngrad_rs._inputs.arrays import Array
from attngrad_rs._inputs.options import HeadOptions, ProblemOptions
from attngrad_rs.cli.commands import app as commands

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

logger = logging.getLogger(__name__)

project = "attngrad"
author = "attngrad contributors"
version = release = attngrad_rs.__version__
extensions = [
    "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.intersphinx",
    "numpydoc", "equations", "statements",
]  # fmt: skip
# The front-ends for these are described without them; that for JAX without its primitives.
autodoc_mock_imports = ["attngrad_rs.jax._primitives", "dask", "jax", "torch"]
exclude_patterns = ["_build", "_inventories", "figures", "data"]
# A reference that leads nowhere is a warning, and a warning is an error.
nitpicky = True
# Types of torch, of which there is no list; variables for types; names under which nobody asks for
# a class: those of the core, and of the module that Python keeps it in.
nitpick_ignore = [
    ("py:class", name)
    for name in (
        *("Tensor", "torch.nn.Module"),
        *("attngrad_rs.partial._frame.C", "attngrad_rs.partial._fold.S"),
        *("attngrad_rs._core.Frame", "attngrad_rs._core.SoftmaxState"),
        "concurrent.futures._base.Executor",
    )
]

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
html_math_renderer = "mathml"
equation_links = ["math", "api/"]

# The names of other projects that signatures hold: a list beside this file, so that no build needs
# a network. Links lead to the pages of those projects.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", "_inventories/python.inv"),
    "numpy": ("https://numpy.org/doc/stable", "_inventories/numpy.inv"),
}

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
numpydoc_show_class_members = False
autosummary_generate = False

html_theme = "furo"
html_title = "attngrad"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
# Quotes and dots, but no dashes: options of commands begin with two.
smartquotes_action = "qe"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072b2", "color-brand-content": "#0072b2"},
    "dark_css_variables": {"color-brand-primary": "#56b4e9", "color-brand-content": "#56b4e9"},
}

# Functions with one signature for each kind of argument, for type checkers. A reader wants the one
# that has every option.
OVERLOADED = ("attngrad_rs.problem", "attngrad_rs.attention", "attngrad_rs.derivatives")
# Types that stand for long ones, and the names that a reader knows them by.
SHORT_TYPES = {
    stringify_annotation(npt.ArrayLike, "smart"): "~numpy.typing.ArrayLike",
    stringify_annotation(npt.DTypeLike, "smart"): "~numpy.typing.DTypeLike",
    stringify_annotation(Array, "smart"): "~numpy.ndarray",
    "~numpy.random._generator.Generator": "~numpy.random.Generator",
}
# The precision of an array, which is the caller's choice, and letters of generic classes.
PRECISION = re.compile(
    r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[[^\[\]]*\]\]"
)
# Modules whose names all have a place in the reference.
PUBLIC = (
    "attngrad_rs", "attngrad_rs.dask", "attngrad_rs.errors", "attngrad_rs.experiments",
    "attngrad_rs.heads", "attngrad_rs.jax", "attngrad_rs.polynomials", "attngrad_rs.reference",
    "attngrad_rs.torch",
)  # fmt: skip
# The name that brackets with axes and precision follow.
ARRAY = "numpy.ndarray"
COMMANDS = "<!-- every command -->"
# Examples end with an empty line, or doctest would take the fence for output.
EXAMPLE = re.compile(r"(^```pycon\n.*?)\n+^```$", re.DOTALL | re.MULTILINE)


def one_signature(app: Sphinx) -> None:
    """Show functions by the signature of what runs."""
    for module in OVERLOADED:
        analyzer = ModuleAnalyzer.for_module(module)
        analyzer.analyze()
        analyzer.overloads.clear()
    # The library leaves the types of options unread, so as not to import what they name.
    options = get_type_hints(ProblemOptions) | get_type_hints(HeadOptions)
    for function in vars(attngrad_rs).values():
        if hasattr(function, "__signature__"):
            shown = inspect.signature(function).parameters
            function.__annotations__ |= {name: options[name] for name in shown if name in options}


def short_types(
    app: Sphinx, what: str, name: str, found: object, options: object, given: str | None,
    returned: str | None,
) -> tuple[str, str] | None:  # fmt: skip
    """The signature with short names of types."""
    # An attribute has none, and a type only.
    if not given:
        return None
    return shortened(given), shortened(returned or "")


def shortened(text: str) -> str:
    """A part of a signature with short names of types."""
    for long, short in SHORT_TYPES.items():
        text = text.replace(long, short)
    return PRECISION.sub("~numpy.ndarray", text)


def short_array_types(app: Sphinx, domain: str, kind: str, content: addnodes.desc_content) -> None:
    """The types of properties and attributes, with arrays without their axes and precision."""
    for signature in content.parent.findall(addnodes.desc_signature):
        for annotation in signature.findall(addnodes.desc_annotation):
            kept: list[nodes.Node] = []
            depth, follows_array = 0, False
            for node in annotation.children:
                opens, closes = node.astext() == "[", node.astext() == "]"
                if depth or (follows_array and opens):
                    depth += opens - closes
                else:
                    kept.append(node)
                    follows_array = getattr(node, "attributes", {}).get("reftarget") == ARRAY
            annotation.children = kept


def every_command(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the help of every command where a page asks for it."""
    if COMMANDS in source[0]:
        command = typer.main.get_command(commands)
        context = typer.Context(command, info_name="attngrad")
        text = get_docs_for_click(obj=command, ctx=context, name="attngrad", indent=1)
        # The first part lists the commands, which the page itself does.
        source[0] = source[0].replace(COMMANDS, "### " + text.partition("\n### ")[2])


def trim_examples(app: Sphinx, page: str, source: list[str]) -> None:
    """Leave the empty lines at the end of examples out."""
    source[0] = EXAMPLE.sub(r"\1\n```", source[0])


def every_name(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of public names that are on no page."""
    shown = set(env.domains.python_domain.objects)
    for module in map(import_module, PUBLIC):
        for name in set(module.__all__) - {"__version__"}:
            home = getattr(getattr(module, name), "__module__", None)
            if shown.isdisjoint((f"{module.__name__}.{name}", f"{home}.{name}")):
                logger.warning("found no place for %s.%s on the pages", module.__name__, name)


def setup(app: Sphinx) -> None:
    """Register what stands above."""
    app.connect("builder-inited", one_signature)
    app.connect("autodoc-process-signature", short_types)
    app.connect("env-check-consistency", every_name)
    app.connect("object-description-transform", short_array_types)
    app.connect("source-read", every_command)
    app.connect("source-read", trim_examples)
