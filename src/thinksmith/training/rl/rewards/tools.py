"""Rewards for the use of tools: was one called where it was needed, and only there?"""

from __future__ import annotations

from dataclasses import dataclass

from thinksmith.records import Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """0 where a tool was called if and only if the problem needs one (`meta["needs_tool"]`), -`needless` where it was
    called without need, -`missing` where it was not called in spite of it. A call counts that was asked for in an
    agent's trajectory (the attempt's notes), whether it worked or not; a second one is free.

    A problem that does not say what it needs: None. Gamed by calls that are made and not used, so it stands beside
    `correctness`: that alone teaches to call always, since a tool is never worse than the head.
    """

    needless: float = 1.0
    missing: float = 1.0

    def __post_init__(self) -> None:
        if self.needless < 0 or self.missing < 0:
            raise ValueError("needless and missing are costs: 0 or more")

    def __call__(self, attempt: Attempt) -> float | None:
        needs = needs_tool(attempt)
        if needs is None:
            return None
        if called(attempt) == needs:
            return 0.0
        return -self.missing if needs else -self.needless


def needs_tool(attempt: Attempt) -> bool | None:
    """Whether the problem is too big for a head; None where it does not say."""
    found = attempt.problem.meta.get("needs_tool")
    return found if isinstance(found, bool) else None


def called(attempt: Attempt) -> bool:
    """Whether the trajectory has a call."""
    return bool(attempt.notes.get("calls"))
