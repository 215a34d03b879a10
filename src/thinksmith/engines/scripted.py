"""An engine that says what a function of the request says: for oracles, trials and tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from thinksmith.engines.contract import Delta, EngineInfo
from thinksmith.records import Request, Trace
from thinksmith.thinking import split

CHARACTERS_A_TOKEN = 3
ROOM = 64


class Scripted:
    """Fulfils `thinksmith.engines.contract.Engine`. `reply` gives the assistant's turn as text, thinking and all; a
    token is counted for three characters. `context` in tokens, 0 where it has no end."""

    def __init__(self, reply: Callable[[Request], str], name: str = "scripted", *, context: int = 0) -> None:
        self._reply, self._info = reply, EngineInfo(name, context_length=context)

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def room(self) -> int:
        return ROOM

    async def sample(self, request: Request) -> list[Trace]:
        return [trace_of(self._reply(request), request, self._info.name) for _ in range(request.n)]

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        (trace,) = await self.sample(request)
        if trace.thinking:
            yield Delta("thinking", trace.thinking)
        if trace.answer:
            yield Delta("answer", trace.answer)
        yield Delta("done", trace=trace)

    def sample_all(self, requests: Sequence[Request]) -> list[list[Trace]]:
        return [asyncio.run(self.sample(request)) for request in requests]

    async def aclose(self) -> None:
        """It holds nothing."""


def trace_of(text: str, request: Request, model: str = "scripted") -> Trace:
    """The text as the trace of a model that was asked so."""
    parts = split(text)
    heard = sum(len(message["content"]) for message in request.messages)
    return Trace(
        parts.thinking,
        parts.answer,
        parts.status,
        thinking_tokens=-(-len(parts.thinking) // CHARACTERS_A_TOKEN),
        answer_tokens=-(-len(parts.answer) // CHARACTERS_A_TOKEN),
        prompt_tokens=heard // CHARACTERS_A_TOKEN + len(request.token_ids),
        completion=text,
        model=model,
        sampling=request.sampling,
    )
