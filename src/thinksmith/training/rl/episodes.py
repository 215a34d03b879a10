"""Episodes: completions that are trajectories of an agent, driven by the same driver as every strategy.

What is learnt is one trace a trajectory (`agent/trajectory.py`): the ids that were read and sampled, with all that was
not sampled in `forced`, which the loss leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thinksmith.agent.loop import Manner
from thinksmith.agent.trained import Trained
from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError, one_line
from thinksmith.records import Problem, Sampling, Trace, Verdict
from thinksmith.strategies.contract import Outcome
from thinksmith.strategies.driver import Job, run
from thinksmith.strategies.names import Named, strategy
from thinksmith.training.rl.recipe import AgentTable


@dataclass(frozen=True, slots=True)
class Episode:
    """A trajectory as one trace, the verdict where its world gave one, and what is noted of it."""

    trace: Trace
    verdict: Verdict | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


def named(table: AgentTable) -> Named:
    """The strategy of a recipe's `[agent]`. Raises UserError for one that cannot be."""
    spec = spec_of(table)
    try:
        return strategy(spec)
    except UserError as error:
        raise UserError(f"[agent]: {error}") from None


def spec_of(table: AgentTable) -> str:
    """Its name, as the command line writes it: what an evaluation calls it too."""
    for tool in table.tools:
        if not tool or any(sign.isspace() or sign == "," for sign in tool):
            raise UserError(f"agent.tools: {tool!r} must be a tool's name without white space or commas")
    options = {
        "tools": " ".join(table.tools),
        "steps": str(table.steps),
        "planning": _yes(table.planning),
        "reflect_every": str(table.reflect_every),
        "instructed": _yes(table.describe),
        "described": _yes(table.describe),
        "history": "ids",
    }
    return f"{table.strategy}:" + ",".join(f"{name}={value}" for name, value in options.items() if value)


def trained_as(table: AgentTable) -> Trained:
    """What whoever asks the trained model should know of it."""
    manner = Manner(
        planning=table.planning,
        reflect_every=table.reflect_every,
        instructed=table.describe,
        described=table.describe,
    )
    return Trained(manner, "ids", table.steps)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def play(
    engine: Engine, asked: Sequence[tuple[Problem, Sequence[int]]], sampling: Sampling, table: AgentTable
) -> list[list[Episode]]:
    """An episode for each problem and each of its sample numbers, in order. Their tokens are a function of
    (`sampling.seed`, problem, number, step) alone.

    Raises UserError for what an episode raises as one. Whatever else fails is an episode that ended in an error.
    """
    plan = named(table)
    found: dict[tuple[str, int], Episode] = {}

    async def work(job: Job, engine: Engine) -> Outcome:
        return await plan.make(sampling, job.sample, _no_other)(job.problem, engine)

    def keep(job: Job, outcome: Outcome) -> None:
        found[job.problem.id, job.sample] = Episode(
            outcome.chosen, outcome.verdict, {"why": outcome.why, **outcome.notes}
        )

    jobs = [Job(problem, sample) for problem, samples in asked for sample in samples]
    for failure in run(jobs, work, engine, keep):
        if isinstance(failure.error, UserError):
            raise failure.error
        why = f"{type(failure.error).__name__}: {one_line(failure.error)}"
        found[failure.job.problem.id, failure.job.sample] = Episode(
            Trace("", "", "none", finish="error", error=why, logprobs=(), model=engine.info.name, sampling=sampling)
        )
    return [[found[problem.id, sample] for sample in samples] for problem, samples in asked]


def _no_other(name: str) -> Engine:
    raise UserError(f"an agent that is trained asks no other model: leave {name} out")
