"""A conversation as each server wants it: which of the earlier thinking it is told again, and in which field.

`none` sends no thinking; `tool_loop` that of the turn that is under way, since the user's last message; `all` all of
it. Templates of Qwen3 and DeepSeek-R1 strip earlier thinking by themselves; DeepSeek's API answers 400 where a tool
loop comes back without it (api-docs.deepseek.com/guides/thinking_mode).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from thinksmith.engines.remote.names import Endpoint
from thinksmith.policy.messages import with_ids
from thinksmith.records import Message
from thinksmith.thinking import THINK


def messages_of(endpoint: Endpoint, messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """The messages as JSON objects; calls of tools, and what came of them, as this server wants them. Other fields that
    a message has beside its text stay as they are."""
    last_user = max((at for at, message in enumerate(messages) if message["role"] == "user"), default=-1)
    found = []
    for at, message in enumerate(with_ids(messages)):
        told: dict[str, Any] = {key: value for key, value in message.items() if key != "thinking"}
        thinking = message.get("thinking", "")
        kept = endpoint.history == "all" or (endpoint.history == "tool_loop" and at > last_user)
        if thinking and kept and message["role"] == "assistant":
            if endpoint.preset.returns:
                told[endpoint.preset.returns] = thinking
            else:
                told["content"] = f"{THINK.start}\n{thinking}\n{THINK.end}\n\n{message['content']}"
        if message.get("tool_calls"):
            told["tool_calls"] = [_call(call, endpoint.preset.dialect == "ollama") for call in message["tool_calls"]]
        if message["role"] == "tool" and endpoint.preset.dialect == "ollama":
            told["tool_name"] = told.pop("name", "")
        found.append(told)
    return found


def _call(call: Mapping[str, Any], ollama: bool) -> dict[str, Any]:
    """Ollama takes the arguments as an object, all others as the text of one."""
    if "name" not in call:
        return dict(call)
    arguments = call.get("arguments") or {}
    function = {"name": call["name"], "arguments": arguments if ollama else json.dumps(arguments, ensure_ascii=False)}
    return {"id": call["id"], "type": "function", "function": function}
