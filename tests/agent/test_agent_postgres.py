"""A PostgreSQL database can be read and not changed. A real server is started here, with a role that can only read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from postgres_server import serving
from thinksmith.agent.contract import Result, ToolFault, Toolset
from thinksmith.agent.tools.postgres import PostgresDatabase
from thinksmith.agent.tools.sql import open_toolset
from thinksmith.errors import UserError

psycopg = pytest.importorskip("psycopg")

PASSWORD = "p@ss/w:rd %41"
SHOP = """
CREATE TABLE regions(id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE products(id serial PRIMARY KEY, name text, price numeric, image bytea, region int REFERENCES regions(id));
CREATE VIEW cheap AS SELECT name FROM products WHERE price < 2;
CREATE SEQUENCE counter;
CREATE SCHEMA hidden;
CREATE TABLE hidden.secrets(x text);
INSERT INTO regions VALUES (1, 'north'), (2, 'south');
INSERT INTO products(name, price, image, region)
VALUES ('pen, red', 1.50, '\\x0102', 1), (NULL, 2, NULL, 2), ('', 0.1, NULL, 1);
ANALYZE;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """host:port of a server of these tests alone; its superuser is `boss` (password `bosspw`)."""
    with serving() as place:
        yield _filled(place)


def _filled(place: str) -> str:
    """The server with a shop in it, and roles of several powers."""
    connection = psycopg.connect(f"postgresql://boss:bosspw@{place}/postgres", autocommit=True)
    with connection:
        connection.execute(SHOP)
        connection.execute(
            f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'; GRANT SELECT ON regions, products, cheap TO reader"
        )
        connection.execute("GRANT ALL ON regions, products, counter TO reader")  # it could write, and may not here
        connection.execute("GRANT CREATE ON SCHEMA public TO reader")
        for role, power in (
            ("filer", "pg_read_server_files"),
            ("runner", "pg_execute_server_program"),
            ("heir", "boss"),
        ):
            connection.execute(f"CREATE ROLE {role} LOGIN NOINHERIT PASSWORD 'x'; GRANT {power} TO {role}")
        connection.execute("CREATE ROLE lister LOGIN PASSWORD 'x'; GRANT EXECUTE ON FUNCTION pg_ls_dir(text) TO lister")
    return place


@pytest.fixture(scope="module")
def url(server: str) -> str:
    return f"postgresql://reader:{quote(PASSWORD, safe='')}@{server}/postgres"


@pytest.fixture(scope="module")
def toolset(url: str) -> Toolset:
    return asyncio.run(open_toolset(url))


def ask(toolset: Toolset, tool: str, **arguments: Any) -> Result:
    (found,) = (each for each in toolset.tools if each.name == tool)
    return asyncio.run(found.call(arguments, None))  # type: ignore[arg-type]


def query(toolset: Toolset, sql: str, **arguments: Any) -> str:
    return ask(toolset, "sql_query", sql=sql, **arguments).text


def state(server: str) -> list[Any]:
    with psycopg.connect(f"postgresql://boss:bosspw@{server}/postgres") as connection:
        return [
            connection.execute(sql).fetchall()
            for sql in (
                "SELECT * FROM products ORDER BY id",
                "SELECT * FROM regions ORDER BY id",
                "SELECT last_value, is_called FROM counter",
                "SELECT relname FROM pg_class WHERE relnamespace::regnamespace::text ~ 'public|hidden' ORDER BY 1",
                "SELECT rolname, rolsuper FROM pg_roles ORDER BY 1",
                "SELECT count(*) FROM pg_largeobject_metadata",
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
                "SELECT setting FROM pg_settings WHERE name = 'work_mem'",
            )
        ]


def test_rows_and_schema(toolset: Toolset) -> None:
    assert query(toolset, "SELECT id, name, price, image FROM products WHERE id < 3 ORDER BY id") == (
        "id,name,price,image\n1,\"pen, red\",1.50,x'0102'\n2,NULL,2,NULL\n(2 rows)"
    )
    assert (
        query(toolset, "SELECT 1 AS a, 2 AS a, 'NULL' AS b, '{1,2}'::int[] AS c")
        == 'a,a,b,c\n1,2,"NULL","{1,2}"\n(1 row)'
    )
    text = ask(toolset, "sql_schema").text
    assert "table products (about 3 rows)\n  id  integer, primary key\n  name  text\n" in text
    assert "  region  integer, refers to regions" in text
    assert "view cheap" in text
    assert "secrets" not in text
    assert ask(toolset, "sql_schema", table="Regions").text.startswith("table regions")
    assert not ask(toolset, "sql_schema", table="nope").ok


ATTACKS = [
    "INSERT INTO regions VALUES (9, 'x')",
    "UPDATE products SET price = 0 RETURNING price",
    "DELETE FROM products",
    "WITH gone AS (DELETE FROM products RETURNING *) SELECT * FROM gone",
    "TRUNCATE products",
    "DROP TABLE products",
    "CREATE TABLE t(x int)",
    "CREATE TEMP TABLE t(x int)",
    "SELECT 1 AS x INTO stolen",
    "CREATE TABLE stolen AS SELECT * FROM products",
    "SELECT * FROM products FOR UPDATE",
    "LOCK TABLE products",
    "SELECT nextval('counter')",
    "SELECT setval('counter', 99)",
    "SELECT 1; DELETE FROM products",
    "SELECT 1; COMMIT; DELETE FROM products",
    "COMMIT",
    "ROLLBACK",
    "BEGIN READ WRITE",
    "SET TRANSACTION READ WRITE",
    "SET default_transaction_read_only = off",
    "SET ROLE boss",
    "SET SESSION AUTHORIZATION boss",
    "RESET ALL",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SELECT set_config('statement_timeout', '0', false)",
    "SELECT pg_catalog.set_config('work_mem', '1GB', false)",
    "DO $$ BEGIN DELETE FROM products; END $$",
    "CALL nothing()",
    "COPY products TO '/tmp/stolen'",
    "COPY products TO PROGRAM 'touch /tmp/stolen'",
    "COPY products FROM '/etc/passwd'",
    "COPY products TO STDOUT",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_read_binary_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/stolen')",
    "SELECT lo_create(4242)",
    "SELECT lo_from_bytea(4242, '\\x00')",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
    'SELECT pg_catalog."pg_terminate_backend"/* */(1)',
    'SELECT U&"pg\\005fterminate\\005fbackend"(1)',
    "SELECT u&\"pg!005fterminate!005fbackend\" UESCAPE '!' (1)",
    "SELECT pg_cancel_backend(1)",
    "SELECT pg_reload_conf()",
    "SELECT pg_sleep(100)",
    "SELECT pg_advisory_lock(1)",
    "SELECT query_to_xml('DELETE FROM products', true, true, '')",
    "SELECT ts_stat('DELETE FROM products')",
    "SELECT dblink('host=evil.example', 'SELECT 1')",
    "SELECT pg_logical_emit_message(false, 'a', 'b')",
    "SELECT pg_notify('a', 'b')",
    "LISTEN a",
    "NOTIFY a, 'b'",
    "PREPARE p AS DELETE FROM products",
    "EXECUTE p",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "EXPLAIN ANALYZE DELETE FROM products",
    "VACUUM",
    "ALTER SYSTEM SET work_mem = '1GB'",
    "ALTER ROLE reader SUPERUSER",
    "GRANT boss TO reader",
    "LOAD 'evil'",
    "CREATE EXTENSION dblink",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SELECT 1) AS q(c0) UNION ALL SELECT repeat('x', 100000000) FROM (SELECT 1",
    "SELECT 1) AS q(c0); DELETE FROM products; SELECT * FROM (SELECT 1",
    "SELECT 1 /*",
    "SELECT 1 --\0) DELETE",
    "SELECT '\ud800'",
    "SELECT $1",
    "SELECT * FROM hidden.secrets",
    "SELECT rolpassword FROM pg_authid",
    "SELECT * FROM no_such_table",
    "",
    ";",
]


@pytest.mark.parametrize("sql", ATTACKS)
def test_nothing_but_reading_is_done(toolset: Toolset, server: str, sql: str) -> None:
    before = state(server)
    with pytest.raises(ToolFault) as told:
        query(toolset, sql)
    assert "\n" not in str(told.value)
    assert PASSWORD not in str(told.value)
    assert state(server) == before
    assert not Path("/tmp/stolen").exists()


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO regions VALUES (9, 'x')",
        "SELECT nextval('counter')",
        "DELETE FROM products",
        "CREATE TABLE t(x int)",
        "SELECT set_config('transaction_read_only', 'off', false)",
    ],
)
def test_the_transaction_itself_only_reads(url: str, server: str, sql: str) -> None:
    """The first wall, without the others: the role may write, and what it runs directly does not."""

    def run(database: PostgresDatabase) -> None:
        with database._reading() as connection:
            connection.execute("SELECT 1")
            connection.execute(sql.encode())

    before = state(server)
    database = asyncio.run(PostgresDatabase.open(url))
    with pytest.raises(ToolFault, match=r"read-only|read-write"):
        run(database)
    assert state(server) == before


@pytest.mark.parametrize(
    "sql",
    [
        "TABLE products",
        "VALUES (1), (2)",
        "SELECT 1;",
        "SELECT 1 -- a remark",
        "SELECT ';', '--', $$ ; ) $$",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT i FROM n",
        "SELECT row(1, 2), null, now(), '{}'::jsonb, true",
        "SELECT current_setting('transaction_read_only')",
        "SELECT lo_tax, http_status FROM (SELECT 1 AS lo_tax, 2 AS http_status) AS x",
    ],
)
def test_reading_is_not_hindered(toolset: Toolset, sql: str) -> None:
    assert "row" in query(toolset, sql).splitlines()[-1]


def test_order_is_kept_and_rows_are_bounded(toolset: Toolset) -> None:
    text = query(toolset, "SELECT i FROM generate_series(1, 1000000) AS s(i) ORDER BY i DESC")
    assert text.startswith("i\n1000000\n999999\n")
    assert text.endswith("(the first 200 rows: there are more; count, group or filter)")
    long = query(toolset, "SELECT repeat('x', 50000000)")
    assert len(long) < 5_000
    assert "…" in long
    wide = query(
        toolset, f"SELECT {', '.join(['repeat(i::text, 2000)'] * 300)} FROM generate_series(1, 100) AS s(i)", rows=100
    )
    assert len(wide) < 600_000
    assert "x'" + "00" * 10 in query(toolset, "SELECT decode(repeat('00', 100000), 'hex')")


def test_a_query_without_end_is_stopped(url: str) -> None:
    database = asyncio.run(PostgresDatabase.open(url))
    short = PostgresDatabase(database.conninfo, database.about, 0.5)
    began = time.monotonic()
    with pytest.raises(ToolFault, match=r"longer than 0\.5 s"):
        asyncio.run(short.query("SELECT count(*) FROM generate_series(1, 100000000) a, generate_series(1, 1000) b", 1))
    assert time.monotonic() - began < 20


def test_a_locked_table_is_not_waited_for(toolset: Toolset, server: str) -> None:
    with psycopg.connect(f"postgresql://boss:bosspw@{server}/postgres") as connection:
        connection.execute("LOCK TABLE regions IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        with pytest.raises(ToolFault, match="lock"):
            query(toolset, "SELECT * FROM regions")
        assert time.monotonic() - began < 20


@pytest.mark.parametrize("role", ["boss:bosspw", "filer:x", "runner:x", "heir:x", "lister:x"])
def test_a_role_that_could_do_more_is_refused(server: str, role: str) -> None:
    with pytest.raises(UserError, match="pg_read_all_data") as told:
        asyncio.run(open_toolset(f"postgresql://{role}@{server}/postgres"))
    assert "\n" not in str(told.value)


def test_no_password_is_ever_told(server: str, url: str, toolset: Toolset) -> None:
    secret = "s3cr3t"
    wrong = [
        f"postgresql://reader:{secret}@{server}/postgres",
        f"postgresql://reader:a@{secret}@{server}/postgres",
        f"postgresql://reader:a/{secret}@{server}/postgres",
        f"postgresql://reader:a?{secret}@{server}/postgres",
        f"postgresql://reader:a#{secret}@{server}/postgres",
        f"postgresql://reader:a:{secret}@127.0.0.1:1/postgres",
        f"postgresql://reader:{secret}@127.0.0.1:notaport/postgres",
        f"postgresql://reader@{server}/postgres?password={secret}",
        f"postgresql://reader:{secret}%zz@{server}/postgres",
        f"postgresql://reader:{secret}@/postgres?host=/nowhere",
    ]
    for each in wrong:
        with pytest.raises(UserError) as told:
            asyncio.run(open_toolset(each))
        assert secret not in str(told.value)
        assert "\n" not in str(told.value)
    assert PASSWORD not in asyncio.run(PostgresDatabase.open(url))._told(psycopg.Error(f"it quotes {PASSWORD}"))
    assert quote(PASSWORD, safe="") not in toolset.spec
    assert PASSWORD not in repr(asyncio.run(PostgresDatabase.open(url)))
    assert all(PASSWORD not in tool.description for tool in toolset.tools)


def test_nothing_stays_from_one_query_to_the_next(toolset: Toolset, server: str) -> None:
    query(toolset, "SELECT 1")
    with psycopg.connect(f"postgresql://boss:bosspw@{server}/postgres") as connection:
        deadline = time.monotonic() + 10
        while connection.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader'").fetchone() != (0,):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_server_that_is_gone_is_one_line() -> None:
    with pytest.raises(UserError) as told:
        asyncio.run(open_toolset("postgresql://reader:x@127.0.0.1:1/postgres"))
    assert "\n" not in str(told.value)
