"""One request to one place: to an address that was checked, within a time, and with a bound on what comes back.

The name is resolved here, and the connection goes to what was found and checked, so no second resolution can say
otherwise. Proxies, cookies and passwords of the environment are not known here; nothing is kept between requests.
"""

from __future__ import annotations

import re
import socket
import ssl
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import httpcore

from thinksmith.agent.contract import ToolFault
from thinksmith.agent.tools.addresses import Entry, Url, checked
from thinksmith.agent.tools.threads import in_thread
from thinksmith.errors import one_line

LARGEST = 2_000_000  # bytes of a body, after decompression, that are read
_CONNECT = 10.0  # seconds

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Response:
    """What came back. `headers` by lower-case name; `cut`: there was more than LARGEST bytes of it."""

    url: Url
    status: int
    headers: dict[str, str]
    body: bytes
    cut: bool


class Lost(Exception):
    """The request was on its way when something broke: whether it was done, nobody here knows."""


class _Checked(httpcore.AsyncNetworkBackend):
    """Connects to given addresses, whatever the name. `reached`: a connection stood."""

    def __init__(self, url: Url, addresses: Sequence[str]) -> None:
        self._url, self._addresses, self.reached = url, addresses, False
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        if (host, port) != (self._url.host, self._url.port):
            raise httpcore.ConnectError(f"{host}:{port} was not checked")
        failed: Exception = httpcore.ConnectError("no address")
        for address in self._addresses[:4]:
            try:
                stream = await self._network.connect_tcp(address, port, timeout=timeout)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
                continue
            self.reached = True
            return stream
        raise failed

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("no sockets of this machine")

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


async def fetch(
    entry: Entry, url: Url, method: str, headers: Headers, body: bytes, context: ssl.SSLContext | None
) -> Response:
    """Send one request, and read what comes back; redirects are not followed. Raises ToolFault where nothing was sent,
    Lost where it may have been. The caller bounds the time."""
    backend = _Checked(url, checked(entry, url.host, await _resolved(entry, url)))
    lines = [("Host", url.authority), *headers]
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(("Content-Length", str(len(body))))
    place = httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target)
    waits = {"connect": _CONNECT, "read": None, "write": None, "pool": None}
    pool = httpcore.AsyncConnectionPool(ssl_context=context, network_backend=backend, max_keepalive_connections=0)
    try:
        async with (
            pool,
            pool.stream(method, place, headers=lines, content=body, extensions={"timeout": waits}) as answer,
        ):
            found = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in answer.headers}
            data, cut = await _body(answer.aiter_stream(), found.get("content-encoding", ""))
            return Response(url, answer.status, found, data, cut)
    except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
        raise ToolFault(f"{url.authority} cannot be reached: {one_line(error)}") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, zlib.error) as error:
        raise Lost(f"{url.authority} broke off: {one_line(error)}") from None


async def _resolved(entry: Entry, url: Url) -> tuple[str, ...]:
    """The addresses of a host, in the system's order."""
    if entry.pinned is not None:
        return (str(entry.pinned),)
    try:
        found = await in_thread(socket.getaddrinfo, url.host, url.port, socket.AF_UNSPEC, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ToolFault(f"there is no address for {url.host[:100]}: {one_line(error)}") from None
    return tuple(dict.fromkeys(str(each[4][0]) for each in found))


async def _body(stream: AsyncIterable[bytes], encoding: str) -> tuple[bytes, bool]:
    """At most LARGEST bytes of what the body says, and whether there were more."""
    kind = encoding.strip().lower()
    if kind not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise Lost(f"it answers in an encoding that was not asked for: {kind[:40]}")
    parts = _plain(stream) if kind in ("", "identity") else _unpacked(stream)
    data = bytearray()
    async for part in parts:
        data += part
        if len(data) > LARGEST:
            return bytes(data[:LARGEST]), True
    return bytes(data), False


async def _plain(stream: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for chunk in stream:
        yield chunk


async def _unpacked(stream: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Decompressed, in pieces of bounded size: a kilobyte can stand for a gigabyte. What is packed counts too."""
    packed, unpacker = 0, zlib.decompressobj(zlib.MAX_WBITS | 32)
    async for chunk in stream:
        packed += len(chunk)
        if packed > LARGEST:
            raise Lost("it sends packed data without end")
        while chunk and not unpacker.eof:
            yield unpacker.decompress(chunk, 65_536)
            chunk = unpacker.unconsumed_tail
    yield unpacker.flush()  # a few hundred bytes at most


def safe_header(name: str, value: str) -> bool:
    """Can it stand on one line of a request?"""
    return bool(
        re.fullmatch(r"[A-Za-z0-9-]{1,60}", name)
        and re.fullmatch(r"[\x21-\x7e](?:[\x20-\x7e]{0,498}[\x21-\x7e])?", value)
    )
