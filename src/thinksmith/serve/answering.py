"""One request, from its body to its last byte.

A request is one task: it reads the body, waits for its places, and sends pieces as they come. A second one listens for
the client's leaving, which cancels the first, and that frees the engine's slots. Nothing is made per token: what has
come since the last frame is one frame, and under load all streams send at the same beats.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from thinksmith.engines.contract import Encodes, Scores
from thinksmith.serve.asked import Asked, Piece, Refusal
from thinksmith.serve.dialect import Dialect, Framing, Stamp, as_json, framed
from thinksmith.serve.fields import body_of
from thinksmith.serve.generate import Keep, complete, generate, refusal_of
from thinksmith.serve.metrics import LEFT, Call, Metrics
from thinksmith.serve.models import Served, Shelf

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Frames = AsyncGenerator[list[dict[str, Any]]]

PING_AFTER = 10.0  # seconds without a byte after which an event stream is told that it lives


@dataclass(frozen=True, slots=True)
class Limits:
    """`body` bytes, in `body_seconds`; `n` completions of a request; a client that takes nothing for `write_seconds` is
    left."""

    body: int = 4 << 20
    body_seconds: float = 30.0
    n: int = 128
    write_seconds: float = 30.0


class ClientLeft(Exception):
    """Nobody reads the answer any more."""


class House:
    """What all requests share."""

    def __init__(self, shelf: Shelf, limits: Limits, metrics: Metrics, keep: Keep | None = None) -> None:
        self.shelf, self.limits, self.metrics, self.keep = shelf, limits, metrics, keep
        self.replies: set[Reply] = set()

    async def watch(self) -> None:
        """Look after all replies, each second: leave clients that take nothing, tell waiting ones that we live."""
        pings: set[asyncio.Task[None]] = set()
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for reply in list(self.replies):
                if reply.since is not None and now - reply.since > self.limits.write_seconds:
                    reply.leave()
                elif reply.since is None and reply.pings and now - reply.last > PING_AFTER:
                    task = asyncio.create_task(reply.ping())
                    pings.add(task)
                    task.add_done_callback(pings.discard)


class Reply:
    """The response as it goes out."""

    def __init__(self, scope: Scope, send: Send, stamp: Stamp) -> None:
        self._scope, self._send, self.stamp = scope, send, stamp
        self.status = 0
        self.complete = False
        self.stalled = False
        self.pings: str = ""  # the media type of an event stream that may be begun, or kept alive, by a ping
        self.since: float | None = None  # when the write began that is under way
        self.last = time.monotonic()
        self.task: asyncio.Task[Any] | None = asyncio.current_task()

    async def whole(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """A JSON body."""
        raw = as_json(body)
        await self._start(
            status, {"content-type": "application/json", "content-length": str(len(raw)), **(headers or {})}
        )
        await self._body(raw, more=False)

    async def frames(self, media_type: str, raw: bytes) -> None:
        """The next frames of a stream; the first ones begin it."""
        if not self.status:
            await self._start(200, {"content-type": media_type, "x-accel-buffering": "no"})
        if raw:
            await self._body(raw, more=True)

    async def end(self, raw: bytes = b"") -> None:
        await self._body(raw, more=False)

    async def ping(self) -> None:
        """A comment, which event streams may have anywhere."""
        if self.pings and not self.complete:
            await self.frames(self.pings, b": working\n\n")

    def leave(self) -> None:
        """Give the client up: it takes nothing."""
        self.stalled = True
        if abort := self._scope.get("extensions", {}).get("thinksmith.abort"):
            abort()
        if self.task is not None:
            self.task.cancel()

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        every = {"cache-control": "no-store", "x-request-id": self.stamp.id, **headers}
        pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in every.items()]
        await self._put({"type": "http.response.start", "status": status, "headers": pairs})

    async def _body(self, raw: bytes, *, more: bool) -> None:
        self.complete = self.complete or not more
        await self._put({"type": "http.response.body", "body": raw, "more_body": more})

    async def _put(self, message: MutableMapping[str, Any]) -> None:
        self.since = self.last = time.monotonic()
        await self._send(message)
        self.since = None


@dataclass(frozen=True, slots=True)
class Work:
    """What a body asks for, once the model is known: its `weight` at the gate, and how it is answered."""

    served: Served
    stream: bool
    weight: int
    whole: Callable[[], Awaitable[dict[str, Any]]]
    frames: Callable[[], Frames]
    fail: Callable[[Refusal], list[dict[str, Any]]]


class Endpoint:
    """Answers the bodies of one route. `plan` turns a body into work; it raises Refusal."""

    def __init__(
        self,
        house: House,
        name: str,
        plan: Callable[[House, Mapping[str, Any], Stamp, Call], Work | dict[str, Any]],
        error: Callable[[Refusal], dict[str, Any]],
        framing: Framing = "data",
        last: bytes = b"",
    ) -> None:
        self._house, self._name, self._plan, self._error = house, name, plan, error
        self._framing: Framing = framing
        self._last = last
        self._media = "application/x-ndjson" if framing == "lines" else "text/event-stream; charset=utf-8"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        house, began = self._house, time.perf_counter()
        stamp = Stamp(secrets.token_hex(12), int(time.time()), began)
        reply = Reply(scope, send, stamp)
        call = Call(self._name, began, (scope.get("client") or ("-",))[0])
        house.replies.add(reply)
        house.metrics.at_work += 1
        try:
            await self._serve(receive, reply, call)
        except ClientLeft:
            call.status = LEFT
        finally:
            house.replies.discard(reply)
            house.metrics.at_work -= 1
            call.status = call.status or reply.status or LEFT
            house.metrics.end(call, time.perf_counter())

    async def _serve(self, receive: Receive, reply: Reply, call: Call) -> None:
        work: Work | dict[str, Any] | None = None
        try:
            body = body_of(await read_body(receive, self._house.limits))
            work = self._plan(self._house, body, reply.stamp, call)
            if isinstance(work, dict):
                await self._at_once(work, reply)
                return
            call.model = work.served.base.name
            async with attended(receive, reply), work.served.base.gate.enter(work.weight):
                if work.stream:
                    await self._stream(work, reply)
                else:
                    await reply.whole(200, await work.whole())
        except ClientLeft:
            raise
        except Exception as error:
            await self._refuse(refusal_of(error) or _bug(error), work, reply, call)

    async def _at_once(self, body: dict[str, Any], reply: Reply) -> None:
        if self._framing == "lines" and body.pop("_stream", False):
            await reply.frames(self._media, framed(self._framing, [body]))
            await reply.end()
        else:
            body.pop("_stream", None)
            await reply.whole(200, body)

    async def _stream(self, work: Work, reply: Reply) -> None:
        reply.pings = self._media if self._framing != "lines" else ""
        try:
            async with aclosing(work.frames()) as found:
                async for frames in found:
                    await reply.frames(self._media, framed(self._framing, frames))
            reply.pings = ""
            await reply.end(self._last)
        finally:
            reply.pings = ""

    async def _refuse(self, refusal: Refusal, work: Work | dict[str, Any] | None, reply: Reply, call: Call) -> None:
        """With its status, or where the stream has begun already, in it."""
        if reply.complete:
            return
        if reply.status:
            call.status = refusal.status
            frames = work.fail(refusal) if isinstance(work, Work) else [self._error(refusal)]
            await reply.frames(self._media, framed(self._framing, frames))
            await reply.end()
            return
        await reply.whole(refusal.status, self._error(refusal), refusal_headers(refusal))


def refusal_headers(refusal: Refusal) -> dict[str, str]:
    headers = {} if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
    if refusal.status in (408, 413):
        headers["connection"] = "close"  # the rest of the body is not read
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    return headers


def _bug(error: Exception) -> Refusal:
    """What went wrong goes to the log without its message, which may hold what a client sent."""
    lines = "".join(traceback.format_tb(error.__traceback__))
    print(f"thinksmith: {type(error).__name__} while a request was served\n{lines}", file=sys.stderr, end="")
    return Refusal(f"the server failed ({type(error).__name__})", status=500)


async def read_body(receive: Receive, limits: Limits) -> bytes:
    """Raises Refusal for one that is too long (413) or too slow (408), ClientLeft for one that breaks off."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limits.body:
                    raise Refusal(f"the body is longer than {limits.body} bytes", status=413)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise Refusal(f"the body took longer than {limits.body_seconds:g} s", status=408) from None


@asynccontextmanager
async def attended(receive: Receive, reply: Reply) -> AsyncIterator[None]:
    """Cancels what is inside once the client leaves, and raises ClientLeft then."""
    task, left = asyncio.current_task(), False

    async def listen() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        if not reply.complete and task is not None:
            left = True
            task.cancel()

    listener = asyncio.create_task(listen())
    try:
        yield
    except asyncio.CancelledError:
        if (left or reply.stalled) and task is not None and task.uncancel() == 0:
            raise ClientLeft from None
        raise
    finally:
        listener.cancel()


# ---- what a body asks for


def planned(dialect: Dialect) -> Callable[[House, Mapping[str, Any], Stamp, Call], Work | dict[str, Any]]:
    """How a dialect's bodies become work."""

    def plan(house: House, body: Mapping[str, Any], stamp: Stamp, call: Call) -> Work | dict[str, Any]:
        asked = dialect.read(body)
        served = house.shelf.find(asked.model)
        if asked.n > house.limits.n:
            raise Refusal(f"n must be {house.limits.n} or less", field="n")
        if dialect.early and (early := dialect.early(asked, served.about, stamp)) is not None:
            return {**early, "_stream": asked.stream}
        stream = dialect.stream(asked, served.about, stamp)

        async def whole() -> dict[str, Any]:
            done = await complete(served, asked, house.keep)
            for piece in done:
                count(call, piece)
            return dialect.whole(asked, done, served.about, stamp)

        async def frames() -> Frames:
            held = stream.begin()
            async with aclosing(generate(served, asked, house.keep)) as pieces:
                async for piece in pieces:
                    count(call, piece)
                    held += stream.feed(piece)
                    if held and piece.part != "done":  # the end of a completion goes with what comes next
                        yield held
                        held = []
            yield [*held, *stream.finish()]

        return Work(served, asked.stream, asked.n * served.draws, whole, frames, stream.fail)

    return plan


def count(call: Call, piece: Piece) -> None:
    """Note a piece of an answer."""
    if call.first is None:
        call.first = time.perf_counter() - call.began
    if piece.trace is not None:
        call.prompt = max(call.prompt, piece.trace.prompt_tokens)
        call.answer += piece.trace.answer_tokens
        call.thinking += piece.tokens - piece.trace.answer_tokens
        call.finished += 1


def plan_completions(house: House, body: Mapping[str, Any], stamp: Stamp, call: Call) -> Work:
    """Raw completions: one body may hold many prompts, which come in together."""
    from thinksmith.serve.openai import completions
    from thinksmith.serve.openai.legacy_logprobs import Scored

    wanted = completions.read(body)
    served = house.shelf.find(wanted.model)

    async def run(asked: Asked) -> AsyncGenerator[Piece]:
        if not asked.stream:
            for piece in await complete(served, asked, house.keep):
                count(call, piece)
                yield piece
            return
        async with aclosing(generate(served, asked, house.keep)) as pieces:
            async for piece in pieces:
                count(call, piece)
                yield piece

    async def score(asked: Asked, top: int) -> Scored:
        engine = served.base.engine
        if not isinstance(engine, Scores) or not isinstance(engine, Encodes):
            raise Refusal(f"echo: {served.base.name} cannot score a text", field="echo")
        ids = asked.token_ids or engine.encode(asked.text)
        found = await engine.prompt_logprobs(ids, top)
        return Scored(ids, found.logprobs, found.top)

    async def whole() -> dict[str, Any]:
        return await completions.answer(wanted, run, score, served.about, stamp)

    async def frames() -> Frames:
        async with aclosing(completions.frames(wanted, run, score, served.about, stamp)) as found:
            async for each in found:
                yield each

    weight = sum(asked.n for asked in wanted.asked)
    return Work(served, wanted.stream, weight, whole, frames, lambda refusal: [completions.error(refusal)])
