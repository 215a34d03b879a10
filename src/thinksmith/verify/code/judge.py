"""Kind `code`: a program is right if it passes its tests, which run in the sandbox and are decided outside it.

`meta` says how, in the words of the data sets (the first names are ours, the others HumanEval's and MBPP's):

- `tests` / `test` / `test_list`: Python that asserts, as text or as a list of lines. With `entry` / `entry_point` a
  function `check(candidate)` in it is called (HumanEval); else the asserts stand by themselves (MBPP). `setup` /
  `test_setup_code` runs before them, and so does the `prompt` that the function continues: it may hold helpers that the
  tests use.
- `cases` with `args`, `kwargs` and `expected`: `entry` is called, `Solution.method` on a new instance (LiveCodeBench,
  LeetCode); `tolerance` for floats (1e-6).
- `cases` with `input` and `output`: the program reads one and must write the other (Codeforces); `tolerance` for
  numbers (0). See `outputs`.

`prelude` is put before the program (imports that the data set takes for granted). `seconds` (10) bounds the tests, or
each case, and `memory_mb` (1,024) each process; all cases together have a minute. What the reference solution (the gold
answer) defines is the solution's in the tests even if a built-in is called so.

The tests and the program are two processes in two sandboxes (`inside/guest.py` tells why that cannot be cheated);
outputs are compared here, and the program never sees what is expected of it. What the tests' own process reports
carries a secret that it was given with the tests.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thinksmith.records import Problem
from thinksmith.sandbox import Limits, Result, Sandbox, open_sandbox
from thinksmith.sandbox.forks import no_fork
from thinksmith.verify.code.outputs import same_output
from thinksmith.verify.code.program import defines, extract_program
from thinksmith.verify.extract import Extracted
from thinksmith.verify.judgement import BadGold, Unreadable
from thinksmith.verify.sandboxed import see
from thinksmith.verify.workers import Exceeded, WorkerFailed

SECONDS = 10.0
TOTAL_SECONDS = 60.0
"""Of all cases together: an answer cannot be slow a thousand times."""
MEMORY_MB = 1024
MAX_CASES = 1000
MAX_INPUT = 16 * 2**20
_REPORT = 2**16
_DEFINED = re.compile(r"^(?:def|class)[ \t]+(\w+)", re.MULTILINE)
_INSIDE = Path(__file__).parent / "inside"


@dataclass(frozen=True, slots=True)
class Exam:
    """What `meta` asks of a program. Exactly one of `tests` and `cases` is there."""

    entry: str
    tests: str
    cases: tuple[Mapping[str, Any], ...]
    setup: str
    header: str
    prelude: str
    tolerance: float
    names: tuple[str, ...]
    limits: Limits

    @property
    def reads(self) -> bool:
        """Is it a program that reads and writes?"""
        return bool(self.cases) and "output" in self.cases[0]


def judge(problem: Problem, answer: str) -> str | None:
    """None if the program passes, else which test it fails.

    Raises BadGold for tests that cannot be used, Unreadable for what is no program, Exceeded for one that takes too
    long or too much memory, and WorkerFailed where the sandbox fails.
    """
    exam = exam_of(problem)
    if not answer.strip():
        raise Unreadable("there is no program")
    text = _whole(exam, answer)
    sandbox = open_sandbox()
    return _by_output(sandbox, exam, text) if exam.reads else _by_examiner(sandbox, exam, text)


def taken(problem: Problem, text: str) -> Extracted | None:
    """The program in an answer, or None; see `program`."""
    try:
        return extract_program(text, exam_of(problem).entry)
    except BadGold:
        return None


def check_tests(problem: Problem) -> str | None:
    """Why the tests of `problem` cannot be used; None when they look as if they can. Nothing is run."""
    try:
        exam_of(problem)
    except BadGold as error:
        return str(error)
    return None


def exam_of(problem: Problem) -> Exam:
    """Read `meta`. Raises BadGold."""
    meta = problem.meta
    entry = _text(meta, "entry", "entry_point")
    tests = _text(meta, "tests", "test", "test_list")
    cases = _cases(meta.get("cases"))
    if bool(tests.strip()) == bool(cases):
        raise BadGold('meta needs either "tests" or "cases"')
    if cases and "output" not in cases[0] and not entry:
        raise BadGold('cases with "args" need meta["entry"], the name of the function')
    if entry and not all(part.isidentifier() for part in entry.split(".")):
        raise BadGold(f'meta["entry"] {entry[:50]!r} is no name')
    seconds = _number(meta, "seconds", SECONDS, 0.1, 600.0)
    header = _text(meta, "prompt") or (problem.text if entry and defines(problem.text, entry) else "")
    return Exam(
        entry, tests, cases, _text(meta, "setup", "test_setup_code"), header, _text(meta, "prelude"),
        _number(meta, "tolerance", 0.0 if cases and "output" in cases[0] else 1e-6, 0.0, 1.0),
        tuple({*([entry] if entry else ()), *_DEFINED.findall(problem.answer or "")}),
        Limits(
            seconds=seconds,
            cpu_seconds=seconds + 1,
            memory=int(_number(meta, "memory_mb", MEMORY_MB, 64, 65536)) * 2**20,
            output=MAX_INPUT,
        ),
    )  # fmt: skip


def _text(meta: Mapping[str, Any], *names: str) -> str:
    """The first of these that is there, lists of lines joined."""
    for name in names:
        value = meta.get(name)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, Sequence) and not isinstance(value, str) and value:
            if not all(isinstance(line, str) for line in value):
                raise BadGold(f'meta["{name}"] is not text')
            return "\n".join(value)
        if value not in (None, "", [], ()):
            raise BadGold(f'meta["{name}"] is not text')
    return ""


def _number(meta: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = meta.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadGold(f'meta["{name}"] must be a number from {low:g} to {high:g}')
    return float(value)


def _cases(value: Any) -> tuple[Mapping[str, Any], ...]:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > MAX_CASES:
        raise BadGold(f'meta["cases"] must be a list of at most {MAX_CASES:,}')
    reads = [_reads(case) for case in value]
    if len(set(reads)) > 1:
        raise BadGold('cases must be all of one sort: "input" and "output", or "args" and "expected"')
    return tuple(value)


def _reads(case: Any) -> bool:
    if isinstance(case, Mapping):
        if isinstance(case.get("output"), str) and isinstance(case.get("input", ""), str):
            return True
        if (
            "expected" in case
            and isinstance(case.get("args", []), list)
            and isinstance(case.get("kwargs", {}), Mapping)
        ):
            return False
    raise BadGold('a case has "input" and "output" as text, or "args" (a list) and "expected"')


def _whole(exam: Exam, answer: str) -> str:
    """The program to run: an answer that only continues the function's header gets it in front."""
    if exam.header and exam.entry and not defines(answer, exam.entry):
        answer = exam.header.rstrip("\n") + "\n" + answer
    elif exam.header:
        # Imports and helpers of the prompt are taken for granted by answers that repeat only the function.
        answer = _before(exam.header, exam.entry) + answer
    return exam.prelude + "\n" * bool(exam.prelude) + answer


def _before(header: str, entry: str) -> str:
    """What stands in the header before the function itself."""
    lines = header.split("\n")
    first = next((i for i, line in enumerate(lines) if defines(line, entry)), 0)
    while first and lines[first - 1].startswith("@"):
        first -= 1
    return "".join(f"{line}\n" for line in lines[:first])


def _by_output(sandbox: Sandbox, exam: Exam, text: str) -> str | None:
    end = time.monotonic() + max(TOTAL_SECONDS, exam.limits.seconds)
    for index, case in enumerate(exam.cases, 1):
        left = max(0.01, end - time.monotonic())
        limits = replace(exam.limits, seconds=min(exam.limits.seconds, left))
        result = sandbox.run(text, stdin=case.get("input", "").encode(), limits=limits)
        see(result)
        if result.status != "ok":
            return f"case {index}: {_ended(result)}"
        if reason := same_output(case["output"], result.stdout, exam.tolerance):
            return f"case {index}: {reason}"
    return None


def _by_examiner(sandbox: Sandbox, exam: Exam, text: str) -> str | None:
    """Run program and tests side by side and read the examiner's report."""
    secret = secrets.token_hex(16)
    task: dict[str, Any] = {"secret": secret, "entry": exam.entry}
    limits = exam.limits
    if exam.cases:
        task |= {"cases": list(exam.cases), "tolerance": exam.tolerance, "seconds": limits.seconds}
        total = max(TOTAL_SECONDS, limits.seconds)
        limits = replace(limits, seconds=total, cpu_seconds=total)
    else:
        task |= {"setup": _setup(exam), "tests": exam.tests, "names": exam.names}
    with ExitStack() as left:
        with no_fork:  # a child that is forked here would keep ends open that must be seen to close
            ours, theirs = map(left.enter_context, socket.socketpair())
            reading, writing = os.pipe()
            reader = left.enter_context(os.fdopen(reading, "rb", 0))
            writer = left.enter_context(os.fdopen(writing, "wb", 0))
            program = left.enter_context(
                sandbox.start(
                    "import guest\nguest.program()", channels=(theirs.fileno(),),
                    stdin=text.encode("utf-8", "replace"), packages=(_INSIDE,), limits=limits,
                )
            )  # fmt: skip
            theirs.close()
            examiner = left.enter_context(
                sandbox.start(
                    "import guest\nguest.examiner()", channels=(ours.fileno(), writer.fileno()),
                    stdin=json.dumps(task).encode(), packages=(_INSIDE,), limits=limits,
                )
            )  # fmt: skip
            ours.close()
            writer.close()
        result = examiner.wait()
        told = _told(reader.fileno(), secret)
        if told is None or told["broken"]:
            return _without_program(program.wait(), result, told)
    return None if told["passed"] else _reason(told)


def _without_program(program: Result, examiner: Result, told: dict[str, Any] | None) -> str:
    """Why it is wrong where the program ended, or the tests did, before they had come to a result."""
    see(program)
    see(examiner)
    if told is None:
        raise WorkerFailed(f"the tests ended without a report: {_ended(examiner)}")
    return f"{_reason(told)}: {_ended(program)}"


def _reason(told: dict[str, Any]) -> str:
    if told["late"]:
        raise Exceeded("time")
    if told["bad_tests"]:
        raise BadGold(f"the tests cannot be used: {told['reason']}")
    return str(told["reason"])


def _setup(exam: Exam) -> str:
    """What stands before the tests: helpers of the prompt, if it can stand alone, and the data set's own."""
    return (exam.header + "\n" if exam.header and exam.entry else "") + exam.setup


def _told(report: int, secret: str) -> dict[str, Any] | None:
    """The examiner's report, if it is one. It has ended, so all that it wrote is there: nothing is waited for."""
    os.set_blocking(report, False)
    try:
        read = os.read(report, _REPORT)
        told = json.loads(read)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or not secrets.compare_digest(str(told.get("secret")), secret):
        return None
    return told


def _ended(result: Result) -> str:
    """How a program ended, with the last line that it wrote to stderr (Python's exception)."""
    if result.status == "output":
        return "it wrote too much"
    last = (result.stderr[-2000:].decode("utf-8", "replace").strip().splitlines() or [""])[-1]
    how = f"killed ({result.reason})" if result.status == "killed" else f"exit code {result.exit_code}"
    return last or how
