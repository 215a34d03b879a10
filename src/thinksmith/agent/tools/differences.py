"""What a write changes in a text, for the people who allow it: counts of lines, and a unified diff."""

from __future__ import annotations

import difflib
from collections import Counter

MOST_LINES = 1000  # on either side, for the smallest diff; it takes time squared
MAX_DIFF = 20_000  # characters


def lines_of(data: bytes) -> list[str]:
    """The lines, of what is no UTF-8 with a sign for each wrong byte."""
    return data.decode(errors="replace").splitlines()


def counts(before: bytes, after: bytes) -> tuple[int, int]:
    """(lines that are new, lines that are gone), wherever they stand."""
    old, new = Counter(lines_of(before)), Counter(lines_of(after))
    return (new - old).total(), (old - new).total()


def diff(path: str, before: bytes | None, after: bytes) -> str:
    """A unified diff, cut at MAX_DIFF characters. Of much text the one hunk from the first change to the last."""
    old, new = lines_of(before or b""), lines_of(after)
    names = ("/dev/null" if before is None else path, path)
    if len(old) <= MOST_LINES and len(new) <= MOST_LINES:
        lines = list(difflib.unified_diff(old, new, *names, lineterm=""))
    else:
        lines = [f"--- {names[0]}", f"+++ {names[1]}", *_hunk(old, new)]
    if not lines and before != after:
        lines = ["(the same lines; only their ends differ)"]
    text = "\n".join(lines)
    return text if len(text) <= MAX_DIFF else text[:MAX_DIFF] + f"\n(... {len(text) - MAX_DIFF:,} characters more)"


def _hunk(old: list[str], new: list[str]) -> list[str]:
    """All between what both begin and what both end with, as taken out and put in."""
    head = _shared(old, new)
    tail = _shared(old[head:][::-1], new[head:][::-1])
    gone, come = old[head : len(old) - tail], new[head : len(new) - tail]
    begin = f"@@ -{head + 1},{len(gone)} +{head + 1},{len(come)} @@"
    return [begin, *(f"-{line}" for line in gone), *(f"+{line}" for line in come)]


def _shared(old: list[str], new: list[str]) -> int:
    """How many lines both begin with."""
    return next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
