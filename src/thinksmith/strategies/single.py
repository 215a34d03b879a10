"""The plainest strategy: think once and take the answer."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from thinksmith.engines.contract import Engine
from thinksmith.records import Problem, Request, Sampling
from thinksmith.strategies.contract import Outcome, Strategy


def problem_seed(seed: int, problem_id: str, sample: int) -> int:
    """The seed of one sample of one problem: 31 bits of a hash, so that every engine and endpoint accepts it.

    It depends on nothing else: not on the order of the problems, on how many there are, or on which of them an
    interrupted run had already finished. So a resumed run, and a run over a subset, draw the same tokens.
    """
    digest = sha256(f"{seed}\0{problem_id}\0{sample}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def single(sampling: Sampling, prefill: str = "", *, sample: int = 0) -> Strategy:
    """One trace per problem, sampled with the seed of (problem, `sample`); `prefill` begins the assistant's turn."""

    async def strategy(problem: Problem, engine: Engine) -> Outcome:
        seeded = replace(sampling, seed=problem_seed(sampling.seed, problem.id, sample))
        (trace,) = await engine.sample(Request(messages=problem.messages, prefill=prefill, sampling=seeded))
        return Outcome(answer=trace.answer, traces=(trace,), tokens=trace.tokens, why=trace.finish)

    return strategy
