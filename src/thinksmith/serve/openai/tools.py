"""Tools, the choice among them, and the form of the answer, as OpenAI's chat completions write them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from thinksmith.errors import UserError
from thinksmith.records import ToolCall
from thinksmith.serve.asked import Refusal
from thinksmith.serve.fields import Fields

MOST = 512  # tools of a request


def tools(body: Fields) -> tuple[tuple[Mapping[str, Any], ...], str]:
    """The tools, and the choice: auto, none, required, or a name. Raises Refusal."""
    found = []
    for each in body.tables("tools", most=MOST):
        if each.raw("type") != "function" or each.table("function") is None:
            raise each.refuse("type", "only functions can be called here")
        found.append({"type": "function", "function": each.raw("function")})
    choice = _choice(body)
    if choice not in ("auto", "none") and not found:
        raise body.refuse("tool_choice", "there are no tools to choose from")
    _check(found, choice)
    return tuple(found), choice


def _choice(body: Fields) -> str:
    value = body.raw("tool_choice")
    if value is None or isinstance(value, str):
        return body.one_of("tool_choice", ("auto", "none", "required")) or "auto"
    table = body.table("tool_choice")
    function = table.table("function") if table and table.raw("type") == "function" else None
    if function is None:
        raise body.wrong("tool_choice", "must be auto, none, required or a function")
    return function.text("name", required=True) or ""


def _check(found: Sequence[Mapping[str, Any]], choice: str) -> None:
    from thinksmith.policy.tools import check_tools

    if not found:
        return
    try:
        check_tools(found, choice)
    except UserError as error:
        raise Refusal(str(error), field="tools") from None


def schema(body: Fields) -> Mapping[str, Any] | None:
    """The JSON schema that `response_format` asks for; {} any object; None where the answer is free."""
    wanted = body.table("response_format")
    kind = wanted.one_of("type", ("text", "json_object", "json_schema")) if wanted else None
    if wanted is None or kind in (None, "text"):
        return None
    if kind == "json_object":
        return {}
    described = wanted.table("json_schema")
    found = described.table("schema") if described else None
    if described is None or found is None:
        raise wanted.refuse("json_schema", "an object with a schema is needed")
    plain: Mapping[str, Any] = described.raw("schema")
    return plain


def written(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Calls as an answer tells them; one that the model gave no id has one of ours."""
    return [
        {
            "id": call.get("id") or f"call_{secrets.token_hex(12)}",
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call["arguments"], ensure_ascii=False)},
        }
        for call in calls
    ]
