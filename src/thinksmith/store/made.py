"""What was sampled before: attempts at a problem in several runs, to be found again by who asks the same."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import select

from thinksmith.records import Problem
from thinksmith.store.attempts import problem_row
from thinksmith.store.schema import attempts as attempts_table
from thinksmith.store.schema import runs as runs_table
from thinksmith.store.store import Store, StoredAttempt


def runs_of(store: Store, kinds: Collection[str], model: str, weights_hash: str) -> list[str]:
    """Ids of the runs of these kinds by a model of exactly these weights, latest first."""
    column = runs_table.c
    query = select(column.id).where(
        column.kind.in_(list(kinds)), column.model == model, column.weights_hash == weights_hash
    )
    with store.reading() as connection:
        return list(connection.scalars(query.order_by(column.started.desc(), column.id.desc())))


def attempts_at(store: Store, problem: Problem, run_ids: Sequence[str]) -> list[StoredAttempt]:
    """The runs' attempts at exactly this problem (every field of it), in the order of storing."""
    column = attempts_table.c
    query = select(column.id).where(
        column.run_id.in_(list(run_ids)),
        column.problem_id == problem.id,
        column.problem_hash == problem_row(problem)["hash"],
    )
    with store.reading() as connection:
        numbers = list(connection.scalars(query.order_by(column.id)))
    return list(store.read(numbers))
