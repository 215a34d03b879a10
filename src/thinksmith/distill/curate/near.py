"""Which texts are nearly the same as an earlier one, among N signatures: by bands, so that few pairs are compared.

Two texts are compared where one of BANDS pieces of their signatures is equal (locality-sensitive hashing, Indyk and
Motwani 1998). With pieces of 6 numbers a pair of similarity 0.8 is found with probability 0.998, one of 0.5 is compared
in a quarter of cases.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thinksmith.distill.curate.signature import K, similarity

ROWS = 6
BANDS = K // ROWS
MOST = 64
"""So many texts that share a band are looked at: in sets made from templates all of them share some, and then the
number of pairs would grow with the square. What lies beyond is found by its other bands, or not at all."""

_BASE = np.uint64(0x9E3779B97F4A7C15)


def near_duplicates(
    signatures_NK: NDArray[np.uint32], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each text the earlier one that it nearly repeats (-1: none), and how similar they are.

    In order: a text that is `threshold` similar to one that was kept is dropped, and none is compared with what was
    dropped, so no chain of small steps carries away what is different.
    """
    count = len(signatures_NK)
    leader_N, similar_N = np.full(count, -1, dtype=np.int64), np.zeros(count)
    groups_NB = _groups(signatures_NK)
    members: dict[int, list[int]] = {}
    for at in np.flatnonzero((groups_NB >= 0).any(axis=1)).tolist():
        own = [group for group in groups_NB[at].tolist() if group >= 0]
        others = sorted({other for group in own for other in members.get(group, ())})
        if others:
            found = similarity(signatures_NK[at], signatures_NK[others])
            best = int(np.argmax(found))  # the earliest of the most similar
            if found[best] >= threshold:
                leader_N[at], similar_N[at] = others[best], found[best]
                continue
        for group in own:
            kept = members.setdefault(group, [])
            if len(kept) < MOST:
                kept.append(at)
    return leader_N, similar_N


def _groups(signatures_NK: NDArray[np.uint32]) -> NDArray[np.int64]:
    """For each text and band the number of the group of texts with an equal band; -1 where it is alone."""
    count = len(signatures_NK)
    groups_NB = np.full((count, BANDS), -1, dtype=np.int64)
    begun = 0
    for band in range(BANDS):
        key_N = np.zeros(count, dtype=np.uint64)
        for column in range(band * ROWS, (band + 1) * ROWS):
            key_N = (key_N ^ (key_N >> np.uint64(29))) * _BASE + signatures_NK[:, column].astype(np.uint64)
        _, inverse_N, size_U = np.unique(key_N, return_inverse=True, return_counts=True)
        shared_N = size_U[inverse_N] > 1
        groups_NB[shared_N, band] = begun + inverse_N[shared_N]
        begun += len(size_U)
    return groups_NB
