"""A PostgreSQL database, for reading: a role that can only read, in a transaction that can only read.

Each question has a connection of its own, so nothing that one leaves behind (settings, locks of the session, temporary
tables) reaches the next. The query is parsed alone, as one statement, and then run as the source of a SELECT of ours
that takes the beginning of each value and so many rows: the server never sends more than is shown, and what is no
query (COPY, SET, DO, EXPLAIN) cannot stand there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

from thinksmith.agent.contract import ToolFault
from thinksmith.agent.tools.table import MOST_CHARACTERS, Cell, Relation, Table
from thinksmith.agent.tools.threads import in_thread
from thinksmith.errors import UserError, one_line

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.rows import TupleRow

_CONNECT_SECONDS = 10
_RELATIONS = 300
_BYTEA = 17  # pg_type.oid of bytea
_POWERS = """
SELECT current_user,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
       (SELECT bool_or(pg_has_role(current_user, oid, 'MEMBER')) FROM pg_roles WHERE rolsuper),
       (SELECT min(rolname::text) FROM pg_roles WHERE pg_has_role(current_user, oid, 'MEMBER')
        AND rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')),
       (SELECT min(proname::text) FROM pg_proc JOIN pg_language l ON l.oid = prolang
        WHERE l.lanname IN ('c', 'internal') AND has_function_privilege(pg_proc.oid, 'EXECUTE') AND proname ~
        '^(dblink.*|http(_.*)?|pg_file_.*|lo_(import|export)|pg_read_(binary_)?file|pg_ls_dir|pg_stat_file)$')
"""

# These do something even in a transaction that only reads, or run SQL that stands in a text. The role's rights are the
# wall; this is a second one, and exact as long as a name has to stand in the text, which U&"…" would avoid.
_REFUSED = re.compile(
    r"\b(?:pg_(?:terminate|cancel)_backend|pg_reload_conf|pg_rotate_logfile|pg_switch_wal|pg_promote|pg_sleep\w*"
    r"|pg_logical_\w+|pg_export_snapshot|pg_(?:create|drop|copy)_\w*slot|pg_stat_(?:statements_)?reset\w*|pg_notify"
    r"|pg_(?:try_)?advisory_\w+|set_config|query_to_xml\w*|cursor_to_xml\w*|ts_stat|ts_rewrite|crosstab\w*|connectby"
    r"|xpath_table|dblink\w*|lo_(?:import|export|create?|from_bytea|put|unlink|truncate\w*)|lowrite|pg_read_\w*file|pg_ls_\w+|pg_stat_file|pg_file_\w+"
    r"|http_(?:get|post|put|patch|delete|head))\b|\bU&\"",
    re.IGNORECASE,
)

_RELATION = """
SELECT c.oid, c.oid::regclass::text, CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'view' ELSE 'table' END,
       CASE WHEN c.relkind IN ('r', 'm') AND c.reltuples >= 0 THEN c.reltuples::bigint END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname NOT LIKE 'pg\\_toast%%' AND NOT c.relispartition
  AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
  AND (%(table)s = '' OR lower(c.relname) = lower(%(table)s) OR lower(c.oid::regclass::text) = lower(%(table)s))
ORDER BY 2 LIMIT %(most)s
"""
_COLUMN = """
SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       EXISTS (SELECT 1 FROM pg_constraint k
               WHERE k.conrelid = a.attrelid AND k.contype = 'p' AND a.attnum = ANY (k.conkey)),
       (SELECT k.confrelid::regclass::text FROM pg_constraint k
        WHERE k.conrelid = a.attrelid AND k.contype = 'f' AND a.attnum = ANY (k.conkey) LIMIT 1)
FROM pg_attribute a
WHERE a.attrelid = ANY (%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped
  AND has_column_privilege(a.attrelid, a.attnum, 'SELECT')
ORDER BY a.attrelid, a.attnum
"""


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """A database by its connection string, of which the password is never shown. `seconds`: of a query."""

    conninfo: str = field(repr=False)
    about: str
    seconds: float = 10.0

    @classmethod
    async def open(cls, url: str) -> PostgresDatabase:
        """Raises UserError where it cannot be reached, or where the role could do more than read."""
        if find_spec("psycopg") is None:
            raise UserError("a PostgreSQL database needs psycopg: pip install 'thinksmith[postgres]'")
        database = cls(*_parsed(url))
        try:
            await in_thread(database._examine)
        except ToolFault as fault:
            raise UserError(f"sql: {fault}") from None
        return database

    async def query(self, sql: str, rows: int) -> Table:
        """Raises ToolFault with what PostgreSQL says."""
        return await in_thread(self._query, sql, rows)

    async def schema(self, table: str) -> tuple[list[Relation], int]:
        """All relations that the role may read, or one, and whether some were left out."""
        return await in_thread(self._schema, table)

    # --- in a thread

    def _query(self, sql: str, most: int) -> Table:
        sql = sql.strip().removesuffix(";").rstrip()
        if found := _REFUSED.search(sql):
            raise ToolFault(f"{found[0]} is refused here: write a SELECT without it")
        if "\0" in sql:
            raise ToolFault("the SQL holds a NUL")
        with self._reading() as connection:
            names, kinds = self._described(connection, sql)
            longest = max(20, min(4_000, MOST_CHARACTERS // (4 * len(names))))
            values = ", ".join(f"left(q.c{at}::text, {longest + 1})" for at in range(len(names)))
            renamed = ", ".join(f"c{at}" for at in range(len(names)))
            wrapped = f"SELECT {values} FROM (\n{sql}\n) AS q({renamed}) LIMIT {most + 1}"
            # prepare: by the extended protocol, which takes one statement
            found_rows = connection.execute(wrapped.encode(), prepare=True).fetchall()
        given: list[tuple[Cell, ...]] = []
        room, cut = MOST_CHARACTERS, "there are more; count, group or filter" if len(found_rows) > most else ""
        for row in found_rows[:most]:
            room -= sum(len(value or "") for value in row)
            if room < 0:
                cut = "more would be too long; ask for fewer columns or shorter values"
                break
            given.append(tuple(_cell(value, kind, longest) for value, kind in zip(row, kinds, strict=True)))
        return Table(names, tuple(given), cut)

    def _described(self, connection: Connection[TupleRow], sql: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Names and types (oids) of the columns of one statement, which is parsed and not run. What parses alone is
        whole, so it cannot end the brackets that it is put into."""
        from psycopg import errors, pq

        for result in (connection.pgconn.prepare(b"", sql.encode()), connection.pgconn.describe_prepared(b"")):
            if result.status != pq.ExecStatus.COMMAND_OK:
                raise errors.DatabaseError(result.get_error_message("utf-8"))
        names = tuple((result.fname(at) or b"").decode("utf-8", "replace") for at in range(result.nfields))
        if not names:
            raise ToolFault("this gives no rows: write one SELECT")
        if result.nparams:
            raise ToolFault("write values, not $1, into the query")
        return names, tuple(result.ftype(at) for at in range(result.nfields))

    def _schema(self, table: str) -> tuple[list[Relation], int]:
        with self._reading() as connection:
            found = connection.execute(_RELATION, {"table": table, "most": _RELATIONS + 1}).fetchall()
            shown = found[:_RELATIONS]
            listed = connection.execute(_COLUMN, {"oids": [each[0] for each in shown]}).fetchall()
        columns: dict[int, list[tuple[str, str]]] = {each[0]: [] for each in shown}
        for oid, name, kind, full, key, other in listed:
            refers = f"refers to {other}" if other else ""
            about = (kind, "primary key" * key, "not null" * (full and not key), refers)
            columns[oid].append((name, ", ".join(filter(None, about))))
        return [
            Relation(name, kind, tuple(columns[oid]), "" if rows is None else f"about {rows:,} rows")
            for oid, name, kind, rows in shown
        ], len(found) - len(shown)

    def _examine(self) -> None:
        """Refuse a role with powers beyond reading tables, which no read-only transaction takes away."""
        with self._reading() as connection:
            role, *powers = connection.execute(_POWERS).fetchone() or ("?", True)
            told = (
                "a superuser",
                "of a superuser's group",
                f"of the group {powers[-2]}",
                f"allowed to call {powers[-1]}",
            )
            power = next((words for words, has in zip(told, powers, strict=True) if has), "")
        if power:
            raise ToolFault(
                f"the role {role} of {self.about} is {power}: name one that can only read (CREATE ROLE reader LOGIN "
                "PASSWORD '…'; GRANT pg_read_all_data TO reader)"
            )

    @contextmanager
    def _reading(self) -> Iterator[Connection[TupleRow]]:
        """A connection in a transaction that can only read, and that is rolled back. What goes wrong is a ToolFault."""
        import psycopg

        try:
            with psycopg.connect(self.conninfo, autocommit=True, prepare_threshold=None) as connection:
                connection.execute("BEGIN READ ONLY")
                limit = int(self.seconds * 1000)
                connection.execute(f"SET LOCAL statement_timeout = {limit}")
                connection.execute(f"SET LOCAL lock_timeout = {min(limit, 2000)}")
                connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = {limit + 5000}")
                try:
                    yield connection
                finally:
                    connection.close()  # which rolls back
        except psycopg.Error as error:
            raise ToolFault(self._told(error)) from None
        except UnicodeEncodeError:
            raise ToolFault("the SQL holds halves of surrogate pairs: write it in UTF-8") from None

    def _told(self, error: Exception) -> str:
        """What PostgreSQL says, in one line, without what is secret."""
        from psycopg import errors
        from psycopg.conninfo import conninfo_to_dict

        if isinstance(error, errors.QueryCanceled):
            return f"it took longer than {self.seconds:g} s and was stopped: ask for less, or filter first"
        text = one_line(Exception(str(error).replace("\nLINE", "; LINE")))
        for key in ("password", "passfile", "sslpassword"):
            secret = str(conninfo_to_dict(self.conninfo).get(key) or "")
            text = text.replace(secret, "…") if secret else text
        return text


def _parsed(url: str) -> tuple[str, str]:
    """The connection string, with what holds for the whole session, and its name for people."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    _, _, rest = url.partition("://")
    try:
        known = conninfo_to_dict(f"postgresql://{rest}")
    except psycopg.Error:  # its message may quote the password
        raise UserError("sql: the URL does not parse: write postgresql://user:password@host:5432/database") from None
    names = [str(known.get(key) or "") for key in ("host", "hostaddr", "dbname", "user")]
    if any(re.search(r"[@?#]", name) for name in names) or not re.fullmatch(r"[\d,]*", str(known.get("port") or "")):
        # part of a password may stand where the server's name should be, and would be shown
        raise UserError("sql: the URL does not parse: in its password write %40 for @, %3A for :, %2F for /")
    options = f"{known.get('options') or ''} -c default_transaction_read_only=on".strip()
    conninfo = make_conninfo(
        f"postgresql://{rest}", options=options, connect_timeout=_CONNECT_SECONDS, application_name="thinksmith"
    )
    return conninfo, f"the PostgreSQL database {known.get('dbname') or known.get('user') or 'by default'}"


def _cell(value: str | None, kind: int, longest: int) -> Cell:
    if value is None:
        return None
    whole = len(value) <= longest
    if kind == _BYTEA and value.startswith("\\x"):
        digits = value[2:] if whole else value[2 : 2 + longest // 2 * 2]
        return {"hex": digits, "of": len(digits) // 2 if whole else 0}
    return value if whole else {"text": value[:longest], "of": 0}
