"""`/v1/completions`: raw text goes on as it stands, tags of thinking included; and prompts are scored (`echo`).

One body may hold many prompts, so this dialect asks for several completions where the others ask for one: `read` gives
`Wanted`, and `answer` and `frames` ask for all of it at once. Choice number prompt * n + i is sample i of a prompt.
Source: platform.openai.com/docs/api-reference/completions (legacy); lm-eval's local-completions reads `echo` with
`logprobs`: `token_logprobs` and `top_logprobs` of the prompt's tokens, of which the first has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from thinksmith.records import Trace
from thinksmith.serve.asked import Asked, Piece, Refusal
from thinksmith.serve.dialect import About, Begun, Stamp
from thinksmith.serve.fields import NO_LEVER, Fields
from thinksmith.serve.openai.chat import sampling_of
from thinksmith.serve.openai.errors import error
from thinksmith.serve.openai.legacy_logprobs import Scored, Told, of_prompt, of_trace, together

__all__ = ["Scored", "Wanted", "answer", "error", "frames", "read"]

PROMPTS = 256  # of one request
COMPLETIONS = 512  # of one request, over all prompts
USUAL_TOKENS = 16  # OpenAI's, where the client says nothing

Run = Callable[[Asked], AsyncIterator[Piece]]
Score = Callable[[Asked, int], Awaitable[Scored]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a body asks for: an `Asked` for each prompt, each of `best_of` samples: the likeliest `n` are told.

    `echo` puts the prompt before each completion, and `logprobs` tells so many of the likeliest tokens at each place
    (None: none, and not the token's own either). `nothing`: no token is asked for, only the prompt is echoed.
    """

    asked: tuple[Asked, ...]
    n: int = 1
    echo: bool = False
    logprobs: int | None = None
    nothing: bool = False
    usage: bool = False

    @property
    def model(self) -> str:
        return self.asked[0].model

    @property
    def stream(self) -> bool:
        return self.asked[0].stream

    @property
    def scores(self) -> bool:
        """Are the prompts' own tokens to be scored?"""
        return self.echo and self.logprobs is not None


def read(body: Mapping[str, Any]) -> Wanted:
    """What a body asks for. Raises Refusal."""
    fields = Fields(body)
    fields.off("presence_penalty", "frequency_penalty", "logit_bias", why=NO_LEVER)
    fields.off("suffix", why="text is only put before, not around")
    n, echo, stream = fields.whole("n", 1, 128) or 1, bool(fields.flag("echo")), bool(fields.flag("stream"))
    best_of = fields.whole("best_of", 1, 128) or n
    if best_of < n:
        raise fields.refuse("best_of", f"it must be n={n} or more")
    if best_of > n and stream:
        raise fields.refuse("best_of", "which are best is known at the end: ask without stream")
    logprobs, tokens = fields.whole("logprobs", 0, 20), fields.whole("max_tokens", 0)
    options = fields.table("stream_options")
    sampling = sampling_of(fields)
    if logprobs:
        sampling["top_logprobs"] = logprobs
    plain = Asked(
        model=fields.text("model", required=True) or "",
        n=best_of,
        stream=stream,
        sampling=sampling,
        max_tokens=(USUAL_TOKENS if tokens is None else tokens) or None,
        logprobs=logprobs is not None,
    )
    asked = tuple(replace(plain, **prompt) for prompt in _prompts(fields))
    if len(asked) * best_of > COMPLETIONS:
        raise fields.refuse("prompt", f"prompts times completions: at most {COMPLETIONS}, not {len(asked) * best_of}")
    return Wanted(asked, n, echo, logprobs, tokens == 0, bool(options and options.flag("include_usage")))


def _prompts(fields: Fields) -> list[dict[str, Any]]:
    """A text, texts, ids, or lists of ids: as the fields of an `Asked`, one a prompt."""
    value = fields.raw("prompt")
    wanted = "must be a text, an array of texts, token ids, or an array of arrays of token ids"
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise fields.wrong("prompt", wanted)
    if value and all(type(each) in (int, float) for each in value):
        return [{"token_ids": fields.ids("prompt")}]
    if len(value) > PROMPTS:
        raise fields.refuse("prompt", f"at most {PROMPTS} prompts, not {len(value)}")
    if not value or not all(value):
        raise fields.refuse("prompt", "there is an empty one; a model needs at least one token")
    if all(isinstance(each, str) for each in value):
        return [{"text": each} for each in value]
    if all(isinstance(each, list) for each in value):
        return [{"token_ids": Fields({"prompt": each}).ids("prompt")} for each in value]
    raise fields.wrong("prompt", wanted)


async def answer(wanted: Wanted, run: Run, score: Score, about: About, stamp: Stamp) -> dict[str, Any]:
    """The whole answer. `run` makes one prompt's completions, `score` gives a prompt's own log-probabilities."""
    _check(wanted, about)
    works = [asyncio.ensure_future(_one(wanted, at, run, score, about)) for at in range(len(wanted.asked))]
    try:
        found = await asyncio.gather(*works)
    finally:
        for work in works:
            work.cancel()
    choices = [choice for each, _ in found for choice in each]
    return {**_head(wanted, stamp), "choices": choices, "usage": _usage([counts for _, counts in found])}


async def _one(
    wanted: Wanted, at: int, run: Run, score: Score, about: About
) -> tuple[list[dict[str, Any]], tuple[int, int]]:
    """The choices of prompt number `at`; tokens of the prompt and of all that was sampled for it."""
    asked = wanted.asked[at]
    scored = await _scored(wanted, at, score)
    first = at * wanted.n
    if wanted.nothing:
        ids = scored.ids if scored else asked.token_ids
        choices = [_nothing(wanted, at, first + i, about, scored) for i in range(wanted.n)]
        return choices, (len(ids), 0)
    done = [piece async for piece in run(asked) if piece.part == "done" and piece.trace]
    counts = max((piece.trace.prompt_tokens for piece in done if piece.trace), default=0), sum(p.tokens for p in done)
    best = _best(sorted(done, key=lambda piece: piece.index), wanted.n)
    return [_choice(wanted, at, first + i, piece, about, scored) for i, piece in enumerate(best)], counts


async def _scored(wanted: Wanted, at: int, score: Score) -> Scored | None:
    return await score(wanted.asked[at], wanted.logprobs or 0) if wanted.scores else None


def _check(wanted: Wanted, about: About) -> None:
    """Raises Refusal for what this model's engine cannot tell."""
    if wanted.logprobs is not None and (about.decode is None or not about.logprobs):
        raise Refusal(f"logprobs: {about.name} tells none: leave it out", field="logprobs")
    if wanted.echo and about.decode is None and any(asked.token_ids for asked in wanted.asked):
        raise Refusal(f"echo: {about.name} cannot turn token ids into text: send the prompt as text", field="echo")
    if wanted.asked[0].n > wanted.n and not about.logprobs:
        raise Refusal(f"best_of: {about.name} tells no log-probabilities to choose by: leave it out", field="best_of")


def _best(done: Sequence[Piece], n: int) -> list[Piece]:
    """The `n` of the highest mean log-probability a token, likeliest first; all of them as they come where n are."""
    if len(done) <= n:
        return list(done)

    def mean(piece: Piece) -> float:
        values = piece.trace.logprobs if piece.trace else None
        return sum(values) / len(values) if values else float("-inf")

    return sorted(done, key=mean, reverse=True)[:n]


def _prompt_text(wanted: Wanted, at: int, about: About) -> str:
    asked = wanted.asked[at]
    if not wanted.echo:
        return ""
    return asked.text or (about.decode(asked.token_ids) if about.decode else "")


def _choice(wanted: Wanted, at: int, index: int, piece: Piece, about: About, scored: Scored | None) -> dict[str, Any]:
    assert piece.trace is not None
    prompt, text = _prompt_text(wanted, at, about), piece.trace.completion or piece.trace.answer
    logprobs = _logprobs(wanted, piece.trace, about, scored, len(prompt))
    return _entry(index, prompt + text, logprobs, _reason(piece.trace))


def _nothing(wanted: Wanted, at: int, index: int, about: About, scored: Scored | None) -> dict[str, Any]:
    """Of no tokens at all: what is echoed, and its scores."""
    logprobs = together(of_prompt(scored, about)) if wanted.scores and scored else None
    return _entry(index, _prompt_text(wanted, at, about), logprobs, "length")


def _logprobs(wanted: Wanted, trace: Trace, about: About, scored: Scored | None, begins: int) -> dict[str, Any] | None:
    """Of the prompt, where it is echoed, and of the completion; the text of the latter begins at `begins`."""
    if wanted.logprobs is None:
        return None
    told: list[Told] = [*(of_prompt(scored, about) if scored else ()), *of_trace(trace, about, begins)]
    return together(told)


def _entry(index: int, text: str, logprobs: dict[str, Any] | None, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}


def _reason(trace: Trace) -> str:
    return "stop" if trace.finish == "stop" else "length"


def _head(wanted: Wanted, stamp: Stamp) -> dict[str, Any]:
    return {"id": f"cmpl-{stamp.id}", "object": "text_completion", "created": stamp.created, "model": wanted.model}


def _usage(counts: Sequence[tuple[int, int]]) -> dict[str, int]:
    prompt, completion = (sum(each[part] for each in counts) for part in (0, 1))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def frames(
    wanted: Wanted, run: Run, score: Score, about: About, stamp: Stamp
) -> AsyncGenerator[list[dict[str, Any]]]:
    """The answer in chunks, all prompts at once. What breaks it is raised: a `Refusal` where the client can know."""
    _check(wanted, about)
    queue: asyncio.Queue[list[dict[str, Any]] | None] = asyncio.Queue()
    counts: list[tuple[int, int]] = []

    async def follow(at: int) -> None:
        counted = await _follow(
            wanted, at, run, score, about, lambda found: queue.put_nowait(_chunks(wanted, stamp, found))
        )
        counts.append(counted)

    async def all_of_them() -> None:
        try:
            await asyncio.gather(*works)
        finally:
            queue.put_nowait(None)

    works = [asyncio.ensure_future(follow(at)) for at in range(len(wanted.asked))]
    everything = asyncio.ensure_future(all_of_them())
    try:
        while (found := await queue.get()) is not None:
            yield found
        await everything
        if wanted.usage:
            yield [{**_head(wanted, stamp), "choices": [], "usage": _usage(counts)}]
    finally:
        for work in (*works, everything):
            work.cancel()
        for work in (*works, everything):
            with suppress(asyncio.CancelledError, Exception):
                await work


def _chunks(wanted: Wanted, stamp: Stamp, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**_head(wanted, stamp), "choices": [entry]} for entry in entries]


async def _follow(
    wanted: Wanted, at: int, run: Run, score: Score, about: About, tell: Callable[[list[dict[str, Any]]], None]
) -> tuple[int, int]:
    """Tells the completions of prompt number `at` as they come; see `_one`."""
    asked, first = wanted.asked[at], at * wanted.n
    scored = await _scored(wanted, at, score)
    if wanted.nothing:
        tell([_nothing(wanted, at, first + i, about, scored) for i in range(wanted.n)])
        return len(scored.ids if scored else asked.token_ids), 0
    prompt = _prompt_text(wanted, at, about)
    if wanted.echo:
        logprobs = together(of_prompt(scored, about)) if scored else None
        tell([_entry(first + i, prompt, logprobs, None) for i in range(wanted.n)])
    texts = [""] * wanted.n
    prompt_tokens = tokens = 0
    begun = Begun()
    async for piece in run(asked):
        begun.see(piece)
        if piece.part == "answer":
            texts[piece.index] += piece.text
            tell([_entry(first + piece.index, piece.text, None, None)])
        elif piece.part == "done" and (trace := piece.trace):
            prompt_tokens, tokens = max(prompt_tokens, trace.prompt_tokens), tokens + piece.tokens
            rest = trace.completion[len(texts[piece.index]) :]
            told = together(of_trace(trace, about, len(prompt))) if wanted.logprobs is not None else None
            tell([_entry(first + piece.index, rest, told, _reason(trace))])
    return prompt_tokens, tokens
