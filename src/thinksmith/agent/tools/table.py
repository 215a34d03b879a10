"""What a database gave, as text for a model: rows as CSV that tells NULL from '', bytes from text; and its schema."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Cell = str | int | float | None | Mapping[str, object]
"""A value. Long text is a beginning, `{"text": str, "of": characters}` (0: nobody counted); bytes are, whole or not,
`{"hex": str, "of": bytes}`."""

MOST_CHARACTERS = 400_000  # of a result or a schema
_QUOTED = re.compile(r"""[,"\r\n]|^\s|\s\Z|^NULL\Z|^x'|\A\Z""")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a query, in its order. `cut`: why there are not all of them; empty where there are."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    cut: str = ""

    @property
    def text(self) -> str:
        """CSV with a line of names, and how many rows there are."""
        count = f"{len(self.rows):,} row{'' if len(self.rows) == 1 else 's'}"
        told = f"(the first {count}: {self.cut})" if self.cut else f"({count})"
        lines = [",".join(_quoted(name) for name in self.columns)]
        lines += [",".join(map(_cell, row)) for row in self.rows]
        return "\n".join([*lines, told])


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or a view. `rows` is a number with its words (`about 1,200 rows`), or empty where it would cost to know;
    a column is its name and what is known of it (`INTEGER, primary key`)."""

    name: str
    kind: str
    columns: tuple[tuple[str, str], ...]
    rows: str = ""

    @property
    def text(self) -> str:
        head = f"{self.kind} {self.name}" + (f" ({self.rows})" if self.rows else "")
        return "\n".join([head, *(f"  {_short(name)}  {_short(about)}".rstrip() for name, about in self.columns)])


def schema_text(relations: Sequence[Relation], left_out: int) -> str:
    """All relations, as many as fit, and how many do not."""
    told: list[str] = []
    room = MOST_CHARACTERS
    for relation in relations:
        room -= len(text := relation.text)
        if room < 0:
            break
        told.append(text)
    missing = left_out + len(relations) - len(told)
    if missing:
        told.append(f"({missing:,} more: name one as `table` to see it)")
    return "\n".join(told) if told else "no tables"


def _cell(value: Cell) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        return _beginning(value)
    return repr(value)


def _beginning(value: Mapping[str, object]) -> str:
    of = value["of"]
    if "text" in value:
        return _quoted(f"{value['text']}…") + (f" ({of:,} characters)" if of else "")
    digits = str(value["hex"])
    if len(digits) == 2 * int(str(of)):
        return f"x'{digits}'"
    return f"x'{digits}…'" + (f" ({of:,} bytes)" if of else "")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:199] + "…"
