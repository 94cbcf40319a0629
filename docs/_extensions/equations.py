"""Equations: MathML made with the page, and a place for each number that others point to.

No script and no network is needed to read them. ``$$ ... \\tag{4}$$`` is shown with its number, and
has the id ``eq-4``. "Equation 4" in the text of any page leads there, and so does "(4)" on those
that `equation_links` of conf.py names. A number that two equations have is a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.nodes import make_refnode
from sphinx.writers.html5 import HTML5Translator
from targets import LinkText, Pages, mark

logger = logging.getLogger(__name__)
TAG = re.compile(r"\\tag\{([^{}]+)\}")
NUMBER = r"[A-Z]?\d+(?:\.\d+)*"
# "equation 4", "equations 4, 8.3 and 9".
NAMED = re.compile(rf"\bequations? {NUMBER}(?:(?:, | and | to ){NUMBER})*")
# A number in brackets that is no argument of a function: "(4)", "eq. (8.3)", but not "O(1)".
IN_BRACKETS = re.compile(rf"(?<![\w)\]])\(({NUMBER})\)")
# Browsers draw what stands for \widetilde at the width of the letters below it.
MACROS = {"widetilde": r"\overset{\sim}{#1}"}
# The page of each equation, by its number.
known = Pages("equations")
converter = LatexToMathML(macros=MACROS, annotation=True, fancy_error=False)


def anchor(tag: str) -> str:
    """The id of the equation with a number."""
    return "eq-" + tag.lower().replace(".", "-")


class NumberEquations(SphinxTransform):
    """Take the number out of each equation, and make a target of it."""

    default_priority = 400

    def apply(self, **kwargs: object) -> None:
        """Mark the equations of one page."""
        for node in self.document.findall(nodes.math_block):
            text = node.astext()
            if not (tag := TAG.search(text)):
                continue
            node["tag"] = tag[1]
            node.clear()
            node += nodes.Text(TAG.sub("", text).strip())
            name = anchor(tag[1])
            if mark(self, node, name, f"({tag[1]})"):
                known(self.env)[tag[1]] = self.env.docname
            else:
                logger.warning("found equation (%s) twice", tag[1], location=node, type="equations")


class LinkNumbers(LinkText):
    """Make links of the numbers of equations in text."""

    untouched = (
        nodes.literal, nodes.FixedTextElement, nodes.math, nodes.reference, nodes.title, nodes.raw,
        addnodes.desc_signature, addnodes.pending_xref,
    )  # fmt: skip

    def parts(self, text: nodes.Text) -> Iterator[nodes.Node]:
        """The pieces of a text, numbers as links."""
        end, here = 0, self.env.docname
        for start, stop, tag in sorted(self.numbers(text)):
            if start >= end and (page := known(self.env).get(tag)) is not None:
                label = nodes.Text(text[start:stop])
                yield nodes.Text(text[end:start])
                yield make_refnode(self.app.builder, here, page, anchor(tag), label)
                end = stop
        yield nodes.Text(text[end:])

    def numbers(self, text: str) -> Iterator[tuple[int, int, str]]:
        """The numbers of equations in a text, and where they are."""
        for named in NAMED.finditer(text):
            for one in re.finditer(NUMBER, named[0]):
                start, stop = one.span()
                yield named.start() + start, named.start() + stop, one[0]
        if self.env.docname.startswith(tuple(self.config.equation_links)):
            for found in IN_BRACKETS.finditer(text):
                yield *found.span(), found[1]


def mathml(node: nodes.Element, block: bool) -> str:
    """A formula as MathML; one that cannot be read is a warning, and shown as it was written."""
    try:
        return converter.convert_with_local_state(node.astext(), displaystyle=block)
    except LatexError as error:
        logger.warning("formula %r: %s", node.astext(), error, location=node)
        return f"<code>{nodes.unescape(node.astext())}</code>"


def visit_inline(writer: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line."""
    writer.body.append(mathml(node, block=False))
    raise nodes.SkipNode


def visit_block(writer: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula with a line of its own, and its number beside it."""
    name = "".join(node["ids"][:1])
    number = ""
    if tag := node.get("tag"):
        number = f'<a class="number" href="#{name}" title="Link to this equation">({tag})</a>'
    start = writer.starttag(node, "div", "", CLASS="equation", role="group")
    writer.body.append(
        f'{start}<div class="formula">{mathml(node, block=True)}</div>{number}</div>'
    )
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, object]:
    """Register with Sphinx."""
    app.add_config_value("equation_links", [], "env", types=list)
    app.add_transform(NumberEquations)
    app.add_post_transform(LinkNumbers)
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("env-purge-doc", known.forget)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
