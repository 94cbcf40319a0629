"""Definitions, lemmas and theorems of the pages: a place for each number that others point to.

A paragraph that begins with ``**Lemma 9.3**`` has the id ``lemma-9-3``: ``[Lemma
9.3](math.md#lemma-9-3)`` leads there from any page, and so does "Lemma 9.3" in the text of the page
itself. A number that is there twice is a warning.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.nodes import make_refnode
from targets import LinkText, Pages, mark

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from math_pointers import KINDS, NUMBER, STATEMENTS

logger = logging.getLogger(__name__)
HEAD = re.compile(rf"({KINDS}) ({NUMBER})")
# The page of each statement, by its id.
known = Pages("statements")


def anchor(kind: str, number: str) -> str:
    """The id of a statement."""
    return f"{kind.lower()}-{number.replace('.', '-')}"


class NumberStatements(SphinxTransform):
    """Make a target of each paragraph that begins with the name of a statement."""

    default_priority = 400

    def apply(self, **kwargs: object) -> None:
        """Mark the statements of one page."""
        for node in self.document.findall(nodes.paragraph):
            head = next((child for child in node.children if child.astext()), None)
            found = HEAD.fullmatch(head.astext()) if isinstance(head, nodes.strong) else None
            if not found:
                continue
            name = anchor(found[1], found[2])
            if mark(self, node, name, found[0]):
                known(self.env)[name] = self.env.docname
            else:
                logger.warning("found %s twice", found[0], location=node)


class LinkStatements(LinkText):
    """Make links of the names of statements in the text of their own page."""

    untouched = (nodes.literal, nodes.FixedTextElement, nodes.math, nodes.reference, nodes.title,
                 nodes.raw, nodes.strong, addnodes.pending_xref)  # fmt: skip

    def run(self, **kwargs: object) -> None:
        """Link the names on one page, if it has statements."""
        if self.env.docname in known(self.env).values():
            super().run(**kwargs)

    def parts(self, text: nodes.Text) -> Iterator[nodes.Node]:
        """The pieces of a text, numbers of statements as links."""
        end, here = 0, self.env.docname
        for found in STATEMENTS.finditer(text):
            for number in re.finditer(NUMBER, found["numbers"]):
                name = anchor(found["kind"], number[0])
                if known(self.env).get(name) != here:
                    continue
                start = found.start("numbers") + number.start()
                yield nodes.Text(text[end:start])
                end = found.start("numbers") + number.end()
                label = nodes.Text(number[0])
                yield make_refnode(self.app.builder, here, here, name, label)
        yield nodes.Text(text[end:])


def setup(app: Sphinx) -> dict[str, object]:
    """Register with Sphinx."""
    app.add_transform(NumberStatements)
    app.add_post_transform(LinkStatements)
    app.connect("env-purge-doc", known.forget)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
