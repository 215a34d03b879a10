"""Rewards: functions of an attempt. None leaves the attempt out of its group."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from thinksmith.audit.audit import audit
from thinksmith.errors import UserError
from thinksmith.records import Attempt

Reward = Callable[[Attempt], float | None]


def correctness(attempt: Attempt) -> float | None:
    """The verdict's score, 0..1. An error of ours (a grader or an engine that failed) is left out, never a 0.

    A `timeout` is the answer's own doing and scores 0, as the wrong answer that it replaces would: were it left out, to
    write what cannot be decided would be a way out of every bad reward.
    """
    if attempt.verdict.status in ("error", "bad_gold"):
        return None
    return attempt.verdict.score


def think_format(attempt: Attempt) -> float | None:
    """1 when the thinking was closed and an answer follows. Judged on the whole turn, so a template that opens
    `<think>` does not zero it. An engine that failed wrote nothing to be judged."""
    if attempt.trace.finish == "error":
        return None
    return float(attempt.trace.thinking_status == "closed" and bool(attempt.trace.answer.strip()))


def true_equations(attempt: Attempt) -> float | None:
    """The share of the trace's equations that are true, each checked exactly; 0 where it has none, so that writing less
    does not pay. An engine that failed wrote nothing to be judged."""
    if attempt.trace.finish == "error":
        return None
    equations = audit(attempt.trace, attempt.problem).equations
    return sum(equation.true for equation in equations) / len(equations) if equations else 0.0


REWARDS: dict[str, Reward] = {
    "correctness": correctness,
    "think_format": think_format,
    "true_equations": true_equations,
}


def combine(weights: Mapping[str, float]) -> Callable[[Attempt], tuple[float | None, dict[str, float | None]]]:
    """Weighted sum of named rewards; also gives each one apart. If any is None, so is the sum."""
    unknown = [name for name in weights if name not in REWARDS]
    if unknown:
        raise UserError(f"unknown reward {unknown[0]!r}; known are {', '.join(REWARDS)}")

    def reward(attempt: Attempt) -> tuple[float | None, dict[str, float | None]]:
        parts = {name: REWARDS[name](attempt) for name in weights}
        if any(value is None for value in parts.values()):
            return None, parts
        return sum(weights[name] * value for name, value in parts.items() if value is not None), parts

    return reward
