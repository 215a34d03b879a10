"""The office: a private folder with a task's files, beside it its database, and the tools that reach no further."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

from thinksmith.agent.contract import Tool
from thinksmith.agent.office.checking import judge
from thinksmith.agent.tools import calculator, files, python, sql
from thinksmith.agent.tools.threads import in_thread
from thinksmith.records import Problem, Verdict

LARGEST = 8_000_000  # bytes of a file that are looked at: no tool writes more


class OfficeWorld:
    """Fulfils `thinksmith.agent.contract.World`. Its folder is new, and nobody else's; the database lies beside it,
    where no tool for files comes."""

    def __init__(self, problem: Problem, place: Path, tools: tuple[Tool, ...], opened: AsyncExitStack) -> None:
        self._problem, self._place, self._tools, self._opened = problem, place, tools, opened
        self._before = snapshot(place)

    @property
    def tools(self) -> tuple[Tool, ...]:
        return self._tools

    async def judge(self, answer: str) -> Verdict:
        """By the folder as it is now, and by the answer where one is asked for."""
        return await in_thread(lambda: judge(self._problem, self._before, snapshot(self._place), answer))

    async def aclose(self) -> None:
        await self._opened.aclose()


async def open_world(problem: Problem) -> OfficeWorld:
    """Build the world of a task. Raises UserError where no sandbox keeps programs in (`agent/tools/python.py`)."""
    async with AsyncExitStack() as opened:
        place = Path(tempfile.mkdtemp(prefix="thinksmith-office-"))
        opened.callback(shutil.rmtree, place, ignore_errors=True)
        _build(problem.meta, place)
        toolsets = [await files.open_toolset(str(place / "folder"))]
        if problem.meta["database"]:
            toolsets.append(await sql.open_toolset(str(place / problem.meta["database"])))
        toolsets += [await python.open_toolset(""), await calculator.open_toolset("")]
        for toolset in toolsets:
            opened.push_async_callback(toolset.aclose)
        tools = tuple(tool for toolset in toolsets for tool in toolset.tools)
        return OfficeWorld(problem, place, tools, opened.pop_all())


def snapshot(place: Path) -> dict[str, bytes]:
    """All that lies there, by path below `place`: of a file its bytes, of a link where it leads; no empty folders."""
    found: dict[str, bytes] = {}
    for folder, below, names in os.walk(place):
        for name in (*names, *(each for each in below if os.path.islink(os.path.join(folder, each)))):
            path = Path(folder, name)
            shown = path.relative_to(place).as_posix()
            if path.is_symlink() or not path.is_file():
                found[shown] = b"link " + os.fsencode(os.readlink(path)) if path.is_symlink() else b"no file"
            else:
                with path.open("rb") as opened:
                    found[shown] = opened.read(LARGEST)
    return found


def _build(meta: Mapping[str, Any], place: Path) -> None:
    """The folder, and the database. The files' paths are our own."""
    for name, text in meta["files"].items():
        path = place / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    if meta["database"]:
        with closing(sqlite3.connect(place / meta["database"])) as database, database:
            database.execute("PRAGMA synchronous = OFF")  # it is gone with the attempt
            for name, table in meta["tables"].items():
                columns = ", ".join(f"{column} {kind}" for column, kind in table["columns"])
                database.execute(f"CREATE TABLE {name} ({columns})")
                marks = ", ".join("?" * len(table["columns"]))
                database.executemany(f"INSERT INTO {name} VALUES ({marks})", table["rows"])
