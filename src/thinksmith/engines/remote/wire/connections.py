"""The connections to one endpoint, in groups: for each request httpx looks through all connections of a client, so with
hundreds of them the looking costs more than the request. A client of ours has a few, and there are several.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

GROUP = 8
"""Requests that share a client."""
_HERE = re.compile(r"http://(127\.|localhost[:/]|localhost$|\[::1\])")


class Connections:
    """To `base`, in one event loop: they belong to it, and die with it.

    Nothing is read for longer than `silence` seconds, nor is a connection made for longer than `connect`.
    """

    def __init__(self, base: str, connect: float, silence: float) -> None:
        self._timeout = httpx.Timeout(silence, connect=connect, pool=None)
        self._near = bool(_HERE.match(base))
        self._tls = ssl.create_default_context() if base.startswith("https") else False
        self._clients: list[httpx.AsyncClient] = []
        self._running: list[int] = []

    @contextmanager
    def one(self) -> Iterator[httpx.AsyncClient]:
        """A client with room, for one request: the first, so that few connections are open where few are needed."""
        at = next((at for at, running in enumerate(self._running) if running < GROUP), len(self._clients))
        if at == len(self._clients):
            self._clients.append(self._new())
            self._running.append(0)
        self._running[at] += 1
        try:
            yield self._clients[at]
        finally:
            self._running[at] -= 1

    def _new(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            timeout=self._timeout,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=GROUP, keepalive_expiry=15),
            trust_env=not self._near,  # no proxy between us and ourselves
            verify=self._tls,
        )

    async def aclose(self) -> None:
        for client in self._clients:
            await client.aclose()
