"""Finds repetition: the same words again and again, as a model writes them when it is stuck."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from thinksmith.problems.wording import Hashes, grams

_WORD = re.compile(r"\w{1,24}|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Loop:
    """`source[start:end]` is `unit` said `repeats` times on end. `at_end`: the text ends in it."""

    start: int
    end: int
    unit: str
    repeats: int
    at_end: bool


def find_loop(text: str, repeats: int = 4, min_words: int = 64) -> Loop | None:
    """The longest stretch of at least `min_words` words that says one unit at least `repeats` times on end, or None.

    Words are runs of up to 24 letters or digits, and single other characters. Time O(n log n) in the number of words.
    """
    words = list(_WORD.finditer(text))
    ids: dict[str, int] = {}
    sequence_W = np.array([ids.setdefault(word.group(), len(ids) + 1) for word in words], dtype=np.uint64)
    best: tuple[int, int, int] | None = None  # first word, words, period
    gram = 1
    while gram * repeats <= 2 * len(sequence_W):
        for found in _runs(sequence_W, gram):
            first, length, period = found
            if length < max(min_words, repeats * period) or (best is not None and length <= best[1]):
                continue
            if not any(words[place].group().isalnum() for place in range(first, first + period)):
                continue  # a ruled line
            if np.array_equal(sequence_W[first : first + length - period], sequence_W[first + period : first + length]):
                best = found
        gram *= 2
    if best is None:
        return None
    first, length, period = best
    start, end = words[first].start(), words[first + length - 1].end()
    unit = text[start : words[first + period - 1].end()]
    return Loop(start, end, unit, length // period, at_end=len(words) - (first + length) < period)


def may_loop(hashes_W: Hashes, repeats: int = 4, min_words: int = 64) -> bool:
    """False where there surely is no loop, which is far quicker to tell than to find one. `hashes_W`: a text's words
    (`problems.wording`, whose words are these but for capitals).

    Among the L - n + 1 runs of n words in a loop of L words at most L / repeats are different, and L is at least
    `min_words`.
    """
    least = min_words * (1 - 1 / repeats)
    n = max(1, min(16, int(least) // 3))
    ordered_G = np.sort(grams(hashes_W, n))
    again = np.count_nonzero(ordered_G[1:] == ordered_G[:-1])
    return len(ordered_G) > 0 and bool(again >= least - n + 1)


def _runs(sequence_W: Hashes, gram: int) -> Iterator[tuple[int, int, int]]:
    """Stretches with a period of at most `gram` words, as (first word, words, period).

    Inside a stretch of period p every gram of at least p words came last exactly p words ago, if p is the smallest
    period; so it shows as a run of positions whose distance to the same gram's last place is constant. Grams are told
    by their hashes.
    """
    digests_G = grams(sequence_W, gram)
    order_G = np.argsort(digests_G, kind="stable")
    again_G = np.zeros(len(digests_G), dtype=np.bool_)
    again_G[1:] = digests_G[order_G[1:]] == digests_G[order_G[:-1]]
    distance_G = np.zeros(len(digests_G), dtype=np.int64)  # 0: it never came, or longer ago than a period can be
    distance_G[order_G[again_G]] = order_G[again_G] - order_G[np.flatnonzero(again_G) - 1]
    distance_G[distance_G > gram] = 0
    begins = np.flatnonzero(np.diff(distance_G, prepend=-1))
    ends = np.append(begins[1:], len(distance_G))
    for begun, end, period in zip(begins.tolist(), ends.tolist(), distance_G[begins].tolist(), strict=True):
        if period:
            yield begun - period, end - begun + period + gram - 1, period
