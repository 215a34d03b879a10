"""What a trajectory has used, and what it may."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from thinksmith.errors import UserError
from thinksmith.records import Trace

LEAST = 32  # tokens with which it makes sense to ask at all


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one trajectory: `steps` (thoughts of every kind), sampled `tokens`, `seconds` on the wall (waiting for an
    approval does not count), `cost` in US dollars. 0: no limit; steps always have one. A last answer comes on top of
    the steps, and a share of the tokens is kept for it."""

    steps: int = 30
    tokens: int = 0
    seconds: float = 0.0
    cost: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise UserError(f"the limit of {field.name} must not be negative")
        if self.steps < 1:
            raise UserError("an agent needs at least one step")
        if 0 < self.tokens < 4 * LEAST:
            raise UserError(f"an agent needs at least {4 * LEAST} tokens, not {self.tokens}")

    @property
    def kept(self) -> int:
        """Tokens that are kept for the last answer."""
        return min(1024, self.tokens // 4)


class Meter:
    """Counts against `limits`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._began = time.perf_counter()
        self._apart = 0.0  # seconds: those of recalled steps, less those of waiting for people
        self.steps = 0
        self.tokens = 0
        self.cost: float | None = None

    def add(self, trace: Trace, recalled: float) -> None:
        """A step's trace; `recalled`: seconds that it took in an earlier process."""
        self.steps += 1
        self.tokens += trace.tokens + (trace.usage.lost_tokens if trace.usage else 0)
        self._apart += recalled
        if trace.usage and trace.usage.cost is not None:
            self.cost = (self.cost or 0.0) + trace.usage.cost

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """For people, whose time does not count."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._apart -= time.perf_counter() - began

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began + self._apart

    @property
    def seconds_left(self) -> float | None:
        return max(self._limits.seconds - self.seconds, 0.0) if self._limits.seconds else None

    def most(self, wanted: int, *, ends: bool) -> int:
        """How many tokens a step may sample; `ends`: it is the last answer."""
        if not self._limits.tokens:
            return wanted
        left = self._limits.tokens - self.tokens - (0 if ends else self._limits.kept)
        return min(wanted, max(left, LEAST))

    @property
    def spent(self) -> str:
        """Which limit is reached; empty while none is."""
        limits = self._limits
        if self.steps >= limits.steps:
            return f"the limit of {limits.steps} steps is reached"
        if limits.tokens and limits.tokens - limits.kept - self.tokens < LEAST:
            return f"the limit of {limits.tokens:,} tokens is reached"
        return self.closed

    @property
    def closed(self) -> str:
        """Which limit is reached that leaves no room for a last answer either."""
        limits = self._limits
        if limits.seconds and self.seconds >= limits.seconds:
            return f"the limit of {limits.seconds:g} seconds is reached"
        if limits.cost and (self.cost or 0.0) >= limits.cost:
            return f"the limit of ${limits.cost:g} is reached"
        return ""
