"""Several processes, and processes that are killed: nothing that was acknowledged is lost, nothing is stored twice."""

from __future__ import annotations

import multiprocessing
import os
import random
import select
import signal
import sqlite3
import time
from pathlib import Path

from store_records import numbered

from thinksmith.store.store import Store

# A fork spares each child the imports. No connection is open while forking.
forked = multiprocessing.get_context("fork")


def write_for_ever(path: Path, out: int) -> None:
    """Continue the run, or start it; tell each attempt on `out` once it is stored."""
    chance = random.Random(os.getpid())
    with Store.open(path) as store:
        runs = store.runs()
        run = runs[-1].id if runs else store.start_run("eval", "count", "tiny")
        number = len(store.done(run))
        while True:
            batch = range(number, number + chance.choice([1, 2, 8, 30]))
            store.add(run, [numbered(n) for n in batch])
            os.write(out, b"".join(b"%d\n" % n for n in batch))
            number = batch.stop


def test_kill_9_loses_no_acknowledged_attempt(tmp_path: Path) -> None:
    path, chance = tmp_path / "store.db", random.Random()
    acknowledged: list[int] = []
    for round_ in range(14):
        source, out = os.pipe()
        child = forked.Process(target=write_for_ever, args=(path, out))
        child.start()
        os.close(out)
        # Every other child is killed while it opens the store (the first ones while they make it), or soon after; the
        # rest while they write.
        if round_ % 2:
            assert select.select([source], [], [], 60)[0], "the child stored nothing in a minute"
        time.sleep(chance.uniform(0, 0.1))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        with os.fdopen(source, "rb") as told:
            acknowledged += [int(line) for line in told.read().splitlines()]
        child.join()
        assert child.exitcode == -signal.SIGKILL
        if path.exists():
            check_whole(path, acknowledged)
    assert len(acknowledged) >= 7


def check_whole(path: Path, acknowledged: list[int]) -> None:
    """What was acknowledged is there, what is there is right, batches are whole, and SQLite finds nothing amiss."""
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
    with Store.open(path) as store:
        runs = store.runs()
        assert len(runs) <= 1
        stored = [one.attempt for run in runs for one in store.attempts(run.id)]
    assert stored == [numbered(n) for n in range(len(stored))]
    assert acknowledged == sorted(set(acknowledged))
    assert all(n < len(stored) for n in acknowledged)


def open_and_write(url: str, run: str, numbers: list[int], start_at: float, results: int) -> None:
    time.sleep(max(0.0, start_at - time.time()))
    with Store.open(url) as store:
        for at in range(0, len(numbers), 5):
            batch = numbers[at : at + 5]
            ids = store.add(run, [numbered(n) for n in batch])
            os.write(results, b"".join(b"%d %d\n" % pair for pair in zip(batch, ids, strict=True)))


def test_two_processes_write_the_same_attempts(store_url: str) -> None:
    with Store.open(store_url) as store:
        run = store.start_run("eval", "count", "tiny")
    numbers = list(range(150))
    source, out = os.pipe()
    start_at = time.time() + 0.05
    children = [forked.Process(target=open_and_write, args=(store_url, run, numbers, start_at, out)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    os.close(out)
    assert [child.exitcode for child in children] == [0, 0]
    with os.fdopen(source) as told:
        pairs = [tuple(int(part) for part in line.split()) for line in told]
    with Store.open(store_url) as store:
        stored = {one.id: one.attempt for one in store.attempts(run)}
        assert store.run(run).attempts == 150
    assert len(pairs) == 300
    assert all(stored[number] == numbered(n) for n, number in pairs)  # both were told the same numbers


def open_at(url: str, start_at: float) -> None:
    time.sleep(max(0.0, start_at - time.time()))
    with Store.open(url) as store:
        store.start_run("eval", "x", "tiny")


def test_many_processes_make_the_store_at_once(store_url: str) -> None:
    for attempt in range(5):
        url = store_url if "://" in store_url else f"{store_url}{attempt}"
        start_at = time.time() + 0.1
        children = [forked.Process(target=open_at, args=(url, start_at)) for _ in range(6)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0] * 6
        with Store.open(url) as store:
            assert len(store.runs()) >= 6
