"""Calls to one endpoint: paced, retried while nothing has come, never without an end.

A call yields events as they come. Before the first it is made again where that may help; after it a cut is told to
the caller, who alone knows what to do with a half. Keys go into one header and nowhere else: not into messages, not
into the chain of an exception.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

import httpx

from thinksmith import __version__
from thinksmith.engines.remote.wire.breaker import Breaker
from thinksmith.engines.remote.wire.connections import Connections
from thinksmith.engines.remote.wire.events import MOST_WHOLE, Data, Decoder, Framing, decoder
from thinksmith.engines.remote.wire.faults import (
    Broken,
    Busy,
    Denied,
    Failed,
    Fault,
    Garbled,
    Refused,
    TimedOut,
    Unreachable,
    told,
)
from thinksmith.engines.remote.wire.pace import MOST, START, Pace
from thinksmith.engines.remote.wire.retries import Retries, asked_wait

_BUSY = frozenset({408, 409, 425, 429, 503, 529})
_BUSY_WORDS = re.compile(r"rate.?limit|overload|too many|capacity|busy|quota|try again|loading model", re.IGNORECASE)
_DENIED_WORDS = re.compile(r"api.?key|unauthori|authentication|permission", re.IGNORECASE)
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_DEEPEST = 8
"""Levels of an error's body that are looked through for its text."""
_AFTER_THE_END = 0.05
"""Seconds that an answer which has said that it is complete may take to end."""
_CONTENT = {"json": "application/json", "sse": "text/event-stream", "ndjson": "application/x-ndjson"}


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: to connect, until the first event (a long prompt is computed, a model loaded) and for one that is only
    kept waiting, between two bytes, and for all of an answer (None: as long as it comes)."""

    connect: float = 10.0
    first: float = 600.0
    between: float = 120.0
    whole: float | None = None


class Event(NamedTuple):
    """What came, and how many seconds after the call began."""

    data: Data
    seconds: float


class Client:
    """Calls to `base`. It may be used in one event loop after another, not in two at once.

    The key is removed from whatever a server sends back; `key_variable` is what a missing key's message names. It
    begins with `start` calls at once, and goes up to `most` as the endpoint bears them.
    """

    def __init__(
        self,
        base: str,
        *,
        key: str = "",
        key_variable: str = "",
        patience: Patience | None = None,
        retries: Retries | None = None,
        start: int = START,
        most: int = MOST,
        seed: int | None = None,
    ) -> None:
        self._base, self._key_variable = base, key_variable
        self._headers = {"User-Agent": f"thinksmith/{__version__}", "Accept-Encoding": "gzip, identity"}
        self._headers |= {"Authorization": f"Bearer {key}"} if key else {}
        self._urls: dict[str, httpx.URL] = {}
        self._secrets = (key,) if key else ()
        self._patience = patience or Patience()
        self._retries = retries or Retries()
        self._random = Random(seed)
        self._pace = Pace(start, most)
        self._breaker = Breaker(base)
        self._open: Connections | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reached = False

    def __repr__(self) -> str:
        return f"Client({self._base!r})"

    @property
    def room(self) -> int:
        """How many more calls the endpoint bears now."""
        return self._pace.room

    async def aclose(self) -> None:
        """Close what is open. Running calls fail."""
        connections, self._open = self._open, None
        if connections is not None and self._loop is asyncio.get_running_loop():
            await connections.aclose()

    async def get(self, path: str) -> Data:
        """The JSON object at a path, in one try. Raises Fault."""
        async with aclosing(self._once("GET", path, None, "json", Progress())) as events:
            async for event in events:
                return event.data
        raise Garbled(f"{self._base}{path}: the answer is empty")

    async def call(
        self, path: str, body: Mapping[str, Any], *, framing: Framing = "sse", progress: Progress | None = None
    ) -> AsyncGenerator[Event]:
        """Events of one answer. Raises Fault; Broken or another once events have come, when the caller must decide.

        `progress` is told how many tries were made and whether the stream was complete.
        """
        progress = progress or Progress()
        async with self._pace.turn():
            waited = 0.0
            while True:
                progress.tries += 1
                came = 0
                began = time.perf_counter()
                try:
                    async with aclosing(self._once("POST", path, body, framing, progress)) as events:
                        async for event in events:
                            came += 1
                            yield event
                    self._pace.went_well(time.perf_counter() - began, came)
                    return
                except Fault as fault:
                    if isinstance(fault, (Busy, TimedOut)):
                        self._pace.too_much()
                    wait = self._retries.wait(progress.tries, fault.after, waited, self._random)
                    nobody = isinstance(fault, Unreachable) and not self._reached  # it was never there: why wait?
                    if came or not fault.retryable or wait is None or nobody:
                        raise self._final(fault, progress.tries) from None
                    waited += wait
                await asyncio.sleep(wait)

    def _final(self, fault: Fault, tries: int) -> Fault:
        """What is told in the end: a wait that is too long by its length, several tries by their number."""
        if fault.after and fault.after > 60:
            return Busy(
                f"{fault} (it asks to wait {fault.after / 60:,.0f} minutes)", status=fault.status, after=fault.after
            )
        return type(fault)(f"{fault} ({tries} tries)", status=fault.status, after=fault.after) if tries > 1 else fault

    async def _once(
        self, method: str, path: str, body: Mapping[str, Any] | None, framing: Framing, progress: Progress
    ) -> AsyncGenerator[Event]:
        """One request. Whether the endpoint answered at all is told to the breaker."""
        self._breaker.enter()
        began = time.perf_counter()
        judged = False
        try:
            async with asyncio.timeout(self._patience.whole):
                async with aclosing(self._answer(method, path, body, framing, progress)) as events:
                    async for data in events:
                        if not judged:
                            self._breaker.succeeded()
                            judged = self._reached = True
                        yield Event(data, time.perf_counter() - began)
        except TimeoutError:
            raise TimedOut(f"{self._base}: no end after {self._patience.whole:g} s") from None
        except Fault as fault:
            if isinstance(fault, (Unreachable, TimedOut, Broken)) and not judged:
                self._breaker.failed(type(fault).__name__.lower())
            else:
                self._breaker.succeeded()
                self._reached = True
            judged = True
            raise
        finally:
            if not judged:
                self._breaker.left()

    async def _answer(
        self, method: str, path: str, body: Mapping[str, Any] | None, framing: Framing, progress: Progress
    ) -> AsyncGenerator[Data]:
        with self._connections().one() as http:
            response = await self._response(http, method, path, body, framing)
            try:
                decoding = await self._decoding(response, framing)
                async with aclosing(self._events(response, decoding)) as events:
                    async for data in events:
                        self._look(data)
                        yield data
                progress.ended = decoding.ended
            except httpx.TransportError as error:
                fault = self._transport(error, open=True)
                raise fault from None
            except httpx.DecodingError:
                raise Garbled(f"{self._base}: what came cannot be unpacked") from None
            finally:
                await response.aclose()

    async def _response(
        self, http: httpx.AsyncClient, method: str, path: str, body: Mapping[str, Any] | None, framing: Framing
    ) -> httpx.Response:
        """Status and headers."""
        if path not in self._urls:
            self._urls[path] = httpx.URL(self._base + path)
        headers = self._headers | {"Accept": f"{_CONTENT[framing]}, application/json"}
        content = None
        if body is not None:  # half a surrogate pair, which UTF-8 cannot carry, goes as "?"
            headers["Content-Type"] = "application/json"
            try:
                content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
            except ValueError:
                raise Refused(
                    f"{self._base} cannot be sent a setting that is inf or nan: JSON has no such number"
                ) from None
        request = httpx.Request(method, self._urls[path], content=content, headers=headers)
        try:
            async with asyncio.timeout(self._patience.first + self._patience.connect):
                return await self._send(http, request)
        except TimeoutError:
            raise TimedOut(f"{self._base}: no answer within {self._patience.first:g} s") from None
        except httpx.TransportError as error:
            fault = self._transport(error)
            raise fault from None

    async def _send(self, http: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        """A connection from the pool may have been closed meanwhile; that costs a second request and no failure."""
        try:
            return await http.send(request, stream=True)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            headers = {**request.headers, "Connection": "close"}
            fresh = httpx.Request(request.method, request.url, content=request.content, headers=headers)
            return await http.send(fresh, stream=True)

    async def _decoding(self, response: httpx.Response, framing: Framing) -> Decoder:
        """How to read it: as asked, unless its type says otherwise and can be read too. Raises what a status means."""
        status, kind = response.status_code, response.headers.get("content-type", "").split(";")[0].strip().lower()
        if response.is_redirect:
            to = told(response.headers.get("location", "nowhere"), self._secrets)
            raise Refused(f"{self._base} redirects to {to}: write that address, if you trust it", status=status)
        if status != 200:
            self._raise(status, self._said(await self._beginning(response)), asked_wait(response.headers))
        if kind in ("text/html", "application/xhtml+xml"):
            title = _TITLE.search(await self._beginning(response))
            shown = f" ({told(title[1].decode(errors='replace'), self._secrets)!r})" if title else ""
            raise Garbled(f"{self._base} sends a web page{shown}: is this the address of the API?")
        if kind == "text/event-stream":
            framing = "sse"
        elif kind in ("application/x-ndjson", "application/jsonl", "application/jsonlines"):
            framing = "ndjson"
        elif kind == "application/json" and framing == "sse":
            framing = "json"  # a server that does not stream
        return decoder(framing)

    async def _events(self, response: httpx.Response, decoding: Decoder) -> AsyncGenerator[Data]:
        """Of a body. Its first byte may take longer than those behind it: headers come before a prompt is computed."""
        chunks, size, patience, last = response.aiter_bytes(), 0, self._patience.first, time.monotonic()
        while chunk := await self._next(chunks, patience):
            size, patience = size + len(chunk), self._patience.between
            if size > MOST_WHOLE:
                raise Garbled(f"{self._base}: the answer is longer than {MOST_WHOLE:,} bytes")
            for data in decoding.feed(chunk):
                yield data
                last = time.monotonic()
            if time.monotonic() - last > self._patience.first:  # comments and empty lines keep connections alive
                raise TimedOut(f"{self._base}: no part of an answer came for {self._patience.first:g} s")
            if decoding.ended:
                with suppress(httpx.HTTPError, TimedOut):  # an end that is read too leaves the connection for others
                    while size < MOST_WHOLE and (chunk := await self._next(chunks, _AFTER_THE_END)):
                        size += len(chunk)
                return
        for data in decoding.finish():
            yield data

    async def _next(self, chunks: AsyncIterator[bytes], patience: float) -> bytes:
        """The next bytes; none at the end."""
        try:
            async with asyncio.timeout(patience):
                return await anext(chunks, b"")
        except TimeoutError:
            raise TimedOut(f"{self._base}: nothing came for {patience:g} s") from None

    async def _beginning(self, response: httpx.Response) -> bytes:
        """As much of an error's body as one may want to read."""
        found, chunks = b"", response.aiter_bytes()
        while len(found) < 2**16 and (chunk := await self._next(chunks, self._patience.between)):
            found += chunk
        return found

    def _said(self, body: bytes) -> str:
        """What an error's body says, whatever its form."""
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            title = _TITLE.search(body)
            text = title[1] if title else b"" if b"<html" in body[:500].lower() else body[:400]
            return told(text.decode(errors="replace"), self._secrets)
        return told(_message(found), self._secrets)

    def _look(self, data: Data) -> None:
        """An error may come with status 200, or in the middle of a stream."""
        error = data.get("error")
        if not error or data.get("choices") or (isinstance(data.get("object"), str) and data["object"] == "response"):
            return
        status = error.get("code") if isinstance(error, dict) else None
        self._raise(status if isinstance(status, int) else 200, told(_message(data), self._secrets), None)

    def _raise(self, status: int, said: str, after: float | None) -> None:
        what = f"{self._base}: {said or 'no reason given'} (HTTP {status})"
        if status in (401, 403) or (status == 200 and _DENIED_WORDS.search(said)):
            hint = f"; set {self._key_variable} to a key" if self._key_variable and not self._secrets else ""
            raise Denied(f"{what}{hint}", status=status)
        if status in _BUSY or (status < 500 and _BUSY_WORDS.search(said)):
            raise Busy(what, status=status, after=after)
        if status >= 500 or status == 200:
            raise Failed(what, status=status, after=after)
        raise Refused(what, status=status)

    def _transport(self, error: httpx.TransportError, *, open: bool = False) -> Fault:
        if isinstance(error, (httpx.ConnectTimeout, httpx.PoolTimeout)):
            return Unreachable(f"{self._base}: no connection within {self._patience.connect:g} s")
        if isinstance(error, httpx.TimeoutException):
            return TimedOut(f"{self._base}: nothing came for {self._patience.between:g} s")
        said = told(str(error) or type(error).__name__, self._secrets)
        if "CERTIFICATE_VERIFY_FAILED" in said:
            return Unreachable(
                f"{self._base} has a certificate that is not trusted here ({said}): SSL_CERT_FILE adds one"
            )
        if isinstance(error, (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.ProxyError)):
            return Unreachable(f"nothing answers at {self._base} ({said}): is the server running?")
        return Broken(f"{self._base} cut the connection{' in the middle' if open else ''} ({said})")

    def _connections(self) -> Connections:
        """Those of the running event loop."""
        loop = asyncio.get_running_loop()
        if self._open is None or self._loop is not loop:
            if self._loop is not None and self._loop is not loop:
                self._pace.forget()
            self._loop = loop
            patience = self._patience
            self._open = Connections(self._base, patience.connect, max(patience.first, patience.between))
        return self._open


@dataclass(slots=True)
class Progress:
    """`tries` of a call so far; `ended`: the stream said itself that it is complete."""

    tries: int = 0
    ended: bool = False


def _message(found: Any) -> str:
    """The text in `{"error": {"message": …}}`, `{"error": …}`, `{"message": …}`, `{"detail": …}`."""
    for _ in range(_DEEPEST):
        inner = [found[0]] if isinstance(found, list) and found else []
        if isinstance(found, dict):
            inner = [found[key] for key in ("error", "message", "detail", "msg") if found.get(key)]
        if not inner:
            break
        found = inner[0]
    return str(found) if not isinstance(found, dict) else (" ".join(f"{k}: {v}" for k, v in found.items()))[:400]
