"""Scorers: what tells a good trace from a bad one, by name. Voting weighs by one, best-of-n chooses by one.

    verifier        is it right? For a benchmark that is an oracle: use it where the verifier is there in real use
    confidence      how likely the model's tokens were to itself: their geometric mean probability
    self_certainty  how far its distributions are from uniform
    lowest_group    DeepConf: the mean token confidence of the least confident window; also tail_group, bottom_group
    audit           the share of true equations; halved for a loop, and for thinking that ends in another answer
    judge           how many of three judgements of model=NAME say that it is correct; the gold answer is not shown
    reward          a reward model's score, from model=FOLDER
    recorded        what was recorded beside the traces that are replayed, in file=PATH

A scorer of your own is an async function `(problem, traces) -> list[float]`, named by import path: `my_module:scorer`.
Higher is better. Scorers see no gold answer, `verifier` apart.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from thinksmith.audit import audit
from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError
from thinksmith.problems.spec import did_you_mean
from thinksmith.records import Problem, Sampling, Trace
from thinksmith.strategies.confidence import (
    TOP,
    WINDOW,
    Kind,
    mean_probability,
    self_certainty,
    trace_confidence,
)
from thinksmith.strategies.ledger import Ledger
from thinksmith.strategies.names import Opener
from thinksmith.strategies.recorded_scores import recorded_scores
from thinksmith.strategies.reward_model import Steps, load_reward_model
from thinksmith.verify.model_judge import opinions
from thinksmith.verify.same import final
from thinksmith.verify.verdict import verify

Scorer = Callable[[Problem, Sequence[Trace]], Awaitable[list[float]]]
"""Scores of traces of one problem, in order."""

JUDGEMENTS = 3
_LONG = 20_000  # characters from which an audit would hold up the event loop


@dataclass(frozen=True, slots=True)
class _Known:
    """What a scorer needs: `top` log-probs of the draws, their `logprobs`, a `model`, a `file`."""

    top: int = 0
    logprobs: bool = False
    model: str = ""
    file: str = ""


SCORERS: dict[str, _Known] = {
    "verifier": _Known(),
    "confidence": _Known(logprobs=True),
    "self_certainty": _Known(logprobs=True, top=TOP),
    "lowest_group": _Known(logprobs=True, top=TOP),
    "tail_group": _Known(logprobs=True, top=TOP),
    "bottom_group": _Known(logprobs=True, top=TOP),
    "audit": _Known(),
    "judge": _Known(model="the model that judges"),
    "reward": _Known(model="the reward model's folder"),
    "recorded": _Known(file="the file with the scores"),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """A scorer by name with its options, as a strategy's user wrote it."""

    name: str
    model: str = ""
    file: str = ""
    steps: Steps = "min"

    def checked(self, strategy: str, option: str, also: Sequence[str] = ()) -> Choice:
        """Itself. UserError for an unknown name, and for a model or a file that is missing or that nobody asked for."""
        if ":" in self.name:
            _imported(self.name)
            return self
        if self.name not in SCORERS:
            names = [*also, *SCORERS]
            near = did_you_mean(self.name, names, otherwise=f"; known: {', '.join(names)}")
            raise UserError(f"{strategy}: {option}={self.name} is no scorer{near}")
        known = SCORERS[self.name]
        for key, given, needed in (("model", self.model, known.model), ("file", self.file, known.file)):
            if needed and not given:
                raise UserError(f"{strategy}: {option}={self.name} needs {needed}: add {key}=…")
            if given and not needed:
                raise UserError(f"{strategy}: {option}={self.name} takes no {key}: leave {key}={given} out")
        return self

    def asking(self, sampling: Sampling) -> Sampling:
        """The sampling that tells what the scorer looks at; the tokens stay the same."""
        known = SCORERS.get(self.name, _Known())
        return replace(sampling, top_logprobs=max(sampling.top_logprobs, known.top))

    def at_work(self, engine: Engine, open_engine: Opener | None) -> Scoring:
        """The scorer over this engine. UserError where the engine does not tell what it needs."""
        known = SCORERS.get(self.name, _Known())
        if known.logprobs and not engine.info.logprobs:
            raise UserError(
                f"{self.name} needs log-probabilities, and {engine.info.name} tells none: use a model in this process, "
                "an endpoint that has them, or another scorer"
            )
        if self.name == "judge":
            if open_engine is None:
                raise UserError("a judge needs an engine: give the strategy open=open_engine")
            judge = Ledger(open_engine(self.model))
            return Scoring(_judged_by(judge), judge)
        return Scoring(_scorer(self, engine))


@dataclass(frozen=True, slots=True)
class Scoring:
    """A scorer, and the ledger of the model that it asks, where it asks one."""

    score: Scorer
    judge: Ledger | None = None

    async def of(self, problem: Problem, traces: Sequence[Trace]) -> list[float | None]:
        """A score for each trace that names an answer, None for the others: nobody is asked about them."""
        able = [trace for trace in traces if final(problem, trace) is not None]
        scores = iter(await self.score(problem, able) if able else ())
        named = {id(trace) for trace in able}
        return [next(scores) if id(trace) in named else None for trace in traces]

    @property
    def tokens(self) -> int:
        """Tokens that were sampled for judging."""
        return self.judge.tokens if self.judge else 0


def chosen_scorer(choice: Choice, engine: Engine, open_engine: Opener | None) -> Scorer:
    """The scorer alone, for callers who keep no ledger of a judge. UserError as `Choice.at_work`."""
    return choice.at_work(engine, open_engine).score


def _scorer(choice: Choice, engine: Engine) -> Scorer:
    if ":" in choice.name:
        return _imported(choice.name)
    if choice.name == "verifier":
        return verified
    if choice.name == "audit":
        return audited
    if choice.name == "recorded":
        return recorded_scores(choice.file)
    if choice.name == "reward":
        return _rewarded(choice)
    if choice.name == "confidence":
        return _each(mean_probability)
    if choice.name == "self_certainty":
        return _each(lambda trace: self_certainty(with_top(trace, engine), engine.info.vocabulary))
    kind: Kind = {"lowest_group": "lowest", "tail_group": "tail", "bottom_group": "bottom"}[choice.name]  # type: ignore[assignment]
    return _each(lambda trace: trace_confidence(with_top(trace, engine), kind, WINDOW))


async def verified(problem: Problem, traces: Sequence[Trace]) -> list[float]:
    """The verifier's score, 1 for right. It looks at the gold answer."""
    verdicts = await asyncio.gather(*(asyncio.to_thread(verify, problem, trace) for trace in traces))
    return [verdict.score for verdict in verdicts]


async def audited(problem: Problem, traces: Sequence[Trace]) -> list[float]:
    """What `audit_score` says; in a thread where it takes long."""
    if sum(len(trace.thinking) + len(trace.answer) for trace in traces) < _LONG:
        return [audit_score(trace) for trace in traces]
    return await asyncio.to_thread(lambda: [audit_score(trace) for trace in traces])


def audit_score(trace: Trace) -> float:
    """The share of the trace's equations that are true, 0..1; 1/2 without any, for then nothing is known. Halved where
    it goes round in a loop, and where the thinking ends in another value than the answer."""
    found = audit(trace)
    share = 0.5 if found.share_true is None else found.share_true
    return share * (0.5 if found.loop else 1.0) * (0.5 if found.disagreement else 1.0)


def _judged_by(judge: Ledger) -> Scorer:
    """The share of `JUDGEMENTS` opinions that say `correct`; a half where there is none at all."""

    async def score(problem: Problem, traces: Sequence[Trace]) -> list[float]:
        blind = replace(problem, answer=None)
        asked = [opinions(blind, trace, judge.sample, n=JUDGEMENTS) for trace in traces]
        return [sum(votes) / len(votes) if votes else 0.5 for votes, _, _ in await asyncio.gather(*asked)]

    return score


def _rewarded(choice: Choice) -> Scorer:
    async def score(problem: Problem, traces: Sequence[Trace]) -> list[float]:
        def all_scores() -> list[float]:
            model = load_reward_model(choice.model)
            return [model.score(problem, trace, choice.steps) for trace in traces]

        return await asyncio.to_thread(all_scores)

    return score


def _each(rate: Callable[[Trace], float]) -> Scorer:
    async def score(problem: Problem, traces: Sequence[Trace]) -> list[float]:
        return [rate(trace) for trace in traces]

    return score


def with_top(trace: Trace, engine: Engine) -> Trace:
    """The trace. UserError where its engine did not tell the likeliest tokens."""
    if trace.top_logprobs is None:
        raise UserError(
            f"{engine.info.name} does not tell the likeliest tokens (top_logprobs), which this score needs: use "
            "confidence instead, or a model in this process"
        )
    return trace


def _imported(name: str) -> Scorer:
    module, _, attribute = name.partition(":")
    try:
        found: Scorer = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"no scorer {name!r} can be imported ({error}): is its folder on PYTHONPATH?") from error
    return found
