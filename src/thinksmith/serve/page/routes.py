"""The files of the page, as they are, under a policy that lets nothing else in.

The page's script comes from here and from nowhere else, speaks to this server and to nobody else, and cannot turn
text into markup: with Trusted Types required and none allowed, `innerHTML` and its kin throw.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",  # asked each time, answered with 304: a new version is there at once
}


def page_routes() -> list[Route]:
    """`GET /` and `GET /page/NAME` for each file. They hold nothing of anybody's, so they need no token."""
    from starlette.routing import Route

    folder = files(__package__).joinpath("static")
    found = sorted(each.name for each in folder.iterdir() if each.name.rpartition(".")[2] in _TYPES)
    return [
        Route("/" if name == "index.html" else f"/page/{name}", _Sends(name, folder.joinpath(name).read_bytes()).send)
        for name in found
    ]


class _Sends:
    """One file, read once."""

    def __init__(self, name: str, body: bytes) -> None:
        self._body, self._type = body, _TYPES[name.rpartition(".")[2]]
        self._tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'

    async def send(self, request: Request) -> Response:
        from starlette.responses import Response

        headers = HEADERS | {"ETag": self._tag}
        if self._tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self._body, media_type=self._type, headers=headers)
