"""Who may ask: the wrong Host, a foreign page and a missing token are turned away before anything else happens."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from thinksmith.serve.app import error_of
from thinksmith.serve.guard import Guard, Rules

TOKEN = "correct-horse-battery"


async def _app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"in"})


def _ask(
    rules: Rules, path: str = "/v1/models", method: str = "GET", headers: dict[str, str] | None = None
) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=Guard(_app, rules, error_of))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8383") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:9", "127.0.0.1:8383", "[::1]:8383", "10.1.2.3", "a.localhost", "Chat.Example.org"]
)
def test_our_own_names_and_all_addresses_pass(host: str) -> None:
    assert _ask(Rules(public=("https://chat.example.org",)), headers={"host": host}).text == "in"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "chat.example.org.evil", "[evil]", ""]
)
def test_a_name_that_was_made_to_lead_here_is_refused(host: str) -> None:
    assert _ask(Rules(public=("https://chat.example.org",)), headers={"host": host}).status_code == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8383", 200),
        ("https://chat.example.org", 200),
        ("http://localhost:3000", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("http://chat.example.org", 403),
        ("https://chat.example.org.evil", 403),
    ],
)
def test_pages_of_other_origins_are_refused(origin: str, status: int) -> None:
    for path in ("/v1/models", "/health", "/"):
        answer = _ask(Rules(public=("https://chat.example.org",)), path, headers={"origin": origin})
        assert answer.status_code == status
        shared = answer.headers.get("access-control-allow-origin")
        assert shared == (origin if origin == "https://chat.example.org" else None)


def test_a_preflight_is_answered_for_public_origins_alone() -> None:
    rules = Rules(TOKEN, ("https://chat.example.org",))
    asked = _ask(rules, method="OPTIONS", headers={"origin": "https://chat.example.org"})
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, "https://chat.example.org")
    assert _ask(rules, method="OPTIONS", headers={"origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {TOKEN}"},
        {"authorization": f"bearer {TOKEN}"},
        {"x-api-key": TOKEN},
    ],
)
def test_the_token_opens(headers: dict[str, str]) -> None:
    assert _ask(Rules(TOKEN), headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
        {"x-api-key": ""},
        {"cookie": f"token={TOKEN}"},
    ],
)
@pytest.mark.parametrize(("path", "method"), [("/v1/models", "GET"), ("/metrics", "GET"), ("/", "POST")])
def test_nothing_else_does(headers: dict[str, str], path: str, method: str) -> None:
    answer = _ask(Rules(TOKEN), path, method, headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("path", ["/", "/health", "/page/app.js"])
def test_the_page_and_the_health_need_no_token(path: str) -> None:
    assert _ask(Rules(TOKEN), path).status_code == 200
    assert _ask(Rules(TOKEN), path, headers={"host": "evil.example"}).status_code == 403


def test_a_refusal_has_the_form_of_its_api() -> None:
    assert set(_ask(Rules(TOKEN), "/api/tags").json()) == {"error"}
    assert isinstance(_ask(Rules(TOKEN), "/api/tags").json()["error"], str)
    assert set(_ask(Rules(TOKEN), "/v1/models").json()["error"]) == {"message", "type", "param", "code"}
