"""Several models at one question, side by side: each is a lane that fills as its stream comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from thinksmith.engines.contract import Delta
from thinksmith.errors import UserError, one_line
from thinksmith.records import Trace

Phase = Literal["waits", "thinks", "answers", "done", "failed"]


@dataclass(slots=True)
class Lane:
    """One model's part.

    `local`: it runs in this process. `prepare` (loading it) comes before the clock starts. `pieces` of the thinking
    and of the answer came so far.
    """

    name: str
    local: bool
    ask: Callable[[], AsyncIterator[Delta]]
    prepare: Callable[[], Awaitable[None]] | None = None
    phase: Phase = "waits"
    thinking: str = ""
    answer: str = ""
    pieces: int = 0
    started: float = 0.0
    first: float | None = None
    trace: Trace | None = None
    error: str = ""

    @property
    def seconds(self) -> float:
        """Since it began, or what it took."""
        if self.trace:
            return self.trace.seconds
        return time.perf_counter() - self.started if self.started else 0.0

    def take(self, delta: Delta) -> None:
        """The next piece of its stream."""
        if delta.trace:
            self.trace = delta.trace
            self.thinking, self.answer = delta.trace.thinking, delta.trace.answer
            self.phase, self.error = ("failed", delta.trace.error) if delta.trace.finish == "error" else ("done", "")
            return
        if delta.part == "reset":
            self.thinking, self.answer, self.pieces = "", "", 0
            return
        if self.first is None:
            self.first = time.perf_counter() - self.started
        self.pieces += 1
        if delta.part == "thinking":
            self.phase, self.thinking = "thinks", self.thinking + delta.text
        else:
            self.phase, self.answer = "answers", self.answer + delta.text


async def run(lanes: Sequence[Lane]) -> None:
    """All at once; those of this process one after the other, since they would share its cores and each look slower
    than it is. One that fails has its reason, and does not stop the others."""
    turn = asyncio.Lock()

    async def one(lane: Lane) -> None:
        if lane.local:
            async with turn:
                await _fill(lane)
        else:
            await _fill(lane)

    await asyncio.gather(*(one(lane) for lane in lanes))


async def _fill(lane: Lane) -> None:
    try:
        if lane.prepare:
            await lane.prepare()
        lane.started = time.perf_counter()
        async for delta in lane.ask():
            lane.take(delta)
    except UserError as error:
        lane.phase, lane.error = "failed", one_line(error)
    except Exception as error:  # whatever an engine does, the others go on
        lane.phase, lane.error = "failed", f"{type(error).__name__}: {one_line(error)}"
