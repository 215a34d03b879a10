"""Do the statistics keep what they promise? Synthetic evaluations whose truth is known.

Coverage: 2,000 evaluations a setting (4,000 of the accuracy), of problems whose chance of being solved is drawn from a
Beta distribution. How many of the 95 % intervals of the accuracy, pass@k, pass^k and maj@k, and of a paired difference,
hold the true value? A setting counts as ordinary when at least 5 problems are expected to succeed and 5 to fail; nearer
to 0 % or 100 % an interval of whole problems is too wide, but for some shares, where Wilson's own coverage dips to 92 %
(Brown, Cai and DasGupta 2001, Statistical Science 16): there the goal is 91 % and more.
A difference is one of all problems (each somewhat easier) or of some (a fifth becomes certain); where fewer than 10
problems carry it, it stands apart: of differences that are mostly 0 and sometimes large, few problems tell too little.

Type I: 10,000 comparisons a setting (5,000 with several attempts) of a model with itself. How many are called different
at 5 %? Ordinary means here that at least 10 problems are expected to change; with fewer there are too few p-values to
come near 5 % from below.

Power: 2,000 comparisons with the difference that `power.detectable` says is told in 80 % of them. Then the time that a
million attempts take.

    python bench/stats.py [--quick]
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, expit, logit, roots_jacobi

from _result import finish
from thinksmith.evaluate.statistics.at_k import all_P, majority, pass_P
from thinksmith.evaluate.statistics.measures import trials_in
from thinksmith.evaluate.statistics.power import detectable
from thinksmith.evaluate.statistics.resample import bootstrap, bootstrap_difference
from thinksmith.evaluate.statistics.significance import sign_flip_p
from thinksmith.evaluate.statistics.stats import Means, accuracy, matched_interval, mean_interval, paired, share

Floats = NDArray[np.float64]

GOALS = {
    "coverage_lowest": 0.93,
    "coverage_highest": 0.97,
    "coverage_at_the_edge_lowest": 0.91,
    "coverage_of_a_gain_of_few_lowest": 0.9,
    "type_i_lowest": 0.04,
    "type_i_highest": 0.06,
    "type_i_few_changes_highest": 0.06,
    "power_lowest": 0.76,
    "power_highest": 0.84,
    "accuracy_of_a_million_s": 1.0,
    "paired_of_two_million_s": 1.0,
}
DIFFICULTIES = {"even": (1.0, 1.0), "all or nothing": (0.5, 0.5), "hard": (2.0, 6.0), "easy": (6.0, 1.5)}
ODDS = 0.7  # the logarithm of how much better the odds of every problem are
FIFTH = 0.2  # of the problems, of which a model is certain
WRONG = (0.5, 0.3, 0.2)  # how failures part: a common wrong answer, a rarer one, no answer
PROBLEMS = (30, 100, 1000)
TRIES = (1, 4, 16)
RESAMPLED_TO = 100  # problems: with more the bootstraps agree with the formulas, and 32 votes take long


@dataclass(frozen=True)
class Cell:
    """A setting: P problems of a difficulty, n attempts at each, and the k of pass@k and its kin."""

    problems: int
    n: int
    k: int
    difficulty: str

    @property
    def beta(self) -> tuple[float, float]:
        return DIFFICULTIES[self.difficulty]


def mean_over(difficulty: str, of: Callable[[Floats], Floats], degree: int) -> float:
    """The mean of a polynomial of the chance over a Beta distribution, exact: Gauss-Jacobi quadrature."""
    a, b = DIFFICULTIES[difficulty]
    nodes, weights = roots_jacobi(degree // 2 + 1, b - 1, a - 1)
    return float((weights * of((nodes + 1) / 2)).sum() / weights.sum())


@cache
def truth(measure: str, difficulty: str, k: int) -> float:
    return mean_over(difficulty, lambda p: TRUTHS[measure](p, k), max(2, k))


def majority_truth(p: Floats, k: int) -> Floats:
    """The chance that most of k fresh votes are right: every way in which k attempts can part, ties by lot."""
    total, chances = np.zeros_like(p), [p, *((1 - p) * part for part in WRONG)]
    for cuts in itertools.combinations(range(k + 3), 3):
        counts = np.diff((-1, *cuts, k + 3)) - 1
        right, *wrong = counts[:3]
        if right == 0 or right < max(wrong):
            continue
        ways = 1.0
        for index, count in enumerate(counts):
            ways = ways * chances[index] ** count
        total += multinomial(tuple(int(count) for count in counts)) * ways / (1 + sum(w == right for w in wrong))
    return total


@cache
def multinomial(counts: tuple[int, ...]) -> int:
    from math import factorial, prod

    return factorial(sum(counts)) // prod(map(factorial, counts))


TRUTHS: dict[str, Callable[[Floats, int], Floats]] = {
    "accuracy": lambda p, k: p,
    "pass@k": lambda p, k: 1 - (1 - p) ** k,
    "pass^k": lambda p, k: p**k,
    "maj@k": majority_truth,
}


def attempts(random: np.random.Generator, cell: Cell) -> NDArray[np.int64]:
    """How the n attempts at each of the P problems part into right, two wrong answers and none: [P, 4]."""
    p = random.beta(*cell.beta, cell.problems)
    chances = np.stack([p, *((1 - p) * part for part in WRONG)], axis=1)
    return random.multinomial(cell.n, chances / chances.sum(axis=1, keepdims=True))


def values(measure: str, counts_P4: NDArray[np.int64], cell: Cell) -> Floats:
    n_P, c_P = np.full(cell.problems, cell.n), counts_P4[:, 0]
    if measure == "accuracy":
        return c_P / n_P
    if measure in ("pass@k", "pass^k"):
        return (pass_P if measure == "pass@k" else all_P)(n_P, c_P, cell.k)
    kinds = np.tile(np.array([0, 1, 2, -1]), cell.problems)
    class_N = np.repeat(kinds, counts_P4.ravel())
    problem_N = np.repeat(np.arange(cell.problems), cell.n)
    return majority(problem_N, class_N, (class_N == 0).astype(float), cell.k).value_P


def coverage(measure: str, cell: Cell, sets: int, resampled: int) -> dict[str, Any]:
    """How many of `sets` intervals hold the truth, and of the first `resampled` bootstrap intervals."""
    random = np.random.default_rng(list(map(ord, repr((measure, cell)))))
    true = truth(measure, cell.difficulty, cell.k)
    held, by_bootstrap = 0, {"percentile": 0, "bca": 0, "t": 0}
    resampled = resampled if cell.problems <= RESAMPLED_TO else 0
    for number in range(sets):
        value_P = values(measure, attempts(random, cell), cell)
        found = share(value_P, trials_in(value_P, np.full(cell.problems, cell.n)))
        held += found.low <= true <= found.high
        if number < resampled:
            for method in by_bootstrap:
                low, high = bootstrap(value_P, method=method, draws=1000)  # type: ignore[arg-type]
                by_bootstrap[method] += low <= true <= high
    shares = {method: round(count / resampled, 4) for method, count in by_bootstrap.items()} if resampled else {}
    expected = cell.problems * min(true, 1 - true)
    return {**describe(measure, cell), "truth": round(true, 4), "edge": expected < 5, "held": held / sets, **shares}


def describe(measure: str, cell: Cell) -> dict[str, Any]:
    return {
        "measure": measure,
        "problems": cell.problems,
        "n": cell.n,
        "k": cell.k,
        "difficulty": cell.difficulty,
    }


def sides(random: np.random.Generator, cell: Cell, gain: str = "none") -> tuple[Means, Means]:
    """Two runs over the same problems, the second by a model that is the same (`none`), somewhat better at every
    problem (`all`), or certain of a fifth of them and the same at the others (`some`)."""
    p = random.beta(*cell.beta, cell.problems)
    better = improved(p, random.random(cell.problems), gain)
    ids, n_P = tuple(map(str, range(cell.problems))), np.full(cell.problems, cell.n)
    return (
        Means(ids, random.binomial(cell.n, p) / cell.n, n_P),
        Means(ids, random.binomial(cell.n, better) / cell.n, n_P),
    )


def improved(p: Floats, chance: Floats, gain: str) -> Floats:
    if gain == "all":
        return np.asarray(expit(logit(p) + ODDS))
    return np.where(chance < FIFTH, 1.0, p) if gain == "some" else p


@cache
def gain_truth(difficulty: str, gain: str) -> float:
    """The true difference: by formula, or by a fine grid over the quantiles of the Beta distribution."""
    a, b = DIFFICULTIES[difficulty]
    if gain == "some":
        return FIFTH * b / (a + b)
    p = np.asarray(betaincinv(a, b, (np.arange(200_000) + 0.5) / 200_000))
    return float((improved(p, np.ones_like(p), gain) - p).mean())


def type_i(cell: Cell, sets: int) -> dict[str, Any]:
    """How often a model is called different from itself; `exact` by the exact p-value instead of the mid-p-value."""
    random = np.random.default_rng(list(map(ord, repr(("type I", cell)))))
    rejected = exactly = changed = 0
    for _ in range(sets):
        before, after = sides(random, cell)
        differences = np.round(after.mean_P - before.mean_P, 12)
        changed += int((differences != 0).sum())
        rejected += sign_flip_p(differences) < 0.05
        exactly += cell.n == 1 and sign_flip_p(differences, mid=False) < 0.05
    found = {**describe("type I", cell), "few_changes": changed / sets < 10, "rejected": rejected / sets}
    return found | ({"exact": exactly / sets} if cell.n == 1 else {})


def difference_coverage(cell: Cell, gain: str, sets: int, resampled: int) -> dict[str, Any]:
    """As `coverage`, of a paired difference. Few problems that carry it (under 10) count as an edge."""
    random = np.random.default_rng(list(map(ord, repr(("difference", gain, cell)))))
    true = gain_truth(cell.difficulty, gain)
    few = gain == "some" and cell.problems * FIFTH < 10
    held, by_bootstrap = 0, {"percentile": 0, "bca": 0, "t": 0}
    resampled = resampled if cell.problems <= RESAMPLED_TO else 0
    for number in range(sets):
        before, after = sides(random, cell, gain)
        differences = np.round(after.mean_P - before.mean_P, 12)
        low, high = (matched_interval if cell.n == 1 else mean_interval)(differences)  # as `paired` has it
        held += low <= true <= high
        if number < resampled:
            for method in by_bootstrap:
                low, high = bootstrap_difference(differences, method=method, draws=1000)  # type: ignore[arg-type]
                by_bootstrap[method] += low <= true <= high
    shares = {method: round(count / resampled, 4) for method, count in by_bootstrap.items()} if resampled else {}
    told = {**describe(f"difference of {gain}", cell), "truth": round(true, 4), "edge": few}
    return {**told, "held": held / sets, **shares}


def power(cell: Cell, sets: int) -> dict[str, Any]:
    """How often the difference is told that `detectable` says is told in 80 %: wins and losses with that surplus."""
    random = np.random.default_rng(list(map(ord, repr(("power", cell)))))
    noise = 0.3  # the share of problems that change by chance, half of them each way
    difference = 0.1
    for _ in range(20):  # the variance of what is drawn depends on the difference, hence a fixed point
        told = detectable(cell.problems, noise + difference - difference**2)
        assert told is not None
        difference = told
    found = 0
    for _ in range(sets):
        draw = random.random((cell.problems, cell.n))
        won, lost = draw < noise / 2 + difference, draw > 1 - noise / 2
        found += sign_flip_p((won.astype(float) - lost).mean(axis=1)) < 0.05
    return {"problems": cell.problems, "difference": round(difference, 4), "told": found / sets}


def speed() -> dict[str, float]:
    random = np.random.default_rng(0)
    problem_N = np.repeat(np.arange(1000), 1000)
    ids = [f"problem/{i}" for i in range(1000)]
    p = random.beta(1, 1, 1000)
    before, after = ((random.random(1_000_000) < p[problem_N]).astype(float) for _ in range(2))
    began = time.perf_counter()
    accuracy(Means.of(before, problem_N, ids))
    once = time.perf_counter() - began
    began = time.perf_counter()
    paired(Means.of(before, problem_N, ids), Means.of(after, problem_N, ids))
    return {"accuracy_of_a_million_s": round(once, 3), "paired_of_two_million_s": round(time.perf_counter() - began, 3)}


def settings(quick: bool) -> dict[str, list[Cell]]:
    problems, difficulties = ((30, 300), ("even", "hard")) if quick else (PROBLEMS, tuple(DIFFICULTIES))
    tries = (1, 4) if quick else TRIES
    grid = list(itertools.product(problems, tries, difficulties))
    some = [each for each in grid if each[1] > 1 and each[2] != "all or nothing"]
    return {
        "accuracy": [Cell(p, k, k, d) for p, k, d in grid],
        # k of k attempts (each problem is a yes or no), and k of twice as many
        "pass@k": [Cell(p, n * k, k, d) for p, k, d in some for n in (1, 2)],
        "pass^k": [Cell(p, 2 * k, k, d) for p, k, d in some],
        "maj@k": [Cell(p, n * k, k, d) for p, k, d in some for n in (1, 2) if n * k <= 16 or p <= RESAMPLED_TO],
        "pairs": [Cell(p, k, k, d) for p, k, d in grid],
        "power": [Cell(p, 1, 1, "even") for p in problems if p > 30],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer settings and evaluations, under a minute")
    quick = parser.parse_args().quick
    sets, comparisons, resampled = (400, 1000, 0) if quick else (2000, 10_000, 300)
    cells = settings(quick)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as workers:
        covered = told(
            workers.submit(coverage, measure, cell, sets * (2 if measure == "accuracy" else 1), resampled)
            for measure in ("accuracy", "pass@k", "pass^k", "maj@k")
            for cell in cells[measure]
        )
        covered += told(
            workers.submit(difference_coverage, cell, gain, sets, resampled)
            for gain in ("all", "some")
            for cell in cells["pairs"]
        )
        # Where many problems change the test is close to continuous, and half as many comparisons tell enough.
        same = told(workers.submit(type_i, cell, comparisons // (1 + (cell.n > 1))) for cell in cells["pairs"])
        strong = told(workers.submit(power, cell, sets) for cell in cells["power"])
    figures = summed(covered, same, strong) | speed()
    slack = 0.03 if quick else 0.0  # a quick run's shares are not that precise
    holds = all(
        figures[name] is None
        or (figures[name] >= goal - slack if name.endswith("lowest") else figures[name] <= goal + slack)
        for name, goal in GOALS.items()
    )
    finish("stats", figures | {"coverage": covered, "type_i": same, "power": strong}, GOALS, holds)
    sys.exit(0 if holds else 1)


def told(promised: Iterable[Future[dict[str, Any]]]) -> list[dict[str, Any]]:
    rows = []
    for each in list(promised):
        rows.append(each.result())
        print(" ".join(f"{name}={value}" for name, value in rows[-1].items()), flush=True)
    return rows


def summed(covered: list[dict[str, Any]], same: list[dict[str, Any]], strong: list[dict[str, Any]]) -> dict[str, Any]:
    ordinary = [row for row in covered if not row["edge"]]
    many = [row["rejected"] for row in same if not row["few_changes"]]
    few = [row["rejected"] for row in same if row["few_changes"]]
    edge = [row["held"] for row in covered if row["edge"] and not row["measure"].startswith("difference")]
    held = [row["held"] for row in ordinary]
    resampled = [row for row in ordinary if "t" in row]
    return {
        "settings": len(covered) + len(same),
        "coverage_lowest": min(held),
        "coverage_highest": max(held),
        "coverage_mean": round(float(np.mean(held)), 4),
        "coverage_at_the_edge_lowest": min(edge, default=None),
        "type_i_lowest": min(many),
        "type_i_highest": max(many),
        "type_i_few_changes_highest": max(few, default=None),
        "type_i_exact_lowest": min(row["exact"] for row in same if "exact" in row and not row["few_changes"]),
        "coverage_of_a_gain_of_few_lowest": min(
            (row["held"] for row in covered if row["edge"] and row["measure"].startswith("difference")), default=None
        ),
        "power_lowest": min(row["told"] for row in strong),
        "power_highest": max(row["told"] for row in strong),
        **{
            f"bootstrap_{method}_mean": round(float(np.mean([row[method] for row in resampled])), 4)
            for method in ("percentile", "bca", "t")
            if resampled
        },
    }


if __name__ == "__main__":
    main()
