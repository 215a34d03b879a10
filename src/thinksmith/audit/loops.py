"""Finds repetition: the same words again and again, as a model writes them when it is stuck."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD = re.compile(r"\w{1,24}|[^\w\s]")
_BASE, _MODULUS = 1_000_003, (1 << 61) - 1


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
    sequence = [ids.setdefault(word.group(), len(ids) + 1) for word in words]
    best: tuple[int, int, int] | None = None  # first word, words, period
    gram = 1
    while gram * repeats <= 2 * len(sequence):
        for found in _runs(sequence, gram):
            first, length, period = found
            if not any(words[place].group().isalnum() for place in range(first, first + period)):
                continue  # a ruled line
            if length >= max(min_words, repeats * period) and (best is None or length > best[1]):
                best = found
        gram *= 2
    if best is None:
        return None
    first, length, period = best
    start, end = words[first].start(), words[first + length - 1].end()
    unit = text[start : words[first + period - 1].end()]
    return Loop(start, end, unit, length // period, at_end=len(words) - (first + length) < period)


def _runs(sequence: list[int], gram: int) -> list[tuple[int, int, int]]:
    """Stretches with a period of at most `gram` words, as (first word, words, period).

    Inside a stretch of period p every gram of at least p words came last exactly p words ago, if p is the smallest
    period; so it shows as a run of positions whose distance to the same gram's last place is constant.
    """
    runs: list[tuple[int, int, int]] = []
    last: dict[int, int] = {}
    begun, period = 0, 0
    for position, digest in enumerate(_digests(sequence, gram)):
        distance = position - last.get(digest, position - gram - 1)
        last[digest] = position
        if distance == period:
            continue
        if period:
            runs.append((begun - period, position - begun + period + gram - 1, period))
        begun, period = position, distance if distance <= gram else 0
    if period:
        runs.append((begun - period, len(sequence) - begun + period, period))
    return runs


def _digests(sequence: list[int], gram: int) -> list[int]:
    """A rolling hash of every gram, modulo a prime of 61 bits."""
    top = pow(_BASE, gram - 1, _MODULUS)
    digest, digests = 0, []
    for position, word in enumerate(sequence):
        if position >= gram:
            digest = (digest - sequence[position - gram] * top) % _MODULUS
        digest = (digest * _BASE + word) % _MODULUS
        if position >= gram - 1:
            digests.append(digest)
    return digests
