"""The server as an ASGI application: its routes, and the form of every refusal."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from thinksmith.serve.answering import Endpoint, House, Limits, plan_completions, planned, read_body, refusal_headers
from thinksmith.serve.asked import Refusal
from thinksmith.serve.dialect import Dialect, as_json
from thinksmith.serve.fields import Fields, body_of
from thinksmith.serve.guard import Guard, Rules
from thinksmith.serve.metrics import Call, Metrics
from thinksmith.serve.models import Shelf
from thinksmith.serve.ollama import chat as ollama_chat
from thinksmith.serve.ollama import generate as ollama_generate
from thinksmith.serve.ollama import listing as ollama_listing
from thinksmith.serve.ollama import telling
from thinksmith.serve.openai import chat, completions, listing, responses
from thinksmith.serve.openai.errors import error as openai_error
from thinksmith.serve.saving import Saver

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

DIALECTS: dict[str, Dialect] = {
    "/v1/chat/completions": chat.CHAT,
    "/v1/responses": responses.RESPONSES,
    "/api/chat": ollama_chat.CHAT,
    "/api/generate": ollama_generate.GENERATE,
}
"""Path → how it is spoken there. `/v1/completions`, whose bodies hold several prompts, is apart."""

Handler = Callable[["Request"], Awaitable["Response"]]


def error_of(path: str, refusal: Refusal) -> dict[str, Any]:
    """A refusal in the form of the API that the path belongs to."""
    return telling.error(refusal) if path.startswith("/api/") else openai_error(refusal)


class App:
    """The application; `drain` and `at_work` are for whoever stops the server."""

    def __init__(
        self,
        shelf: Shelf,
        rules: Rules | None = None,
        limits: Limits | None = None,
        saver: Saver | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException

        self.shelf, self._saver, self._draining = shelf, saver, False
        self.metrics = Metrics(log)
        self._house = House(shelf, limits or Limits(), self.metrics, saver.keep if saver else None)
        inner = Starlette(
            routes=self._routes(),
            lifespan=self._lifespan,
            exception_handlers={Refusal: _refused, HTTPException: _refused_by_http, Exception: _failed},
        )
        self._app = Guard(inner, rules or Rules(), error_of)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)

    def drain(self) -> None:
        """Take no more requests; those that run go on. /health says 503 from now on."""
        self._draining = True
        for base in self.shelf.bases.values():
            base.gate.close()

    @asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncIterator[None]:
        watch = asyncio.create_task(self._house.watch())
        try:
            yield
        finally:
            watch.cancel()
            self.drain()
            if self._saver:
                await self._saver.aclose()
            await self.shelf.aclose()

    def _routes(self) -> list[Any]:
        from starlette.routing import Route

        from thinksmith.serve.auditing import audited
        from thinksmith.serve.page.routes import page_routes

        house = self._house
        posts: list[Any] = [
            Route(
                path,
                Endpoint(house, path, planned(each), each.error, each.framing, each.last),
                methods=["POST"],
            )
            for path, each in DIALECTS.items()
        ]
        path = "/v1/completions"
        last = b"data: [DONE]\n\n"
        posts.append(
            Route(path, Endpoint(house, path, plan_completions, completions.error, last=last), methods=["POST"])
        )
        gets: dict[str, Callable[[], Any]] = {
            "/v1/models": lambda: listing.models(self.shelf.listed),
            "/api/tags": lambda: ollama_listing.tags(self.shelf.listed),
            "/api/ps": lambda: ollama_listing.ps(self.shelf.listed),
            "/api/version": ollama_listing.version,
            "/openapi.json": self._description,
        }
        return [
            *page_routes(),
            *posts,
            *(Route(path, _gives(give), methods=["GET"]) for path, give in gets.items()),
            Route("/v1/models/{name:path}", self._counted("/v1/models/{name}", self._model), methods=["GET"]),
            Route("/api/show", self._counted("/api/show", self._show), methods=["POST"]),
            Route("/audit", self._counted("/audit", audited), methods=["POST"]),
            Route("/health", self._health, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
        ]

    def _counted(self, route: str, handler: Handler) -> Handler:
        async def counted(request: Request) -> Response:
            call = Call(route, time.perf_counter(), request.client.host if request.client else "-")
            try:
                response = await handler(request)
                call.status = response.status_code
                return response
            except Refusal as refusal:
                call.status = refusal.status
                raise
            finally:
                call.status = call.status or 500
                self.metrics.end(call, time.perf_counter())

        return counted

    def _description(self) -> dict[str, Any]:
        from thinksmith.serve.openapi import describe

        return describe(self.shelf.listed)

    async def _model(self, request: Request) -> Response:
        return _json(listing.model(self.shelf.find(request.path_params["name"]).about))

    async def _show(self, request: Request) -> Response:
        fields = Fields(body_of(await read_body(request.receive, self._house.limits)))
        name = fields.text("model") or fields.text("name") or ""
        return _json(ollama_listing.show(self.shelf.find(name).about))

    async def _health(self, _: Request) -> Response:
        if self._draining:
            return _json({"status": "stopping"}, 503)
        return _json({"status": "ok"})

    async def _metrics(self, _: Request) -> Response:
        from starlette.responses import Response

        self.metrics.unsaved = self._saver.failed if self._saver else 0
        text = self.metrics.text((name, base.gate) for name, base in self.shelf.bases.items())
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def create_app(shelf: Shelf, **options: Any) -> App:
    """The application over a shelf of engines; `options` are those of `App`."""
    return App(shelf, **options)


def _gives(give: Callable[[], Any]) -> Handler:
    async def handler(_: Request) -> Response:
        return _json(give())

    return handler


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    from starlette.responses import Response

    own = {"cache-control": "no-store", **(headers or {})}
    return Response(as_json(body), status, own, media_type="application/json")


async def _refused(request: Request, error: Any) -> Response:
    return _json(error_of(request.url.path, error), error.status, refusal_headers(error))


async def _refused_by_http(request: Request, error: Any) -> Response:
    told = {404: "there is nothing at this path", 405: "this method is not for this path"}
    refusal = Refusal(told.get(error.status_code, str(error.detail)), status=error.status_code)
    return _json(error_of(request.url.path, refusal), error.status_code, dict(error.headers or {}))


async def _failed(request: Request, error: Exception) -> Response:
    print(f"thinksmith: {type(error).__name__} at {request.url.path[:100]}", file=sys.stderr)
    refusal = Refusal(f"the server failed ({type(error).__name__})", status=500)
    return _json(error_of(request.url.path, refusal), 500)
