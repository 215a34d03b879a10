"""The statistics of an evaluation: an accuracy with its interval, a paired difference, pass@k.

Sources:
- Miller 2024, "Adding Error Bars to Evals" (arXiv 2411.00640): attempts at one problem are not independent, so the
  standard error is clustered by problem; two models are compared on the same problems, paired.
- Wilson 1927, "Probable inference, the law of succession, and statistical inference" (JASA 22): an interval for a
  proportion that stays inside 0..1 and never has zero width.
- Korn and Graubard 1998, "Confidence intervals for proportions with small expected number of positive counts estimated
  from survey data" (Survey Methodology 24), and Franco et al. 2019 (J. Survey Statistics and Methodology 7): the
  interval of a clustered proportion is that of the effective sample size.
- Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions" (Stat. in Medicine 24).
- McNemar 1947 (Psychometrika 12) and Fisher 1935: the exact sign test and the sign-flip permutation test.
- Chen et al. 2021, "Evaluating Large Language Models Trained on Code" (arXiv 2107.03374): the unbiased pass@k.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtri, stdtrit

_TWO_SIDED_95 = 0.975
_FLIPS = 10_000
_FLIPS_AT_ONCE = 500  # bounds memory: 500 × 7,473 problems × 8 bytes is 30 MB

Scores = Mapping[str, Sequence[float]]
Floats = NDArray[np.float64]


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


def accuracy(scores_by_problem: Scores) -> Accuracy:
    """Mean score over problems with a Wilson interval of the effective sample size.

    ValueError without a problem, with a problem that has no attempt, or with a score outside 0..1.

    The clustered variance of the mean is var(problem means) / problems (Miller 2024, every problem weighing the same).
    The effective sample size is the number of independent yes/no trials with that variance. Guards:
    - it is at least the number of problems (attempts that always agree with each other) and at most the number of
      attempts (attempts that do not depend on the problem). So with one attempt a problem it is the plain Wilson
      interval, and 0/300 and 300/300, whose estimated variance is zero, get the width that 300 problems deserve;
    - with several attempts the variance was estimated from the problem means, hence the quantile of t, not the normal;
    - partial scores vary at most as yes/no ones of the same mean do, so for them the interval errs on the wide side.
    """
    means = np.array([mean for mean in _problem_means(scores_by_problem).values()])
    problems, attempts = len(means), sum(len(scores) for scores in scores_by_problem.values())
    mean = float(means.mean())
    trials, quantile = float(problems), float(ndtri(_TWO_SIDED_95))
    if attempts > problems > 1:
        variance = float(means.var(ddof=1)) / problems
        bernoulli = mean * (1 - mean)
        # A variance of rounding errors is none: then every problem has the same mean.
        independent = bernoulli / variance if variance > 1e-15 else float(attempts if bernoulli > 1e-15 else problems)
        trials = min(max(independent, float(problems)), float(attempts))
        quantile = float(stdtrit(problems - 1, _TWO_SIDED_95))
    low, high = _wilson(mean, trials, quantile)
    return Accuracy(mean, low, high, problems, attempts)


def paired(before: Scores, after: Scores) -> Difference:
    """The mean difference over the problems that both sides have. ValueError when they share none.

    The interval is t on the per-problem differences, with two guards where t is known to fail:
    - one yes/no attempt a problem on either side is the case of two matched proportions: Agresti and Min's interval,
      which adds half an observation to each cell of the 2 × 2 table, and is right also with few changed problems;
    - when all differences are equal (or there is one problem) t has no width: the same interval is taken.

    The p-value is the exact sign test (McNemar) where all changes have the same size, else a permutation test that
    flips the signs of the differences (10,000 flips of a fixed seed, so the smallest p is 1/10,001).
    """
    means_before, means_after = _problem_means(before), _problem_means(after)
    shared = [problem for problem in means_before if problem in means_after]
    if not shared:
        raise ValueError("the two sides share no problem")
    # Differences of means such as 0.7 - 0.4 and 0.6 - 0.3 are equal: rounding makes them so.
    differences = np.round(np.array([means_after[problem] - means_before[problem] for problem in shared]), 12)
    yes_no = all(
        len(side[problem]) == 1 and side[problem][0] in (0, 1) for side in (before, after) for problem in shared
    )
    constant = bool(np.all(differences == differences[0]))
    low, high = _matched_interval(differences) if yes_no or constant else _t_interval(differences)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    return Difference(
        mean=float(differences.mean()),
        low=low,
        high=high,
        p=_no_difference_p(differences),
        wins=wins,
        losses=losses,
        ties=len(shared) - wins - losses,
        problems=len(shared),
        dropped=len(means_before) + len(means_after) - 2 * len(shared),
    )


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that k of n attempts, drawn without replacement, hold one of the c correct ones.

    Unbiased for the chance that k fresh attempts hold a correct one (Chen et al. 2021, equation 1), which
    1 - (1 - c/n)^k is not.
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n, not n={n}, c={c}, k={k}")
    return 1 - math.comb(n - c, k) / math.comb(n, k)


def _problem_means(scores_by_problem: Scores) -> dict[str, float]:
    if not scores_by_problem:
        raise ValueError("there is no problem to take a mean of")
    for problem, scores in scores_by_problem.items():
        if not len(scores) or not all(0 <= score <= 1 for score in scores):
            raise ValueError(f"{problem}: needs at least one score, each in 0..1")
    return {problem: math.fsum(scores) / len(scores) for problem, scores in scores_by_problem.items()}


def _wilson(mean: float, trials: float, quantile: float) -> tuple[float, float]:
    """Wilson 1927: the means that would not be rejected, given `mean` of that many independent yes/no trials."""
    square = quantile**2 / trials
    centre = (mean + square / 2) / (1 + square)
    half = math.sqrt(square * mean * (1 - mean) + square**2 / 4) / (1 + square)
    # The interval holds the mean by construction; min and max keep rounding from denying it at 0 and 1.
    return max(0.0, min(centre - half, mean)), min(1.0, max(centre + half, mean))


def _t_interval(differences: Floats) -> tuple[float, float]:
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(len(differences))
    half = float(stdtrit(len(differences) - 1, _TWO_SIDED_95)) * error
    return max(-1.0, mean - half), min(1.0, mean + half)


def _matched_interval(differences: Floats) -> tuple[float, float]:
    """Agresti and Min 2005: Wald's interval after adding half a win, half a loss and one tie."""
    observations = len(differences) + 2
    mean = float(differences.sum()) / observations
    variance = (float((differences**2).sum()) + 1) / observations - mean**2
    half = float(ndtri(_TWO_SIDED_95)) * math.sqrt(variance / observations)
    return max(-1.0, mean - half), min(1.0, mean + half)


def _no_difference_p(differences: Floats) -> float:
    changes = differences[differences != 0]
    if not len(changes):
        return 1.0
    if np.all(np.abs(changes) == abs(changes[0])):
        wins = int((changes > 0).sum())
        return min(1.0, 2 * float(bdtr(min(wins, len(changes) - wins), len(changes), 0.5)))
    random = np.random.default_rng(0)
    observed, as_far = abs(float(changes.sum())) - 1e-9, 0
    for _ in range(0, _FLIPS, _FLIPS_AT_ONCE):
        signs = 2.0 * random.integers(0, 2, (_FLIPS_AT_ONCE, len(changes))) - 1
        as_far += int((np.abs(signs @ changes) >= observed).sum())
    return (as_far + 1) / (_FLIPS + 1)
