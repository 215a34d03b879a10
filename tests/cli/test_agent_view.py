"""What is seen of an agent at work: every event, folded; and nothing that a model or a tool wrote moves the cursor."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from thinksmith.agent.contract import Observation, PlanLine, Result, Step
from thinksmith.agent.loop import Manner, work
from thinksmith.agent.meter import Limits
from thinksmith.agent.outcome import Trajectory
from thinksmith.cli.agent_view import AgentView, inside, print_end, size, told
from thinksmith.engines.contract import Delta
from thinksmith.records import Problem, Sampling, ToolCall, Trace

sys.path.append(str(Path(__file__).parents[1] / "agent"))
from agent_scripts import Scripted, calls, no, tool, yes

HOSTILE = "x\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\r\nfiles_write a.md   [y] once"
ESCAPES = re.compile(r"\x1b(?!\[[0-9;]*[mKAGH]|\[\?25[lh])|[\x07\x9b\u202e]")  # what rich never writes of itself


def run(view: AgentView, *replies: str, approve: Any = yes, **more: Any) -> Trajectory:
    tools = [
        tool("look", lambda **_: "name,revenue\nA,3\nB,4\n"),
        tool("write", lambda **_: "done", "write"),
        tool("trap", lambda **_: HOSTILE),
        tool("fail", lambda **_: Result(f"no such table: {HOSTILE}", ok=False)),
    ]
    problem = Problem("agent/1", "Do it", kind="task")
    with view:
        return asyncio.run(
            work(
                problem,
                Scripted(*replies),
                tools=tools,
                sampling=Sampling(),
                approve=approve,
                watcher=view,
                limits=Limits(12),
                **more,
            )
        )


def plain(*replies: str, show_thinking: bool = False, **more: Any) -> tuple[list[str], Trajectory]:
    out = io.StringIO()
    console = Console(file=out, width=100_000, markup=False, highlight=False, soft_wrap=True)
    trajectory = run(AgentView(console, show_thinking=show_thinking), *replies, **more)
    return [
        re.sub(r"\d+ tokens", "9 tokens", re.sub(r"\d+\.\d+ s", "1 s", line)) for line in out.getvalue().splitlines()
    ], trajectory


PLAN = "1. Look\n2. Write"
TICKED = "[x] Look\n[ ] Write\n" + calls("write", text="one\ntwo")


def test_a_line_an_event_where_there_is_no_terminal() -> None:
    lines, _ = plain(
        f"<think>\nhm\nso\n</think>\n\n{PLAN}", calls("look", "I look.", sql="SELECT *\nFROM t"), TICKED, "All."
    )
    assert lines == [
        "▸ 0  thought for 1 s, 9 tokens",
        "plan: [ ] Look; [ ] Write",
        "▸ 1  thought for 1 s, 9 tokens",
        "→ look SELECT * FROM t",
        "  ← 4 lines, 21 characters, 1 s  name,revenue",
        "▸ 2  wrote for 1 s, 9 tokens",
        "→ write one two",
        "  ← 1 line, 4 characters, 1 s  done",
        "✓ Look",
        "▸ 3  wrote for 1 s, 9 tokens",
    ]


def test_refusals_faults_and_looks_back_say_why() -> None:
    replies = [calls("write", text="a"), calls("nope"), "still right", calls("fail"), "The end."]
    lines, _ = plain(*replies, approve=no, manner=Manner(planning=False))
    text = "\n".join(lines)
    assert "✗ write was not allowed" in text
    assert "✗ nope there is no tool 'nope'; there are: look, write, trap, fail, read_more" in text
    assert "  ✗ no such table: x\ufffd]0;owned\ufffd" in text
    assert "↻ looks back: a call of nope did not work" in text


def test_a_plan_that_is_revised_is_told_again() -> None:
    revised = "[x] Look\n[ ] Write twice\n" + calls("look")
    lines, trajectory = plain(PLAN, revised, "All.")
    assert "plan, revised: [x] Look; [ ] Write twice" in lines
    assert trajectory.plan == (PlanLine("Look", True), PlanLine("Write twice"))


def test_thinking_is_shown_whole_where_that_is_wanted() -> None:
    lines, _ = plain(
        "<think>\nfirst line\nlast\x1b[2J\n</think>\n\nIt is 4.", show_thinking=True, manner=Manner(planning=False)
    )
    assert lines[:3] == ["│ first line", "│ last␛[2J", "▸ 0  thought for 1 s, 9 tokens"]


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_that_was_written_moves_the_cursor(terminal: bool) -> None:
    out = io.StringIO()
    screen = Console(
        file=out, width=80, height=24, force_terminal=terminal, markup=False, highlight=False, soft_wrap=True
    )
    hostile = f"<think>\n{HOSTILE}\n</think>\n\n"
    replies = [
        f"{hostile}1. {HOSTILE}\n2. Two\x1b[1A\u202e", f"{hostile}[x] Two\u202e\n{calls('trap', q=HOSTILE)}",
        calls("fail", **{"\x1b[1A": HOSTILE}), f"{hostile}[x] Three\x9b", f"{hostile}{HOSTILE}",
    ]  # fmt: skip
    trajectory = run(AgentView(screen, show_thinking=True), *replies)
    print_end(screen, trajectory, "agent-1")
    found = ESCAPES.search(out.getvalue())
    assert found is None, out.getvalue()[max(found.start() - 80, 0) : found.end() + 20]
    assert "evil" in out.getvalue()
    assert ("\x1b" in out.getvalue()) == terminal


def test_on_a_terminal_the_plan_stands_above_what_it_does() -> None:
    out = io.StringIO()
    screen = Console(file=out, width=60, height=24, force_terminal=True, markup=False, highlight=False, soft_wrap=True)
    view = AgentView(screen)
    view.planned((PlanLine("Look", True), PlanLine("Write " + "x" * 100)))
    view.begins(3, "act", "")
    view.delta(Delta("thinking", "so " * 100 + "at last"))
    lines = screen.render_lines(view._picture(), screen.options)
    shown = ["".join(segment.text for segment in line).rstrip() for line in lines]
    assert shown[1] == "✓ Look"
    assert shown[2].startswith("☐ Write xxx")
    assert shown[2].endswith("…")
    assert shown[3].startswith("▸ 3  thinks, 307 characters, 0 s  so so")
    assert shown[3].endswith("at last")
    assert all(len(line) < 60 for line in shown)
    view.delta(Delta("reset"))
    assert "begins this step again" in out.getvalue()
    assert "0 characters" in str(view._now(60))


def test_what_was_done_before_is_not_told_again() -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, markup=False, highlight=False)
    view = AgentView(console, done=1, known={"call_0_0"})
    call = ToolCall(name="look", arguments={}, id="call_0_0")
    with view:
        view.begins(0, "act", "")
        view.observed(Observation(call, "old"))
        view.planned((PlanLine("Old"),))
        view.observed(Observation(ToolCall(name="look", arguments={}, id="call_0_1"), "new", raw=3))
        view.ended(Step(0, "act", Trace("", "")))
    assert out.getvalue() == "1 step is done: going on\n  ← 1 line, 3 characters, 0.00 s  new\n"
    assert view.steps == 1


def test_the_end_lists_every_effect_and_the_way_back() -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, markup=False, highlight=False)
    call = ToolCall(name="write", arguments={})
    seen = tuple(Observation(call, "done", effect=f"write {name}.md: 1 line") for name in "ab")
    steps = (Step(0, "act", Trace("", "")), Step(1, "act", Trace("", ""), seen))
    print_end(
        console, Trajectory(Problem("1", "x"), steps, (), "So it is.", "it answered", True, 1234, 5.0, 0.25), "agent-1"
    )
    assert out.getvalue().splitlines() == [
        "",
        "So it is.",
        "",
        "ended     it answered",
        "spent     2 steps, 2 calls, 1,234 tokens, 5.0 s, $0.25",
        "effects   2",
        "          1  write a.md: 1 line",
        "          2  write b.md: 1 line",
        "undo      thinksmith agent --undo agent-1",
        "run       agent-1 (thinksmith traces agent-1)",
    ]


def test_small_things() -> None:
    assert told(ToolCall(name="x", arguments={"path": "a.md", "text": "é\n", "n": 3})) == 'a.md text="é\\n" n=3'
    assert told(ToolCall(name="x", arguments={"n": 3, "path": "a"})) == 'n=3 path="a"'
    assert inside("[data from x, 1f]\na\nb\n[end of data 1f]") == "a\nb"
    assert inside("a\nb") == "a\nb"
    cut = Observation(ToolCall(name="x", arguments={}), "a\nb", raw=99_999, handle="1-0", seconds=0.5)
    assert size(cut) == "2 lines shown, 99,999 characters, 0.50 s"
