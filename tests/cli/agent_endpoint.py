"""A server on loopback that says what a test wants said, turn by turn, as OpenAI's chat API does."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[str, str]
"""Thinking and answer."""


def calls(name: str, **arguments: Any) -> str:
    """An answer that calls a tool."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


class Endpoint:
    """Use it in a `with`; `model` names it. The last reply comes again and again. `held`: from the reply of this number
    on it waits for `go`. `refused`: from this one on there is no answer but HTTP 400. `asked` are the bodies."""

    def __init__(self, *replies: Reply, held: int = 10**9, refused: int = 10**9) -> None:
        self.replies, self.held, self.refused = replies, held, refused
        self.go = threading.Event()
        self.asked: list[dict[str, Any]] = []

    def __enter__(self) -> Endpoint:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                number = len(endpoint.asked)
                endpoint.asked.append(body)
                if number >= endpoint.held:
                    endpoint.go.wait(60)
                if number >= endpoint.refused:
                    self._send(400, "application/json", json.dumps({"error": {"message": "out of order"}}))
                    return
                thinking, answer = endpoint.replies[min(number, len(endpoint.replies) - 1)]
                self._send(200, "text/event-stream", _events(thinking, answer))

            def _send(self, status: int, kind: str, text: str) -> None:
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", kind)
                    self.end_headers()
                    self.wfile.write(text.encode())
                except OSError:
                    pass  # the client was killed

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def model(self) -> str:
        return f"vllm/m@http://127.0.0.1:{self._server.server_port}"


def _events(thinking: str, answer: str) -> str:
    deltas: Sequence[dict[str, str]] = [{"reasoning_content": thinking}, {"content": answer}]
    events: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta}]} for delta in deltas if any(delta.values())
    ]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events.append({"choices": [], "usage": {"prompt_tokens": 50, "completion_tokens": 60}})
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
