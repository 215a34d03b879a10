"""A call of a tool, made within its time: whatever a tool does, what comes of it is a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinksmith.agent.contract import Intent, Result, Tool, ToolFault
from thinksmith.agent.within import within
from thinksmith.errors import UserError, one_line


async def intended(tool: Tool, arguments: Mapping[str, Any]) -> tuple[Intent | None, Result | None]:
    """What the call would do, if the tool says so; or the result with which it failed at that."""
    if tool.intend is None:
        return None, None
    try:
        return await within(tool.seconds, tool.intend(arguments)), None
    except Exception as error:
        return None, _failure(tool, error)


async def made(tool: Tool, arguments: Mapping[str, Any], intent: Intent | None) -> tuple[Result, bool]:
    """The result; and, where it is none, whether an effect may have been had all the same."""
    try:
        result = await within(tool.seconds, tool.call(arguments, intent))
    except ToolFault as error:  # it says so itself: nothing was done
        return _failure(tool, error), False
    except Exception as error:
        return _failure(tool, error), tool.kind != "read"
    if not isinstance(result, Result) or not isinstance(result.text, str):
        return Result(f"{tool.name} gave no text: its function is at fault", ok=False), tool.kind != "read"
    return result, tool.kind == "send" and not result.ok  # who was reached may have done something, and failed then


def _failure(tool: Tool, error: Exception) -> Result:
    if isinstance(error, TimeoutError):
        return Result(f"{tool.name} took longer than {tool.seconds:g} s and was stopped: ask for less", ok=False)
    if isinstance(error, ToolFault | UserError):
        return Result(f"{tool.name}: {str(error)[:2000]}", ok=False)
    return Result(f"{tool.name} failed: {type(error).__name__}: {one_line(error)}", ok=False)
