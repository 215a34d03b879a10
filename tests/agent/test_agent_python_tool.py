"""The tool `python`: a notebook's manners, and a sandbox's walls."""

from __future__ import annotations

import ast
import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_calling import call, intend, tool

from thinksmith.agent.contract import Result, Tool
from thinksmith.agent.tools import python
from thinksmith.errors import UserError
from thinksmith.sandbox import Limits, Sandbox, host

pytestmark = pytest.mark.skipif(not host().isolates, reason="no sandbox here that isolates")


@pytest.fixture(scope="module")
def run() -> Iterator[Tool]:
    toolset = asyncio.run(python.open_toolset(""))
    yield tool(toolset, "python")
    asyncio.run(toolset.aclose())


def test_what_it_is(run: Tool) -> None:
    assert (run.kind, run.fence, run.repeatable, run.group) == ("run", "python", True, "python")
    assert run.parameters["required"] == ["code"]
    assert run.seconds > python.LIMITS.seconds
    assert intend(run, code="x = 1\nx").summary == "run 2 lines of Python in the sandbox"
    assert intend(run, code="x").details == "x"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("print('hi')\n3 ** 2", "hi\n9"),
        ("x = 3", "(it ran, and printed nothing)"),
        ("'text'", "'text'"),
        ("None", "(it ran, and printed nothing)"),
        ("", "(it ran, and printed nothing)"),
        ("if True:\n    5", "(it ran, and printed nothing)"),
        ("5; x = 1", "(it ran, and printed nothing)"),
        ("x = 1; x + 1", "2"),
        ("def f(n):\n    return n and n * f(n - 1) or 1\nf(20)", "2432902008176640000"),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nP(3)", "P(x=3)"),
        ("import sys\nprint('out')\nprint('err', file=sys.stderr)", "out\nerr"),
        ("__name__", "'__main__'"),
        ("run", None),
        ("print('ä€😀')", "ä€😀"),
        ("raise SystemExit", "(it ran, and printed nothing)"),
    ],
)
def test_what_is_shown(run: Tool, code: str, shown: str | None) -> None:
    result = call(run, code=code)
    if shown is None:
        assert "NameError" in result.text, "nothing of the runner is in the program's way"
    else:
        assert result == Result(shown)


def test_an_error_shows_the_program_s_lines_alone(run: Tool) -> None:
    result = call(run, code="def f():\n    return 1 / 0\n\nprint('before')\nf()")
    assert result.text == (
        'before\nTraceback (most recent call last):\n  File "<python>", line 5, in <module>\n    f()\n'
        '  File "<python>", line 2, in f\n    return 1 / 0\n           ~~^~~\nZeroDivisionError: division by zero'
    )
    assert not result.ok
    broken = call(run, code="x = = 3")
    assert broken.text.startswith('  File "<python>", line 1\n    x = = 3')
    assert not broken.ok
    assert call(run, code="import sys; sys.exit(3)") == Result(
        "(it ended with exit code 3, and printed nothing)", False
    )


def test_nothing_stays_between_calls(run: Tool) -> None:
    call(run, code="x = 1\nopen('left', 'w').write('x')")
    assert "NameError" in call(run, code="x").text
    assert call(run, code="import os\nos.listdir()").text == "[]"


@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/passwd').read()",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import os; os.system('true') and 1 / 0",
        "import subprocess; subprocess.run(['true'])",
        "open('/tmp/thinksmith-escape', 'w').write('x'); open('/proc/1/environ').read()",
        "import os; os.environ['THINKSMITH_STORE']",
        "import thinksmith",
    ],
)
def test_nothing_outside_is_touched(run: Tool, code: str) -> None:
    assert not call(run, code=code).ok


def test_what_it_writes_is_bounded(run: Tool) -> None:
    result = call(run, code="while True: print('x' * 1000)")
    assert not result.ok
    assert len(result.text) < 2_100_000
    assert "\n(output: " in result.text[-200:]


def test_a_program_without_an_end_is_stopped(run: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python, "LIMITS", Limits(seconds=1.0, cpu_seconds=5.0))
    began = time.monotonic()
    result = call(run, code="print('begun', flush=True)\nwhile True: pass")
    assert result == Result("begun\n(timeout: it ran too long and was stopped)", ok=False)
    assert time.monotonic() - began < 15


def test_a_call_that_is_cancelled_ends_its_program(run: Tool) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await run.call({"code": "import time\ntime.sleep(1000)"}, None)

    began = time.monotonic()
    asyncio.run(main())
    while any(thread.name == "sandbox" for thread in threading.enumerate()):  # each guest has one
        assert time.monotonic() - began < python.LIMITS.seconds - 5
        time.sleep(0.05)


def test_without_walls_it_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the environment lets unsafe code run."""
    monkeypatch.setenv("THINKSMITH_UNSAFE_CODE", "1")
    monkeypatch.setattr(python, "open_sandbox", lambda: Sandbox(("limits",)))
    with pytest.raises(UserError, match="nothing here keeps a program from your files"):
        asyncio.run(python.open_toolset(""))
    with pytest.raises(UserError, match="nothing behind the colon"):
        asyncio.run(python.open_toolset("x"))


@settings(max_examples=15)
@given(st.text(max_size=60))
def test_any_text_is_a_program_or_an_error(run: Tool, code: str) -> None:
    """As Python itself says: what it cannot read does not work, and nothing else says so."""
    result = call(run, code=code)
    try:
        ast.parse(code.encode(errors="replace").decode())
    except (SyntaxError, ValueError):
        assert not result.ok
