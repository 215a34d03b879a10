"""When a model calls a tool: the share of calls where one is needed, and where none is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thinksmith.evaluate.statistics.stats import Accuracy, accuracy
from thinksmith.records import Attempt
from thinksmith.training.rl.rewards.tools import called, needs_tool
from thinksmith.training.rows import Metrics


@dataclass(frozen=True, slots=True)
class Calling:
    """Shares of attempts with their 95 % intervals: with a call `where_needed` and `where_not`, and of all those that
    end right with a call exactly where one is needed (`fitting`)."""

    where_needed: Accuracy
    where_not: Accuracy
    fitting: Accuracy


def calling(attempts: Sequence[Attempt]) -> Calling | None:
    """None where not both kinds of problems are among them."""
    shares: list[dict[str, list[float]]] = [{}, {}, {}]  # where not, where needed, fitting
    for attempt in attempts:
        needs = needs_tool(attempt)
        if needs is None:
            continue
        calls, problem = called(attempt), attempt.problem.id
        shares[needs].setdefault(problem, []).append(float(calls))
        shares[2].setdefault(problem, []).append(float(_fits(attempt)))
    if not all(shares):
        return None
    where_not, where_needed, fitting = (accuracy(each) for each in shares)
    return Calling(where_needed, where_not, fitting)


def call_shares(attempts: Sequence[Attempt]) -> Metrics:
    """The same as a part of a step's metrics; of a share of nothing the key is left out."""
    told = [attempt for attempt in attempts if needs_tool(attempt) is not None]
    groups = {
        "call_share_needed": [called(attempt) for attempt in told if needs_tool(attempt)],
        "call_share_needless": [called(attempt) for attempt in told if not needs_tool(attempt)],
        "fitting_share": [_fits(attempt) for attempt in told],
    }
    return {name: sum(each) / len(each) for name, each in groups.items() if each}


def _fits(attempt: Attempt) -> bool:
    """Right, with a call exactly where one is needed."""
    return attempt.verdict.correct and called(attempt) == needs_tool(attempt)
