"""The engine over HTTP, against a server on loopback that speaks every dialect and breaks in every way."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from _chaos import FAULTS, ODDITIES, TOKEN, Chaos, questions, text_of
from thinksmith.engines.contract import Delta, Engine
from thinksmith.engines.remote.engine import RemoteEngine
from thinksmith.engines.remote.names import endpoint
from thinksmith.engines.remote.presets import PRESETS
from thinksmith.engines.remote.wire.client import Patience
from thinksmith.engines.remote.wire.faults import Denied, Fault, Unreachable
from thinksmith.engines.remote.wire.retries import Retries
from thinksmith.errors import UserError
from thinksmith.records import Request, Sampling, Trace

FAST = {"patience": Patience(connect=2, first=0.5, between=0.5), "retries": Retries(base=0.01, cap=0.05, budget=5)}
DIALECTS = {"chat": "endpoint", "ollama": "ollama", "responses": "responses"}


def engine_of(chaos: Chaos, kind: str = "endpoint", *, streamed: bool = True, **more: Any) -> RemoteEngine:
    name = "endpoint" if kind == "responses" else kind
    found = endpoint(f"{name}/m@{chaos.base}", {})
    if kind == "responses":
        found = replace(found, preset=replace(PRESETS["openai"], needs_key=False))
    return RemoteEngine(replace(found, streamed=streamed, **more), **FAST)  # type: ignore[arg-type]


def request(question: str, n: int = 1, prefill: str = "", **sampling: Any) -> Request:
    return Request(
        messages=({"role": "user", "content": question},), n=n, prefill=prefill, sampling=Sampling(**sampling)
    )


def is_right(trace: Trace, question: str) -> None:
    thinking, answer = text_of(question)
    assert (trace.thinking, trace.answer) == (thinking, answer)
    assert (trace.thinking_status, trace.finish, trace.error) == ("closed", "stop", "")


async def streamed(engine: Engine, request: Request) -> tuple[list[Delta], Trace]:
    deltas = [delta async for delta in engine.stream(request)]
    assert deltas[-1].part == "done"
    assert deltas[-1].trace is not None
    return deltas[:-1], deltas[-1].trace


def joined(deltas: list[Delta]) -> tuple[str, str]:
    """Thinking and answer as somebody who watches puts them together."""
    texts = {"thinking": "", "answer": ""}
    for delta in deltas:
        if delta.part == "reset":
            texts = {"thinking": "", "answer": ""}
        else:
            texts[delta.part] += delta.text
    return texts["thinking"], texts["answer"]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("style", ["reasoning_content", "reasoning", "tags", "opened"])
def test_thinking_is_told_from_the_answer_in_every_dialect(dialect: str, stream: bool, style: str) -> None:
    if dialect != "chat" and style == "reasoning":
        pytest.skip("a name that this API does not have")
    with Chaos(style=style) as chaos:
        engine = engine_of(chaos, DIALECTS[dialect], streamed=stream)
        deltas, trace = asyncio.run(streamed(engine, request("What is √2, roughly?")))
        is_right(trace, "What is √2, roughly?")
        assert joined(deltas) == (trace.thinking, trace.answer)
        assert trace.usage is not None
        assert (trace.usage.calls, trace.usage.counted, trace.usage.lost_tokens) == (1, "server", 0)
        assert (trace.usage.cost, trace.model) == (0.0, engine.endpoint.name)
        length = len(trace.completion) / TOKEN
        assert length * 0.7 < trace.tokens < length * 1.2 + 8
        assert abs(trace.thinking_tokens - len(trace.thinking) / TOKEN) <= max(4, 0.1 * trace.tokens)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [True, False])
def test_every_fault_is_got_over(dialect: str, stream: bool) -> None:
    """Each once, before the right answer; and two of each, one after the other."""
    script = [each for fault in FAULTS for each in (fault, "", fault, fault, "")]
    with Chaos(script, hang=0.8) as chaos:
        engine = engine_of(chaos, DIALECTS[dialect], streamed=stream)

        async def all_of_them() -> None:
            for question in questions(3 * len(FAULTS)):
                deltas, trace = await streamed(engine, request(question))
                is_right(trace, question)
                assert joined(deltas) == (trace.thinking, trace.answer), chaos.seen[-2].fault

        asyncio.run(all_of_them())
        assert {seen.fault for seen in chaos.seen} == {*FAULTS, ""}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
def test_a_broken_stream_is_gone_on_with_where_the_server_can(kind: str, stream: bool) -> None:
    cuts = ["cut_in_event", "cut_in_character", "no_reason", "error_in_stream", "silent_in_middle"]
    with Chaos([each for fault in cuts for each in (fault, "")]) as chaos:
        engine = engine_of(chaos, kind, streamed=stream)
        for question in questions(len(cuts)):
            deltas, trace = asyncio.run(streamed(engine, request(question)))
            is_right(trace, question)
            assert joined(deltas) == (trace.thinking, trace.answer)
            assert trace.usage is not None
            if stream:
                assert "reset" not in {delta.part for delta in deltas}
                assert (trace.usage.lost_tokens, trace.usage.calls) == (0, 2)
        raw = [seen.path for seen in chaos.seen if seen.path.endswith("/completions") and "chat" not in seen.path]
        assert len(raw) == (len(cuts) if stream else 1)  # a whole answer comes or does not, but for its reason


@pytest.mark.parametrize("style", ["reasoning_content", "tags", "opened"])
@pytest.mark.parametrize("kind", ["endpoint", "vllm", "llamacpp", "sglang", "ollama", "responses"])
def test_wherever_a_stream_is_cut_the_whole_turn_comes_and_is_told(kind: str, style: str) -> None:
    """After every event, and then again after another: in tags, between thinking and answer, before anything.

    What a template opened (`opened`) is told as the answer until the server's own rendering shows that it is thinking.
    """
    with Chaos([""], style=style) as chaos:
        engine = engine_of(chaos, kind)

        async def all_of_them() -> None:
            for number in range(36):
                question = f"{number}?"
                chaos.play([f"cut_at_{number}", f"cut_at_{(5 * number) % 31}", ""])
                deltas, trace = await streamed(engine, request(question))
                is_right(trace, question)
                assert joined(deltas) == (trace.thinking, trace.answer), number

        asyncio.run(all_of_them())


def test_a_chat_is_gone_on_with_only_where_it_is_certain_where_the_turn_stands() -> None:
    """SGLang has no raw completions of a conversation: text that may be thinking is asked for again, an answer not."""
    with Chaos([""]) as chaos:
        engine = engine_of(chaos, "sglang")
        thinking, answer = text_of("Where?")
        events = 1 + -(-len(thinking) // TOKEN)
        for cut, lost in ((events - 2, True), (events, True), (events + -(-len(answer) // TOKEN) - 1, False)):
            chaos.play([f"cut_at_{cut}", ""])
            (trace,) = engine.sample_all([request("Where?")])[0]
            is_right(trace, "Where?")
            assert trace.usage is not None
            assert (trace.usage.lost_tokens > 0) == lost
            assert ("continue_final_message" in chaos.seen[-1].body) == (not lost)


def test_a_budget_is_not_kept_in_a_text_that_nobody_tells_apart() -> None:
    """Of a template that opens the thinking, a chat without a parser says nothing: cut at the budget, it looks like an
    answer, and gone on with it would be put behind a closed thinking."""
    with Chaos(style="opened") as chaos:
        deltas, trace = asyncio.run(streamed(engine_of(chaos, "sglang"), request("word " * 50, max_thinking_tokens=9)))
        is_right(trace, "word " * 50)
        assert joined(deltas) == (trace.thinking, trace.answer)
        assert trace.usage is not None
        assert "its budget could not be kept" in trace.usage.notes[0]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_connection_serves_one_request_after_another(dialect: str, stream: bool) -> None:
    with Chaos() as chaos:
        engine = engine_of(chaos, DIALECTS[dialect], streamed=stream)

        async def several() -> None:
            for question in questions(5):
                is_right((await engine.sample(request(question)))[0], question)
            await asyncio.gather(*(engine.sample(request(question)) for question in questions(6)))
            await engine.aclose()

        asyncio.run(several())
        assert len(chaos.seen) == 11
        assert chaos.connections == 6


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [True, False])
def test_the_first_event_may_take_longer_than_the_next(dialect: str, stream: bool) -> None:
    """Headers come at once, then a long prompt is computed."""
    with Chaos(["late"], hang=0.6) as chaos:
        patient = Patience(connect=2, first=5, between=0.2)
        engine = RemoteEngine(engine_of(chaos, DIALECTS[dialect], streamed=stream).endpoint, patience=patient)
        is_right(engine.sample_all([request("Late?")])[0][0], "Late?")
        assert len(chaos.seen) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_server_that_only_keeps_the_connection_is_given_up(dialect: str) -> None:
    with Chaos(["kept_waiting", ""]) as chaos:
        engine = engine_of(chaos, DIALECTS[dialect])
        is_right(engine.sample_all([request("Now?")])[0][0], "Now?")
    with Chaos(["kept_waiting"], repeat=True) as chaos:
        engine = RemoteEngine(engine_of(chaos).endpoint, patience=Patience(first=0.1), retries=Retries(attempts=1))
        with pytest.raises(Fault, match=r"no part of an answer came for 0\.1 s"):
            engine.sample_all([request("Now?")])


def test_what_is_lost_is_counted_and_taken_back() -> None:
    with Chaos(["cut_in_event", ""]) as chaos:
        deltas, trace = asyncio.run(streamed(engine_of(chaos), request("Tell me.")))
        is_right(trace, "Tell me.")
        assert [delta.part for delta in deltas].count("reset") == 1
        assert trace.usage is not None
        assert trace.usage.lost_tokens >= trace.tokens / 4
        assert trace.usage.calls == 2


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_strange_and_not_wrong_changes_nothing(dialect: str, oddity: str) -> None:
    with Chaos([oddity], repeat=True) as chaos:
        engine = engine_of(chaos, DIALECTS[dialect])
        for question in questions(3):
            _, trace = asyncio.run(streamed(engine, request(question)))
            is_right(trace, question)
        assert len(chaos.seen) == 3


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_is_one_clear_line(fault: str) -> None:
    with Chaos([fault], repeat=True, hang=0.6) as chaos:
        engine = RemoteEngine(
            endpoint(f"endpoint/m@{chaos.base}", {}),
            patience=Patience(connect=1, first=0.1, between=0.1),
            retries=Retries(attempts=2, base=0.001),
        )
        began = time.monotonic()
        if fault in ("cut_after_answer", "cut_before_end", "reset_before_end"):  # all that matters had come
            is_right(engine.sample_all([request("?")])[0][0], "?")
            return
        with pytest.raises(Fault) as told:
            engine.sample_all([request("?")])
        assert time.monotonic() - began < 8
        line = str(told.value)
        assert chaos.base in line or "JSON" in line or "event" in line
        assert "\n" not in line
        assert 10 < len(line) < 400
        assert len(chaos.seen) <= 12


def test_many_at_once_do_not_mix() -> None:
    script = ["", "cut_in_event", "", "http_429_after", "", "", "http_500", "reset_in_character", ""] * 5
    with Chaos(script, style="tags") as chaos:
        engine = engine_of(chaos)
        asked = questions(60)
        found = engine.sample_all([request(question, n=2) for question in asked])
        for question, traces in zip(asked, found, strict=True):
            assert len(traces) == 2
            for trace in traces:
                is_right(trace, question)
        seeds = {(seen.body["messages"][0]["content"], seen.body["seed"]) for seen in chaos.seen}
        assert len(seeds) == 120


@pytest.mark.parametrize("kind", ["vllm", "llamacpp", "ollama"])
@pytest.mark.parametrize("stream", [True, False])
def test_the_thinking_stops_at_its_budget(kind: str, stream: bool) -> None:
    """vLLM has a field for it, llama.cpp gets the end of the thinking from us, and so does Ollama."""
    with Chaos(style="opened" if kind == "llamacpp" else "thinking") as chaos:
        engine = engine_of(chaos, kind, streamed=stream)
        question = "A long one, " + "really " * 10
        deltas, trace = asyncio.run(streamed(engine, request(question, max_thinking_tokens=6, closing="Enough.")))
        thinking, answer = text_of(question)
        assert trace.answer == answer
        assert trace.thinking_status == "closed"
        assert joined(deltas) == (trace.thinking, trace.answer)
        kept = trace.thinking.removesuffix("Enough.")
        assert thinking.startswith(kept.rstrip("\n"))
        assert 3 * TOKEN < len(kept) <= 6 * TOKEN
        posts = [seen for seen in chaos.seen if seen.path.endswith(("/chat", "/completions"))]
        assert len(posts) == (1 if kind == "vllm" else 2)
        assert trace.thinking.endswith("Enough.") == (kind != "vllm")
        assert trace.usage is not None
        assert trace.usage.calls == len(posts)
        assert trace.usage.notes == ()


@pytest.mark.parametrize("style", ["opened", "thinking"])
def test_a_thinking_that_nobody_tells_apart_is_not_gone_on_with_as_an_answer(style: str) -> None:
    """Ollama without a parser for the model: what came may be thinking, so after a break it is asked for again."""
    with Chaos(["cut_in_event", "cut_in_character", ""], style=style) as chaos:
        deltas, trace = asyncio.run(streamed(engine_of(chaos, "ollama"), request("Again and again?")))
        is_right(trace, "Again and again?")
        assert joined(deltas) == (trace.thinking, trace.answer)
    with Chaos(style="opened") as chaos:
        deltas, trace = asyncio.run(streamed(engine_of(chaos, "ollama"), request("word " * 50, max_thinking_tokens=9)))
        is_right(trace, "word " * 50)
        assert joined(deltas) == (trace.thinking, trace.answer)
        assert trace.usage is not None
        assert "its budget could not be kept" in trace.usage.notes[0]
        assert trace.usage.lost_tokens > 0


def test_a_budget_that_a_server_ignores_is_noticed() -> None:
    with Chaos() as chaos:
        found = engine_of(chaos, "vllm")
        preset = replace(found.endpoint.preset, budget="some_other_field")
        engine = engine_of(chaos, "vllm", preset=preset)
        (trace,) = engine.sample_all([request("word " * 100, max_thinking_tokens=8)])[0]
        assert trace.usage is not None
        assert any("ignored the thinking budget" in note for note in trace.usage.notes)


def test_a_thinking_that_ends_too_early_is_opened_again() -> None:
    with Chaos() as chaos:
        engine = engine_of(chaos, "llamacpp")
        deltas, trace = asyncio.run(streamed(engine, request("Short?", min_thinking_tokens=400, max_tokens=3000)))
        assert trace.thinking.count("Wait") == 8
        assert joined(deltas) == (trace.thinking, trace.answer)
        assert trace.usage is not None
        assert trace.usage.lost_tokens > 0


@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
def test_a_prefill_begins_the_turn(kind: str) -> None:
    with Chaos() as chaos:
        thinking, answer = text_of("Go on")
        prefill = f"<think>\n{thinking[:13]}"
        deltas, trace = asyncio.run(streamed(engine_of(chaos, kind), request("Go on", prefill=prefill)))
        assert trace.opened == prefill
        assert (trace.thinking, trace.answer) == (thinking[13:].lstrip("\n"), answer)
        assert joined(deltas) == (trace.thinking, trace.answer)


def test_what_an_endpoint_cannot_is_said_before_it_is_asked() -> None:
    with Chaos() as chaos:
        for asked in (
            request("?", prefill="<think>"),
            request("?", max_thinking_tokens=5),
            request("?", min_thinking_tokens=5),
        ):
            with pytest.raises(UserError, match=r"cannot .* name a tokenizer"):
                engine_of(chaos).sample_all([asked])
        assert chaos.seen == []
        with pytest.raises(UserError, match="has no switch"):
            engine_of(chaos, think=True).sample_all([request("?")])


@pytest.mark.parametrize("kind", ["ollama", "vllm"])
def test_the_switch_turns_thinking_off(kind: str) -> None:
    with Chaos() as chaos:
        (trace,) = engine_of(chaos, kind, think=False).sample_all([request("Quick")])[0]
        assert (trace.thinking, trace.answer, trace.thinking_status) == ("", text_of("Quick")[1], "none")
        (trace,) = engine_of(chaos, kind).sample_all([request("Quick", max_thinking_tokens=0)])[0]
        assert trace.thinking == ""


def test_a_cut_answer_says_length() -> None:
    with Chaos() as chaos:
        for kind in ("endpoint", "ollama", "responses"):
            (trace,) = engine_of(chaos, kind).sample_all([request("Long", max_tokens=3)])[0]
            assert (trace.finish, trace.thinking_status, trace.answer) == ("length", "truncated", "")
            assert trace.tokens == 3


def test_a_refusal_is_the_traces_error_and_a_missing_model_everybodys() -> None:
    class Refusing(Chaos):
        status = 400

        async def _answer(self, link: Any, answer: Any, fault: str) -> bool:
            await link.whole(self.status, '{"error": {"message": "maximum context length is 4096"}}')
            return True

    with Refusing() as chaos:
        (trace,) = engine_of(chaos).sample_all([request("?")])[0]
        assert trace.finish == "error"
        assert "maximum context length is 4096 (HTTP 400)" in trace.error
        assert len(chaos.seen) == 1
        chaos.status = 404
        with pytest.raises(Fault, match="404"):
            engine_of(chaos).sample_all([request("?")])


def test_a_key_is_sent_and_never_told() -> None:
    key = "sk-secret-0123456789"
    with Chaos(strict_key=key) as chaos:
        found = endpoint(f"vllm/m@{chaos.base}", {"VLLM_API_KEY": key})
        engine = RemoteEngine(found)
        (trace,) = engine.sample_all([request("With a key")])[0]
        is_right(trace, "With a key")
        wrong = RemoteEngine(replace(found, key="sk-wrong-key-98765"))
        with pytest.raises(Denied) as told:
            wrong.sample_all([request("?")])
        shown = f"{told.value} {told.value!r} {engine!r} {found!r} {trace!r} {engine._client!r} {told.value.__cause__}"
        assert "Incorrect API key" in str(told.value)
        assert "sk-wrong-key-98765" not in shown
        assert key not in shown
        with pytest.raises(Denied, match="set VLLM_API_KEY to a key"):
            RemoteEngine(replace(found, key="")).sample_all([request("?")])


def test_a_certificate_is_verified(tmp_path: Path) -> None:
    """One that nobody signed: no request reaches the server, and no key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed, which makes the certificate")
    key, certificate = str(tmp_path / "key"), str(tmp_path / "certificate")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    came: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.read(10))
        writer.close()

    async def ask() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        base = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        engine = RemoteEngine(endpoint(f"vllm/m@{base}", {"VLLM_API_KEY": "sk-secret"}))
        with pytest.raises(Unreachable, match="a certificate that is not trusted here"):
            await engine.sample(request("?"))
        await engine.aclose()
        server.close()

    asyncio.run(ask())
    assert came == []


def test_proxies_are_used_but_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with Chaos() as chaos:
        monkeypatch.setenv("HTTP_PROXY", chaos.base)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        far = RemoteEngine(endpoint("vllm/m@http://models.test:8000", {}))  # a name that nobody has
        is_right(far.sample_all([request("Far?")])[0][0], "Far?")
        assert chaos.seen[-1].path == "http://models.test:8000/v1/chat/completions"
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        is_right(engine_of(chaos).sample_all([request("Near?")])[0][0], "Near?")


def test_a_number_that_json_has_not_is_told() -> None:
    with Chaos() as chaos:
        (trace,) = engine_of(chaos).sample_all([request("?", temperature=float("inf"))])[0]
        assert trace.finish == "error"
        assert "inf or nan" in trace.error
        assert chaos.seen == []


def test_nobody_there_is_told_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"nothing answers at http://127\.0\.0\.1:9 .*is the server running"):
        RemoteEngine(endpoint("ollama/m@http://127.0.0.1:9", {})).sample_all([request("?")])
    assert time.monotonic() - began < 2


def test_whoever_leaves_frees_his_place() -> None:
    with Chaos(pause=0.2) as chaos:
        engine = engine_of(chaos)

        async def leave() -> None:
            before = engine.room
            tasks = [asyncio.create_task(engine.sample(request(question))) for question in questions(20)]
            await asyncio.sleep(0.3)
            assert engine.room == 0
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert engine.room == before
            stream = engine.stream(request("?"))
            async for _ in stream:
                break
            await stream.aclose()
            assert engine.room == before
            await engine.aclose()

        asyncio.run(leave())


def test_history_is_sent_as_each_server_wants_it() -> None:
    messages: Any = (
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1", "thinking": "first"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "", "thinking": "second", "tool_calls": [{"id": "a"}]},
        {"role": "tool", "content": "2", "tool_call_id": "a"},
    )
    with Chaos() as chaos:
        for kind, history, field, sent in (
            ("vllm", "none", "reasoning", []),
            ("vllm", "tool_loop", "reasoning", ["second"]),
            ("endpoint", "all", "reasoning_content", ["first", "second"]),
            ("ollama", "all", "thinking", ["first", "second"]),
        ):
            engine_of(chaos, kind, history=history).sample_all([Request(messages=messages)])
            told = chaos.seen[-1].body["messages"]
            assert [message[field] for message in told if field in message] == sent
            assert told[3]["tool_calls"] == [{"id": "a"}]
        assert PRESETS["deepseek"].history == "tool_loop"
