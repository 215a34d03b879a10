"""From what a client asked for to pieces of answers, by an engine or by a strategy over it.

Sample i of a request is the same, streamed or whole: `Request.first` numbers the samples of a stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import CancelledError as EngineCancelled
from contextlib import aclosing, suppress
from dataclasses import replace
from hashlib import sha256
from typing import Literal

from thinksmith.engines.around import Around
from thinksmith.engines.contract import Delta, Encodes, Engine
from thinksmith.engines.remote.wire.faults import Busy, Fault
from thinksmith.errors import UserError, one_line
from thinksmith.records import Message, Problem, Request, Trace
from thinksmith.serve.asked import Asked, Piece, Refusal
from thinksmith.serve.models import Base, Served
from thinksmith.serve.requests import request_of
from thinksmith.strategies.contract import Outcome
from thinksmith.thinking import THINK, Splitter
from thinksmith.verify.same import final

KIND = "math"  # the rules by which two answers are the same: numbers, formulas, else texts
_SHOWN = 60  # characters of a draw's answer in a line of progress

Keep = Callable[[Asked, Served, int, Trace, Outcome | None], None]
"""Is told of every trace that answered, as it was sampled."""


async def generate(served: Served, asked: Asked, keep: Keep | None = None) -> AsyncGenerator[Piece]:
    """Pieces of all completions as they come. Raises Refusal; closing it frees the engine's slots."""
    if served.strategy is None:
        request = request_of(served.base, asked)
        parts = [_streamed(served, asked, replace(request, n=1, first=at), keep) for at in range(asked.n)]
    else:
        _check_chat(served, asked)
        parts = [_by_strategy(served, asked, at, keep) for at in range(asked.n)]
    async with aclosing(parts[0] if len(parts) == 1 else _merged(parts)) as pieces:
        async for piece in pieces:
            yield piece


async def complete(served: Served, asked: Asked, keep: Keep | None = None) -> list[Piece]:
    """The `done` pieces, by index. Raises Refusal; cancelling it frees the engine's slots."""
    if served.strategy is not None:
        async with aclosing(generate(served, asked, keep)) as pieces:
            return sorted([each async for each in pieces if each.part == "done"], key=lambda each: each.index)
    traces = await served.base.engine.sample(request_of(served.base, asked))
    return [_done(served, asked, at, trace, keep) for at, trace in enumerate(traces)]


def refusal_of(error: Exception) -> Refusal | None:
    """What an exception of an engine's tells a client; None for a bug of ours, of which nothing is told."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Busy):
        return Refusal(f"the model's server is busy: {one_line(error)}", status=503, retry_after=int(error.after or 5))
    if isinstance(error, Fault):
        return Refusal(f"the model's server failed: {one_line(error)}", status=502)
    if isinstance(error, UserError):
        return Refusal(one_line(error))
    if isinstance(error, EngineCancelled):
        return Refusal("the model was stopped", status=503, retry_after=5)
    return None


def _check_chat(served: Served, asked: Asked) -> None:
    if not asked.messages:
        raise Refusal(f"{served.about.name} answers chats, not raw text: name {served.base.name}", field="model")


async def _streamed(served: Served, asked: Asked, request: Request, keep: Keep | None) -> AsyncGenerator[Piece]:
    index, raw = request.first, not asked.messages
    told, held = 0, not isinstance(served.base.engine, Encodes)  # those tell it as it stands (Request.plain)
    async with aclosing(_deltas(served.base.engine, request)) as deltas:
        async for delta in deltas:
            if delta.part == "done":
                assert delta.trace is not None, "the last delta has the trace"
                done = _done(served, asked, index, delta.trace, keep)
                if raw and done.trace and len(done.trace.answer) > told:
                    yield Piece(index, "answer", done.trace.answer[told:])
                yield done
            elif not raw or delta.part == "reset":
                told = 0
                yield Piece(index, delta.part, delta.text)
            elif not held:  # all of raw text is answer; where deltas have no tags, it is told at the end
                told += len(delta.text)
                yield Piece(index, "answer", delta.text)


async def _deltas(engine: Engine, request: Request) -> AsyncGenerator[Delta]:
    """The engine's stream, closed for sure."""
    stream = engine.stream(request)
    try:
        async for delta in stream:
            yield delta
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


async def _merged(parts: Sequence[AsyncGenerator[Piece]]) -> AsyncGenerator[Piece]:
    """Several at once, in the order in which pieces come. If one raises, the others are closed."""
    found: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()

    async def pump(part: AsyncGenerator[Piece]) -> None:
        try:
            async with aclosing(part) as pieces:
                async for piece in pieces:
                    found.put_nowait(piece)
            found.put_nowait(None)
        except Exception as error:
            found.put_nowait(error)

    tasks = [asyncio.create_task(pump(part)) for part in parts]
    try:
        left = len(tasks)
        while left:
            piece = await found.get()
            if isinstance(piece, Exception):
                raise piece
            if piece is None:
                left -= 1
            else:
                yield piece
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _done(
    served: Served, asked: Asked, index: int, trace: Trace, keep: Keep | None, outcome: Outcome | None = None
) -> Piece:
    """The last piece of a completion. Raises Refusal for a trace that failed."""
    if trace.finish == "error":
        raise _failed(served.base, trace)
    if keep is not None:
        keep(asked, served, index, trace, outcome)
    tokens = outcome.tokens if outcome else trace.tokens
    return Piece(index, "done", trace=_told(served.base, asked, trace), outcome=outcome, tokens=tokens)


def _failed(base: Base, trace: Trace) -> Refusal:
    """A prompt that leaves no room is the client's affair, all else the model's."""
    if 0 < base.info.context_length <= trace.prompt_tokens and not trace.tokens:
        return Refusal(trace.error, field="messages")
    return Refusal(f"the model failed: {' '.join(trace.error.split())[:200]}", status=500)


def _told(base: Base, asked: Asked, trace: Trace) -> Trace:
    """The trace as the client sees it: raw text is all answer, and what the client put there itself is left out."""
    if not asked.messages:
        return replace(trace, thinking="", answer=trace.completion, thinking_tokens=0, answer_tokens=trace.tokens)
    if not (asked.prefill or asked.continues):
        return trace
    splitter = Splitter(base.about.tags or THINK)
    splitter.feed(trace.opened)
    pieces = splitter.feed(trace.completion) + splitter.finish()
    parts = {part: "".join(each.text for each in pieces if each.part == part) for part in ("thinking", "answer")}
    return replace(trace, thinking=parts["thinking"], answer=parts["answer"])


# ---- strategies


async def _by_strategy(served: Served, asked: Asked, index: int, keep: Keep | None) -> AsyncGenerator[Piece]:
    """A strategy's progress while it works, a line a draw, then the trace that it chose. One that makes a single draw
    is streamed as it is."""
    assert served.strategy is not None
    found: asyncio.Queue[Piece | None] = asyncio.Queue()
    request = replace(request_of(served.base, asked), n=1)
    problem = problem_of(request.messages)
    live = served.strategy.name in ("single", "budget") and not served.strategy.options.get("waits")
    engine = _Telling(served.base.engine, problem, request, index, found.put_nowait, live)
    run = served.strategy.make(request.sampling, index, served.opener)
    task = asyncio.ensure_future(run(problem, engine))
    task.add_done_callback(lambda _: found.put_nowait(None))
    said = {"thinking": "", "answer": ""}
    try:
        while (piece := await found.get()) is not None:
            if piece.part == "reset":
                said = {"thinking": "", "answer": ""}
            elif piece.part in said:
                said[piece.part] += piece.text
            yield piece
        outcome = await task
        done = _done(served, asked, index, outcome.chosen, keep, outcome)
        if not live:
            yield Piece(index, "progress", f"{outcome.why}\n\n")
        for piece in _rest(done, said):
            yield piece
    finally:
        task.cancel()
        with suppress(Exception, asyncio.CancelledError):
            await asyncio.gather(task, return_exceptions=True)


def _rest(done: Piece, said: dict[str, str]) -> list[Piece]:
    """What of the answer was not told yet, and its end."""
    assert done.trace is not None
    texts = {"thinking": done.trace.thinking, "answer": done.trace.answer}
    pieces = []
    if not all(texts[part].startswith(said[part]) for part in said):
        pieces.append(Piece(done.index, "reset"))
        said = {"thinking": "", "answer": ""}
    parts: tuple[Literal["thinking", "answer"], ...] = ("thinking", "answer")
    rest = (Piece(done.index, part, texts[part][len(said[part]) :]) for part in parts)
    return [*pieces, *(piece for piece in rest if piece.text), done]


def problem_of(messages: Sequence[Message]) -> Problem:
    """A question as a problem: its id tells the conversation, so the same one has the same draws under a seed."""
    text = "\n".join(f"{message['role']}: {message['content']}" for message in messages)
    return Problem(f"serve/{sha256(text.encode(errors='replace')).hexdigest()[:12]}", tuple(messages), kind=KIND)


class _Telling(Around):
    """An engine that tells of every trace as it comes. What a strategy asks of the conversation itself has the
    client's tools, schema and prefill, of which strategies know nothing."""

    def __init__(
        self,
        engine: Engine,
        problem: Problem,
        request: Request,
        index: int,
        tell: Callable[[Piece], None],
        live: bool,
    ) -> None:
        super().__init__(engine)
        self._problem, self._request = problem, request
        self._index, self._tell, self._live = index, tell, live
        self._drawn = 0

    async def sample(self, request: Request) -> list[Trace]:
        request = self._with_the_clients(request)
        if self._live and request.n == 1:
            traces = [await self._followed(request)]
        else:
            traces = await self._engine.sample(request)
        if not self._live:
            for trace in traces:
                self._drawn += 1
                self._tell(Piece(self._index, "progress", f"{self._drawn}: {self._line(trace)}\n"))
        return traces

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        async with aclosing(_deltas(self._engine, self._with_the_clients(request))) as deltas:
            async for delta in deltas:
                yield delta

    def sample_all(self, requests: Sequence[Request]) -> list[list[Trace]]:
        return self._engine.sample_all([self._with_the_clients(request) for request in requests])

    async def aclose(self) -> None:
        """The engine is others' too."""

    async def _followed(self, request: Request) -> Trace:
        async with aclosing(_deltas(self._engine, request)) as deltas:
            async for delta in deltas:
                if delta.part == "done":
                    assert delta.trace is not None
                    return delta.trace
                self._tell(Piece(self._index, delta.part, delta.text))
        raise AssertionError("the last delta has the trace")

    def _with_the_clients(self, request: Request) -> Request:
        own = self._request
        if request.messages != own.messages or request.prefill:
            return request
        return replace(request, prefill=own.prefill, tools=own.tools, tool_choice=own.tool_choice, schema=own.schema)

    def _line(self, trace: Trace) -> str:
        answer = final(self._problem, trace)
        if answer is None:
            return f"failed ({trace.finish})" if trace.finish == "error" else f"no answer ({trace.tokens} tokens)"
        line = " ".join(answer.split())
        return f"{line if len(line) <= _SHOWN else line[: _SHOWN - 1] + '…'} ({trace.tokens} tokens)"
