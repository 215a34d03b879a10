"""Admission: how much runs at one time on an engine, and how much may wait for it.

A request holds as many places as it has completions. Those that find none wait in the order in which they came; past
`queue` of them a request is refused at once, with the seconds after which it may come again. Nothing is unbounded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import ceil
from time import monotonic

from thinksmith.serve.asked import Refusal

_LONGEST_WAIT = 60  # seconds that a client is told to wait at most
_MEMORY = 16  # requests over which the mean time is taken


@dataclass(eq=False, slots=True)
class _Waiter:
    weight: int
    turn: asyncio.Future[None]


class Gate:
    """`places` completions at one time, and `queue` requests that wait."""

    def __init__(self, places: int, queue: int) -> None:
        self.places, self.queue = places, queue
        self.running = 0  # completions
        self._waiters: deque[_Waiter] = deque()
        self._closed = False
        self._seconds = 1.0  # that a request takes, about

    @property
    def waiting(self) -> int:
        """Requests."""
        return len(self._waiters)

    @asynccontextmanager
    async def enter(self, weight: int) -> AsyncIterator[None]:
        """Hold `weight` places, all of them where it is more than there are. Raises Refusal: 429 where the queue is
        full, 503 once the gate is closed."""
        weight = max(1, min(weight, self.places))
        await self._wait(weight)
        began = monotonic()
        try:
            yield
        finally:
            self._seconds += (monotonic() - began - self._seconds) / _MEMORY
            self._leave(weight)

    def close(self) -> None:
        """Let nobody in any more, those that wait included; what runs goes on."""
        self._closed = True
        for waiter in self._waiters:
            if not waiter.turn.done():
                waiter.turn.set_exception(_closing())
        self._waiters.clear()

    @property
    def retry_after(self) -> int:
        """Seconds until the queue has likely moved on."""
        return max(1, min(_LONGEST_WAIT, ceil(self._seconds * (1 + self.waiting) / self.places)))

    async def _wait(self, weight: int) -> None:
        if self._closed:
            raise _closing()
        if not self._waiters and self.running + weight <= self.places:
            self.running += weight
            return
        if len(self._waiters) >= self.queue:
            raise Refusal("too many requests are waiting: come again later", status=429, retry_after=self.retry_after)
        waiter = _Waiter(weight, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                self._leave(weight)  # its turn had come in the same moment
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
                self._let_in()  # a smaller one behind it may fit
            raise

    def _leave(self, weight: int) -> None:
        self.running -= weight
        self._let_in()

    def _let_in(self) -> None:
        while self._waiters and self.running + self._waiters[0].weight <= self.places:
            waiter = self._waiters.popleft()
            if not waiter.turn.done():
                self.running += waiter.weight
                waiter.turn.set_result(None)


def _closing() -> Refusal:
    return Refusal("the server is shutting down", status=503, retry_after=5)
