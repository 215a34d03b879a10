"""The program that reads a SQLite file: one question, one process, which can be killed and owns nothing.

It is run by its path with Python's `-I -S`, so it imports the standard library alone. SQLite itself can be held up
inside one function (a LIKE with many %) where no interrupt reaches it, and can be made to ask for any amount of memory:
so the bounds are the operating system's, of a process of its own.

In: one line of JSON, `{"path", "sql" or "schema", "rows", "characters", "seconds", "memory"}`. Out: one line,
`{"columns", "rows", "cut"}`, `{"relations", "left_out"}` or `{"error"}`.
"""

from __future__ import annotations

import json
import resource
import sqlite3
import sys
import time
from contextlib import suppress
from urllib.parse import quote

_READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_PRAGMAS = {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list"}
_OWN = {"data_version"}  # what full-text search asks, with no value
_REFUSED = {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit", "eval", "rtreecheck", "sqlite_log"}
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 100_000_000,  # of one value, a row's bytes; larger ones cannot be read
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 500,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 200,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 250_000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_SETTINGS = ("trusted_schema = OFF", "query_only = ON", "temp_store = MEMORY", "mmap_size = 0", "cell_size_check = ON")
_FILES = 64 << 20  # bytes of a file: the index of a write-ahead log may have to be made
_COUNTING = 0.3  # seconds for the row counts of a schema
_RELATIONS = 300
_STEPS = 1_000  # of SQLite's machine between two looks at the clock


class _Guard:
    """What SQLite asks before it does a thing. `refused`: what was not allowed."""

    def __init__(self) -> None:
        self.refused = ""

    def __call__(self, action: int, first: str | None, second: str | None, _database: object, _by: object) -> int:
        if action in _READS:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() not in _REFUSED:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() in (_PRAGMAS if second else _PRAGMAS | _OWN):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_UPDATE and first == "sqlite_master":
            # What SQLite asks for every virtual table (json_each, full-text search) when it learns its columns. To
            # change that table is refused whoever asks, and the file is open for reading.
            return sqlite3.SQLITE_OK
        if not self.refused:
            self.refused = f"the function {second}" if action == sqlite3.SQLITE_FUNCTION else "anything but SELECT"
        return sqlite3.SQLITE_DENY


class _Clock:
    """Stops SQLite when the time is up."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.end = seconds, time.monotonic() + seconds

    @property
    def over(self) -> bool:
        return time.monotonic() > self.end


def main() -> None:
    order = json.loads(sys.stdin.readline())
    _bound(order["memory"], order["seconds"])
    clock, guard = _Clock(order["seconds"]), _Guard()
    try:
        connection = _opened(order["path"], order["memory"], guard, clock)
        answer = (
            _rows(connection, order["sql"], order["rows"], order["characters"], clock)
            if "sql" in order
            else _schema(connection, order["schema"], clock)
        )
    except MemoryError:
        answer = {"error": f"it needs more than {order['memory'] >> 20} MB of memory: ask for less at once"}
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        answer = {"error": _why(error, guard, clock)}
    sys.stdout.write(json.dumps(answer))


def _bound(memory: int, seconds: float) -> None:
    for which, most in (
        (resource.RLIMIT_AS, memory + (256 << 20)),
        (resource.RLIMIT_FSIZE, _FILES),
        (resource.RLIMIT_CPU, int(seconds) + 5),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):  # a lower limit holds already, or the system has none of this kind
            resource.setrlimit(which, (most, most))


def _opened(path: str, memory: int, guard: _Guard, clock: _Clock) -> sqlite3.Connection:
    """The database, read-only: nothing in the file's name is taken for a parameter of the URI."""
    uri = f"file://{quote(path)}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=2.0, isolation_level=None)
    connection.text_factory = lambda read: read.decode("utf-8", "replace")
    for setting in (*_SETTINGS, f"hard_heap_limit = {memory}"):
        connection.execute(f"PRAGMA {setting}")
    for which, most in _LIMITS.items():
        connection.setlimit(which, most)
    connection.set_progress_handler(lambda: clock.over, _STEPS)
    connection.set_authorizer(guard)
    return connection


def _rows(connection: sqlite3.Connection, sql: str, most: int, characters: int, clock: _Clock) -> dict[str, object]:
    cursor = connection.execute(sql)  # raises for a second statement
    if cursor.description is None:
        return {"error": "this gives no rows: write one SELECT"}
    columns = [str(each[0])[:200] for each in cursor.description]
    longest = max(20, min(4_000, characters // (4 * len(columns))))
    rows: list[list[object]] = []
    room, cut = characters, ""
    try:
        for row in cursor:
            if len(rows) == most:
                cut = "there are more; count, group or filter"
                break
            cells = [_cell(value, longest) for value in row]
            room -= sum(len(str(cell)) for cell in cells)
            if room < 0:
                cut = "more would be too long; ask for fewer columns or shorter values"
                break
            rows.append(cells)
    except sqlite3.OperationalError:
        if not rows or not clock.over:
            raise
        cut = f"then {clock.seconds:g} s were over"
    return {"columns": columns, "rows": rows, "cut": cut}


def _cell(value: object, longest: int) -> object:
    if isinstance(value, bytes):
        return {"hex": value[: longest // 2].hex(), "of": len(value)}
    if isinstance(value, str) and len(value) > longest:
        return {"text": value[:longest], "of": len(value)}
    return value


def _schema(connection: sqlite3.Connection, table: str, clock: _Clock) -> dict[str, object]:
    found = connection.execute(
        "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view')"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND (?1 = '' OR name = ?1 COLLATE NOCASE) ORDER BY name",
        (table,),
    ).fetchall()
    with suppress(sqlite3.Error):  # SQLite before 3.37 cannot tell
        shadows = connection.execute("SELECT name FROM pragma_table_list WHERE type = 'shadow'").fetchall()
        found = [each for each in found if (each[0],) not in shadows]
    relations = [
        {"name": name, "kind": kind, "columns": _columns(connection, name), "rows": ""}
        for name, kind in found[:_RELATIONS]
    ]
    clock.end = min(clock.end, time.monotonic() + _COUNTING)
    for relation in relations:
        if relation["kind"] == "table":
            try:
                name = '"' + str(relation["name"]).replace('"', '""') + '"'
                (count,) = connection.execute(f"SELECT count(*) FROM {name}").fetchone()
            except sqlite3.Error:
                if clock.over:
                    break
                continue  # a virtual table whose module is not here
            relation["rows"] = f"{count:,} row{'' if count == 1 else 's'}"
    return {"relations": relations, "left_out": len(found[_RELATIONS:])}


def _columns(connection: sqlite3.Connection, table: str) -> list[list[str]]:
    try:
        listed = connection.execute('SELECT name, type, "notnull", pk FROM pragma_table_xinfo(?)', (table,)).fetchall()
        foreign = connection.execute('SELECT "from", "table", "to" FROM pragma_foreign_key_list(?)', (table,))
        refers = {name: f"refers to {other}({to or 'its key'})" for name, other, to in foreign}
    except sqlite3.Error as error:
        return [["?", f"cannot be read: {error}"]]
    return [
        [name, ", ".join(filter(None, (kind, "primary key" * bool(pk), "not null" * bool(full), refers.get(name, ""))))]
        for name, kind, full, pk in listed
    ]


def _why(error: BaseException, guard: _Guard, clock: _Clock) -> str:
    if guard.refused:
        return f"{guard.refused} is refused: the database is open for reading only"
    if clock.over:
        return f"it took longer than {clock.seconds:g} s and was stopped: ask for less, or filter first"
    if isinstance(error, UnicodeEncodeError):
        return "the SQL holds halves of surrogate pairs: write it in UTF-8"
    return " ".join(str(error).split())[:500]


if __name__ == "__main__":
    main()
