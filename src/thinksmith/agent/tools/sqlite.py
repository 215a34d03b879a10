"""A SQLite file, for reading: every question is answered by a process of its own (`sqlite_child.py`)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinksmith.agent.contract import ToolFault
from thinksmith.agent.tools import sqlite_child
from thinksmith.agent.tools.table import MOST_CHARACTERS, Relation, Table
from thinksmith.errors import UserError

MEMORY = 512 << 20  # bytes that SQLite may hold
_GRACE = 3.0  # seconds beyond the query's own limit: Python starts, and SQLite is held up inside a function


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """An existing file. `seconds`: how long a query may take."""

    path: Path
    seconds: float = 10.0

    @classmethod
    def open(cls, name: str) -> SqliteFile:
        """Raises UserError for what is no SQLite file."""
        try:
            path = Path(name).expanduser().resolve(strict=True)
            with path.open("rb") as file:
                begins = file.read(16)
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"sql:{name} cannot be read ({reason}): name a SQLite file or a postgresql:// URL"
            ) from None
        if begins not in (b"", b"SQLite format 3\0"):
            raise UserError(f"sql:{name} is no SQLite file: name another, or a postgresql:// URL")
        return cls(path)

    @property
    def about(self) -> str:
        return f"the SQLite database {self.path.name}"

    async def query(self, sql: str, rows: int) -> Table:
        """Raises ToolFault with what SQLite says."""
        answer = await self._ask(sql=sql, rows=rows, characters=MOST_CHARACTERS)
        return Table(tuple(answer["columns"]), tuple(map(tuple, answer["rows"])), answer["cut"])

    async def schema(self, table: str) -> tuple[list[Relation], int]:
        """All relations or one, and how many were left out."""
        answer = await self._ask(schema=table)
        relations = [
            Relation(each["name"], each["kind"], tuple((name, about) for name, about in each["columns"]), each["rows"])
            for each in answer["relations"]
        ]
        return relations, int(answer["left_out"])

    async def _ask(self, **order: Any) -> dict[str, Any]:
        order |= {"path": str(self.path), "seconds": self.seconds, "memory": MEMORY}
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", sqlite_child.__file__),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={"PATH": os.defpath},
                start_new_session=True,
                limit=8 * MOST_CHARACTERS,
            )
        except (OSError, ValueError) as error:
            raise ToolFault(f"the database's reader does not start: {error}") from None
        try:
            async with asyncio.timeout(self.seconds + _GRACE):
                said, _ = await process.communicate(json.dumps(order).encode() + b"\n")
        except TimeoutError:
            raise ToolFault(f"it took longer than {self.seconds:g} s and was stopped: ask for less") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await asyncio.shield(process.wait())
        try:
            answer: dict[str, Any] = json.loads(said)
        except ValueError:
            raise ToolFault("it needed too much memory or time and was stopped: ask for less at once") from None
        if "error" in answer:
            raise ToolFault(answer["error"])
        return answer
