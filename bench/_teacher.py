"""A teacher for bench/collect.py and collect_kills.py, in a process of its own: a server of chat completions that
answers sums, rightly or wrongly as the request's seed decides, after a while.

    python _teacher.py LATENCY_SECONDS [LOG [SHARE_OF_FAILURES]]

It prints its port, and ends when its standard input does. Into LOG goes a line with the seed of each request when it
comes. That share of requests is answered with HTTP 500.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

PIECES = 20  # of a stream, half of them thinking: as many as bench/endpoint.py has
RIGHT = 0.6  # share of its answers
_SUM = re.compile(r"(\d+) \+ (\d+)")


def answer(question: str, seed: int) -> tuple[list[str], list[str]]:
    """The pieces of the thinking and of the answer, by question and seed alone."""
    found = _SUM.search(question)
    total = int(found[1]) + int(found[2]) if found else 0
    dice = sha256(f"{question}\0{seed}".encode()).digest()
    said = total if dice[0] < 256 * RIGHT else total + 1 + dice[1] % 9
    thinking = [f"word{dice[i]} " for i in range(PIECES // 2)]
    return thinking, [*["So it goes. "] * (PIECES // 2 - 1), f"The answer is {said}."]


def response(body: dict[str, Any]) -> bytes:
    """A stream of server-sent events, or one JSON object where no stream is asked for."""
    thinking, said = answer(str(body["messages"][-1]["content"]), int(body.get("seed") or 0))
    count = len(thinking) + len(said)
    usage = {"prompt_tokens": 9, "completion_tokens": count}
    usage["completion_tokens_details"] = {"reasoning_tokens": len(thinking)}  # type: ignore[assignment]
    if not body.get("stream"):
        message = {"role": "assistant", "reasoning_content": "".join(thinking), "content": "".join(said)}
        whole = {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
        return _http("200 OK", "application/json", json.dumps(whole))
    pieces = [("reasoning_content", text) for text in thinking] + [("content", text) for text in said]
    events = [{"id": "x", "choices": [{"index": 0, "delta": {field: text}}]} for field, text in pieces]
    events.append({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage})
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    return _http("200 OK", "text/event-stream", text)


def _http(status: str, kind: str, text: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


class Desk(asyncio.Protocol):
    """Answers `latency` seconds after the head and the body of a request are there."""

    def __init__(self, latency: float, log: int | None, failing: float, random: Random) -> None:
        self._latency, self._log, self._failing, self._random = latency, log, failing, random
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n")[0]) if at >= 0 else 0
            if len(self._held) < end + 4 + length:
                return
            body = json.loads(self._held[end + 4 : end + 4 + length])
            self._held = self._held[end + 4 + length :]
            if self._log is not None:
                os.write(self._log, f"{body.get('seed')}\n".encode())
            asyncio.get_running_loop().call_later(self._latency, self._answer, body)

    def _answer(self, body: dict[str, Any]) -> None:
        if self._transport.is_closing():
            return
        failed = self._random.random() < self._failing
        self._transport.write(_http("500 Oops", "application/json", "{}") if failed else response(body))


@contextmanager
def teacher(latency: float, log: Path | None = None, failing: float = 0.0) -> Iterator[str]:
    """The address of one."""
    command = [sys.executable, __file__, str(latency), *([str(log), str(failing)] if log else [])]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.stdin.close()
        server.wait(10)


async def main(latency: float, log: str = "", failing: float = 0.0) -> None:
    to = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if log else None
    random = Random(0)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Desk(latency, to, failing, random), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # until who started it closes that


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), *sys.argv[2:3], *map(float, sys.argv[3:4])))
