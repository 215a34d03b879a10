"""What k samples come to, drawn without replacement from N that are known: exact sums, with no order drawn.

N samples of one problem. The mean over all subsets is the unbiased estimate for fresh samples (Chen et al. 2021,
arXiv:2107.03374, do this for pass@k).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from thinksmith.evaluate.scaling.pool import Floats, Ints


def best_of(value_N: Floats, right_N: Floats, k: int) -> float:
    """The expected score of the sample with the greatest value among k drawn without replacement; ties go to the first
    to appear, which is each of them as often as any other."""
    total, below, expected = math.comb(len(value_N), k), 0, 0.0
    for value in np.unique(value_N):
        tied = value_N == value
        up_to = below + int(tied.sum())
        expected += (math.comb(up_to, k) - math.comb(below, k)) / total * float(right_N[tied].mean())
        below = up_to
    return expected


def vote(class_N: Ints, right_N: Floats, k: int) -> float:
    """The expected score of the class that most of k samples drawn without replacement give. Exact.

    Ties go to the class that appears first: of t tied classes, each of the same number of samples, that is each with
    probability 1/t, whatever the others are. Samples without an answer (-1) have no vote; without any vote the score
    is 0. A class is worth the mean score of its members, who agree but for a verifier's whims.
    """
    numbers, counts = np.unique(class_N[class_N >= 0], return_counts=True)
    silent = int((class_N < 0).sum())
    expected = 0.0
    for number, size in zip(numbers.tolist(), counts.tolist(), strict=True):
        worth = float(right_N[class_N == number].mean())
        if worth:
            others = tuple(sorted(counts[numbers != number].tolist()))
            expected += worth * leads(size, others, silent)[k - 1]
    return expected


@lru_cache(maxsize=65536)
def leads(size: int, others: tuple[int, ...], silent: int) -> tuple[float, ...]:
    """The chance that a class of `size` members leads among k drawn, for every k from 1 on, ties shared evenly.

    For each number m of its members that are drawn: the ways in which the other classes have at most m, by how many of
    them have m (t) and how many samples are drawn from them (d). Ways are whole numbers, so this is exact.
    """
    total = size + sum(others) + silent
    found = [0.0] * total
    free = [math.comb(silent, j) for j in range(silent + 1)]
    for m in range(1, size + 1):
        ways = {(0, 0): 1}
        for other in others:
            grown: dict[tuple[int, int], int] = {}
            for (t, d), count in ways.items():
                for j in range(min(m, other) + 1):
                    key = t + (j == m), d + j
                    grown[key] = grown.get(key, 0) + count * math.comb(other, j)
            ways = grown
        own = math.comb(size, m)
        for (t, d), count in ways.items():
            for j, silences in enumerate(free):
                k = m + d + j
                found[k - 1] += own * count * silences / math.comb(total, k) / (t + 1)
    return tuple(found)
