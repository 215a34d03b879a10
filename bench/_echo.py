"""An echo server for bench/endpoint.py, in a process of its own:

every request gets the same stream of events at once.
"""

from __future__ import annotations

import asyncio
import json
import sys

EVENTS = 20


def stream() -> bytes:
    """A chat completion of 20 tokens, ten of them thinking."""
    fields = ["reasoning_content"] * (EVENTS // 2) + ["content"] * (EVENTS // 2)
    events = [{"id": "x", "choices": [{"index": 0, "delta": {field: f"word{i} "}}]} for i, field in enumerate(fields)]
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": EVENTS,
        "completion_tokens_details": {"reasoning_tokens": EVENTS // 2},
    }
    events += [{"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


class Echo(asyncio.Protocol):
    """Answers when the head and the body of a request are there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._held = b""

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n")[0]) if at >= 0 else 0
            if len(self._held) < end + 4 + length:
                return
            self._held = self._held[end + 4 + length :]
            self._transport.write(ANSWER)


ANSWER = stream()


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until the bench closes it


if __name__ == "__main__":
    asyncio.run(main())
