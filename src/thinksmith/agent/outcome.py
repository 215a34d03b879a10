"""What a trajectory came to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from thinksmith.agent.contract import Observation, Plan, Step
from thinksmith.records import Problem, Trace
from thinksmith.strategies.contract import Outcome


@dataclass(frozen=True, slots=True)
class Trajectory:
    """All steps, the last plan, the `answer` (what is known so far, where a limit ended it) and `why` it ended.
    `answered`: the model ended it itself. `cost` in US dollars, None where nobody says; `repeats` counts steps that
    brought nothing new."""

    problem: Problem
    steps: tuple[Step, ...]
    plan: Plan
    answer: str
    why: str
    answered: bool
    tokens: int
    seconds: float
    cost: float | None = None
    repeats: int = 0

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Of all calls, in order."""
        return tuple(each for step in self.steps for each in step.observations)

    @property
    def effects(self) -> tuple[str, ...]:
        """What was done to the world, a line each, in order."""
        return tuple(each.effect for each in self.observations if each.effect)


def outcome_of(trajectory: Trajectory, joined: Callable[[Sequence[Step]], Trace] | None = None) -> Outcome:
    """The trajectory as a strategy's outcome: judged is the last thought, or with `joined` all of them as one trace."""
    traces = tuple(step.trace for step in trajectory.steps)
    return Outcome(
        trajectory.answer,
        traces,
        trajectory.tokens,
        trajectory.why,
        joined(trajectory.steps) if joined and traces else None,
        notes_of(trajectory),
    )


def notes_of(trajectory: Trajectory) -> dict[str, Any]:
    """Counts of a trajectory, for the attempt that it is."""
    seen = trajectory.observations
    return {
        "steps": len(trajectory.steps),
        "calls": len(seen),
        "failed": sum(not each.ok and not each.refused for each in seen),
        "refused": sum(each.refused for each in seen),
        "repeats": trajectory.repeats,
        "answered": trajectory.answered,
        "tools": [each.call["name"] for each in seen],
        "effects": list(trajectory.effects),
    }
