"""`sql:shop.db` and `sql:postgresql://…`: a database that the agent can look at and cannot change.

That it only reads is not read out of the SQL: SQLite opens the file read-only and asks a guard before each thing it
does, PostgreSQL has a role that owns nothing, in a transaction that can only read. Rows, bytes, memory and time are
bounded there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from thinksmith.agent.contract import Intent, Result, Tool, Toolset
from thinksmith.agent.tools.table import Relation, Table, schema_text
from thinksmith.errors import UserError

ROWS = 200  # shown, unless asked otherwise
_MOST_ROWS = 1_000
_SECONDS = 25.0  # of a call; the query itself is stopped by the database before


class _Database(Protocol):
    @property
    def about(self) -> str: ...

    async def query(self, sql: str, rows: int) -> Table: ...

    async def schema(self, table: str) -> tuple[list[Relation], int]: ...


async def open_toolset(rest: str) -> Toolset:
    """The tools for one database. Raises UserError for one that cannot be read, or that could be changed."""
    place = rest.strip()
    if not place:
        raise UserError("sql: needs a database: sql:shop.db, or sql:postgresql://user:password@host/database")
    if "://" not in place:
        return _toolset(_sqlite(place), f"sql:{place}")
    scheme = place.split("://")[0]
    if scheme == "sqlite":
        return _toolset(_sqlite(place.removeprefix("sqlite:///")), f"sql:{place}")
    if scheme.split("+")[0] not in ("postgresql", "postgres"):
        raise UserError(f"sql:{scheme}:// is not known: name a SQLite file or a postgresql:// URL")
    from thinksmith.agent.tools.postgres import PostgresDatabase

    opened = await PostgresDatabase.open(place)
    return _toolset(opened, f"sql:{scheme}://…")  # the spec is written down, and its password is not


def _sqlite(name: str) -> _Database:
    from thinksmith.agent.tools.sqlite import SqliteFile

    return SqliteFile.open(name)


def _toolset(database: _Database, spec: str) -> Toolset:
    async def schema(arguments: Mapping[str, Any], _: Intent | None) -> Result:
        relations, left_out = await database.schema(str(arguments.get("table", "")))
        if not relations and arguments.get("table"):
            return Result(f"there is no table {str(arguments['table'])[:100]!r}: see sql_schema without it", ok=False)
        return Result(schema_text(relations, left_out))

    async def query(arguments: Mapping[str, Any], _: Intent | None) -> Result:
        return Result((await database.query(str(arguments["sql"]), int(arguments.get("rows", ROWS)))).text)

    tools = (
        Tool(
            "sql_schema",
            f"Tables of {database.about}: columns, types, keys, and how many rows.",
            {
                "type": "object",
                "properties": {"table": {"type": "string", "description": "only this one", "maxLength": 200}},
                "additionalProperties": False,
            },
            schema,
            group="sql",
            seconds=_SECONDS,
            repeatable=True,
        ),
        Tool(
            "sql_query",
            f"Rows of one SELECT in {database.about}, as CSV. It can only read.",
            {
                "type": "object",
                "properties": {
                    "sql": {"type": "string", "description": "one SELECT statement", "maxLength": 50_000},
                    "rows": {"type": "integer", "minimum": 1, "maximum": _MOST_ROWS, "description": f"at most, {ROWS}"},
                },
                "required": ["sql"],
                "additionalProperties": False,
            },
            query,
            group="sql",
            seconds=_SECONDS,
            repeatable=True,
            fence="sql",
        ),
    )
    return Toolset(spec, tools)
