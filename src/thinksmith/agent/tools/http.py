"""`http:api.example.com+*.docs.example.com:8080+http://localhost:8000`: the hosts that the agent may ask, by a list
that only its owner writes (its grammar: `addresses.py`).

`http_get` looks (GET, HEAD) and follows redirects as far as the list goes; `http_send` changes something elsewhere
(POST, PUT, PATCH, DELETE), is asked about, and follows none.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import ssl
from collections.abc import Mapping, Sequence
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from thinksmith import __version__
from thinksmith.agent.contract import Intent, Result, Tool, ToolFault, Toolset
from thinksmith.agent.tools.addresses import Entry, Url, entry_for, parse_entries, parse_url

if TYPE_CHECKING:
    from thinksmith.agent.tools.fetching import Response

_SECONDS = 30.0  # of a call; the request itself gets a little less
_REDIRECTS = 5
_BODY = 1_000_000  # characters that are sent
_ASKED = (
    "accept",
    "accept-language",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "prefer",
)
_SENT = (*_ASKED, "content-type")
_TOLD = ("location", "etag", "last-modified", "retry-after", "link", "allow")  # of a response's headers
_CHARSETS = re.compile(
    r"utf-?(?:8|16)(?:[bl]e)?|us-ascii|iso-8859-\d{1,2}|windows-125\d|koi8-[ru]|shift_jis|euc-(?:jp|kr)|gb(?:k|2312|18030)|big5"
)
_TEXT = re.compile(r"text/|application/(?:.*\+)?(?:json|xml|javascript|x-ndjson|yaml|x-www-form-urlencoded|sql)\b|\Z")


async def open_toolset(rest: str) -> Toolset:
    """The tools for the hosts that `rest` lists. Raises UserError for a list that cannot be meant."""
    entries = parse_entries(rest)
    shown = ", ".join(entry.text for entry in entries[:20])
    hosts = _Hosts(entries)
    url = {"type": "string", "description": "whole URL", "maxLength": 8_000}
    get = Tool(
        "http_get",
        f"What a URL holds (pages as text). Hosts: {shown}.",
        {
            "type": "object",
            "properties": {
                "url": url,
                "method": {"type": "string", "enum": ["GET", "HEAD"], "description": "GET unless said"},
                "headers": _headers_schema(_ASKED),
            },
            "required": ["url"],
            "additionalProperties": False,
        },
        hosts.get,
        group="http",
        seconds=_SECONDS,
        repeatable=True,
    )
    send = Tool(
        "http_send",
        f"Send something to a URL (POST, PUT, PATCH, DELETE). Hosts: {shown}.",
        {
            "type": "object",
            "properties": {
                "url": url,
                "method": {"type": "string", "enum": ["POST", "PUT", "PATCH", "DELETE"]},
                "body": {"type": "string", "description": "text, such as JSON", "maxLength": _BODY},
                "headers": _headers_schema(_SENT),
            },
            "required": ["url", "method"],
            "additionalProperties": False,
        },
        hosts.send,
        kind="send",
        group="http",
        seconds=_SECONDS,
        intend=hosts.intend,
    )
    return Toolset(f"http:{rest}", (get, send))


def _headers_schema(names: Sequence[str]) -> dict[str, Any]:
    known = {"type": "string", "maxLength": 500}
    return {
        "type": "object",
        "description": f"of {', '.join(names)}",
        "additionalProperties": known,
        "maxProperties": 10,
    }


class _Hosts:
    """What may be asked, and how."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._context: ssl.SSLContext | None = None

    async def get(self, arguments: Mapping[str, Any], _: Intent | None) -> Result:
        headers, method = _headers(arguments, _ASKED), str(arguments.get("method", "GET"))
        url, seen = parse_url(str(arguments["url"])), 0
        try:
            async with asyncio.timeout(_SECONDS - 3):
                while True:
                    response = await self._fetch(url, method, headers, b"")
                    target = _redirected(response)
                    if target is None:
                        break
                    seen += 1
                    if seen > _REDIRECTS:
                        raise ToolFault(f"more than {_REDIRECTS} redirects, the last to {target.text[:200]}")
                    url = target
        except TimeoutError:
            raise ToolFault(f"{url.authority} took longer than {_SECONDS - 3:g} s") from None
        except _lost() as error:
            raise ToolFault(str(error)) from None
        return Result(_told(response, redirected=seen > 0), ok=response.status < 400)

    async def intend(self, arguments: Mapping[str, Any]) -> Intent:
        """What would be sent; nothing is."""
        url, body = parse_url(str(arguments["url"])), _bytes(arguments)
        entry_for(url, self._entries)
        headers = _headers(arguments, _SENT)
        shown = url.text if len(url.text) <= 300 else url.text[:299] + "…"
        record = {
            "method": arguments["method"],
            "url": url.text,
            "sha256": sha256(body).hexdigest(),
            "key": secrets.token_hex(16),
        }
        lines = [f"{name}: {value}" for name, value in headers]
        details = "\n".join([*lines, "", body.decode("utf-8", "replace")])
        return Intent(f"{arguments['method']} {shown}: {len(body):,} bytes", details, record)

    async def send(self, arguments: Mapping[str, Any], intent: Intent | None) -> Result:
        """Raises ToolFault where nothing was sent, another exception where that is not known."""
        url, body = parse_url(str(arguments["url"])), _bytes(arguments)
        key = str(intent.record["key"]) if intent else secrets.token_hex(16)
        headers = _headers(arguments, _SENT)
        if body and "content-type" not in dict(headers):
            headers = (
                *headers,
                ("content-type", "application/json" if _is_json(body) else "text/plain; charset=utf-8"),
            )
        try:
            async with asyncio.timeout(_SECONDS - 3):
                response = await self._fetch(url, str(arguments["method"]), (*headers, ("idempotency-key", key)), body)
        except _lost() as error:
            raise ConnectionError(f"{error}; whether it was done is not known: look before doing it again") from None
        return Result(_told(response, redirected=False), ok=response.status < 400)

    async def _fetch(self, url: Url, method: str, headers: tuple[tuple[str, str], ...], body: bytes) -> Response:
        from thinksmith.agent.tools.fetching import fetch

        entry = entry_for(url, self._entries)
        own = (
            ("user-agent", f"thinksmith/{__version__}"),
            ("accept-encoding", "gzip, deflate"),
            ("connection", "close"),
        )
        if url.scheme == "https" and self._context is None:
            from httpx import create_ssl_context

            self._context = create_ssl_context()
        return await fetch(entry, url, method, (*own, *headers), body, self._context)


def _lost() -> type[Exception]:
    from thinksmith.agent.tools.fetching import Lost

    return Lost


def _headers(arguments: Mapping[str, Any], allowed: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The headers that a model asks for. Raises ToolFault for those that it may not choose."""
    from thinksmith.agent.tools.fetching import safe_header

    given = {str(name).lower(): str(value) for name, value in dict(arguments.get("headers") or {}).items()}
    for name, value in given.items():
        if name not in allowed:
            raise ToolFault(f"the header {name[:60]!r} is refused: there are {', '.join(allowed)}")
        if not safe_header(name, value):
            raise ToolFault(f"the header {name} holds what cannot stand on one line of a request")
    return tuple(given.items())


def _bytes(arguments: Mapping[str, Any]) -> bytes:
    try:
        return str(arguments.get("body", "")).encode()
    except UnicodeEncodeError:
        raise ToolFault("the body holds halves of surrogate pairs: write it in UTF-8") from None


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _redirected(response: Response) -> Url | None:
    """Where a response leads on to; None if it does not. Raises ToolFault for a place that is no URL of ours."""
    target = response.headers.get("location", "")
    if response.status not in (301, 302, 303, 307, 308) or not target:
        return None
    if not target.isascii() or not target.isprintable():
        raise ToolFault(f"{response.url.authority} redirects to what is no URL")
    try:
        return parse_url(urljoin(response.url.text, target))
    except ValueError:
        raise ToolFault(f"{response.url.authority} redirects to what is no URL") from None


def _told(response: Response, *, redirected: bool) -> str:
    """A response as text: the status, a few headers, and the body as far as it can be read."""
    kind = response.headers.get("content-type", "")[:100]
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = ""
    size = f"{'more than ' if response.cut else ''}{len(response.body):,} bytes"
    lines = [", ".join(filter(None, (f"{response.status} {phrase}".strip(), kind, size)))]
    if redirected:
        lines.append(f"of {response.url.text[:500]}")
    lines += [f"{name}: {response.headers[name][:500]}" for name in _TOLD if name in response.headers]
    return "\n".join([*lines, "", _readable(response.body, kind.lower())]).rstrip()


def _readable(body: bytes, kind: str) -> str:
    if not _TEXT.match(kind) or (b"\0" in body[:4_000] and "utf-16" not in kind):
        return "(not text, so it is not shown)" if body else ""
    named = re.search(r"charset\s*=\s*[\"']?([\w-]{2,20})", kind)
    charset = named[1] if named and _CHARSETS.fullmatch(named[1]) else "utf-8"
    try:
        text = body.decode(charset, "replace")
    except LookupError:
        text = body.decode("utf-8", "replace")
    if kind.startswith("text/html") or "xhtml" in kind:
        from thinksmith.agent.tools.html_text import text_of

        return text_of(text)
    return text
