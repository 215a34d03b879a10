"""A SQLite file can be read and not changed, whatever is asked; and what is asked has an end."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thinksmith.agent.contract import Result, ToolFault
from thinksmith.agent.tools import sqlite as sqlite_tool
from thinksmith.agent.tools import sqlite_child
from thinksmith.agent.tools.sql import open_toolset
from thinksmith.agent.tools.sqlite import SqliteFile
from thinksmith.agent.tools.table import Relation, Table, schema_text
from thinksmith.errors import UserError

SHOP = """
CREATE TABLE regions(id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE products(id INTEGER PRIMARY KEY, name TEXT, price REAL, image BLOB, region INTEGER REFERENCES regions(id));
CREATE VIEW cheap AS SELECT name FROM products WHERE price < 2;
CREATE TRIGGER gone AFTER INSERT ON products BEGIN DELETE FROM regions; END;
CREATE VIRTUAL TABLE notes USING fts5(text);
INSERT INTO products VALUES (1, 'pen, red', 1.5, x'0102', 1), (2, NULL, 2, NULL, 2), (3, '', 0.1, zeroblob(5000), 1);
INSERT INTO regions VALUES (1, 'north'), (2, 'south');
INSERT INTO notes VALUES ('hello world');
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    connection = sqlite3.connect(path)
    connection.executescript(SHOP)
    connection.commit()
    connection.close()
    return path


def ask(path: Path | str, tool: str, **arguments: Any) -> Result:
    async def run() -> Result:
        toolset = await open_toolset(str(path))
        (found,) = (each for each in toolset.tools if each.name == tool)
        return await found.call(arguments, None)

    return asyncio.run(run())


def query(path: Path | str, sql: str, **arguments: Any) -> str:
    return ask(path, "sql_query", sql=sql, **arguments).text


def state(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_rows_are_csv_that_tells_null_text_and_bytes_apart(shop: Path) -> None:
    assert query(shop, "SELECT id, name, price, image FROM products WHERE id < 3") == (
        "id,name,price,image\n1,\"pen, red\",1.5,x'0102'\n2,NULL,2.0,NULL\n(2 rows)"
    )
    assert query(shop, "VALUES ('NULL', '', 'x''01''', 'a\"b', 'a\nb', ' a')").splitlines()[1:] == [
        '"NULL","","x\'01\'","a""b","a',
        'b"," a"',
        "(1 row)",
    ]
    assert "x'0000" in query(shop, "SELECT image FROM products WHERE id = 3")
    assert "(5,000 bytes)" in query(shop, "SELECT image FROM products WHERE id = 3")


def test_the_schema_tells_columns_keys_and_rows(shop: Path) -> None:
    text = ask(shop, "sql_schema").text
    assert "table products (3 rows)\n  id  INTEGER, primary key\n  name  TEXT\n" in text
    assert "  region  INTEGER, refers to regions(id)" in text
    assert "  name  TEXT, not null" in text
    assert "view cheap\n" in text
    assert "table notes (1 row)\n  text\n" in text
    assert "notes_content" not in text  # a table of the search's own
    assert ask(shop, "sql_schema", table="REGIONS").text.startswith("table regions (2 rows)")
    assert not ask(shop, "sql_schema", table="nope").ok


ATTACKS = [
    "INSERT INTO regions VALUES (9, 'x')",
    "INSERT INTO products VALUES (9, 'x', 1, NULL, 1)",
    "UPDATE products SET price = 0",
    "DELETE FROM products",
    "REPLACE INTO regions VALUES (1, 'x')",
    "WITH x AS (SELECT 1) DELETE FROM products",
    "INSERT INTO regions VALUES (9, 'x') RETURNING id",
    "UPDATE products SET price = 0 RETURNING price",
    "DROP TABLE products",
    "ALTER TABLE products RENAME TO p",
    "CREATE TABLE t(x)",
    "CREATE TEMP TABLE t(x)",
    "CREATE TABLE t AS SELECT * FROM products",
    "CREATE VIEW v AS SELECT 1",
    "CREATE TRIGGER t AFTER INSERT ON regions BEGIN SELECT 1; END",
    "CREATE INDEX i ON products(name)",
    "CREATE VIRTUAL TABLE v USING fts5(x)",
    "INSERT INTO notes(notes) VALUES ('rebuild')",
    "ATTACH DATABASE 'stolen.db' AS s",
    "ATTACH DATABASE 'file:stolen.db?mode=rwc' AS s",
    "ATTACH ':memory:' AS s",
    "DETACH main",
    "VACUUM",
    "VACUUM INTO 'stolen.db'",
    "REINDEX",
    "ANALYZE",
    "BEGIN IMMEDIATE",
    "SAVEPOINT s",
    "COMMIT",
    "PRAGMA writable_schema = ON",
    "PRAGMA query_only = OFF",
    "PRAGMA trusted_schema = ON",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA user_version = 7",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA temp_store_directory = '/tmp'",
    "PRAGMA data_store_directory = '/tmp'",
    "PRAGMA hard_heap_limit = 0",
    "PRAGMA optimize",
    "PRAGMA key = 'x'",
    "SELECT * FROM pragma_journal_mode",
    "SELECT * FROM pragma_database_list",
    "SELECT load_extension('/tmp/evil.so')",
    "SELECT LOAD_EXTENSION('/tmp/evil.so', 'init')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT fts3_tokenizer('simple', x'00')",
    "SELECT writefile('stolen', 'x')",
    "SELECT readfile('/etc/passwd')",
    "SELECT edit('x')",
    "UPDATE sqlite_master SET sql = 'x'",
    "DELETE FROM sqlite_schema",
    "INSERT INTO sqlite_sequence VALUES ('x', 1)",
    "SELECT 1; DROP TABLE products",
    "SELECT 1; SELECT 2",
    "SELECT 1;\0DROP TABLE products",
    "SELECT '\ud800'",
    "EXPLAIN DROP TABLE products",
    "",
    ";",
    "-- nothing",
    ".shell touch stolen",
    ".open stolen.db",
    "SELECT * FROM no_such_table",
    "SELECT :name, ?",
]


@pytest.mark.parametrize("sql", ATTACKS)
def test_nothing_but_reading_is_done(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    monkeypatch.chdir(tmp_path)
    before = state(tmp_path)
    with pytest.raises(ToolFault) as told:
        query(shop, sql)
    assert "\n" not in str(told.value)
    assert state(tmp_path) == before


def test_the_file_itself_is_open_for_reading(shop: Path) -> None:
    """The first wall, without the others: no guard, and no setting that says so. In a process of its own, since
    SQLite's bound on memory holds for all of one."""
    program = f"""
import sys
sys.path.insert(0, {str(Path(sqlite_child.__file__).parent)!r})
import sqlite_child
connection = sqlite_child._opened({str(shop)!r}, 1 << 29, sqlite_child._Guard(), sqlite_child._Clock(9))
connection.set_authorizer(None)
connection.execute("PRAGMA query_only = OFF")
connection.execute("DELETE FROM products")
"""
    before = sha256(shop.read_bytes()).hexdigest()
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True)
    assert "attempt to write a readonly database" in done.stderr
    assert sha256(shop.read_bytes()).hexdigest() == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM notes WHERE notes MATCH 'hello'",
        "SELECT value FROM json_each('[1, 2]')",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3) SELECT i FROM n",
        "VALUES (1), (2)",
        "PRAGMA table_info(products)",
        "SELECT name FROM pragma_table_list",
        "SELECT sql FROM sqlite_schema",
        "SELECT count(*) OVER (), upper(name) FROM products GROUP BY name HAVING price > 0",
        "EXPLAIN QUERY PLAN SELECT * FROM products",
        "SELECT 1;",
        "SELECT date('now'), randomblob(4), printf('%d', 7)",
    ],
)
def test_reading_is_not_hindered(shop: Path, sql: str) -> None:
    assert "row" in query(shop, sql).splitlines()[-1]


_WORDS = "; -- /* */ ( ) ' \" SELECT DELETE FROM products INSERT INTO DROP TABLE ATTACH 'x.db' AS PRAGMA = 1 , *"


@given(sql=st.lists(st.sampled_from(_WORDS.split())).map(" ".join))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_soup_of_words_changes_the_file(shop: Path, sql: str) -> None:
    before = sha256(shop.read_bytes()).hexdigest()
    with suppress(ToolFault):
        query(shop, sql)
    assert sha256(shop.read_bytes()).hexdigest() == before


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        f"SELECT count(*) FROM {', '.join(f'products p{at}' for at in range(20))}",
        "SELECT instr(printf('%.*c', 50000000, 'a'), printf('%.*c', 25000000, 'a') || 'b')",  # inside one function
    ],
)
def test_a_query_without_end_is_stopped(shop: Path, sql: str) -> None:
    began = time.monotonic()
    with pytest.raises(ToolFault, match=r"longer than 0\.5 s"):
        asyncio.run(SqliteFile(shop, 0.5).query(sql, 10))
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT zeroblob(900000000)",
        f"SELECT {', '.join(['randomblob(90000000)'] * 7)}",
        "WITH RECURSIVE n(i,x) AS (SELECT 1, zeroblob(9999999) UNION ALL SELECT i+1, zeroblob(9999999) FROM n LIMIT 99)"
        " SELECT x FROM n ORDER BY i % 7, x",
        "SELECT group_concat(x, '') FROM (WITH RECURSIVE n(x) AS (SELECT printf('%.*c', 9000000, 'x') UNION ALL"
        " SELECT x FROM n LIMIT 100) SELECT x FROM n)",
    ],
)
def test_a_query_has_only_so_much_memory(shop: Path, sql: str) -> None:
    with pytest.raises(ToolFault, match=r"memory|too big"):
        query(shop, sql)


def test_what_is_shown_is_bounded(shop: Path) -> None:
    text = query(shop, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n")
    assert text.endswith("200\n(the first 200 rows: there are more; count, group or filter)")
    assert "(the first 5 rows" in query(
        shop, "SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6", rows=5
    )
    long = query(shop, "SELECT printf('%.*c', 90000000, 'x')")
    assert "(90,000,000 characters)" in long
    assert len(long) < 5_000
    wide = query(shop, f"SELECT {', '.join(['randomblob(100000)'] * 1000)} FROM products")
    assert len(wide) < 500_000
    many = query(
        shop,
        "SELECT printf('%.*c', 3000, 'x') FROM products a, products b, products c, products d, products e, products f",
        rows=1000,
    )
    assert "too long" in many
    assert len(many) < 500_000


def test_what_came_in_time_is_shown(shop: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    sql = f"SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT count(*) FROM ({endless})"
    table = asyncio.run(SqliteFile(shop, 0.5).query(sql, 10))
    assert table.rows == ((1,),)
    assert "0.5 s" in table.cut


@pytest.mark.parametrize(
    "name", ["shop.db?mode=rwc", "a#b.db", "50%41.db", "shop db", "ä;b.db", "a&mode=rwc.db", "'q'.db"]
)
def test_no_part_of_a_file_name_is_taken_for_a_setting(shop: Path, tmp_path: Path, name: str) -> None:
    named = tmp_path / "folder" / name
    named.parent.mkdir()
    named.write_bytes(shop.read_bytes())
    assert "north" in query(named, "SELECT name FROM regions")
    with pytest.raises(ToolFault):
        query(named, "DELETE FROM regions")
    assert os.listdir(named.parent) == [name]


def test_a_database_in_use_is_read_as_it_is_now(shop: Path) -> None:
    """Its write-ahead log holds what another process has committed, and not what it has only begun."""
    writer = sqlite3.connect(shop, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("INSERT INTO regions VALUES (3, 'east')")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO regions VALUES (4, 'west')")
    assert query(shop, "SELECT max(id) FROM regions") == "max(id)\n3\n(1 row)"
    writer.execute("COMMIT")
    assert query(shop, "SELECT max(id) FROM regions") == "max(id)\n4\n(1 row)"
    writer.close()
    assert query(shop, "SELECT max(id) FROM regions") == "max(id)\n4\n(1 row)"


def test_a_schema_that_lies_runs_nothing(tmp_path: Path) -> None:
    """A file from a stranger: a view that calls a function with effects, and text that is not UTF-8."""
    path = tmp_path / "strange.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t(x)")
    connection.execute("CREATE VIEW v AS SELECT load_extension('/tmp/evil.so') AS x")
    connection.execute("INSERT INTO t VALUES (CAST(x'ff41' AS TEXT))")
    connection.execute('CREATE TABLE "a\n""b, x\'"("c\nd" "weird\ntype")')
    connection.commit()
    connection.close()
    with pytest.raises(ToolFault):
        query(path, "SELECT * FROM v")
    assert query(path, "SELECT x FROM t").splitlines()[1] == "\ufffdA"
    assert "\ufffdA" not in ask(path, "sql_schema").text


@pytest.mark.parametrize(
    "content", [b"", b"SQLite format 3\0", b"SQLite format 3\0" + bytes(4080), b"SQLite format 3\0" + b"\xff" * 8000]
)
def test_a_broken_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.db"
    path.write_bytes(content)
    with pytest.raises(ToolFault) as told:
        query(path, "SELECT * FROM t")
    assert "\n" not in str(told.value)


def test_a_mistake_in_the_spec_is_one_line(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no database")
    for spec in (
        "",
        " ",
        str(tmp_path / "missing.db"),
        str(tmp_path),
        str(text),
        "mysql://a/b",
        "a\0b",
        "sqlite:///nowhere.db",
    ):
        with pytest.raises(UserError) as told:
            asyncio.run(open_toolset(spec))
        assert "\n" not in str(told.value)


def test_the_reader_has_nothing_of_our_environment(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the environment of the agent (keys) is not in its reader's."""
    seen: list[dict[str, str]] = []
    start = asyncio.create_subprocess_exec

    async def spy(*command: Any, **options: Any) -> Any:
        seen.append(options["env"])
        return await start(*command, **options)

    monkeypatch.setenv("SECRET_KEY", "x")
    monkeypatch.setattr(sqlite_tool.asyncio, "create_subprocess_exec", spy)
    query(shop, "SELECT 1")
    assert [list(env) for env in seen] == [["PATH"]]


def test_many_at_once(shop: Path) -> None:
    async def run() -> list[Table]:
        file = SqliteFile(shop)
        return await asyncio.gather(*(file.query(f"SELECT {at}", 1) for at in range(8)))

    assert [table.rows for table in asyncio.run(run())] == [((at,),) for at in range(8)]


def test_a_cancelled_query_leaves_no_process(shop: Path) -> None:
    async def run() -> None:
        sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        task = asyncio.create_task(SqliteFile(shop, 30.0).query(sql, 1))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 10
    children = Path("/proc/self/task").glob("*/children")
    for pid in " ".join(path.read_text() for path in children).split():
        assert b"sqlite_child" not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_large_schema_is_cut() -> None:
    relations = [Relation(f"t{at}", "table", tuple((f"c{n}", "TEXT") for n in range(50))) for at in range(2000)]
    text = schema_text(relations, 7)
    assert len(text) < 450_000
    assert text.endswith("more: name one as `table` to see it)")
    assert schema_text([], 0) == "no tables"
