"""What all of it will take, told from the first draws that are asked for.

Not from the first that end: with hundreds under way these are the short ones. Which draws are the first is settled
beforehand, so a run that is gone on with tells the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from thinksmith.distill.collect.budget import Budget
from thinksmith.distill.collect.goal import Goal
from thinksmith.distill.collect.ledger import Entry, short
from thinksmith.distill.collect.teachers import Teacher
from thinksmith.records import Problem

FIRST = 16
"""Draws from which the estimate is made."""

_BYTES = 4  # of a prompt, for a token
_TEMPLATE = 32  # tokens that a template puts around it


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the whole run will take: `attempts` expected, `most` if every problem needs all its tries; `tokens` and
    `cost` (None: not known) for those expected. `by` says from what it is told, for people."""

    attempts: float
    most: int
    tokens: float
    cost: float | None
    by: str

    def __str__(self) -> str:
        most = f" ({self.most:,} at most)" if self.most > round(self.attempts) else ""
        money = "a cost that is not known" if self.cost is None else f"${self.cost:,.2f}"
        return f"about {self.attempts:,.0f} attempts{most}, {short(self.tokens)} tokens, {money}; told from {self.by}"

    def takes_more(self, budget: Budget) -> bool:
        """Will the budget end it?"""
        return (self.tokens if budget.unit == "tokens" else self.cost or 0.0) > budget.amount


class Early:
    """Waits for these draws; `estimate` is there once all have come."""

    def __init__(self, goal: Goal, problems: int, first: Iterable[tuple[str, int]]) -> None:
        self._goal, self._problems = goal, problems
        self._waiting = set(first)
        self._entries: list[Entry] = []
        self.estimate: Estimate | None = None

    @property
    def missing(self) -> int:
        """How many of them have not come yet."""
        return len(self._waiting)

    def came(self, entry: Entry) -> bool:
        """One is made. True if the estimate is there by this."""
        return self._is_waiting((entry.problem, entry.number)) and self._look(entry)

    def gave_up(self, key: tuple[str, int]) -> bool:
        """One will not come. True if the estimate is there by this."""
        return self._is_waiting(key) and self._look()

    def finish(self) -> None:
        """No more will come now: the estimate is made of what there is."""
        if self._waiting:
            self._waiting.clear()
            self._look()

    def _is_waiting(self, key: tuple[str, int]) -> bool:
        if key not in self._waiting:
            return False
        self._waiting.remove(key)
        return True

    def _look(self, entry: Entry | None = None) -> bool:
        if entry:
            self._entries.append(entry)
        if self._waiting or not self._entries:
            return False
        self.estimate = from_attempts(self._goal, self._problems, self._entries)
        return True


def from_attempts(goal: Goal, problems: int, entries: Sequence[Entry]) -> Estimate:
    """What `problems` will take if all draws are like these."""
    count = len(entries)
    tokens = sum(entry.tokens for entry in entries) / count
    cost = sum(entry.cost for entry in entries) / count
    rate = (sum(entry.status == "correct" for entry in entries) + 0.5) / (count + 1)  # never quite 0 or 1
    attempts = problems * goal.draws_expected(rate)
    money = None if math.isnan(cost) else attempts * cost
    return Estimate(attempts, problems * goal.tries, attempts * tokens, money, f"the first {count} attempts")


def from_tokens(goal: Goal, problems: Sequence[Problem], teachers: Sequence[Teacher], tokens: int) -> Estimate:
    """What it will take if an attempt takes so many tokens, half of the draws are correct, and the dearest teacher is
    asked for all of them."""
    prompt = sum(len(problem.text.encode("utf-8", "replace")) for problem in problems) // _BYTES // len(problems)
    costs = [teacher.cost(prompt + _TEMPLATE, tokens) for teacher in teachers]
    known = [cost for cost in costs if cost is not None]
    attempts = len(problems) * goal.draws_expected(0.5)
    by = f"{tokens:,} tokens an attempt" + (" and half of the draws correct" if goal.judges else "")
    money = attempts * max(known) if len(known) == len(costs) else None
    return Estimate(attempts, len(problems) * goal.tries, attempts * tokens, money, by)
