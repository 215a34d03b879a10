"""Conversations: what is typed, what counts, several models at once, and Ctrl-C at a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from thinksmith.chat.lanes import Lane, run
from thinksmith.chat.session import Session
from thinksmith.chat.words import Typed, as_json, as_markdown, command_of, folded, read_turns, think_setting
from thinksmith.cli.main import run as cli
from thinksmith.engines.contract import Delta, EngineInfo
from thinksmith.errors import UserError
from thinksmith.records import Request, Trace
from thinksmith.store.store import Store

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))
from _chaos import Chaos, text_of


def typed(*lines: str) -> list[Typed]:
    left = list(lines)

    def line(prompt: str) -> str:
        if not left:
            raise EOFError
        return left.pop(0)

    return list(read_turns(line))


def test_what_is_typed() -> None:
    assert typed("hello", "", "  ", "/think 12", "bye") == [("", "hello"), ("think", "12"), ("", "bye")]
    assert typed("one\\", "two\\", "three") == [("", "one\ntwo\nthree")]
    assert typed('"""', "a", "", "/not a command", '"""', "b") == [("", "a\n\n/not a command"), ("", "b")]
    assert typed('"""', "never closed") == [("", "never closed")]
    assert typed("/", "/ x") == [("help", ""), ("help", "x")]
    assert typed("cut off\\") == [("", "cut off")]
    assert command_of("q") == "quit"
    with pytest.raises(UserError, match="did you mean 'retry'"):
        command_of("rety")
    assert (think_setting("off"), think_setting("on"), think_setting("64")) == (0, None, 64)
    with pytest.raises(UserError, match="/think 512"):
        think_setting("-3")


class Scripted:
    """An engine that says what it was told in the request."""

    info = EngineInfo("scripted")
    room = 9

    def __init__(self, fail: str = "", wait: float = 0.0) -> None:
        self.fail, self.wait = fail, wait
        self.asked: list[Request] = []

    async def stream(self, request: Request) -> AsyncGenerator[Delta]:
        self.asked.append(request)
        await asyncio.sleep(self.wait)
        if self.fail == "raise":
            raise UserError("it is down")
        told = f"{len(request.messages)}:{request.sampling.seed}"
        yield Delta("thinking", "hm")
        if self.fail == "reset":
            yield Delta("answer", "wrong")
            yield Delta("reset")
        yield Delta("answer", told)
        error = {"finish": "error", "error": "broke"} if self.fail == "error" else {}
        yield Delta("done", trace=Trace("hm", told, thinking_tokens=1, answer_tokens=2, model="scripted", **error))

    async def aclose(self) -> None:
        pass


def answered(session: Session) -> list[Delta]:
    async def all_of_it() -> list[Delta]:
        return [delta async for delta in session.answer()]

    return asyncio.run(all_of_it())


def test_what_counts_in_a_conversation(own_store: Path) -> None:
    engine: Any = Scripted()
    session = Session(engine, system="be brief")
    with pytest.raises(UserError, match="nothing was asked"):
        session.again()
    session.ask("one")
    answered(session)
    session.ask("two")
    answered(session)
    assert [m["content"] for m in session.messages] == ["one", "2:0", "two", "4:0"]
    assert session.messages[1]["thinking"] == "hm"
    assert engine.asked[1].messages[0] == {"role": "system", "content": "be brief"}
    session.again()
    answered(session)
    assert [m["content"] for m in session.messages] == ["one", "2:0", "two", "4:1"]
    with Store.open() as store:
        assert session.trace is not None
        session.keep(store, session.trace)
        session.close(store)
        (kept,) = store.attempts("last")
        assert [m["content"] for m in kept.attempt.problem.messages] == ["be brief", "one", "2:0", "two"]
    session.undo()
    assert [m["content"] for m in session.messages] == ["one", "2:0"]
    engine.fail = "error"
    session.ask("three")
    answered(session)
    assert session.waits  # a failure does not count, and the question is there to be asked again
    session.ask("four")
    assert [m["content"] for m in session.messages] == ["one", "2:0", "four"]
    assert as_json([("m", session.messages)]).count("four") == 1
    assert "<summary>thinking</summary>" in as_markdown([("m", session.messages)])


def test_several_at_once_and_one_that_fails() -> None:
    def lane(name: str, fail: str = "", wait: float = 0.0, local: bool = False) -> Lane:
        engine = Scripted(fail, wait)
        request = Request(messages=({"role": "user", "content": "?"},))
        return Lane(name, local, lambda: engine.stream(request))

    lanes = [lane("a", wait=0.2), lane("b", "raise"), lane("c", "reset"), lane("d", "error"), lane("e", wait=0.2)]
    began = time.perf_counter()
    asyncio.run(run(lanes))
    assert time.perf_counter() - began < 0.39  # beside each other
    assert [each.phase for each in lanes] == ["done", "failed", "done", "failed", "done"]
    assert (lanes[1].error, lanes[3].error, lanes[2].answer) == ("it is down", "broke", "1:0")
    own = [lane("a", wait=0.1, local=True), lane("b", wait=0.1, local=True)]
    asyncio.run(run(own))
    assert own[1].started - own[0].started >= 0.1  # one after the other


def test_folded_thinking_is_one_line() -> None:
    trace = Trace("x", "", "truncated", thinking_tokens=1234)
    assert folded(trace, 12.34) == "▸ thought for 12.3 s, 1,234 tokens, cut off"


PROGRAM = [sys.executable, "-m", "thinksmith"]


def test_a_conversation_through_a_pipe(own_store: Path, tmp_path: Path) -> None:
    with Chaos(["", "cut_in_event", "", "", "http_404"]) as chaos:
        said = f"First?\nSecond?\n/retry\n/thinking\n/nope\n/save {tmp_path}/a.json\n/quit\nnever read\n"
        done = subprocess.run(
            [*PROGRAM, "chat", "--model", f"endpoint/m@{chaos.base}"],
            input=said,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    for question in ("First?", "Second?"):
        assert text_of(question)[1].strip() in done.stdout
    assert "▸ thought for" in done.stdout
    assert "no command /nope" in done.stderr
    assert "begins again" in done.stderr
    saved = json.loads((tmp_path / "a.json").read_text())
    assert [m["role"] for m in saved["messages"]] == ["user", "assistant", "user", "assistant"]
    assert saved["messages"][2]["content"] == "Second?"
    with Store.open() as store:
        assert len(list(store.attempts("last"))) == 3
    sent = [seen.body["messages"] for seen in chaos.seen]
    assert [m["content"] for m in sent[-1]] == ["First?", text_of("First?")[1], "Second?"]


def test_what_is_no_text_and_several_models_through_a_pipe(own_store: Path, tmp_path: Path) -> None:
    with Chaos() as chaos, Chaos() as other:
        names = ["--model", f"endpoint/a@{chaos.base}", "--vs", f"endpoint/b@{other.base}"]
        said = f"\xff\xfe?\n/\n/history\n/save {tmp_path}/a.md\n/save {tmp_path}/a.json\n/save {tmp_path}\n".encode(
            "latin-1"
        )
        for strict in ({}, {"PYTHONIOENCODING": "utf-8:strict"}):
            done = subprocess.run(
                [*PROGRAM, "chat", *names], input=said, capture_output=True, timeout=60, env=os.environ | strict
            )
            assert done.returncode == 0, done.stderr.decode()
            assert "/retry" in done.stdout.decode()  # a bare / is a question for help, and not one for the models
            assert "write /save FILE.md" in done.stderr.decode()
    assert [len(seen) for seen in (chaos.seen, other.seen)] == [2, 2]
    saved = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [each["model"] for each in saved] == [names[1], names[3]]
    assert all(each["messages"][0]["content"] == "\ufffd\ufffd?" for each in saved)
    assert (tmp_path / "a.md").read_text(encoding="utf-8").count("# A conversation with") == 2


def read_until(master: int, wanted: str, seconds: float = 30.0) -> str:
    seen = b""
    end = time.monotonic() + seconds
    while wanted.encode() not in seen:
        ready, _, _ = select.select([master], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"no {wanted!r} in {seen.decode(errors='replace')!r}"
        seen += os.read(master, 65536)
    return seen.decode(errors="replace")


@pytest.fixture
def terminal() -> Any:
    """Starts the program at a pseudo-terminal; ends what it started."""
    started: list[tuple[subprocess.Popen[bytes], int]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[bytes], int]:
        master, slave = pty.openpty()
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
        program = subprocess.Popen(
            [*PROGRAM, *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        started.append((program, master))
        return program, master

    yield start
    for program, master in started:
        program.kill()
        program.wait()
        os.close(master)


def test_ctrl_c_stops_an_answer_and_keeps_the_conversation(own_store: Path, terminal: Callable[..., Any]) -> None:
    with Chaos(pause=0.02) as chaos:
        program, master = terminal("chat", "--model", f"endpoint/m@{chaos.base}")
        read_until(master, "> ")
        os.write(master, b"Tell me all\n")
        read_until(master, "Tell me all ")  # the thinking that streams begins with the question
        time.sleep(0.2)
        os.write(master, b"\x03")
        read_until(master, "stopped: this answer does not count; /retry asks again\r\n> ")
        time.sleep(0.2)  # the prompt stands before the line is waited for: Ctrl-C between them would show only later
        os.write(master, b"\x03")
        read_until(master, "/quit leaves")
        chaos.pause = 0.0
        os.write(master, b"/retry\n")
        read_until(master, "tokens/s)\x1b[0m\r\n> ")
        os.write(master, b"\x04")
        assert program.wait(20) == 0
    with Store.open() as store:
        (kept,) = store.attempts("last")
    assert kept.attempt.trace.answer == text_of("Tell me all")[1]


def test_two_side_by_side_at_a_terminal(own_store: Path, terminal: Callable[..., Any]) -> None:
    with Chaos() as chaos, Chaos(style="tags") as other:
        program, master = terminal("chat", "--model", f"vllm/a@{chaos.base}", "--vs", f"vllm/b@{other.base}")
        read_until(master, "> ")
        os.write(master, b"Both?\n")
        shown = read_until(master, "\r\n> ")
        assert f"── vllm/b@{other.base} ──" in shown
        assert f"── vllm/a@{chaos.base} ──" in shown
        program.send_signal(signal.SIGHUP)
        program.wait(20)
    assert len(chaos.seen) == len(other.seen) == 1


def test_a_race(own_store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    question = ["race", "What is 12 + 30?", "--gold", "42", "--kind", "number", "--models"]
    nobody = "ollama/c@http://127.0.0.1:9"
    with Chaos() as chaos:
        names = f"vllm/a@{chaos.base},endpoint/b@{chaos.base},{nobody}"
        assert cli([*question, names + ",tiny"]) == 0
        rows = {line.split()[0]: line for line in capfd.readouterr().out.splitlines()[1:]}
        assert cli([*question, names, "--show", "json"]) == 0
        found = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert "✗" in rows[f"vllm/a@{chaos.base}"]
    assert "✓ 42" in rows["tiny"]
    assert "nothing answers" in rows[nobody]
    assert [each["error"] == "" for each in found] == [True, True, False]
    assert found[0]["verdict"]["status"] == "wrong"
    with Store.open() as store:
        assert sum(run.kind == "race" for run in store.runs()) == 5
    assert cli(["race", "?", "--models", nobody]) == 1
    assert cli(["race", "?", "--models", ","]) == 2
