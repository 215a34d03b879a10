"""What k attempts at a problem are worth: avg@k, pass@k, pass^k and maj@k, from n ≥ k recorded attempts.

Each is the mean, over all ways to take k of the n attempts, of something about those k, so each is unbiased for k fresh
attempts; P problems, N attempts in all.

- avg@k: the share of correct ones. That is the plain accuracy, for every k.
- pass@k: is any correct? (Chen et al. 2021, "Evaluating Large Language Models Trained on Code", arXiv 2107.03374,
  equation 1).
- pass^k: are all correct? (Yao et al. 2024, "τ-bench", arXiv 2406.12045, section 3): how reliable, not how lucky.
- maj@k: is the answer that most of them give correct? (Wang et al. 2022, "Self-consistency", arXiv 2203.11171.) Answers
  are classes of equivalent answers (`verify.same`), attempts without an answer have no vote, and of the classes that
  lead with equally many votes each wins with the same chance. A rule that takes the class that appeared first comes to
  the same, for every order of the attempts is as likely. When nobody votes, the answer is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST_ATTEMPTS = 1_000  # of one problem: beyond, numbers of subsets overflow
_MOST_WORK = 2e7  # multiplications for a whole run: a second or two
_SUBSETS = 256  # drawn a problem where counting all is too much


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that k of n attempts, drawn without replacement, hold one of the c correct ones.

    Unbiased for the chance that k fresh attempts hold a correct one (Chen et al. 2021, equation 1), which
    1 - (1 - c/n)^k is not.
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n, not n={n}, c={c}, k={k}")
    return float(pass_P(np.array([n]), np.array([c]), k)[0])


def pass_P(n_P: Ints, c_P: Ints, k: int) -> Floats:
    """pass@k of each problem: 1 - C(n - c, k) / C(n, k). ValueError unless 0 ≤ c ≤ n and 1 ≤ k ≤ n throughout."""
    _check(n_P, c_P, k, "pass@k")
    # As a sum of logarithms: neither a binomial that overflows, nor 1 - (nearly 1), which would lose digits.
    log_miss_P = np.zeros(len(n_P))
    with np.errstate(divide="ignore"):
        for drawn in range(k):
            log_miss_P += np.log1p(-np.minimum(1.0, c_P / (n_P - drawn)))
    return np.asarray(-np.expm1(log_miss_P))


def all_P(n_P: Ints, c_P: Ints, k: int) -> Floats:
    """pass^k of each problem: C(c, k) / C(n, k). ValueError as for `pass_P`."""
    _check(n_P, c_P, k, "pass^k")
    all_correct_P = np.ones(len(n_P))
    for drawn in range(k):
        all_correct_P *= np.maximum(0, c_P - drawn) / (n_P - drawn)
    return all_correct_P


@dataclass(frozen=True, slots=True)
class Majority:
    """maj@k of each problem, and the standard error of their mean that drawing subsets added (0: all were counted)."""

    value_P: Floats
    error: float = 0.0


def majority(
    problem_N: Ints, class_N: Ints, score_N: Floats, k: int, *, problems: int | None = None, seed: int = 0
) -> Majority:
    """maj@k from each attempt's problem (0..P-1), class of its answer (-1: no answer) and score.

    A class is worth the mean score of its attempts. All subsets are counted where that is feasible; else 256 are
    drawn for each problem with a fixed seed. ValueError when a problem has fewer than k attempts.
    """
    count = int(problem_N.max()) + 1 if problems is None else problems
    n_P = np.bincount(problem_N, minlength=count)
    _check(n_P, np.zeros_like(n_P), k, "maj@k")
    ballots = _ballots(problem_N, class_N, score_N, n_P)
    if n_P.max(initial=0) <= _MOST_ATTEMPTS and sum(_work(ballot, k) for ballot in set(ballots)) <= _MOST_WORK:
        return Majority(np.array([led_by_right(ballot, k) for ballot in ballots]))
    return _drawn(ballots, k, seed)


Ballot = tuple[int, tuple[tuple[int, float], ...]]
"""How many attempts a problem has, and of each class of answers how many voted and what it is worth, sorted."""


def _ballots(problem_N: Ints, class_N: Ints, score_N: Floats, n_P: Ints) -> list[Ballot]:
    voted = class_N >= 0
    width = int(class_N.max(initial=0)) + 1
    keys, class_V = np.unique(problem_N[voted] * width + class_N[voted], return_inverse=True)
    count_C = np.bincount(class_V, minlength=len(keys))
    worth_C = np.bincount(class_V, weights=score_N[voted], minlength=len(keys)) / np.maximum(1, count_C)
    classes: list[list[tuple[int, float]]] = [[] for _ in n_P]
    for problem, count, worth in zip((keys // width).tolist(), count_C.tolist(), worth_C.tolist(), strict=True):
        classes[problem].append((count, worth))
    return [(int(n), tuple(sorted(each))) for n, each in zip(n_P.tolist(), classes, strict=True)]


def _work(ballot: Ballot, k: int) -> float:
    """About how many multiplications `led_by_right` takes."""
    n, classes = ballot
    return float(len(classes) * k * k * math.log(k + 1)) * sum(worth > 0 for _, worth in classes) + n


@lru_cache(maxsize=65_536)
def led_by_right(ballot: Ballot, k: int) -> float:
    """What the leading class of k of the attempts is worth, in the mean over all ways to draw the k."""
    n, classes = ballot
    silent = n - sum(count for count, _ in classes)
    if k == n:
        most = max((count for count, _ in classes), default=0)
        leaders = [worth for count, worth in classes if count == most]
        return math.fsum(leaders) / len(leaders) if leaders else 0.0
    chances: dict[int, float] = {}  # classes of one size lead equally often
    value = 0.0
    for at, (count, worth) in enumerate(classes):
        if worth > 0:
            if count not in chances:
                rivals = tuple(other for place, (other, _) in enumerate(classes) if place != at)
                chances[count] = _leads(count, rivals, silent, k)
            value += worth * chances[count]
    return min(1.0, value)


def _leads(own: int, rivals: tuple[int, ...], silent: int, k: int) -> float:
    """The chance that, of k drawn attempts, most are of the class with `own` ones; a draw is decided by lot.

    For each number j of its votes: the ways in which no rival has more, by how many (t) have j as well. `ways_TX`
    counts them as rival after rival is added, by t and by how many attempts are drawn (the multivariate
    hypergeometric distribution). Rivals with fewer than j attempts can do no harm and are one lot with the silent.
    """
    chance = 0.0
    for j in range(1, min(own, k) + 1):
        room = k - j
        harmless = silent + sum(rival for rival in rivals if rival < j)
        ways_TX = np.zeros((room // j + 1, room + 1))
        ways_TX[0] = [math.comb(harmless, x) for x in range(room + 1)]
        for rival in rivals:
            if rival >= j:
                ways_TX = _with_rival(ways_TX, rival, j, room)
        lots = ways_TX[:, room] / (1 + np.arange(len(ways_TX)))
        chance += math.comb(own, j) * float(lots.sum())
    return chance / math.comb(own + sum(rivals) + silent, k)


def _with_rival(ways_TX: Floats, rival: int, j: int, room: int) -> Floats:
    grown = np.zeros_like(ways_TX)
    for x in range(min(j - 1, room) + 1):
        grown[:, x:] += math.comb(rival, x) * ways_TX[:, : room + 1 - x]
    if j <= room:
        grown[1:, j:] += math.comb(rival, j) * ways_TX[:-1, : room + 1 - j]
    return grown


def _drawn(ballots: Sequence[Ballot], k: int, seed: int) -> Majority:
    """The mean over random subsets of each problem's attempts."""
    random = np.random.default_rng(seed)
    value_P, variance_P = np.zeros(len(ballots)), np.zeros(len(ballots))
    for at, (n, classes) in enumerate(ballots):
        if not classes:
            continue
        sizes, worth_C = np.array([count for count, _ in classes]), np.array([worth for _, worth in classes])
        drawn = random.multivariate_hypergeometric([*sizes, n - sizes.sum()], k, size=_SUBSETS, method="marginals")
        votes_SC = drawn[:, :-1]
        leads_SC = (votes_SC == votes_SC.max(axis=1, keepdims=True)) & (votes_SC > 0)
        found_S = leads_SC @ worth_C / np.maximum(1, leads_SC.sum(axis=1))
        value_P[at], variance_P[at] = found_S.mean(), found_S.var(ddof=1) / _SUBSETS
    return Majority(value_P, float(np.sqrt(variance_P.sum())) / len(ballots))


def _check(n_P: Ints, c_P: Ints, k: int, what: str) -> None:
    bad = np.flatnonzero((c_P < 0) | (c_P > n_P) | (k < 1) | (k > n_P))
    if len(bad):
        n, c = int(n_P[bad[0]]), int(c_P[bad[0]])
        raise ValueError(f"{what} needs 0 <= c <= n and 1 <= k <= n, not n={n}, c={c}, k={k}")
