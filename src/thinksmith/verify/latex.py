"""LaTeX and Markdown dressing off: what stays is the answer as plainly as it can be written without reading it."""

from __future__ import annotations

import re

MAX_ANSWER = 4_000
"""Characters of an answer that any verifier looks at; more is no final answer."""

_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|textnormal|mbox|mathrm|mathbf|mathit|operatorname|underline|boxed|fbox)\s*\{([^{}]*)\}"
)
_SPACES = re.compile(r"(?<!\\)\\[,;:> ]|\\q?quad(?![a-zA-Z])|~|[\u00a0\u2000-\u200a\u202f]")
_EXCLAIMED = re.compile(r"((?<![\\a-zA-Z])[a-zA-Z]{3,})!+$")
"""A word with an exclamation mark. Behind anything else it is a factorial: `5!` is not 5."""
_THOUSANDS = re.compile(r"(?<![\d.\\])\d{1,3}(?:\\,\d{3})+(?!\d)")
r"""`1\,234\,567`: thin spaces between the thousands of one number."""
_ENDLESS = re.compile(r"[\d,}]\s?\.\.+$")
"""`0.3...` and `1, 2, ...`, whose dots say that it goes on."""
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![a-zA-Z])|°")


def plain(text: str) -> str:
    """`text` without maths delimiters, emphasis, sizes, spacing commands and text macros (their contents stay).

    Idempotent on what it returns. Linear in the length of the text, apart from nesting of text macros (at most 5 deep).
    """
    text = undress(text.replace("\x00", "\ufffd"))
    text = re.sub(
        r"\\(?:(?:left|right|displaystyle|limits|bf|[bB]igg?[lr]?)(?![a-zA-Z])|(?:text)?color\{[a-z]{1,20}\})", "", text
    )
    text = re.sub(r"\\!\s*", "", text.replace("{,}", ",").replace("{:}", ":")).replace(r"\$", "$").replace(r"\%", "%")
    text = _THOUSANDS.sub(lambda match: match.group().replace(r"\,", ""), text)
    text = _SPACES.sub(" ", text)
    for _ in range(5):
        text, changed = _TEXT.subn(r" \1 ", text)
        if not changed:
            break
    text = re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", text)
    text = _DEGREES.sub("°", text)
    return undress(re.sub(r"\s+", " ", text))


def undress(text: str) -> str:
    """Without what stands around: white space, `$…$`, `\\(…\\)`, `\\[…\\]`, `**…**`, backticks, quotes, a full stop."""
    for _ in range(8):
        before = text
        text = text.strip()
        if not _ENDLESS.search(text):
            text = re.sub(r"(?<!\\)\\$", "", text.rstrip(".,;")).strip()  # of a last `\,` the backslash is left
        text = _EXCLAIMED.sub(r"\1", text)
        for opening, closing in (
            ("$$", "$$"),
            ("$", "$"),
            (r"\(", r"\)"),
            (r"\[", r"\]"),
            ("**", "**"),
            ("`", "`"),
            ('"', '"'),
        ):
            inner = text[len(opening) : -len(closing)]
            if len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing):
                text = inner if closing not in inner else text
        if _one_group(text):
            text = text[1:-1]
        if text == before:
            break
    return text


def _one_group(text: str) -> bool:
    """Whether the whole text is one {group}."""
    if not (text.startswith("{") and text.endswith("}")) or text.endswith(r"\}"):
        return False
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return position == len(text) - 1
    return False
