"""What agents did in an evaluation: steps, calls, failures, in all and by task, read from the notes of the attempts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thinksmith.evaluate.statistics.resample import bootstrap
from thinksmith.records import Attempt
from thinksmith.store.figures import Figures, Floats

if TYPE_CHECKING:
    from thinksmith.store.store import Store

_AT_ONCE = 500  # databases bound the number of values in a query
COUNTS = ("steps", "calls", "failed", "refused", "repeats")
"""Thoughts, calls, those that did not work, those that were not allowed, and steps that brought nothing new."""

Notes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean for each task, with its 95 % interval: the studentised bootstrap over tasks (`statistics/resample.py`)."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:,.1f} [{self.low:,.1f}, {self.high:,.1f}]"


@dataclass(frozen=True, slots=True)
class Acted:
    """What agents did, in the mean over `tasks`, each of which counts the same however many attempts it had. `tokens`
    are all that were sampled for an attempt, `answered` the share (0..1) of attempts that a model ended itself."""

    tasks: int
    attempts: int
    steps: Mean
    calls: Mean
    failed: Mean
    refused: Mean
    repeats: Mean
    tokens: Mean
    answered: float


@dataclass(frozen=True, slots=True)
class Deeds:
    """The counts of N attempts, by name, in the order of their figures, and which a model ended itself."""

    counts_N: Mapping[str, Floats]
    answered_N: Floats


def deeds_in(store: Store, figures: Figures) -> Deeds | None:
    """Of stored attempts; None where these are no agent's, which the first of them tells."""
    numbers = figures.ids_N.tolist()
    if deeds_of(_notes_in(store, numbers[:1])) is None:
        return None
    return deeds_of(_notes_in(store, numbers))


def deeds_of(notes: Iterable[Notes]) -> Deeds | None:
    """Of the notes of attempts, in the order of their figures; None unless all are an agent's."""
    told = list(notes)
    if not told or not all("steps" in each and "calls" in each for each in told):
        return None
    counts = {name: np.array([float(each.get(name, 0)) for each in told]) for name in COUNTS}
    return Deeds(counts, np.array([float(bool(each.get("answered"))) for each in told]))


def notes_of(attempts: Iterable[Attempt]) -> list[Notes]:
    """In the order of their figures (`store/figures.py`)."""
    return [each.notes for each in sorted(attempts, key=lambda each: (each.problem.id, each.sample))]


def acted(figures: Figures, deeds: Deeds | None) -> Acted | None:
    """The means; None of no deeds."""
    if deeds is None:
        return None
    found = {name: _mean(by_task(figures, counts_N)) for name, counts_N in deeds.counts_N.items()}
    return Acted(
        tasks=int(np.count_nonzero(np.bincount(figures.problem_N))),
        attempts=len(figures),
        tokens=_mean(by_task(figures, figures.spent_N.astype(np.float64))),
        answered=float(deeds.answered_N.mean()),
        **found,
    )


def by_task(figures: Figures, values_N: Floats) -> Floats:
    """The mean over the attempts at each task, in the order of `figures.problems`; NaN for one without."""
    attempts_P = np.bincount(figures.problem_N, minlength=len(figures.problems))
    with np.errstate(invalid="ignore"):
        means: Floats = np.bincount(figures.problem_N, weights=values_N, minlength=len(attempts_P)) / attempts_P
    return means


def _mean(values_P: Floats) -> Mean:
    values_P = values_P[np.isfinite(values_P)]
    low, high = bootstrap(values_P, method="t")
    return Mean(float(values_P.mean()), max(0.0, low), high)  # a count is never below zero


def _notes_in(store: Store, numbers: list[int]) -> Iterable[Notes]:
    """The notes of these attempts, in this order."""
    from sqlalchemy import select

    from thinksmith.store.schema import attempts

    found: dict[int, Notes] = {}
    with store.reading() as connection:
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            for row in connection.execute(select(attempts.c.id, attempts.c.notes).where(attempts.c.id.in_(some))):
                found[row.id] = json.loads(row.notes) if row.notes else {}
    return [found.get(number, {}) for number in numbers]
