"""Opening the database: which one, with which settings, and whether it is a store that we can read.

SQLite runs with a write-ahead log (readers and the writer do not block each other) and synchronous=FULL. What a
process has committed survives its `kill -9` with any setting, since the pages are with the kernel; with NORMAL, though,
a power cut can take back the last commits. FULL syncs the log at each commit: milliseconds, for attempts that took
seconds to make.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from platformdirs import user_data_path
from sqlalchemy import URL, Connection, Engine, bindparam, create_engine, event, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, OperationalError

from thinksmith.errors import UserError
from thinksmith.store import schema
from thinksmith.store.faults import explained

BUSY_SECONDS = 30.0
"""How long a process waits for another one's write."""

_CACHE_KIB = 64 * 1024  # of pages, for each connection: the upper pages of the indexes of a million attempts
_LOG_PAGES = 8000
"""Pages (4 KiB) of the write-ahead log before they go to the database's file. Many attempts change the same pages of an
index, and each such page then goes there once."""

_ADVISORY_LOCK = 0x7415  # any number: PostgreSQL's name for the lock under which the tables are made


def default_url() -> str:
    """The environment variable THINKSMITH_STORE (a path or URL), else `store.db` in the user's data folder."""
    return os.environ.get("THINKSMITH_STORE") or str(user_data_path("thinksmith", appauthor=False) / "store.db")


def open_engine(url: str | Path | None) -> tuple[Engine, str]:
    """A pool of connections to a store that is ready for use, and its name for people (path, or URL without password).

    Raises UserError for a database that cannot be opened or made, is something else's, or is of a newer version.
    """
    place = default_url() if url is None else url
    engine, where = _postgres(place) if _is_postgres(place) else _sqlite(_file(place))
    try:
        with explained(where):
            _prepare(engine, where)
    except BaseException:
        engine.dispose()
        raise
    return engine, where


def _is_postgres(place: str | Path) -> bool:
    return isinstance(place, str) and place.startswith(("postgresql", "postgres:")) and "://" in place


def _postgres(place: str | Path) -> tuple[Engine, str]:
    try:
        url = make_url(str(place)).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError) as error:
        raise UserError(
            "the store's URL does not parse: write postgresql://user:password@host:5432/database"
        ) from error
    if find_spec("psycopg") is None:
        raise UserError("a PostgreSQL store needs psycopg: pip install 'thinksmith[postgres]'")
    return create_engine(url, max_overflow=-1, pool_pre_ping=True), url.render_as_string(hide_password=True)


def _file(place: str | Path) -> Path:
    """The SQLite file that a path or `sqlite:///path` names; its folder is made."""
    name = str(place).removeprefix("sqlite:///")
    if isinstance(place, str) and "://" in name:
        raise UserError(f"a store is a file or a postgresql:// URL, not {name.split('://')[0]}://")
    if name in ("", ":memory:"):
        raise UserError("a store needs a file: one in memory would keep nothing")
    try:
        path = Path(name).expanduser().absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise UserError(f"the store {path} is a folder: name a file in it, such as {path / 'store.db'}")
        if not _may_be_sqlite(path):
            raise UserError(f"the store {path} is not a database: name another file with THINKSMITH_STORE")
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"no store can be made at {name!r} ({reason}): name another place with THINKSMITH_STORE"
        ) from error
    return path


def _may_be_sqlite(path: Path) -> bool:
    """SQLite itself takes a file of a few bytes for an empty database, and would write over what it holds."""
    try:
        with path.open("rb") as file:
            return file.read(16) in (b"", b"SQLite format 3\0")
    except FileNotFoundError:
        return True


def _sqlite(path: Path) -> tuple[Engine, str]:
    # IMMEDIATE: a transaction that will write takes the lock when it begins, so it waits its turn and cannot fail
    # half-way for want of the lock.
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": "IMMEDIATE"},
        max_overflow=-1,
    )
    event.listen(engine, "connect", _settings)
    return engine, str(path)


def _settings(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    cursor.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
    cursor.close()


def _prepare(engine: Engine, where: str) -> None:
    """Make the tables if the database is empty, bring those of an older version up to ours; refuse a database that is
    not ours or is of a newer version."""
    with engine.connect() as connection:
        found = set(inspect(connection).get_table_names())
        if schema.meta.name not in found:
            # In a PostgreSQL database other programs' tables may live beside ours, but not under the same names.
            in_the_way = found if engine.dialect.name == "sqlite" else found & set(schema.tables.tables)
            if in_the_way:
                raise UserError(f"the database {where} belongs to another program (it has a table {min(in_the_way)!r})")
            _create(connection)
    with engine.connect() as connection:
        if _version(connection, where) < schema.SCHEMA_VERSION:
            _upgrade(connection, where)


def _version(connection: Connection, where: str) -> int:
    version = connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == "schema_version")) or "?"
    if not version.isdecimal() or int(version) < 1:
        raise UserError(f"the store {where} has no readable version ({version!r}): name another with THINKSMITH_STORE")
    if int(version) > schema.SCHEMA_VERSION:
        raise UserError(
            f"the store {where} has version {version} and this thinksmith reads up to {schema.SCHEMA_VERSION}: "
            "upgrade thinksmith, or name another store with THINKSMITH_STORE"
        )
    return int(version)


def _upgrade(connection: Connection, where: str) -> None:
    """Add what newer versions have, all or nothing. Rows stay as they are, but for what is known of a new column."""
    _lock(connection)
    older = _version(connection, where)  # asked again, under the lock
    for version in range(older + 1, schema.SCHEMA_VERSION + 1):
        for name in schema.ADDED[version]:
            kind = schema.attempts.c[name].type.compile(connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE attempts ADD COLUMN {name} {kind}")
    if older == 5:  # the one version that knew costs and had no column for them
        _fill_costs(connection)
    _index(connection, {name for version in range(older + 1, schema.SCHEMA_VERSION + 1) for name in _indexed(version)})
    connection.execute(
        schema.meta.update().where(schema.meta.c.key == "schema_version"), {"value": str(schema.SCHEMA_VERSION)}
    )
    connection.commit()


def _fill_costs(connection: Connection) -> None:
    """What an endpoint's answers cost stood in `usage` alone, as JSON that not every database reads (NaN)."""
    column = schema.attempts.c
    told = select(column.id, column.usage).where(column.usage.is_not(None))
    costs = [(number, json.loads(usage).get("cost")) for number, usage in connection.execute(told)]
    rows = [{"number": number, "cost": cost} for number, cost in costs if cost is not None]
    if rows:
        filled = schema.attempts.update().where(column.id == bindparam("number")).values(cost=bindparam("cost"))
        connection.execute(filled, rows)


def _indexed(version: int) -> tuple[str, ...]:
    return schema.INDEXED.get(version, ())


def _index(connection: Connection, names: set[str]) -> None:
    """Make these indexes of `attempts` anew, as the schema has them now."""
    for index in schema.attempts.indexes:
        if index.name in names:
            connection.exec_driver_sql(f"DROP INDEX IF EXISTS {index.name}")
            index.create(connection)


def _create(connection: Connection) -> None:
    """All tables in one transaction, under a lock: two processes may open a new store at the same moment."""
    connection.rollback()  # ends the look at the tables: the log's mode cannot change inside a transaction
    if connection.dialect.name == "sqlite":
        _write_ahead(connection)
    _lock(connection)
    schema.tables.create_all(connection)  # skips those that are there by now
    if not connection.scalar(select(schema.meta.c.value)):
        connection.execute(schema.meta.insert(), {"key": "schema_version", "value": str(schema.SCHEMA_VERSION)})
    connection.commit()


def _lock(connection: Connection) -> None:
    """Begin a transaction that no other opener's runs beside."""
    connection.rollback()
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


def _write_ahead(connection: Connection) -> None:
    """Give the new file its write-ahead log.

    SQLite does not wait for other openers here, whatever its timeout, so we do.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            return
        except OperationalError as error:
            code = getattr(error.orig, "sqlite_errorcode", 0)
            if code & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        connection.rollback()
        time.sleep(0.01)
