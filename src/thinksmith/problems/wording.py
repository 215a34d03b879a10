"""Texts as numbers: words, normalised and hashed, so that overlaps are found with arrays instead of strings.

Normalised: Unicode's compatibility forms (NFKC) are one, and so are capitals and small letters. A word is a run of up
to 24 letters, digits or underscores, any other sign that is no white space stands alone: the words of `audit.loops`.
Each becomes 64 bits (xxh3) of its own, the same on every machine. W words, G grams.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

Hashes = NDArray[np.uint64]

_WORD = re.compile(r"\w{1,24}|\S")
_ASCII_WORD = re.compile(_WORD.pattern, re.ASCII)  # the same for such texts, and faster
_MOST = 1 << 18  # words that are remembered at a time
_BASE = 0x9E3779B97F4A7C15  # odd: a power of it never vanishes modulo 2^64
_SIGNS = frozenset("+-*/^=<>%×÷·−±√∞≤≥≠∑∏∫|!")  # what tells "3 + 4" from "3 - 4"; other signs are punctuation


class Vocabulary:
    """Words that were seen, each with its number, and their hashes by number. Forgets all when there are too many."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._hashes: Hashes = np.zeros(1024, dtype=np.uint64)

    def hashes(self, words: Sequence[str]) -> Hashes:
        """The hash of each word. The lowest two bits say what it is: 3 a word, 2 a sign of mathematics, 0 another."""
        if len(self._numbers) > _MOST:
            self._numbers.clear()
        numbers = self._numbers
        try:
            at_W = np.fromiter(map(numbers.__getitem__, words), dtype=np.int64, count=len(words))
        except KeyError:
            for word in set(words).difference(numbers):
                self._learn(word)
            at_W = np.fromiter(map(numbers.__getitem__, words), dtype=np.int64, count=len(words))
        return self._hashes[at_W]

    def _learn(self, word: str) -> None:
        number = self._numbers.setdefault(word, len(self._numbers))
        if number == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
        kind = 3 if word[0].isalnum() or word[0] == "_" else 2 if word in _SIGNS else 0
        digest = xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))
        self._hashes[number] = digest & ~3 | kind


@dataclass(frozen=True, slots=True)
class Wording:
    """A text's words and signs, normalised, and the hash of each."""

    words: tuple[str, ...]
    hashes_W: Hashes

    @classmethod
    def of(cls, text: str) -> Wording:
        words = (_ASCII_WORD if text.isascii() else _WORD).findall(normalised(text))
        return cls(tuple(words), _VOCABULARY.hashes(words))

    @property
    def words_alone(self) -> Hashes:
        """The hashes without those of signs."""
        kept: Hashes = self.hashes_W[self.hashes_W & np.uint64(3) == 3]
        return kept

    @property
    def whole(self) -> int:
        """One number for all of the text, which texts share that ask the same: punctuation does not count, the signs of
        mathematics do. 0 for a text of which nothing is left."""
        left_W = self.hashes_W[self.hashes_W & np.uint64(2) != 0]
        return int(grams(left_W, len(left_W))[0]) if len(left_W) else 0


_VOCABULARY = Vocabulary()


def normalised(text: str) -> str:
    """One form of a text for whatever is written differently and means the same."""
    return (text if text.isascii() else unicodedata.normalize("NFKC", text)).casefold()


def spaced(text: str) -> str:
    """A text normalised, with one space where there was any white space: equal for texts that read the same."""
    return " ".join(normalised(text).split())


def grams(hashes_W: Hashes, n: int) -> Hashes:
    """The hash of every `n` words that follow each other: W - n + 1 of them, none where there are fewer words.

    A polynomial in the words' hashes modulo 2^64, put together by halves, then mixed so that all bits depend on all.
    """
    count = len(hashes_W) - n + 1
    if count < 1:
        return np.zeros(0, dtype=np.uint64)
    digest_G = _polynomial(hashes_W, n)[:count]
    digest_G = (digest_G ^ (digest_G >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return digest_G ^ (digest_G >> np.uint64(32))


def _polynomial(hashes_W: Hashes, n: int) -> Hashes:
    """At each place sum_j hash[place + j] * base^(n - 1 - j)."""
    if n == 1:
        return hashes_W
    half = n // 2
    left_W = _polynomial(hashes_W, half)
    right_W = left_W if n == 2 * half else _polynomial(hashes_W, n - half)
    count = len(hashes_W) - n + 1
    return left_W[:count] * np.uint64(pow(_BASE, n - half, 1 << 64)) + right_W[half : half + count]
