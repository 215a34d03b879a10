"""`/api/chat`: lines of JSON, thinking in `message.thinking`. It streams unless told not to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thinksmith.policy.tools import CallReader, tool_calls_in
from thinksmith.records import ToolCall
from thinksmith.serve.asked import Asked, Piece, Refusal
from thinksmith.serve.dialect import About, Begun, Dialect, Stamp
from thinksmith.serve.fields import Fields
from thinksmith.serve.ollama.asking import asked_of, kept_alive, loading, messages, tools
from thinksmith.serve.ollama.telling import Clock, error, head, loaded, logprobs


def read(body: Mapping[str, Any]) -> Asked:
    """What a body asks for; one without messages loads the model. Raises Refusal.

    A last message of the assistant's is gone on with, as Ollama does.
    """
    fields = Fields(body)
    fields.off("template", why="templates are the model's own")
    kept_alive(fields)
    talk = messages(fields)
    notes: dict[str, Any] = {"chat": True} | ({} if talk else {"load": loading(fields)})
    last = talk[-1] if talk else None
    continues = last is not None and last["role"] == "assistant" and not last.get("tool_calls")
    return Asked(**asked_of(fields), messages=talk, continues=continues, tools=tools(fields), notes=notes)


def whole(asked: Asked, done: Sequence[Piece], about: About, stamp: Stamp) -> dict[str, Any]:
    """The whole answer."""
    (piece,) = done
    assert piece.trace is not None
    trace = piece.trace
    text, calls = tool_calls_in(trace.answer, asked.tools) if asked.tools else (trace.answer, ())
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if trace.thinking:
        message["thinking"] = trace.thinking
    if calls:
        message["tool_calls"] = _written(calls)
    return {**head(asked), "message": message, **logprobs(asked, trace, about), **Clock(stamp).end(piece)}


def _written(calls: Sequence[ToolCall], first: int = 0) -> list[dict[str, Any]]:
    """Calls as Ollama tells them: arguments as an object."""
    return [
        {
            **({"id": call["id"]} if "id" in call else {}),
            "function": {"index": first + at, "name": call["name"], "arguments": call["arguments"]},
        }
        for at, call in enumerate(calls)
    ]


class Stream:
    """An answer in lines."""

    def __init__(self, asked: Asked, about: About, stamp: Stamp) -> None:
        self._asked, self._about, self._clock = asked, about, Clock(stamp)
        self._reader = CallReader(asked.tools) if asked.tools else None
        self._begun, self._calls = Begun(), 0

    def begin(self) -> list[dict[str, Any]]:
        return []

    def feed(self, piece: Piece) -> list[dict[str, Any]]:
        self._begun.see(piece)
        if piece.part == "done":
            return self._end(piece)
        if piece.part == "reset":
            return []
        self._clock.saw()
        if piece.part in ("thinking", "progress"):
            return [self._line({"content": "", "thinking": piece.text})]
        return self._take(self._reader.feed(piece.text) if self._reader else [piece.text])

    def _take(self, found: Sequence[str | ToolCall]) -> list[dict[str, Any]]:
        lines = []
        for each in found:
            if isinstance(each, str):
                lines.append(self._line({"content": each}))
            else:
                lines.append(self._line({"content": "", "tool_calls": _written([each], self._calls)}))
                self._calls += 1
        return lines

    def _line(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return {**head(self._asked), "message": {"role": "assistant", **message}, "done": False}

    def _end(self, piece: Piece) -> list[dict[str, Any]]:
        assert piece.trace is not None
        lines = self._take(self._reader.finish()) if self._reader else []
        told = logprobs(self._asked, piece.trace, self._about)
        end = {"message": {"role": "assistant", "content": ""}, **told, **self._clock.end(piece)}
        return [*lines, {**head(self._asked), **end}]

    def finish(self) -> list[dict[str, Any]]:
        return []

    def fail(self, refusal: Refusal) -> list[dict[str, Any]]:
        return [error(refusal)]


CHAT = Dialect("ollama_chat", read, whole, Stream, error, framing="lines", early=loaded)
