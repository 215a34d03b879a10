"""What the formats share: values of a row as the fields of a sample, and the fault where they are none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from thinksmith.problems.rows import describe
from thinksmith.records import Message, ToolCall

Values = dict[str, Any]
"""A row by its columns."""

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
         "bard": "assistant", "bing": "assistant", "model": "assistant", "system": "system", "tool": "tool",
         "function": "tool", "developer": "developer"}  # fmt: skip
"""Who speaks, as others call it → as we do."""
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Fields of a message that hold its thinking."""


class BadRow(ValueError):
    """Why a row is no sample."""


def text(values: Mapping[str, Any], column: str) -> str:
    """The text of a column. Raises BadRow where it is missing or something else."""
    if column not in values:
        raise BadRow(f"the column {column!r} is missing")
    if not isinstance(values[column], str):
        raise BadRow(f"{column!r} is {describe(values[column])}, not text")
    return cast(str, values[column])


def take(values: Values, columns: Iterable[str], kinds: type | tuple[type, ...]) -> Any:
    """Takes out the first of these columns whose value is of a kind that is wanted; None where there is none."""
    for column in columns:
        value = values.get(column)
        if isinstance(value, kinds) and not (isinstance(value, bool) and kinds is not bool):
            return values.pop(column)
    return None


def messages(value: Any, column: str) -> list[dict[str, Any]]:
    """Chat messages with `role` and `content` (or `from` and `value`), roles as we call them; whatever else a message
    has stays in it. Raises BadRow."""
    if not isinstance(value, list) or not value:
        raise BadRow(f"{column!r} is {describe(value) if value != [] else 'empty'}, not chat messages")
    return [_message(each, column) for each in value]


def _message(value: Any, column: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRow(f"{column!r} has {describe(value)} for a message")
    rest = {name: each for name, each in value.items() if each is not None}
    role = rest.pop("role", None) or rest.pop("from", None)
    said = rest.pop("content") if "content" in rest else rest.pop("value", None)
    if isinstance(said, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in said):
        said = "".join(part["text"] for part in said)
    if not isinstance(role, str) or not isinstance(said, str):
        raise BadRow(f"{column!r} has a message without text for its role and its content")
    thought = next((rest.pop(name) for name in THOUGHTS if isinstance(rest.get(name), str)), "")
    message: dict[str, Any] = {"role": ROLES.get(role.casefold(), role), "content": said}
    if rest.get("tool_calls"):
        message["tool_calls"] = _calls(rest.pop("tool_calls"), column)
    return message | ({"thinking": thought} if thought else {}) | rest


def _calls(value: Any, column: str) -> list[ToolCall]:
    """Calls in our form, of such in OpenAI's, whose arguments are a text. Raises BadRow."""
    found = []
    for each in value if isinstance(value, list) else [value]:
        said = each.get("function", each) if isinstance(each, dict) else None
        name, given = (said.get("name"), said.get("arguments")) if isinstance(said, dict) else (None, None)
        try:
            arguments = json.loads(given) if isinstance(given, str) else given
        except ValueError:
            arguments = None
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise BadRow(f"{column!r} has a call without a name or without arguments by name")
        call = ToolCall(name=name, arguments=arguments)
        if isinstance(each.get("id"), str):
            call["id"] = each["id"]
        found.append(call)
    return found


def own_prompt(written: list[dict[str, Any]]) -> tuple[Message, ...]:
    """The messages of a prompt as `write` wrote them: nothing is mapped, so each is what it was."""
    found = []
    for each in written:
        message = {name: value for name, value in each.items() if value is not None}
        more = json.loads(message.pop("more", "{}"))
        if "reasoning_content" in message:
            message["thinking"] = message.pop("reasoning_content")
        found.append(cast(Message, message | more))
    return tuple(found)


def prompt_and_turn(said: list[dict[str, Any]], column: str) -> tuple[tuple[Message, ...], dict[str, Any]]:
    """The messages before the assistant's last turn, and that turn. Raises BadRow where it is not the last."""
    *before, last = said
    if last["role"] != "assistant":
        raise BadRow(f"{column!r} ends with a message of {last['role'][:40]!r}, not of the assistant")
    if not before:
        raise BadRow(f"{column!r} has nothing before the assistant's turn")
    return tuple(cast(Message, message) for message in before), last


def named(prompt: tuple[Message, ...]) -> str:
    """An id for a problem that has none: a hash of what is asked, so that its samples share it."""
    content = json.dumps([[message["role"], message["content"]] for message in prompt])
    return hashlib.sha256(content.encode()).hexdigest()[:12]
