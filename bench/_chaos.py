"""A server on loopback that speaks every dialect, and breaks in every way, as a script says.

What it says is known beforehand: `text_of(question)` is the one completion of a question, so a trace that lost,
doubled or mixed up anything is seen at once. A token is four characters; bounds of tokens and turns that are
continued are kept as a real server keeps them. Raw sockets, since a framework would mend what is to be broken.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

TOKEN = 4
START, END = "<think>\n", "\n</think>\n\n"
WORDS = ("sieben", "naïve", "√2", "日本", "Ωmega", "so", "then", "27 * 34", "🙂", "check:", "wait,", "\n\n", "  x = 3")
CUTS = ("in_headers", "before_events", "in_event", "in_character", "before_end")
FAULTS = (
    *(f"cut_{where}" for where in CUTS),
    *(f"reset_{where}" for where in CUTS),
    "accept_and_close", "http_429", "http_429_after", "http_429_date", "http_500", "http_502_html", "http_503",
    "http_504", "http_529", "html_200", "error_200", "error_in_stream", "garbage", "broken_json", "empty_body",
    "empty_choices", "not_an_object", "wrong_type", "silent", "silent_in_middle", "cut_after_answer", "no_reason",
)  # fmt: skip
"""Each goes over: asked again, or gone on with, the answer comes."""
ODDITIES = (
    "drip",
    "comments",
    "crlf",
    "cr",
    "no_blank_lines",
    "bom",
    "gzip",
    "twice_ended",
    "same_ids",
    "not_streamed",
    "close",
)
"""Strange, and nothing wrong."""


def text_of(question: str) -> tuple[str, str]:
    """Thinking and answer of a question: words in many scripts, a length of its own."""
    random = Random(question)
    thinking = " ".join(random.choice(WORDS) for _ in range(random.randint(5, 60))).strip()
    return (
        f"{question} {thinking}".strip(),
        f"The answer is {random.randint(0, 999)}.\nIndeed {random.choice(WORDS).strip()}",
    )


@dataclass
class Seen:
    """A request that came."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    fault: str = ""


@dataclass
class Chaos:
    """`script` tells the fault of each completion's request in turn ("" for none), and when it is over there are none.

    `style` is how the thinking comes: a field of the message, `tags` in the content, or `opened`: the template began
    it. Use as a context manager; `base` is its address.
    """

    script: Iterable[str] = ()
    style: str = "reasoning_content"
    pause: float = 0.0
    hang: float = 1.5
    repeat: bool = False
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    base: str = ""
    strict_key: str = ""
    upstream: tuple[str, int] | None = None
    """A real server: what it answers is passed on, or broken as the script says."""
    calls: Sequence[dict[str, Any]] = ()
    """Calls (name, arguments, id) that follow the answer where tools were told."""

    def play(self, script: Iterable[str]) -> None:
        """Another script, from the next request on."""
        self._script, self._next = list(script), 0

    def __enter__(self) -> Chaos:
        self.play(self.script)
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self, ready: threading.Event) -> None:
        async def serve() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024)
            self.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ready.set()
            await self._stop.wait()
            server.close()

        asyncio.run(serve())

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left, or the server is stopped
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; False where the connection is over."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        body = json.loads(raw) if raw else {}
        seen = Seen(path, body, headers)
        self.seen.append(seen)
        link = Link(writer)
        if self.strict_key and headers.get("authorization") != f"Bearer {self.strict_key}":
            await link.whole(
                401, json.dumps({"error": {"message": f"Incorrect API key provided: {headers.get('authorization')}"}})
            )
            return True
        if self.upstream and (method == "GET" or path in ("/tokenize", "/detokenize", "/apply-template")):
            return await self._forward(link, method, path, raw, headers, "")
        if method == "GET":
            await link.whole(200, json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}))
            return True
        if path in ("/tokenize", "/detokenize", "/apply-template"):
            await link.whole(200, json.dumps(self._template(path, body)))
            return True
        if self._script:
            seen.fault = (
                self._script[self._next % len(self._script)] if self.repeat or self._next < len(self._script) else ""
            )
            self._next += 1
        if self.upstream and (not seen.fault or seen.fault.startswith(("cut_in", "cut_be", "reset_"))):
            return await self._forward(link, method, path, raw, headers, seen.fault)
        answer = Answer(path, body, self.style, seen.fault, self.calls if body.get("tools") else ())
        return await self._answer(link, answer, seen.fault)

    async def _forward(
        self, link: Link, method: str, path: str, raw: bytes, headers: dict[str, str], fault: str
    ) -> bool:
        """What the real server answers, whole or up to where it is cut."""
        assert self.upstream is not None
        reader, writer = await asyncio.open_connection(*self.upstream)
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self.upstream[0]}",
            "Connection: close",
            f"Content-Length: {len(raw)}",
        ]
        lines += [f"{name}: {headers[name]}" for name in ("content-type", "accept", "authorization") if name in headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)
        answered = await reader.read()
        writer.close()
        if not fault:
            await link.write(answered)
            return False
        kind, _, where = fault.partition("_")
        head = answered.index(b"\r\n\r\n") + 4
        upto = {"in_headers": head // 2, "before_events": head, "before_end": len(answered) - 30}
        await link.write(answered[: upto.get(where, head + (len(answered) - head) // 2)])
        if kind == "reset":
            link.reset()
        return False

    def _template(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/detokenize":
            return {"prompt": "".join(map(chr, body["tokens"]))}
        opened = START if self.style == "opened" else ""
        prompt = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in body["messages"])
        prompt += f"<|im_start|>assistant\n{opened}"
        return {"tokens": list(map(ord, prompt))} if path == "/tokenize" else {"prompt": prompt}

    async def _answer(self, link: Link, answer: Answer, fault: str) -> bool:
        if fault.startswith(("cut_in", "cut_be", "cut_at_", "reset_")):
            return await self._cut(link, answer, fault)
        if fault == "late":  # the headers at once, the first event after a while
            await link.send(answer.head(), chunked=not answer.plain)
            await asyncio.sleep(self.hang)
            await link.send(b"".join(answer.framed()))
            await link.end()
            return True
        if fault == "kept_waiting":  # comments, and nothing else
            await link.send(answer.head(), chunked=not answer.plain)
            while True:
                await link.send(b"\n" if answer.plain or answer.ollama else b": keep-alive\n\n")
                await asyncio.sleep(0.02)
        if fault.startswith("http_"):
            return await self._refusal(link, fault)
        if fault in ("silent", "silent_in_middle"):
            if fault == "silent_in_middle":
                await link.send(answer.head(), chunked=not answer.plain)
                await link.send(b"".join(answer.framed()[: len(answer.parts) // 2]))
            await asyncio.sleep(self.hang)
            return False
        if fault == "accept_and_close":
            return False
        wrong = {
            "html_200": ("text/html", "<html><head><title>Sign in</title></head><body>…</body></html>"),
            "error_200": (answer.type, answer.error()),
            "garbage": (answer.type, "data: \x00\x01 this is no JSON at all\n\n"),
            "broken_json": (answer.type, answer.broken()),
            "empty_body": (answer.type, ""),
            "not_an_object": ("application/json", "[1, 2, 3]"),
            "wrong_type": ("image/png", "\x89PNG\r\n\x1a\n"),
        }
        if fault in wrong:
            kind, text = wrong[fault]
            await link.whole(200, text, kind)
            return True
        chunks = answer.framed()
        if fault == "drip":
            chunks = [chunk[i : i + 3] for chunk in chunks for i in range(0, len(chunk), 3)]
        await link.send(answer.head(), chunked=not answer.plain)
        for chunk in chunks:
            if self.pause:
                await asyncio.sleep(self.pause)
            await link.send(chunk)
        await link.end()
        return fault not in ("cut_after_answer", "close")

    async def _cut(self, link: Link, answer: Answer, fault: str) -> bool:
        """The connection ends somewhere: closed, or reset."""
        kind, _, where = fault.partition("_")
        head, chunks = answer.head(), answer.framed()
        whole = b"".join(chunks)
        if where == "in_headers":
            await link.write(head[: len(head) // 2])
        else:
            await link.send(head, chunked=not answer.plain)
            wide = next((at for at in range(len(whole) // 3, len(whole)) if whole[at] >= 0xC0), len(whole) // 2)
            if where.startswith("at_"):  # cut_at_7: after seven events
                where, wide = "in_character", sum(map(len, chunks[: int(where[3:])])) - 1
            upto = {
                "before_events": 0,
                "in_event": len(whole) // 2,
                "in_character": wide + 1,
                "before_end": len(whole) - len(chunks[-1]) - (len(chunks[-2]) if len(chunks) > 1 else 0),
            }[where]
            await link.send(whole[:upto])
        if kind == "reset":
            link.reset()
        return False

    async def _refusal(self, link: Link, fault: str) -> bool:
        status = int(fault.split("_")[1])
        headers = {"http_429_after": "Retry-After: 0.05", "http_429_date": "Retry-After: Thu, 01 Jan 2026 00:00:00 GMT"}
        if fault.endswith("html"):
            await link.whole(status, "<html><head><title>502 Bad Gateway</title></head></html>", "text/html")
        else:
            text = json.dumps({"error": {"message": f"made to fail with {status}", "type": "server_error"}})
            await link.whole(status, text, more=headers.get(fault, ""))
        return True


class Link:
    """Writes HTTP, well-formed until told otherwise."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._chunked = False

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def send(self, data: bytes, *, chunked: bool | None = None) -> None:
        if chunked is not None:
            self._chunked = chunked
            await self.write(data)
        elif data:
            await self.write(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        if self._chunked:
            await self.write(b"0\r\n\r\n")

    async def whole(self, status: int, text: str, kind: str = "application/json", more: str = "") -> None:
        data = text.encode("latin-1" if text.startswith("\x89") else "utf-8")
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(data)}"]
        await self.write("\r\n".join([*lines, *([more] if more else [])]).encode() + b"\r\n\r\n" + data)

    def reset(self) -> None:
        """RST, not FIN: what was sent may be lost too."""
        import socket

        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class Answer:
    """What a request gets, in the form of its API."""

    def __init__(
        self, path: str, body: dict[str, Any], style: str, fault: str, calls: Sequence[dict[str, Any]] = ()
    ) -> None:
        self.path, self.body, self.fault, self.calls = path, body, fault, calls
        self.ollama, self.raw = path == "/api/chat", path.endswith("/completions") and "chat" not in path
        self.responses = path.endswith("/responses")
        self.streamed = bool(body.get("stream", self.ollama)) and fault != "not_streamed"
        self.style = "tags" if self.raw and style != "opened" else style
        self.plain = not self.streamed
        self.type = "application/json" if self.plain else "application/x-ndjson" if self.ollama else "text/event-stream"
        self.parts, self.finish, self.prompt = self._parts()

    def _parts(self) -> tuple[list[tuple[str, str]], str, int]:
        """(thinking or answer or content, a token's text) in order, how it ends, and tokens of the prompt."""
        body = self.body
        messages = body.get("messages") or body.get("input") or []
        if self.raw:
            prompt: str = body["prompt"]
            question = prompt.split("<|im_start|>user\n")[-1].split("<|im_end|>")[0]
            so_far = prompt.rsplit("<|im_start|>assistant\n", 1)[-1]
        else:
            question = next(m["content"] for m in reversed(messages) if m.get("role") == "user")
            last = messages[-1] if messages[-1].get("role") == "assistant" else {}
            so_far = (
                f"{START}{last['thinking']}{END}{last['content']}" if last.get("thinking") else last.get("content", "")
            )
        thinking, answer = text_of(question)
        thinks = not (
            body.get("think") is False or (body.get("chat_template_kwargs") or {}).get("enable_thinking") is False
        )
        whole = f"{START}{thinking}{END}{answer}" if thinks else answer
        if so_far and whole.startswith(so_far):
            rest, inside = whole[len(so_far) :], thinks and END.strip() not in so_far
        elif so_far and thinks and END.strip() not in so_far:  # somebody opened the thinking again
            rest, inside = f" and so{END}{answer}", True
        elif so_far:  # somebody closed the thinking early
            rest, inside = answer, False
        else:
            rest, inside = whole, thinks
        options = body.get("options") or body
        most = options.get("num_predict") or options.get("max_tokens") or options.get("max_output_tokens") or 10**6
        if budget := body.get("thinking_token_budget"):
            rest = START + thinking[: budget * TOKEN] + END + answer
        tokens = [rest[i : i + TOKEN] for i in range(0, len(rest), TOKEN)]
        finish = "stop" if len(tokens) <= most else "length"
        text = "".join(tokens[:most])
        self.total = len(tokens[:most])
        return self._divided(text, inside, so_far), finish, sum(len(str(m)) for m in messages) // TOKEN or 1

    def _divided(self, text: str, inside: bool, so_far: str) -> list[tuple[str, str]]:
        def cut(part: str, piece: str) -> list[tuple[str, str]]:
            return [(part, piece[i : i + TOKEN]) for i in range(0, len(piece), TOKEN)]

        if self.style == "tags" or (self.raw and self.style != "opened"):
            return cut("content", text)
        if self.style == "opened":
            return cut("content", text if so_far else text.removeprefix(START))
        if not inside:
            return cut("content", text)
        before, end, after = text.removeprefix(START if not so_far else "").partition(END)
        return cut("thinking", before) + (cut("content", after) if end else [])

    def head(self) -> bytes:
        lines = ["HTTP/1.1 200 OK", f"Content-Type: {self.type}"]
        if self.plain:
            lines.append(f"Content-Length: {sum(map(len, self.framed()))}")
        else:
            lines.append("Transfer-Encoding: chunked")
        if self.fault == "gzip":
            lines.append("Content-Encoding: gzip")
        if self.fault == "close":
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def error(self) -> str:
        text = json.dumps({"error": {"message": "out of memory", "type": "server_error", "code": 500}})
        return text if self.plain else f"{text}\n" if self.ollama else f"data: {text}\n\n"

    def broken(self) -> str:
        text = self.events()[0][:20]
        return text if self.plain or self.ollama else f"data: {text}\n\n"

    def framed(self) -> list[bytes]:
        """The body, an event a chunk."""
        events = self.events()
        if self.fault == "error_in_stream" and not self.plain:
            events = [
                *events[: len(events) // 2],
                json.dumps({"error": {"message": "CUDA error", "type": "server_error"}}),
            ]
        elif self.fault == "error_in_stream":
            events = [self.error()]
        if self.plain:
            framed = [events[0].encode()]
        elif self.ollama:
            framed = [f"{event}\n".encode() for event in events]
        else:
            gap = "\n" if self.fault == "no_blank_lines" else "\n\n"
            framed = [f"data: {event}{gap}".encode() for event in events]
            if self.fault not in ("no_reason", "error_in_stream") and not self.responses:
                framed.append(b"data: [DONE]\n\n")
            framed = self._odd(framed)
        return [gzip.compress(b"".join(framed))] if self.fault == "gzip" else framed

    def _odd(self, framed: list[bytes]) -> list[bytes]:
        if self.fault == "comments":
            return [b": keep-alive\n\n" + each for each in framed]
        if self.fault in ("crlf", "cr"):
            return [each.replace(b"\n", b"\r\n" if self.fault == "crlf" else b"\r") for each in framed]
        if self.fault == "bom":
            return [b"\xef\xbb\xbf" + framed[0], *framed[1:]]
        return framed

    def events(self) -> list[str]:
        """JSON texts."""
        if self.fault == "empty_choices":
            return [
                json.dumps(
                    {"id": "x", "choices": [], "object": "chat.completion"} if not self.ollama else {"done": False}
                )
            ]
        make: Callable[[], list[dict[str, Any]]]
        make = self._ollama if self.ollama else self._responses if self.responses else self._chat
        found = make()
        if self.fault == "no_reason" and self.streamed:
            found = found[: max(1, len(self.parts) // 2)]
        elif self.fault == "no_reason":
            for choice in found[0].get("choices", []):
                choice["finish_reason"] = None
            found[0].pop("done", None)
            found[0].pop("status", None)
            if self.responses:
                found = [{"object": "nothing"}]
        return [json.dumps(event, ensure_ascii=False) for event in found]

    def _counts(self) -> tuple[int, int]:
        return sum(part == "thinking" for part, _ in self.parts), self.total

    def _chat(self) -> list[dict[str, Any]]:
        thinking, total = self._counts()
        usage = {
            "prompt_tokens": self.prompt,
            "completion_tokens": total,
            "prompt_tokens_details": {"cached_tokens": 1},
        }
        if thinking:
            usage["completion_tokens_details"] = {"reasoning_tokens": thinking}
        names = {"thinking": self.style, "answer": "content", "content": "content"}

        def choice(**fields: Any) -> dict[str, Any]:
            return {"id": "same" if self.fault == "same_ids" else f"c-{id(self)}", "choices": [{"index": 0, **fields}]}

        if self.plain:
            message: dict[str, Any] = {"role": "assistant"}
            for part, text in self.parts:
                message[names[part]] = message.get(names[part], "") + text
            if self.calls:
                message["tool_calls"] = [self._called(call) for call in self.calls]
            told = {"text": message.get("content", "")} if self.raw else {"message": message}
            return [choice(**told, finish_reason=self.finish) | {"usage": usage}]
        found = [] if self.raw else [choice(delta={"role": "assistant", "content": None}, finish_reason=None)]
        for part, text in self.parts:
            found.append(choice(**({"text": text} if self.raw else {"delta": {names[part]: text}}), finish_reason=None))
        for at, call in enumerate(self.calls):  # the name first, the arguments piece by piece
            whole = self._called(call)
            text = whole["function"]["arguments"]
            begun = {**whole, "index": at, "function": {**whole["function"], "arguments": ""}}
            pieces = [{"index": at, "function": {"arguments": text[i : i + 5]}} for i in range(0, len(text), 5)]
            found += [choice(delta={"tool_calls": [piece]}, finish_reason=None) for piece in (begun, *pieces)]
        last = choice(**({"text": ""} if self.raw else {"delta": {}}), finish_reason=self.finish)
        found += [last, last] if self.fault == "twice_ended" else [last]
        return [*found, {"id": "c", "choices": [], "usage": usage}]

    @staticmethod
    def _called(call: dict[str, Any]) -> dict[str, Any]:
        function = {"name": call["name"], "arguments": json.dumps(call["arguments"], ensure_ascii=False)}
        return {"id": call.get("id", ""), "type": "function", "function": function}

    def _ollama(self) -> list[dict[str, Any]]:
        _, total = self._counts()
        end = {"done": True, "done_reason": self.finish, "prompt_eval_count": self.prompt, "eval_count": total}
        names = {"thinking": "thinking", "content": "content"}
        calls = [{"function": {"name": call["name"], "arguments": call["arguments"]}} for call in self.calls]
        if self.plain:
            message: dict[str, Any] = {"role": "assistant", "content": ""}
            for part, text in self.parts:
                message[names[part]] = message.get(names[part], "") + text
            if calls:
                message["tool_calls"] = calls
            return [{"model": "m", "message": message, **end}]
        found: list[dict[str, Any]] = [
            {"model": "m", "message": {"role": "assistant", "content": "", names[part]: text}, "done": False}
            for part, text in self.parts
        ]
        if calls:
            found.append({"model": "m", "message": {"role": "assistant", "content": "", "tool_calls": calls}})
            found[-1]["done"] = False
        last = {"model": "m", "message": {"role": "assistant", "content": ""}, **end}
        return [*found, last, last] if self.fault == "twice_ended" else [*found, last]

    def _responses(self) -> list[dict[str, Any]]:
        thinking, total = self._counts()
        usage = {
            "input_tokens": self.prompt,
            "output_tokens": total,
            "output_tokens_details": {"reasoning_tokens": thinking},
        }
        texts = {part: "".join(text for p, text in self.parts if p == part) for part in ("thinking", "content")}
        output: list[dict[str, Any]] = [
            {"type": "reasoning", "content": [{"type": "reasoning_text", "text": texts["thinking"]}]}
        ]
        output.append({"type": "message", "content": [{"type": "output_text", "text": texts["content"]}]})
        for call in self.calls:
            said = {"name": call["name"], "arguments": json.dumps(call["arguments"], ensure_ascii=False)}
            output.append({"type": "function_call", "call_id": call.get("id", ""), **said})
        status = "completed" if self.finish == "stop" else "incomplete"
        whole = {"object": "response", "status": status, "output": output, "usage": usage}
        if status == "incomplete":
            whole["incomplete_details"] = {"reason": "max_output_tokens"}
        if self.plain:
            return [whole]
        kinds = {"thinking": "response.reasoning_text.delta", "content": "response.output_text.delta"}
        found = [{"type": "response.created", "response": {"object": "response", "status": "in_progress"}}]
        found += [{"type": kinds[part], "delta": text} for part, text in self.parts]
        return [*found, {"type": f"response.{status}", "response": whole}]


def questions(count: int, seed: int = 0) -> Sequence[str]:
    return [f"Question {seed}.{index}: what then?" for index in range(count)]
