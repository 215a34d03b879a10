"""A vote over answers: each goes to its class of equivalent answers, with a weight, as the traces come.

Two answers are the same by the verifier's rules for the problem's kind (`thinksmith.verify.same`), so `1/2` and `0.5`
vote together. A trace without an answer (cut off, failed, or naming none) abstains: it costs tokens and says nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from math import fsum, isfinite

from thinksmith.records import Problem, Trace
from thinksmith.verify.same import final, same
from thinksmith.verify.verdict import VERIFIERS

_SHOWN = 200  # characters of an answer in the notes


@dataclass(slots=True, eq=False)
class Class:
    """Answers that are the same: the `answer` that came first, and who gave one of them with what weight, in order."""

    answer: str
    traces: list[Trace] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.traces)

    @property
    def weight(self) -> float:
        """The sum, exactly rounded: it does not depend on the order in which the traces came."""
        return fsum(self.weights)

    @property
    def best(self) -> Trace:
        """The trace of most weight; of several the first."""
        return self.traces[max(range(self.count), key=lambda at: self.weights[at])]


@dataclass(slots=True, eq=False)
class Ballot:
    """The votes on one problem. `classes` stand in the order of their first answer, which settles ties."""

    problem: Problem
    classes: list[Class] = field(default_factory=list)
    abstained: int = 0
    traces: list[Trace] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)  # where an answer went: the same text is not compared again

    async def add(self, trace: Trace, weight: float = 1.0) -> Class | None:
        """The class that the trace votes for; None if it abstains. ValueError for a weight that is no number.

        Comparing may wait for a worker: kinds for which it does are compared in a thread, so others go on meanwhile.
        """
        if not isfinite(weight):
            raise ValueError(f"a vote cannot weigh {weight}")
        self.traces.append(trace)
        answer = final(self.problem, trace)
        if answer is None:
            self.abstained += 1
            return None
        key = " ".join(answer.split())
        if key not in self._places:
            self._places[key] = await self._place(answer)
        found = self.classes[self._places[key]]
        found.traces.append(trace)
        found.weights.append(weight)
        return found

    @property
    def ranked(self) -> list[Class]:
        """The heaviest first; of two that weigh the same the one that came first."""
        return sorted(self.classes, key=lambda each: -each.weight)

    @property
    def leader(self) -> Class | None:
        """None as long as all abstain."""
        return self.ranked[0] if self.classes else None

    @property
    def chosen(self) -> Trace:
        """The trace that stands for the outcome: the leader's weightiest, or the first of all where all abstained.
        IndexError without any trace."""
        leader = self.leader
        return leader.best if leader else self.traces[0]

    @property
    def share(self) -> float:
        """The leader's share of all weight that was given, 0..1; 0 where there is none."""
        whole = fsum(each.weight for each in self.classes)
        return self.leader.weight / whole if self.leader and whole > 0 else 0.0

    def decided(self, left: int) -> bool:
        """Can `left` more votes of weight 1 no longer change who leads?"""
        leader = self.leader
        if leader is None:
            return left == 0
        at = self.classes.index(leader)
        reached = [each.weight + left for each in self.classes]
        ahead = all(most < leader.weight for most in reached[:at])  # a tie would go to those that came earlier
        return ahead and all(most <= leader.weight for most in [*reached[at + 1 :], left])

    @property
    def notes(self) -> Mapping[str, object]:
        """JSON: `votes` by class (its first answer → weight, the heaviest first) and how many `abstained`."""
        return {
            "votes": {_shown(each.answer): _plain(each.weight) for each in self.ranked},
            "abstained": self.abstained,
        }

    async def _place(self, answer: str) -> int:
        """The number of the first class whose first answer this is the same as; of a new class else."""
        verifier = VERIFIERS.get(self.problem.kind)
        for at, each in enumerate(self.classes):
            if verifier and verifier.slow:
                alike = await asyncio.to_thread(same, self.problem, each.answer, answer)
            else:
                alike = same(self.problem, each.answer, answer)
            if alike:
                return at
        self.classes.append(Class(answer))
        return len(self.classes) - 1


async def count(problem: Problem, traces: Iterable[Trace], weights: Iterable[float] | None = None) -> Ballot:
    """The ballot with all of these in it, in order; each weighs 1 unless told."""
    ballot = Ballot(problem)
    if weights is None:
        for trace in traces:
            await ballot.add(trace)
    else:
        for trace, weight in zip(traces, weights, strict=True):
            await ballot.add(trace, weight)
    return ballot


def _shown(answer: str) -> str:
    """An answer as a key of the notes: two long ones that begin alike stay apart."""
    if len(answer) <= _SHOWN:
        return answer
    return f"{answer[:_SHOWN]}… {sha256(answer.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _plain(weight: float) -> float:
    return int(weight) if weight == int(weight) else round(weight, 6)
