"""DeepConf: a vote weighted by the model's own confidence; traces that lose it are left out, or stopped early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError
from thinksmith.records import Problem, Sampling, Trace
from thinksmith.strategies.ballot import Ballot, count
from thinksmith.strategies.confidence import TOP, Kind, group_confidence, token_confidence, trace_confidence
from thinksmith.strategies.continuing import extend, has_ended, require_token_ids
from thinksmith.strategies.contract import Outcome, Strategy
from thinksmith.strategies.draws import draw, request_for, together
from thinksmith.strategies.scorers import Choice, with_top
from thinksmith.strategies.single import problem_seed
from thinksmith.strategies.vote import check_count, outcome
from thinksmith.verify.same import final


@dataclass(frozen=True, slots=True)
class _Rule:
    """What the options say; `first` 0 is offline."""

    n: int
    keep: float
    by: Kind
    window: int
    first: int
    consensus: float
    step: int
    chunk: int


def confident(
    sampling: Sampling,
    *,
    n: int = 16,
    keep: float = 0.5,
    by: Kind = "lowest",
    window: int = 64,
    first: int = 0,
    consensus: float = 0.95,
    step: int = 4,
    chunk: int = 32,
    sample: int = 0,
) -> Strategy:
    """DeepConf (Fu et al. 2025, arXiv:2508.15260): vote weighted by confidence, without the least confident traces.

    A token's confidence is minus the mean log-probability of the 20 likeliest tokens, a group's its mean over a sliding
    `window` of tokens, a trace's that of its `lowest` group (or the mean of the `bottom` tenth of groups, or of the
    last `window` tokens, its `tail`). The paper's window is 2048, for traces of tens of thousands of tokens; take about
    a tenth of a trace.

    Offline (`first` 0): n traces; the `keep` most confident share of those that give an answer votes, each with its
    confidence. Online: `first` traces are drawn whole, and the confidence of their lowest group that the share `keep`
    of them reaches is the bar. Of further traces, `step` at a time, each is stopped as soon as a group falls below the
    bar (looked at after every `chunk` tokens, on an engine that takes token ids), and it ends when the leader has the
    share `consensus` of the weight, or at n. Those below the bar do not vote; where none is left, all do.

    Cost: offline n draws; online `first` draws and of the others what they had come to. Helps where a model is unsure
    where it is wrong; on short traces of one model the confidences lie close together, and it is little more than a
    vote. Notes: `votes`, `abstained`, `kept` (how many voted), `stopped`, `bar`.
    """
    check_count(n, "confident")
    check_count(window, "confident", "window")
    check_count(step, "confident", "step")
    check_count(chunk, "confident", "chunk")
    if not 0 < keep <= 1 or not 0 < consensus <= 1:
        raise UserError("confident: keep and consensus are shares above 0 and at most 1")
    if not 0 <= first <= n:
        raise UserError(f"confident: first={first} is how many of the n={n} draws set the bar, or 0 for all at once")
    if first and by != "lowest":
        raise UserError("confident: a trace is stopped early by its lowest group: leave by out, or first")
    rule = _Rule(n, keep, by, window, first, consensus, step, chunk)
    asked = replace(sampling, top_logprobs=max(sampling.top_logprobs, TOP))

    async def strategy(problem: Problem, engine: Engine) -> Outcome:
        Choice("lowest_group").at_work(engine, None)  # are there log-probabilities at all?
        if rule.first:
            require_token_ids(engine, "confident:first=N")
            return await _online(problem, engine, asked, rule, sample)
        traces = await draw(problem, engine, asked, range(sample * n, sample * n + n))
        return await _offline(problem, engine, traces, rule)

    return strategy


async def _offline(problem: Problem, engine: Engine, traces: Sequence[Trace], rule: _Rule) -> Outcome:
    """The most confident of those that answer vote."""
    scores = [_confidence(trace, engine, rule) for trace in traces]
    able = [at for at, trace in enumerate(traces) if final(problem, trace) is not None]
    kept = sorted(able, key=lambda at: -scores[at])[: max(1, round(rule.keep * len(able)))]
    bar = min((scores[at] for at in kept), default=0.0)
    return await _outcome(problem, traces, scores, set(kept), bar)


async def _online(problem: Problem, engine: Engine, sampling: Sampling, rule: _Rule, sample: int) -> Outcome:
    """Draws until the leader's share is large enough; those that fall below the bar are stopped."""
    start = sample * rule.n
    traces = await draw(problem, engine, sampling, range(start, start + rule.first))
    scores = [_confidence(trace, engine, rule) for trace in traces]
    bar = float(np.quantile(scores, 1 - rule.keep))
    stopped, why = 0, f"all {rule.n} draws are made"
    while True:
        ballot = await count(problem, *_above(traces, scores, bar))
        if ballot.share >= rule.consensus:
            why = f"{ballot.share:.0%} of the weight agree after {len(traces)} of {rule.n} draws"
        if ballot.share >= rule.consensus or len(traces) >= rule.n:
            kept = {at for at, score in enumerate(scores) if score >= bar}
            return await _outcome(problem, traces, scores, kept, bar, why, stopped)
        numbers = range(start + len(traces), min(start + rule.n, start + len(traces) + rule.step))
        work = (_watched(problem, engine, sampling, number, rule, bar) for number in numbers)
        for trace, weak in await together(work):
            traces.append(trace)
            # A stopped trace is as weak as the group that stopped it, and so below the bar.
            scores.append(_confidence(trace, engine, rule))
            stopped += weak


async def _watched(
    problem: Problem, engine: Engine, sampling: Sampling, number: int, rule: _Rule, bar: float
) -> tuple[Trace, bool]:
    """Draw `number`, sampled in chunks, and whether it was stopped because a whole group fell below the bar."""
    request = request_for(problem, replace(sampling, max_tokens=min(rule.chunk, sampling.max_tokens)), number)
    (trace,) = await engine.sample(request)
    seed = request.sampling.seed
    confidence_T, seen = np.zeros(0), 0
    for piece in range(1, sampling.max_tokens + 1):
        new = token_confidence(_since(with_top(trace, engine), seen)) if trace.finish != "error" else np.zeros(0)
        confidence_T, seen = np.concatenate((confidence_T, new)), len(trace.token_ids)
        fresh = confidence_T[max(0, len(confidence_T) - len(new) - rule.window + 1) :]  # windows with a new token
        if len(fresh) >= rule.window and group_confidence(fresh, rule.window).min() < bar:
            return _named(trace, sampling, seed), not has_ended(engine, trace)
        left = sampling.max_tokens - trace.tokens
        if left < 1 or has_ended(engine, trace):
            break
        rest = replace(sampling, max_tokens=min(rule.chunk, left))
        trace = await extend(engine, trace, rest, seed=problem_seed(seed, problem.id, piece))
    return _named(trace, sampling, seed), False


def _since(trace: Trace, seen: int) -> Trace:
    """The log-probabilities of the tokens from number `seen` on."""
    top = trace.top_logprobs[seen:] if trace.top_logprobs else ()
    return replace(trace, top_logprobs=top, forced=tuple(at - seen for at in trace.forced if at >= seen))


def _confidence(trace: Trace, engine: Engine, rule: _Rule) -> float:
    return trace_confidence(with_top(trace, engine), rule.by, rule.window) if trace.finish != "error" else 0.0


def _named(trace: Trace, sampling: Sampling, seed: int) -> Trace:
    """With the sampling of the whole and not of its last chunk."""
    return replace(trace, sampling=replace(sampling, seed=seed))


def _above(traces: Sequence[Trace], scores: Sequence[float], bar: float) -> tuple[list[Trace], list[float]]:
    kept = [at for at, score in enumerate(scores) if score >= bar]
    return [traces[at] for at in kept], [scores[at] for at in kept]


async def _outcome(
    problem: Problem,
    traces: Sequence[Trace],
    scores: Sequence[float],
    kept: set[int],
    bar: float,
    why: str = "",
    stopped: int = 0,
) -> Outcome:
    """The vote of those kept; of all where none of these gives an answer."""
    ballot = Ballot(problem)
    for at in sorted(kept):
        await ballot.add(traces[at], scores[at])
    if not ballot.classes:
        ballot = await count(problem, traces, scores)
    voted = sum(each.count for each in ballot.classes)
    told = why or f"the {voted} most confident of {len(traces)} voted"
    whole = Ballot(problem, ballot.classes, len(traces) - voted, list(traces))
    made = outcome(whole, told)
    return replace(made, notes={**made.notes, "kept": voted, "stopped": stopped, "bar": round(bar, 6)})
