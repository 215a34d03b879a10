"""A cheap model first; a dearer one, or a longer budget, where the first is unsure."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import exp
from typing import Literal

from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError
from thinksmith.records import Problem, Sampling, Trace
from thinksmith.strategies.contract import Outcome, Strategy
from thinksmith.strategies.draws import draw, spent
from thinksmith.strategies.names import Opener
from thinksmith.strategies.single import problem_seed
from thinksmith.verify.same import classes, final

ANSWER = 512
"""Tokens that are left for the answer when a longer thinking is asked for."""


def cascade(
    sampling: Sampling,
    *,
    n: int = 4,
    sure: float = 0.75,
    by: Literal["agreement", "confidence"] = "agreement",
    most_first: int | None = None,
    then: str = "",
    think: int | None = None,
    then_n: int = 1,
    sample: int = 0,
    open: Opener,
) -> Strategy:
    """`n` draws of the model at hand; if they are not sure of an answer, `then_n` draws of the model `then`, or of the
    same one with a longer thinking.

    Sure is: the leading answer's share of the draws, those without an answer included, is at least `sure` (0 to 1);
    with `by=confidence` the mean probability of a token, exp(mean log-prob), over the draws that gave it. `most_first`
    bounds the thinking of the first stage, in tokens, and `think` that of the second (without it the second is not
    bounded beyond the sampling). The second stage's answer is taken whatever the first had said.

    Source: FrugalGPT (Chen et al. 2023, arXiv:2305.05176); agreement as the sign of when to go on: Yue et al. 2023,
    arXiv:2310.03094. Cost: the first stage always, the second for the share of problems that is not sure. The tokens of
    two models are not the same money, so the outcome's notes have them by model and by stage. It helps where the cheap
    model is right on most problems and, where it is wrong, disagrees with itself; a model that is surely wrong is not
    caught. The gold answer is not looked at.
    """
    if n < 1 or then_n < 1:
        raise UserError(f"each stage of a cascade needs a draw: n={n}, then_n={then_n} must be at least 1")
    if not 0 <= sure <= 1:
        raise UserError(f"sure is a share from 0 to 1, not {sure}")
    if min(most_first or 0, think or 0) < 0:
        raise UserError("budgets of thinking (most_first, think) must be 0 or more")
    if not then and think is None and most_first is None:
        raise UserError("cascade has nothing to go on to: give then=MODEL, think=TOKENS, or most_first=TOKENS")
    first = replace(sampling, max_thinking_tokens=most_first) if most_first is not None else sampling

    async def strategy(problem: Problem, engine: Engine) -> Outcome:
        if by == "confidence" and not engine.info.logprobs:
            raise UserError(f"cascade by=confidence needs log-probabilities, and {engine.info.name} tells none")
        traces = await draw(problem, engine, first, range(sample * n, sample * n + n))
        leader, share = await _leader(problem, traces, by)
        stages = [(engine.info.name, spent(traces))]
        if share >= sure:
            best, why = leader or traces[0], f"the first stage was sure ({share:.2f})"
        else:
            second = open(then) if then else engine
            again = second.info.name == engine.info.name
            numbers = range(sample * then_n, sample * then_n + then_n)
            more = await draw(problem, second, _longer(sampling, think, again=again), numbers)
            stages.append((second.info.name, spent(more)))
            leader, _ = await _leader(problem, more, "agreement")
            best, why = leader or more[0], f"the first stage was not sure ({share:.2f} < {sure:g})"
            traces = [*traces, *more]
        notes = {"stage": len(stages), "share": round(share, 4), **_by_model(stages)}
        return Outcome(best.answer, tuple(traces), spent(traces), why, best, notes)

    return strategy


def _longer(sampling: Sampling, think: int | None, *, again: bool) -> Sampling:
    """The second stage's. The same model asked `again` has draws of its own, or it would say the same words."""
    seed = problem_seed(sampling.seed, "cascade", 1) if again else sampling.seed
    if think is None:
        return replace(sampling, seed=seed)
    return replace(sampling, seed=seed, max_thinking_tokens=think, max_tokens=max(sampling.max_tokens, think + ANSWER))


async def _leader(problem: Problem, traces: Sequence[Trace], by: str) -> tuple[Trace | None, float]:
    """The first trace that gives the most frequent answer, and how sure that is (0 to 1)."""

    def count() -> list[int | None]:
        return classes(problem, [final(problem, trace) for trace in traces])

    voted = await asyncio.to_thread(count)  # comparing answers may wait for a worker
    votes = Counter(each for each in voted if each is not None)
    if not votes:
        return None, 0.0
    leader, most = votes.most_common(1)[0]  # of equals the one that came first
    for_it = [trace for trace, each in zip(traces, voted, strict=True) if each == leader]
    if by == "agreement":
        return for_it[0], most / len(traces)
    return for_it[0], sum(map(_confidence, for_it)) / len(for_it)


def _confidence(trace: Trace) -> float:
    """exp(mean log-prob) of the tokens that the model chose itself; 0 where none are known."""
    forced = set(trace.forced)
    own = [logprob for at, logprob in enumerate(trace.logprobs or ()) if at not in forced]
    return exp(sum(own) / len(own)) if own else 0.0


def _by_model(stages: Sequence[tuple[str, int]]) -> dict[str, object]:
    tokens: Counter[str] = Counter()
    for name, count in stages:
        tokens[name] += count
    return {"tokens_by_stage": [count for _, count in stages], "tokens_by_model": dict(tokens)}
