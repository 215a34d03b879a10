"""From bytes to events: server-sent events, lines of JSON, one JSON document. Any cutting of the bytes gives the same.

Server-sent events by the HTML standard (html.spec.whatwg.org, "Server-sent events"): lines end in CR, LF or CRLF,
`data:` lines of one event are joined, an empty line ends it, comments and other fields mean nothing here. Servers are
not that exact, so a line that is a bare JSON object counts as an event too, and the last event needs no empty line
behind it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

from thinksmith.engines.remote.wire.faults import Garbled, told

Framing = Literal["json", "sse", "ndjson"]
Data = dict[str, Any]
_MARK = b"\xef\xbb\xbf"
"""A byte order mark, with which some begin their UTF-8."""

MOST_EVENT = 16 * 2**20
"""Bytes of one event; a token with its alternatives is a kilobyte."""
MOST_WHOLE = 256 * 2**20
"""Bytes of an answer."""


class Decoder(Protocol):
    """`ended` turns True when the stream itself said that it is complete."""

    ended: bool

    def feed(self, chunk: bytes) -> Iterator[Data]: ...

    def finish(self) -> Iterator[Data]:
        """What was complete but for its end, when nothing more comes."""
        ...


def decoder(framing: Framing) -> Decoder:
    """A new one. All raise Garbled for what is no JSON object, and for what is too long."""
    kinds: dict[Framing, type[Document] | type[Stream] | type[Lines]]
    kinds = {"json": Document, "sse": Stream, "ndjson": Lines}
    return kinds[framing]()


class Document:
    """One JSON object, complete when it is one."""

    def __init__(self) -> None:
        self.ended = False
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Data]:
        self._size += len(chunk)
        if self._size > MOST_WHOLE:
            raise Garbled(f"the answer is longer than {MOST_WHOLE:,} bytes")
        self._parts.append(chunk)
        return iter(())

    def finish(self) -> Iterator[Data]:
        whole = b"".join(self._parts)
        if not whole.strip():
            raise Garbled("the answer is empty")
        self.ended = True
        yield _object(whole)


class Lines:
    """A JSON object a line, as Ollama streams; `"done": true` is the last."""

    def __init__(self) -> None:
        self.ended = False
        self._cutter = _Cutter()

    def feed(self, chunk: bytes) -> Iterator[Data]:
        for line in self._cutter.feed(chunk):
            yield from self._event(line)

    def finish(self) -> Iterator[Data]:
        yield from self._event(self._cutter.rest())

    def _event(self, line: bytes) -> Iterator[Data]:
        if line.strip():
            found = _object(line)
            self.ended = self.ended or found.get("done") is True
            yield found


class Stream:
    """Server-sent events; `[DONE]` is the last."""

    def __init__(self) -> None:
        self.ended = False
        self._cutter = _Cutter()
        self._data: list[bytes] = []
        self._size = 0
        self._first = True

    def feed(self, chunk: bytes) -> Iterator[Data]:
        for line in self._cutter.feed(chunk):
            yield from self._line(line)

    def finish(self) -> Iterator[Data]:
        yield from self._line(self._cutter.rest())
        yield from self._event()

    def _line(self, line: bytes) -> Sequence[Data]:
        """The events that it completes."""
        if self._first:
            line, self._first = line.removeprefix(_MARK), False
        if not line:
            return self._event()
        if line.startswith(b"data:"):
            value = line[5:].removeprefix(b" ")
            self._size += len(value)
            if self._size > MOST_EVENT:
                raise Garbled(f"an event is longer than {MOST_EVENT:,} bytes")
            none_between = len(self._data) == 1 and _complete(self._data[0])  # no empty line stood between two events
            found = self._event() if none_between else ()
            self._data.append(value)
            return found
        return (*self._event(), _object(line)) if line.startswith(b"{") else ()

    def _event(self) -> Sequence[Data]:
        data, self._data, self._size = b"\n".join(self._data).strip(), [], 0
        if data == b"[DONE]":
            self.ended = True
        return (_object(data),) if data and data != b"[DONE]" else ()


class _Cutter:
    """Bytes into lines that end in LF, CRLF or CR."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        if not chunk:
            return
        if self._after_cr and chunk.startswith(b"\n"):  # the second half of a CRLF
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        lines = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines[:-1]:
            yield b"".join((*self._held, line)) if self._held else line
            self._held, self._size = [], 0
        if lines[-1]:
            self._size += len(lines[-1])
            if self._size > MOST_EVENT:
                raise Garbled(f"a line is longer than {MOST_EVENT:,} bytes")
            self._held.append(lines[-1])

    def rest(self) -> bytes:
        whole, self._held = b"".join(self._held), []
        return whole


def _complete(data: bytes) -> bool:
    """Is this data line an event by itself?"""
    if data.strip() == b"[DONE]":
        return True
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _object(text: bytes) -> Data:
    try:
        found = json.loads(text.removeprefix(_MARK).decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        raise Garbled(f"what came is no JSON: {told(text[:80].decode(errors='replace'))!r}") from None
    if not isinstance(found, dict):
        raise Garbled(f"what came is no JSON object: {told(text[:80].decode(errors='replace'))!r}")
    return found
