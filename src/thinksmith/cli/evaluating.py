"""What is seen of an evaluation while it runs: a table on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

import numpy as np
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from thinksmith.cli.screen import console, one_line, status
from thinksmith.evaluate.statistics.stats import share
from thinksmith.records import Attempt
from thinksmith.store.store import Store

_EVERY_S = 60.0  # between the lines where there is no terminal
_COLUMNS = ("correct", "wrong", "truncated", "no_answer", "timeout", "error")


class Live:
    """The attempts so far. Elsewhere than on a terminal: the news that an interrupted run goes on, and a line a
    minute."""

    def __init__(self, store: Store, total: int, sampled_by: str) -> None:
        self.total, self.done = total, 0
        self._store, self._newest = store, store.runs(limit=1)
        self._sampled_by = sampled_by
        self._counts = dict.fromkeys(_COLUMNS, 0)
        self._scores: dict[str, list[float]] = {}
        self._tokens = self._made = 0
        self._began = self._told = time.monotonic()
        self._out = console(stderr=True)
        self._live: RichLive | None = None

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

    def attempt(self, attempt: Attempt) -> None:
        if not self.done and [run.id for run in self._newest] == [run.id for run in self._store.runs(limit=1)]:
            self._out.print("going on with an interrupted run")  # for no run was started
        self.done += 1
        name = attempt.verdict.status
        self._counts[name] = self._counts.get(name, 0) + 1
        sums = self._scores.setdefault(attempt.problem.id, [0.0, 0])
        sums[0] += attempt.verdict.score
        sums[1] += 1
        self._tokens += int(attempt.notes.get("spent", attempt.trace.tokens))
        if not self._live and time.monotonic() - self._told >= _EVERY_S:
            self._told = time.monotonic()
            self._out.print(f"{self.done:,} of {self.total:,}: {self._accuracy()}, {self._speed()}")

    def _accuracy(self) -> str:
        if not self._scores:
            return "–"
        sums = np.array(list(self._scores.values()))
        found = share(np.clip(sums[:, 0] / sums[:, 1], 0, 1), int(sums[:, 1].sum()))
        return f"{found.mean:.1%} [{found.low:.1%}, {found.high:.1%}]"

    def _speed(self) -> str:
        seconds = time.monotonic() - self._began
        left = _time(seconds / self.done * (self.total - self.done)) if self.done else "–"
        return f"{self._tokens / max(seconds, 1e-9):,.0f} tokens/s, {left} left"

    def _picture(self) -> Any:
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
        shown = [name for name in self._counts if self._counts[name] or name in _COLUMNS[:4]]
        for name in ("accuracy so far", *(name.replace("_", " ") for name in shown)):
            table.add_column(name)
        table.add_row(
            Text(self._accuracy(), "bold"),
            *(Text(f"{self._counts[name]:,}", status(name).style) for name in shown),
        )
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row(ProgressBar(self.total, self.done, width=40), f"{self.done:,}/{self.total:,}", self._speed())
        whole = Table.grid()
        whole.add_row(Text(f"sampling: {one_line(self._sampled_by)}", "dim"))
        whole.add_row(table)
        whole.add_row(grid)
        return whole


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
