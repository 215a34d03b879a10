"""Which draw is asked next: of all that the goal still wants, the lowest number first, over shuffled problems.

So every problem has its first draw before any has its second, and what was made when the money ran out is a random
sample of the problems, not those that stood first in the file. The agenda knows neither engines nor time nor disk: it
is told what came and what failed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice

from thinksmith.distill.collect.goal import Goal
from thinksmith.records import Problem


@dataclass(frozen=True, slots=True)
class Draw:
    """The `number`-th draw (from 0) of a problem."""

    problem: Problem
    number: int

    @property
    def key(self) -> tuple[str, int]:
        return self.problem.id, self.number


@dataclass(slots=True)
class _Progress:
    """Of one problem: how many draws counted, which numbers are done with and which are under way."""

    problem: Problem
    rank: int
    counted: int = 0
    running: int = 0
    next: int = 0
    offered: bool = False
    gaps: list[int] | None = None
    """Numbers below `next` that an interrupted run has not made, descending."""

    def first(self) -> int:
        """The lowest number that is neither made nor under way."""
        return self.gaps[-1] if self.gaps else self.next

    def take(self) -> int:
        if self.gaps:
            return self.gaps.pop()
        self.next += 1
        return self.next - 1


class Agenda:
    """`next` gives a draw to ask for; of each that it gave, `came` or `gave_up` tells the end."""

    def __init__(
        self, problems: Sequence[Problem], goal: Goal, made: Iterable[tuple[str, int, str]] = (), seed: int = 0
    ) -> None:
        """`made` are (problem id, number, verdict's status) of the draws that are stored already."""
        self.goal = goal
        shuffled = sorted(problems, key=lambda problem: sha256(f"{seed}\0{problem.id}".encode()).digest())
        self._of = {problem.id: _Progress(problem, rank) for rank, problem in enumerate(shuffled)}
        self.given_up = 0
        """Draws that failed too often; another run of the same makes them."""
        numbers: dict[str, set[int]] = {}
        for name, number, status in made:
            if name in self._of:
                numbers.setdefault(name, set()).add(number)
                self._of[name].counted += goal.counts(status)
        for name, there in numbers.items():
            progress = self._of[name]
            progress.next = max(there) + 1
            progress.gaps = sorted(set(range(progress.next)) - there, reverse=True)
        self.running = 0
        """Draws that were given out and have not ended."""
        self._heap: list[tuple[int, int, str]] = []
        for name in self._of:
            self._offer(self._of[name])

    @property
    def waiting(self) -> bool:
        """Is there a draw to ask for now?"""
        return bool(self._heap)

    @property
    def done(self) -> bool:
        """Is nothing to be asked for, now or when what is under way has ended?"""
        return not self._heap and not self.running

    @property
    def reached(self) -> int:
        """Problems of which there is what the goal wants."""
        return sum(each.counted >= self.goal.wanted for each in self._of.values())

    def first(self, count: int) -> list[tuple[str, int]]:
        """(problem id, number) of the first draws that are asked for in any case, at most `count`."""
        keys = ((name, number) for number in range(self.goal.unconditional) for name in self._of)
        return list(islice(keys, count))

    def next(self) -> Draw | None:
        """The most urgent draw; None if there is none just now."""
        if not self._heap:
            return None
        progress = self._of[heapq.heappop(self._heap)[2]]
        progress.offered = False
        number = progress.take()
        progress.running += 1
        self.running += 1
        self._offer(progress)
        return Draw(progress.problem, number)

    def came(self, draw: Draw, status: str) -> None:
        """A draw is made and has this verdict."""
        progress = self._ended(draw)
        progress.counted += self.goal.counts(status)
        self._offer(progress)

    def gave_up(self, draw: Draw) -> None:
        """A draw failed for good: it is a try that is lost."""
        self.given_up += 1
        self._offer(self._ended(draw))

    def _ended(self, draw: Draw) -> _Progress:
        progress = self._of[draw.problem.id]
        progress.running -= 1
        self.running -= 1
        return progress

    def _offer(self, progress: _Progress) -> None:
        """Put it among those to ask for, if it wants more even should all draws under way count. What was offered stays
        wanted: a draw that ends can only make it want more."""
        wants = progress.counted + progress.running < self.goal.wanted and progress.first() < self.goal.tries
        if wants and not progress.offered:
            progress.offered = True
            heapq.heappush(self._heap, (progress.first(), progress.rank, progress.problem.id))
