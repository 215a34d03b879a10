"""Rollouts: groups of completions for a step's prompts, verified and rewarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from thinksmith.engines.contract import Engine
from thinksmith.records import Attempt, Problem, Request, Sampling
from thinksmith.strategies.single import problem_seed
from thinksmith.training.rl.rewards import combine
from thinksmith.verify import verify_all


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
    sampled = [
        (group, step * num_generations + index, problem, trace)
        for group, (problem, traces) in enumerate(zip(problems, engine.sample_all(requests), strict=True))
        for index, trace in enumerate(traces)
    ]
    verdicts = verify_all((problem, trace) for _, _, problem, trace in sampled)
    attempts = tuple(
        Attempt(problem, trace, verdict, sample, "grpo")
        for (_, sample, problem, trace), verdict in zip(sampled, verdicts, strict=True)
    )
    scored = [reward(attempt) for attempt in attempts]
    groups = tuple(group for group, *_ in sampled)
    return Rollout(attempts, groups, tuple(total for total, _ in scored), tuple(parts for _, parts in scored))
