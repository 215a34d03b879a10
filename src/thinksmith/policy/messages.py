"""Messages and tools as a chat template wants them.

A template that knows `tools` gets their descriptions and writes them as its model was trained; calls and what came of
them go to it in the form that Hugging Face's templates share. Where a template knows nothing of tools, they are told
in the form of Hermes: descriptions in the system message, calls as text, and their results as the user's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from thinksmith.policy.tools import hermes
from thinksmith.records import Message

Chat = list[dict[str, Any]]

DESCRIPTION = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""
"""As Qwen2.5's template has it (github.com/NousResearch/Hermes-Function-Calling)."""


def for_template(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], template: str
) -> tuple[Chat, list[dict[str, Any]] | None]:
    """The messages as dictionaries, and the tools for the template itself; None where it gets none."""
    chat = with_ids(messages, short="length 9" in template)
    if "reasoning_content" in template:
        chat = [m | {"reasoning_content": m["thinking"]} if m.get("thinking") else m for m in chat]
    if "tool_calls" in template:
        chat = [m | {"tool_calls": [_wrapped(call) for call in m["tool_calls"]]} if _calls(m) else m for m in chat]
    else:
        chat = [_spoken(message) for message in chat]
    if not re.search(r"""['"]tool['"]""", template):
        chat = _answered(chat)
    if not tools:
        return chat, None
    if re.search(r"\btools\b", template):
        return chat, [json.loads(json.dumps(tool)) for tool in tools]
    return _described(chat, tools), None


def _calls(message: Mapping[str, Any]) -> Any:
    return message.get("tool_calls")


def with_ids(messages: Sequence[Message], *, short: bool = False) -> Chat:
    """The messages as dictionaries of their own. Calls have an id, and results that of their call and its name, in
    order where nothing else was said. `short`: Mistral's templates take nine letters and digits and nothing else."""
    chat: Chat = [dict(message) for message in messages]
    waiting: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    count = 0
    for message in chat:
        if _calls(message):
            waiting = []
            for call in message["tool_calls"]:
                count += 1
                waiting.append(dict(call) | {"id": call.get("id") or f"call_{count}"})
            names |= {call["id"]: str(call.get("name", "")) for call in waiting}
            message["tool_calls"] = [dict(call) for call in waiting]
        elif message["role"] == "tool":
            identity = message.get("tool_call_id") or (waiting[0]["id"] if waiting else "")
            waiting = [call for call in waiting if call["id"] != identity]
            message["tool_call_id"] = identity
            message["name"] = message.get("name") or names.get(identity, "")
    if short:
        for message in chat:
            for call in message.get("tool_calls") or ():
                call["id"] = _nine(call["id"])
            if "tool_call_id" in message:
                message["tool_call_id"] = _nine(message["tool_call_id"])
    return chat


def _nine(identity: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9]{9}", identity):
        return identity
    return sha256(identity.encode("utf-8", "replace")).hexdigest()[:9]


def _wrapped(call: Mapping[str, Any]) -> dict[str, Any]:
    """As Hugging Face's templates share it."""
    said = {"name": call["name"], "arguments": call["arguments"]}
    return {"type": "function", "id": call["id"], "function": said}


def _spoken(message: dict[str, Any]) -> dict[str, Any]:
    """The calls as part of the text."""
    if not _calls(message):
        return message
    calls = hermes([{"name": call["name"], "arguments": call["arguments"]} for call in message["tool_calls"]])
    content = f"{message['content']}\n{calls}" if message["content"] else calls
    return {key: value for key, value in message.items() if key != "tool_calls"} | {"content": content}


def _answered(chat: Chat) -> Chat:
    """Results as what the user says; those of one turn together, since many templates want the roles to alternate."""
    found: Chat = []
    inside = False
    for message in chat:
        is_result = message["role"] == "tool"
        if is_result:
            text = f"<tool_response>\n{message['content']}\n</tool_response>"
            if inside:
                found[-1]["content"] += "\n" + text
            else:
                found.append({"role": "user", "content": text})
        else:
            found.append(message)
        inside = is_result
    return found


def _described(chat: Chat, tools: Sequence[Mapping[str, Any]]) -> Chat:
    text = DESCRIPTION.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
    if chat and chat[0]["role"] == "system":
        return [chat[0] | {"content": f"{chat[0]['content']}\n\n{text}"}, *chat[1:]]
    return [{"role": "system", "content": text}, *chat]
