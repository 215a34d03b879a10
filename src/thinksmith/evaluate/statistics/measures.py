"""avg@k, pass@k, pass^k and maj@k of a run, each with two 95 % intervals clustered by problem.

The first is Wilson's with the effective sample size (`stats.share`), the second the bootstrap's over problems
(`resample`): two ways to the same, so where they differ much there are too few problems for either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinksmith.errors import UserError
from thinksmith.evaluate.statistics.at_k import all_P, majority, pass_P
from thinksmith.evaluate.statistics.resample import bootstrap
from thinksmith.evaluate.statistics.stats import Accuracy, share
from thinksmith.store.figures import Figures

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AtK:
    """A measure such as pass@8: its value with its interval, and the interval of the bootstrap.

    `left_out` problems have fewer than k attempts that say something. `error` is the standard error that drawing
    subsets added to the value (0: all were counted).
    """

    name: str
    k: int
    value: Accuracy
    bootstrap: tuple[float, float]
    left_out: int = 0
    error: float = 0.0

    def __str__(self) -> str:
        return f"{self.name} {self.value.mean:.1%} [{self.value.low:.1%}, {self.value.high:.1%}]"


def measures(figures: Figures, ks: Sequence[int], *, class_N: Ints | None = None) -> list[AtK]:
    """avg@k, pass@k, pass^k and, with the classes of the answers (`answer_classes`), maj@k for each k.

    Of the attempts that count (`Figures.counted_N`); an attempt is correct where its verdict says so, and avg and maj
    take the scores. UserError where no problem has k attempts, or for k < 1.
    """
    kept = figures.counted_N
    problem_N, score_N = figures.problem_N[kept], figures.score_N[kept]
    correct_N = figures.of_status("correct")[kept]
    problems = len(figures.problems)
    n_P = np.bincount(problem_N, minlength=problems)
    c_P = np.bincount(problem_N[correct_N], minlength=problems)
    sum_P = np.bincount(problem_N, weights=score_N, minlength=problems)
    found = []
    for k in ks:
        enough = _enough(n_P, k)
        some_n, some_c = n_P[enough], c_P[enough]
        values = {
            f"avg@{k}": (np.minimum(1.0, sum_P[enough] / some_n), 0.0),
            f"pass@{k}": (pass_P(some_n, some_c, k), 0.0),
            f"pass^{k}": (all_P(some_n, some_c, k), 0.0),
        }
        if class_N is not None:
            place_P = np.cumsum(enough) - 1
            among = enough[problem_N]
            voted = majority(place_P[problem_N[among]], class_N[kept][among], score_N[among], k)
            values[f"maj@{k}"] = (voted.value_P, voted.error)
        for name, (value_P, error) in values.items():
            interval = share(value_P, trials_in(value_P, some_n))
            found.append(AtK(name, k, interval, bootstrap(value_P), int((~enough).sum()), error))
    return found


def trials_in(value_P: Floats, n_P: Ints) -> int:
    """How many attempts `share` may take the values for: each value is one yes or no where all are (k = n, without
    ties in a vote), else a mean over several of its problem's attempts."""
    return int(n_P.sum()) if bool(((value_P > 0) & (value_P < 1)).any()) else len(value_P)


def answer_classes(figures: Figures) -> Ints:
    """The class of each attempt's answer among the answers to its problem, by the verifier's rules; -1 for no answer,
    and for an attempt that was cut off or failed, whose last words are no vote."""
    from thinksmith.verify.same import classes  # heavy, and wanted only here

    voted = (figures.answer_N >= 0) & ~figures.of_status("truncated") & ~figures.of_status("no_answer")
    distinct: dict[int, list[int]] = defaultdict(list)
    pairs = np.unique(np.stack([figures.problem_N[voted], figures.answer_N[voted]], axis=1), axis=0)
    for problem, answer in pairs.tolist():
        distinct[problem].append(answer)
    class_of: dict[tuple[int, int], int] = {}
    for problem, answers in distinct.items():
        numbers = classes(figures.problems[problem], [figures.answers[answer] for answer in answers])
        class_of |= {
            (problem, answer): number for answer, number in zip(answers, numbers, strict=True) if number is not None
        }
    keys = zip(figures.problem_N.tolist(), figures.answer_N.tolist(), voted.tolist(), strict=True)
    return np.array([class_of.get((problem, answer), -1) if votes else -1 for problem, answer, votes in keys], np.int64)


def _enough(n_P: Ints, k: int) -> NDArray[np.bool_]:
    if k < 1:
        raise UserError(f"k must be at least 1, not {k}")
    enough: NDArray[np.bool_] = n_P >= k
    if not enough.any():
        most = int(n_P.max(initial=0))
        raise UserError(f"k={k} is more than the {most} attempts that a problem has: lower k, or raise --samples")
    return enough
