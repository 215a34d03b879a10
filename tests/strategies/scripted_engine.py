"""An engine that gives out answers by their draw number: what a strategy makes of them is then known."""

import asyncio
from dataclasses import dataclass, field, replace

from thinksmith.engines.contract import EngineInfo
from thinksmith.records import Problem, Request, Sampling, Trace
from thinksmith.strategies.single import problem_seed

PROBLEM = Problem("p/test/1", "How many apples?", "12", "number")


@dataclass
class Scripted:
    """Draw number i of `problem` is `traces[i]` (after `ticks` of the event loop), given the run's seed."""

    traces: list[Trace]
    problem: Problem = PROBLEM
    seed: int = 0
    ticks: int = 1
    logprobs: bool = True
    asked: list[int] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    running: int = 0
    fails_at: int = -1

    @property
    def info(self) -> EngineInfo:
        return EngineInfo("scripted", logprobs=self.logprobs, vocabulary=8)

    @property
    def room(self) -> int:
        return 1000

    async def sample(self, request: Request) -> list[Trace]:
        seeds = {problem_seed(self.seed, self.problem.id, at): at for at in range(len(self.traces))}
        number = seeds[request.sampling.seed]
        self.asked.append(number)
        self.requests.append(request)
        self.running += 1
        try:
            for _ in range(self.ticks):
                await asyncio.sleep(0)
            if number == self.fails_at:
                raise ConnectionError("gone")
        finally:
            self.running -= 1
        return [replace(self.traces[number], sampling=request.sampling)]

    def stream(self, request):
        raise NotImplementedError

    def sample_all(self, requests):
        raise NotImplementedError

    async def aclose(self) -> None: ...


def said(answer: str | None, tokens: int = 3, logprob: float = -0.5, top: tuple[float, ...] = ()) -> Trace:
    """A trace with this answer (None: cut off), so many tokens, each of this log-probability."""
    finish = "length" if answer is None else "stop"
    return Trace(
        "hm",
        f"So it is \\boxed{{{answer}}}." if answer is not None else "So it",
        token_ids=tuple(range(tokens)),
        logprobs=(logprob,) * tokens,
        top_logprobs=(tuple(enumerate(top)),) * tokens if top else None,
        finish=finish,
    )


def outcome_of(strategy, engine: Scripted):
    return asyncio.run(strategy(engine.problem, engine))


def sampling(seed: int = 0) -> Sampling:
    return Sampling(seed=seed)
