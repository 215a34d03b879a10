"""A run's figures from the database: read through the index that covers them, so that no trace is touched."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from sqlalchemy import Connection, Text, case, select, type_coerce
from sqlalchemy.sql.functions import count

from thinksmith.records import Problem
from thinksmith.store.attempts import prompt_from_json
from thinksmith.store.figures import STATUSES, Figures, Floats, Ints
from thinksmith.store.schema import attempts as attempts_table
from thinksmith.store.schema import problems as problems_table
from thinksmith.store.schema import unescape

_ROWS = 4000  # read at a time: they stay in the processor's cache
_AT_ONCE = 500  # databases bound the number of values in a query

# Texts come as they are written: few of them are different, so they are numbered, and decoded once each at the end.
_TEXTS = ("problem_hash", "status", "extracted")
_NUMBERS = ("sample", "tokens", "thinking_tokens", "answer_tokens", "id", "score", "seconds")
# Most runs have nothing in these: to count what there is takes a tenth of the time of reading it.
_SELDOM = {
    "spent": attempts_table.c.spent,
    "traces": attempts_table.c.traces,
    "cost": attempts_table.c.cost,
    "failed": case((attempts_table.c.finish == "error", 1)),
    "judged": case((attempts_table.c.judge.is_not(None), 1)),
}


def read_figures(connection: Connection, run_id: str) -> Figures:
    """The figures of a run's attempts, as `figures_of` makes them of the attempts themselves."""
    column = attempts_table.c
    counts = connection.execute(select(*map(count, _SELDOM.values())).where(column.run_id == run_id)).one()
    seldom = {name: each for (name, each), found in zip(_SELDOM.items(), counts, strict=True) if found}
    wanted = [type_coerce(column[name], Text) for name in _TEXTS] + [column[name] for name in _NUMBERS]
    query = select(*wanted, *seldom.values()).where(column.run_id == run_id).order_by(column.problem_id, column.sample)
    cursor = connection.execute(query).cursor  # past SQLAlchemy: it would make an object of each row
    read = _Columns((*_NUMBERS, *seldom))
    with _no_collection():
        while rows := cursor.fetchmany(_ROWS) if cursor else ():
            read.take(rows)
        return _figures(connection, *read.whole())


@contextmanager
def _no_collection() -> Iterator[None]:
    """A fifth of the time would go to looking for cycles among millions of new objects that have none."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class _Columns:
    """The columns read so far. A text is the number of its first appearance; NULL among numbers is NaN."""

    def __init__(self, numbers: Sequence[str]) -> None:
        self._known: dict[str, dict[str | None, int]] = {name: {} for name in _TEXTS}
        self._texts: dict[str, list[Ints]] = {name: [np.zeros(0, dtype=np.int64)] for name in _TEXTS}
        self._numbers: dict[str, list[Floats]] = {name: [np.zeros(0)] for name in numbers}

    def take(self, rows: Sequence[Any]) -> None:
        columns = list(zip(*rows, strict=True))
        for name, values in zip(_TEXTS, columns, strict=False):
            known = self._known[name]
            for text in dict.fromkeys(values):
                known.setdefault(text, len(known))
            numbered = np.fromiter(map(known.__getitem__, values), dtype=np.int64, count=len(values))
            self._texts[name].append(numbered)
        for name, values in zip(self._numbers, columns[len(_TEXTS) :], strict=True):
            self._numbers[name].append(_floats(values))

    def whole(self) -> tuple[dict[str, list[str | None]], dict[str, Ints], dict[str, Floats]]:
        """The different texts of each column, their numbers in each row, and the columns of numbers."""
        texts = {name: np.concatenate(parts) for name, parts in self._texts.items()}
        nothing = {name: np.full(len(texts["status"]), np.nan) for name in _SELDOM if name not in self._numbers}
        numbers = {name: np.concatenate(parts) for name, parts in self._numbers.items()}
        return {name: list(known) for name, known in self._known.items()}, texts, numbers | nothing


def _floats(values: Sequence[float | None]) -> Floats:
    """NaN for None. Counts stay exact below 2^53."""
    if values[0] is None and values.count(None) == len(values):
        return np.full(len(values), np.nan)  # NumPy takes long to find that out by itself
    return np.array(values, dtype=np.float64)


def _figures(
    connection: Connection, known: dict[str, list[str | None]], text: dict[str, Ints], number: dict[str, Floats]
) -> Figures:
    found = _problems(connection, [str(each) for each in known["problem_hash"]])
    ids = sorted({problem.id for problem in found})
    place = {name: at for at, name in enumerate(ids)}
    problem_N = np.array([place[problem.id] for problem in found], dtype=np.int64)[text["problem_hash"]]
    # The database sorts texts as it writes them, or by its own alphabet: that may be another order than Python's.
    order = np.lexsort((number["sample"], problem_N)) if (np.diff(problem_N) < 0).any() else slice(None)
    problem_N, hash_N = problem_N[order], text["problem_hash"][order]
    # A data set may have changed while a run was interrupted: the problem is the one of the last attempt.
    last = dict(zip(problem_N.tolist(), hash_N.tolist(), strict=True)) if len(found) > len(ids) else {}
    chosen = [found[last[at]] for at in range(len(ids))] if last else sorted(found, key=lambda problem: problem.id)
    answers, answer_N = _first_seen(known["extracted"], text["extracted"][order])

    def ints(name: str, otherwise: str = "") -> Ints:
        values = number[name]
        if otherwise:
            values = np.where(np.isnan(values), number[otherwise] if otherwise in number else float(otherwise), values)
        return values[order].astype(np.int64)

    statuses = np.array([STATUSES.index(each) for each in known["status"]], dtype=np.int64)
    return Figures(
        problems=tuple(chosen),
        answers=answers,
        ids_N=ints("id"),
        problem_N=problem_N,
        sample_N=ints("sample"),
        status_N=statuses[text["status"]][order],
        score_N=number["score"][order],
        answer_N=answer_N,
        tokens_N=ints("tokens"),
        thinking_N=ints("thinking_tokens"),
        reply_N=ints("answer_tokens"),
        spent_N=ints("spent", "tokens"),
        traces_N=ints("traces", "1"),
        seconds_N=number["seconds"][order],
        cost_N=number["cost"][order],
        failed_N=number["failed"][order] > 0,
        judged_N=number["judged"][order] > 0,
    )


def _first_seen(texts: Sequence[str | None], numbers_N: Ints) -> tuple[tuple[str, ...], Ints]:
    """The texts in the order of their first appearance, and their places in it; -1 for None."""
    present, first = np.unique(numbers_N, return_index=True)
    kept = [int(at) for at in present[np.argsort(first)] if texts[at] is not None]
    place = np.full(len(texts) or 1, -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    return tuple(unescape(texts[at] or "") for at in kept), place[numbers_N]


def _problems(connection: Connection, hashes: Sequence[str]) -> list[Problem]:
    column, found = problems_table.c, dict[str, Problem]()
    texts = [
        type_coerce(each, Text) for each in (column.problem_id, column.prompt, column.gold, column.kind, column.meta)
    ]
    query = select(column.hash, *texts)
    decode = json.JSONDecoder().raw_decode  # the JSON is our own: no space stands around it
    for start in range(0, len(hashes), _AT_ONCE):
        cursor = connection.execute(query.where(column.hash.in_(hashes[start : start + _AT_ONCE]))).cursor
        for name, number, prompt, gold, kind, meta in cursor.fetchall() if cursor else ():
            found[name] = Problem(
                unescape(number),
                prompt_from_json(decode(unescape(prompt))[0]),
                None if gold is None else unescape(gold),
                unescape(kind),
                decode(unescape(meta))[0],
            )
    return [found[each] for each in hashes]
