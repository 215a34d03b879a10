"""The bootstrap, clustered by problem: what would other problems of the same kind have said?

Whole problems are drawn again with replacement, each with all its attempts, for these are not independent (Efron and
Tibshirani 1993, "An Introduction to the Bootstrap"; clusters: Davison and Hinkley 1997, section 3.8). Every draw has a
fixed seed, and the values are put in order first, so an interval does not depend on the order of the problems.

Three ways to read an interval from the draws:
- `percentile`: their 2.5 % and 97.5 % quantiles. Too narrow with few problems.
- `bca`: quantiles corrected for bias and skewness (Efron 1987, JASA 82).
- `t`, of means only: quantiles of the studentised mean (Efron 1981; Hall 1988, Annals of Statistics 16). The one whose
  coverage holds best for skewed differences, and the widest.

Values that are all equal give an interval without width: for shares near 0 or 1 Wilson's (`stats.share`) is the better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

DRAWS, FEWEST = 4_000, 1_000  # fewer for many problems, whose means are close to normal
_MOST = 8_000_000  # values drawn in all: a fraction of a second
_AT_ONCE = 2_000_000  # values drawn at a time: 16 MB
_SIDES = (0.025, 0.975)
_FARTHEST = 100.0  # standard errors: keeps an interval finite where nearly all draws are of equal values

Floats = NDArray[np.float64]
Method = Literal["percentile", "bca", "t"]
Statistic = Callable[[Floats], Floats]
"""Of values [B, P] or [B, P, K], one number for each of the B draws: [B]."""


def bootstrap(
    values_P: Floats,
    statistic: Statistic | None = None,
    *,
    method: Method = "bca",
    draws: int | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % interval of a statistic (default: the mean) of one row per problem, P or P × K numbers.

    ValueError without a problem, for values that are not finite, or for the method `t` of another statistic than the
    mean.
    """
    values_P = np.asarray(values_P, dtype=np.float64)
    if not len(values_P) or not np.isfinite(values_P).all():
        raise ValueError("the bootstrap needs at least one problem, and finite values")
    draws = draws or max(FEWEST, min(DRAWS, _MOST // len(values_P)))
    if statistic is None:
        if values_P.ndim != 1:
            raise ValueError("the mean is of one value a problem; give a statistic for several")
        return _of_mean(np.sort(values_P), method, draws, seed)
    if method == "t":
        raise ValueError("the studentised bootstrap is of means only: use bca or percentile")
    return _of_any(_in_order(values_P), statistic, method, draws, seed)


def bootstrap_difference(
    differences_P: Floats, *, method: Method = "t", draws: int | None = None, seed: int = 0, most: float = math.inf
) -> tuple[float, float]:
    """The same of the mean of paired differences, so that turning the comparison round turns the interval round.
    No difference can be larger than `most`."""
    differences_P = np.asarray(differences_P, dtype=np.float64)
    there, back = np.sort(differences_P), np.sort(-differences_P)
    apart = np.flatnonzero(there != back)
    order = float(there[apart[0]] - back[apart[0]]) if len(apart) else 0.0
    low, high = bootstrap(there if order >= 0 else back, method=method, draws=draws, seed=seed)
    low, high = max(low, -most), min(high, most)
    if order == 0:
        half = (high - low) / 2
        return -half, half
    return (low, high) if order > 0 else (-high, -low)


def _of_mean(values_P: Floats, method: Method, draws: int, seed: int) -> tuple[float, float]:
    """Of sorted values. A draw is how often each problem was drawn, so all means are one matrix product."""
    problems, centre = len(values_P), float(values_P.mean())
    apart_P = values_P - centre
    counts = list(_counts(problems, draws, seed))
    means_B = np.concatenate([counts_BP @ apart_P for counts_BP in counts]) / problems
    if method == "t":
        squares_B = np.concatenate([counts_BP @ apart_P**2 for counts_BP in counts]) / problems
        return _studentised(centre, apart_P, means_B, squares_B)
    return _quantiles(centre, centre + means_B, apart_P / problems, method)


def _studentised(centre: float, apart_P: Floats, means_B: Floats, squares_B: Floats) -> tuple[float, float]:
    error = np.sqrt((apart_P**2).mean() / max(1, len(apart_P) - 1))
    errors_B = np.sqrt(np.maximum(0, squares_B - means_B**2) / max(1, len(apart_P) - 1))
    # A draw of equal values has no error to divide by: its quotient is as far out as can be.
    flat_B = errors_B <= 1e-12 * (error or 1)
    t_B = np.where(flat_B, np.sign(means_B) * _FARTHEST, means_B / np.where(flat_B, 1, errors_B))
    t_B[flat_B & (np.abs(means_B) <= 1e-12 * (error or 1))] = 0
    low, high = np.quantile(np.clip(t_B, -_FARTHEST, _FARTHEST), _SIDES)
    return centre - float(high) * float(error), centre - float(low) * float(error)


def _of_any(values_P: Floats, statistic: Statistic, method: Method, draws: int, seed: int) -> tuple[float, float]:
    found = float(statistic(values_P[None])[0])
    drawn_B = np.concatenate([statistic(values_P[chosen_BP]) for chosen_BP in _drawn(len(values_P), draws, seed)])
    without_P = _each_left_out(values_P, statistic) if method == "bca" else np.zeros(1)
    return _quantiles(found, drawn_B, without_P.mean() - without_P, method)


def _each_left_out(values_P: Floats, statistic: Statistic) -> Floats:
    """The statistic without each problem in turn."""
    problems = len(values_P)
    if problems == 1:
        return np.zeros(1)
    at_once = max(1, _AT_ONCE // problems)
    others = np.arange(problems - 1)
    parts = []
    for start in range(0, problems, at_once):
        left_out = np.arange(start, min(start + at_once, problems))[:, None]
        parts.append(statistic(values_P[others + (others >= left_out)]))
    return np.concatenate(parts)


def _quantiles(found: float, drawn_B: Floats, influence_P: Floats, method: Method) -> tuple[float, float]:
    """`influence_P`: how much each problem moves the statistic, up to a common factor."""
    sides = np.array(_SIDES)
    if method == "bca":
        slack = 1e-12 * max(1.0, abs(found))
        below = float((drawn_B < found - slack).mean() + (np.abs(drawn_B - found) <= slack).mean() / 2)
        spread = float((influence_P**2).sum())
        if not 0 < below < 1 or spread <= 1e-28:
            return float(np.quantile(drawn_B, sides[0])), float(np.quantile(drawn_B, sides[1]))
        bias = float(ndtri(below))
        skewness = float((influence_P**3).sum()) / (6 * spread**1.5)
        normal = ndtri(sides)
        sides = ndtr(bias + (bias + normal) / (1 - skewness * (bias + normal)))
    low, high = np.quantile(drawn_B, sides)
    return float(low), float(high)


def _in_order(values_P: Floats) -> Floats:
    flat = values_P.reshape(len(values_P), -1)
    order: NDArray[np.intp] = np.lexsort(flat.T[::-1])
    return np.asarray(values_P[order])


def _drawn(problems: int, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Which problems each draw holds, some draws at a time: [b, P]."""
    random, at_once = np.random.default_rng(seed), max(1, _AT_ONCE // problems)
    for start in range(0, draws, at_once):
        yield random.integers(0, problems, (min(at_once, draws - start), problems))


def _counts(problems: int, draws: int, seed: int) -> Iterator[Floats] | tuple[Floats, ...]:
    """How often each draw holds each problem, some draws at a time: [b, P]. The same draws as `_drawn`'s."""
    return _kept(problems, draws, seed) if problems * draws <= 2 * _AT_ONCE else _made(problems, draws, seed)


@lru_cache(maxsize=4)
def _kept(problems: int, draws: int, seed: int) -> tuple[Floats, ...]:
    return tuple(_made(problems, draws, seed))


def _made(problems: int, draws: int, seed: int) -> Iterator[Floats]:
    for chosen_BP in _drawn(problems, draws, seed):
        rows = len(chosen_BP)
        places = (chosen_BP + problems * np.arange(rows)[:, None]).ravel()
        yield np.bincount(places, minlength=rows * problems).reshape(rows, problems).astype(np.float64)
