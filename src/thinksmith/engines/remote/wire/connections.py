"""The connections to one endpoint, each with an httpx client of its own: for every request a client looks through all
its connections, so that with hundreds of them the looking costs more than the request.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

_HERE = re.compile(r"http://(127\.|localhost[:/]|localhost$|\[::1\])")
_IDLE = 15.0
"""Seconds after which a connection that nobody used is not used again."""


class Connections:
    """To `base`, in one event loop: they belong to it, and die with it.

    Nothing is read for longer than `silence` seconds, nor is a connection made for longer than `connect`.
    """

    def __init__(self, base: str, connect: float, silence: float) -> None:
        self._timeout = httpx.Timeout(silence, connect=connect, pool=None)
        self._near = bool(_HERE.match(base))
        self._tls = ssl.create_default_context() if base.startswith("https") else False
        self._idle: list[httpx.AsyncClient] = []

    @contextmanager
    def one(self) -> Iterator[httpx.AsyncClient]:
        """For one request: that which was used last, so that few stay open where few are needed."""
        client = self._idle.pop() if self._idle else self._new()
        try:
            yield client
        finally:
            self._idle.append(client)

    def _new(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            timeout=self._timeout,
            limits=httpx.Limits(max_keepalive_connections=1, keepalive_expiry=_IDLE),
            trust_env=not self._near,  # no proxy between us and ourselves
            verify=self._tls,
        )

    async def aclose(self) -> None:
        """Close those that are idle; others close when their request is over."""
        while self._idle:
            await self._idle.pop().aclose()
