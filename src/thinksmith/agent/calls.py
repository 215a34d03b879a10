"""The calls that a reply asks for, and what is wrong with those that cannot be made.

Only the answer is read, never the thinking: not the part before the last end tag either, wherever a splitter may have
found the border, nor what stands in a second thinking. What is wrong is told to the model, so that it can mend it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from thinksmith.agent.arguments import misfit
from thinksmith.agent.contract import Tool
from thinksmith.policy.tools import marks, tool_calls_in
from thinksmith.records import ToolCall, Trace
from thinksmith.verify.fences import fenced

MOST = 8  # calls in one reply
_END = re.compile(r"</(?:think|thinking|thought|reasoning)>|\[/THINK\]", re.IGNORECASE)
_OPEN = re.compile(r"<(?:think|thinking|thought|reasoning)>|\[THINK\]", re.IGNORECASE)
_LAST_FENCE = re.compile(r"(?:```|~~~)[ \t]*\Z")


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that was asked for: of `tool`, or with the `fault` for which it cannot be made."""

    call: ToolCall
    tool: Tool | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said: the `text` without the calls, and the calls in order."""

    text: str
    asked: tuple[Asked, ...] = ()


def read_reply(trace: Trace, tools: Mapping[str, Tool], step: int) -> Reply:
    """Read a trace. Calls get ids of ours, `call_STEP_INDEX`: a model's own may come twice."""
    if trace.thinking_status == "truncated":
        return Reply("")
    said = _spoken(trace.answer)
    described = [tool.description_for_model for tool in tools.values()]
    text, calls = tool_calls_in(said, described)
    if not calls and (found := _malformed(said)):
        return Reply(text.strip(), (Asked(_call("malformed", {}, step, 0), fault=found),))
    if not calls:
        text, calls = _fence(said, tools)
    numbered = [_call(call["name"], call["arguments"], step, at) for at, call in enumerate(calls[:MOST])]
    asked = [_checked(call, tools) for call in numbered]
    if len(calls) > MOST:
        over = f"{len(calls)} calls in one reply, at most {MOST} are made: ask for the others in the next"
        asked.append(Asked(_call("too_many", {}, step, MOST), fault=over))
    return Reply(text.strip(), tuple(asked))


def _call(name: str, arguments: Mapping[str, Any], step: int, at: int) -> ToolCall:
    return ToolCall(name=name, arguments=dict(arguments), id=f"call_{step}_{at}")


def _spoken(answer: str) -> str:
    """The answer without any thinking: what stands behind the last end tag, up to one that is begun anew."""
    *_, end = [0, *(found.end() for found in _END.finditer(answer))]
    begun = _OPEN.search(answer, end)
    return answer[end : begun.start()] if begun else answer[end:]


def _malformed(said: str) -> str:
    """Why a text that holds the mark of a call holds no call; "" without a mark."""
    at, mark = min(((said.find(mark), mark) for mark in marks() if mark in said), default=(-1, ""))
    if at < 0:
        return ""
    begin = said.find("{", at)
    if begin < 0:
        return f'{mark} without a call in it: write {{"name": …, "arguments": {{…}}}} behind it'
    try:
        value, _ = json.JSONDecoder().raw_decode(said, begin)
    except (ValueError, RecursionError) as error:
        why = f"{error.msg} at character {error.pos - begin}" if isinstance(error, json.JSONDecodeError) else "too deep"
        return f"the call is not valid JSON ({why}): write it again, with quotes and line breaks inside texts escaped"
    lacks = [key for key in ("name", "arguments") if not isinstance(value, dict) or key not in value]
    return f"the call lacks {' and '.join(lacks)}" if lacks else "the call is not complete: write all of it again"


def _fence(said: str, tools: Mapping[str, Tool]) -> tuple[str, tuple[ToolCall, ...]]:
    """A fenced block at the very end, in the language of a tool, is a call of it."""
    if not _LAST_FENCE.search(said.rstrip()):
        return said, ()
    blocks = fenced(said)
    language, code = blocks[-1] if blocks else ("", "")
    tool = next((tool for tool in tools.values() if tool.fence and tool.fence == language), None)
    required = tool.parameters.get("required") if tool else None
    if tool is None or not isinstance(required, list | tuple) or len(required) != 1 or not code.strip():
        return said, ()
    at = max(said.rfind(f"{fence}{language}") for fence in ("```", "~~~"))
    return said[:at], (ToolCall(name=tool.name, arguments={required[0]: code}),)


def _checked(call: ToolCall, tools: Mapping[str, Tool]) -> Asked:
    tool = tools.get(call["name"])
    if tool is None:
        near = get_close_matches(call["name"][:100], list(tools), 1)
        known = f"did you mean {near[0]}?" if near else f"there are: {', '.join(tools) or 'none'}"
        return Asked(call, fault=f"there is no tool {call['name'][:60]!r}; {known}")
    fault = misfit(call["arguments"], tool.parameters)
    return Asked(call, tool, f"{tool.name}: {fault}" if fault else "")


def signature(asked: Sequence[Asked]) -> str:
    """The same for calls of the same tools with the same arguments."""
    return json.dumps([[each.call["name"], each.call["arguments"], each.fault] for each in asked], sort_keys=True)
