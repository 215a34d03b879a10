"""A circuit breaker: an endpoint that is down is not asked again and again."""

from __future__ import annotations

import time
from collections.abc import Callable

from thinksmith.engines.remote.wire.faults import Unreachable

FAILURES = 5
"""Calls that fail one after the other, until it opens."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0
"""Seconds until one call may try again; twice as long after each that fails."""

_LOOK = 0.5  # seconds until one looks again whether the call that tries has found something


class Breaker:
    """Closed: calls pass. Open: they fail at once, with the time left, for which a retry waits. Then one may try, and
    what it finds decides.
    """

    def __init__(self, where: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._where, self._clock = where, clock
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._until: float | None = None
        self._trying = False
        self._why = ""

    def enter(self) -> None:
        """Before a call. Raises Unreachable while it is open."""
        if self._until is None:
            return
        left = self._until - self._clock()
        if left > 0 or self._trying:
            left = max(left, _LOOK) if self._trying else left
            why = f"failed {self._failures} times in a row ({self._why})"
            raise Unreachable(f"{self._where} {why}: asked again in {max(left, 1):.0f} s", after=left)
        self._trying = True

    def succeeded(self) -> None:
        """The endpoint answered, whatever it said."""
        self._failures, self._until, self._trying, self._pause = 0, None, False, FIRST_PAUSE

    def failed(self, why: str) -> None:
        """Nobody was reached, or nothing came."""
        self._failures, self._why = self._failures + 1, why
        if self._trying:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if self._failures >= FAILURES:
            self._until, self._trying = self._clock() + self._pause, False

    def left(self) -> None:
        """The call was given up: it says nothing about the endpoint."""
        self._trying = False
