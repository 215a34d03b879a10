"""Draws: the independent samples of a problem, numbered, that voting, scoring and stopping are built from.

Draw number i of a problem is the same request in every strategy, with the seed of (problem, i). So `vote@8` looks at
the very traces that `single` makes as its samples 0 to 7, strategies are compared on common random numbers, and what
was drawn for one need not be drawn again for another (`thinksmith.evaluate.kept`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from thinksmith.engines.contract import Engine
from thinksmith.records import Problem, Request, Sampling, Trace
from thinksmith.strategies.single import problem_seed

T = TypeVar("T")


def request_for(problem: Problem, sampling: Sampling, number: int, prefill: str = "") -> Request:
    """The request of draw `number` (from 0); `sampling.seed` is the run's."""
    seeded = replace(sampling, seed=problem_seed(sampling.seed, problem.id, number))
    return Request(messages=problem.messages, prefill=prefill, sampling=seeded)


async def draw(
    problem: Problem, engine: Engine, sampling: Sampling, numbers: Iterable[int], prefill: str = ""
) -> list[Trace]:
    """The traces of these draws, in order; they are asked for at once, so the engine batches them.

    If one raises, the others are cancelled. A model that fails is a trace with finish="error".
    """
    requests = [request_for(problem, sampling, number, prefill) for number in numbers]
    return [traces[0] for traces in await together(engine.sample(request) for request in requests)]


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of it comes to, in order; done at once, so that the engine batches it. If one raises, the others are
    cancelled, and the exception is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def spent(traces: Sequence[Trace]) -> int:
    """Sampled tokens of these traces, those lost on the way to an endpoint included."""
    return sum(trace.tokens + (trace.usage.lost_tokens if trace.usage else 0) for trace in traces)
