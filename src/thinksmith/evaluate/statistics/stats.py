"""The statistics of an evaluation: an accuracy with its interval, and a paired difference.

Sources:
- Miller 2024, "Adding Error Bars to Evals" (arXiv 2411.00640): attempts at one problem are not independent, so the
  standard error is clustered by problem; two models are compared on the same problems, paired.
- Wilson 1927, "Probable inference, the law of succession, and statistical inference" (JASA 22): an interval for a
  proportion that stays inside 0..1 and never has zero width.
- Korn and Graubard 1998, "Confidence intervals for proportions with small expected number of positive counts estimated
  from survey data" (Survey Methodology 24), and Franco et al. 2019 (J. Survey Statistics and Methodology 7): the
  interval of a clustered proportion is that of the effective sample size.
- Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions" (Stat. in Medicine 24).

The p-value of a difference is in `significance.py`, the bootstrap in `resample.py`, pass@k and its kin in `at_k.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from thinksmith.evaluate.statistics.at_k import pass_at_k
from thinksmith.evaluate.statistics.significance import sign_flip_p

__all__ = ["Accuracy", "Difference", "Means", "accuracy", "mean_interval", "paired", "pass_at_k", "share"]

_TWO_SIDED_95 = 0.975
_DOUBT = 0.2  # of the variance of a yes/no with even chances, 1/4: what one problem that was not seen may add

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Means:
    """The attempts of P problems, averaged: `mean_P` of `attempts_P` scores in 0..1 each, of the problems `ids`."""

    ids: tuple[str, ...]
    mean_P: Floats
    attempts_P: Ints

    @classmethod
    def of(cls, score_N: Floats, problem_N: Ints, ids: Sequence[str]) -> Means:
        """From N attempts as columns; `problem_N` are indices into `ids`. Problems without an attempt are left out.

        ValueError for a score outside 0..1, or for no attempt.
        """
        if not len(score_N):
            raise ValueError("there is no problem to take a mean of")
        if not bool(np.all((score_N >= 0) & (score_N <= 1))):
            raise ValueError("each score must be in 0..1")
        attempts = np.bincount(problem_N, minlength=len(ids))
        with np.errstate(invalid="ignore"):
            mean = np.minimum(1.0, np.bincount(problem_N, weights=score_N, minlength=len(ids)) / attempts)
        has = np.flatnonzero(attempts)
        return cls(tuple(ids[at] for at in has.tolist()), mean[has], attempts[has])

    @property
    def yes_no(self) -> bool:
        """One attempt a problem, right or wrong."""
        return bool(np.all(self.attempts_P == 1) and np.all((self.mean_P == 0) | (self.mean_P == 1)))


Scores = Mapping[str, Sequence[float]] | Means
"""Problem id → scores of its attempts; or a million of them as `Means.of(score_N, problem_N, ids)`."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Mean score (0..1) with its 95 % interval; every problem counts the same, however many attempts it had."""

    mean: float
    low: float
    high: float
    problems: int
    attempts: int

    def __str__(self) -> str:
        sizes = f"{self.problems} problems" + (f", {self.attempts} attempts" if self.attempts != self.problems else "")
        return f"{self.mean:.1%} [{self.low:.1%}, {self.high:.1%}] (95 %, {sizes})"


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of after - before (-1..1) over the `problems` that both have, with its 95 % interval.

    `p` is the two-sided p-value of "no difference". A problem is a win when its mean score rose. `dropped` counts
    problems that only one side has: they are left out.
    """

    mean: float
    low: float
    high: float
    p: float
    wins: int
    losses: int
    ties: int
    problems: int
    dropped: int

    def __str__(self) -> str:
        interval = f"[{100 * self.low:+.1f}, {100 * self.high:+.1f}]"
        dropped = f", {self.dropped} not shared" if self.dropped else ""
        return f"{100 * self.mean:+.1f} points {interval} (95 %, paired, {self.problems} problems{dropped})"


def accuracy(scores: Scores) -> Accuracy:
    """Mean score over problems with the interval of `share`.

    ValueError without a problem, with a problem that has no attempt, or with a score outside 0..1.
    """
    means = _means(scores)
    return share(means.mean_P, int(means.attempts_P.sum()))


def share(value_P: Floats, attempts: int) -> Accuracy:
    """The mean of one value (0..1) a problem, with a Wilson interval of the effective sample size.

    The values came of `attempts` attempts in all; as many as problems: each value is one trial, a yes or no.

    The clustered variance of the mean is var(values) / problems (Miller 2024, every problem weighing the same). The
    design effect is its ratio to that of independent yes/no trials, one a problem; the effective sample size is the
    number of problems over it. Guards:
    - it is at least the number of problems (attempts that always agree with each other) and at most the number of
      attempts (attempts that do not depend on the problem). So with one attempt a problem it is the plain Wilson
      interval, and 0/300 and 300/300, whose estimated variance is zero, get the width that 300 problems deserve;
    - both variances are estimated with one more problem that varies as much as a yes/no can (1/4). Where nearly every
      value is near 1 (pass@16, say), the rare hard problems that make the variance may not be among 30: without this
      such intervals hold the truth in 73 to 90 % only, with it in 93 % and more (bench/stats.py);
    - partial scores vary at most as yes/no ones of the same mean do, so for them the interval errs on the wide side.
    """
    problems = len(value_P)
    if not problems:
        raise ValueError("there is no problem to take a mean of")
    mean, trials = float(value_P.mean()), float(problems)
    bernoulli = mean * (1 - mean)
    if attempts > problems > 1 and bernoulli > 1e-15:
        variance = float(value_P.var(ddof=1))
        design_effect = (problems * variance + _DOUBT) / (problems * bernoulli + _DOUBT)
        trials = min(max(problems / design_effect, float(problems)), float(attempts))
    low, high = _wilson(mean, trials, float(ndtri(_TWO_SIDED_95)))
    return Accuracy(mean, low, high, problems, attempts)


def paired(before: Scores, after: Scores) -> Difference:
    """The mean difference over the problems that both sides have. ValueError when they share none.

    The interval is t on the per-problem differences, with two guards where t is known to fail:
    - one yes/no attempt a problem on either side is the case of two matched proportions: Agresti and Min's interval,
      which adds half an observation to each cell of the 2 × 2 table, and is right also with few changed problems;
    - when all differences are equal (or there is one problem) t has no width: the same interval is taken.

    The p-value is that of `significance.sign_flip_p`: McNemar's mid-p for yes/no attempts, sign flips for others.
    """
    means_before, means_after = _means(before), _means(after)
    differences, shared = differences_of(means_before, means_after)
    if not shared:
        raise ValueError("the two sides share no problem")
    yes_no = means_before.yes_no and means_after.yes_no
    low, high = matched_interval(differences) if yes_no else mean_interval(differences)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    return Difference(
        mean=float(differences.mean()),
        low=low,
        high=high,
        p=sign_flip_p(differences),
        wins=wins,
        losses=losses,
        ties=len(shared) - wins - losses,
        problems=len(shared),
        dropped=len(means_before.ids) + len(means_after.ids) - 2 * len(shared),
    )


def differences_of(before: Means, after: Means) -> tuple[Floats, list[str]]:
    """after - before of the problems that both have, and their ids, in the order of `before`."""
    if before.ids == after.ids:
        return np.round(after.mean_P - before.mean_P, 12), list(before.ids)
    place = {problem: at for at, problem in enumerate(after.ids)}
    both = [(at, place[problem]) for at, problem in enumerate(before.ids) if problem in place]
    own, others = (np.array([pair[side] for pair in both], dtype=np.int64) for side in (0, 1))
    # Differences of means such as 0.7 - 0.4 and 0.6 - 0.3 are equal: rounding makes them so.
    return np.round(after.mean_P[others] - before.mean_P[own], 12), [before.ids[at] for at, _ in both]


def mean_interval(differences_P: Floats) -> tuple[float, float]:
    """The 95 % interval of the mean of differences in -1..1: t, or `matched_interval` where t has no width."""
    if np.all(differences_P == differences_P[0]):
        return matched_interval(differences_P)
    problems, mean = len(differences_P), float(differences_P.mean())
    half = float(stdtrit(problems - 1, _TWO_SIDED_95)) * float(differences_P.std(ddof=1)) / math.sqrt(problems)
    return max(-1.0, mean - half), min(1.0, mean + half)


def matched_interval(differences_P: Floats) -> tuple[float, float]:
    """Agresti and Min 2005: Wald's interval after adding half a win, half a loss and one tie."""
    observations = len(differences_P) + 2
    mean = float(differences_P.sum()) / observations
    variance = (float((differences_P**2).sum()) + 1) / observations - mean**2
    half = float(ndtri(_TWO_SIDED_95)) * math.sqrt(variance / observations)
    return max(-1.0, mean - half), min(1.0, mean + half)


def _means(scores: Scores) -> Means:
    if isinstance(scores, Means):
        return scores
    if not scores:
        raise ValueError("there is no problem to take a mean of")
    for problem, each in scores.items():
        if not len(each) or not all(0 <= score <= 1 for score in each):
            raise ValueError(f"{problem}: needs at least one score, each in 0..1")
    means = np.array([math.fsum(each) / len(each) for each in scores.values()])
    return Means(tuple(scores), means, np.array([len(each) for each in scores.values()]))


def _wilson(mean: float, trials: float, quantile: float) -> tuple[float, float]:
    """Wilson 1927: the means that would not be rejected, given `mean` of that many independent yes/no trials."""
    square = quantile**2 / trials
    centre = (mean + square / 2) / (1 + square)
    half = math.sqrt(square * mean * (1 - mean) + square**2 / 4) / (1 + square)
    # The interval holds the mean by construction; min and max keep rounding from denying it at 0 and 1.
    return max(0.0, min(centre - half, mean)), min(1.0, max(centre + half, mean))
