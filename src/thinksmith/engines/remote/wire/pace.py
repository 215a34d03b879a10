"""How many calls at once: as many as the endpoint bears, found out as TCP finds its window.

A quarter more after each full window of calls that went well, half as many after a 429, a 503 or a timeout (after
additive increase and multiplicative decrease, Chiu and Jain 1989, but faster upwards: a run may be short). It stops
growing while more calls only make each slower: when the seconds a token takes have doubled against the best that was
seen.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

START, MOST = 8, 256
_SLOWER = 2.0
_QUIET = 1.0  # seconds in which several refusals are one: those were sent before we knew


class Pace:
    """`window` calls at once, the others wait in their order."""

    def __init__(self, start: int = START, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self.window = min(start, most)
        self._most, self._clock = most, clock
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._good = 0
        self._best = float("inf")
        self._recent: deque[float] = deque(maxlen=16)
        self._shrunk = float("-inf")

    @property
    def room(self) -> int:
        """How many more calls would start at once."""
        return max(0, self.window - self._running - len(self._waiting))

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A place among those that run."""
        if self._running >= self.window or self._waiting:
            await self._wait()
        else:
            self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._wake()

    async def _wait(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place  # whoever wakes it has counted it as running
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._running -= 1
            elif place in self._waiting:
                self._waiting.remove(place)
            self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self._running < self.window:
            place = self._waiting.popleft()
            if not place.done():
                self._running += 1
                place.set_result(None)

    def went_well(self, seconds: float, tokens: int) -> None:
        """A call ended: how long it took, and what it brought."""
        self._recent.append(seconds / max(tokens, 1))
        typical = sorted(self._recent)[len(self._recent) // 2]
        if len(self._recent) >= 4:
            self._best = min(self._best, typical)
        self._good += 1
        if self._good >= self.window and typical <= _SLOWER * self._best:
            self._good = 0
            self.window = min(self.window + max(1, self.window // 4), self._most)
            self._wake()

    def too_much(self) -> None:
        """The endpoint had no room, or went silent."""
        if self._clock() - self._shrunk >= _QUIET:
            self._shrunk = self._clock()
            self.window = max(1, self.window // 2)
        self._good = 0

    def forget(self) -> None:
        """Another event loop begins: nobody of the old one waits or runs."""
        self._running = 0
        self._waiting.clear()
