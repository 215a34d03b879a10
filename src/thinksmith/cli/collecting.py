"""What is seen of a collection while it runs: a table of the teachers on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from thinksmith.cli.screen import console, one_line
from thinksmith.distill.collect.ledger import Account, short

if TYPE_CHECKING:
    from thinksmith.distill.collect.agenda import Agenda
    from thinksmith.distill.collect.ledger import Ledger
    from thinksmith.distill.collect.teachers import Teacher
    from thinksmith.records import Attempt

_EVERY_S = 60.0  # between the lines where there is no terminal


class Live:
    """A `distill.collect.work.Watcher`. `kept`: attempts that are in the store."""

    def __init__(self, problems: int) -> None:
        self._problems = problems
        self._ledger: Ledger | None = None
        self._teachers: Sequence[Teacher] = ()
        self._agenda: Agenda | None = None
        self._tokens_before = 0
        self._began = self._told = time.monotonic()
        self._out = console(stderr=True)
        self._live: RichLive | None = None

    @property
    def kept(self) -> int:
        return self._ledger.attempts if self._ledger else 0

    def __enter__(self) -> Live:
        if self._out.is_terminal:
            self._live = RichLive(console=self._out, get_renderable=self._picture, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def begin(self, ledger: Ledger, teachers: Sequence[Teacher], agenda: Agenda) -> None:
        self._ledger, self._teachers, self._agenda = ledger, teachers, agenda
        self._tokens_before = ledger.tokens
        self._began = self._told = time.monotonic()
        if ledger.attempts and not agenda.done:
            self.note(f"going on with {ledger.attempts:,} attempts that are kept")

    def attempt(self, attempt: Attempt) -> None:
        if not self._live and time.monotonic() - self._told >= _EVERY_S:
            self._told = time.monotonic()
            self._out.print(f"{self._place()}, {self._speed()}")

    def note(self, text: str) -> None:
        self._out.print(one_line(text))

    def _place(self) -> str:
        """How far it is: of a known number of attempts, else of the problems."""
        assert self._ledger is not None
        assert self._agenda is not None
        goal, kept = self._agenda.goal, self._ledger.attempts
        if not goal.judges:
            return f"{kept:,} of {self._problems * goal.k:,} attempts, {self._ledger.correct:,} correct"
        reached = f"{self._agenda.reached:,} of {self._problems:,} problems done"
        return f"{reached}, {kept:,} attempts, {self._ledger.correct:,} correct"

    def _speed(self) -> str:
        assert self._ledger is not None
        tokens, cost = self._ledger.tokens, self._ledger.cost
        speed = (tokens - self._tokens_before) / max(time.monotonic() - self._began, 1e-9)
        return f"{short(tokens)} tokens, {speed:,.0f}/s" + (f", ${cost:,.2f}" if cost else "")

    def _picture(self) -> Any:
        if self._ledger is None or self._agenda is None:
            return Text("")
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
        for name in ("teacher", "under way", "attempts", "correct", "tokens", "failed", ""):
            table.add_column(name, justify="left" if name in ("teacher", "") else "right")
        for teacher in self._teachers:
            account = self._ledger.accounts.get(teacher.name, Account())
            state = "asked no more" if teacher.out else "set aside" if teacher.aside else ""
            counts = (teacher.running, account.attempts, account.correct)
            cells = [*(f"{count:,}" for count in counts), short(account.tokens), f"{teacher.failed:,}"]
            table.add_row(one_line(teacher.name), *cells, Text(state, "yellow"))
        goal = self._agenda.goal
        done, of = (
            (self._agenda.reached, self._problems) if goal.judges else (self._ledger.attempts, self._problems * goal.k)
        )
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row(ProgressBar(of, min(done, of), width=40), self._place(), self._speed())
        whole = Table.grid()
        whole.add_row(table)
        whole.add_row(grid)
        return whole
