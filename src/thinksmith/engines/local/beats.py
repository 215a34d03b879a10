"""When streams look at what has come: together, at beats, and not at each token.

A small model samples a thousand tokens a second. Whoever looked at each would wake the event loop as often, and each
time the engine's thread would wait for the interpreter: it would decode at half of its speed. So the streams of a loop
look together, ten milliseconds apart, or more where there are many of them; a first token is looked at as soon as the
loop can.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from thinksmith.engines.local.rows import Row

SHORTEST, EACH, LONGEST = 0.01, 0.001, 0.1
"""Seconds between two beats: so many for each stream, within these bounds."""


class Beats:
    """Those of one event loop. `step` is called by the engine's thread, all else in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._events: dict[Row, asyncio.Event] = {}
        self._new: set[Row] = set()  # whose first token nobody has looked at
        self._last = 0.0
        self._asked = False

    @property
    def followed(self) -> bool:
        """Does anybody follow a row?"""
        return bool(self._events)

    @contextmanager
    def follow(self, row: Row) -> Iterator[asyncio.Event]:
        """An event that is set whenever it is time to look at the row."""
        event = self._events[row] = asyncio.Event()
        self._new.add(row)
        try:
            yield event
        finally:
            del self._events[row]
            self._new.discard(row)

    def step(self) -> None:
        """Rows have new tokens. The loop is told once, until it has looked."""
        if not self._asked:
            self._asked = True
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for row in [row for row in self._new if row.tokens]:
            self._new.discard(row)
            self._events[row].set()
        length = min(LONGEST, max(SHORTEST, EACH * len(self._events)))
        self._loop.call_later(max(0.0, self._last + length - time.monotonic()), self._beat)

    def _beat(self) -> None:
        self._asked, self._last = False, time.monotonic()  # first: what comes while they look is told again
        self._new.clear()
        for event in self._events.values():
            event.set()
