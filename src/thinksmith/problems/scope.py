"""What lies outside of the families: the embedded models know nothing else, and a user should be told so.

The rule is about the question's text alone, and is meant to be simple enough to say in one line: it names no number, or
a number longer than the families' longest, or several and more than a third of its words never occur in any family's
wordings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import islice

from thinksmith.problems.families import FAMILIES, stream

KNOWN = "arithmetic, chains, countdown, linear equations, gcd/lcm and short word problems"

_WORD = re.compile(r"[^\W\d_]{2,}")
_NUMBER = re.compile(r"\d+")
_DECIMAL = re.compile(r"\d[.,]\d")
_SAMPLE = 150  # problems per family: enough to meet every wording, in a tenth of a second
_UNKNOWN_SHARE = 1 / 3


@dataclass(frozen=True, slots=True)
class _Seen:
    """The words (lower case) and the most digits of a number in the families' prompts."""

    words: frozenset[str]
    digits: int


@cache
def _seen() -> _Seen:
    text = " ".join(
        problem.text for name in FAMILIES for problem in islice(stream(name, {}, split="train", seed=0), _SAMPLE)
    )
    return _Seen(frozenset(_words(text)), max(map(len, _NUMBER.findall(text))))


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def outside(question: str) -> str | None:
    """Why a question is none of the families', as the end of "the question …"; None if it may be one of them."""
    numbers = _NUMBER.findall(question)
    if not numbers:
        return "names no number"
    if _DECIMAL.search(question):
        return "has decimals"
    if max(map(len, numbers)) > _seen().digits:
        return f"has a number of more than {_seen().digits} digits"
    words = _words(question)
    unknown = [word for word in words if word not in _seen().words]
    if len(unknown) > max(1, _UNKNOWN_SHARE * len(words)):
        return f"has words that it never saw, such as {unknown[0]!r}"
    return None
