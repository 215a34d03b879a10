"""What models wrote elsewhere, as rows of a file: a problem, its gold answer, and one or more responses.

`my.jsonl:prompt=question,answer=gold,response=output,kind=number` names the columns as for any set of problems (see
`thinksmith.problems`); `response` is a text, the chat messages of a turn, or a list of either. A column `kind` names
the verifier of its row, unless one is named for all. The same problem may stand in many rows. A run that
`thinksmith export` wrote as JSON lines is read as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from thinksmith.errors import UserError
from thinksmith.problems.mapping import GUESSES, Columns, Placed, columns_from, problems_from
from thinksmith.problems.rows import SUFFIXES, Row, describe, read_rows
from thinksmith.problems.spec import did_you_mean, parse_spec
from thinksmith.records import Problem, Trace
from thinksmith.store.attempts import attempt_from_json
from thinksmith.thinking import detect_tags, split
from thinksmith.verify.verdict import JUDGED, VERIFIERS

RESPONSES = ("response", "responses", "completion", "completions", "generation", "output", "prediction", "trace")
"""Columns that are taken for the response, in this order, unless one is named."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A response: where it stands (`file:line`), the problem, and the text split into thinking and answer.

    Rows with one problem share its id, so that statistics are clustered by problem.
    """

    where: str
    problem: Problem
    trace: Trace
    sample: int = 0


@dataclass(frozen=True, slots=True)
class _Said:
    """What a row has besides its problem."""

    traces: tuple[Trace, ...]
    name: str


def read_recorded(spec: str, kind: str = "") -> list[Recorded]:
    """The responses of a file, in its order. `kind` is the verifier where the spec names none; without either it is
    the one that a row's column `kind` names, else `math`.

    Raises UserError for whatever is wrong with the spec, the file or its rows, these by `file:line`.
    """
    parsed = parse_spec(spec)
    options = dict(parsed.options) | ({"kind": kind} if kind and "kind" not in parsed.options else {})
    response, name = options.pop("response", ""), options.pop("id", "")
    columns = columns_from(options, parsed.source)
    rows = read_rows(Path(parsed.source).expanduser(), parsed.source)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{parsed.source} has no rows")
    rows = chain([first], rows)
    if _is_attempt(first):
        return list(_exported(rows, parsed.source))
    said: dict[int, _Said] = {}
    prefix = next(Path(parsed.source).name.removesuffix(s) for s in SUFFIXES if parsed.source.endswith(s))
    plain = _without_responses(rows, response, name, said, parsed.source)
    groups = {columns.kind: plain} if "kind" in options else _by_kind(plain, columns)
    placed: list[Placed] = []
    for each, of_kind in groups.items():
        like = replace(columns, kind=each, number_ids=True)
        placed += problems_from(of_kind, like, prefix=prefix, shown=parsed.source)
    placed.sort(key=lambda one: one.number)
    return [
        Recorded(f"{parsed.source}:{number}", replace(problem, id=f"{prefix}/{_name(problem, said)}"), trace, sample)
        for problem, said, number in ((one.problem, said[one.number], one.number) for one in placed)
        for sample, trace in enumerate(said.traces)
    ]


def _by_kind(rows: Iterable[Row], columns: Columns) -> dict[str, Iterable[Row]]:
    """The rows by the kind that each names, `columns.kind` where it names none; each kind's are read by themselves.

    Rows at fault stand with the first kind, to be told. Rows of another split are left out, unless there are no others.
    """
    groups: dict[str, list[Row]] = {}
    elsewhere: list[Row] = []
    for row in rows:
        kind = row.values.pop("kind", None) or columns.kind
        if kind not in (*VERIFIERS, JUDGED):
            near = did_you_mean(str(kind), VERIFIERS, otherwise="; name one for all rows with :kind=KIND")
            row = Row(row.number, fault=f"no verifier for answers of kind {str(kind)[:60]!r}{near}")
        if row.fault:
            groups.setdefault(next(iter(groups), columns.kind), []).append(row)
        elif columns.split and row.values.get("split", columns.split) != columns.split:
            elsewhere.append(row)
        else:
            groups.setdefault(kind, []).append(row)
    return {**groups} or {columns.kind: elsewhere}


def _without_responses(
    rows: Iterable[Row], response: str, name: str, said: dict[int, _Said], shown: str
) -> Iterator[Row]:
    """The rows as rows of problems; what they say goes into `said`, by number. A row that says nothing is a fault."""
    for row in rows:
        if row.fault:
            yield row
            continue
        response = response or _guessed(row, shown)
        names = [name] if name else [each for each in GUESSES["id"] if each in row.values]
        values = {key: value for key, value in row.values.items() if key != response and key not in names}
        try:
            if response not in row.values:
                raise ValueError(f"there is no column {response!r}{did_you_mean(response, row.values)}")
            traces = _traces(row.values[response], row.values.get("finish_reason", row.values.get("finish")))
        except ValueError as error:
            yield Row(row.number, fault=str(error))
            continue
        said[row.number] = _Said(traces, next((str(row.values[each]) for each in names if each in row.values), ""))
        yield Row(row.number, values)


def _guessed(row: Row, shown: str) -> str:
    found = next((name for name in RESPONSES if name in row.values), "")
    if not found:
        listed = ", ".join(row.values) or "none at all"
        raise UserError(f"{shown}:{row.number}: which column is the response? Add :response=COLUMN; it has: {listed}")
    return found


def _traces(value: Any, finish: Any) -> tuple[Trace, ...]:
    """One trace a response. `finish` is an endpoint's finish_reason: "length" means that the text was cut off."""
    if value == []:
        raise ValueError("the response is an empty list")
    several = isinstance(value, list) and not (value and all(isinstance(each, dict) for each in value))
    texts = [_text(each) for each in value] if several else [_text(value)]
    ends: Sequence[Any] = finish if isinstance(finish, list) and len(finish) == len(texts) else [finish] * len(texts)
    return tuple(_trace(text, end == "length") for text, end in zip(texts, ends, strict=True))


def _text(value: Any) -> str:
    """A text, or what the assistant says last in chat messages. Raises ValueError for anything else."""
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        said = [message for message in value if message.get("role") == "assistant"]
        if not said:
            raise ValueError("the response is chat messages, but none of the role 'assistant'")
        return _content(said[-1].get("content"))
    if not isinstance(value, str):
        raise ValueError(f"the response is {describe(value)}, not text or chat messages")
    return value


def _content(value: Any) -> str:
    """What a message says: a text, or parts of which those of type `text` count. Raises ValueError."""
    if isinstance(value, list):
        parts = [part.get("text") for part in value if isinstance(part, dict) and part.get("type") == "text"]
        if texts := [text for text in parts if isinstance(text, str)]:
            return "".join(texts)
        raise ValueError("the assistant's message has no text among its parts")
    if not isinstance(value, str):
        raise ValueError(f"the content of the assistant's message is {describe(value)}, not text")
    return value


def _trace(text: str, cut_off: bool) -> Trace:
    parts = split(text, detect_tags(text))
    return Trace(parts.thinking, parts.answer, parts.status, finish="length" if cut_off else "stop")


def _name(problem: Problem, said: _Said) -> str:
    content = f"{problem.text}\0{problem.answer}".encode("utf-8", "surrogatepass")
    return said.name or hashlib.sha256(content).hexdigest()[:12]


def _is_attempt(row: Row) -> bool:
    return isinstance(row.values.get("problem"), dict) and isinstance(row.values.get("trace"), dict)


def _exported(rows: Iterable[Row], shown: str) -> Iterator[Recorded]:
    for row in rows:
        where = f"{shown}:{row.number}"
        try:
            attempt = attempt_from_json(row.values)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{where}: {row.fault or f'not an attempt as `thinksmith export` writes it: {error!r}'}"
            ) from None
        yield Recorded(where, attempt.problem, attempt.trace, attempt.sample)
