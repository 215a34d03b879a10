"""What a training run looks like while it goes: a live panel on a terminal, a line every few steps elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from thinksmith.evaluate.summary import Summary
    from thinksmith.records import Attempt
    from thinksmith.training.rl.run import Stage

_BLOCKS = "▁▂▃▄▅▆▇█"
_LINE_EVERY_S = 5.0
_WIDTH = 40
_TITLES = {
    "before": "1  Measuring the model on held-out problems",
    "training": "2  Training it with GRPO on verifiable rewards",
    "after": "3  Measuring again on the same problems",
}
# Metric, its name for people, how it is written, and the range of its sparkline (None: the range seen so far).
_ROWS: tuple[tuple[str, str, str, float | None], ...] = (
    ("reward", "reward", "{:.2f}", 1.0),
    ("accuracy", "accuracy", "{:.0%}", 1.0),
    ("thinking_tokens", "thinking tokens", "{:.0f}", None),
    ("check_or_backtrack_share", "check or backtrack", "{:.0%}", 1.0),
    ("rollout_tokens_per_s", "rollout tokens/s", "{:,.0f}", None),
    ("train_tokens_per_s", "training tokens/s", "{:,.0f}", None),
)


class Screen:
    """Draws the stages of a run; a `training.rl.run.Watcher`."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.history: list[dict[str, float]] = []
        self._stage: Stage = "before"
        self._total = self._done = self._correct = self._cut = self._unanswered = 0
        self._began = self._told = 0.0
        self._live: Live | None = None

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def stage(self, stage: Stage, total: int) -> None:
        self._stop()
        self._stage, self._total, self._began = stage, total, time.monotonic()
        self._done = self._correct = self._cut = self._unanswered = 0
        self._told = self._began
        self.console.print(Text(f"\n{_TITLES[stage]}", "bold"))
        if self.console.is_terminal:
            self._live = Live(self._picture(), console=self.console, refresh_per_second=8, transient=False)
            self._live.start()

    def attempt(self, attempt: Attempt) -> None:
        self._done += 1
        self._correct += attempt.verdict.correct
        self._cut += attempt.verdict.status == "truncated"
        self._unanswered += attempt.verdict.status == "no_answer"
        self._show(self._progress_text())

    def step(self, metrics: dict[str, float]) -> None:
        self._done = int(metrics["step"])
        self.history.append(metrics)
        parts = [f"{name} {form.format(metrics[key])}" for key, name, form, _ in _ROWS]
        self._show(f"   step {self._done}/{self._total}  " + "  ".join(parts))

    def summary(self, summary: Summary) -> None:
        self._stop()
        self.console.print(f"   accuracy {summary.line}")

    def _show(self, line: str) -> None:
        if self._live:
            self._live.update(self._picture())
        elif time.monotonic() - self._told >= _LINE_EVERY_S or self._done == self._total:
            self._told = time.monotonic()
            self.console.print(line)

    def _progress_text(self) -> str:
        accuracy = f"{self._correct / self._done:.1%}" if self._done else "–"
        return (
            f"   {self._done}/{self._total}  accuracy so far {accuracy}  "
            f"truncated {self._cut}  no answer {self._unanswered}"
        )

    def _picture(self) -> Any:
        seconds = time.monotonic() - self._began
        filled = _WIDTH * self._done // max(self._total, 1)
        bar = Text.assemble("   ", ("━" * filled, "green"), ("━" * (_WIDTH - filled), "dim"), f"  {seconds:.0f} s")
        if self._stage != "training":
            return Group(bar, Text(self._progress_text()))
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for key, name, form, top in _ROWS:
            values = [row[key] for row in self.history]
            last = form.format(values[-1]) if values else "–"
            table.add_row("  " + name, Text(last, "bold", justify="right"), Text(sparkline(values, top), "cyan"))
        return Group(bar, Text(f"   step {self._done} of {self._total}", "dim"), table)

    def _stop(self) -> None:
        if self._live:
            self._live.update(self._picture())
            self._live.stop()
            self._live = None


def sparkline(values: list[float], top: float | None, width: int = _WIDTH) -> str:
    """The last `width` values as blocks, from 0 to `top`; without a top, from the lowest to the highest shown."""
    shown = values[-width:]
    if not shown:
        return ""
    low, high = (0.0, top) if top is not None else (min(shown), max(shown))
    span = (high - low) or 1.0
    scaled = (int((value - low) / span * (len(_BLOCKS) - 1) + 0.5) for value in shown)
    return "".join(_BLOCKS[min(max(index, 0), len(_BLOCKS) - 1)] for index in scaled)
