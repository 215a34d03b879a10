"""A run's figures from the database: read through the index that covers them, so that no trace is touched."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Text, select, type_coerce

from thinksmith.records import Problem
from thinksmith.store.attempts import prompt_from_json
from thinksmith.store.figures import STATUSES, Figures
from thinksmith.store.schema import attempts as attempts_table
from thinksmith.store.schema import problems as problems_table
from thinksmith.store.schema import unescape

_ROWS = 50_000  # read at a time: bounds memory
_AT_ONCE = 500  # databases bound the number of values in a query


def read_figures(connection: Connection, run_id: str) -> Figures:
    """The figures of a run's attempts, as `figures_of` makes them of the attempts themselves."""
    raw = _Raw()
    column = attempts_table.c
    # The texts as they are written: few of them are different, so they are decoded once each, at the end.
    texts = (column.problem_id, column.problem_hash, column.status, column.extracted, column.finish, column.judge)
    numbers = (column.sample, column.tokens, column.thinking_tokens, column.answer_tokens, column.spent, column.traces)
    rest = (column.score, column.seconds, column.cost, column.id)
    wanted = [type_coerce(each, Text) for each in texts] + [*numbers, *rest]
    query = select(*wanted).where(column.run_id == run_id).order_by(column.problem_id, column.sample)
    cursor = connection.execute(query).cursor
    assert cursor is not None
    while rows := cursor.fetchmany(_ROWS):
        raw.take(rows)
    return raw.figures(connection)


class _Raw:
    """Columns as they come from the database, texts as indices of their first appearance."""

    def __init__(self) -> None:
        self._texts: list[dict[Any, int]] = [{} for _ in range(6)]
        self._parts: list[list[Any]] = [[] for _ in range(16)]

    def take(self, rows: Sequence[Any]) -> None:
        for at, values in enumerate(zip(*rows, strict=True)):
            if at < 6:
                known = self._texts[at]
                for text in dict.fromkeys(values):
                    known.setdefault(text, len(known))
                part = np.fromiter(map(known.__getitem__, values), dtype=np.int64, count=len(values))
            else:
                part = np.array(values, dtype=np.float64)  # None becomes NaN; counts stay exact below 2^53
            self._parts[at].append(part)
