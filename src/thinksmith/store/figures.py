"""A run's attempts as columns of numbers: what statistics are made from, without reading a single trace.

N attempts, P problems. A million attempts are read in seconds and take some tens of megabytes this way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from thinksmith.records import Attempt, Problem, Status

STATUSES: tuple[Status, ...] = get_args(Status)
"""A status is the index in here."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Figures:
    """Attempts as columns, in the order of (problem, sample).

    `problem_N` and `answer_N` are indices into `problems` and `answers` (what was extracted, -1 for nothing).
    `tokens_N`, `thinking_N` and `reply_N` are those of the trace that was judged; `spent_N` all that the strategy
    sampled for it, which is the same where it asked once; `traces_N` how many traces that were. `seconds_N` is wall
    time, `cost_N` in US dollars (NaN: not known). `failed_N`: the engine failed; else an `error` is a verifier's.
    `judged_N`: a model gave the verdict.
    """

    problems: tuple[Problem, ...]
    answers: tuple[str, ...]
    ids_N: Ints
    problem_N: Ints
    sample_N: Ints
    status_N: Ints
    score_N: Floats
    answer_N: Ints
    tokens_N: Ints
    thinking_N: Ints
    reply_N: Ints
    spent_N: Ints
    traces_N: Ints
    seconds_N: Floats
    cost_N: Floats
    failed_N: NDArray[np.bool_]
    judged_N: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.problem_N)

    @property
    def counted_N(self) -> NDArray[np.bool_]:
        """Which attempts say something about the model: not those without usable gold, or at which a verifier or a
        judge of ours failed. Truncated, unanswered and failed ones count, with their score, which is 0."""
        bad = self.status_N == STATUSES.index("bad_gold")
        ours = (self.status_N == STATUSES.index("error")) & ~self.failed_N
        mask: NDArray[np.bool_] = ~(bad | ours)
        return mask

    def of_status(self, status: Status) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = self.status_N == STATUSES.index(status)
        return mask

    def scores(self) -> dict[str, list[float]]:
        """Problem id → scores of its counted attempts, in the order of samples; problems without any are left out."""
        found: dict[str, list[float]] = {}
        kept = self.counted_N
        for problem, score in zip(self.problem_N[kept].tolist(), self.score_N[kept].tolist(), strict=True):
            found.setdefault(self.problems[problem].id, []).append(score)
        return found


def figures_of(attempts: Iterable[Attempt]) -> Figures:
    """The columns of attempts in memory; their numbers in the store are -1."""
    made = sorted(attempts, key=lambda each: (each.problem.id, each.sample))
    problems = {each.problem.id: each.problem for each in made}
    at = {name: index for index, name in enumerate(problems)}
    answers: dict[str, int] = {}
    for each in made:
        if each.verdict.extracted is not None:
            answers.setdefault(each.verdict.extracted, len(answers))

    def ints(values: Iterable[Any]) -> Ints:
        return np.fromiter(values, dtype=np.int64, count=len(made))

    def floats(values: Iterable[Any]) -> Floats:
        return np.fromiter(values, dtype=np.float64, count=len(made))

    return Figures(
        problems=tuple(problems.values()),
        answers=tuple(answers),
        ids_N=np.full(len(made), -1),
        problem_N=ints(at[each.problem.id] for each in made),
        sample_N=ints(each.sample for each in made),
        status_N=ints(STATUSES.index(each.verdict.status) for each in made),
        score_N=floats(each.verdict.score for each in made),
        answer_N=ints(-1 if each.verdict.extracted is None else answers[each.verdict.extracted] for each in made),
        tokens_N=ints(each.trace.tokens for each in made),
        thinking_N=ints(each.trace.thinking_tokens for each in made),
        reply_N=ints(each.trace.answer_tokens for each in made),
        spent_N=ints(each.notes.get("spent", each.trace.tokens) for each in made),
        traces_N=ints(each.notes.get("traces", 1) for each in made),
        seconds_N=floats(each.trace.seconds for each in made),
        cost_N=floats(cost_of(each) for each in made),
        failed_N=np.fromiter((each.trace.finish == "error" for each in made), dtype=np.bool_, count=len(made)),
        judged_N=np.fromiter((bool(each.verdict.judge) for each in made), dtype=np.bool_, count=len(made)),
    )


def cost_of(attempt: Attempt) -> float:
    """What the attempt cost in US dollars, all of its traces; NaN where that is not known."""
    if "cost" in attempt.notes:
        return float(attempt.notes["cost"])
    usage = attempt.trace.usage
    return float("nan") if usage is None or usage.cost is None else usage.cost
