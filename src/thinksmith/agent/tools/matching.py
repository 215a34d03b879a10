"""The lines that a pattern is in. A pattern is a model's, and `(a+)+b` may run for ever: so patterns are read and
matched in a worker that can be killed (`verify/workers.py`)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from thinksmith.agent.contract import ToolFault
from thinksmith.verify import workers

MAX_PATTERN = 1000  # characters
_PIECE = 300_000  # characters that go to a worker at once

Matcher = Callable[[Sequence[str]], list[int]]
"""Which of these lines match, by number from 0."""


def literal(text: str, *, ignore_case: bool) -> Matcher:
    """Lines that hold `text` as it stands."""
    wanted = text.casefold() if ignore_case else text

    def match(lines: Sequence[str]) -> list[int]:
        return [at for at, line in enumerate(lines) if wanted in (line.casefold() if ignore_case else line)]

    return match


def pattern(text: str, *, ignore_case: bool, until: float) -> Matcher:
    """Lines in which a regular expression is found, before the moment `until` (of time.monotonic). Raises ToolFault for
    one that cannot be read, and while matching for one that takes too long."""
    if len(text) > MAX_PATTERN:
        raise ToolFault(f"the pattern is longer than {MAX_PATTERN:,} characters")

    def match(lines: Sequence[str]) -> list[int]:
        found: list[int] = []
        for start, piece in _pieces(lines):
            answer = _ask(text, piece, ignore_case, until - time.monotonic())
            if isinstance(answer, str):
                raise ToolFault(f"the pattern cannot be read: {answer}")
            found += [start + at for at in answer]
        return found

    match([])
    return match


def _pieces(lines: Sequence[str]) -> list[tuple[int, list[str]]]:
    """(number of the first line, lines), at least one, each short enough for a message to a worker."""
    pieces: list[tuple[int, list[str]]] = [(0, [])]
    size = 0
    for at, line in enumerate(lines):
        if size and size + len(line) > _PIECE:
            pieces.append((at, []))
            size = 0
        pieces[-1][1].append(line[:_PIECE])
        size += len(line) + 8
    return pieces


def _ask(text: str, lines: list[str], ignore_case: bool, seconds: float) -> list[int] | str:
    try:
        answer: list[int] | str = workers.call(
            "thinksmith.agent.tools.matching:matches", text, lines, ignore_case, seconds=max(seconds, 0.05)
        )
    except workers.Exceeded as error:
        raise ToolFault(f"matching the pattern {error}: write a simpler one, or search in fewer files") from None
    except workers.WorkerFailed as error:
        raise ToolFault(f"patterns cannot be matched now ({error}): search for plain text") from None
    return answer


def matches(text: str, lines: list[str], ignore_case: bool) -> list[int] | str:
    """A worker's task: the numbers of the lines in which the pattern is found, or why it cannot be read."""
    try:
        expression = re.compile(text, re.IGNORECASE if ignore_case else 0)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)[:200]
    return [at for at, line in enumerate(lines) if expression.search(line)]
