"""A conversation as OpenAI's chat completions write it."""

from __future__ import annotations

import json
from typing import Any

from thinksmith.records import Message, ToolCall
from thinksmith.serve.fields import Fields

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
MOST = 10_000  # messages of a request


def messages(body: Fields) -> tuple[Message, ...]:
    """The messages of a body. Raises Refusal for none, for unknown roles, and for parts that are no text."""
    found = tuple(_message(each) for each in body.tables("messages", most=MOST))
    if not found:
        raise body.refuse("messages", "at least one message is needed")
    return _named(found)


def content(fields: Fields) -> str:
    """The text of a message: a text, or parts of type text (also `input_text`, `output_text`, `refusal`) joined."""
    value = fields.raw("content")
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, list):
        raise fields.wrong("content", "must be a text or an array of parts")
    return "".join(_part(each) for each in fields.tables("content", most=MOST))


def _part(part: Fields) -> str:
    kind = part.text("type", required=True)
    if kind in ("text", "input_text", "output_text"):
        return part.text("text", required=True) or ""
    if kind == "refusal":
        return part.text("refusal", required=True) or ""
    raise part.refuse("type", f"only text can be read here, not {kind}")


def _message(fields: Fields) -> Message:
    role = fields.one_of("role", ROLES)
    if role is None:
        raise fields.wrong("role", f"must be one of {', '.join(ROLES)}")
    said = Message(
        role={"developer": "system", "function": "tool"}.get(role, role),
        content=content(fields),
    )
    if role == "assistant":
        thinking = fields.text("reasoning_content") or fields.text("reasoning")
        if thinking:
            said["thinking"] = thinking
        if calls := [_call(each) for each in fields.tables("tool_calls", most=MOST)]:
            said["tool_calls"] = calls
    elif role == "tool" and (number := fields.text("tool_call_id")):
        said["tool_call_id"] = number
    if role in ("tool", "function") and (name := fields.text("name")):
        said["name"] = name
    return said


def _call(fields: Fields) -> ToolCall:
    function = fields.table("function")
    if function is None:
        raise fields.wrong("function", "must be an object")
    call = ToolCall(name=function.text("name", required=True) or "", arguments=_arguments(function))
    if number := fields.text("id"):
        call["id"] = number
    return call


def _arguments(function: Fields) -> dict[str, Any]:
    """OpenAI writes them as JSON in a text; an object is taken as it is."""
    value = function.raw("arguments")
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except (ValueError, RecursionError):
            raise function.refuse("arguments", "must be the text of a JSON object") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise function.refuse("arguments", "must be the text of a JSON object")
    return value


def _named(found: tuple[Message, ...]) -> tuple[Message, ...]:
    """What a tool gave tells the tool's name, which many templates want and OpenAI's clients leave out."""
    names = {call["id"]: call["name"] for said in found for call in said.get("tool_calls", ()) if "id" in call}
    for said in found:
        if said["role"] == "tool" and "name" not in said and (name := names.get(said.get("tool_call_id", ""))):
            said["name"] = name
    return found
