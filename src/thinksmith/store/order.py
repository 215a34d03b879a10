"""Which attempts of a run, in which order: their numbers, a page at a time.

Every page is read through an index from where the last one ended (keyset pagination), so it takes as long in a run of a
million attempts as in one of a hundred.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select

from thinksmith.errors import UserError
from thinksmith.store.schema import attempts as attempts_table
from thinksmith.store.schema import problems as problems_table

Order = Literal["made", "longest", "shortest"]

MOST_PROBLEMS = 1000
"""So many problems may be asked for by a part of their text; what is found in more is too vague."""

Key = tuple[int, int]
"""(sampled tokens, number) of an attempt: what the orders are made of."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The attempts of a run with one of the `statuses`, numbered up to `last`, of these problem ids (None: of any)."""

    run_id: str
    statuses: tuple[str, ...]
    order: Order
    last: int
    problems: tuple[str, ...] | None = None

    def place(self, key: Key) -> Key:
        """What the order sorts by."""
        tokens, number = key
        return {"made": 0, "longest": -tokens, "shortest": tokens}[self.order], number


def page(connection: Connection, wanted: Wanted, after: Key | None, limit: int) -> list[Key]:
    """The first `limit` of the wanted attempts in their order, those behind `after` if that is given."""
    if wanted.problems is not None:
        found = sorted(_of_problems(connection, wanted), key=wanted.place)
        return [key for key in found if after is None or wanted.place(key) > wanted.place(after)][:limit]
    # One query a status, merged: each runs along an index, which one query for all of them could not.
    each = (_of_status(connection, wanted, status, after, limit) for status in wanted.statuses)
    return sorted((key for keys in each for key in keys), key=wanted.place)[:limit]


def find_problems(connection: Connection, run_id: str, text: str) -> tuple[str, ...]:
    """Ids of the run's problems: the one of this id, else those with this text in their id or prompt.

    UserError if there is none, or if there are too many.
    """
    column, problem = attempts_table.c, problems_table.c
    named = select(exists().where(column.run_id == run_id, column.problem_id == text))
    if connection.scalar(named):
        return (text,)
    written = json.dumps(text, ensure_ascii=False)[1:-1]  # as it stands in the prompt's JSON
    holds = or_(problem.problem_id.contains(text, autoescape=True), problem.prompt.contains(written, autoescape=True))
    here = exists().where(column.run_id == run_id, column.problem_id == problem.problem_id)
    found = connection.scalars(select(problem.problem_id).where(holds, here).distinct().limit(MOST_PROBLEMS + 1)).all()
    if not found:
        raise UserError(f"no problem of the run {run_id} is called {text!r} or has that in its text")
    if len(found) > MOST_PROBLEMS:
        raise UserError(f"{text!r} is found in more than {MOST_PROBLEMS} problems of the run: type more of it")
    return tuple(found)


def _of_problems(connection: Connection, wanted: Wanted) -> list[Key]:
    column, found = attempts_table.c, list[Key]()
    names = wanted.problems or ()
    for start in range(0, len(names), 500):  # databases bound the number of values in a query
        some = column.problem_id.in_(names[start : start + 500])
        query = select(column.tokens, column.id).where(column.run_id == wanted.run_id, some)
        query = query.where(column.status.in_(wanted.statuses), column.id <= wanted.last)
        found += [(row.tokens, row.id) for row in connection.execute(query)]
    return found


def _of_status(connection: Connection, wanted: Wanted, status: str, after: Key | None, limit: int) -> list[Key]:
    column = attempts_table.c
    here = and_(column.run_id == wanted.run_id, column.status == status)
    if wanted.order == "made":
        query = select(column.id).where(here, column.id > (after[1] if after else 0), column.id <= wanted.last)
        return [(0, number) for number in connection.scalars(query.order_by(column.id).limit(limit))]
    here = and_(here, column.id + 0 <= wanted.last)  # + 0: or SQLite would run along the index of the other order
    shorter = wanted.order == "longest"
    found: list[Key] = []
    if after:
        tokens, number = after
        found = _keys(connection, and_(here, column.tokens == tokens, column.id > number), (column.id,), limit)
        behind = and_(here, column.tokens < tokens if shorter else column.tokens > tokens)
    else:
        behind = here
    rest = limit - len(found)
    if not shorter:
        return found + _keys(connection, behind, (column.tokens, column.id), rest)
    # Backwards along the index the equally long come latest first, so where the page cuts through them it takes the
    # wrong ones: those are asked for again.
    beyond = _keys(connection, behind, (column.tokens.desc(),), rest)
    if not beyond:
        return found
    edge = beyond[-1][0]
    whole = [key for key in beyond if key[0] > edge]
    cut = _keys(connection, and_(here, column.tokens == edge), (column.id,), rest - len(whole))
    return found + whole + cut


def _keys(
    connection: Connection, where: ColumnElement[bool], order: Sequence[ColumnElement[Any]], limit: int
) -> list[Key]:
    if limit <= 0:
        return []
    column = attempts_table.c
    query = select(column.tokens, column.id).where(where).order_by(*order).limit(limit)
    return [(row.tokens, row.id) for row in connection.execute(query)]
