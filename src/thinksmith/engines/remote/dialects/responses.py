"""OpenAI's Responses: items of type `reasoning`, `message`, `function_call`; streamed as events that name their type.

platform.openai.com/docs/api-reference/responses and responses-streaming. OpenAI shows summaries of its models'
thinking, open models behind this API show all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinksmith.engines.remote.dialects.history import messages_of
from thinksmith.engines.remote.dialects.piece import (
    FINISHES,
    Ask,
    Call,
    Said,
    Turn,
    items,
    response_format,
    table,
    text_of,
    whole,
)
from thinksmith.engines.remote.dialects.switches import switches
from thinksmith.engines.remote.wire.faults import Failed, told
from thinksmith.thinking import Piece, Tags

_REASONING = ("o1", "o3", "o4", "gpt-5", "gpt-oss")  # models that take no temperature
_THINKING = ("response.reasoning_text.delta", "response.reasoning_summary_text.delta")
_END = ("response.completed", "response.incomplete", "response.failed")


def call(ask: Ask) -> Call:
    """POST …/responses. Nothing is stored at the provider's."""
    messages = messages_of(ask.endpoint, ask.messages)
    body: dict[str, Any] = {"model": ask.endpoint.model, "input": [item for m in messages for item in _items(m)]}
    body |= {"stream": ask.streamed, "max_output_tokens": ask.max_tokens, "store": False}
    effort = switches(ask).get("reasoning_effort")
    thinks = ask.endpoint.model.startswith(_REASONING)
    if thinks or effort:
        body["reasoning"] = {"summary": "auto"} | ({"effort": effort} if effort else {})
    notes = []
    if not thinks:
        body |= {"temperature": ask.sampling.temperature, "top_p": ask.sampling.top_p}
    elif ask.sampling.temperature != 1.0:
        notes.append(f"{ask.endpoint.model} takes no temperature: it was left out")
    left_out = [name for name in ("top_k", "min_p", "stop", "stop_ids", "top_logprobs") if getattr(ask.sampling, name)]
    notes += [f"{ask.endpoint.kind} takes no {name}: it was left out" for name in left_out]
    body |= _tool_fields(ask)
    return Call(f"{ask.endpoint.preset.path}/responses", body, "sse" if ask.streamed else "json", tuple(notes))


def _items(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items of the input that a message is: calls, and what came of them, are items of their own."""
    if message.get("role") == "tool":
        call_id = message.get("tool_call_id", "")
        return [{"type": "function_call_output", "call_id": call_id, "output": message.get("content", "")}]
    calls = [
        {"type": "function_call", "call_id": call["id"], **call["function"]}
        for call in message.get("tool_calls") or ()
        if "function" in call
    ]
    said = {key: value for key, value in message.items() if key != "tool_calls"}
    return calls if calls and not message.get("content") else [said, *calls]


def _tool_fields(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if shown := ask.shown:
        usual = {"parameters": {"type": "object", "properties": {}}, "strict": False}
        body["tools"] = [{"type": "function", **usual, **tool["function"]} for tool in shown]
        body["tool_choice"] = {"type": "function", "name": ask.chosen} if ask.chosen else ask.tool_choice
    if (form := response_format(ask)) is not None:
        body["text"] = {"format": {"type": form["type"], **form.get("json_schema", {})}}
    return body


class ResponsesReader:
    """Deltas where they come, else the items of the whole response."""

    def __init__(self, tags: Tags, opened: bool, before: str = "") -> None:
        self.turn = Turn(tags, opened, before)
        self._whole: Mapping[str, Any] = {}
        self._streamed = False

    def feed(self, event: Mapping[str, Any]) -> list[Piece]:
        kind = text_of(event.get("type"))
        if kind in _THINKING:
            self._streamed = True
            return self.turn.think(text_of(event.get("delta")), kind.split(".")[1].removesuffix("_text"))
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            self._streamed = True
            return self.turn.say(text_of(event.get("delta")))
        if kind == "error":
            raise Failed(told(event.get("message") or "the server reports an error"))
        if kind in _END:
            event = table(event.get("response"))
        elif event.get("object") != "response":
            return []
        if self._whole:
            return []  # a second end
        self._whole = event
        pieces: list[Piece] = []
        for item in items(event.get("output")) if not self._streamed else []:
            item = table(item)
            if item.get("type") == "reasoning":
                pieces += self.turn.think(text_of(item.get("content")) or text_of(item.get("summary")), "reasoning")
            elif item.get("type") == "message":
                pieces += self.turn.say(text_of(item.get("content")))
        return pieces

    def finish(self) -> Said:
        whole_response, usage = self._whole, table(self._whole.get("usage"))
        status = text_of(whole_response.get("status"))
        reason = text_of(table(whole_response.get("incomplete_details")).get("reason"))
        finish = "error" if status in ("failed", "cancelled") else FINISHES.get(reason, "stop")
        error = text_of(table(whole_response.get("error")).get("message")) or reason or status
        output = [table(item) for item in items(whole_response.get("output"))]
        return self.turn.said(
            finish,
            total=whole(usage.get("output_tokens")),
            reasoning=whole(table(usage.get("output_tokens_details")).get("reasoning_tokens")),
            prompt_tokens=whole(usage.get("input_tokens")) or 0,
            cached_tokens=whole(table(usage.get("input_tokens_details")).get("cached_tokens")) or 0,
            error=told(error) if finish == "error" else "",
            ended=bool(whole_response),
            tool_calls=tuple(
                {"id": item.get("call_id", ""), "name": item.get("name", ""), "arguments": item.get("arguments", "")}
                for item in output
                if item.get("type") == "function_call"
            ),
        )
