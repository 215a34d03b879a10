r"""Which column is what, and how a row becomes a problem.

A gold answer that is a whole worked solution is cut to its final answer: what follows `####` on the last line, as
gsm8k writes it, or what stands in the `\boxed{}`. The whole stays in `meta["solution"]`, and so do the other
columns under their names, as far as JSON can hold them.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from thinksmith.errors import UserError
from thinksmith.problems.rows import Row, describe
from thinksmith.problems.spec import did_you_mean
from thinksmith.records import Message, Problem
from thinksmith.verify import check_gold
from thinksmith.verify.extract import extract

GUESSES = {
    "prompt": ("prompt", "problem", "question", "query"),
    "answer": ("answer", "gold", "solution", "target"),
    "id": ("id", "unique_id", "uid", "task_id"),
}
NO_ANSWER = "none"
"""`answer=none` asks for problems without gold."""

_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3})")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that a set's problems are made of; an empty name is guessed from the first readable row.

    `kind` is the verifier. `split` keeps only the rows whose column `split` says so; empty keeps all. `number_ids`:
    without an id column, ids are the rows' indexes (from 0) instead of hashes of the content. `frame`: what is asked,
    with the row's prompt in place of `{prompt}`; the prompt itself stays in `meta["prompt"]`.
    """

    prompt: str = ""
    answer: str = ""
    id: str = ""
    kind: str = "math"
    split: str = ""
    number_ids: bool = False
    frame: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A problem and the number of the row that it came from."""

    problem: Problem
    number: int


class BadRow(ValueError):
    """Why a row is no problem."""


def columns_from(options: Mapping[str, str], where: str) -> Columns:
    """The column mapping as the options name it. Raises UserError for an unknown option or kind."""
    known = ("prompt", "answer", "id", "kind", "split")
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known, otherwise=f"; known are {', '.join(known)}")
            raise UserError(f"{where}: there is no option {name!r}{hint}")
    prompt, answer, identifier, split = (options.get(role, "") for role in ("prompt", "answer", "id", "split"))
    columns = Columns(prompt, answer, identifier, options.get("kind", "math"), split)
    check_gold(Problem("", "", "", columns.kind))  # raises for an unknown kind, before a big file is read
    return columns


def problems_from(rows: Iterable[Row], columns: Columns, *, prefix: str, shown: str) -> Iterator[Placed]:
    """One problem a row, as the rows come; ids begin with `prefix/`.

    Raises UserError for a column that is not there, and, when all rows were read, for bad rows (malformed, or with an
    id that an earlier row has): the first one and how many more there are.
    """
    resolved: Columns | None = None
    numbers: dict[str, int] = {}
    splits: set[str] = set()
    first_fault, faults = "", 0
    for row in rows:
        try:
            if row.fault:
                raise BadRow(row.fault)
            resolved = resolved or _resolved(columns, list(row.values), f"{shown}:{row.number}")
            if resolved.split:
                splits.add(str(_value(row, "split")))
                if row.values["split"] != resolved.split:
                    continue
            problem = _problem(row, resolved, prefix)
            if (earlier := numbers.setdefault(problem.id, row.number)) != row.number:
                raise BadRow(_repeated(problem.id, earlier, shown, resolved))
        except BadRow as fault:
            first_fault = first_fault or f"{shown}:{row.number}: {fault}"
            faults += 1
        else:
            yield Placed(problem, row.number)
    if faults:
        more = f" (and {faults - 1} more bad row{'s' if faults > 2 else ''})" if faults > 1 else ""
        raise UserError(first_fault + more)
    if not numbers:
        there = f" of split {columns.split!r}; it has: {', '.join(sorted(splits))}" if splits else ""
        raise UserError(f"{shown} has no problems{there}")


def _resolved(columns: Columns, available: Sequence[str], place: str) -> Columns:
    """Fill in the column names that were not given, and see that those that were given exist."""
    found = {}
    listed = ", ".join(available) or "none at all"
    for role, guesses in GUESSES.items():
        name = getattr(columns, role)
        if not name:
            name = next((guess for guess in guesses if guess in available), "")
            if not name and role != "id":
                otherwise = " or answer=none" if role == "answer" else ""
                raise UserError(f"{place}: which column is the {role}? Add :{role}=COLUMN{otherwise}; it has: {listed}")
        elif name not in available and (role, name) != ("answer", NO_ANSWER):
            raise UserError(f"{place}: no column {name!r}{did_you_mean(name, available)}; it has: {listed}")
        found[role] = name
    if columns.split and "split" not in available:
        raise UserError(f"{place}: no column 'split' to choose {columns.split!r} by; it has: {listed}")
    return replace(columns, **found)


def _value(row: Row, column: str) -> Any:
    if column not in row.values:
        raise BadRow(f"the column {column!r} is missing")
    return row.values[column]


def _problem(row: Row, columns: Columns, prefix: str) -> Problem:
    prompt = _prompt(_value(row, columns.prompt), columns.prompt)
    used = {columns.prompt, columns.answer, columns.id}
    meta = {name: value for name, value in row.values.items() if name not in used and _is_json(value)}
    answer = None
    if columns.answer != NO_ANSWER:
        whole = _answer(_value(row, columns.answer), columns.answer, columns.kind)
        answer = _final(whole, columns.kind) if whole is not None else None
        if answer != whole:
            meta.setdefault("solution", whole)
    if columns.id:
        name = _id(_value(row, columns.id), columns.id)
    else:
        name = str(row.number - 1) if columns.number_ids else _content_hash(prompt, answer)
    if columns.frame and isinstance(prompt, str):
        meta["prompt"] = prompt
        prompt = columns.frame.replace("{prompt}", prompt.strip("\n"))
    return Problem(f"{prefix}/{name}", prompt, answer, columns.kind, meta)


def _prompt(value: Any, column: str) -> str | tuple[Message, ...]:
    """Text, or chat messages; what is neither, or says nothing, is a BadRow."""
    if isinstance(value, str):
        if not value.strip():
            raise BadRow(f"the prompt ({column!r}) is empty")
        return value
    if not isinstance(value, list):
        raise BadRow(f"the prompt ({column!r}) is {describe(value)}, not text or chat messages")
    messages = tuple(_message(item, column) for item in value)
    if not any(message["content"].strip() for message in messages):
        raise BadRow(f"the prompt ({column!r}) is empty")
    return messages


def _message(item: Any, column: str) -> Message:
    role, content = (item.get("role"), item.get("content")) if isinstance(item, dict) else (None, None)
    if not (isinstance(role, str) and isinstance(content, str)):
        raise BadRow(f"the prompt ({column!r}) has a message without text for 'role' and 'content'")
    return Message(role=role, content=content)


def _answer(value: Any, column: str, kind: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise BadRow(f"the answer ({column!r}) is {describe(value)}, not text or a number")
    if not isinstance(value, str) and not math.isfinite(value):
        raise BadRow(f"the answer ({column!r}) is {value}, not a number")
    return str(value).strip("\n") if kind == "code" else str(value).strip()  # the first line's indentation counts


def _final(answer: str, kind: str) -> str:
    """The final answer of a worked solution; any other gold answer is its own."""
    if kind not in ("number", "math") or not ("####" in answer or "\\boxed" in answer):
        return answer
    final = extract(answer)
    if final is None or final.rule not in ("####", "boxed"):
        return answer
    return _THOUSANDS.sub("", final.text) if final.rule == "####" else final.text


def _id(value: Any, column: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        what = "empty" if value == "" or str(value).isspace() else describe(value)
        raise BadRow(f"the id ({column!r}) is {what}, not text or a whole number")
    return str(value).strip()


def _content_hash(prompt: str | tuple[Message, ...], answer: str | None) -> str:
    """The same for the same question and answer, wherever they stand in whichever file."""
    return hashlib.sha256(json.dumps([prompt, answer]).encode()).hexdigest()[:12]


def _repeated(name: str, earlier: int, shown: str, columns: Columns) -> str:
    if columns.id:
        return f"the id {name.partition('/')[2]!r} is that of {shown}:{earlier} already; give each row its own"
    return f"the same question and answer as {shown}:{earlier}; leave one of them out"


def _is_json(value: Any) -> bool:
    """Whether a store can hold it. Parquet also has dates, bytes and NaN."""
    if value is None or isinstance(value, str | bool | int):
        return True
    if isinstance(value, float):
        return math.isfinite(value)
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
