"""`/api/generate`: one prompt, by the model's template or, with `raw`, as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thinksmith.records import Message
from thinksmith.serve.asked import Asked, Piece, Refusal
from thinksmith.serve.dialect import About, Begun, Dialect, Stamp
from thinksmith.serve.fields import Fields
from thinksmith.serve.ollama.asking import asked_of, kept_alive, loading
from thinksmith.serve.ollama.telling import Clock, error, head, loaded, logprobs


def read(body: Mapping[str, Any]) -> Asked:
    """What a body asks for; one without a prompt loads the model. Raises Refusal."""
    fields = Fields(body)
    fields.off("template", why="templates are the model's own")
    fields.off("context", why="none is given out here: keep the conversation in /api/chat")
    fields.off("suffix", why="text is only put before, not around")
    fields.off("width", "height", "steps", why="no images are made here")
    kept_alive(fields)
    prompt, system, raw = fields.text("prompt") or "", fields.text("system") or "", bool(fields.flag("raw"))
    if raw and system:
        raise fields.refuse("system", "raw text stands alone: put it into the prompt")
    common = asked_of(fields)
    if not prompt:
        return Asked(**common, notes={"load": loading(fields)})
    if raw:
        return Asked(**common, text=prompt)
    said = [Message(role="system", content=system)] if system else []
    return Asked(**common, messages=(*said, Message(role="user", content=prompt)))


def whole(asked: Asked, done: Sequence[Piece], about: About, stamp: Stamp) -> dict[str, Any]:
    """The whole answer."""
    (piece,) = done
    assert piece.trace is not None
    trace = piece.trace
    thinking = {"thinking": trace.thinking} if trace.thinking else {}
    told = logprobs(asked, trace, about)
    return {**head(asked), "response": trace.answer, **thinking, **told, **Clock(stamp).end(piece)}


class Stream:
    """An answer in lines."""

    def __init__(self, asked: Asked, about: About, stamp: Stamp) -> None:
        self._asked, self._about, self._clock = asked, about, Clock(stamp)
        self._begun = Begun()

    def begin(self) -> list[dict[str, Any]]:
        return []

    def feed(self, piece: Piece) -> list[dict[str, Any]]:
        self._begun.see(piece)
        if piece.part == "done":
            assert piece.trace is not None
            told = logprobs(self._asked, piece.trace, self._about)
            return [{**head(self._asked), "response": "", **told, **self._clock.end(piece)}]
        if piece.part == "reset":
            return []
        self._clock.saw()
        if piece.part in ("thinking", "progress"):
            return [{**head(self._asked), "response": "", "thinking": piece.text, "done": False}]
        return [{**head(self._asked), "response": piece.text, "done": False}]

    def finish(self) -> list[dict[str, Any]]:
        return []

    def fail(self, refusal: Refusal) -> list[dict[str, Any]]:
        return [error(refusal)]


GENERATE = Dialect("ollama_generate", read, whole, Stream, error, framing="lines", early=loaded)
