"""Why a trace is dropped: the stages of the funnel, in their order. A trace is dropped by the first that catches it.

The cheap come first, then those that look at all traces together, then what is dear to find out.
"""

from __future__ import annotations

REASONS = {
    "unreadable": "the row is no trace",
    "truncated": "it was cut off: by its length, or with its thinking still open",
    "not correct": "the verdict on its answer is another",
    "not judged": "nobody knows whether it is correct",
    "no thinking": "there is only an answer",
    "too short": "it has fewer tokens than min_tokens",
    "too long": "it has more tokens than max_tokens",
    "wrong language": "it is not written in the language that was asked for",
    "answer not in thinking": "the thinking never comes to the answer",
    "repetition loop": "it says one thing again and again",
    "contaminated": "a problem of an evaluation stands in it",
    "duplicate": "the same question, thinking and answer came before",
    "near duplicate": "nearly the same trace came before",
    "too easy": "its problem is solved too often",
    "too hard": "its problem is solved too seldom",
    "false equations": "too large a share of its equations is false",
    "not chosen": "another trace of its problem was chosen, or the draw left it out",
}
"""Reason → what it means, for people."""

ORDER = tuple(REASONS)
"""A reason is kept as its index in here; KEPT stands for none."""
KEPT = -1


def number(reason: str) -> int:
    """The index of a reason; KEPT for ""."""
    return ORDER.index(reason) if reason else KEPT
