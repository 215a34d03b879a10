"""What a strategy is: an async function that decides what to ask next, given what came back.

Nothing more is needed for voting, budget forcing, search or an agent's tool loop: each awaits traces of an engine until
it has an `Outcome`. The driver (`thinksmith.strategies.driver`) keeps thousands of them in flight over one engine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from thinksmith.engines.contract import Engine
from thinksmith.records import Problem, Trace


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a strategy came to: its `answer`, every trace it asked for, the `tokens` it spent, and `why` it stopped."""

    answer: str
    traces: tuple[Trace, ...]
    tokens: int
    why: str


Strategy = Callable[[Problem, Engine], Awaitable[Outcome]]
