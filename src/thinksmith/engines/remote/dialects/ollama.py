"""Ollama's own API (docs.ollama.com/openapi.yaml): lines of JSON, thinking in `message.thinking`."""

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
    logprobs_of,
    table,
    text_of,
    whole,
)
from thinksmith.engines.remote.dialects.switches import switches
from thinksmith.engines.remote.wire.faults import Garbled
from thinksmith.records import Sampling
from thinksmith.thinking import THINK, Piece, Tags, split

_OPTIONS = {
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
    "stop": "stop",
}


def call(ask: Ask) -> Call:
    """POST /api/chat. All samplers are told: those left out would be the Modelfile's, not ours."""
    sampling, usual = ask.sampling, Sampling()
    messages = messages_of(ask.endpoint, ask.messages)
    if ask.continued:  # a last message of the assistant's is gone on with; its thinking is closed by the template
        parts = split(ask.continued, THINK)
        messages.append({"role": "assistant", "content": parts.answer, "thinking": parts.thinking})
    options: dict[str, Any] = {
        "temperature": sampling.temperature,
        "seed": sampling.seed,
        "num_predict": ask.max_tokens,
    }
    for name, theirs in _OPTIONS.items():
        value = getattr(sampling, name)
        if value != getattr(usual, name) or name in ("top_p", "top_k", "repetition_penalty"):
            options[theirs] = list(value) if isinstance(value, tuple) else value
    body: dict[str, Any] = {
        "model": ask.endpoint.model,
        "messages": messages,
        "stream": ask.streamed,
        "options": options,
    }
    if sampling.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
    if shown := ask.shown:
        body["tools"] = shown
    if ask.schema is not None:
        body["format"] = dict(ask.schema) or "json"
    notes = ("ollama takes no stop_ids: they were left out",) if sampling.stop_ids else ()
    return Call("/api/chat", body | switches(ask), "ndjson" if ask.streamed else "json", notes)


class OllamaReader:
    """Streams of deltas, or one whole answer; both have the counts in what says `done`."""

    def __init__(self, tags: Tags, opened: bool, before: str = "") -> None:
        self.turn = Turn(tags, opened, before)
        self._last: Mapping[str, Any] = {}
        self._logprobs: list[float] = []
        self._tools: list[dict[str, Any]] = []

    def feed(self, event: Mapping[str, Any]) -> list[Piece]:
        message = table(event.get("message"))
        if not message and "done" not in event and "response" not in event:
            raise Garbled("a line has no message")
        if self._last:
            return []  # a second end
        pieces = self.turn.think(text_of(message.get("thinking", event.get("thinking"))), "thinking")
        pieces += self.turn.say(text_of(message.get("content", event.get("response"))))
        self._logprobs += logprobs_of(event.get("logprobs"))
        for each in items(message.get("tool_calls")):
            function = table(table(each).get("function"))
            self._tools.append({"id": text_of(table(each).get("id")), **function})
        if event.get("done") is True:
            self._last = event
        return pieces

    def finish(self) -> Said:
        last = self._last
        return self.turn.said(
            FINISHES.get(text_of(last.get("done_reason")), "stop"),
            total=whole(last.get("eval_count")),
            prompt_tokens=whole(last.get("prompt_eval_count")) or 0,
            ended=bool(last),
            tool_calls=tuple(self._tools),
            logprobs=tuple(self._logprobs) or None,
        )
