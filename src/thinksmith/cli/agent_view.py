"""An agent at work, as the terminal shows it: the plan with its ticks, what it thinks folded into a line, each call and
what it gave in a line each. Elsewhere than on a terminal a line an event, and nothing that moves the cursor.

What a model or a tool wrote is shown as text and nothing else: `bare` and `still` of `approving.py` see to that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.cells import chop_cells
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from thinksmith.cli.approving import bare, still

if TYPE_CHECKING:
    from thinksmith.agent.contract import Observation, Part, Plan, Step, Tool
    from thinksmith.agent.outcome import Trajectory
    from thinksmith.engines.contract import Delta
    from thinksmith.records import ToolCall, Trace

_WIDEST = 200  # columns of a line where there is no terminal
_OVER = "  "
_BEGINS: dict[Part, str] = {
    "reflect": "↻ looks back: {why}",
    "summary": "⇲ sums up: {why}",
    "answer": "■ has to end: {why}",
}
_WORDS: dict[Part, str] = {"plan": "plans", "reflect": "looks back", "summary": "sums up", "answer": "answers"}


class AgentView:
    """Fulfils `thinksmith.agent.contract.Watcher`; use it in a `with`.

    `done`: so many steps were made by an earlier process, and `known` are the ids of the calls of which that one knew
    the result: they are not shown again.
    """

    def __init__(
        self, screen: Console, *, show_thinking: bool = False, done: int = 0, known: Collection[str] = ()
    ) -> None:
        self._screen, self._show_thinking, self._done, self._known = screen, show_thinking, done, frozenset(known)
        self._plan: Plan = ()
        self._number, self._part, self._began = 0, "act", 0.0
        self._thinking = self._answer = ""
        self._line = ""  # of the thinking, not yet at its end
        self._calling = ""
        self._live: Live | None = None
        self.steps = done
        """Steps that are over."""

    def __enter__(self) -> AgentView:
        if self._done:
            are = "is" if self._done == 1 else "are"
            self._event(Text(f"{counted(self._done, 'step')} {are} done: going on", "dim"))
        self._resume()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pause()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Nothing moves while somebody is asked."""
        self._pause()
        try:
            yield
        finally:
            self._resume()

    # --- what is heard

    def begins(self, number: int, part: Part, why: str) -> None:
        self._number, self._part, self._began = number, part, time.monotonic()
        self._thinking = self._answer = self._line = self._calling = ""
        if part in _BEGINS and number >= self._done:
            self._event(Text(_BEGINS[part].format(why=bare(why)), "yellow" if part == "reflect" else "dim"))

    def delta(self, delta: Delta) -> None:
        if delta.part == "thinking":
            self._thinking += delta.text
            self._tell_thinking(delta.text)
        elif delta.part == "answer":
            self._answer += delta.text
        elif delta.part == "reset":
            self._thinking = self._answer = self._line = ""
            self._event(Text("the connection broke: it begins this step again", "yellow"))
        elif delta.trace is not None:
            self._thought(delta.trace)

    def planned(self, plan: Plan) -> None:
        before, self._plan = self._plan, plan
        if self._number < self._done or plan == before:
            return
        if [line.text for line in plan] == [line.text for line in before]:
            for line, old in zip(plan, before, strict=True):
                if line.done and not old.done:
                    self._event(Text(f"✓ {bare(line.text)}", "green"))
        elif self._screen.is_terminal:
            self._event(Text("plan" if not before else "plan, revised", "bold"))
            for line in plan:
                self._event(Text(_OVER) + _planned(line.text, done=line.done))
        else:
            lines = "; ".join(f"[{'x' if line.done else ' '}] {bare(line.text)}" for line in plan)
            self._event(Text(f"plan{', revised' if before else ''}: {lines}"), cut=False)

    def calling(self, tool: Tool, call: ToolCall) -> None:
        self._calling, self._began = tool.name, time.monotonic()
        self._event(Text.assemble(("→ ", "bold cyan"), (tool.name, "bold"), f" {bare(told(call))}".rstrip()))

    def observed(self, observation: Observation) -> None:
        called, self._calling = self._calling, ""
        if observation.call.get("id") in self._known:
            return
        name = bare(observation.call["name"])
        if observation.refused:
            self._event(Text(f"✗ {name} was not allowed", "yellow"))
        elif not observation.ok:
            said = inside(observation.text).removeprefix("That did not work: ")
            named = called or said.startswith(f"{name}:")
            self._event(
                Text((_OVER if called else "") + "✗ " + ("" if named else f"{name} "), "red") + Text(bare(said), "red")
            )
        else:
            self._event(Text.assemble((f"{_OVER}← {size(observation)}", "green"), (f"  {_first(observation)}", "dim")))

    def ended(self, step: Step) -> None:
        self.steps = max(self.steps, step.number + 1)

    # --- what is shown

    def _event(self, line: Text, *, cut: bool = True) -> None:
        if cut:
            line = line.copy()
            line.truncate(min(self._screen.width, _WIDEST), overflow="ellipsis")
        self._screen.print(line)

    def _tell_thinking(self, text: str) -> None:
        """With --show-thinking: its lines as they come, behind a bar."""
        if not self._show_thinking:
            return
        *whole, self._line = (self._line + text).split("\n")
        for line in whole:
            self._tell_line(line)

    def _tell_line(self, line: str) -> None:
        width = min(self._screen.width, _WIDEST) - 3
        for piece in chop_cells(still(line).expandtabs(4), width) or [""]:
            self._screen.print(Text(f"│ {piece}", "dim"))

    def _thought(self, trace: Trace) -> None:
        if self._show_thinking and self._line.strip():
            self._tell_line(self._line)
        self._line = ""
        verb = "thought" if trace.thinking.strip() else "wrote"
        seconds = time.monotonic() - self._began
        cut = ", cut off" if trace.finish in ("length", "budget") or trace.thinking_status == "truncated" else ""
        self._event(Text(f"▸ {self._number}  {verb} for {seconds:.1f} s, {trace.tokens:,} tokens{cut}", "dim"))
        self._thinking = self._answer = ""

    def _pause(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _resume(self) -> None:
        if self._screen.is_terminal and self._live is None:
            self._live = Live(console=self._screen, get_renderable=self._picture, refresh_per_second=8, transient=True)
            self._live.start()

    def _picture(self) -> Any:
        """What stands below the lines while it works: the plan, and what it does just now."""
        width = max(self._screen.width - 1, 20)
        lines = [_planned(line.text, done=line.done) for line in self._plan][: max(self._screen.height - 4, 0)]
        for line in (*lines, now := self._now(width)):
            line.truncate(width, overflow="ellipsis")
        return Group(Text("─" * min(width, 40), "dim"), *lines, now)

    def _now(self, width: int) -> Text:
        seconds = f"{time.monotonic() - self._began:.0f} s" if self._began else ""
        if self._calling:
            return Text(f"… {self._calling} {seconds}", "cyan")
        if self._answer:
            return Text(f"▸ {self._number}  writes, {len(self._answer):,} characters, {seconds}", "dim")
        doing = _WORDS.get(self._part, "thinks")  # type: ignore[call-overload]
        head = f"▸ {self._number}  {doing}, {len(self._thinking):,} characters, {seconds}  "
        latest = bare(self._thinking[-2 * width :])
        return Text(head + latest[max(len(latest) + len(head) - width, 0) :], "dim")


def told(call: ToolCall) -> str:
    """A call's arguments in a line: the first text as it is, the others with their names."""
    parts: list[str] = []
    for name, value in call["arguments"].items():
        if not parts and isinstance(value, str):
            parts.append(value)
        else:
            parts.append(f"{name}={json.dumps(value, ensure_ascii=False, default=str)}")
    return " ".join(parts)


def inside(text: str) -> str:
    """What a tool gave, without the marks around it."""
    lines = text.split("\n")
    return "\n".join(lines[1:-1]) if len(lines) > 2 and lines[0].startswith("[data from ") else text


def size(observation: Observation) -> str:
    """Such as "12 lines, 340 characters, 0.01 s"."""
    lines = inside(observation.text).count("\n") + 1
    cut = " shown" if observation.handle else ""
    return f"{counted(lines, 'line')}{cut}, {observation.raw:,} characters, {observation.seconds:.2f} s"


def counted(number: int, name: str) -> str:
    """Such as "1 step", "2 steps"."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def _first(observation: Observation) -> str:
    return bare(inside(observation.text).strip().split("\n", 1)[0][:400])


def _planned(text: str, *, done: bool) -> Text:
    return Text.assemble(("✓ ", "green"), (bare(text), "dim")) if done else Text(f"☐ {bare(text)}")


def print_end(screen: Console, trajectory: Trajectory, run_id: str, *, notes: Sequence[str] = ()) -> None:
    """The answer, why it ended, what was used, every effect, and how to go on from here."""
    screen.print()
    screen.print(still(trajectory.answer).strip() or "(no answer)")
    screen.print()
    effects = trajectory.effects
    rows = [
        ("ended", Text(bare(trajectory.why), "" if trajectory.answered else "yellow")),
        ("spent", Text(spent(trajectory))),
        ("effects", Text(f"{len(effects)}" if effects else "none")),
    ]
    rows += [("", Text(f"{at}  {bare(effect)}")) for at, effect in enumerate(effects, 1)]
    if effects:
        rows.append(("undo", Text(f"thinksmith agent --undo {run_id}")))
    rows.append(("run", Text(f"{run_id} (thinksmith traces {run_id})")))
    for name, text in rows:
        screen.print(Text.assemble((f"{name:<9} ", "bold"), text))
    for note in notes:
        screen.print(Text(f"{'note':<9} ", "bold") + Text(note))


def spent(trajectory: Trajectory) -> str:
    """Such as "6 steps, 4 calls, 1,234 tokens, 12.3 s, $0.012"."""
    parts = [counted(len(trajectory.steps), "step"), counted(len(trajectory.observations), "call")]
    parts += [f"{trajectory.tokens:,} tokens", f"{trajectory.seconds:.1f} s"]
    if trajectory.cost:
        parts.append(f"${trajectory.cost:,.4g}")
    return ", ".join(parts)
