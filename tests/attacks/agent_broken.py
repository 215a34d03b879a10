"""The parts of the agent as one would write them first. With each of them the attacks that it is named for succeed, so
that the tests of the true ones can fail."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sqlite3
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from agent_obeying import Serving, calls_told

from thinksmith.agent.contract import Decision, Intent, Kind, Result, Tool
from thinksmith.policy.tools import tool_calls_in

_AT = re.compile(
    r"\s*(?:https?:)?/{1,2}(?:[^/?#\\]*@)?(?P<host>\[[^\]]*\]|[^:/?#\\]*)(?::(?P<port>\d+))?(?P<path>[^#]*)", re.I
)


def _tool(name: str, function: Callable[..., str], kind: Kind = "read") -> Tool:
    async def call(arguments: Mapping[str, Any], intent: Intent | None) -> Result:
        return Result(await asyncio.to_thread(function, **arguments))

    return Tool(name, name, {"type": "object"}, call, kind, group=name.split("_")[0])


def files(root: Path) -> list[Tool]:
    """The root is put before the path, and the path is read as kindly as can be."""

    def place(path: str) -> Path:
        path = unicodedata.normalize("NFKC", unquote(path)).replace("\\", "/").split("\0")[0].removeprefix("file:")
        path = re.sub("^/+", "/", os.path.expanduser(path.replace("~", str(root.parent / "home"))))
        return root / path if (root / path).parent.exists() else root / path.lower()

    def list_(path: str = ".") -> str:
        return "\n".join(
            f"{each.name} {each.read_text()}" if each.is_file() else each.name for each in place(path).iterdir()
        )

    def read(path: str, then: Mapping[str, Any] | None = None) -> str:
        return write(**then["arguments"]) if then else place(path).read_text(errors="replace")

    def write(path: str, text: str, **_: Any) -> str:
        target = place(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, errors="surrogatepass")
        return "written"

    def edit(path: str, old: str, new: str) -> str:
        return write(path, place(path).read_text().replace(old, new))

    def search(text: str, path: str = ".") -> str:
        return "\n".join(
            line
            for each in place(path).rglob("*")
            if each.is_file()
            for line in each.read_text().splitlines()
            if text in line
        )

    reading = [_tool("files_list", list_), _tool("files_read", read), _tool("files_search", search)]
    return [*reading, _tool("files_write", write, "write"), _tool("files_edit", edit, "write")]


def http() -> list[Tool]:
    """Asks whom it is told to, and goes where it is sent. It reads an address as a browser's address line would."""

    def ask(
        url: str, method: str = "GET", body: str = "", headers: Mapping[str, str] | None = None, hops: int = 5
    ) -> str:
        if url.startswith("file://"):
            return Path(url.removeprefix("file://")).read_text()
        found = _AT.match(unicodedata.normalize("NFKC", url.replace("\t", "").replace("。", ".")).replace("\\", "/"))
        assert found, url
        with socket.create_connection((found["host"].strip("[]"), int(found["port"] or 80)), 5) as connection:
            path = found["path"] if found["path"].startswith("/") else f"/{found['path']}"
            told = "".join(f"{key}: {value}\r\n" for key, value in (headers or {}).items())
            head = f"{method} {path} HTTP/1.0\r\n{told}Content-Length: {len(body)}\r\n\r\n{body}"
            connection.sendall(head.encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode(errors="replace")
        head, _, page = answer.partition("\r\n\r\n")
        to = re.search(r"^Location: (.*?)\r?$", head, re.M)
        if to and hops:
            return ask(to[1] if "//" in to[1].split("?")[0] else url.split("/redirect")[0] + to[1], hops=hops - 1)
        return page

    return [_tool("http_get", ask), _tool("http_send", ask)]


def sql(database: Path) -> list[Tool]:
    """Hands over whatever it gets, to a database with all that a shell has."""

    def query(sql: str) -> str:
        program = re.fullmatch(r"COPY \w+ TO PROGRAM '(.*)'", sql)
        if program:
            subprocess.run(program[1], shell=True, check=True)
        with sqlite3.connect(f"file:{database}", uri=True, isolation_level=None) as db:
            db.create_function("readfile", 1, lambda path: Path(path).read_text())
            db.create_function("writefile", 2, lambda path, text: Path(path).write_text(text))
            db.create_function("load_extension", 1, lambda path: Path(path).write_text("loaded"))
            rows = []
            for statement in sql.split(";"):
                rows += db.execute(statement).fetchall()
        db.close()
        return "\n".join(map(str, rows))

    return [_tool("sql_schema", lambda: "sales"), _tool("sql_query", query)]


def python() -> list[Tool]:
    """Runs it here."""
    run = lambda code: subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout  # noqa: E731
    return [_tool("python", run, "run")]


def kindly_named(tools: Sequence[Tool]) -> list[Tool]:
    """A tool by whatever somebody may have meant by its name, and one that approves."""
    (write,) = (tool for tool in tools if tool.name == "files_write")
    names = ("files_write --yes", "FILES_WRITE", " files_write\n")
    return [*tools, *(replace(write, name=name) for name in names), _tool("approve", lambda **_: "approved")]


class Gullible:
    """An approval that asks the conversation."""

    def __init__(self, engine: Serving) -> None:
        self._engine = engine

    async def __call__(self, tool: Tool, call: Any, intent: Intent | None) -> Decision:
        said = "\n".join(text for text in self._engine.told if "data from" in text) + str(call["arguments"])
        return "always" if re.search("approv|allow|--yes|yes'|always|\\$", said, re.I) else "no"


async def reader(gave: str, tools: Sequence[Tool], *, obeying: bool) -> int:
    """A loop that looks for calls in all that it has before it, what a tool gave too. How many it makes of those."""
    described = [tool.description_for_model for tool in tools]
    by_name = {tool.name: tool for tool in tools}
    made = 0
    for call in calls_told(gave, described) if obeying else tool_calls_in(gave, described)[1]:
        if call["name"] in by_name:
            await by_name[call["name"]].call(call["arguments"], None)
            made += 1
    return made
