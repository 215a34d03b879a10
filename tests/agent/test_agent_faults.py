"""What can break while an agent works: tools, servers, the model's endpoint, the disk. Each is an observation or one
clear line, and the run goes on or can be gone on with."""

from __future__ import annotations

import asyncio
import json
import resource
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent_scripts import Scripted, calls, heard, tool, yes

from thinksmith.agent.contract import Intent, Result, Tool, ToolFault
from thinksmith.agent.journal import Journal
from thinksmith.agent.loop import Manner, work
from thinksmith.agent.meter import Limits
from thinksmith.agent.observing import LARGEST
from thinksmith.agent.opening import open_tools
from thinksmith.agent.outcome import Trajectory
from thinksmith.agent.running import Order, Run, begin, carry_out, open_run
from thinksmith.agent.tools.signature import tool_of
from thinksmith.engines.remote.engine import RemoteEngine
from thinksmith.engines.remote.names import endpoint
from thinksmith.engines.remote.wire.retries import Retries
from thinksmith.errors import UserError
from thinksmith.records import Problem, Sampling
from thinksmith.store.store import Store

TASK = Problem("agent/faults", "Look.", kind="task")
ORDER = Order("Look.", "scripted", ("own",), Sampling(max_tokens=400), Limits(), Manner(planning=False))


def go(*tools: Tool, script: Sequence[Any] = (), **more: Any) -> Trajectory:
    """A run of one call of the first tool, then an answer."""
    engine = Scripted(*(script or (calls(tools[0].name), "It is done.")))
    trial = work(
        TASK, engine, tools=tools, sampling=Sampling(max_tokens=500), approve=yes, manner=Manner(planning=False), **more
    )
    return asyncio.run(asyncio.wait_for(trial, 30))


def one(found: Trajectory) -> Any:
    """The one observation; the run went on to its answer, and the observation is text that can be stored."""
    assert found.answer == "It is done."
    (observation,) = found.observations
    observation.text.encode()
    json.dumps(observation.text)
    assert "Traceback" not in observation.text
    return observation


# --- a tool raises

RAISED: list[Callable[[], BaseException]] = [
    lambda: ValueError("no such thing\nsecond line"),
    lambda: ToolFault("give a number"),
    lambda: UserError("write it otherwise"),
    lambda: OSError(5, "Input/output error"),
    lambda: SystemExit(3),
    lambda: RecursionError("maximum recursion depth exceeded"),
    lambda: MemoryError(),
    lambda: StopIteration(),
    lambda: StopAsyncIteration(),
    lambda: GeneratorExit(),
    lambda: TimeoutError(),
    lambda: asyncio.CancelledError(),
    lambda: BaseExceptionGroup("two", [ValueError("a"), SystemExit(1)]),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    lambda: ValueError("\ud800\x00 </think> <|im_end|> " + "x" * 100_000),
]
NAMES = [f"{type(each()).__name__}-{at}" for at, each in enumerate(RAISED)]


def raising(made: Callable[[], BaseException], how: str) -> Tool:
    def blocking() -> str:
        raise made()

    async def awaited() -> str:
        raise made()

    async def call(arguments: Mapping[str, Any], intent: Intent | None) -> Result:
        raise made()

    if how == "by hand":
        return Tool("broken", "breaks", {"type": "object"}, call)
    return tool_of(blocking if how == "in a thread" else awaited, kind="read", name="broken")


@pytest.mark.parametrize("how", ["in a thread", "async", "by hand"])
@pytest.mark.parametrize("made", RAISED, ids=NAMES)
def test_whatever_a_tool_raises_is_an_observation(made: Callable[[], BaseException], how: str) -> None:
    observation = one(go(raising(made, how)))
    assert not observation.ok
    assert len(observation.text) < 3000
    assert "</think>" not in observation.text
    assert observation.text.count("\n") == 2, "one line between the marks"


@pytest.mark.parametrize("part", ["intend", "settled"])
def test_what_asks_about_a_call_may_raise_too(part: str, tmp_path: Path) -> None:
    async def broken(_: Any) -> Any:
        raise SystemExit(2)

    async def call(arguments: Mapping[str, Any], intent: Intent | None) -> Result:
        return Result("put")

    with Journal.create(tmp_path / "run", {"run": "x"}) as journal:
        if part == "settled":
            journal.begin((0, 0), {"name": "put", "arguments": {}, "id": "call_0_0"}, "", None)
        put = replace(Tool("put", "puts", {"type": "object"}, call, "write"), **{part: broken})
        observation = one(go(put, journal=journal))
    assert not observation.ok


def test_a_tool_that_needs_all_of_the_stack() -> None:
    def deep(n: int = 0) -> str:
        return deep(n + 1)

    assert "RecursionError" in one(go(tool_of(deep, kind="read"))).text


def test_ctrl_c_ends_a_run() -> None:
    """The one thing that is not the model's to hear of."""

    async def trial() -> None:
        started = asyncio.Event()

        async def call(arguments: Mapping[str, Any], intent: Intent | None) -> Result:
            started.set()
            await asyncio.sleep(30)
            return Result("never")

        slow = Tool("slow", "slow", {"type": "object"}, call)
        run = asyncio.create_task(
            work(TASK, Scripted(calls("slow")), tools=[slow], sampling=Sampling(), approve=yes, manner=Manner(False))
        )
        await started.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(run, 5)

    asyncio.run(trial())


# --- a tool hangs


def hanging(how: str) -> Tool:
    def blocking() -> str:
        time.sleep(30)
        return "late"

    async def awaited() -> str:
        await asyncio.sleep(30)
        return "late"

    async def stubborn() -> str:
        for _ in range(100):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.3)
        return "late"

    function = {"in a thread": blocking, "async": awaited, "that hears of no end": stubborn}[how]
    return replace(tool_of(function, kind="send", name="slow"), seconds=0.3)


@pytest.mark.parametrize("how", ["in a thread", "async", "that hears of no end"])
def test_a_tool_that_hangs_is_left_alone(how: str) -> None:
    async def trial() -> tuple[Trajectory, float]:
        before, began = asyncio.all_tasks(), time.perf_counter()
        engine = Scripted(calls("slow"), "It is done.")
        found = await work(
            TASK, engine, tools=[hanging(how)], sampling=Sampling(), approve=yes, manner=Manner(planning=False)
        )
        took = time.perf_counter() - began
        for task in asyncio.all_tasks() - before:  # what hears of no end ends with the test
            for _ in range(200):
                task.cancel()
                await asyncio.sleep(0)
        return found, took

    found, took = asyncio.run(asyncio.wait_for(trial(), 40))
    assert took < 5
    observation = one(found)
    assert "took longer than 0.3 s" in observation.text
    assert "perhaps" in observation.effect, "it may have sent something"


# --- a tool gives what nobody wants


@pytest.mark.parametrize("how", ["by hand", "typed"])
def test_100_megabytes(how: str, tmp_path: Path) -> None:
    def much() -> str:
        return "0123456789" * 10_000_000

    big = tool("much", much) if how == "by hand" else tool_of(much, kind="read")
    with Journal.create(tmp_path / "run", {"run": "x"}) as journal:
        observation = one(go(big, journal=journal))
        assert observation.raw <= LARGEST
        assert len(observation.text) < 9000
        assert "left out" in observation.text
        assert sum(path.stat().st_size for path in (tmp_path / "run").rglob("*")) < 2 * LARGEST
        assert journal.whole(observation.handle)


ODD: dict[str, Any] = {
    "half a pair": "a\ud800b",
    "NUL": "a\0b",
    "control characters": "\x1b[2J\x07\x9b",
    "no UTF-8": b"\xff\xfe\x80abc",
    "UTF-16": "\ufeffab".encode("utf-16"),
    "nothing": "",
    "the letter that means unknown": "\ufffd" * 3,
    "no letters of this language": "\u202e\u2066\u200b",
}


@pytest.mark.parametrize("given", ODD.values(), ids=ODD)
def test_odd_text_is_made_good_and_stored(given: Any, tmp_path: Path) -> None:
    def odd() -> Any:
        return given

    with Store.open(tmp_path / "store.db") as store:
        tools = [tool_of(odd, kind="read"), *([tool("raw", odd)] if isinstance(given, str) else [])]
        run = begin(store, ORDER, Scripted("x"), tools)
        engine = Scripted(*(calls(each.name) for each in tools), "It is done.")
        found = asyncio.run(carry_out(run, store, engine, tools, yes))
        run.journal.close()
        assert all(each.ok for each in found.observations)
        with open_run(store, run.id).journal as journal:
            assert [journal.results[at, 0] for at in range(len(tools))] == list(found.observations)
        text = json.dumps([each.attempt.notes for each in store.attempts(run.id)], ensure_ascii=False)
        assert not set(text) & {"\0", "\x1b", "\ud800"}


WRONG: dict[str, Any] = {
    "nothing": None,
    "a number": 7,
    "text": "text",
    "bytes in a result": Result(b"bytes"),  # type: ignore[arg-type]
    "nothing in a result": Result(None),  # type: ignore[arg-type]
    "an exception": ValueError("x"),
    "itself": Result,
}


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG)
def test_a_tool_that_gives_no_result(given: Any) -> None:
    async def call(arguments: Mapping[str, Any], intent: Intent | None) -> Any:
        return given

    observation = one(go(Tool("wrong", "wrong", {"type": "object"}, call)))
    assert not observation.ok
    assert "gave no text" in observation.text


class NoJson:
    def __repr__(self) -> str:
        raise RuntimeError("not even this")


def test_a_typed_tool_that_gives_no_json() -> None:
    def odd() -> Any:
        return {"x": NoJson()}

    assert not one(go(tool_of(odd, kind="read"))).ok


# --- a schema lies


@contextmanager
def listening() -> Iterator[tuple[int, list[int]]]:
    """A port, and the connections that came to it."""
    came: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    came.append(1)
                    connection.close()

        threading.Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)


SCHEMAS: dict[str, Any] = {
    "elsewhere": {"$ref": "http://127.0.0.1:{port}/schema.json"},
    "a dialect elsewhere": {"$schema": "http://127.0.0.1:{port}/dialect", "type": "object"},
    "a part elsewhere": {"properties": {"a": {"$ref": "http://127.0.0.1:{port}/a"}}},
    "a file": {"$ref": "file:///etc/hostname"},
    "nowhere": {"$ref": "#/$defs/none"},
    "itself": {"$ref": "#"},
    "itself by way of another": {
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
        "$ref": "#/$defs/a",
    },
    "a type that there is not": {"type": "nonsense"},
    "no properties": {"properties": [1]},
    "no list": {"required": 5},
    "a pattern that is none": {"properties": {"a": {"pattern": "("}}},
    "no number": {"properties": {"n": {"multipleOf": 0}}},
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_schema_that_lies_harms_nobody(schema: Mapping[str, Any]) -> None:
    """A tool of whoever wrote it, whose arguments are checked by what it says of them."""
    with listening() as (port, came):
        told = json.loads(json.dumps(schema).replace("{port}", str(port)))
        lying = tool("lying", lambda **_: "done", parameters=told)
        began = time.perf_counter()
        one(go(lying, script=(calls("lying", a="a" * 40 + "b", n=3), "It is done.")))
        assert time.perf_counter() - began < 10
        assert not came, "the schema was fetched"


# --- an MCP server

_SERVER = """
import json, os, sys, time

how = sys.argv[1]
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    method = asked["method"]
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    if how == "lies":
        schema = {"$ref": "http://127.0.0.1:1/x", "type": "object", "properties": {"n": {"pattern": "^(a+)+$"}}}
    if method == "initialize":
        answer = {"protocolVersion": asked["params"]["protocolVersion"], "capabilities": {"tools": {}},
                  "serverInfo": {"name": "odd", "version": "1"}}
    elif method == "tools/list":
        answer = {"tools": [{"name": "do", "description": "Does.", "inputSchema": schema}]}
    elif method == "tools/call" and how == "dies":
        os._exit(7)
    elif method == "tools/call" and how == "garbles":
        print("no JSON", flush=True)
        print("{\\"jsonrpc\\": \\"2.0\\", \\"id\\": 999, \\"result\\": []}", flush=True)
        answer = ["no result"]
    elif method == "tools/call" and how == "hangs":
        time.sleep(60)
    elif method == "tools/call":
        answer = {"content": [{"type": "text", "text": "did"}]}
    else:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32601, "message": "no"}}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": answer}), flush=True)
"""


@pytest.mark.parametrize("how", ["dies", "garbles", "hangs", "lies"])
def test_an_mcp_server_that_breaks(how: str, tmp_path: Path) -> None:
    program = tmp_path / "server.py"
    program.write_text(_SERVER)

    async def trial() -> Trajectory:
        (toolset,) = await open_tools([f"mcp:{shlex.join([sys.executable, str(program), how])}"])
        tools = [replace(each, seconds=2.0) for each in toolset.tools]
        arguments = {"n": "a" * 40 + "b"} if how == "lies" else {"n": 1}
        engine = Scripted(calls("odd_do", **arguments), calls("odd_do", **arguments), "It is done.")
        try:
            return await work(
                TASK, engine, tools=tools, sampling=Sampling(), approve=yes, manner=Manner(planning=False)
            )
        finally:
            await toolset.aclose()

    found = asyncio.run(asyncio.wait_for(trial(), 60))
    assert found.answer == "It is done."
    first, second = found.observations
    assert first.ok == second.ok == (how == "lies")
    if how == "dies":
        assert "exit code 7" in first.text or "ended" in first.text or "7" in first.text
        assert "perhaps" in first.effect, "nobody knows whether it was done"
        assert not second.effect, "a server that is gone does nothing"


# --- the model's endpoint


class Endpoint:
    """A server that says one text after the other, streamed; of those in `dies` only the half, then it is gone."""

    def __init__(
        self, texts: Sequence[str], dies: Sequence[int] = (), *, for_good: bool = False, port: int = 0
    ) -> None:
        self._texts, self._dies, self._for_good = list(texts), set(dies), for_good
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port, self.asked = self._socket.getsockname()[1], 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection, suppress(OSError):
                    connection.settimeout(10)
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += connection.recv(65536)
        if not head.startswith(b"POST") or b"chat/completions" not in head:
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        turn = sum(message["role"] == "assistant" for message in json.loads(body)["messages"])
        self.asked += 1
        dies = turn in self._dies
        if not self._for_good:
            self._dies.discard(turn)
        text = self._texts[turn]
        pieces = [text[at : at + 8] for at in range(0, len(text), 8)]
        events = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for event in events[: len(events) // 2] if dies else events:
            connection.sendall(b"data: " + json.dumps(event).encode() + b"\n\n")
        if not dies:
            connection.sendall(b"data: [DONE]\n\n")
        elif self._for_good:
            self.close()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


TEXTS = [calls("put", text="one"), calls("put", text="two"), calls("put", text="three"), "All is put."]


def engine_at(port: int) -> RemoteEngine:
    return RemoteEngine(endpoint(f"vllm/m@http://127.0.0.1:{port}/v1", {}), retries=Retries(attempts=2, base=0.01))


def carried(run: Run, store: Store, port: int, put: Tool) -> Trajectory:
    async def trial() -> Trajectory:
        engine = engine_at(port)
        try:
            return await carry_out(run, store, engine, [put], yes)
        finally:
            await engine.aclose()

    try:
        return asyncio.run(asyncio.wait_for(trial(), 60))
    finally:
        run.journal.close()


def test_an_endpoint_that_dies_once_is_asked_again(tmp_path: Path) -> None:
    done: list[str] = []
    put = tool("put", lambda text: done.append(text) or "put", "write")
    server = Endpoint(TEXTS, dies=[0, 2])
    with Store.open(tmp_path / "store.db") as store:
        found = carried(begin(store, ORDER, engine_at(server.port), [put]), store, server.port, put)
    server.close()
    assert found.answer == "All is put."
    assert done == ["one", "two", "three"]
    assert server.asked >= 6


def test_an_endpoint_that_dies_for_good_is_one_line_and_the_run_goes_on_later(tmp_path: Path) -> None:
    done: list[str] = []
    put = tool("put", lambda text: done.append(text) or "put", "write")
    server = Endpoint(TEXTS, dies=[2], for_good=True)
    with Store.open(tmp_path / "store.db") as store:
        run = begin(store, ORDER, engine_at(server.port), [put])
        with pytest.raises(UserError) as told:
            carried(run, store, server.port, put)
        assert "\n" not in str(told.value)
        assert done == ["one", "two"]
        again = Endpoint(TEXTS, port=server.port)
        found = carried(open_run(store, run.id), store, server.port, put)
        again.close()
        assert found.answer == "All is put."
        assert done == ["one", "two", "three"]
        assert found.effects == ("put", "put", "put")
        assert again.asked == 2, "what was thought is not asked again"
        assert store.run(run.id).status == "done"


# --- the disk is full


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """No file grows beyond this many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Shelf:
    """Things with an effect that can be asked about."""

    def __init__(self) -> None:
        self.things: list[str] = []

    @property
    def tool(self) -> Tool:
        async def intend(arguments: Mapping[str, Any]) -> Intent:
            return Intent(
                f"put {arguments['text'][:9]}", record={"text": arguments["text"]}, kept={"before": b"x" * 700}
            )

        async def call(arguments: Mapping[str, Any], intent: Intent | None) -> Result:
            self.things.append(arguments["text"])
            return Result("put " * 100)

        async def settled(record: Mapping[str, Any]) -> Result | None:
            return Result("put " * 100) if record["text"] in self.things else None

        return Tool("put", "puts", {"type": "object"}, call, "write", intend=intend, settled=settled)


def test_a_full_disk_is_one_line_and_nothing_is_lost(tmp_path: Path) -> None:
    """At every length at which the journal can come to its end."""
    texts = [*TEXTS[:3], "All is put."]

    def trial(folder: Path, shelf: Shelf, *, again: bool = False) -> Trajectory:
        with Journal.open(folder) if again else Journal.create(folder, {"run": "x"}) as journal:
            engine = Scripted(*texts[len(journal.thoughts) :])
            run = work(
                TASK,
                engine,
                tools=[shelf.tool],
                sampling=Sampling(),
                approve=yes,
                manner=Manner(False),
                journal=journal,
            )
            return asyncio.run(run)

    whole = Shelf()
    expected = trial(tmp_path / "whole", whole)
    size = (tmp_path / "whole" / "journal.jsonl").stat().st_size
    told: list[str] = []
    for at in range(300, size + 200, 171):
        folder, shelf = tmp_path / f"at-{at}", Shelf()
        try:
            with full_at(at):
                trial(folder, shelf)
        except UserError as error:
            told.append(str(error))
        found = trial(folder, shelf, again=True)
        assert shelf.things == ["one", "two", "three"], at
        assert found.answer == expected.answer
        assert found.effects == expected.effects
    assert len(told) > 10
    assert all("free some space" in line and "--resume" in line and "\n" not in line for line in told)


@pytest.mark.parametrize("line", [1, 4, 6])
def test_a_journal_that_was_damaged_is_not_cut_off(line: int, tmp_path: Path) -> None:
    """Only its last line can be half written. Where another one is wrong, what follows it would be done again."""
    shelf = Shelf()
    with Journal.create(tmp_path / "run", {"run": "x"}) as journal:
        run = work(
            TASK,
            Scripted(*TEXTS),
            tools=[shelf.tool],
            sampling=Sampling(),
            approve=yes,
            manner=Manner(False),
            journal=journal,
        )
        asyncio.run(run)
    path = tmp_path / "run" / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) > 8
    lines[line] = lines[line][:20] + b"?" + lines[line][21:]
    path.write_bytes(b"".join(lines))
    with pytest.raises(UserError) as told:
        Journal.open(tmp_path / "run")
    assert "\n" not in str(told.value)
    assert path.read_bytes() == b"".join(lines)


def test_a_full_disk_under_the_store_is_one_line_too(tmp_path: Path) -> None:
    shelf = Shelf()
    with Store.open(tmp_path / "store.db") as store:
        run = begin(store, ORDER, Scripted("x"), [shelf.tool])
        with full_at(2500), pytest.raises(UserError) as told:
            asyncio.run(carry_out(run, store, Scripted(*TEXTS), [shelf.tool], yes))
        run.journal.close()
        assert "\n" not in str(told.value)
        again = open_run(store, run.id)
        rest = Scripted(*TEXTS[len(again.journal.thoughts) :])
        found = asyncio.run(carry_out(again, store, rest, [shelf.tool], yes))
        again.journal.close()
        assert found.answer == "All is put."
        assert shelf.things == ["one", "two", "three"]
        assert len(list(store.attempts(run.id))) == 4


def test_heard_is_what_was_told() -> None:
    """The scripts of these tests look at the last message."""
    seen: list[str] = []
    go(
        tool("look", lambda: "seven"),
        script=(calls("look"), lambda request: seen.append(heard(request)) or "It is done."),
    )
    assert "seven" in seen[0]
