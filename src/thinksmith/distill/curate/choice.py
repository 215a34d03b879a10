"""Which traces of each problem are learnt from, once all that is wrong is gone.

The shortest correct one is the default: long traces of R1-like teachers are long by detours, and a small student
learns to take them. The most diverse ones begin with the shortest, then each is the one least similar to those taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thinksmith.distill.curate.options import Choose
from thinksmith.distill.curate.signature import similarity

Mask = NDArray[np.bool_]


def choose(
    problem_N: NDArray[np.uint64],
    tokens_N: NDArray[np.int64],
    lot_N: NDArray[np.uint64],
    signatures_NK: NDArray[np.uint32],
    *,
    how: Choose,
    per_problem: int,
    most: int | None,
) -> Mask:
    """Which of N traces are taken. `lot_N` decides between equals, so that their order in the input does not.

    Of each problem `per_problem` are taken (all, with how="all"); of those `most` with the smallest lots.
    """
    chosen_N = np.ones(len(problem_N), dtype=np.bool_)
    if how != "all":
        chosen_N[:] = False
        order = np.lexsort((lot_N, tokens_N, problem_N))
        borders = np.flatnonzero(np.diff(problem_N[order])) + 1
        for group in np.split(order, borders):  # each is one problem's, the shortest first
            taken = group[:per_problem] if how == "shortest" else _diverse(group, signatures_NK, per_problem)
            chosen_N[taken] = True
    if most is not None and chosen_N.sum() > most:
        drawn = np.flatnonzero(chosen_N)
        drawn = drawn[np.argsort(lot_N[drawn], kind="stable")][:most]
        chosen_N = np.zeros_like(chosen_N)
        chosen_N[drawn] = True
    return chosen_N


def _diverse(group: NDArray[np.int64], signatures_NK: NDArray[np.uint32], count: int) -> list[int]:
    """The first of the group, then the ones whose greatest similarity to those taken is the smallest."""
    taken = [0]
    own_GK = signatures_NK[group]
    nearest_G = similarity(own_GK[0], own_GK)
    while len(taken) < min(count, len(group)):
        nearest_G[taken] = np.inf
        taken.append(int(np.argmin(nearest_G)))
        nearest_G = np.maximum(nearest_G, similarity(own_GK[taken[-1]], own_GK))
    return [int(group[at]) for at in taken]


def lots(digests_N2: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """A number for each trace that depends on its text and the seed alone."""
    mixed_N = digests_N2[:, 0] ^ np.uint64((seed * 0x9E3779B97F4A7C15) % (1 << 64))
    for shift in (30, 27, 31):  # splitmix64
        mixed_N = (mixed_N ^ (mixed_N >> np.uint64(shift))) * np.uint64(0xBF58476D1CE4E5B9)
    return mixed_N ^ digests_N2[:, 1]
