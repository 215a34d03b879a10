"""What a strategy is: an async function that decides what to ask next, given what came back.

Nothing more is needed for voting, budget forcing, search or an agent's tool loop: each awaits traces of an engine until
it has an `Outcome`. The driver (`thinksmith.strategies.driver`) keeps thousands of them in flight over one engine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from thinksmith.engines.contract import Engine
from thinksmith.records import Problem, Trace, Verdict


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a strategy came to: its `answer`, every trace it asked for in the order of asking, the `tokens` it spent
    (sampled ones, also those that were thrown away), and `why` it stopped.

    `trace` is the one whose answer it is; None: the last. `notes` (JSON) are what the strategy wants to keep beside,
    such as how many voted for the answer. `verdict` is there where the strategy judged the end state itself, as an
    agent's world does; else the verifier decides.
    """

    answer: str
    traces: tuple[Trace, ...]
    tokens: int
    why: str
    trace: Trace | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None

    @property
    def chosen(self) -> Trace:
        """The trace that is judged. Raises IndexError for an outcome of no trace at all."""
        return self.trace or self.traces[-1]


Strategy = Callable[[Problem, Engine], Awaitable[Outcome]]
"""The contract. A failure of the connection is an exception; a model's failure is a trace, and no exception."""
