"""An HTTP client for the benches of `thinksmith serve`, which costs a core little: one protocol, no library.

As a program it is the clients' side in a process of its own: a job a line on standard input, its result a line on
standard output. `{"port", "path", "bodies", "clients"}` sends every body once, `clients` at a time, each on
a connection that it keeps; the result has the wall seconds, and of each request its status, tokens, and seconds
until the first token and until the end.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

_TEXT = re.compile(rb'"(?:reasoning_content|reasoning|content|text)": ?"[^"]')
_TOKENS = re.compile(rb'"completion_tokens": ?(\d+)')


class Client(asyncio.Protocol):
    """One connection, one request at a time. `first` is when text came first, by time.perf_counter."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._held = bytearray()
        self._done: asyncio.Future[None] | None = None
        self.first: float | None = None

    async def ask(self, path: str, body: bytes, method: str = "POST") -> tuple[int, bytes]:
        """Status and body. Raises ConnectionError where the server hangs up before its end."""
        loop = asyncio.get_running_loop()
        if self._transport is None or self._transport.is_closing():
            await loop.create_connection(lambda: self, "127.0.0.1", self._port)
        assert self._transport is not None
        self._held, self.first, self._done = bytearray(), None, loop.create_future()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Type: application/json\r\n"
        self._transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await self._done
        head_end = self._held.index(b"\r\n\r\n") + 4
        return int(self._held[9:12]), bytes(self._held[head_end:])

    def leave(self) -> None:
        """Hang up at once, whatever is running."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._held += data
        if self.first is None and _TEXT.search(self._held):
            self.first = time.perf_counter()
        if self._done and not self._done.done() and _is_whole(self._held):
            self._done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if self._done and not self._done.done():
            self._done.set_exception(ConnectionError("the server hung up"))


def _is_whole(held: bytearray) -> bool:
    """Is the response there to its end?"""
    end = held.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = bytes(held[:end]).lower()
    at = head.find(b"content-length:")
    if at >= 0:
        return len(held) >= end + 4 + int(head[at + 15 :].split(b"\r\n")[0])
    return held.endswith(b"0\r\n\r\n") and (held.endswith(b"\r\n0\r\n\r\n") or len(held) == end + 9)


def events(body: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects of a chunked stream of server-sent events."""
    parts, at = [], 0
    while (end := body.find(b"\r\n", at)) >= 0 and (size := int(body[at:end], 16)):
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    for line in b"".join(parts).split(b"\n"):
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


def tokens_of(body: bytes) -> int:
    """What the server says it sampled; where it does not, the pieces of text that came."""
    said = _TOKENS.findall(body)
    return int(said[-1]) if said else len(_TEXT.findall(body))


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """A job as above."""
    left = iter([json.dumps(body).encode() for body in job["bodies"]])
    rows: list[tuple[int, int, float | None, float]] = []

    async def one() -> None:
        client = Client(job["port"])
        for body in left:
            began = time.perf_counter()
            try:
                status, answer = await client.ask(job["path"], body)
            except OSError:
                status, answer = 0, b""
            first = client.first - began if client.first else None
            rows.append((status, tokens_of(answer), first, time.perf_counter() - began))
        client.leave()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(job["clients"])))
    return {"seconds": time.perf_counter() - began, "rows": rows}


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(asyncio.run(run(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
