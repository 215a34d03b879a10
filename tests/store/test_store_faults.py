"""Whatever is wrong with the file or its disk: one line for the user, and what was stored before stays."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event
from store_records import numbered

from thinksmith.errors import UserError
from thinksmith.records import Usage
from thinksmith.store import schema
from thinksmith.store.store import Store


def refused(place: str | Path) -> str:
    """The one line with which the store refuses to open."""
    with pytest.raises(UserError) as caught:
        Store.open(place)
    message = str(caught.value)
    assert "\n" not in message
    return message


def filled(path: Path, count: int = 40) -> str:
    with Store.open(path) as store:
        run = store.start_run("eval", "x", "tiny")
        store.add(run, [numbered(n) for n in range(count)])
    return run


def add_until_it_fails(store: Store, run: str) -> tuple[int, str]:
    """How many attempts were stored, and what the store said to the next one."""
    for number in range(100_000):
        try:
            store.add(run, [numbered(number)])
        except UserError as error:
            return number, str(error)
    raise AssertionError("it never fails")


@pytest.mark.parametrize("content", [b"x", b"hello world\n" * 5, b"\x00" * 5000, random.Random(0).randbytes(20_000)])
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    assert "not a database" in refused(path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "music.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    connection.close()
    content = path.read_bytes()
    assert "another program (it has a table 'songs')" in refused(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(("version", "advice"), [("7", "upgrade thinksmith"), ("99", "upgrade"), ("0", "no readable")])
def test_another_version_is_refused(tmp_path: Path, version: str, advice: str) -> None:
    path = tmp_path / "store.db"
    filled(path)
    assert schema.SCHEMA_VERSION == 6
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE thinksmith_meta SET value = ? WHERE key = 'schema_version'", [version])
    connection.close()
    assert advice in refused(path)


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_an_older_store_is_upgraded_and_keeps_its_rows(tmp_path: Path, version: int) -> None:
    """Older versions lack columns. Several programs may open one at once, and one of them upgrades it."""
    path = tmp_path / "store.db"
    run = filled(path)
    with sqlite3.connect(path) as connection:
        for name in ("attempts_by_status", "attempts_in_order", "attempts_figures"):
            connection.execute(f"DROP INDEX {name}")
        connection.execute("CREATE INDEX attempts_by_status ON attempts (run_id, status, tokens)")
        for name in (name for added in range(version + 1, schema.SCHEMA_VERSION + 1) for name in schema.ADDED[added]):
            connection.execute(f"ALTER TABLE attempts DROP COLUMN {name}")
        connection.execute("UPDATE thinksmith_meta SET value = ? WHERE key = 'schema_version'", [version])
    connection.close()
    with ThreadPoolExecutor(8) as pool:
        for store in pool.map(Store.open, [path] * 8):
            store.close()
    with Store.open(path) as store:
        assert [stored.attempt for stored in store.attempts(run)] == [numbered(n) for n in range(40)]
        new = numbered(40)
        new = replace(new, trace=replace(new.trace, forced=(3, 4), top_logprobs=(((7, -0.5), (9, -1.25)),)))
        new = replace(new, verdict=replace(new.verdict, judge="tiny"), notes={"step": 3, "reward": 0.5})
        new = replace(new, trace=replace(new.trace, usage=Usage(3, 0.5, cost=0.25, notes=("the budget was ignored",))))
        store.add(run, [new])
        assert list(store.attempts(run))[-1].attempt == new
    with sqlite3.connect(path) as connection, sqlite3.connect(tmp_path / "new.db") as fresh:
        filled(tmp_path / "new.db")
        indexes = "SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name"
        assert connection.execute(indexes).fetchall() == fresh.execute(indexes).fetchall()
    connection.close()
    fresh.close()


def test_an_upgrade_finds_what_attempts_cost(tmp_path: Path) -> None:
    """Version 5 knew the cost of an endpoint's answers, in `usage` alone; that need not be JSON to SQLite (NaN)."""
    path = tmp_path / "store.db"
    costs = [None, 0.25, 0.0, float("nan"), 1e-9]
    made = [
        replace(one, trace=replace(one.trace, usage=None if cost is None else Usage(cost=cost)))
        for one, cost in zip(map(numbered, range(5)), costs, strict=True)
    ]
    with Store.open(path) as store:
        run = store.start_run("eval", "x", "tiny")
        store.add(run, made)
        new = store.figures(run)
    with sqlite3.connect(path) as connection:
        for name in ("attempts_by_status", "attempts_in_order", "attempts_figures"):
            connection.execute(f"DROP INDEX {name}")
        for name in schema.ADDED[6]:
            connection.execute(f"ALTER TABLE attempts DROP COLUMN {name}")
        connection.execute("UPDATE thinksmith_meta SET value = 5 WHERE key = 'schema_version'")
    connection.close()
    with Store.open(path) as store:
        upgraded = store.figures(run)
    assert np.array_equal(upgraded.cost_N, new.cost_N, equal_nan=True)
    assert np.array_equal(upgraded.cost_N, [np.nan, 0.25, 0, np.nan, 1e-9], equal_nan=True)
    assert np.array_equal(upgraded.spent_N, new.spent_N)


def test_places_where_no_store_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    assert "is a folder" in refused(tmp_path)
    assert "Not a directory" in refused(tmp_path / "file" / "below" / "store.db")
    assert "not mysql://" in refused("mysql://me@host/db")
    assert "keep nothing" in refused("sqlite:///:memory:")
    assert "null" in refused("a\x00b")
    assert "too long" in refused("x" * 5000)
    assert "does not parse" in refused("postgresql://host:port:port/x")


def test_postgres_without_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thinksmith.store.connect.find_spec", lambda _: None)
    assert "thinksmith[postgres]" in refused("postgresql://localhost/x")


def test_postgres_that_is_not_there() -> None:
    pytest.importorskip("psycopg")
    message = refused("postgresql://me:secret@127.0.0.1:1/x")
    assert "refused" in message
    assert "secret" not in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "writable" in refused(tmp_path / "store.db")
    assert "Permission denied" in refused(tmp_path / "below" / "store.db")
    tmp_path.chmod(0o700)


def test_a_store_that_becomes_read_only(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db") as store:
        event.listen(store._engine, "checkout", lambda connection, *_: connection.execute("PRAGMA query_only = ON"))
        with pytest.raises(UserError, match="read-only"):
            store.start_run("eval", "x", "tiny")


def test_a_store_that_another_program_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thinksmith.store.connect.BUSY_SECONDS", 0.1)
    path = tmp_path / "store.db"
    run = filled(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Store.open(path) as store:
        assert len(store.done(run)) == 40  # reading goes on
        with pytest.raises(UserError, match="another program keeps it locked"):
            store.add(run, [numbered(100)])
        other.execute("COMMIT")
        store.add(run, [numbered(100)])
    other.close()


def test_a_database_that_may_not_grow(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store.open(path) as store:
        run = store.start_run("eval", "x", "tiny")
        event.listen(store._engine, "checkout", lambda connection, *_: connection.execute("PRAGMA max_page_count = 60"))
        kept, message = add_until_it_fails(store, run)
        assert "disk is full" in message
        assert 0 < kept < 1000
        assert [one.attempt for one in store.attempts(run)] == [numbered(n) for n in range(kept)]
        with pytest.raises(UserError, match="disk is full"):  # and again, from a clean state
            store.add(run, [numbered(n) for n in range(1000, 1200)])
    with Store.open(path) as store:
        store.add(run, [numbered(kept)])
        assert [one.attempt for one in store.attempts(run)] == [numbered(n) for n in range(kept + 1)]
        assert store.run(run).attempts == kept + 1


def fill_until_the_limit(path: Path, out: int) -> None:
    """In a process of its own, where no file may grow beyond 600 kB: like a full disk, the kernel refuses to write."""
    with Store.open(path) as store:
        run = store.start_run("eval", "x", "tiny")
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
        kept, message = add_until_it_fails(store, run)
        os.write(out, f"{kept} {run} {message}".encode())


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    source, out = os.pipe()
    child = multiprocessing.get_context("fork").Process(target=fill_until_the_limit, args=(tmp_path / "store.db", out))
    child.start()
    child.join()
    os.close(out)
    kept, run, message = os.read(source, 10_000).decode().split(" ", 2)
    os.close(source)
    assert "disk" in message
    assert "is kept" in message
    assert int(kept) > 20
    with Store.open(tmp_path / "store.db") as store:
        assert [one.attempt for one in store.attempts(run)] == [numbered(n) for n in range(int(kept))]
        store.add(run, [numbered(int(kept))])


def use(path: Path, run: str) -> int | str:
    """Read everything and write: how many attempts were read, or what the store complained about."""
    try:
        with Store.open(path) as store:
            store.runs()
            read = len(list(store.attempts(run, order="longest")))
            store.add(run, [numbered(n) for n in range(38, 44)])
    except UserError as error:
        return str(error)
    return read


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_file(tmp_path: Path, seed: int) -> None:
    """Bytes overwritten or the end cut off: never anything but a UserError or attempts."""
    path, chance = tmp_path / "store.db", random.Random(seed)
    run = filled(path)
    content = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 10, 300])):
        content[chance.randrange(len(content))] = chance.randrange(256)
    if seed % 3 == 0:
        del content[chance.randrange(len(content)) :]
    path.write_bytes(content)
    assert "\n" not in str(use(path, run))


def test_pages_of_zeros(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    run = filled(path)
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)
    assert "damaged" in str(use(path, run))
