"""What a docstring says of a function and of its parameters."""

from __future__ import annotations

import re
from collections.abc import Collection

_SECTION = re.compile(r"(?:Args|Arguments|Parameters|Params)\s*:?\s*")
_REST = re.compile(r":param\s+(?:[^:]*\s)?\**(?P<name>\w+)\s*:\s*(?P<text>.*)")
_PLAIN = re.compile(r"(?:[-*]\s+)?[`*]*(?P<name>\w+)[`*]*\s*(?:\([^)]*\))?\s*:\s+(?P<text>\S.*)")
_OTHER = re.compile(r":\w+[^:]*:.*|[A-Z]\w+:")  # `:returns: …`, `Returns:`

LONGEST = 4000  # characters of a description


def described(docstring: str, names: Collection[str]) -> tuple[str, dict[str, str]]:
    """(what the function does, what each of its parameters is). The first paragraph says what it does; a parameter is
    described by a line `name: text` (plain, or below `Args:`) or `:param name: text`, and the deeper lines below it."""
    told: dict[str, list[str]] = {}
    about: list[str] = []
    current, depth, opened = "", 0, True  # `opened`: still in the first paragraph
    for line in docstring.expandtabs().split("\n"):
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        found = _REST.fullmatch(text) or _PLAIN.fullmatch(text)
        if found and found["name"] in names and found["name"] not in told:
            current, depth, opened = found["name"], indent, False
            told[current] = [found["text"]]
        elif current and text and indent > depth:
            told[current].append(text)
        elif not text or _SECTION.fullmatch(text) or _OTHER.fullmatch(text):
            current, opened = "", opened and not about and not text
        elif opened:
            about.append(text)
    return " ".join(about)[:LONGEST], {name: " ".join(filter(None, lines))[:LONGEST] for name, lines in told.items()}
