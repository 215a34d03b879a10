"""Who may ask: the token, the Host and the Origin of every request, before anything else looks at it.

A page anywhere in the user's browser can send requests to a server on loopback. Such a request has the page's Origin,
so foreign origins are refused. By DNS rebinding a page has its own name lead to 127.0.0.1; then the Host is that name,
so names that are not ours are refused. Addresses pass as hosts: no name, nothing to rebind.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from thinksmith.serve.answering import Receive, Scope, Send, refusal_headers
from thinksmith.serve.asked import Refusal
from thinksmith.serve.dialect import as_json

_METHODS = "GET, POST, HEAD, OPTIONS"


@dataclass(frozen=True, slots=True)
class Rules:
    """`token` "" lets everybody in. `public` are addresses such as `https://chat.example.org`, whose host and origin
    are ours too. `open` are the paths, and `open_below` the beginnings of paths, that need no token."""

    token: str = ""
    public: tuple[str, ...] = ()
    open: Collection[str] = ("/", "/health")
    open_below: tuple[str, ...] = ("/page/",)
    _hosts: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        own = {"localhost", socket.gethostname().lower(), *(urlsplit(each).hostname or "" for each in self.public)}
        object.__setattr__(self, "_hosts", frozenset(own - {""}))

    def check(self, scope: Scope) -> None:
        """Raises Refusal: 400, 401, 403."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        hosts = headers.get(b"host", [])
        if len(hosts) != 1:
            raise Refusal("a request has one Host header")
        host = hosts[0].decode("latin-1").lower()
        if not self._is_ours(_hostname(host)):
            raise Refusal("this Host is not served here: start the server with --public for it", status=403)
        for origin in headers.get(b"origin", []):
            self._check_origin(origin.decode("latin-1").lower(), host)
        if self.token and not self._is_open(scope) and not self._knows_token(headers):
            raise Refusal("a token is needed: Authorization: Bearer TOKEN", status=401)

    def is_allowed(self, origin: str) -> bool:
        """Is it the origin of one of the public addresses?"""
        return origin in {each.lower().rstrip("/") for each in self.public}

    def _is_ours(self, name: str) -> bool:
        if name in self._hosts or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return False
        return True

    def _check_origin(self, origin: str, host: str) -> None:
        if self.is_allowed(origin) or origin in (f"http://{host}", f"https://{host}"):
            return
        raise Refusal("pages of this origin may not ask here: start the server with --public for it", status=403)

    def _is_open(self, scope: Scope) -> bool:
        path = scope["path"]
        return scope["method"] in ("GET", "HEAD") and (path in self.open or path.startswith(self.open_below))

    def _knows_token(self, headers: dict[bytes, list[bytes]]) -> bool:
        """Hashes are compared, in constant time: neither how much is right nor the length shows."""
        given = [value[7:].strip() for value in headers.get(b"authorization", []) if value[:7].lower() == b"bearer "]
        given += headers.get(b"x-api-key", [])
        wanted = sha256(self.token.encode()).digest()
        found = False
        for each in given[:4]:
            found |= hmac.compare_digest(sha256(each).digest(), wanted)
        return found


class Guard:
    """Middleware. Pages of the public addresses may read the answers (CORS)."""

    def __init__(self, app: Any, rules: Rules, error: Callable[[str, Refusal], dict[str, Any]]) -> None:
        self._app, self._rules, self._error = app, rules, error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a websocket, which nothing here speaks
            await send({"type": "websocket.close", "code": 1008})
            return
        origin = next((value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"origin"), "")
        allowed = self._rules.is_allowed(origin)
        if scope["method"] == "OPTIONS" and allowed:
            await _answer(send, 204, b"", _cors(origin))
            return
        try:
            self._rules.check(scope)
        except Refusal as refusal:
            body = as_json(self._error(scope["path"], refusal))
            headers = {"content-type": "application/json", "connection": "close", **refusal_headers(refusal)}
            await _answer(send, refusal.status, body, headers)
            return
        await self._app(scope, receive, _with_cors(send, origin) if allowed else send)


async def _answer(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    if status != 204:
        pairs.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def _cors(origin: str) -> dict[str, str]:
    return {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": _METHODS,
        "access-control-allow-headers": "authorization, content-type, x-api-key",
        "access-control-max-age": "600",
        "vary": "origin",
    }


def _with_cors(send: Send, origin: str) -> Send:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            own = ((b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"origin"))
            message["headers"] = [*message.get("headers", ()), *own]
        await send(message)

    return sending


def _hostname(host: str) -> str:
    """`[::1]:8383` and `localhost:8383` without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
