"""What an MCP server sends over HTTP, within bounds: the `mcp` package reads a JSON answer whole, however long."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2

LARGEST = 8_000_000  # bytes of an answer that is no stream of events


class Bounded(httpx2.AsyncBaseTransport):
    """Another transport, whose answers end with an error where they grow too long or are packed."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise httpx2.DecodingError("it packs its answers, which was not asked for", request=request)
        events = response.headers.get("content-type", "").lower().startswith("text/event-stream")
        if not events:  # of those, mcp bounds each event
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _Counted(response.stream, request)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, request: httpx2.Request) -> None:
        self._inner, self._request = inner, request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async for chunk in self._inner:
            read += len(chunk)
            if read > LARGEST:
                raise httpx2.ReadError(f"its answer is longer than {LARGEST:,} bytes", request=self._request)
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
