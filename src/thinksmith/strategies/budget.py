"""Budget forcing: think no longer than this, or no shorter."""

from __future__ import annotations

from dataclasses import replace

from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError
from thinksmith.records import Problem, Sampling, Trace
from thinksmith.strategies.continuing import cut, extend, require_token_ids, stopped_by_text
from thinksmith.strategies.contract import Outcome, Strategy
from thinksmith.strategies.draws import request_for, spent
from thinksmith.strategies.single import problem_seed
from thinksmith.thinking import tokens_before


def budget(
    sampling: Sampling,
    *,
    most: int | None = None,
    least: int = 0,
    wait: str = "Wait",
    waits: int = 0,
    closing: str = "",
    sample: int = 0,
) -> Strategy:
    """Budget forcing (s1, Muennighoff et al. 2025, arXiv:2501.19393): one trace whose thinking is bounded.

    `most`: after so many tokens the thinking is ended by force, with the sentence `closing` before the end tag, and the
    model answers. `least`: before so many tokens it may not end; where the model wants to, `wait` takes the place of
    the end tag. `waits`: the thinking is gone on with behind a `wait` so many times, whatever its length (an engine
    that takes token ids alone); the tokens of these waits have no log-probability, so the trace has none.

    Cost: one draw of at most `most` tokens of thinking and the answer; with `least` and `waits` as many more as it
    takes. A cap helps where a model loses itself in long thinking: it turns a truncated trace into an answer. A minimum
    helps models that stop early, up to a point; beyond it they go round in circles. Notes: `waits`, where forced.
    """
    _check(most, least, waits, wait)
    bounded = replace(
        sampling,
        max_thinking_tokens=most if most is not None else sampling.max_thinking_tokens,
        min_thinking_tokens=least or sampling.min_thinking_tokens,
        wait=wait,
        closing=closing or sampling.closing,
    )

    async def strategy(problem: Problem, engine: Engine) -> Outcome:
        if not engine.info.budget:
            raise UserError(f"{engine.info.name} cannot bound its thinking: use a model that runs in this process")
        if waits:
            trace, forced = await _with_waits(problem, engine, bounded, waits, sample)
            trace = replace(trace, sampling=request_for(problem, bounded, sample).sampling)  # not that of a piece
            return Outcome(trace.answer, (trace,), spent([trace]), trace.finish, trace, {"waits": forced})
        (trace,) = await engine.sample(request_for(problem, bounded, sample))
        return Outcome(trace.answer, (trace,), spent([trace]), trace.finish, trace)

    return strategy


async def _with_waits(
    problem: Problem, engine: Engine, sampling: Sampling, waits: int, sample: int
) -> tuple[Trace, int]:
    """A trace whose thinking was gone on with `waits` times where it wanted to end, and how often it did.

    The end tag is a stop text until then, so that no answer is sampled to be thrown away.
    """
    reader = require_token_ids(engine, "waits=N")
    tag = reader.tags.end
    held = replace(sampling, stop=(*sampling.stop, tag))
    request = request_for(problem, held, sample)
    (trace,) = await engine.sample(request)
    for done in range(waits + 1):
        end = _end_of_thinking(engine, trace, tag)
        if end is None:
            return trace, done  # the tokens ran out, or it does not think
        left = sampling.max_tokens - trace.tokens
        if left < 1:
            return replace(trace, finish="length"), done
        seed = problem_seed(request.sampling.seed, problem.id, done + 1)
        rest = replace(held, max_tokens=left)
        if done == waits or len(trace.token_ids) - 1 in trace.forced:  # enough, or its end was forced by `most`
            return await extend(engine, trace, replace(rest, stop=sampling.stop), seed=seed), done
        trace = cut(reader, trace, end)
        on = replace(rest, min_thinking_tokens=end + 1, wait="")  # behind the wait it says something at least
        trace = await extend(engine, trace, on, seed=seed, behind=sampling.wait)
    raise AssertionError("the last round returns")


def _end_of_thinking(engine: Engine, trace: Trace, tag: str) -> int | None:
    """How many tokens stand before the end tag that stopped the trace, or before the end of turn where the model ended
    it in the midst of its thinking; None if it has not come to an end of its thinking."""
    reader = require_token_ids(engine, "waits=N")
    if trace.finish != "stop" or trace.thinking_status != "truncated":
        return None
    if not stopped_by_text(engine, trace):
        return len(trace.token_ids) - 1
    if not reader.decode(trace.token_ids).startswith(trace.completion + tag):
        return None
    return tokens_before(reader.decode, trace.token_ids, len(trace.completion))


def _check(most: int | None, least: int, waits: int, wait: str) -> None:
    """UserError for bounds that bound nothing, or that cannot both hold."""
    if most is None and not least and not waits:
        raise UserError("budget needs a bound: write budget=512, budget:least=256 or budget:waits=2")
    if (most or 0) < 0 or least < 0 or waits < 0:
        raise UserError("budget: most, least and waits must be 0 or more")
    if most is not None and least > most:
        raise UserError(f"budget: the thinking cannot have at least {least} and at most {most} tokens")
    if waits and not wait:
        raise UserError("budget: waits needs a text to go on with: write wait=Wait")
    if waits and least:
        raise UserError("budget: give least or waits, not both")
