"""Voting: several traces, and the answer that most of them give."""

from __future__ import annotations

from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError
from thinksmith.records import Problem, Sampling
from thinksmith.strategies.ballot import Ballot, count
from thinksmith.strategies.contract import Outcome, Strategy
from thinksmith.strategies.draws import draw, spent
from thinksmith.strategies.names import Opener
from thinksmith.strategies.reward_model import Steps
from thinksmith.strategies.scorers import Choice

COUNT = "count"


def vote(
    sampling: Sampling,
    *,
    n: int = 8,
    weight: str = COUNT,
    model: str = "",
    file: str = "",
    steps: Steps = "min",
    sample: int = 0,
    open: Opener | None = None,
) -> Strategy:
    """Self-consistency (Wang et al. 2022, arXiv:2203.11171): `n` traces, and the answer that most of them give.

    Answers are counted by classes of equivalent ones. `weight`: each counts 1 (`count`), or as much as a scorer gives
    its trace (`thinksmith.strategies.scorers`; `model`, `file` and `steps` are the scorer's). A tie goes to the answer
    that came first. A trace without an answer abstains.

    Cost: n draws, all at once. Helps where wrong traces are wrong in different ways; where a model is wrong mostly in
    one way, more votes make the wrong answer surer. Weights help a little where the scorer tells right from wrong.
    Notes: `votes` (answer → weight), `abstained`.
    """
    check_count(n, "vote")
    choice = None if weight == COUNT else Choice(weight, model, file, steps).checked("vote", "weight", also=(COUNT,))

    async def strategy(problem: Problem, engine: Engine) -> Outcome:
        numbers = range(sample * n, sample * n + n)
        if choice is None:
            return outcome(await count(problem, await draw(problem, engine, sampling, numbers)))
        scoring = choice.at_work(engine, open)
        traces = await draw(problem, engine, choice.asking(sampling), numbers)
        weights = [score or 0.0 for score in await scoring.of(problem, traces)]
        return outcome(await count(problem, traces, weights), judging=scoring.tokens)

    return strategy


def outcome(ballot: Ballot, why: str = "", judging: int = 0) -> Outcome:
    """What a ballot came to. `why` is told by the count unless it is given; `judging`: tokens that a judge sampled."""
    chosen, leader = ballot.chosen, ballot.leader
    told = f"{leader.count} of {len(ballot.traces)} agree" if leader else f"none of {len(ballot.traces)} gave an answer"
    notes = {**ballot.notes, **({"judge_tokens": judging} if judging else {})}
    tokens = spent(ballot.traces) + judging
    return Outcome(chosen.answer, tuple(ballot.traces), tokens, why or told, chosen, notes)


def check_count(n: int, name: str, option: str = "n") -> None:
    """UserError for a number of draws below 1."""
    if n < 1:
        raise UserError(f"{name} needs at least one draw: {option}={n} must be 1 or more")
