"""Places in the pages that text points to by a number: where they are, and links to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform


class Pages:
    """The page of each target of one kind, by a key; Sphinx keeps them with the pages."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, env: BuildEnvironment) -> dict[str, str]:
        """Those that are known."""
        if not hasattr(env, self.kind):
            setattr(env, self.kind, {})
        found: dict[str, str] = getattr(env, self.kind)
        return found

    def forget(self, app: Sphinx, env: BuildEnvironment, page: str) -> None:
        """Forget the targets of a page that is read again."""
        for key in [key for key, home in self(env).items() if home == page]:
            del self(env)[key]


def mark(transform: SphinxTransform, node: nodes.Element, name: str, label: str) -> bool:
    """Make a target of a node; False where the page has one of this name already."""
    if name in transform.document.nameids:
        return False
    node["names"].append(name)
    transform.document.note_explicit_target(node)
    # What MyST finds the parts of other pages by.
    slugs = transform.env.metadata[transform.env.docname].setdefault("myst_slugs", {})
    slugs[name] = (node.line, name, label)
    return True


class LinkText(SphinxPostTransform):
    """Make links of names of targets in the text of a page."""

    default_priority = 5
    # Text that is no prose, or a link already.
    untouched: ClassVar[tuple[type[nodes.Node], ...]]

    def run(self, **kwargs: object) -> None:
        """Link the names on one page."""
        for text in list(self.document.findall(nodes.Text)):
            if not inside(text, self.untouched):
                text.parent.replace(text, list(self.parts(text)))

    def parts(self, text: nodes.Text) -> Iterator[nodes.Node]:
        """The pieces of a text, names as links."""
        raise NotImplementedError


def inside(node: nodes.Node, kinds: tuple[type[nodes.Node], ...]) -> bool:
    """Whether a node has one of these kinds above it."""
    while (node := node.parent) is not None:
        if isinstance(node, kinds):
            return True
    return False
