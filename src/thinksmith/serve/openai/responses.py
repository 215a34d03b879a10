"""`/v1/responses`: what a body asks for, and the response. Its events, from which the whole is made too: `events.py`.

Nothing is kept: `store` is passed over and `previous_response_id` refused, so any replica answers any request. Clients
send earlier items again, reasoning items included, whose thinking is given back to the model as its template has it.
Source: platform.openai.com/docs/api-reference/responses, and the types of the `openai` package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thinksmith.errors import UserError
from thinksmith.policy.tools import check_tools
from thinksmith.serve.asked import Asked, Piece, Refusal
from thinksmith.serve.dialect import About, Dialect, Stamp
from thinksmith.serve.fields import NO_LEVER, Fields
from thinksmith.serve.openai.chat import EFFORTS, sampling_of
from thinksmith.serve.openai.errors import error
from thinksmith.serve.openai.events import Stream
from thinksmith.serve.openai.items import messages
from thinksmith.serve.openai.tools import MOST

SUMMARIES = ("auto", "concise", "detailed")
LOGPROBS = "message.output_text.logprobs"
_KEPT = "nothing is kept here: send the earlier items in input"
_ELSEWHERE = "it names something of OpenAI's that is not here"


def read(body: Mapping[str, Any]) -> Asked:
    """What a body asks for. Raises Refusal."""
    fields = Fields(body)
    fields.off("previous_response_id", "conversation", why=_KEPT)
    fields.off("background", why="answers are made while you wait: leave it out, or stream")
    fields.off("prompt", "moderation", "context_management", why=_ELSEWHERE)
    fields.off("presence_penalty", "frequency_penalty", "logit_bias", why=NO_LEVER)
    offered, choice = _tools(fields)
    reasoning = fields.table("reasoning") or Fields({})
    effort = reasoning.one_of("effort", tuple(EFFORTS))
    included = fields.texts("include", most=32)
    sampling = sampling_of(_with_logprobs(body))
    return Asked(
        model=fields.text("model") or "",
        messages=messages(fields),
        stream=bool(fields.flag("stream")),
        sampling=sampling,
        max_tokens=fields.whole("max_output_tokens", 1),
        effort=EFFORTS[effort] if effort else None,
        max_thinking_tokens=fields.whole("thinking_token_budget", 0),
        tools=offered,
        tool_choice=choice,
        schema=_schema(fields),
        logprobs=LOGPROBS in included or "top_logprobs" in sampling,
        notes=_notes(fields, reasoning),
    )


def _with_logprobs(body: Mapping[str, Any]) -> Fields:
    """Here `top_logprobs` needs no switch beside it."""
    return Fields({**body, "logprobs": True})


def _tools(fields: Fields) -> tuple[tuple[Mapping[str, Any], ...], str]:
    """Functions, as chat completions write them, and the choice among them."""
    found = [_function(each) for each in fields.tables("tools", most=MOST)]
    choice, found = _choice(fields, found)
    if choice not in ("auto", "none") and not found:
        raise fields.refuse("tool_choice", "there are no tools to choose from")
    try:
        check_tools(found, choice)
    except UserError as wrong:
        raise Refusal(str(wrong), field="tools") from None
    return tuple(found), choice


def _function(tool: Fields) -> dict[str, Any]:
    if tool.raw("type") != "function":
        raise tool.refuse("type", "only functions can be called here")
    function: dict[str, Any] = {"name": tool.text("name", required=True)}
    if description := tool.text("description"):
        function["description"] = description
    if tool.table("parameters") is not None:
        function["parameters"] = tool.raw("parameters")
    if tool.flag("strict") is not None:
        function["strict"] = tool.flag("strict")
    return {"type": "function", "function": function}


def _choice(fields: Fields, found: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    value = fields.raw("tool_choice")
    if value is None or isinstance(value, str):
        return fields.one_of("tool_choice", ("auto", "none", "required")) or "auto", found
    wanted = fields.table("tool_choice") or Fields({})
    kind = wanted.one_of("type", ("function", "allowed_tools"))
    if kind == "function":
        return wanted.text("name", required=True) or "", found
    if kind is None:
        raise fields.wrong("tool_choice", "must be auto, none, required, a function or allowed_tools")
    allowed = {each.text("name", required=True) for each in wanted.tables("tools", most=MOST)}
    mode = wanted.one_of("mode", ("auto", "required")) or "auto"
    return mode, [each for each in found if each["function"]["name"] in allowed]


def _schema(fields: Fields) -> Mapping[str, Any] | None:
    text = fields.table("text")
    form = text.table("format") if text else None
    kind = form.one_of("type", ("text", "json_object", "json_schema")) if form else None
    if form is None or kind in (None, "text"):
        return None
    if kind == "json_object":
        return {}
    if form.table("schema") is None:
        raise form.refuse("schema", "an object is needed")
    plain: Mapping[str, Any] = form.raw("schema")
    return plain


def _notes(fields: Fields, reasoning: Fields) -> dict[str, Any]:
    """What the response says again, and how the client wants it."""
    parallel = fields.flag("parallel_tool_calls")
    summary = reasoning.one_of("summary", SUMMARIES) or reasoning.one_of("generate_summary", SUMMARIES)
    text = fields.table("text")
    metadata = fields.table("metadata")
    return {
        "parallel": True if parallel is None else parallel,
        "summary": summary,
        "said": {
            "instructions": fields.text("instructions"),
            "max_output_tokens": fields.whole("max_output_tokens", 1),
            "metadata": fields.raw("metadata") if metadata else {},
            "parallel_tool_calls": True if parallel is None else parallel,
            "reasoning": {"effort": reasoning.text("effort"), "summary": summary},
            "temperature": fields.number("temperature"),
            "text": {"format": (text.raw("format") if text else None) or {"type": "text"}},
            "tool_choice": fields.raw("tool_choice") or "auto",
            "tools": [
                {"description": None, "parameters": None, "strict": None, **each} for each in fields.items("tools")
            ],
            "top_logprobs": fields.whole("top_logprobs", 0, 20),
            "top_p": fields.number("top_p"),
            "truncation": "disabled",
            "user": fields.text("user"),
        },
    }


def whole(asked: Asked, done: Sequence[Piece], about: About, stamp: Stamp) -> dict[str, Any]:
    """The response, as a stream of it would end."""
    (piece,) = done
    assert piece.trace is not None
    stream = Stream(asked, about, stamp)
    stream.begin()
    if piece.trace.thinking:
        stream.feed(Piece(piece.index, "thinking", piece.trace.thinking))
    if piece.trace.answer:
        stream.feed(Piece(piece.index, "answer", piece.trace.answer))
    stream.feed(piece)
    response: dict[str, Any] = stream.finish()[-1]["response"]
    return response


RESPONSES = Dialect("responses", read, whole, Stream, error, framing="named")
