"""What `/api/chat` and `/api/generate` have in common of what is asked: options, think, format, keep_alive.

Sources: docs.ollama.com/api and openapi.yaml, docs.ollama.com/capabilities/thinking, and the types of the `ollama`
package. Options that are of the loading of a model (`num_ctx`, `num_gpu`, …) change no answer here and are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from thinksmith.errors import UserError
from thinksmith.policy.tools import check_tools
from thinksmith.records import Message, ToolCall
from thinksmith.serve.asked import Effort, Refusal
from thinksmith.serve.fields import NO_LEVER, Fields, as_sampling

ROLES = ("system", "user", "assistant", "tool")
LEVELS: dict[str, Effort] = {"low": "low", "medium": "medium", "high": "high", "max": "xhigh"}
MOST = 10_000  # messages of a request
TOOLS = 512
LONGEST = 1e9  # seconds
DURATION = r"-?[0-9]+(\.[0-9]+)?|-?([0-9]+(\.[0-9]+)?(ms|s|m|h))+"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def asked_of(fields: Fields) -> dict[str, Any]:
    """The fields of `Asked` that do not depend on what is asked about."""
    fields.off("images", why="only text can be read here")
    options = fields.table("options") or Fields({})
    most = options.whole("num_predict", -2)
    logprobs = bool(fields.flag("logprobs"))
    return {
        "model": fields.text("model") or "",
        "stream": fields.flag("stream") is not False,
        "sampling": _sampling(options) | _likeliest(fields, logprobs),
        "max_tokens": most if most and most > 0 else None,
        "max_thinking_tokens": fields.whole("thinking_token_budget", 0),
        "schema": _schema(fields),
        "logprobs": logprobs,
        **_think(fields),
    }


def _sampling(options: Fields) -> dict[str, Any]:
    """The fields of `records.Sampling` that are set."""
    options.off("presence_penalty", "frequency_penalty", "mirostat", why=NO_LEVER)
    for name in ("typical_p", "tfs_z"):
        if options.number(name) not in (None, 1.0):
            raise options.refuse(name, NO_LEVER)
    top_k = options.whole("top_k")
    found = {
        "temperature": options.number("temperature", 0, 100),
        "top_p": options.number("top_p", 0, 1),
        "top_k": None if top_k is None else max(top_k, 0),
        "min_p": options.number("min_p", 0, 1),
        "repetition_penalty": options.number("repeat_penalty", 0.01, 100),
        "seed": options.seed(),
        "stop": options.texts("stop", most=16) or None,
    }
    return as_sampling(found)


def _likeliest(fields: Fields, logprobs: bool) -> dict[str, int]:
    top = fields.whole("top_logprobs", 0, 20)
    return {"top_logprobs": top} if top and logprobs else {}


def _think(fields: Fields) -> dict[str, Any]:
    value = fields.raw("think")
    if value is None or isinstance(value, bool):
        return {"think": value}
    if isinstance(value, str) and value in LEVELS:
        return {"think": True, "effort": LEVELS[value]}
    raise fields.wrong("think", f"must be true, false, or one of {', '.join(LEVELS)}")


def _schema(fields: Fields) -> Mapping[str, Any] | None:
    value = fields.raw("format")
    if value is None or value == "":
        return None
    if value == "json":
        return {}
    if not isinstance(value, dict):
        raise fields.wrong("format", 'must be "json" or a JSON schema')
    plain: Mapping[str, Any] = value
    return plain


def loading(fields: Fields) -> str:
    """What a request without a prompt asks for: `load` a model, or `unload` it where it is to be kept for no time.

    Models stay as long as the server does, so both only answer.
    """
    kept = kept_alive(fields)
    return "unload" if kept == 0 else "load"


def kept_alive(fields: Fields) -> float | None:
    """`keep_alive` in seconds: a number, or a duration such as `5m` or `1h30m`. Checked, and passed over."""
    value = fields.raw("keep_alive")
    if not isinstance(value, str):
        return fields.number("keep_alive", -LONGEST, LONGEST)
    if not re.fullmatch(DURATION, value):
        raise fields.wrong("keep_alive", "must be seconds, or a duration such as 5m")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9.]+)(ms|s|m|h|)", value))
    return -seconds if value.startswith("-") else seconds


def messages(fields: Fields) -> tuple[Message, ...]:
    """The messages of a chat."""
    return tuple(_message(each) for each in fields.tables("messages", most=MOST))


def _message(fields: Fields) -> Message:
    role = fields.one_of("role", ROLES)
    if role is None:
        raise fields.wrong("role", f"must be one of {', '.join(ROLES)}")
    fields.off("images", why="only text can be read here")
    said = Message(role=role, content=fields.text("content") or "")
    if role == "assistant":
        if thinking := fields.text("thinking"):
            said["thinking"] = thinking
        if calls := [_call(each) for each in fields.tables("tool_calls", most=MOST)]:
            said["tool_calls"] = calls
    elif role == "tool":
        if name := fields.text("tool_name") or fields.text("name"):
            said["name"] = name
        if number := fields.text("tool_call_id"):
            said["tool_call_id"] = number
    return said


def _call(fields: Fields) -> ToolCall:
    function = fields.table("function")
    if function is None:
        raise fields.wrong("function", "must be an object")
    arguments = function.table("arguments")
    call = ToolCall(
        name=function.text("name", required=True) or "",
        arguments=function.raw("arguments") if arguments is not None else {},
    )
    if number := fields.text("id"):
        call["id"] = number
    return call


def tools(fields: Fields) -> tuple[Mapping[str, Any], ...]:
    """Functions that may be called; Ollama has no choice among them."""
    found = []
    for each in fields.tables("tools", most=TOOLS):
        if each.raw("type") not in (None, "function") or each.table("function") is None:
            raise each.refuse("type", "only functions can be called here")
        found.append({"type": "function", "function": each.raw("function")})
    try:
        check_tools(found)
    except UserError as wrong:
        raise Refusal(str(wrong), field="tools") from None
    return tuple(found)
