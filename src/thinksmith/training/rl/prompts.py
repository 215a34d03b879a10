"""Which problems are asked next: an endless, seeded order over the pool that can be put down and taken up again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from random import Random
from typing import Any

from thinksmith.errors import UserError
from thinksmith.records import Problem
from thinksmith.training.rl.curriculum import Curriculum
from thinksmith.training.rl.recipe import CurriculumTable


@dataclass(frozen=True, slots=True)
class Drawn:
    """A problem to be asked. `draw` counts the groups of the run from 0: no two groups share one, so neither their
    seeds nor the numbers of their samples collide, however often a problem comes back."""

    problem: Problem
    draw: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the run so far. `seen`: groups that were asked; `skipped`: times that a problem's turn came while it was put
    aside; `kept`: groups that were trained on; `returned`: groups of problems that were put aside, asked because too
    few others were left."""

    seen: int = 0
    skipped: int = 0
    kept: int = 0
    returned: int = 0


class Prompts:
    """The pool in an order shuffled anew for every pass: a function of (seed, pass) and of what the curriculum noted.

    What was drawn depends on nothing else, so a run that is resumed from `state` asks what the uninterrupted one asks.
    """

    def __init__(self, problems: Sequence[Problem], seed: int, curriculum: CurriculumTable) -> None:
        if not problems:
            raise UserError("there are no problems to train on: name another set as problems")
        self.curriculum = Curriculum(curriculum)
        self._problems = tuple(problems)
        self._seed = seed
        self._position = 0  # in the endless order
        self._late: list[int] = []  # whose turn came while they were being asked already, the longest waiting first
        self._counts = Counts()

    @property
    def counts(self) -> Counts:
        return self._counts

    def take(self, n: int, step: int, besides: Collection[str] = ()) -> list[Drawn]:
        """The next `n` problems for `step` (from 0).

        None comes twice, nor one whose id is in `besides` (what the step has asked already), unless the pool is used
        up; then it begins again. Problems that the curriculum put aside are passed over; where fewer than `n` others
        are left, those nearest to being asked come back.
        """
        asked = [self.curriculum.asked(problem.id, step) for problem in self._problems]
        used = {index for index, problem in enumerate(self._problems) if problem.id in besides}
        chosen: list[int] = []
        while len(chosen) < n:
            wanted = {index for index, on in enumerate(asked) if on and index not in used}
            aside = [index for index, on in enumerate(asked) if not on and index not in used]
            if wanted:
                found = self._walk(min(n - len(chosen), len(wanted)), wanted, asked)
            elif aside:
                found = self._nearest(aside)[: n - len(chosen)]
                self._count(returned=len(found))
            else:  # all were asked: once more from the beginning
                used = set()
                continue
            used.update(found)
            chosen += found
        first = self._counts.seen
        self._count(seen=n)
        return [Drawn(self._problems[index], first + place) for place, index in enumerate(chosen)]

    def note(self, problem_id: str, correct: int, of: int, step: int) -> None:
        """What a group came to; see `Curriculum.note`."""
        self.curriculum.note(problem_id, correct, of, step)

    def keep(self, groups: int) -> None:
        """So many of the groups are trained on."""
        self._count(kept=groups)

    def metrics(self, step: int) -> dict[str, float]:
        """The counts of the run so far, and what the curriculum thinks of the pool at `step`."""
        counts = {name: float(getattr(self._counts, name)) for name in Counts.__slots__}
        ids = [problem.id for problem in self._problems]
        return {f"prompts/{name}": count for name, count in counts.items()} | self.curriculum.metrics(ids, step)

    def state(self) -> dict[str, Any]:
        """All that decides what comes next, as plain data: a few numbers, and those of the measured problems."""
        return {
            "pool": self._pool_hash(),
            "position": self._position,
            "late": list(self._late),
            "counts": {name: getattr(self._counts, name) for name in Counts.__slots__},
            "curriculum": self.curriculum.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken. Raises UserError where it was taken over another pool."""
        if state["pool"] != self._pool_hash():
            raise UserError(
                "the training problems are not those that the run began with: restore them, or name a new --out"
            )
        self._position = state["position"]
        self._late = list(state["late"])
        self._counts = Counts(**state["counts"])
        self.curriculum.restore(state["curriculum"])

    def _walk(self, count: int, wanted: Collection[int], asked: Sequence[bool]) -> list[int]:
        """The next `count` of the `wanted`, in order: those that are late, then as their turns come."""
        found = [index for index in self._late if index in wanted][:count]
        self._count(skipped=sum(not asked[index] for index in self._late))
        self._late = [index for index in self._late if index not in found and asked[index]]
        while len(found) < count:
            epoch, offset = divmod(self._position, len(self._problems))
            index = _order(f"{self._seed}:{epoch}", len(self._problems))[offset]
            self._position += 1
            if not asked[index]:
                self._count(skipped=1)
            elif index in wanted and index not in found:
                found.append(index)
            elif index not in self._late:
                self._late.append(index)
        return found

    def _nearest(self, aside: Sequence[int]) -> list[int]:
        return sorted(aside, key=lambda index: (*self.curriculum.distance(self._problems[index].id), index))

    def _count(self, **more: int) -> None:
        self._counts = Counts(*(getattr(self._counts, name) + more.get(name, 0) for name in Counts.__slots__))

    def _pool_hash(self) -> str:
        return sha256("\0".join(problem.id for problem in self._problems).encode()).hexdigest()[:16]


@lru_cache(maxsize=2)
def _order(seed: str, size: int) -> tuple[int, ...]:
    """One pass over the pool."""
    order = list(range(size))
    Random(seed).shuffle(order)
    return tuple(order)
