"""Attempts on their way into the store: grouped, told of when they are safe, kept though the loop ends."""

from __future__ import annotations

import asyncio

import pytest

from thinksmith.errors import UserError
from thinksmith.records import Attempt, Problem, Trace, Verdict
from thinksmith.store.keeper import Keeper
from thinksmith.store.store import Store

PROBLEM = Problem("sum/1", "1 + 1", "2")


def made(count: int) -> list[Attempt]:
    return [Attempt(PROBLEM, Trace("", "1", "none"), Verdict("correct", 1.0), sample) for sample in range(count)]


def test_many_attempts_are_stored_in_few_transactions_and_told_of_when_they_are_there(store: Store) -> None:
    run_id = store.start_run("eval", "x", "m")
    told: list[int] = []
    keeper = Keeper(store, run_id, lambda attempt: told.append(len(store.done(run_id))))

    async def keep() -> None:
        await asyncio.gather(*(keeper.keep([attempt]) for attempt in made(300)))

    asyncio.run(keep())
    assert told == [300] * 300
    assert len(store.done(run_id)) == 300


def test_what_waits_when_the_loop_is_stopped_is_stored_by_flush(store: Store) -> None:
    run_id = store.start_run("eval", "x", "m")
    told: list[Attempt] = []
    keeper = Keeper(store, run_id, told.append)

    async def cancelled() -> None:
        task = asyncio.create_task(keeper.keep(made(3)))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(cancelled())
    keeper.flush()
    assert len(store.done(run_id)) == len(told) == 3
    keeper.flush()
    assert len(told) == 3


def test_a_store_that_fails_is_told_to_who_waits_and_to_who_asks(store: Store) -> None:
    keeper = Keeper(store, "no such run")
    with pytest.raises(UserError, match="no run"):
        asyncio.run(keeper.keep(made(1)))
    with pytest.raises(UserError, match="no run"):
        keeper.check()


def test_what_the_store_refused_is_tried_once_more_behind_what_waits(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = store.start_run("eval", "x", "m")
    told: list[int] = []
    keeper = Keeper(store, run_id, lambda attempt: told.append(attempt.sample))
    add, lock = store.add, [True]

    def locked(run: str, attempts: list[Attempt]) -> list[int]:
        if lock:
            raise UserError("the store is locked")
        return add(run, attempts)

    monkeypatch.setattr(store, "add", locked)
    with pytest.raises(UserError, match="locked"):
        asyncio.run(keeper.keep(made(2)))
    assert told == []
    lock.clear()
    keeper.flush()
    assert told == [0, 1]
    assert len(store.done(run_id)) == 2
