"""What a task of the office is: a folder and perhaps a database, what is asked, and what must be so at the end.

All of it is data (JSON), so that a problem can be stored, and its world built anew, from the problem alone.

What a file must be at the end is one of:
    text                                this text, apart from line ends and white space at the ends of lines
    lines, ordered                      these lines, in this order or in any; empty ones do not count
    number                              this number and nothing else
    header, rows, ordered               a CSV table; numbers may be written otherwise (12.5, 12.50)
    json                                this value, however it is laid out
    runs                                a Python program: `prints`, and what `probe`, run beside it as `given`, prints
The answer, where there is one, is `number`, `text` or `names` (in any order). Every other file must be as it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from thinksmith.records import Problem
from thinksmith.verify.verdict import TASK

FAMILY = "office"
ANSWER = "End your reply with a line `Answer: …`."

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the database: columns as (name, type of SQLite), and rows."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str | int | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a solution. `takes` names what is taken out of its observation: the first group of a pattern; where
    `{{name}}` stands in a later argument or in what is said, it is put in."""

    name: str
    arguments: Json
    why: str
    takes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """`level`: 1 easy, 2, 3 hard. `wanted`: path → what it must be at the end. `answer`: what must be answered, None
    for nothing. `solution` and `said` solve it; `foolish` and `nonsense` are what somebody in a hurry does and says."""

    level: int
    prompt: str
    files: Mapping[str, str]
    solution: tuple[Call, ...]
    said: str
    foolish: tuple[Call, ...]
    nonsense: str
    wanted: Mapping[str, Json] = field(default_factory=dict)
    answer: Json | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)
    database: str = ""


def problem_of(task: Task, name: str, split: str) -> Problem:
    """The task as a problem; its id is a function of what is asked and of what lies there."""
    prompt = f"{task.prompt} {ANSWER}" if task.answer else task.prompt
    meta: dict[str, Any] = {
        "family": FAMILY,
        "split": split,
        "task": name,
        "level": task.level,
        "world": FAMILY,
        "files": dict(task.files),
        "database": task.database,
        "tables": {
            key: {"columns": [list(column) for column in table.columns], "rows": [list(row) for row in table.rows]}
            for key, table in task.tables.items()
        },
        "wanted": {path: dict(check) for path, check in task.wanted.items()},
        "answer": None if task.answer is None else dict(task.answer),
        "solution": [_call(each) for each in task.solution],
        "said": task.said,
        "foolish": [_call(each) for each in task.foolish],
        "nonsense": task.nonsense,
    }
    seen = json.dumps([prompt, meta["files"], meta["tables"]], sort_keys=True)
    digest = sha256(seen.encode()).hexdigest()[:10]
    return Problem(f"agent/office/{split}/{name}-{digest}", prompt, _gold(task.answer), TASK, meta)


def _call(call: Call) -> dict[str, Any]:
    return {"name": call.name, "arguments": dict(call.arguments), "why": call.why, "takes": dict(call.takes)}


def _gold(answer: Json | None) -> str | None:
    if answer is None:
        return None
    (value,) = answer.values()
    return ", ".join(value) if isinstance(value, list) else str(value)


# --- calls


def listing(why: str = "I look at what there is.") -> Call:
    return Call("files_list", {"path": ".", "depth": 5}, why)


def read(path: str, why: str = "") -> Call:
    return Call("files_read", {"path": path}, why or f"I read {path}.")


def write(path: str, text: str, why: str = "") -> Call:
    return Call("files_write", {"path": path, "text": text}, why or f"Now I write {path}.")


def edit(path: str, old: str, new: str, why: str = "", *, every: bool = False) -> Call:
    arguments = {"path": path, "old": old, "new": new} | ({"every": True} if every else {})
    return Call("files_edit", arguments, why or f"I change {path}.")


def query(sql: str, why: str, **takes: str) -> Call:
    return Call("sql_query", {"sql": sql}, why, takes)


def program(code: str, why: str, **takes: str) -> Call:
    return Call("python", {"code": code}, why, takes)


# --- texts


def csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A CSV text; no cell of ours needs quotes."""
    return "".join(",".join(map(str, row)) + "\n" for row in (header, *rows))


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, ordered: bool = False) -> dict[str, Any]:
    """The check of a CSV file."""
    return {"header": list(header), "rows": [[str(cell) for cell in row] for row in rows], "ordered": ordered}


def lines(wanted: Sequence[str], *, ordered: bool = False) -> dict[str, Any]:
    """The check of a file of lines."""
    return {"lines": list(wanted), "ordered": ordered}


def money(cents: int) -> str:
    """-1234 is -12.34."""
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02}"
