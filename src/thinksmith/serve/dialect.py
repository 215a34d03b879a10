"""What a dialect is: how one API's bodies become an `Asked`, and how pieces become its answers.

A dialect knows no engine. What it must know of the model that answers is `About`; what the answer is called, `Stamp`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from thinksmith.serve.asked import Asked, Piece, Refusal
from thinksmith.thinking import Tags

Body = Mapping[str, Any]
Framing = Literal["data", "named", "lines"]


@dataclass(frozen=True, slots=True)
class About:
    """A served model, as far as an answer or a listing tells of it.

    `name` is what clients call it, `model` the engine's name, `strategy` the canonical spec of the strategy ("" for
    none) over the served model `base`. `created` is unix time: when it was opened. `context_length` and `parameters`
    are 0 where nobody says, `size` is bytes of the weights in memory, `digest` the hash of the weights. `decode` turns
    token ids into text (None: the engine cannot), and `tags` are those of its thinking. `strategies` are those that a
    client may name behind this name, with what each does.
    """

    name: str
    model: str
    strategy: str = ""
    base: str = ""
    created: int = 0
    context_length: int = 0
    architecture: str = ""
    parameters: int = 0
    dtype: str = ""
    size: int = 0
    digest: str = ""
    logprobs: bool = False
    tags: Tags | None = None
    decode: Callable[[Sequence[int]], str] | None = None
    strategies: tuple[tuple[str, str], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Stamp:
    """What an answer is called: `id` (hex digits, no prefix), `created` (unix seconds) and when its request was read,
    `began` (time.perf_counter)."""

    id: str
    created: int
    began: float


class Begun:
    """Which answers have begun: what was sent of them cannot be taken back, while thinking may be told anew."""

    def __init__(self) -> None:
        self._indices: set[int] = set()

    def see(self, piece: Piece) -> None:
        """Raises Refusal for a `reset` of one that has begun."""
        if piece.part == "answer":
            self._indices.add(piece.index)
        elif piece.part == "reset" and piece.index in self._indices:
            raise Refusal("the model's answer broke off, and it began another one", status=502)


class Stream(Protocol):
    """An answer that is sent while it is made, as frames: JSON objects, one an event or a line."""

    def begin(self) -> list[dict[str, Any]]:
        """Frames that stand before all pieces."""
        ...

    def feed(self, piece: Piece) -> list[dict[str, Any]]:
        """What a piece comes to. Raises Refusal for one that cannot be told any more."""
        ...

    def finish(self) -> list[dict[str, Any]]:
        """Frames after the last piece."""
        ...

    def fail(self, refusal: Refusal) -> list[dict[str, Any]]:
        """Frames that end a stream which broke."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way of asking: its `name` (in metrics), and what reads and writes it.

    `whole` gets the `done` pieces in the order of their index. `framing`: `data` is server-sent events, `named` the
    same with the frame's `type` as the event's name, `lines` one JSON object a line. `last` ends a stream that did not
    break. `error` is a refusal's body. `early`, where it is there, gives what is answered at once, without the model.
    """

    name: str
    read: Callable[[Body], Asked]
    whole: Callable[[Asked, Sequence[Piece], About, Stamp], dict[str, Any]]
    stream: Callable[[Asked, About, Stamp], Stream]
    error: Callable[[Refusal], dict[str, Any]]
    framing: Framing = "data"
    last: bytes = b""
    early: Callable[[Asked, About, Stamp], dict[str, Any] | None] | None = None


def framed(framing: Framing, frames: Sequence[Mapping[str, Any]]) -> bytes:
    """Frames as bytes of a response."""
    if framing == "lines":
        return b"".join(as_json(frame) + b"\n" for frame in frames)
    if framing == "named":
        named = ((str(frame["type"]).encode(), as_json(frame)) for frame in frames)
        return b"".join(b"event: " + name + b"\ndata: " + text + b"\n\n" for name, text in named)
    return b"".join(b"data: " + as_json(frame) + b"\n\n" for frame in frames)


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def as_json(value: Any) -> bytes:
    """Compact UTF-8 JSON. What a model wrote may hold half of a surrogate pair; it becomes a question mark."""
    return _ENCODER.encode(value).encode("utf-8", "replace")
