"""How the commands write: colours and live displays on a terminal only, plain text elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import IO, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

STATUS_STYLE = {"correct": "green", "wrong": "red", "bad_gold": "magenta", "error": "magenta"}
"""Styles of verdicts; any other is yellow."""

# What a model writes may hold escape sequences, which would move the cursor or worse.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_WIDE = 100_000  # columns of what is no terminal: a reader such as grep wants whole lines


def console(stderr: bool = False) -> Console:
    """A console on standard output or error. No styles with NO_COLOR or without a terminal."""
    colour: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    made = Console(stderr=stderr, color_system=colour, highlight=False, markup=False, emoji=False, soft_wrap=True)
    if not made.is_terminal:
        made.width = _WIDE
    return made


def clean(text: str) -> str:
    """The text with control characters shown as signs (␛ for escape); line ends and tabs stay."""
    return _CONTROL.sub(lambda found: chr(0x2400 + ord(found[0])) if found[0] < " " else "\ufffd", text)


def one_line(text: str) -> str:
    return " ".join(clean(text).split())


def status(name: str) -> Text:
    """A verdict's status for people: "no answer"."""
    return Text(name.replace("_", " "), STATUS_STYLE.get(name, "yellow"))


def print_table(to: Console, columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """A table without lines. A column named `>…` is right-aligned; on a terminal the last column is cut to fit."""
    rows = list(rows)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, name in enumerate(columns):
        title = name.removeprefix(">")
        widest = max(cell_len(str(cell)) for cell in (title, *(row[index] for row in rows)))
        table.add_column(
            title,
            justify="left" if title == name else "right",
            no_wrap=True,
            min_width=widest if index < len(columns) - 1 else None,
            overflow="ellipsis",
        )
    for row in rows:
        table.add_row(*row)
    if to.is_terminal:
        to.print(table, soft_wrap=False)
    else:
        to.print("\n".join(line.rstrip() for line in _lines(table, to)))


def _lines(table: Table, to: Console) -> list[str]:
    """The table's lines as plain text, without the spaces that fill the last column."""
    with to.capture() as captured:
        to.print(table, soft_wrap=False)
    return captured.get().splitlines()


def write(to: IO[str], text: str) -> None:
    """Text as it is: for JSON, and for answers that another program reads."""
    to.write(text if text.endswith("\n") else text + "\n")
