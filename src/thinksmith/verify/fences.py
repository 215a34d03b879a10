"""Fenced blocks of an answer in Markdown, for kinds whose answers are code or data."""

from __future__ import annotations

import re

# Possessive (`*+`): nothing is ever given back, so a line is read once, however it is made.
_FENCE = re.compile(
    r"^(?P<indent>[ \t]*+)(?P<fence>`{3,}+|~{3,}+)[ \t]*+(?P<language>[\w+#.-]*+)[^\n`]*+$", re.MULTILINE
)


def fenced(text: str) -> list[tuple[str, str]]:
    """(language in lower case, contents) of every fenced block, in order. Linear in the length of the text.

    A block that is never closed goes on to the end: models leave the last fence open, and what was cut off by length is
    `truncated` before anybody looks at its blocks.
    """
    blocks: list[tuple[str, str]] = []
    opening: re.Match[str] | None = None
    for match in _FENCE.finditer(text):
        if opening is None:
            opening = match
        elif match["fence"].startswith(opening["fence"]) and not match["language"]:
            blocks.append((opening["language"].lower(), _inside(text, opening, match.start())))
            opening = None
    if opening is not None:
        blocks.append((opening["language"].lower(), _inside(text, opening, len(text))))
    return blocks


def _inside(text: str, opening: re.Match[str], end: int) -> str:
    """A block's lines, without the indentation that its fence has (a block in a list)."""
    lines = text[opening.end() + 1 : end].split("\n")
    indent = opening["indent"]
    return "\n".join(line.removeprefix(indent) for line in lines) if indent else "\n".join(lines)
