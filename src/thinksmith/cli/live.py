"""What a training run looks like while it goes: a live panel on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from thinksmith.evaluate.summary import Summary
    from thinksmith.records import Attempt
    from thinksmith.training.alarms import Alarm
    from thinksmith.training.rl.run import Stage

_BLOCKS = "▁▂▃▄▅▆▇█"
_LINE_EVERY_S = 5.0
_WIDTH = 40
# Metric, its name for people, how it is written, and the range of its sparkline (None: the range seen so far).
_Rows = tuple[tuple[str, str, str, float | None], ...]


@dataclass(frozen=True, slots=True)
class Look:
    """What is shown of a trainer's runs: `line` of a step where there is no terminal, `panel` where there is one."""

    titles: Mapping[str, str]
    line: _Rows
    panel: _Rows


_LINE: _Rows = (
    ("reward", "reward", "{:.2f}", 1.0),
    ("accuracy", "accuracy", "{:.0%}", 1.0),
    ("thinking_tokens", "thinking tokens", "{:.0f}", None),
    ("check_or_backtrack_share", "check or backtrack", "{:.0%}", 1.0),
    ("rollout_tokens_per_s", "rollout tokens/s", "{:,.0f}", None),
    ("train_tokens_per_s", "training tokens/s", "{:,.0f}", None),
)
# Of runs with tools alone.
_CALLS: _Rows = (
    ("call_share_needed", "calls where needed", "{:.0%}", 1.0),
    ("call_share_needless", "where not", "{:.0%}", 1.0),
)
GRPO = Look(
    {
        "before": "1  Measuring the model on held-out problems",
        "warmup": "   Warming it up: it learns how tools are called, and not when",
        "warmed": "   Measuring what it knows now",
        "training": "2  Training it with GRPO on verifiable rewards",
        "after": "3  Measuring again on the same problems",
    },
    (*_LINE[:2], *_CALLS, *_LINE[2:]),
    (
        *_LINE[:2],
        *_CALLS,
        ("held_out_accuracy", "held-out accuracy", "{:.0%}", 1.0),
        *_LINE[2:4],
        ("truncated_share", "cut off", "{:.0%}", 1.0),
        ("frac_reward_zero_std", "dead groups", "{:.0%}", 1.0),
        ("entropy", "entropy", "{:.3f}", None),
        ("kl", "KL to the reference", "{:.4f}", None),
        ("grad_norm", "gradient norm", "{:.3g}", None),
        *_LINE[4:],
    ),
)
_SPEED: _Rows = (("train_tokens_per_s", "training tokens/s", "{:,.0f}", None),)
_LOSS: _Rows = (("epoch", "epoch", "{:.2f}", None), ("loss", "loss", "{:.4f}", None))
_HELD_OUT: _Rows = (
    ("held_out_loss", "held-out loss", "{:.4f}", None),
    ("held_out_accuracy", "held-out accuracy", "{:.0%}", 1.0),
)
_NORM: _Rows = (("lr", "learning rate", "{:.2g}", None), ("grad_norm", "gradient norm", "{:.3g}", None))
SFT = Look(
    {"training": "Training it on traces"},
    (*_LOSS, *_SPEED),
    (*_LOSS, *_HELD_OUT, ("held_out_token_accuracy", "held-out tokens", "{:.1%}", 1.0), *_NORM, *_SPEED),
)
_PAIRS: _Rows = (("margin", "margin", "{:.3f}", None), ("pair_accuracy", "pairs told apart", "{:.0%}", 1.0))
DPO = Look(
    {"training": "Training it on pairs of right and wrong traces"},
    (*_LOSS, *_PAIRS, *_SPEED),
    (
        *_LOSS,
        *_PAIRS,
        ("reward_right", "reward of right ones", "{:.3f}", None),
        ("reward_wrong", "reward of wrong ones", "{:.3f}", None),
        *_HELD_OUT,
        ("held_out_pair_accuracy", "held-out pairs", "{:.0%}", 1.0),
        *_NORM,
        *_SPEED,
    ),
)
_PHASES = {"rollout": "█", "verify": "▓", "train": "▒", "save": "░", "evaluate": "▚", "other": "·"}
_PHASE_STYLES = {"rollout": "cyan", "verify": "magenta", "train": "green", "save": "yellow", "evaluate": "blue"}
_ALARMS_SHOWN = 4
_PACE_OVER = 20  # steps by whose pace the time left is told


class Screen:
    """Draws the stages of a run; a `training.rl.run.Watcher`, and a `distill.learn.Watcher`."""

    def __init__(self, console: Console, look: Look = GRPO) -> None:
        self.console, self.look = console, look
        self.history: list[dict[str, float]] = []
        self.alarms: list[Alarm] = []
        self._stage: Stage = "before"
        self._total = self._done = self._correct = self._cut = self._unanswered = 0
        self._began = self._told = self._loss = 0.0
        self._ends: deque[float] = deque(maxlen=_PACE_OVER + 1)  # when the last steps ended
        self._live: Live | None = None

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def note(self, text: str) -> None:
        """Something to know before it begins."""
        self.console.print(Text(f"   {text}", "dim"))

    def training(self, steps: int) -> None:
        self.stage("training", steps)

    def stage(self, stage: Stage, total: int) -> None:
        self._stop()
        self._stage, self._total, self._began = stage, total, time.monotonic()
        self._done = self._correct = self._cut = self._unanswered = 0
        self._told = self._began
        self._ends.clear()
        self._ends.append(self._began)
        self.console.print(Text(f"\n{self.look.titles[stage]}", "bold"))
        if self.console.is_terminal:
            self._live = Live(self._picture(), console=self.console, refresh_per_second=8, transient=False)
            self._live.start()

    def attempt(self, attempt: Attempt) -> None:
        self._done += 1
        self._correct += attempt.verdict.correct
        self._cut += attempt.verdict.status == "truncated"
        self._unanswered += attempt.verdict.status == "no_answer"
        self._show(self._progress_text())

    def warming(self, step: int, loss: float) -> None:
        self._done, self._loss = step, loss
        self._show(self._progress_text())

    def step(self, metrics: dict[str, float]) -> None:
        self._done = int(metrics["step"])
        self.history.append(metrics)
        self._ends.append(time.monotonic())
        parts = [f"{name} {form.format(metrics[key])}" for key, name, form, _ in self.look.line if key in metrics]
        self._show(f"   step {self._done}/{self._total}  " + "  ".join(parts))
        if not self._live and "held_out_accuracy" in metrics:
            self.console.print(
                f"   held-out accuracy {metrics['held_out_accuracy']:.1%} {_interval(metrics)} after step {self._done}"
            )
        if not self._live and "held_out_loss" in metrics:
            self.console.print(f"   held-out loss {metrics['held_out_loss']:.4f} after step {self._done}")

    def alarm(self, alarm: Alarm) -> None:
        """Shown under the panel as long as it is among the last; a line of its own where there is no terminal."""
        self.alarms.append(alarm)
        if self._live:
            self._live.update(self._picture())
        else:
            self.console.print(Text("   ") + _alarm_text(alarm))

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
        if self._stage == "warmup":
            return f"   step {self._done}/{self._total}  loss {self._loss:.3f}"
        accuracy = f"{self._correct / self._done:.1%}" if self._done else "–"
        return (
            f"   {self._done}/{self._total}  accuracy so far {accuracy}  "
            f"truncated {self._cut}  no answer {self._unanswered}"
        )

    def _picture(self) -> Any:
        seconds = time.monotonic() - self._began
        filled = min(_WIDTH, _WIDTH * self._done // max(self._total, 1))
        bar = Text.assemble("   ", ("━" * filled, "green"), ("━" * (_WIDTH - filled), "dim"), f"  {seconds:.0f} s")
        if self._stage != "training":
            return Group(bar, Text(self._progress_text()))
        parts: list[Any] = [bar, Text(f"   {self._place()}", "dim"), self._table()]
        if phases := phase_shares(self.history):
            parts.append(phase_bar(phases))
        parts += [Padding(_alarm_text(alarm), (0, 0, 0, 3)) for alarm in self.alarms[-_ALARMS_SHOWN:]]
        return Group(*parts)

    def _place(self) -> str:
        """Where the run is: its step, the time left at the pace of the last steps, the memory that it took."""
        parts = [f"step {self._done} of {self._total}"]
        if self._done < self._total and len(self._ends) > 1:
            pace = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
            parts.append(f"about {duration(pace * (self._total - self._done))} left")
        if memory := _values(self.history, "memory_gb"):
            parts.append(f"memory {memory[-1]:.1f} GB")
        return "   ".join(parts)

    def _table(self) -> Table:
        """A row for each number that the run has; before the first step those that every run has."""
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for key, name, form, top in self.look.panel:
            values = _values(self.history, key)
            row = (key, name, form, top)
            if not values and (self.history or row not in self.look.line or row in _CALLS):
                continue
            line = Text(sparkline([value for value in values if math.isfinite(value)], top), "cyan")
            if key == "held_out_accuracy":
                line.append("  " + _interval([row for row in self.history if key in row][-1]), "default")
            last = form.format(values[-1]) if values else "–"
            table.add_row("  " + name, Text(last, "bold", justify="right"), line)
        return table

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
    # Shares are cut to 0..1 before they are whole numbers: what is far beyond is infinite, or no number.
    shares = (min(max((value - low) / span, 0.0), 1.0) for value in shown)
    return "".join(_BLOCKS[int(share * (len(_BLOCKS) - 1) + 0.5)] for share in shares if share == share)


def _values(history: list[dict[str, float]], key: str) -> list[float]:
    return [row[key] for row in history if key in row]


def _interval(row: dict[str, float]) -> str:
    """What stands beside a held-out accuracy, which is never told alone: its interval and on how many problems."""
    low, high, problems = (row.get(f"held_out_{name}", math.nan) for name in ("low", "high", "n"))
    return f"[{low:.1%}, {high:.1%}] (95 %, {problems:.0f} problems)"


def _alarm_text(alarm: Alarm) -> Text:
    return Text(f"{'stopped' if alarm.stop else 'warning'}: {alarm.text}", "bold red" if alarm.stop else "yellow")


def duration(seconds: float) -> str:
    """Roughly, for people: "89 s", "12 min", "1 h 30 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def phase_shares(history: list[dict[str, float]]) -> dict[str, float]:
    """The share of each phase in the time of all steps so far; {} where no time is known."""
    spent = {name: max(sum(_values(history, f"{name}_seconds")), 0.0) for name in _PHASES if name != "other"}
    spent["other"] = max(sum(_values(history, "seconds")) - sum(spent.values()), 0.0)
    whole = sum(spent.values())
    if not 0 < whole < math.inf:
        return {}
    return {name: seconds / whole for name, seconds in spent.items()}


def phase_bar(shares: dict[str, float]) -> Text:
    """One bar of `_WIDTH` cells, and below it what each sign stands for; phases below half a percent are not named."""
    bar, legend = Text("   "), Text("   ")
    reached = 0.0
    for name, share in shares.items():
        cells = round(_WIDTH * (reached + share)) - round(_WIDTH * reached)
        reached += share
        bar.append(_PHASES[name] * cells, _PHASE_STYLES.get(name, "dim"))
        if share >= 0.005:
            legend.append(_PHASES[name], _PHASE_STYLES.get(name, "dim")).append(f" {name} {share:.0%}  ", "dim")
    return Text("\n").join([bar, legend])
