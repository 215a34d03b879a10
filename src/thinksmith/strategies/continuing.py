"""Going on with a trace: what search over steps, and stopping a weak trace early, are built from.

A trace is sampled in pieces, each a request of its own that begins with all token ids so far. Nothing is tokenised
again, and what the pieces are joined to is the record that one request would have made: text, thinking, status and
counts are read off the joined ids.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from thinksmith.engines.contract import Engine, Reads
from thinksmith.errors import UserError
from thinksmith.records import Request, Sampling, Trace
from thinksmith.thinking import Splitter, tokens_before

T = TypeVar("T")


def require_token_ids(engine: Engine, what: str) -> Reads:
    """The engine, as one that can go on with a trace. UserError, in which `what` is the strategy, where it cannot."""
    if not (engine.info.token_ids and isinstance(engine, Reads)):
        raise UserError(
            f"{what} goes on with traces token by token, and {engine.info.name} cannot: name a model that runs in this "
            "process (a folder or a hub id)"
        )
    return engine


def stopped_by_text(engine: Engine, trace: Trace) -> bool:
    """Did a stop text of the request end the trace, and not the model its turn? Its ids then hold the stop text, and
    `extend` goes on behind it."""
    if trace.finish != "stop" or not any(trace.sampling.stop):
        return False
    whole = require_token_ids(engine, "this strategy").decode(trace.token_ids)
    return whole.startswith(tuple(trace.completion + stop for stop in trace.sampling.stop if stop))


def has_ended(engine: Engine, trace: Trace) -> bool:
    """Is there nothing to go on with: the model has ended its turn, failed, or come to the end of its context?"""
    if trace.finish == "error" or not trace.token_ids:
        return True
    length = engine.info.context_length
    if 0 < length <= len(trace.prompt_ids) + len(trace.token_ids):
        return True
    return trace.finish == "stop" and not stopped_by_text(engine, trace)


async def extend(engine: Engine, trace: Trace, sampling: Sampling, *, seed: int, behind: str = "") -> Trace:
    """The trace and at most `sampling.max_tokens` tokens more, as one trace.

    `trace` was cut by length, by its budget or by a stop text (which is part of what is gone on with); one that has
    ended (`has_ended`) comes back as it is. `max_thinking_tokens` and `min_thinking_tokens` are of the whole trace, as
    if it were sampled in one go; `stop` texts are looked for in the new tokens alone. `seed` is that of this piece:
    give each its own, or the pieces draw the same random numbers.

    Token ids, log-probabilities and `forced` positions are joined; text, thinking, answer, status and counts are those
    of the joined ids; `finish` is the new piece's; `seconds` add up. A forced end of thinking or a `wait` that the cut
    fell into is taken back first, and comes again on top of `max_tokens`. Log-probabilities are None unless all pieces
    have them.

    `behind` is a text that is put behind the trace first, as forced tokens on top of `max_tokens`. Nobody tells their
    log-probabilities, so the joined trace has none.

    Raises UserError for an engine that takes no token ids.
    """
    reader = require_token_ids(engine, "this strategy")
    if has_ended(engine, trace):
        return trace
    before = len(trace.token_ids)
    trace = _without_half_forced(reader, trace)
    ids = trace.prompt_ids + trace.token_ids
    rest = replace(
        sampling,
        seed=seed,
        max_tokens=sampling.max_tokens + before - len(trace.token_ids),
        max_thinking_tokens=_less(sampling.max_thinking_tokens, trace.thinking_tokens),
        min_thinking_tokens=max(0, sampling.min_thinking_tokens - len(trace.token_ids)),
    )
    (more,) = await engine.sample(Request(token_ids=ids, prefill=behind, sampling=rest))
    if behind:
        trace = _with_forced(reader, trace, more.prompt_ids[len(ids) :])
    return join(reader, trace, more, replace(sampling, seed=trace.sampling.seed))


def join(reader: Reads, trace: Trace, more: Trace, sampling: Sampling) -> Trace:
    """One trace of two: `more` was sampled behind all ids of `trace`. Its `sampling` is what the record shall name, but
    for `max_tokens`, which is what both had together."""
    ids = trace.token_ids + more.token_ids
    shift = len(trace.token_ids)
    text = reader.decode(ids)
    # What of the new piece is no text: an end of turn, and a stop text with what came in the same token.
    lost = len(reader.decode(more.token_ids)) - len(more.completion)
    return replace(
        _read(reader, trace, ids, text[: len(text) - max(0, lost)]),
        logprobs=_joined(trace.logprobs, more.logprobs),
        top_logprobs=_joined(trace.top_logprobs, more.top_logprobs),
        finish=more.finish,
        sampling=replace(sampling, max_tokens=shift + more.sampling.max_tokens),
        seconds=trace.seconds + more.seconds,
        error=more.error,
        forced=trace.forced + tuple(shift + at for at in more.forced),
    )


def cut(reader: Reads, trace: Trace, tokens: int) -> Trace:
    """The trace's first `tokens` tokens, as a trace that was cut off there; it can be gone on with."""
    if tokens >= len(trace.token_ids):
        return trace
    ids = trace.token_ids[:tokens]
    return replace(
        _read(reader, trace, ids, reader.decode(ids)),
        logprobs=None if trace.logprobs is None else trace.logprobs[:tokens],
        top_logprobs=None if trace.top_logprobs is None else trace.top_logprobs[:tokens],
        finish="length",
        sampling=replace(trace.sampling, max_tokens=max(1, tokens)),
        error="",
        forced=tuple(at for at in trace.forced if at < tokens),
    )


def _read(reader: Reads, trace: Trace, ids: tuple[int, ...], completion: str) -> Trace:
    """The trace with these ids and this text in the place of its own."""
    splitter = Splitter(reader.tags)
    splitter.feed(trace.opened)
    splitter.feed(completion)
    splitter.finish()
    thinking_tokens = len(ids)
    if splitter.answer_from is not None:
        thinking_tokens = tokens_before(reader.decode, ids, splitter.answer_from - len(trace.opened))
    return replace(
        trace,
        thinking=splitter.thinking,
        answer=splitter.answer,
        thinking_status=splitter.status,
        token_ids=ids,
        thinking_tokens=thinking_tokens,
        answer_tokens=len(ids) - thinking_tokens,
        completion=completion,
    )


def _with_forced(reader: Reads, trace: Trace, put: tuple[int, ...]) -> Trace:
    ids = trace.token_ids + put
    forced = trace.forced + tuple(range(len(trace.token_ids), len(ids)))
    longer = _read(reader, trace, ids, reader.decode(ids))
    return replace(longer, logprobs=None, top_logprobs=None, forced=forced)


def _without_half_forced(reader: Reads, trace: Trace) -> Trace:
    """The trace without the forced tokens at its end, where the cut fell into them: the engine puts them again whole.

    They were whole if the thinking is closed by them, or if they are the `wait` text.
    """
    end = len(trace.token_ids)
    while end and end - 1 in trace.forced:
        end -= 1
    run = trace.token_ids[end:]
    if not run or trace.thinking_status != "truncated" or reader.decode(run) == trace.sampling.wait:
        return trace
    return cut(reader, trace, end)


def _less(bound: int | None, done: int) -> int | None:
    return None if bound is None else max(0, bound - done)


def _joined(first: tuple[T, ...] | None, more: tuple[T, ...] | None) -> tuple[T, ...] | None:
    return None if first is None or more is None else (*first, *more)
