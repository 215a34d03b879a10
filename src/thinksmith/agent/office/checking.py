"""Is a task of the office done? Judged is the state that was left: each file that was asked for, that every other file
is as it was, and the answer where one was asked for. What was said about it counts for nothing.

What may vary without harm does: line ends, white space at the ends of lines, how a number or JSON is written, and the
order of rows where none was asked for.
"""

from __future__ import annotations

import csv
import io
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from thinksmith.records import Problem, Status, Verdict
from thinksmith.sandbox import Limits, open_sandbox
from thinksmith.verify import exact, number
from thinksmith.verify.extract import extract
from thinksmith.verify.judgement import BadGold, Unreadable
from thinksmith.verify.verdict import line

FOLDER = "folder/"
"""Where a task's files lie in a snapshot of its world."""

_PLAIN = re.compile(r"[-+]?(?:0|[1-9]\d*)(?:\.\d+)?")
_LIMITS = Limits(seconds=10.0, cpu_seconds=10.0)

_PROBE = """
import contextlib, importlib.util, io
spec = importlib.util.spec_from_file_location("given", "given.py")
given = importlib.util.module_from_spec(spec)
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    spec.loader.exec_module(given)
print({mark!r})
{probe}
"""
"""Runs in the sandbox: imports a program and asks it what it was not shown."""


class _Wrong(Exception):
    """Why a file or an answer is not what it should be."""


def judge(problem: Problem, before: Mapping[str, bytes], after: Mapping[str, bytes], answer: str) -> Verdict:
    """The verdict on a world that was `before` and is now `after` (path → bytes), and on what was answered."""
    extracted, fault, silent = _answered(problem.meta["answer"], answer)
    wrong = _state(problem.meta["wanted"], before, after)
    if wrong or fault:
        status: Status = "no_answer" if silent and not wrong else "wrong"
        return Verdict(status, 0.0, extracted, line("; ".join(filter(None, (*wrong, fault)))))
    return Verdict("correct", 1.0, extracted, "everything is as it should be")


def _state(wanted: Mapping[str, Any], before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[str]:
    """What is wrong with the files."""
    found = []
    for place in sorted({*before, *after, *(FOLDER + path for path in wanted)}):
        path = place.removeprefix(FOLDER)
        if place.startswith(FOLDER) and path in wanted:
            try:
                _check(wanted[path], after.get(place))
            except _Wrong as fault:
                found.append(f"{path} {fault}")
        elif before.get(place) != after.get(place):
            what = "removed" if place not in after else "changed" if place in before else "made"
            found.append(f"{path} was {what}, which nobody asked for")
    return found


def _check(check: Mapping[str, Any], data: bytes | None) -> None:
    if data is None:
        raise _Wrong("is not there")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise _Wrong("is no text") from None
    kind = next(kind for kind in _CHECKS if kind in check)
    _CHECKS[kind](check, text)


# --- files


def _lines_of(text: str) -> list[str]:
    return [each.rstrip() for each in text.rstrip().split("\n")]


def _text(check: Mapping[str, Any], text: str) -> None:
    right, found = _lines_of(check["text"]), _lines_of(text)
    if found != right:
        at = next(
            (at for at, (one, other) in enumerate(zip(right, found, strict=False), 1) if one != other),
            min(len(right), len(found)) + 1,
        )
        raise _Wrong(f"is not as it should be, first in line {at}")


def _lines(check: Mapping[str, Any], text: str) -> None:
    found = [each.strip() for each in text.split("\n") if each.strip()]
    if sorted(found) != sorted(check["lines"]):
        raise _Wrong(f"does not hold the right lines: {len(found)} of them, not {len(check['lines'])} or others")
    if check["ordered"] and found != list(check["lines"]):
        raise _Wrong("holds the right lines in another order")


def _number(check: Mapping[str, Any], text: str) -> None:
    said = text.strip()
    if fault := "it has several lines" if "\n" in said else _not_number(check["number"], said):
        raise _Wrong(f"does not hold {check['number']} alone: {fault}")


def _not_number(right: str, text: str) -> str:
    try:
        return number.judge(Problem("", "", right, "number"), text) or ""
    except (Unreadable, BadGold) as error:
        return str(error) or "no number"


def _rows(check: Mapping[str, Any], text: str) -> None:
    try:
        found = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error as error:
        raise _Wrong(f"is no CSV: {error}") from None
    if not found or [cell.casefold() for cell in found[0]] != [cell.casefold() for cell in check["header"]]:
        raise _Wrong(f"does not have the columns {','.join(check['header'])}")
    rows, right = ([[_cell(cell) for cell in row] for row in each] for each in (found[1:], check["rows"]))
    if sorted(rows) != sorted(right):
        missing = sum(row not in rows for row in right)
        raise _Wrong(
            f"does not hold the right rows: {missing} are missing, {sum(row not in right for row in rows)} false"
        )
    if check["ordered"] and rows != right:
        raise _Wrong("holds the right rows in another order")


def _cell(text: str) -> str:
    """A number in one form, however it is written; what begins with a zero is a name."""
    return f"{Decimal(text).normalize() + 0:f}" if len(text) < 40 and _PLAIN.fullmatch(text) else text


def _json(check: Mapping[str, Any], text: str) -> None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Wrong(f"is no JSON: {error}") from None
    if not _same(found, check["json"]):
        raise _Wrong("does not hold the right values")


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 is 1.0, and true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return bool(one == other) if numbers or type(one) is type(other) else False


def _runs(check: Mapping[str, Any], text: str) -> None:
    """What it prints by itself; then what it makes of arguments that it was not shown, asked from outside."""
    asked = check["runs"]
    sandbox = open_sandbox()
    alone = sandbox.run(text, limits=_LIMITS)
    if alone.status != "ok":
        raise _Wrong(f"does not run: {alone.reason}")
    if _lines_of(alone.stdout.decode(errors="replace")) != _lines_of(asked["prints"]):
        raise _Wrong("prints something else than it should")
    mark = secrets.token_hex(8)
    probe = _PROBE.format(mark=mark, probe=asked["probe"])
    tried = sandbox.run(probe, files={"given.py": text.encode()}, limits=_LIMITS)
    told = tried.stdout.decode(errors="replace").partition(mark)[2]
    if tried.status != "ok" or _lines_of(told.strip("\n")) != _lines_of(asked["tells"]):
        raise _Wrong("is wrong for other arguments than those that it shows")


_CHECKS: dict[str, Callable[[Mapping[str, Any], str], None]] = {
    "text": _text,
    "lines": _lines,
    "number": _number,
    "rows": _rows,
    "json": _json,
    "runs": _runs,
}


# --- the answer


def _answered(asked: Mapping[str, Any] | None, answer: str) -> tuple[str | None, str, bool]:
    """(what was taken as the answer, what is wrong with it, whether there is none). The rules are `extract`'s: what
    stands behind the last "Answer:", or a short text as a whole; naming several answers is no answer."""
    if asked is None:
        return None, "", False
    ((kind, right),) = asked.items()
    taken = extract(answer, like=str(right))
    if taken is None:
        return None, "there is no line `Answer: …`", True
    shown = taken.text[:80]
    fault = _not_number(right, taken.text) if kind == "number" else _other(kind, right, taken.text)
    return shown, f"the answer is {right}, not {line(shown)}" if fault else "", False


def _other(kind: str, right: str | Sequence[str], text: str) -> bool:
    if kind == "text":
        return exact.judge(Problem("", "", str(right), "exact"), text) is not None
    names = {each.strip(" .`*'\"").casefold() for each in re.split(r",|;|\n|\band\b", text)} - {""}
    return names != {each.casefold() for each in right}
