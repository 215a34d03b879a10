"""A web page as text: what a reader would see, with where its links lead.

One pass that never looks back, since pages are written by strangers: html.parser of the Python versions that we
support takes quadratic time for some of them. Every search that fails ends the pass.
"""

from __future__ import annotations

import re
from html import unescape

_BLOCK_NAMES = """
address article aside blockquote body br caption dd details div dl dt fieldset figcaption figure footer form h1 h2 h3
h4 h5 h6 header hr html legend main nav ol option p pre section summary table tbody tfoot thead title tr ul
"""
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_SILENT = ("script", "style", "noscript", "template", "svg", "iframe", "textarea", "select")
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{0,30}")
_PARTS = re.compile(r"[\"'>]")
_HREF = re.compile(r"""\shref\s*=\s*(?:"([^"]{1,2000})"|'([^']{1,2000})'|([^\s"'>]{1,2000}))""", re.IGNORECASE)
_ENDS = {name: re.compile(f"</{name}", re.IGNORECASE) for name in _SILENT}
_SPACES = re.compile(r"[ \t\r\f\v\n\xa0]+")


def text_of(html: str) -> str:
    """The text of a page: a line a block, `- ` before items, ` | ` between cells, `(URL)` behind a link's words."""
    pieces: list[str] = []
    links: list[str] = []
    at = 0
    while (tag := html.find("<", at)) >= 0:
        pieces.append(_words(html[at:tag]))
        at = _behind(html, tag, pieces, links)
        if at < 0:
            break
    else:
        pieces.append(_words(html[at:]))
    lines = (re.sub(" +", " ", line).strip() for line in "".join(pieces).split("\n"))
    return "\n".join(line for line in lines if line and line not in ("-", "|"))


def _words(text: str) -> str:
    return _SPACES.sub(" ", unescape(text))


def _behind(html: str, tag: int, pieces: list[str], links: list[str]) -> int:
    """Deal with what begins at `tag`, and the place behind it; -1: it never ends."""
    if html.startswith("<!--", tag):
        return _found(html.find("-->", tag + 4), 3)
    closing = html.startswith("/", tag + 1)
    named = _NAME.match(html, tag + 1 + closing)
    if not named:
        if html.startswith(("!", "?", "/"), tag + 1):
            return _found(html.find(">", tag), 1)
        pieces.append("<")
        return tag + 1
    name, end = named[0].lower(), _end(html, named.end())
    if end < 0:
        return -1
    if name in _ENDS and not closing:
        over = _ENDS[name].search(html, end)
        return _found(html.find(">", over.end()), 1) if over else -1
    _mark(name, closing, html[named.end() : end], pieces, links)
    return end


def _found(at: int, length: int) -> int:
    return at + length if at >= 0 else -1


def _end(html: str, at: int) -> int:
    """The place behind the tag's `>`, which does not count within quotes; -1: there is none."""
    while part := _PARTS.search(html, at):
        if part[0] == ">":
            return part.end()
        at = html.find(part[0], part.end()) + 1
        if not at:
            return -1
    return -1


def _mark(name: str, closing: bool, attributes: str, pieces: list[str], links: list[str]) -> None:
    if name == "a":
        if not closing:
            found = _HREF.search(attributes[:4_000])
            links.append(unescape(next(filter(None, found.groups()), "")) if found else "")
        elif links:
            href = links.pop()
            if href and not href.startswith(("#", "javascript:", "data:")):
                pieces.append(f" ({_words(href).strip()})")
    elif name == "li":
        pieces.append("\n" if closing else "\n- ")
    elif name in ("td", "th"):
        pieces.append(" | " if closing else "")
    elif name in _BLOCKS:
        pieces.append("\n")
