"""What a collection has brought and taken: attempts, verdicts, tokens and money by teacher.

Tokens are sampled ones, those that were lost when a stream broke included. Money is in US dollars by the price table of
`engines/remote/prices.toml`; a model without a price makes the sum unknown, not smaller.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import select

from thinksmith.distill.collect.goal import Goal
from thinksmith.records import Attempt, Finish, ThinkingStatus
from thinksmith.store.figures import cost_of
from thinksmith.store.schema import attempts as attempts_table
from thinksmith.store.store import Store
from thinksmith.strategies.draws import spent

EARLY = 20
"""How many attempts of a teacher are looked at for what is wrong with all of them."""

_CHUNK = 1000  # databases bound the number of values in a query


class Entry(NamedTuple):
    """Of one attempt what is counted. `cost` is NaN where it is not known."""

    problem: str
    number: int
    model: str
    status: str
    finish: Finish
    thinking: ThinkingStatus
    tokens: int
    prompt_tokens: int
    cost: float


def entry_of(attempt: Attempt) -> Entry:
    trace = attempt.trace
    # Without usage nobody bills it: it was sampled in this process, or recorded before.
    cost = cost_of(attempt) if trace.usage else 0.0
    return Entry(
        attempt.problem.id,
        attempt.sample,
        trace.model,
        attempt.verdict.status,
        trace.finish,
        trace.thinking_status,
        spent([trace]),
        trace.prompt_tokens,
        cost,
    )


def stored_entries(store: Store, run_id: str, free: Sequence[str]) -> Iterator[Entry]:
    """Those of a run's attempts, in the order of storing. Attempts of `free` models, and those that no endpoint
    answered, cost nothing.

    Costs are read apart, from an index: in the table they stand behind the traces, and so does whether there is usage,
    which is asked for where it matters.
    """
    column = attempts_table.c
    figures = select(column.id, column.tokens, column.spent, column.cost).where(column.run_id == run_id)
    short = select(
        *(column.id, column.problem_id, column.sample, column.model),
        *(column.status, column.finish, column.thinking_status, column.prompt_tokens),
    ).where(column.run_id == run_id)
    with store.reading() as connection:
        paid = {
            row.id: (row.tokens if row.spent is None else row.spent, row.cost) for row in connection.execute(figures)
        }
        rows = connection.execute(short.order_by(column.id)).all()
        unknown = [row.id for row in rows if paid[row.id][1] is None and row.model not in free]
        asked = select(column.id).where(column.usage.is_not(None))
        dear = {
            number
            for start in range(0, len(unknown), _CHUNK)
            for number in connection.scalars(asked.where(column.id.in_(unknown[start : start + _CHUNK])))
        }
    for number, problem, sample, model, status, finish, thinking, prompt_tokens in rows:
        tokens, cost = paid[number]
        known = cost if cost is not None else math.nan if number in dear else 0.0
        yield Entry(problem, sample, model, status, finish, thinking, tokens, prompt_tokens, known)


@dataclass(slots=True)
class Account:
    """One teacher's. `rates` has for each problem [draws, correct ones] of the draws that every problem gets."""

    attempts: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    cost: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    rates: dict[str, list[int]] = field(default_factory=dict)
    early: list[Entry] = field(default_factory=list)
    """The first of its attempts that came to something."""

    @property
    def correct(self) -> int:
        return self.statuses["correct"]


class Ledger:
    """All of it, by teacher (`accounts`, in the order in which they first answered)."""

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self.accounts: dict[str, Account] = {}
        self.solved: set[str] = set()
        """Problems with a correct trace."""

    def add(self, entry: Entry) -> None:
        account = self.accounts.setdefault(entry.model, Account())
        account.attempts += 1
        account.tokens += entry.tokens
        account.prompt_tokens += entry.prompt_tokens
        account.cost += entry.cost
        account.statuses[entry.status] += 1
        if entry.finish != "error" and len(account.early) < EARLY:
            account.early.append(entry)
        correct = entry.status == "correct"
        if correct:
            self.solved.add(entry.problem)
        # What no verifier could judge says nothing of the model, as in an evaluation.
        if entry.number < self.goal.unconditional and (
            entry.finish == "error" or entry.status not in ("bad_gold", "error")
        ):
            rate = account.rates.setdefault(entry.problem, [0, 0])
            rate[0] += 1
            rate[1] += correct

    @property
    def attempts(self) -> int:
        return sum(account.attempts for account in self.accounts.values())

    @property
    def correct(self) -> int:
        return sum(account.correct for account in self.accounts.values())

    @property
    def tokens(self) -> int:
        return sum(account.tokens for account in self.accounts.values())

    @property
    def cost(self) -> float | None:
        """None where a part of it is not known."""
        whole = sum(account.cost for account in self.accounts.values())
        return None if math.isnan(whole) else whole


def short(count: float) -> str:
    """A number for people: 950, 12.3k, 4.56M, 1.20G."""
    for scale, least, sign in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e3, 1e4, "k")):
        if count >= least:
            scaled = count / scale
            return f"{scaled:,.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}{sign}"
    return f"{count:,.0f}"
