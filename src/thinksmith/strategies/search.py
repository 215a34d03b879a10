"""Beam search over the steps of a turn: the core that `beam` and `dvts` share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from thinksmith.errors import UserError
from thinksmith.records import Problem
from thinksmith.strategies.single import problem_seed
from thinksmith.strategies.step_scores import StepScorer, finite
from thinksmith.strategies.steps import ENDS, Path, Step, Walk

Over = Literal["last", "mean", "least"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """The shape of a search: `width` paths are kept, each goes on in `expand` ways, at most `depth` steps long; `over`
    says what a path is worth by the scores of its steps. UserError for a shape that cannot be."""

    width: int
    expand: int
    depth: int
    step: Step
    over: Over

    def checked(self, name: str) -> Plan:
        for what, value in (("width", self.width), ("expand", self.expand), ("depth", self.depth)):
            if value < 1:
                raise UserError(f"{name}: {what} must be at least 1, not {value}")
        return self

    @property
    def end(self) -> str:
        return ENDS[self.step]

    def worth(self, path: Path) -> float:
        """What the path is ranked by."""
        if path.trace.finish == "error" or not path.scores:
            return float("-inf")
        if self.over == "last":
            return path.scores[-1]
        return min(path.scores) if self.over == "least" else sum(path.scores) / len(path.scores)


async def search(walk: Walk, score: StepScorer, plan: Plan, first: int) -> list[Path]:
    """The finished paths of one search, the best first.

    It begins with the first steps of the draws `first`, `first + 1`, …, width × expand of them. Of each level's
    candidates, all asked for at once, those that say the same count once, and the best are kept. One whose thinking is
    over keeps its place, and gets its answer in the end. The last level goes to the turn's end in one piece, so a
    search ends whatever the model does: after `depth` levels, and no path is longer than the sampling's `max_tokens`.
    """
    alive: list[Path] = []
    done: list[Path] = []
    for level in range(plan.depth):
        last = level + 1 == plan.depth
        if level == 0:
            numbers = range(first, first + plan.width * plan.expand)
            seeds = [problem_seed(walk.sampling.seed, walk.problem.id, number) for number in numbers]
            grown = await together(walk.begin(seed, whole=last) for seed in seeds)
        else:
            ways = [(path, f"step {level} {at} {way}") for at, path in enumerate(alive) for way in range(plan.expand)]
            grown = await together(walk.go_on(path, _seed(walk, way, first), whole=last) for path, way in ways)
        ranked = await _ranked(walk.problem, grown, score, plan)
        kept = ranked[: plan.width - len(done)]
        done += [path for path in kept if path.ended or path.thought]
        alive = [path for path in kept if not (path.ended or path.thought)]
        if not alive:
            break
    answers = [walk.go_on(path, _seed(walk, f"answer {at}", first), whole=True) for at, path in enumerate(done)]
    ended = await together(answers)
    return sorted(ended, key=lambda path: -plan.worth(path))


async def _ranked(problem: Problem, grown: Sequence[Path], score: StepScorer, plan: Plan) -> list[Path]:
    """The candidates with their scores, the best first; of those that say the same the first stands for all.

    Scores are often equal (all equations true): then what more candidates say comes first, for a model that is right
    says the same more often than one that is wrong. What failed is left out, unless there is nothing else.
    """
    sound = [path for path in grown if path.trace.finish != "error"]
    if not sound:
        return list(grown[:1])
    said = Counter(path.key for path in sound)
    first: dict[tuple[str, bool], Path] = {}
    for path in sound:
        first.setdefault(path.key, path)
    candidates = list(first.values())
    scores = finite(await score(problem, candidates))
    scored = [replace(path, scores=(*path.scores, value)) for path, value in zip(candidates, scores, strict=True)]
    return sorted(scored, key=lambda path: (-plan.worth(path), -said[path.key]))


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All of it at once, so that the engine batches it; if one fails the others are cancelled."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def _seed(walk: Walk, place: str, first: int) -> int:
    """Of a piece, by its place in the search: nothing else may move it, or neighbours would."""
    return problem_seed(walk.sampling.seed, f"{walk.problem.id}\0{place}", first)
