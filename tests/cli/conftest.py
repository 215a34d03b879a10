"""Fixtures of the command line's tests: the program in this process, and a store with runs in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from thinksmith.records import Attempt, Problem, Trace, Verdict


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code and its output."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], own_store: Path) -> Callable[..., Done]:
    """`cli("runs", "--limit", "3")` runs the command in this process, over a store of this test alone."""
    from thinksmith.cli.main import run

    def call(*arguments: object) -> Done:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return call


THINKING = "I need to find 27 * 34.\n7 * 3 = 22, so 27 * 30 = 810 and 27 * 4 = 108.\nCheck: 810 + 108 = 918."


@pytest.fixture
def filled(own_store: Path) -> dict[str, str]:
    """Two runs: `sums` with 30 attempts, every third wrong, attempt i with i tokens; and `asked` with one."""
    from thinksmith.store.store import Store

    with Store.open() as store:
        sums = store.start_run("eval", "arithmetic", "tiny", "w", {})
        attempts = []
        for i in range(30):
            problem = Problem(f"sum/{i}", f"What is {i} + 1?", str(i + 1))
            verdict = Verdict("correct", 1.0, str(i + 1)) if i % 3 else Verdict("wrong", 0.0, "0", "not this")
            trace = Trace("Hm.", f"The answer is {verdict.extracted}.", token_ids=tuple(range(i)), model="tiny")
            attempts.append(Attempt(problem, trace, verdict))
        store.add(sums, attempts)
        store.finish_run(sums, {})
        asked = store.start_run("ask", "27 * 34", "tiny", "w", {})
        trace = Trace(THINKING, "The answer is 918.", token_ids=tuple(range(50)), thinking_tokens=40, model="tiny")
        store.add(asked, [Attempt(Problem("ask/1", "What is 27 * 34?"), trace, Verdict("bad_gold"))])
    return {"sums": sums, "asked": asked}
