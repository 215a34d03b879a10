"""What is shown: a headline, tables and notes, which the terminal, Markdown and a page show alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """Cells are texts; a column named `>…` is right-aligned."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart of memory: bytes by what takes them."""

    name: str
    parts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """`bars` are drawn on a page, beside `limit`, the bytes that there are."""

    title: str
    headline: str
    facts: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    bars: tuple[Bar, ...] = ()
    limit: int = 0


def markdown(sheet: Sheet) -> str:
    """The sheet for a document."""
    lines = [f"# {sheet.title}", "", f"**{sheet.headline}**", ""]
    lines += [f"{fact}  " for fact in sheet.facts]
    for table in sheet.tables:
        lines += ["", f"## {table.title}", "", *_grid(table)]
        lines += ["", *(f"- {note}" for note in table.notes)] if table.notes else []
    lines += ["", *(f"- {note}" for note in sheet.notes)] if sheet.notes else []
    return "\n".join(lines).rstrip() + "\n"


def _grid(table: Table) -> list[str]:
    heads = _line([column.removeprefix(">") for column in table.columns])
    rule = _line(["--:" if column.startswith(">") else "---" for column in table.columns])
    return [heads, rule, *map(_line, table.rows)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def size(number: float) -> str:
    """Bytes for people, in powers of ten as memory is sold: three digits."""
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(number) >= 0.9995 * one:
            return f"{_three(number / one)} {unit}"
    return f"{number:.0f} B"


def rate(number: float) -> str:
    """Something a second, three digits."""
    return _three(number)


def duration(seconds: float) -> str:
    """0.84 s, 12 s, 4 min 05 s, 3 h 20 min, 12 days."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours < 72:
        return f"{hours} h {minutes:02d} min"
    return f"{seconds / 86400:,.0f} days"


def _three(number: float) -> str:
    if abs(number) >= 99.95:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 9.995 else f"{number:.2f}"
