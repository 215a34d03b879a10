"""`thinksmith mcp`: our tools for another program, over a real pipe."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "q3.txt").write_text("revenue: 918\n")
    (tmp_path / "secret.txt").write_text("do not read\n")
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.executescript("CREATE TABLE products(name TEXT); INSERT INTO products VALUES ('pen'), ('ink');")
    connection.commit()
    connection.close()
    return tmp_path


def using(program: Path, place: Path, *arguments: str, trial: Callable[[Any], Awaitable[Any]]) -> Any:
    """A trial with the `mcp` package's own client, over the pipes of the installed program."""
    from mcp.client.client import Client
    from mcp.client.stdio import StdioServerParameters

    async def run() -> Any:
        server = StdioServerParameters(command=str(program), args=["mcp", *arguments], cwd=place, env=dict(os.environ))
        async with asyncio.timeout(120), Client(server) as client:
            return await trial(client)

    return asyncio.run(run())


def test_another_program_reads_with_our_tools(program: Path, place: Path) -> None:
    async def trial(client: Any) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert {"sql_schema", "sql_query", "files_read", "files_list"} <= set(tools)
        assert not {"files_write", "files_edit"} & set(tools)
        rows = await client.call_tool("sql_query", {"sql": "SELECT name FROM products ORDER BY name"})
        assert rows.content[0].text == "name\nink\npen\n(2 rows)"
        assert not rows.is_error
        wrong = await client.call_tool("sql_query", {"sql": "DELETE FROM products"})
        assert wrong.is_error
        assert "open for reading only" in wrong.content[0].text
        refused = await client.call_tool("files_write", {"path": "x.txt", "content": "x"})
        assert refused.is_error
        assert "there is no tool" in refused.content[0].text
        report = await client.call_tool("files_read", {"path": "q3.txt"})
        assert "revenue: 918" in report.content[0].text
        outside = await client.call_tool("files_read", {"path": "../secret.txt"})
        assert "do not read" not in outside.content[0].text

    using(program, place, "--tools", "files:./reports,sql:shop.db", trial=trial)
    assert sorted(os.listdir(place / "reports")) == ["q3.txt"]


def test_what_writes_is_offered_where_it_is_named(program: Path, place: Path) -> None:
    async def trial(client: Any) -> None:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert "files_write" in names
        assert "files_edit" not in names
        (schema,) = (tool.input_schema for tool in (await client.list_tools()).tools if tool.name == "files_write")
        content = next(name for name in schema["required"] if name != "path")
        done = await client.call_tool("files_write", {"path": "new.txt", content: "written\n"})
        assert not done.is_error

    using(program, place, "--tools", "files:./reports", "--yes", "files_write", trial=trial)
    assert (place / "reports" / "new.txt").read_text() == "written\n"


def test_standard_output_is_the_protocols_alone(program: Path, place: Path) -> None:
    """Every line is a message, whatever comes in; the program ends when its input does."""
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    messages = [
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}),
        json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        "this is no JSON",
        json.dumps({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}),
    ]
    done = subprocess.run(
        [program, "mcp", "--tools", "calculator,sql:shop.db"],
        input="\n".join(messages) + "\n",
        capture_output=True,
        text=True,
        cwd=place,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers
    assert all(answer["jsonrpc"] == "2.0" for answer in answers)


def test_an_interrupt_ends_it_at_once(program: Path, place: Path) -> None:
    process = subprocess.Popen(
        [program, "mcp", "--tools", "calculator"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=place,
    )
    assert process.stdin
    assert process.stdout
    try:
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
        process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "thinksmith"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["mcp"], "missing option '--tools'"),
        (["mcp", "--tools", "nothing"], "no tool 'nothing'"),
        (["mcp", "--tools", "sql:missing.db"], "cannot be read"),
        (["mcp", "--tools", "calculator", "--yes", "files_write"], "there is no such tool"),
        (["mcp", "--tools", "http:"], "needs a host"),
    ],
)
def test_a_mistake_is_one_line(cli, arguments: list[str], why: str) -> None:
    done = cli(*arguments)
    assert done.code == 2
    assert why in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""
