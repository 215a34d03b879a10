"""Engines that say what a test wants them to say, and tools that a test can look into."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from thinksmith.agent.contract import Decision, Intent, Kind, Result, Tool
from thinksmith.engines import scripted
from thinksmith.engines.scripted import trace_of
from thinksmith.records import Request

__all__ = ["Scripted", "calls", "heard", "no", "tool", "trace_of", "yes"]

Reply = str | Callable[[Request], str]


class Scripted(scripted.Scripted):
    """Gives the replies one after the other, the last one again and again. A reply is the turn's text, thinking and
    all, or a function of the request. `asked` are the requests."""

    def __init__(self, *replies: Reply, context: int = 0, name: str = "scripted") -> None:
        super().__init__(self._next, name, context=context)
        self._replies = replies
        self.asked: list[Request] = []

    def _next(self, request: Request) -> str:
        reply = self._replies[min(len(self.asked), len(self._replies) - 1)]
        self.asked.append(request)
        return reply if isinstance(reply, str) else reply(request)


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
