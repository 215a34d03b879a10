"""Rollouts: groups of completions for a step's prompts, verified and rewarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from thinksmith.engines.contract import Engine
from thinksmith.records import Attempt, Problem, Request, Sampling
from thinksmith.strategies.single import problem_seed
from thinksmith.training.rl.rewards import combine
from thinksmith.verify import verify


@dataclass(frozen=True, slots=True)
class Rollout:
    """The attempts of one step. `groups[i]` is the prompt (from 0) of attempt i, `parts[i]` its rewards by name."""

    attempts: tuple[Attempt, ...]
    groups: tuple[int, ...]
    rewards: tuple[float | None, ...]
    parts: tuple[Mapping[str, float | None], ...]


def roll_out(
    engine: Engine,
    problems: Sequence[Problem],
    sampling: Sampling,
    *,
    num_generations: int,
    step: int,
    weights: Mapping[str, float],
) -> Rollout:
    """`num_generations` completions of each problem. Seeds depend on (sampling.seed, step, problem) alone, so a resumed
    run draws what the uninterrupted one does."""
    requests = [
        Request(
            messages=problem.messages,
            n=num_generations,
            sampling=replace(sampling, seed=problem_seed(sampling.seed, problem.id, step)),
        )
        for problem in problems
    ]
    reward = combine(weights)
    attempts: list[Attempt] = []
    groups: list[int] = []
    for group, (problem, traces) in enumerate(zip(problems, engine.sample_all(requests), strict=True)):
        for index, trace in enumerate(traces):
            sample = step * num_generations + index
            attempts.append(Attempt(problem, trace, verify(problem, trace), sample, "grpo"))
            groups.append(group)
    scored = [reward(attempt) for attempt in attempts]
    return Rollout(
        tuple(attempts), tuple(groups), tuple(total for total, _ in scored), tuple(parts for _, parts in scored)
    )
