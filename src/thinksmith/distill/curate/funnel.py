"""The funnel: how many traces and problems each stage left, and what is worth knowing beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from thinksmith.distill.curate.reasons import REASONS
from thinksmith.problems.overlap import Hit


@dataclass(frozen=True, slots=True)
class Stage:
    """`reason` dropped so many traces and left so many."""

    reason: str
    dropped: int
    left: int

    @property
    def about(self) -> str:
        return REASONS[self.reason]


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How often problems are solved, of those with attempts enough to tell: `inside` the band, `easier`, `harder`;
    of the others it is `unknown`. `bins` counts the known ones by tenths of the rate (the last holds 1)."""

    inside: int
    easier: int
    harder: int
    unknown: int
    bins: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """An evaluation's problem in a trace: the `trace` is where it stands, `id` its problem's."""

    where: str
    id: str
    hit: Hit


@dataclass(frozen=True, slots=True)
class Funnel:
    """What became of `read` traces (rows that are none among them) of `problems` problems.

    `stages` are all, in order, those that dropped nothing too. `tokens` are of the kept traces: their sum, mean, median
    and 95 % quantile. `teachers` counts them by model. `unjudged` of them have no verdict; `judged` were judged here.
    `faults` are the first rows that are no traces (`place: why`).
    """

    read: int
    problems: int
    stages: tuple[Stage, ...]
    kept: int
    kept_problems: int
    difficulty: Difficulty
    tokens: dict[str, float]
    teachers: dict[str, int]
    unjudged: int
    judged: int
    faults: tuple[str, ...] = ()
    hits: tuple[Found, ...] = field(default=(), repr=False)

    @property
    def most(self) -> Stage:
        """The stage that dropped most."""
        return max(self.stages, key=lambda stage: stage.dropped)

    @property
    def shown(self) -> Sequence[Stage]:
        """The stages that dropped something."""
        return [stage for stage in self.stages if stage.dropped]

    def to_dict(self) -> dict[str, Any]:
        """As JSON; the hits stand in a file of their own."""
        record = asdict(self)
        return record | {"hits": len(self.hits)}
