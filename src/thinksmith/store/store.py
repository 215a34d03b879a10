"""The store: runs and their attempts, in SQLite or PostgreSQL.

An attempt is stored once and never changed. `Store.add` is one transaction and is on the disk when it returns, so a run
that was killed goes on from `Store.done`. A store may be used by several threads and processes at the same time.
"""

from __future__ import annotations

import difflib
import json
import re
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Engine, Select, func, select
from sqlalchemy.exc import IntegrityError

from thinksmith.errors import UserError
from thinksmith.records import Attempt, Status
from thinksmith.store.attempts import attempt_from_row, attempt_row, canonical, digest, problem_row
from thinksmith.store.columns import read_figures
from thinksmith.store.connect import default_url, open_engine
from thinksmith.store.faults import explained, undamaged
from thinksmith.store.figures import Figures
from thinksmith.store.insert import insert
from thinksmith.store.order import Key, Order, Wanted, find_problems, page
from thinksmith.store.schema import attempts as attempts_table
from thinksmith.store.schema import problems as problems_table
from thinksmith.store.schema import runs as runs_table

__all__ = ["DRAWS", "Order", "Run", "Store", "StoredAttempt", "config_hash", "default_url"]

DRAWS = "draws"
"""The kind of runs that hold what a strategy looked at, beside its evaluation. None of them is ever `last`."""

_PAGE = 128  # attempts read at a time: few enough to hold, enough to hide the cost of a query
_NUMBERS = 1024  # numbers of attempts read at a time


@dataclass(frozen=True, slots=True)
class Run:
    """One run as it stands now. `started` and `finished` are UTC; `attempts` and `correct` are counts."""

    id: str
    kind: str
    name: str
    model: str
    weights_hash: str
    config: Mapping[str, Any]
    started: datetime
    finished: datetime | None
    summary: Mapping[str, Any]
    attempts: int
    correct: int

    @property
    def status(self) -> Literal["running", "done"]:
        """`running` also for a run that was interrupted: the store cannot tell whether its process lives."""
        return "running" if self.finished is None else "done"


@dataclass(frozen=True, slots=True)
class StoredAttempt:
    """An attempt with its number in the store, its run, and when it was stored (UTC)."""

    id: int
    run_id: str
    made: datetime
    attempt: Attempt


def config_hash(
    kind: str, name: str, model: str, weights_hash: str = "", config: Mapping[str, Any] | None = None
) -> str:
    """What a run must share with another to continue it: sha256 in hex. Raises TypeError if `config` is not JSON."""
    return digest(canonical([kind, name, model, weights_hash, dict(config or {})]))


class Store:
    """Runs and attempts. Make one with `Store.open`; close it, or use it in a `with`.

    Every method raises UserError when the database fails (full disk, locked, read-only, damaged, gone).
    """

    def __init__(self, engine: Engine, where: str) -> None:
        self._engine = engine
        self.where = where
        """The file, or the URL without its password: for messages."""

    @classmethod
    def open(cls, url: str | Path | None = None) -> Store:
        """The store at a path, `sqlite:///path` or `postgresql://…` (default: `default_url()`); made if need be."""
        return cls(*open_engine(url))

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Runs

    def start_run(
        self, kind: str, name: str, model: str, weights_hash: str = "", config: Mapping[str, Any] | None = None
    ) -> str:
        """A new run's id, such as `eval-20261123-114500-7f3a`: its kind, the time in UTC, and 16 random bits."""
        row = {
            "kind": kind,
            "name": name,
            "model": model,
            "weights_hash": weights_hash,
            "config": canonical(dict(config or {})),
            "config_hash": config_hash(kind, name, model, weights_hash, config),
        }
        while True:
            now = datetime.now(UTC)
            run_id = f"{kind}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
            try:
                with self._transaction() as connection:
                    connection.execute(runs_table.insert(), {"id": run_id, "started": now, **row})
            except IntegrityError:
                continue  # another run of this second drew the same bits
            return run_id

    def finish_run(self, run_id: str, summary: Mapping[str, Any]) -> None:
        """Mark the run as done, with what is worth telling about it (JSON)."""
        values = {"finished": datetime.now(UTC), "summary": canonical(dict(summary))}
        with self._transaction() as connection:
            changed = connection.execute(runs_table.update().where(runs_table.c.id == run_id), values).rowcount
        if not changed:
            raise UserError(f"no run {run_id!r} in {self.where}")

    def run(self, name: str) -> Run:
        """The run of this id, or of this beginning of an id; `last`, which started last (draws do not count); `last-1`,
        the one before it.

        Raises UserError, naming the candidates, if there is none or more than one.
        """
        return self._runs(select(runs_table).where(runs_table.c.id == self._resolve(name)))[0]

    def runs(self, limit: int | None = None) -> list[Run]:
        """The runs, latest first."""
        return self._runs(_latest_first(select(runs_table)).limit(limit))

    def find_run(self, kind: str, config_hash: str) -> Run | None:
        """The latest run that was started with this `config_hash`, done or not."""
        return self._find(_with_config(kind, config_hash))

    def unfinished(self, kind: str, config_hash: str) -> Run | None:
        """The latest run with this `config_hash` that was not finished: the one to continue."""
        return self._find(_with_config(kind, config_hash).where(runs_table.c.finished.is_(None)))

    # Attempts

    def add(self, run_id: str, attempts: Sequence[Attempt]) -> list[int]:
        """Store attempts, all or none, and return their numbers in order. They are on the disk when this returns.

        An attempt whose (run, problem id, sample) is stored already is left as it is, and that one's number returned.
        """
        if not attempts:
            return []
        now = datetime.now(UTC)
        hashes, problems, rows = {}, {}, []
        for attempt in attempts:
            if id(attempt.problem) not in hashes:  # most often the attempts at a problem share its record
                problem = problem_row(attempt.problem)
                hashes[id(attempt.problem)] = problem["hash"]
                problems[problem["hash"]] = problem
            head = {"run_id": run_id, "made": now, "problem_hash": hashes[id(attempt.problem)]}
            rows.append(head | attempt_row(attempt))
        try:
            with self._transaction() as connection:
                # Sorted, so that two writers wait for each other's problems in the same order and cannot deadlock.
                insert(connection, problems_table, [problems[key] for key in sorted(problems)], ["hash"])
                made = insert(connection, attempts_table, rows, ["run_id", "problem_id", "sample"])
                return _numbers(connection, run_id, [(row["problem_id"], row["sample"]) for row in rows], made)
        except IntegrityError as error:
            raise UserError(f"no run {run_id!r} in {self.where}: attempts belong to a run that was started") from error

    def attempts(
        self,
        run_id: str,
        *,
        wrong: bool = False,
        status: str | None = None,
        problem: str | None = None,
        order: Order = "made",
        after: int | None = None,
        limit: int | None = None,
    ) -> Iterator[StoredAttempt]:
        """A run's attempts, read a page at a time; those stored after the call are not seen. (In PostgreSQL one that
        another connection was storing during the call may be.)

        `wrong` keeps whatever is not correct (also truncated, no answer, ...), `status` keeps one status, `problem` the
        problem of this id, or those with this text in their id or prompt. `order` is that of storing or by sampled
        tokens. `after` is the number of an attempt of this run: those behind it in the order come, so the next page
        begins after the last number of this one. `run_id` may be whatever `run` takes. Raises UserError at once for an
        unknown run, status, problem or number.
        """
        if status is not None and status not in get_args(Status):
            raise UserError(f"no status {status!r}: choose one of {', '.join(get_args(Status))}")
        statuses = (status,) if status else get_args(Status)
        run_id = self._resolve(run_id)
        with self._transaction() as connection:
            last = connection.scalar(select(func.max(attempts_table.c.id))) or 0
            problems = None if problem is None else find_problems(connection, run_id, problem)
            behind = None if after is None else _key(connection, run_id, after)
        kept = tuple(each for each in statuses if not (wrong and each == "correct"))
        return self._read(self._numbers(Wanted(run_id, kept, order, last, problems), behind, limit))

    def attempt(self, id_text: str | int) -> StoredAttempt:
        """One attempt by its number, as `attempts` tells it. Raises UserError if there is none."""
        text = str(id_text).strip()
        if not (text.isascii() and text.isdecimal()):
            raise UserError(f"an attempt is named by its number, such as 123, not {text!r}")
        found = list(self._read([[int(text)]])) if int(text) < 2**63 else []
        if not found:
            raise UserError(f"no attempt {text} in {self.where}")
        return found[0]

    def done(self, run_id: str) -> set[tuple[str, int]]:
        """(problem id, sample) of every attempt of the run: what need not be made again."""
        column = attempts_table.c
        query = select(column.problem_id, column.sample).where(column.run_id == self._resolve(run_id))
        with self._transaction() as connection:
            return {(row.problem_id, row.sample) for row in connection.execute(query)}

    def read(self, numbers: Sequence[int]) -> list[StoredAttempt]:
        """The attempts of these numbers, in this order; numbers that the store does not have are left out."""
        return list(self._read([list(numbers)]))

    def figures(self, run_id: str) -> Figures:
        """A run's attempts as columns of numbers, a million of them in seconds: what `figures_of` makes of the
        attempts, with their numbers in the store. `run_id` may be whatever `run` takes."""
        run_id = self._resolve(run_id)
        with undamaged(self.where), self._transaction() as connection:
            return read_figures(connection, run_id)

    def judges(self, run_id: str) -> tuple[str, ...]:
        """The models that gave verdicts in a run, sorted."""
        column = attempts_table.c
        query = select(column.judge).where(column.run_id == self._resolve(run_id), column.judge.is_not(None)).distinct()
        with self._transaction() as connection:
            return tuple(sorted(connection.scalars(query)))

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for a query of your own over the tables of `store/schema.py`."""
        with undamaged(self.where), self._transaction() as connection:
            yield connection

    # Inside

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with explained(self.where), self._engine.begin() as connection:
            yield connection

    def _numbers(self, wanted: Wanted, after: Key | None, limit: int | None) -> Iterator[list[int]]:
        """The wanted attempts' numbers, in pages."""
        left = sys.maxsize if limit is None else limit
        while left > 0:
            size = min(left, _NUMBERS)
            with self._transaction() as connection:
                keys = page(connection, wanted, after, size)
            yield [number for _, number in keys]
            if len(keys) < size:
                return
            after, left = keys[-1], left - size

    def _read(self, pages: Iterable[list[int]]) -> Iterator[StoredAttempt]:
        """The attempts of these numbers, in this order. No transaction stays open while the caller works on a page."""
        problem = problems_table.c
        query = select(attempts_table, problem.prompt, problem.gold, problem.kind, problem.meta).join(problems_table)
        for number in (numbers[start : start + _PAGE] for numbers in pages for start in range(0, len(numbers), _PAGE)):
            with undamaged(self.where):
                with self._transaction() as connection:
                    rows = connection.execute(query.where(attempts_table.c.id.in_(number))).all()
                stored = {row.id: _stored(row._asdict()) for row in rows}
            yield from (stored[each] for each in number if each in stored)

    def _resolve(self, name: str) -> str:
        with self._transaction() as connection:
            rows = connection.execute(_latest_first(select(runs_table.c.id, runs_table.c.kind)))
            kinds: dict[str, str] = {row.id: row.kind for row in rows}
        ids = list(kinds)
        if not ids:
            raise UserError(f"the store {self.where} holds no run yet")
        if name in kinds:
            return name
        before = before_last(name)
        if before is not None:
            found = [run_id for run_id in ids if kinds[run_id] != DRAWS][before : before + 1]
        else:
            found = [run_id for run_id in ids if name and run_id.startswith(name)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"{name!r} begins the id of {len(found)} runs ({_some(found)}): type more of it")
        raise UserError(f"no run {name!r}; nearest: {_some(difflib.get_close_matches(name, ids, n=3, cutoff=0))}")

    def _runs(self, query: Select[Any]) -> list[Run]:
        own = attempts_table.c.run_id == runs_table.c.id
        count = select(func.count()).select_from(attempts_table).where(own)
        counts = count.scalar_subquery(), count.where(attempts_table.c.status == "correct").scalar_subquery()
        with undamaged(self.where):
            with self._transaction() as connection:
                query = query.add_columns(counts[0].label("attempts"), counts[1].label("correct"))
                rows = connection.execute(query).all()
            return [_run(row._asdict()) for row in rows]

    def _find(self, query: Select[Any]) -> Run | None:
        return next(iter(self._runs(_latest_first(query).limit(1))), None)


def before_last(name: str) -> int | None:
    """How many runs before the last a name means: 0 for `last`, 2 for `last-2`; None for any other name."""
    match = re.fullmatch(r"last(?:-(\d{1,6}))?", name)
    return match and int(match[1] or 0)


def _latest_first(query: Select[Any]) -> Select[Any]:
    return query.order_by(runs_table.c.started.desc(), runs_table.c.id.desc())


def _with_config(kind: str, config_hash: str) -> Select[Any]:
    return select(runs_table).where(runs_table.c.kind == kind, runs_table.c.config_hash == config_hash)


def _key(connection: Connection, run_id: str, number: int) -> Key:
    """Where an attempt stands in the orders."""
    column = attempts_table.c
    found = connection.execute(select(column.tokens).where(column.run_id == run_id, column.id == number)).first()
    if found is None:
        raise UserError(f"no attempt {number} in the run {run_id}: go on after one that it has")
    return found.tokens, number


def _numbers(connection: Connection, run_id: str, keys: list[tuple[str, int]], new: int) -> list[int]:
    """The numbers of the run's attempts with these (problem id, sample), `new` of which were just inserted."""
    column = attempts_table.c
    if new == len(keys):  # SQLite numbers one after the other, and no other writer is at work
        last: int = connection.scalar(select(func.max(column.id))) or 0
        return list(range(last - new + 1, last + 1))
    problem_ids = sorted({problem_id for problem_id, _ in keys})
    numbers: dict[tuple[str, int], int] = {}
    for start in range(0, len(problem_ids), 1000):  # databases bound the number of values in a query
        some = column.problem_id.in_(problem_ids[start : start + 1000])
        query = select(column.problem_id, column.sample, column.id).where(column.run_id == run_id, some)
        numbers |= {(row.problem_id, row.sample): row.id for row in connection.execute(query)}
    return [numbers[key] for key in keys]


def _run(row: Mapping[str, Any]) -> Run:
    fields = {key: row[key] for key in ("id", "kind", "name", "model", "weights_hash", "started", "finished")}
    summary = json.loads(row["summary"]) if row["summary"] else {}
    counts = {"attempts": row["attempts"], "correct": row["correct"]}
    return Run(**fields, **counts, config=json.loads(row["config"]), summary=summary)


def _stored(row: Mapping[str, Any]) -> StoredAttempt:
    return StoredAttempt(row["id"], row["run_id"], row["made"], attempt_from_row(row))


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
