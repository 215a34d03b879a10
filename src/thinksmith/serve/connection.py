"""A connection as uvicorn handles it, with bounds of its own on what comes before a request is one.

uvicorn waits for headers for ever, takes any number of them, and cannot cut a connection whose client does not read.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_BYTES = 32 << 10  # of the request line and all headers
HEADER_SECONDS = 20.0  # until they are there
MOST_CONNECTIONS = 1024
MOST_AHEAD = 8  # requests that a client sends before the one at work is answered
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n"


class Connection(HttpToolsProtocol):
    """`scope["extensions"]["thinksmith.abort"]()` cuts it, whatever waits to be written."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._size = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._at_work: Any = None  # the cycle that runs; `self.cycle` is the one that came last

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.write(_TOO_MANY)
            transport.close()
            return
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._at_work is not None and not self._at_work.response_complete:
            self._at_work.disconnected = True
            self._at_work.message_event.set()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._size = 0
        self._expect_headers()
        extensions: Any = {"thinksmith.abort": self.transport.abort}
        self.scope["extensions"] = extensions

    def on_url(self, url: bytes) -> None:
        if self._has_room(len(url)):
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._has_room(len(name) + len(value)):
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        if self._size > HEADER_BYTES:
            return
        super().on_headers_complete()
        if len(self.pipeline) > MOST_AHEAD:
            self.transport.abort()
        elif self.pipeline:
            self.flow.resume_reading()  # else nobody would see that the client leaves

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._at_work = cycle
        super()._start_asgi_task(cycle, app)

    def _has_room(self, size: int) -> bool:
        before, self._size = self._size, self._size + size
        if before <= HEADER_BYTES < self._size:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        return self._size <= HEADER_BYTES

    def _expect_headers(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        self.transport.abort()
