"""Engines that say what a test wants them to say, and tools that a test can look into."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from thinksmith.agent.contract import Decision, Intent, Kind, Result, Tool
from thinksmith.engines.contract import Delta, EngineInfo
from thinksmith.records import Request, Trace
from thinksmith.thinking import split

Reply = str | Callable[[Request], str]


class Scripted:
    """Fulfils the Engine contract: gives the replies one after the other, the last one again and again. A reply is the
    turn's text, thinking and all, or a function of the request. `asked` are the requests."""

    def __init__(self, *replies: Reply, context: int = 0, name: str = "scripted") -> None:
        self._replies, self._context, self._name = replies, context, name
        self.asked: list[Request] = []

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(self._name, context_length=self._context)

    @property
    def room(self) -> int:
        return 64

    async def sample(self, request: Request) -> list[Trace]:
        reply = self._replies[min(len(self.asked), len(self._replies) - 1)]
        self.asked.append(request)
        return [trace_of(reply if isinstance(reply, str) else reply(request), request)]

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        (trace,) = await self.sample(request)
        for part, text in (("thinking", trace.thinking), ("answer", trace.answer)):
            if text:
                yield Delta(part, text)  # type: ignore[arg-type]
        yield Delta("done", trace=trace)

    def sample_all(self, requests: Sequence[Request]) -> list[list[Trace]]:
        raise NotImplementedError

    async def aclose(self) -> None:
        pass


def trace_of(text: str, request: Request) -> Trace:
    """The text as the trace of a model that was asked so: a token for three characters."""
    parts = split(text)
    prompt = sum(len(message["content"]) for message in request.messages) // 3 + len(request.token_ids)
    return Trace(
        parts.thinking,
        parts.answer,
        parts.status,
        thinking_tokens=len(parts.thinking) // 3,
        answer_tokens=len(parts.answer) // 3,
        prompt_tokens=prompt,
        completion=text,
        model="scripted",
        sampling=request.sampling,
    )


def calls(name: str, thinking: str = "", **arguments: Any) -> str:
    """A turn that calls a tool, as Hermes writes it."""
    call = json.dumps({"name": name, "arguments": arguments})
    return (f"<think>\n{thinking}\n</think>\n\n" if thinking else "") + f"<tool_call>\n{call}\n</tool_call>"


def tool(
    name: str,
    function: Callable[..., str | Result],
    kind: Kind = "read",
    parameters: Mapping[str, Any] | None = None,
    **more: Any,
) -> Tool:
    """A tool around a plain function of its arguments; by default it takes any."""

    async def call(arguments: Mapping[str, Any], intent: Intent | None) -> Result:
        gave = function(**arguments)
        return gave if isinstance(gave, Result) else Result(gave)

    return Tool(name, f"the tool {name}", parameters or {"type": "object"}, call, kind, **more)


async def yes(tool: Tool, call: object, intent: Intent | None) -> Decision:
    return "once"


async def no(tool: Tool, call: object, intent: Intent | None) -> Decision:
    return "no"


def heard(request: Request) -> str:
    """The last message that a request holds."""
    return request.messages[-1]["content"]
