"""Could this be chance? The p-value of paired differences, and its correction for several comparisons.

If the two sides were the same, each problem's difference would be as likely to have the other sign. So the p-value is
the share of all ways to flip the signs in which the sum is as far from 0 as the one that was seen (Fisher 1935). With
one yes/no attempt a problem that is McNemar's test (1947, Psychometrika 12).

Of the flips that are exactly as far as what was seen, half are counted: the mid-p-value (Lancaster 1961, JASA 56). The
exact p-value errs on the safe side so much that at 5 % it may reject the truth in 1 to 3 % only, because a few changed
problems allow few p-values; the mid-p-value comes closest to 5 % and goes above it hardly ever (Fagerland, Lydersen and
Laake 2013, "The McNemar test for binary matched-pairs data: mid-p and asymptotic are better than exact conditional",
BMC Medical Research Methodology 13:91).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

_FLIPS = 10_000
_FLIPS_AT_ONCE = 500  # bounds memory: 500 × 7,473 problems × 8 bytes is 30 MB
_MOST_SIZES = 300  # different sizes of a change, more of which are no fractions of small numbers
_LARGEST_UNIT = 5_040
_MOST_ADDITIONS = 10**9  # about a second

Floats = NDArray[np.float64]


def sign_flip_p(differences_P: Floats, *, mid: bool = True) -> float:
    """The two-sided p-value of "no difference", 0..1; 1 where nothing changed.

    Exact where the changes are multiples of one fraction, as they are with yes/no scores: the distribution of the sum
    over all 2^P flips is a convolution of binomials. Else 10,000 flips of a fixed seed, and the smallest p is 1/10,001.
    `mid=False` gives the exact p-value instead of the mid-p-value.
    """
    changes = differences_P[np.abs(differences_P) > 1e-12]
    if not len(changes):
        return 1.0
    steps = _as_multiples(changes)
    beyond, equal = _counted(steps) if steps is not None else _flipped(changes)
    return min(1.0, beyond + (equal / 2 if mid else equal))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for being several, in the order given: with these, the chance that any true "no
    difference" is rejected at 5 % is at most 5 %, whatever depends on what (Holm 1979, Scand. J. Statistics 6)."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def _as_multiples(changes: Floats) -> NDArray[np.int64] | None:
    """The changes in their largest common unit; None where there is no simple one, or too much to add up."""
    sizes = np.unique(np.round(np.abs(changes), 12))
    if len(sizes) > _MOST_SIZES:
        return None
    fractions = [Fraction(float(size)).limit_denominator(_LARGEST_UNIT) for size in sizes]
    unit = math.lcm(*(fraction.denominator for fraction in fractions))
    if unit > _LARGEST_UNIT or any(
        abs(float(fraction) - size) > 1e-9 for fraction, size in zip(fractions, sizes, strict=True)
    ):
        return None
    steps = np.rint(changes * unit).astype(np.int64)
    steps //= np.gcd.reduce(np.abs(steps))
    return steps if len(steps) * int(np.abs(steps).sum()) <= _MOST_ADDITIONS else None


def _counted(steps: NDArray[np.int64]) -> tuple[float, float]:
    """The shares of all flips that go beyond the sum of the steps, and as far as it."""
    sizes, counts = np.unique(np.abs(steps), return_counts=True)
    total = int(np.abs(steps).sum())
    chance = np.ones(1)  # of the sum of those steps whose sign is +
    for at in np.argsort(-counts):
        size, ways = int(sizes[at]), _halves(int(counts[at]))
        if len(chance) == 1:
            grown = np.zeros((len(ways) - 1) * size + 1)
            grown[::size] = ways
        else:
            grown = np.zeros(len(chance) + (len(ways) - 1) * size)
            for number, weight in enumerate(ways):
                grown[number * size : number * size + len(chance)] += weight * chance
        chance = grown
    sums, seen = np.abs(2 * np.arange(total + 1) - total), abs(int(steps.sum()))
    return float(chance[sums > seen].sum()), float(chance[sums == seen].sum())


def _halves(n: int) -> Floats:
    """The chances of 0..n heads in n fair tosses."""
    k = np.arange(n + 1)
    return np.asarray(np.exp(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) - n * math.log(2)))


def _flipped(changes: Floats) -> tuple[float, float]:
    """The same shares among random flips; what was seen is one of them."""
    # Sorted by size, so that neither the order of the problems nor the direction of the comparison matters.
    sizes = np.sort(np.abs(changes))
    random = np.random.default_rng(0)
    seen, slack = abs(float(changes.sum())), 1e-9 * max(1.0, float(sizes.sum()))
    beyond, equal = 0, 1
    for _ in range(0, _FLIPS, _FLIPS_AT_ONCE):
        signs = 2.0 * random.integers(0, 2, (_FLIPS_AT_ONCE, len(sizes))) - 1
        sums = np.abs(signs @ sizes)
        beyond += int((sums > seen + slack).sum())
        equal += int((np.abs(sums - seen) <= slack).sum())
    return beyond / (_FLIPS + 1), equal / (_FLIPS + 1)
