"""Calls tools as the agent does: arguments by schema, the intent first, then the call with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from jsonschema import Draft202012Validator

from thinksmith.agent.contract import Intent, Result, Tool, Toolset


def tool(toolsets: Toolset | Iterable[Toolset], name: str) -> Tool:
    every = [toolsets] if isinstance(toolsets, Toolset) else toolsets
    return next(tool for each in every for tool in each.tools if tool.name == name)


def intend(tool: Tool, **arguments: Any) -> Intent:
    Draft202012Validator(dict(tool.parameters)).validate(arguments)
    assert tool.intend is not None
    return asyncio.run(tool.intend(arguments))


def call(tool: Tool, **arguments: Any) -> Result:
    """Raises what the tool raises."""
    Draft202012Validator(dict(tool.parameters)).validate(arguments)
    intent = asyncio.run(tool.intend(arguments)) if tool.intend else None
    return asyncio.run(tool.call(arguments, intent))


def as_journal(intent: Intent) -> tuple[dict[str, Any], Callable[[str], bytes]]:
    """What the journal gives back of an intent after a restart: its record as JSON, and its kept bytes."""
    import json

    record = json.loads(json.dumps({**intent.record, "kept": {name: "sum" for name in intent.kept}}))
    return record, lambda name: intent.kept[name]
