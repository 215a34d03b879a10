"""How good a step is: the scores that search over steps is led by.

A score of `audit`, `confidence` and `self` lies in 0..1. Some scorers of whole traces (`thinksmith.strategies.scorers`)
may be shown the path so far: a `reward` model, above all one of processes, which scores the last step, and those that
read how sure the model was. So may a scorer of your own (`my_module:scorer`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from math import exp, isfinite

from thinksmith.audit import find_equations, find_loop
from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError
from thinksmith.records import Message, Problem, Request, Sampling
from thinksmith.strategies.names import Opener
from thinksmith.strategies.scorers import SCORERS, Choice
from thinksmith.strategies.single import problem_seed
from thinksmith.strategies.steps import Path

StepScorer = Callable[[Problem, Sequence[Path]], Awaitable[list[float]]]
"""A score for the last step of each path; the higher the better."""

OWN = ("audit", "confidence", "self")
_WHOLE_TRACES_ONLY = ("verifier", "judge", "recorded")
"""Scorers that have nothing to say of a beginning."""

ASK = """{problem}

Somebody has begun to solve this:

{steps}

Is the last step right, and does it lead to the solution? Answer with one word, yes or no."""

_YES_OR_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_SHOWN = 6000
"""Characters of a path that a model is shown when it judges itself: its end."""


@dataclass(frozen=True, slots=True)
class StepChoice:
    """What steps are scored by, as the options of a strategy name it."""

    by: str
    model: str = ""
    file: str = ""

    def checked(self, name: str) -> StepChoice:
        """UserError for a name that is none, and for options that it does not take; `name` is the strategy."""
        if self.by in OWN and (self.model or self.file):
            raise UserError(f"{name} by={self.by} takes neither model nor file: leave them out, or name another scorer")
        if self.by in _WHOLE_TRACES_ONLY:
            able = [*OWN, *(each for each in SCORERS if each not in (*OWN, *_WHOLE_TRACES_ONLY))]
            raise UserError(f"{name}: by={self.by} judges whole traces, and steps need one of {', '.join(able)}")
        if self.by not in OWN:
            self._of_traces.checked(name, "by", also=OWN)
        return self

    @property
    def _of_traces(self) -> Choice:
        return Choice(self.by, self.model, self.file, "last")

    def asking(self, sampling: Sampling) -> Sampling:
        """The sampling, with what the scorer needs to be told of each token."""
        return sampling if self.by in OWN else self._of_traces.asking(sampling)

    def scorer(self, engine: Engine, sampling: Sampling, open_engine: Opener | None) -> StepScorer:
        """The scorer; what it asks of the model at hand goes to `engine`."""
        if self.by == "self":
            return by_itself(engine, sampling)
        if self.by in OWN:
            return by_audit if self.by == "audit" else by_confidence
        whole = self._of_traces.at_work(engine, open_engine).score

        async def score(problem: Problem, paths: Sequence[Path]) -> list[float]:
            return await whole(problem, [path.trace for path in paths])

        return score


async def by_audit(problem: Problem, paths: Sequence[Path]) -> list[float]:
    """The share of the equations so far that are true; 1/2 without any, for then nothing is known; 0 in a loop."""
    return [audited(_text(path)) for path in paths]


def audited(text: str) -> float:
    """The score of `by_audit` for a text."""
    if find_loop(text):
        return 0.0
    equations = find_equations(text)
    return sum(equation.true for equation in equations) / len(equations) if equations else 0.5


async def by_confidence(problem: Problem, paths: Sequence[Path]) -> list[float]:
    """exp(mean log-prob) of the tokens of the last step, less those that were forced. UserError without log-probs."""
    scores = []
    for path in paths:
        if path.trace.logprobs is None:
            raise UserError(
                "by=confidence needs log-probabilities, and the engine gave none: choose by=audit or by=self"
            )
        forced = set(path.trace.forced)
        own = [path.trace.logprobs[at] for at in range(path.start, len(path.trace.logprobs)) if at not in forced]
        scores.append(exp(sum(own) / len(own)) if own else 0.0)
    return scores


def by_itself(engine: Engine, sampling: Sampling) -> StepScorer:
    """The model is asked whether the step is right (Xie et al. 2023, arXiv:2305.00633): 1 for yes, 0 for no, 1/2 for
    neither. Each question is a request to `engine`, with at most the tokens of `sampling`."""

    async def score(problem: Problem, paths: Sequence[Path]) -> list[float]:
        return list(await asyncio.gather(*(_yes(problem, path, engine, sampling) for path in paths)))

    return score


async def _yes(problem: Problem, path: Path, engine: Engine, sampling: Sampling) -> float:
    steps = _text(path)
    asked = Message(role="user", content=ASK.format(problem=problem.text, steps=steps[-_SHOWN:]))
    seeded = replace(sampling, seed=problem_seed(sampling.seed, f"{problem.id}\0{steps}", 0))
    (trace,) = await engine.sample(Request(messages=(asked,), sampling=seeded))
    said = _YES_OR_NO.findall(trace.answer)
    return 0.5 if not said else float(said[-1].lower() == "yes")


def finite(scores: Sequence[float]) -> list[float]:
    """What is no number is the worst there is."""
    return [score if isfinite(score) else float("-inf") for score in scores]


def _text(path: Path) -> str:
    return path.trace.thinking or path.trace.answer
