"""Which files of a Rust crate use items of which others, and in what order they stand.

A name is followed to the file that defines it: a re-export of a parent module neither hides an
arrow nor makes one. Code that only tests see (``#[cfg(test)]``) does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

# Comments, strings and characters; a lifetime is no character.
_OPAQUE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(?P<hashes>\#*)".*?"(?P=hashes)|b?"(?:\\.|[^"\\])*"|b?'(?:\\[^']+|[^'\\])'""",
    re.DOTALL,
)
_TESTS_ONLY = re.compile(r"#\[cfg\(test\)\]")
_ATTRIBUTE = re.compile(r"\s*#\[")
_MODULE_FILE = re.compile(r"\bmod\s+(\w+)\s*;")
_INLINE_MODULE = re.compile(r"\bmod\s+(\$?\w+)\s*\{")
_USE = re.compile(r"(?P<shown>\bpub(?:\([^)]*\))?\s+)?\buse\s+(?P<tree>[^;]+);")
_PATH = re.compile(r"(?<![\w:$])(\$?\w+(?:\s*::\s*\w+)+)")
_FUNCTION = re.compile(r"\bfn\s+(\w+)")
_ITEM = re.compile(
    r"\b(?:struct|enum|union|trait|type|const|static|macro_rules!)\s+(?:mut\s+)?(\w+)"
)
# A name behind `::` is an item of what stands before it, which _PATH follows.
_WORD = re.compile(r"(?<!::)\b\w+")
# No path was followed yet.
_NONE: frozenset[object] = frozenset()


def matching(text: str, start: int) -> int:
    """The position behind the bracket that closes the one at `start`."""
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] in "([{") - (text[at] in ")]}")
        if depth == 0:
            return at + 1
    return len(text)


def blank(text: str) -> str:
    """As many blanks, lines kept."""
    return re.sub(r"[^\n]", " ", text)


def without_tests(text: str) -> str:
    """The code alone: comments, strings and what only tests see are blank."""
    text = _OPAQUE.sub(lambda found: blank(found[0]), text)
    while found := _TESTS_ONLY.search(text):
        end = found.end()
        while attribute := _ATTRIBUTE.match(text, end):
            end = matching(text, attribute.end() - 1)
        # It ends with the first brace that closes, or a semicolon or comma outside of brackets.
        while end < len(text) and text[end] not in ";,}":
            if text[end] in "([{":
                is_body, end = text[end] == "{", matching(text, end)
                if is_body:
                    break
            else:
                end += 1
        else:
            end += end < len(text) and text[end] != "}"
        text = text[: found.start()] + blank(text[found.start() : end]) + text[end:]
    return text


def use_tree(tree: str) -> Iterator[tuple[list[str], str]]:
    """The paths of a use declaration, and the name that each is bound to: ``*`` for a glob."""
    tree = tree.strip()
    head, brace, rest = tree.partition("{")
    if brace:
        depth, part = 0, ""
        for character in rest[: rest.rindex("}")]:
            depth += (character == "{") - (character == "}")
            if character == "," and depth == 0:
                yield from use_tree(head + part)
                part = ""
            else:
                part += character
        if part.strip():
            yield from use_tree(head + part)
        return
    path, _, alias = (one.strip() for one in tree.partition(" as "))
    names = [name.strip() for name in path.split("::") if name.strip()]
    if names[-1] == "self":
        names.pop()
    yield names, alias or names[-1]


@dataclass
class Module:
    """A module: what it defines, what it has from elsewhere, and the paths that it uses."""

    file: str
    items: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    uses: dict[str, list[str]] = field(default_factory=dict)
    shown: set[str] = field(default_factory=set)
    globs: list[list[str]] = field(default_factory=list)
    paths: list[list[str]] = field(default_factory=list)
    words: set[str] = field(default_factory=set)


def module_path(name: str) -> tuple[str, ...]:
    """The module of a file, from its path below the crate's root."""
    parts = name.removesuffix(".rs").split("/")
    if parts[-1] in ("mod", "lib"):
        parts.pop()
    return tuple(parts)


def inline_modules(text: str, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """A module's own code, and that of the modules that stand in it."""
    while found := _INLINE_MODULE.search(text):
        end = matching(text, found.end() - 1)
        yield from inline_modules(text[found.end() : end - 1], (*path, found[1]))
        text = text[: found.start()] + blank(text[found.start() : end]) + text[end:]
    yield path, text


def modules_of(sources: Mapping[str, str]) -> dict[tuple[str, ...], Module]:
    """Every module of a crate, from the paths of its files below the root and their texts."""
    modules: dict[tuple[str, ...], Module] = {}
    for name, source in declared(sources).items():
        for path, text in inline_modules(source, module_path(name)):
            module = modules.setdefault(path, Module(name))
            for found in _USE.finditer(text):
                for names, bound in use_tree(found["tree"]):
                    if bound == "*" and names[0] in ("crate", "self", "super"):
                        module.globs.append(names[:-1])
                    elif bound == "*":
                        continue  # Of another crate.
                    else:
                        module.uses[bound] = names
                        if found["shown"]:
                            module.shown.add(bound)
            code = _USE.sub(lambda found: blank(found[0]), text)
            module.items |= set(_ITEM.findall(code))
            module.functions |= set(_FUNCTION.findall(code))
            module.paths += [re.split(r"\s*::\s*", path) for path in _PATH.findall(code)]
            module.words |= set(_WORD.findall(code))
    return modules


def declared(sources: Mapping[str, str]) -> dict[str, str]:
    """The files that are compiled without tests, from the module declarations that reach them."""
    texts = {module_path(name): (name, without_tests(text)) for name, text in sources.items()}
    found: dict[str, str] = {}
    left: list[tuple[str, ...]] = [()]
    while left:
        path = left.pop()
        if path in texts:
            name, text = texts[path]
            found[name] = text
            left += [(*path, child) for child in _MODULE_FILE.findall(text)]
    return found


class Crate:
    """The modules of a crate, and where a path leads."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        """Read the texts of all files, by their paths below the crate's root."""
        self.modules = modules_of(sources)

    def resolve(
        self,
        module: tuple[str, ...],
        names: Sequence[str],
        seen: frozenset[object] = _NONE,
        is_guess: bool = False,
    ) -> Module | str | None:
        """A module or the file of an item, by a path in a module; None for what is foreign."""
        if (module, tuple(names)) in seen:
            return None
        seen |= {(module, tuple(names))}
        at, rest = module, list(names)
        if rest[0] in ("crate", "$crate"):
            at, rest = (), rest[1:]
        while rest and rest[0] in ("self", "super"):
            at, rest = (at[:-1] if rest[0] == "super" else at), rest[1:]
        while rest:
            here, name = self.modules.get(at), rest[0]
            if here is None:
                return None
            # A function may share its name with a module, and no path goes on behind it.
            is_last = len(rest) == 1
            if name in here.items or (is_last and name in here.functions):
                return here.file
            if (*at, name) in self.modules:
                at, rest = (*at, name), rest[1:]
            elif name in here.uses:
                return self.resolve(at, [*here.uses[name], *rest[1:]], seen)
            else:
                # A name that no text defines was made by a macro, where it is more than a guess.
                through = (self.resolve(at, [*glob, *rest], seen, True) for glob in here.globs)
                made = here.file if at != module and not is_guess else None
                return next((found for found in through if found is not None), made)
        return self.modules.get(at)

    def graph(self) -> dict[str, set[str]]:
        """The files whose items each file uses."""
        graph: dict[str, set[str]] = {module.file: set() for module in self.modules.values()}
        for path, module in self.modules.items():
            used = [*module.paths, *([name] for name in module.uses if self.is_used(module, name))]
            for names in used:
                found = self.resolve(path, names)
                # A module by itself is a way to its items, which are resolved where they are named.
                if isinstance(found, str) and found != module.file:
                    graph[module.file].add(found)
        return graph

    @staticmethod
    def is_used(module: Module, name: str) -> bool:
        """Whether an import is used here: one that is shown to others may only be passed on."""
        return name not in module.shown or name in module.words


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected parts of more than one file (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            part = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(part) > 1:
                found.append(sorted(part))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def upward(
    graph: Mapping[str, set[str]], layers: Sequence[Sequence[str]]
) -> Iterator[tuple[str, str | None]]:
    """Arrows from a file to a higher layer, and files of no layer with None.

    A layer is a list of the names that stand at the crate's root, the lowest first.
    """
    height = {name: at for at, layer in enumerate(layers) for name in layer}
    for name, used in sorted(graph.items()):
        at = height.get(root_name(name))
        if at is None:
            yield name, None
            continue
        for other in sorted(used):
            if height.get(root_name(other), 0) > at:
                yield name, other


def root_name(name: str) -> str:
    """What a file belongs to at the crate's root."""
    return name.partition("/")[0].removesuffix(".rs")
