"""Accuracy against what it cost: points with intervals, the front, the cheapest way to a goal, and equal spend.

P problems. All points are of the same problems, so differences between them are paired: most of the noise, how hard
the problems happen to be, cancels. Intervals are clustered by problem: an accuracy's is that of any evaluation
(`thinksmith.evaluate.statistics.stats.share`), a difference's is t on the problems' differences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np

from thinksmith.evaluate.scaling.policies import COSTS
from thinksmith.evaluate.scaling.pool import Floats
from thinksmith.evaluate.statistics.stats import mean_interval, share
from thinksmith.records import Problem

Axis = Literal["tokens", "flops", "seconds"]
AXES: Mapping[Axis, str] = {
    "tokens": "sampled tokens a problem",
    "flops": "FLOPs a problem",
    "seconds": "seconds a problem, at the run's own rate",
}


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """A strategy of one size, by one model with one budget.

    `series` names the curve that it lies on; `problems` are those of P, in order. `score_P` and `cost_PX` (of
    `policies.COSTS`) are the expectations for each problem. `rate`: tokens per second (None: not measured). `oracle`:
    it looks at the gold, so it is a limit and on no front. `own`: it is measured on samples of its own, not worked out
    from a pool. `trials`: how often the strategy could be run side by side on a problem's samples, its share of what
    was drawn.
    """

    series: str
    model: str
    budget: str
    strategy: str
    size: int
    run: str
    problems: tuple[Problem, ...] = field(repr=False)
    score_P: Floats = field(repr=False)
    cost_PX: Floats = field(repr=False)
    rate: float | None = None
    exact: bool = True
    oracle: bool = False
    own: bool = False
    trials: float = 1.0

    @property
    def label(self) -> str:
        """The strategy with its size, as `thinksmith eval --strategy` takes it: `vote@8`, `adaptive:most=8`."""
        name, colon, options = self.strategy.partition(":")
        if self.own or name == "single":
            return self.strategy
        if name == "adaptive":
            return f"adaptive:most={self.size}" + (f",{options}" if options else "")
        return f"{name}@{self.size}{colon}{options}"

    def costs_P(self, axis: Axis) -> Floats:
        """What each problem costs; NaN where that is not known."""
        if axis == "seconds":
            return self.cost_PX[:, COSTS.index("tokens")] / (self.rate or math.nan)
        return self.cost_PX[:, COSTS.index(axis)]

    def x(self, axis: Axis) -> float:
        """The mean cost of a problem."""
        return float(self.costs_P(axis).mean())

    @property
    def traces(self) -> float:
        return float(self.cost_PX[:, COSTS.index("traces")].mean())


@dataclass(frozen=True, slots=True)
class Between:
    """A figure with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def apart(self) -> bool:
        """Does the interval of a difference leave 0 out?"""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Reach:
    """The cheapest way to an accuracy of `target`. All are points by their place.

    `cheapest`: its estimate is at least the target (None: no point's is). `sure`: the cheapest whose whole interval is.
    `perhaps`: cheaper points whose interval holds the target, so they may reach it too. `same`: points that are cheaper
    than `cheapest` and whose paired difference from it is not told from 0.
    """

    target: float
    cheapest: int | None
    sure: int | None
    perhaps: tuple[int, ...] = ()
    same: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EqualSpend:
    """What every series reaches with at most so much, None where it starts dearer.

    `best` is the series with the greatest accuracy there; `behind` is each one's paired difference from it.
    """

    spend: float
    accuracy: Mapping[str, Between | None]
    best: str
    behind: Mapping[str, Between | None]


@dataclass(frozen=True, eq=False)
class Curves:
    """All points of a comparison, on the same P problems in the same order."""

    points: tuple[Point, ...]

    @cached_property
    def accuracies(self) -> tuple[Between, ...]:
        """The accuracy of each point."""
        return tuple(interval(point.score_P, point.trials) for point in self.points)

    @property
    def problems(self) -> int:
        return len(self.points[0].score_P)

    @property
    def series(self) -> dict[str, list[int]]:
        """The points of each series, in their order."""
        found: dict[str, list[int]] = {}
        for at, point in enumerate(self.points):
            found.setdefault(point.series, []).append(at)
        return found

    def front(self, axis: Axis = "tokens") -> tuple[int, ...]:
        """The points that no other beats: none is as cheap and more accurate, or cheaper and as accurate."""
        best, found = -math.inf, []
        for at in self._by_cost(axis):
            mean = self.accuracies[at].mean
            if mean > best + 1e-12:
                best = mean
                found.append(at)
        return tuple(found)

    def reach(self, target: float, axis: Axis = "tokens") -> Reach:
        """The cheapest way to an accuracy of `target` (0..1), and what cannot be told from it."""
        order = self._by_cost(axis)
        cheapest = next((at for at in order if self.accuracies[at].mean >= target - 1e-12), None)
        sure = next((at for at in order if self.accuracies[at].low >= target - 1e-12), None)
        cheaper = order[: order.index(cheapest)] if cheapest is not None else order
        perhaps = tuple(at for at in cheaper if self.accuracies[at].high >= target - 1e-12)
        same = tuple(
            at
            for at in (cheaper if cheapest is not None else [])
            if not difference(self.points[at].score_P, self.points[cheapest or 0].score_P).apart
        )
        return Reach(target, cheapest, sure, perhaps, same)

    def equal_spend(self, spend: float, axis: Axis = "tokens") -> EqualSpend | None:
        """All series at one spend, without the oracle's. None where no series has it."""
        scores = {name: self.at_spend(name, spend, axis) for name in self.series if not self._oracle(name)}
        there = {name: score for name, score in scores.items() if score is not None}
        if not there:
            return None
        best = max(there, key=lambda name: float(there[name].mean()))
        return EqualSpend(
            spend,
            {name: None if score is None else interval(score) for name, score in scores.items()},
            best,
            {name: None if score is None else difference(score, there[best]) for name, score in scores.items()},
        )

    def at_spend(self, series: str, spend: float, axis: Axis = "tokens") -> Floats | None:
        """The expected scores of a series' problems at a mean spend of at most `spend`, None where it starts dearer.

        Each problem gets the cheaper or the dearer one by lot, so that the spend is met on average: that is a strategy
        which anyone can run, and both its score and its cost are linear between the points. Beyond the last point it
        spends less.
        """
        known = [(self.points[at].x(axis), at) for at in self.series[series]]
        line = sorted((x, at) for x, at in known if math.isfinite(x))
        if not line or spend < line[0][0] * (1 - 1e-9):
            return None
        for (left, a), (right, b) in pairwise(line):
            if spend <= right:
                share = max(0.0, (spend - left) / (right - left)) if right > left else 0.0
                return (1 - share) * self.points[a].score_P + share * self.points[b].score_P
        return self.points[line[-1][1]].score_P

    def spends(self, axis: Axis = "tokens") -> list[float]:
        """Where series are worth comparing: at every doubling where at least two of them have a point to both sides."""
        spans = []
        for name, members in self.series.items():
            xs = [x for x in (self.points[at].x(axis) for at in members) if math.isfinite(x) and x > 0]
            if xs and not self._oracle(name) and max(xs) > min(xs):
                spans.append((min(xs), max(xs)))
        if len(spans) < 2:
            return []
        low, high = sorted(low for low, _ in spans)[1], sorted((high for _, high in spans), reverse=True)[1]
        return [low * 2**step for step in range(12) if low * 2**step <= high * (1 + 1e-9)]

    def _by_cost(self, axis: Axis) -> list[int]:
        """The points that are strategies, the cheapest first, and of equals the best."""
        known = [at for at, point in enumerate(self.points) if not point.oracle and math.isfinite(point.x(axis))]
        return sorted(known, key=lambda at: (round(self.points[at].x(axis), 9), -self.accuracies[at].mean))

    def _oracle(self, series: str) -> bool:
        return all(self.points[at].oracle for at in self.series[series])


def interval(score_P: Floats, trials: float = 1.0) -> Between:
    """The mean with its 95 % interval; each score is the mean of so many trials."""
    found = share(np.clip(score_P, 0.0, 1.0), max(len(score_P), round(len(score_P) * trials)))
    return Between(found.mean, found.low, found.high)


def difference(one: Floats, other: Floats) -> Between:
    """The mean of one - other over the problems, paired, with its 95 % interval."""
    change_P = np.round(one - other, 12)
    if not change_P.any():
        return Between(0.0, 0.0, 0.0)  # the same outcome everywhere: there is nothing to tell apart
    low, high = mean_interval(change_P)
    return Between(float(change_P.mean()), low, high)


def same_problems(names: Sequence[Sequence[str]]) -> list[str]:
    """The ids that all lists have, in the order of the first."""
    shared = set(names[0]).intersection(*names[1:])
    return [name for name in names[0] if name in shared]
