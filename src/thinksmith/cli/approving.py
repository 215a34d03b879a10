"""The terminal asks: what a call would do, in one line, and yes or no. Nothing is done while nobody answers.

What a call would do is told in words that a model chose, and it may have read them from somebody else. So they are
shown with nothing in them that moves the cursor, turns the direction of writing or hides; they are cut to a line, and
longer texts stand behind a bar of their own, so that none of it can look like a question of ours. What was typed before
the question stood there does not answer it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import termios
import unicodedata
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING

from thinksmith.cli.screen import clean, one_line
from thinksmith.errors import UserError
from thinksmith.problems.spec import did_you_mean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from thinksmith.agent.contract import Decision, Intent, Tool
    from thinksmith.records import ToolCall

_CHOICES = (("y", "once"), ("a", "always this tool"), ("d", "details"), ("n", "no"))
_HIDDEN = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"))
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_MOST_MARKS = 2  # accents on one letter; more of them climb into the lines above
_MOST_LINES = 400  # of the details
_BAR = "  │ "


def allowed(names: Sequence[str], tools: Sequence[Tool]) -> frozenset[str]:
    """The tools that `--yes` names, each by its own name or with all of its group. Raises UserError for a name that is
    neither."""
    groups = {tool.group for tool in tools if tool.group}
    known = groups | {tool.name for tool in tools}
    for name in names:
        if name not in known:
            there = f"; there are: {', '.join(sorted(known)) or 'none'}"
            raise UserError(f"--yes {name}: there is no such tool{did_you_mean(name, sorted(known), otherwise=there)}")
    return frozenset(tool.name for tool in tools if tool.name in names or tool.group in names)


class AtTerminal:
    """Fulfils `thinksmith.agent.contract.Approve`.

    `yes` are the names of tools that need not be asked about. Without a terminal (`asks` False) all others are refused,
    with a line that says what would allow them. `aside` is entered while somebody is asked, so that nothing else is
    drawn; `typed` gives the line that is typed.
    """

    def __init__(
        self,
        screen: Console,
        yes: frozenset[str] = frozenset(),
        *,
        asks: bool | None = None,
        aside: Callable[[], AbstractContextManager[object]] = nullcontext,
        typed: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self._screen, self._yes, self._aside = screen, yes, aside
        self._asks = sys.stdin.isatty() and sys.stdout.isatty() if asks is None else asks
        self._typed, self._drop = (typed, nothing) if typed else (typed_line, drop_typed)
        self._told: set[str] = set()

    async def __call__(self, tool: Tool, call: ToolCall, intent: Intent | None) -> Decision:
        if tool.name in self._yes:
            return "once"
        if not self._asks:
            self._refuse(tool)
            return "no"
        with self._aside():
            return await self._ask(tool, call, intent)

    def _refuse(self, tool: Tool) -> None:
        if tool.name not in self._told:
            self._told.add(tool.name)
            self._screen.print(
                f"{tool.name} is refused, since there is no terminal to ask at: --yes {tool.name} would allow it"
            )

    async def _ask(self, tool: Tool, call: ToolCall, intent: Intent | None) -> Decision:
        width = max(self._screen.width - 1, 40)
        while True:
            self._drop()
            *above, last = question(tool.name, _summary(call, intent), width)
            for line in above:
                self._screen.print(line, soft_wrap=False)
            self._screen.print(last, soft_wrap=False, end=" ")
            self._screen.file.flush()
            answer = await self._typed()
            if not answer.endswith("\n"):
                self._screen.print()  # the end of the input, or Ctrl-D: nothing ended the line
            word = answer.strip().casefold()
            if word in ("", "n", "no"):
                return "no"
            if word in ("y", "yes", "once"):
                return "once"
            if word in ("a", "always"):
                return "always"
            if word in ("d", "details"):
                for line in details(call, intent, width):
                    self._screen.print(line, soft_wrap=False)
            else:
                self._screen.print("write y, a, d or n", style="dim")


def question(tool: str, summary: str, width: int) -> list[Text]:
    """The question in one line where there is room, else in two: what is asked, and below it what can be answered."""
    from rich.cells import cell_len
    from rich.text import Text

    answers = Text("  ".join(f"[{key}] {name}" for key, name in _CHOICES), "bold cyan")
    whole, room = bare(summary), width - cell_len(tool) - 1
    if cell_len(whole) + 3 + answers.cell_len + 2 <= room:  # and what is typed
        return [Text.assemble((tool, "bold yellow"), " ", whole, "   ") + answers]
    return [Text.assemble((tool, "bold yellow"), " ", fitting(whole, room)), Text("  ") + answers]


def details(call: ToolCall, intent: Intent | None, width: int) -> list[Text]:
    """All of what is asked about, behind a bar: every line is folded here, since a terminal would fold it to where
    lines of ours begin."""
    from rich.cells import chop_cells
    from rich.text import Text

    whole = intent.details if intent and intent.details else _arguments(call)
    texts = [*([one_line(intent.summary)] if intent else []), *clean(whole).expandtabs(4).split("\n")]
    lines = [piece for text in texts for piece in (chop_cells(_shown(text), width - len(_BAR)) or [""])]
    left = len(lines) - _MOST_LINES
    shown = [*lines[:_MOST_LINES], *([f"({left:,} more lines are not shown)"] if left > 0 else [])]
    return [Text.assemble((_BAR, "dim"), (line, _diff_style(line))) for line in shown]


def bare(text: str) -> str:
    """Text of somebody else's as one line in which nothing moves, turns or hides: what would is written as \\u202e."""
    return _shown(one_line(text))


def still(text: str) -> str:
    """Somebody else's text, lines and all, in which nothing moves the cursor or turns the direction of writing."""
    return _TURNING.sub(lambda found: f"\\u{ord(found[0]):04x}", clean(text))


def fitting(text: str, width: int) -> str:
    """The text, without its middle where it has more than `width` cells: what a call does often stands at its end."""
    from rich.cells import cell_len, chop_cells

    if cell_len(text) <= width:
        return text
    if width < 8:
        return chop_cells(text, max(width - 1, 1))[0] + "…"
    head = chop_cells(text, width * 2 // 3)[0]
    tail = ""
    for sign in reversed(text):
        if cell_len(head) + cell_len(sign + tail) + 1 > width:
            break
        tail = sign + tail
    return f"{head}…{tail}"


async def typed_line(file: int | None = None) -> str:
    """The next line that is typed, with its end; "" at the end of the input.

    No thread waits for it: one could not be stopped, and would take the line that answers the next question.
    """
    file = sys.stdin.fileno() if file is None else file
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(file, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(file)
    try:
        return os.read(file, 4096).decode(errors="replace")
    except OSError:  # the terminal is gone
        return ""


def drop_typed() -> None:
    """Forget what was typed before there was a question."""
    with suppress(termios.error, OSError, ValueError):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def nothing() -> None:
    """Nothing is to be forgotten."""


def _summary(call: ToolCall, intent: Intent | None) -> str:
    return intent.summary if intent else _arguments(call)


def _arguments(call: ToolCall) -> str:
    return json.dumps(call["arguments"], ensure_ascii=False, default=str, indent=1)


def _shown(text: str) -> str:
    """One line's text; a space of another width is a space."""
    shown: list[str] = []
    marks = 0
    for sign in text:
        kind = unicodedata.category(sign)
        marks = marks + 1 if kind[0] == "M" else 0
        if kind in _HIDDEN or marks > _MOST_MARKS or (kind[0] == "L" and _is_blank(sign)):
            shown.append(f"\\u{ord(sign):04x}")
        else:
            shown.append(" " if kind == "Zs" else sign)
    return "".join(shown)


def _is_blank(sign: str) -> bool:
    """Letters that are drawn as nothing: Hangul's fillers."""
    return sign in "\u115f\u1160\u3164\uffa0"


def _diff_style(line: str) -> str:
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
