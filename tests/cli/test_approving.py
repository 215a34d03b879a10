"""The question before an effect: what it shows of words that an attacker may have chosen, and what answers it."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from agent_endpoint import Endpoint, calls
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from thinksmith.agent.contract import Intent, Result, Tool
from thinksmith.cli.approving import AtTerminal, allowed, bare, details, fitting, question
from thinksmith.errors import UserError
from thinksmith.records import ToolCall

FORGED = "a.md: 1 line   [y] once  [a] always this tool  [d] details  [n] no\r\n\x1b[2Jfiles_write \u202egood.md\x9b1A"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
CHOICES = "[y] once  [a] always this tool  [d] details  [n] no"


async def _call(arguments: Any, intent: Intent | None) -> Result:
    return Result("done")


def tool(name: str = "files_write", group: str = "files", kind: Any = "write") -> Tool:
    return Tool(name, "", {"type": "object"}, _call, kind, group)


CALL = ToolCall(name="files_write", arguments={"path": "a.md"}, id="call_0_0")


@given(st.text(), st.integers(40, 120))
@example(FORGED, 80)
@example("x" * 500 + "/etc/passwd", 80)
@example("e" + "\u0301" * 50, 80)
@example("日本" * 60, 61)
def test_whatever_is_asked_about_the_question_is_ours(summary: str, width: int) -> None:
    lines = question("files_write", summary, width)
    assert len(lines) <= 2
    assert lines[-1].plain.endswith(CHOICES)
    for line in lines:
        assert line.cell_len <= width or width < cell_len(CHOICES) + 2
        assert not {unicodedata.category(sign) for sign in line.plain} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert lines[0].plain.startswith("files_write ")


@given(st.text(), st.integers(1, 60))
def test_what_is_cut_fits_and_keeps_both_ends(text: str, width: int) -> None:
    text = bare(text)
    found = fitting(text, width)
    assert cell_len(found) <= max(width, 2)
    if found != text and width >= 20 and cell_len(text) == len(text):
        assert text.startswith(found.split("…")[0])
        assert text.endswith(found.split("…")[-1])


@given(st.text(max_size=300), st.integers(40, 100))
@example("+" + " " * 75 + "files_write good.md   [y] once", 80)
def test_details_never_reach_the_margin(text: str, width: int) -> None:
    for line in details(CALL, Intent(FORGED, text), width):
        assert line.plain.startswith("  │ ")
        assert line.cell_len <= width
        assert not {unicodedata.category(sign) for sign in line.plain} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_what_is_named_is_not_asked_about() -> None:
    tools = [tool(), tool("files_edit"), tool("python", "python", "run")]
    assert allowed(["files"], tools) == {"files_write", "files_edit"}
    assert allowed(["python", "files_edit"], tools) == {"python", "files_edit"}
    with pytest.raises(UserError, match="--yes file_write: there is no such tool; did you mean 'files_write'"):
        allowed(["file_write"], tools)
    with pytest.raises(UserError, match="there are: files, files_edit, files_write, python"):
        allowed(["*"], tools)


def asked(answers: list[str], intent: Intent | None = None, width: int = 120) -> tuple[str, str]:
    """What is decided where these lines are typed, and what is shown."""
    out = io.StringIO()

    async def typed() -> str:
        return answers.pop(0)

    approve = AtTerminal(Console(file=out, width=width, markup=False), asks=True, typed=typed)
    decision = asyncio.run(approve(tool(), CALL, intent))
    assert not answers
    return decision, out.getvalue()


@pytest.mark.parametrize(
    ("typed", "decision"),
    [
        ("\n", "no"), ("", "no"), ("n\n", "no"), ("No\n", "no"),
        ("y\n", "once"), (" YES \n", "once"), ("a\n", "always"),
    ],
)  # fmt: skip
def test_what_is_typed(typed: str, decision: str) -> None:
    assert asked([typed])[0] == decision


def test_anything_else_is_asked_again_and_d_shows_all() -> None:
    decision, shown = asked(["yess\n", "d\n", "\n"], Intent("write a.md: 2 lines", "-old\n+new\x1b[1A"))
    assert decision == "no"
    assert shown.count(CHOICES) == 3
    assert "write y, a, d or n" in shown
    assert "  │ +new␛[1A\n" in shown


def test_a_tool_without_an_intent_shows_its_arguments() -> None:
    assert 'files_write { "path": "a.md" }' in asked(["n\n"])[1]


def test_without_a_terminal_it_is_refused_and_told_once_what_would_allow_it() -> None:
    out = io.StringIO()
    approve = AtTerminal(Console(file=out, width=200, markup=False), frozenset({"python"}), asks=False)
    decisions = [asyncio.run(approve(each, CALL, None)) for each in (tool(), tool(), tool("python"))]
    assert decisions == ["no", "no", "once"]
    told = "files_write is refused, since there is no terminal to ask at: --yes files_write would allow it\n"
    assert out.getvalue() == told


# --- at a real terminal


@contextmanager
def at_terminal(*arguments: object) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30", "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-m", "thinksmith", *map(str, arguments)],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    try:
        yield child, ours
    finally:
        child.kill()
        child.wait()
        os.close(ours)


def read_until(ours: int, wanted: str, seconds: float = 60.0) -> str:
    """What stands there until `wanted` does, without its colours."""
    seen, end = "", time.monotonic() + seconds
    while wanted not in seen:
        ready, _, _ = select.select([ours], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"no {wanted!r} in {seen!r}"
        seen = COLOURS.sub("", seen + os.read(ours, 65536).decode(errors="replace"))
    return seen


WRITES = (("I write.", calls("files_write", path="b.md", text="one\ntwo\n")), ("Done.", "It is done."))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


def command(folder: Path, endpoint: Endpoint) -> list[object]:
    return ["agent", "Write b.md", "--tools", f"files:{folder}", "--model", endpoint.model, "--no-plan"]


def test_yes_at_a_terminal(own_store: Path, folder: Path) -> None:
    with Endpoint(*WRITES) as endpoint, at_terminal(*command(folder, endpoint)) as (child, ours):
        assert "files_write write b.md: 2 lines, a new file" in read_until(ours, "[n] no ")
        assert not (folder / "b.md").exists()
        os.write(ours, b"d\n")
        assert "  │ +one" in read_until(ours, "[n] no ")
        os.write(ours, b"y\n")
        shown = read_until(ours, "--undo agent-")
        assert child.wait(60) == 0
    assert "It is done." in shown
    assert (folder / "b.md").read_text() == "one\ntwo\n"


def test_what_was_typed_before_the_question_does_not_answer_it(own_store: Path, folder: Path) -> None:
    with Endpoint(*WRITES, held=0) as endpoint, at_terminal(*command(folder, endpoint)) as (child, ours):
        read_until(ours, "thinks")
        os.write(ours, b"y\na\ny\n")
        time.sleep(0.3)
        endpoint.go.set()
        read_until(ours, "[n] no ")
        os.write(ours, b"\n")
        shown = read_until(ours, "effects")
        assert child.wait(60) == 0
    assert "files_write was not allowed" in shown
    assert not (folder / "b.md").exists()


def test_ctrl_c_at_the_question_and_going_on(own_store: Path, folder: Path) -> None:
    with Endpoint(*WRITES) as endpoint:
        with at_terminal(*command(folder, endpoint)) as (child, ours):
            read_until(ours, "[n] no ")
            time.sleep(0.2)
            os.write(ours, b"\x03")
            told = read_until(ours, "goes on")
            assert child.wait(60) == 130
        assert "interrupted: 0 steps kept; thinksmith agent --resume agent-" in told
        assert not (folder / "b.md").exists()
        with at_terminal("agent", "--resume", "last") as (child, ours):
            read_until(ours, "[n] no ")
            os.write(ours, b"a\n")
            read_until(ours, "effects")
            assert child.wait(60) == 0
        assert len(endpoint.asked) == 2  # the thought before the question was not asked for again
    assert (folder / "b.md").read_text() == "one\ntwo\n"


def test_the_end_of_the_input_is_no(own_store: Path, folder: Path) -> None:
    with Endpoint(*WRITES) as endpoint, at_terminal(*command(folder, endpoint)) as (child, ours):
        read_until(ours, "[n] no ")
        os.write(ours, b"\x04")
        read_until(ours, "effects")
        assert child.wait(60) == 0
    assert not (folder / "b.md").exists()


def test_hanging_up_does_nothing(own_store: Path, folder: Path) -> None:
    with Endpoint(*WRITES) as endpoint, at_terminal(*command(folder, endpoint)) as (child, ours):
        read_until(ours, "[n] no ")
        child.send_signal(signal.SIGHUP)
        assert child.wait(60) != 0
    assert not (folder / "b.md").exists()
