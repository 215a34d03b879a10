"""Who is asked: an engine with the number of requests that it gets at once, and whether it answers just now."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from thinksmith.engines import is_remote, open_engine
from thinksmith.engines.contract import Engine, EngineInfo, Priced
from thinksmith.engines.remote.wire.faults import Fault
from thinksmith.errors import UserError, one_line
from thinksmith.records import Sampling

FAILURES = 3
"""Requests that fail one after the other until a teacher is set aside."""
FIRST_PAUSE, LONGEST_PAUSE = 15.0, 300.0
"""Seconds until one request may try it again; twice as long after each that fails."""
MOST_AT_ONCE = 4096

_AT_ONCE = re.compile(r"(?P<name>.*\S)\s*\*\s*(?P<most>[^*/]*)", re.DOTALL)


@dataclass(slots=True)
class Teacher:
    """An engine, how it is sampled, and at most how many requests it has at once (0: as many as it wants).

    It has `room` for more, and is told how each request ended: `went_well`, `went_wrong`.
    """

    engine: Engine
    sampling: Sampling
    most: int = 0
    name: str = field(init=False)
    running: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)
    """Requests that brought nothing."""
    answered: bool = field(default=False, init=False)
    out: bool = field(default=False, init=False)
    """It refuses for good: a wrong key, a model that it does not have."""
    why: str = field(default="", init=False)
    """What it failed with last."""
    _in_a_row: int = field(default=0, init=False)
    _pause: float = field(default_factory=lambda: FIRST_PAUSE, init=False)
    _until: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.name = self.engine.info.name

    @property
    def aside(self) -> bool:
        """Is nothing asked of it just now, or one request to see whether it answers again?"""
        return self.out or self._in_a_row >= FAILURES

    def room(self, now: float) -> int:
        """How many more requests it gets at `now` (seconds of a clock). With none running it always gets one."""
        if self.out or now < self._until:
            return 0
        if self.aside:
            return 0 if self.running else 1
        free = self.engine.room
        if self.most:
            free = min(free, self.most - self.running)
        return max(free, 0 if self.running else 1)

    def went_well(self) -> str:
        """A request was answered. Returns a line for people if it had been set aside."""
        was_aside, self.answered = self.aside, True
        self._in_a_row, self._pause, self._until = 0, FIRST_PAUSE, 0.0
        return f"{self.name} answers again" if was_aside else ""

    def went_wrong(self, error: Exception, now: float) -> str:
        """A request failed. Returns a line for people if the teacher is set aside now.

        What is the request's own fault (a UserError that is no fault of the connection) says nothing of the teacher.
        """
        self.failed += 1
        self.why = one_line(error)
        if isinstance(error, UserError) and not isinstance(error, Fault):
            return ""
        if isinstance(error, Fault) and not error.retryable:
            self.out = True
            return f"{self.name} is asked no more: {self.why}"
        if now < self._until:  # it was asked before it was set aside
            return ""
        trying = self.aside
        self._in_a_row += 1
        if not self.aside:
            return ""
        if trying:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._until = now + self._pause
        told = f"{self.name} is set aside after {FAILURES} failures in a row and tried again in {self._pause:.0f} s"
        return "" if trying else f"{told}: {self.why}"

    def cost(self, prompt_tokens: int, sampled: int) -> float | None:
        """US dollars for so many tokens; None where nobody knows. A model in this process costs nothing."""
        return self.engine.cost(prompt_tokens, sampled) if isinstance(self.engine, Priced) else 0.0


def named(text: str) -> tuple[str, int]:
    """A teacher as it is written, `NAME` or `NAME*16`: its name, and how many requests it gets at once (0: not said).

    Raises UserError for a number that is none.
    """
    match = _AT_ONCE.fullmatch(text.strip())
    name, most = (match["name"], match["most"].strip()) if match else (text.strip(), "")
    if not name:
        raise UserError("a teacher needs a name, such as ollama/deepseek-r1:7b or vllm/NAME@http://HOST:PORT*16")
    if match is None:
        return name, 0
    if not (most.isascii() and most.isdecimal() and 1 <= int(most[:9]) <= MOST_AT_ONCE):
        raise UserError(f"{text!r}: behind * stands how many requests it gets at once, 1 to {MOST_AT_ONCE}")
    return name, int(most)


def opened(name: str, most: int) -> Engine:
    """The engine of a name. An endpoint that was said to bear `most` requests at once begins with as many."""
    if most and is_remote(name):
        from thinksmith.engines.remote.engine import open_remote

        return open_remote(name, at_once=most)
    return open_engine(name)


@contextmanager
def open_teachers(
    texts: Sequence[str],
    sampling: Callable[[EngineInfo], Sampling],
    open: Callable[[str, int], Engine] = opened,
) -> Iterator[list[Teacher]]:
    """The teachers of these names (`named`), each sampled as `sampling` says for it; closed at the end.

    Raises UserError for none, for one that cannot be opened, and for two that are the same.
    """
    wanted = [named(text) for text in texts]
    if not wanted:
        raise UserError(
            "name a teacher: any model that thinksmith models lists, or an endpoint's such as vllm/NAME@URL"
        )
    _refuse_twice([name for name, _ in wanted])
    teachers: list[Teacher] = []
    try:
        for name, most in wanted:
            engine = open(name, most)
            teachers.append(Teacher(engine, sampling(engine.info), most))
        _refuse_twice([teacher.name for teacher in teachers])
        yield teachers
    finally:
        for teacher in teachers:
            with suppress(OSError, RuntimeError):
                asyncio.run(teacher.engine.aclose())


def _refuse_twice(names: Sequence[str]) -> None:
    twice, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise UserError(f"{twice} is named {times} times as a teacher: name it once, with {twice}*N for more at once")
