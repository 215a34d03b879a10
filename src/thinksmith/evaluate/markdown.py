"""A report as Markdown, for a pull request or a model card, and as JSON, for another program."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from thinksmith import __version__

if TYPE_CHECKING:
    from thinksmith.evaluate.report import Intervals, Report, Table

_MOST_ROWS = 50  # of a list of problems


def to_markdown(report: Report) -> str:
    """The report without its lists of attempts and its traces. Whatever a model or a data set wrote is text: signs that
    mean something to Markdown are escaped."""
    head = report.headline
    value = f"**{head.value}{' ' + head.unit if head.unit else ''}**"
    lines = [f"# {_text(report.title)}", "", _text(report.subtitle), "", f"{head.label}: {value}, {head.interval}", ""]
    lines += [_text(head.note), ""] if head.note else []
    if report.warnings:
        lines += ["## Warnings", "", *(f"- {_text(each)}" for each in report.warnings), ""]
    for table in report.tables:
        lines += _section(table.title, table.columns, table.rows, table.note)
    for part in filter(None, (report.families, *report.parts)):
        lines += _intervals(part)
    for table in report.lists[:1]:
        kept = table.rows[:_MOST_ROWS]
        cut = (
            f"{len(kept)} of {len(table.rows)} problems, the least solved first" if len(kept) < len(table.rows) else ""
        )
        lines += _section(table.title, table.columns, kept, cut)
    for facts in report.facts:
        lines += _section(facts.title, ("", ""), facts.rows, "")
    lines += [f"Intervals are 95 %, clustered by problem. Made by thinksmith {__version__}.", ""]
    return "\n".join(lines)


def to_json(report: Report) -> str:
    """Figures as numbers: what `Summary` holds, the warnings, the configuration and the problems. NaN is null."""
    told: dict[str, Any] = {
        "title": report.title,
        "model": report.subtitle,
        "summary": None if report.summary is None else asdict(report.summary),
        "warnings": list(report.warnings),
        "facts": {facts.title: dict(facts.rows) for facts in report.facts},
        "tables": [_table_json(table) for table in (*report.tables, *report.lists)],
        "made_by": f"thinksmith {__version__}",
    }
    return json.dumps(_finite(told), ensure_ascii=False, indent=2) + "\n"


def _table_json(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "columns": list(table.columns),
        "rows": [[_plain(cell) for cell in row] for row in table.rows],
        "note": table.note,
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _intervals(part: Intervals) -> list[str]:
    rows = [
        (
            name,
            bar.label,
            f"{bar.accuracy.mean:.1%}",
            f"[{bar.accuracy.low:.1%}, {bar.accuracy.high:.1%}]",
            str(bar.accuracy.problems),
        )
        for name, bars in part.groups
        for bar in bars
    ]
    if any(row[1] for row in rows):
        return _section(part.title, ("", "", "accuracy", "95 % interval", "problems"), rows, part.note)
    return _section(
        part.title, ("", "accuracy", "95 % interval", "problems"), [row[:1] + row[2:] for row in rows], part.note
    )


def _section(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str) -> list[str]:
    lines = [f"## {_text(title)}", ""]
    lines += ["| " + " | ".join(_text(name) for name in columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_text(_plain(cell)) for cell in row) + " |" for row in rows]
    return [*lines, "", *([_text(note), ""] if note else [])]


def _plain(cell: Any) -> str:
    """A cell's text: of several marks all in a row."""
    if isinstance(cell, tuple):
        return " ".join(_plain(each) for each in cell)
    return str(getattr(cell, "text", cell))


def _text(text: str) -> str:
    """On one line, with every sign escaped that Markdown or HTML would take for its own."""
    return re.sub(r"([\\`*_{}\[\]<>|#~$&!])", r"\\\1", " ".join(str(text).split()))
