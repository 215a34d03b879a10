"""A conversation as `/v1/responses` writes it: items, of which several may make one turn of the assistant's."""

from __future__ import annotations

import json
from typing import Any

from thinksmith.records import Message, ToolCall
from thinksmith.serve.asked import Refusal
from thinksmith.serve.fields import Fields

ROLES = ("user", "assistant", "system", "developer")
MOST = 10_000  # items of a request


def messages(fields: Fields) -> tuple[Message, ...]:
    """`instructions` and `input` as messages. Raises Refusal for items that are not text, functions or reasoning."""
    value = fields.raw("input")
    found: list[Message] = []
    if instructions := fields.text("instructions"):
        found.append(Message(role="system", content=instructions))
    if isinstance(value, str):
        found.append(Message(role="user", content=value))
        return tuple(found)
    if not isinstance(value, list) or not value:
        raise fields.wrong("input", "must be a text, or an array of items with at least one")
    turn = _Turn(found)
    for item in fields.tables("input", most=MOST):
        _take(item, turn)
    return tuple(found)


class _Turn:
    """Puts items that follow each other and are the assistant's into one message."""

    def __init__(self, found: list[Message]) -> None:
        self._found = found
        self._open: Message | None = None
        self._names: dict[str, str] = {}

    def other(self, message: Message) -> None:
        self._open = None
        self._found.append(message)

    def assistant(self) -> Message:
        """The turn that is under way, or a new one."""
        if self._open is None:
            self._open = Message(role="assistant", content="")
            self._found.append(self._open)
        return self._open

    def think(self, text: str) -> None:
        if self._open is not None and (self._open["content"] or self._open.get("tool_calls")):
            self._open = None  # the thinking of a turn stands before what it says
        said = self.assistant()
        if text:
            said["thinking"] = said.get("thinking", "") + text

    def call(self, call: ToolCall) -> None:
        self.assistant().setdefault("tool_calls", []).append(call)
        if "id" in call:
            self._names[call["id"]] = call["name"]

    def result(self, number: str, text: str) -> None:
        said = Message(role="tool", content=text)
        if number:
            said["tool_call_id"] = number
        if number in self._names:
            said["name"] = self._names[number]
        self.other(said)


def _take(item: Fields, turn: _Turn) -> None:
    kind = item.text("type") or "message"
    if kind == "message":
        role = item.one_of("role", ROLES)
        if role is None:
            raise item.wrong("role", f"must be one of {', '.join(ROLES)}")
        text = text_of(item, "content")
        if role == "assistant":
            turn.assistant()["content"] += text
        else:
            turn.other(Message(role="user" if role == "user" else "system", content=text))
    elif kind == "reasoning":
        content, summary = text_of(item, "content"), text_of(item, "summary")
        turn.think(content or summary)
    elif kind == "function_call":
        call = ToolCall(name=item.text("name", required=True) or "", arguments=_arguments(item))
        if number := item.text("call_id"):
            call["id"] = number
        turn.call(call)
    elif kind == "function_call_output":
        turn.result(item.text("call_id") or "", text_of(item, "output"))
    elif kind == "item_reference":
        raise item.refuse("type", "nothing is kept here: send the item itself")
    else:
        raise item.refuse("type", f"messages, reasoning and functions can be read here, not {kind!r:.60}")


def text_of(item: Fields, name: str) -> str:
    """A text, or parts that have one, joined."""
    value = item.raw(name)
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, list):
        raise item.wrong(name, "must be a text or an array of parts")
    return "".join(_part(each) for each in item.tables(name, most=MOST))


def _part(part: Fields) -> str:
    kind = part.text("type", required=True)
    if kind in ("input_text", "output_text", "text", "summary_text", "reasoning_text"):
        return part.text("text", required=True) or ""
    if kind == "refusal":
        return part.text("refusal", required=True) or ""
    raise part.refuse("type", f"only text can be read here, not {kind!r:.60}")


def _arguments(item: Fields) -> dict[str, Any]:
    try:
        value = json.loads(item.text("arguments") or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refusal(f"{item.path('arguments')}: must be the text of a JSON object", field=item.path("arguments"))
    return value
