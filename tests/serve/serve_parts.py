"""A server on loopback in this process, over real connections, and a small engine whose pace a test decides."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from thinksmith.engines.contract import Delta, EngineInfo
from thinksmith.records import Request, Trace


@dataclass
class Scripted:
    """Fulfils the Engine contract: writes `text` in pieces of one character, as slowly as `pause` says. A prompt that
    holds `fail` fails as a model does, one that holds `raise` as a program does."""

    text: str = "yes"
    thinking: str = "hm"
    pause: float = 0.0
    running: int = 0
    cancelled: int = 0
    seen: list[Request] = field(default_factory=list)

    @property
    def info(self) -> EngineInfo:
        return EngineInfo("scripted", context_length=100_000, budget=True)

    @property
    def room(self) -> int:
        return 8

    def _trace(self, request: Request) -> Trace:
        asked = request.messages[-1]["content"] if request.messages else ""
        count = len(self.text)
        made = Trace(
            self.thinking, self.text, thinking_tokens=2, answer_tokens=count, prompt_tokens=3, model="scripted"
        )
        if "fail" in asked:
            return replace(made, finish="error", error="the weights are tired", answer="", thinking="", answer_tokens=0)
        return replace(made, sampling=request.sampling)

    async def sample(self, request: Request) -> list[Trace]:
        traces = []
        for at in range(request.n):
            async for delta in self.stream(replace(request, n=1, first=at)):
                traces += [delta.trace] if delta.trace else []
        return traces

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.seen.append(request)
        self.running += 1
        try:
            if request.messages and "raise" in request.messages[-1]["content"]:
                raise ValueError("SEC" + "RET of the prompt")
            trace = self._trace(request)
            if trace.finish != "error":
                yield Delta("thinking", trace.thinking)
                for character in trace.answer:
                    await asyncio.sleep(self.pause)
                    yield Delta("answer", character)
            yield Delta("done", trace=trace)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    def sample_all(self, requests: Sequence[Request]) -> list[list[Trace]]:
        raise NotImplementedError

    async def aclose(self) -> None:
        pass


@dataclass
class Serving:
    """A server that runs: its port, its application and the uvicorn behind it."""

    port: int
    app: Any
    server: Any

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@contextmanager
def serving(app: Any, grace: float = 5) -> Iterator[Serving]:
    """Runs an application in a thread until the end of the block."""
    import uvicorn

    from thinksmith.serve.connection import Connection
    from thinksmith.serve.server import bind

    listening = bind("127.0.0.1", 0, "")
    port = listening.getsockname()[1]
    config = uvicorn.Config(
        app, http=Connection, ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=int(grace)
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield Serving(port, app, server)
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the server does not stop"


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until it holds; fails if it never does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.01)
