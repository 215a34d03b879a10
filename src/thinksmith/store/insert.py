"""Inserting many rows at once; those that are there already are left as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from thinksmith.store.schema import AnyText, escape

Rows = Sequence[Mapping[str, Any]]


def insert(connection: Connection, table: Table, rows: Rows, unique: Sequence[str]) -> int:
    """Insert the rows (all of the same columns) whose `unique` columns are not there yet; returns how many were new, or
    -1 where the database does not say."""
    if connection.dialect.name == "sqlite":
        return _quickly(connection, table, rows, unique)
    statement = postgresql.insert(table).on_conflict_do_nothing(index_elements=list(unique))
    connection.execute(statement, [dict(row) for row in rows])
    return -1


def _quickly(connection: Connection, table: Table, rows: Rows, unique: Sequence[str]) -> int:
    """Past SQLAlchemy, which takes longer to prepare a row of the attempts than SQLite takes to store it."""
    statement, names = _statement(table, tuple(rows[0]), tuple(unique))
    columns = [_written(table.c[name].type, [row[name] for row in rows], connection.dialect) for name in names]
    return connection.exec_driver_sql(statement, list(zip(*columns, strict=True))).rowcount


def _written(kind: TypeEngine[Any], values: list[Any], dialect: Dialect) -> list[Any]:
    """A column's values as the database takes them."""
    if isinstance(kind, AnyText):
        return [value if value is None else escape(value) for value in values]
    to = kind.dialect_impl(dialect).bind_processor(dialect)
    if to is None:
        return values
    known = {value: to(value) for value in set(values)}  # a batch's times are one and the same
    return [known[value] for value in values]


@cache
def _statement(table: Table, names: tuple[str, ...], unique: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The SQL, and the columns in the order of its question marks."""
    statement = sqlite.insert(table).on_conflict_do_nothing(index_elements=list(unique))
    compiled = statement.compile(dialect=sqlite.dialect(paramstyle="qmark"), column_keys=list(names))
    return str(compiled), tuple(compiled.positiontup or ())
