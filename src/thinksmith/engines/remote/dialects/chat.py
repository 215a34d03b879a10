"""OpenAI's chat completions, as a dozen servers speak it: thinking in `reasoning_content` (SGLang, llama.cpp, DeepSeek,
older vLLM), `reasoning` (vLLM, OpenRouter, Ollama's /v1), `reasoning_details`, `thinking`, parts of the content, or
tags.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from thinksmith.engines.remote.dialects.history import messages_of
from thinksmith.engines.remote.dialects.piece import (
    FINISHES,
    Ask,
    Call,
    Said,
    Turn,
    error_of,
    items,
    logprobs_of,
    response_format,
    table,
    text_of,
    whole,
)
from thinksmith.engines.remote.dialects.switches import switches
from thinksmith.engines.remote.wire.faults import Garbled
from thinksmith.records import Sampling
from thinksmith.thinking import Piece, Tags

FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
"""Where thinking may come; where one text comes in several, the first counts."""


def call(ask: Ask) -> Call:
    """POST …/chat/completions."""
    preset = ask.endpoint.preset
    messages = messages_of(ask.endpoint, ask.messages)
    body: dict[str, Any] = {"model": ask.endpoint.model, "messages": messages, "stream": ask.streamed}
    if ask.streamed:
        body["stream_options"] = {"include_usage": True}
    if ask.continued:
        messages.append({"role": "assistant", "content": ask.continued})
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    body[preset.most_tokens] = ask.max_tokens
    settings, notes = sampling_fields(ask)
    body |= settings | tool_fields(ask) | switches(ask)
    return Call(f"{preset.path}/chat/completions", body, framing(ask), notes)


def tool_fields(ask: Ask) -> dict[str, Any]:
    """Tools, which of them must be called, and the answer's schema."""
    body: dict[str, Any] = {}
    if shown := ask.shown:
        body["tools"] = shown
        body["tool_choice"] = ask.tool_choice
        if ask.chosen:
            body["tool_choice"] = {"type": "function", "function": {"name": ask.chosen}}
    if (form := response_format(ask)) is not None:
        body["response_format"] = form
    return body


def framing(ask: Ask) -> Any:
    return "sse" if ask.streamed else "json"


def sampling_fields(ask: Ask) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The settings that this server takes, and a note for each that was set and cannot be told to it."""
    preset, sampling, usual = ask.endpoint.preset, ask.sampling, Sampling()
    names = {"repetition_penalty": "repeat_penalty" if preset.kind == "llamacpp" else "repetition_penalty"}
    names["stop_ids"] = "stop_token_ids"
    body: dict[str, Any] = {"temperature": sampling.temperature}
    left_out = []
    for name in ("top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop", "stop_ids"):
        value = getattr(sampling, name)
        if value == getattr(usual, name) and name != "seed":
            continue
        if name in preset.samplers:
            body[names.get(name, name)] = list(value) if isinstance(value, tuple) else value
        elif name != "seed":
            left_out.append(name)
    if sampling.top_logprobs:
        if "logprobs" in preset.samplers:
            body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
        else:
            left_out.append("top_logprobs")
    notes = tuple(f"{ask.endpoint.kind} takes no {name}: it was left out" for name in left_out)
    return body, notes


class ChatReader:
    """Of one choice; raw completions too. Whole answers and streams have the same fields."""

    def __init__(self, tags: Tags, opened: bool, before: str = "") -> None:
        self.turn = Turn(tags, opened, before)
        self._reason = ""
        self._usage: Mapping[str, Any] = {}
        self._timings: Mapping[str, Any] = {}
        self._logprobs: list[float] = []
        self._tools: dict[int, dict[str, Any]] = {}

    def feed(self, event: Mapping[str, Any]) -> list[Piece]:
        if usage := event.get("usage"):
            self._usage = table(usage) or self._usage
        if timings := event.get("timings"):
            self._timings = table(timings) or self._timings
        choices = event.get("choices")
        if not isinstance(choices, list):
            if choices is None and (self._usage or event.get("object") or event.get("id")):
                return []
            raise Garbled("an event has no choices")
        pieces: list[Piece] = []
        for choice in choices:
            choice = table(choice)
            if choice.get("index") not in (0, None):
                continue  # nobody asked for several
            pieces += self._text(choice)
            if told := table(choice.get("logprobs")):
                self._logprobs += logprobs_of(told.get("content")) + logprobs_of(told.get("token_logprobs"))
            reason = choice.get("finish_reason")
            if isinstance(reason, str) and reason:
                self._reason = reason
        return pieces

    def _text(self, choice: Mapping[str, Any]) -> list[Piece]:
        message = table(choice.get("delta")) or table(choice.get("message"))
        pieces: list[Piece] = []
        for field in FIELDS:
            if (value := message.get(field)) and (text := text_of(value)):
                pieces += self.turn.think(text, field)
                break
        content = message.get("content", choice.get("text"))
        for part in content if isinstance(content, list) else [content] if content else []:
            if isinstance(part, dict) and part.get("type") in ("thinking", "reasoning"):
                pieces += self.turn.think(text_of(part), "content")
            else:
                pieces += self.turn.say(text_of(part))
        if calls := message.get("tool_calls"):
            self._note_tools(calls)
        return pieces

    def _note_tools(self, calls: object) -> None:
        """Tool calls come whole, or as fragments by their index; ids may repeat."""
        for place, each in enumerate(items(calls)):
            each = table(each)
            index = whole(each.get("index"))
            kept = self._tools.setdefault(place if index is None else index, {"id": "", "name": "", "arguments": ""})
            function = table(each.get("function"))
            kept["id"] = kept["id"] or text_of(each.get("id"))
            kept["name"] = kept["name"] or text_of(function.get("name"))
            arguments = function.get("arguments")
            kept["arguments"] += json.dumps(arguments) if isinstance(arguments, dict) else text_of(arguments)

    def finish(self) -> Said:
        usage, details = self._usage, table(self._usage.get("completion_tokens_details"))
        prompt = whole(usage.get("prompt_tokens")) or whole(self._timings.get("prompt_n")) or 0
        cached = whole(table(usage.get("prompt_tokens_details")).get("cached_tokens"))
        total = whole(usage.get("completion_tokens")) or whole(self._timings.get("predicted_n"))
        finish = FINISHES.get(self._reason, "stop")
        return self.turn.said(
            finish,
            total=total,
            reasoning=whole(details.get("reasoning_tokens")),
            prompt_tokens=prompt,
            cached_tokens=cached or whole(usage.get("prompt_cache_hit_tokens")) or 0,
            error=error_of(self._reason) if finish == "error" else "",
            ended=bool(self._reason),
            tool_calls=tuple(self._tools[index] for index in sorted(self._tools)),
            logprobs=tuple(self._logprobs) or None,
        )
