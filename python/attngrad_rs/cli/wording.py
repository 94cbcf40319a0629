"""Messages of the library in the words of the command line: ``--rtol``, not ``rtol=``."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Options whose flag is not their name in the library.
RENAMED = {"rng": "seed", "is_causal": "causal", "heads": "head"}
# What the library asks of a call, and what that is for a file and a command. Patterns are tried in
# turn, after the names of options have become flags.
PHRASES = (
    (r"pass X=\(W_Q, W_K\)", "give W_Q and W_K in the file"),
    (r"pass X = W_Q @ W_K\.T", "give X = W_Q W_Kᵀ in the file"),
    (r"are not one object; pass the same array three times", "are not equal; make them so"),
    (r"a numpy\.random\.Generator or None", "or nothing"),
    (r"\bfound None\b", "found nothing"),
    (r"\bor None\b", "or nothing"),
    (r"\ballow_half=True\b", "float16 in the file"),
)


def spoken(message: str, flags: Mapping[str, str]) -> str:
    """A message with options as flags; ``flags`` maps names of options to them."""
    known = {**flags, **{name: flags[own] for name, own in RENAMED.items() if own in flags}}
    if known:
        names = "|".join(sorted(known, key=len, reverse=True))
        # name='auto', name=None, name=True, name=0.1, name=
        message = re.sub(
            rf"(?<![\w'\"/.-])({names})=(?:'([^']*)'|([\w.+-]*\w))?",
            lambda match: _given(known[match[1]], match[2] or match[3] or ""),
            message,
        )
        # "name: found", "name >= 0.1", "name > 0"
        message = re.sub(
            rf"(?<![\w'\"/.-])({names})(?=:| [<>]=? )", lambda match: known[match[1]], message
        )
    for pattern, words in PHRASES:
        message = re.sub(pattern, words, message)
    return message


def _given(flag: str, value: str) -> str:
    if value == "None":
        return f"no {flag}"
    return flag if value in ("", "True") else f"{flag} {value}"
