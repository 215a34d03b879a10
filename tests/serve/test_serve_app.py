"""The server over real connections: what is answered, and what becomes of clients that leave, stall or misbehave."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any

import httpx
import pytest
from serve_parts import Scripted, Serving, serving, until  # type: ignore[import-not-found]

QUESTION = [{"role": "user", "content": "What is 12 * 13?"}]


def _post(server: Serving, path: str = "/v1/chat/completions", **body: Any) -> httpx.Response:
    asked = {"model": next(iter(server.app.shelf.bases)), "messages": QUESTION, **body}
    return httpx.post(f"{server.url}{path}", json=asked, timeout=120)


def _frames(text: str) -> list[dict[str, Any]]:
    lines = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def _joined(frames: list[dict[str, Any]], name: str, index: int = 0) -> str:
    choices = [each for frame in frames for each in frame["choices"] if each["index"] == index]
    return "".join(each["delta"].get(name) or "" for each in choices)


def _raw(body: bytes, headers: str = "") -> bytes:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def _stream_body(text: str = "hi") -> bytes:
    said = [{"role": "user", "content": text}]
    return json.dumps({"model": "scripted", "messages": said, "stream": True}).encode()


# ---- answers of the real model


@pytest.mark.parametrize("n", [1, 3])
def test_streamed_and_whole_are_the_same(tiny_server: Serving, n: int) -> None:
    levers = {"n": n, "seed": 5, "temperature": 1.0, "max_tokens": 120}
    whole = _post(tiny_server, **levers).json()
    frames = _frames(_post(tiny_server, **levers, stream=True, stream_options={"include_usage": True}).text)
    assert len(whole["choices"]) == n
    for choice in whole["choices"]:
        message, index = choice["message"], choice["index"]
        assert _joined(frames, "content", index) == message["content"]
        assert _joined(frames, "reasoning_content", index) == message.get("reasoning_content", "")
        ends = [c["finish_reason"] for f in frames for c in f["choices"] if c["index"] == index and c["finish_reason"]]
        assert ends == [choice["finish_reason"]]
    assert frames[-1]["usage"] == whole["usage"]


def test_it_answers_what_the_engine_answers_alone(tiny_server: Serving) -> None:
    from dataclasses import replace

    from thinksmith.engines import open_engine
    from thinksmith.records import Request

    engine = open_engine("tiny")
    sampling = replace(engine.info.sampling, temperature=0.0, max_tokens=engine.info.context_length)
    ((lone,),) = engine.sample_all([Request(messages=tuple(QUESTION), sampling=sampling)])  # type: ignore[arg-type]
    found: list[httpx.Response] = []
    clients = [threading.Thread(target=lambda: found.append(_post(tiny_server, temperature=0))) for _ in range(6)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert {each.json()["choices"][0]["message"]["content"] for each in found} == {lone.answer}
    usage = found[0].json()["usage"]
    assert usage["completion_tokens"] == lone.tokens
    assert usage["completion_tokens_details"]["reasoning_tokens"] == lone.thinking_tokens
    assert usage["prompt_tokens"] == lone.prompt_tokens


def test_logprobs_are_those_of_the_answers_tokens(tiny_server: Serving) -> None:
    choice = _post(tiny_server, temperature=0, logprobs=True, top_logprobs=3).json()["choices"][0]
    entries = choice["logprobs"]["content"]
    assert "".join(each["token"] for each in entries) == choice["message"]["content"]
    for each in entries:
        top = each["top_logprobs"]
        assert len(top) == 3
        assert top[0]["token"] == each["token"], "the greedy choice is the likeliest"
        assert top[0]["logprob"] == pytest.approx(each["logprob"], abs=1e-4)


def test_budgets_bound_the_thinking(tiny_server: Serving) -> None:
    for levers, most in (
        ({"thinking_token_budget": 8}, 8),
        ({"reasoning_effort": "none"}, 0),
        ({"chat_template_kwargs": {"enable_thinking": False}}, 0),
    ):
        told = _post(tiny_server, temperature=0, **levers).json()
        tokens = told["usage"]["completion_tokens_details"]["reasoning_tokens"]
        assert tokens <= most + 4, "the end tag and its line come on top"
        if not most:
            assert "reasoning_content" not in told["choices"][0]["message"]


def test_a_stop_and_a_short_answer_say_why_they_ended(tiny_server: Serving) -> None:
    cut = _post(tiny_server, temperature=0, max_tokens=5).json()["choices"][0]
    assert cut["finish_reason"] == "length"
    stopped = _post(tiny_server, temperature=0, stop=["answer"]).json()["choices"][0]
    assert stopped["finish_reason"] == "stop"
    assert "answer" not in stopped["message"]["content"]


def test_a_begun_answer_is_gone_on_with(tiny_server: Serving) -> None:
    begun = [*QUESTION, {"role": "assistant", "content": "The answer", "reasoning_content": "12 * 13 = 156."}]
    levers = {"messages": begun, "continue_final_message": True, "temperature": 0}
    whole = _post(tiny_server, **levers).json()["choices"][0]["message"]
    assert "156" in whole["content"]
    assert not whole["content"].startswith("The answer"), "what the client wrote is not told again"
    assert "reasoning_content" not in whole
    assert _joined(_frames(_post(tiny_server, **levers, stream=True).text), "content") == whole["content"]


def test_a_strategy_tells_its_draws_and_answers_with_one_of_them(tiny_server: Serving) -> None:
    levers = {"model": "tiny:vote@4", "seed": 3, "traces": True}
    whole = _post(tiny_server, **levers).json()
    told = whole["choices"][0]["strategy"]
    assert len(told["traces"]) == 4
    assert sum(each["chosen"] for each in told["traces"]) == 1
    assert whole["choices"][0]["message"]["content"] in [each["answer"] for each in told["traces"]]
    spent = sum(each["thinking_tokens"] + each["answer_tokens"] for each in told["traces"])
    assert whole["usage"]["completion_tokens"] == spent
    frames = _frames(_post(tiny_server, **levers, stream=True).text)
    progress = [c["delta"]["reasoning"] for f in frames for c in f["choices"] if c["delta"].get("progress")]
    assert len(progress) == 4 + 1, "a line a draw, and why it stopped"
    assert _joined(frames, "content") == whole["choices"][0]["message"]["content"]
    assert frames[-1]["choices"][0]["strategy"] == told


def test_a_strategy_of_one_draw_streams_its_thinking(tiny_server: Serving) -> None:
    levers = {"model": "tiny:budget=24", "temperature": 0}
    whole = _post(tiny_server, **levers).json()["choices"][0]["message"]
    frames = _frames(_post(tiny_server, **levers, stream=True).text)
    assert _joined(frames, "reasoning") == whole["reasoning"]
    assert _joined(frames, "content") == whole["content"]


@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("nobody", 404),
        ("tiny:nothing", 404),
        ("tiny:vote@0", 400),
        ("tiny:vote@100000", 400),
        ("tiny:race", 400),
        ("tiny:refine", 400),
        ("tiny:best_of:by=verifier", 400),
        ("tiny:vote:weight=verifier", 400),
        ("tiny:best_of:by=os:getcwd", 403),
        ("tiny:best_of:by=reward,model=/etc", 403),
        ("tiny:cascade:then=tiny-base", 403),
        ("tiny:os:getcwd", 404),
        ("tiny:best_of:by=recorded,file=/etc/passwd", 403),
        ("", 400),
    ],
)
def test_clients_name_no_code_no_file_and_no_other_model(tiny_server: Serving, model: str, status: int) -> None:
    answer = _post(tiny_server, model=model)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, "model")


def test_a_prompt_that_is_too_long_is_the_clients_affair(tiny_server: Serving) -> None:
    for stream in (False, True):
        answer = _post(tiny_server, messages=[{"role": "user", "content": "9 " * 3000}], stream=stream)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_who_leaves_frees_his_slots(tiny_server: Serving) -> None:
    base = tiny_server.app.shelf.bases["tiny"]
    room = base.engine.room
    body = {"model": "tiny", "messages": QUESTION, "stream": True, "n": 8, "min_thinking_tokens": 900}
    for read in (False, True):
        with tiny_server.connect() as client:
            client.sendall(_raw(json.dumps(body).encode()))
            until(lambda: base.gate.running == 8)
            if read:
                assert client.recv(100).startswith(b"HTTP/1.1 200")
        until(lambda: base.gate.running == 0)
        until(lambda: base.engine.room == room)


# ---- a scripted model


@pytest.mark.parametrize("stream", [False, True])
def test_a_models_failure_ends_one_request(scripted_server: Serving, stream: bool) -> None:
    failed = _post(scripted_server, messages=[{"role": "user", "content": "fail"}], stream=stream)
    assert failed.status_code == 500
    assert "the weights are tired" in failed.json()["error"]["message"]
    assert _post(scripted_server).json()["choices"][0]["message"]["content"] == "yes"


@pytest.mark.parametrize("stream", [False, True])
def test_a_bug_tells_nobody_what_was_said(
    scripted_server: Serving, stream: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    failed = _post(scripted_server, messages=[{"role": "user", "content": "raise"}], stream=stream)
    assert failed.status_code == 500
    assert "SECRET" not in failed.text
    told = capfd.readouterr()
    assert "ValueError" in told.err
    assert "SECRET" not in told.err + told.out


def test_past_the_queue_a_client_is_told_to_come_again(scripted: Scripted, scripted_server: Serving) -> None:
    scripted.pause = 0.05
    scripted.text = "y" * 200
    clients = [scripted_server.connect() for _ in range(3)]
    gate = scripted_server.app.shelf.bases["scripted"].gate
    for client in clients:
        client.sendall(_raw(_stream_body()))
    until(lambda: (gate.running, gate.waiting) == (2, 1))
    refused = _post(scripted_server)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["type"] == "rate_limit_error"
    for client in clients:
        client.close()
    until(lambda: (gate.running, gate.waiting, scripted.running) == (0, 0, 0))
    scripted.pause = 0
    assert _post(scripted_server).status_code == 200


def test_a_client_that_does_not_read_is_left(scripted: Scripted, scripted_server: Serving) -> None:
    scripted.text = "y" * 200_000
    with scripted_server.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(_raw(_stream_body()))
        until(lambda: scripted.running == 1)
        until(lambda: scripted.running == 0)
        assert scripted.cancelled == 1
    until(lambda: not scripted_server.server.server_state.connections)
    assert scripted_server.app.metrics.requests["/v1/chat/completions", "scripted", 499] == 1


def test_a_body_that_comes_too_slowly_or_too_long_is_refused(scripted_server: Serving) -> None:
    with scripted_server.connect() as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
        assert client.recv(200).startswith(b"HTTP/1.1 408")
    with scripted_server.connect() as client:
        client.sendall(_raw(b"x" * 100_001))
        assert client.recv(200).startswith(b"HTTP/1.1 413")


def test_headers_are_bounded_in_size_and_time(scripted_server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_server.connect() as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"x-long: " + b"y" * 40_000 + b"\r\n\r\n")
        assert client.recv(200).startswith(b"HTTP/1.1 431")
    monkeypatch.setattr("thinksmith.serve.connection.HEADER_SECONDS", 0.3)
    with scripted_server.connect() as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: loc")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(200) == b""


def test_one_after_the_other_on_one_connection(scripted: Scripted, scripted_server: Serving) -> None:
    """Also where the second comes before the first is answered; and leaving then still frees the first."""
    scripted.pause = 0.01
    body = json.dumps({"model": "scripted", "messages": QUESTION}).encode()
    with scripted_server.connect() as client:
        client.sendall(_raw(body) * 2)
        got = b""
        while got.count(b'"content":"yes"') < 2:
            got += client.recv(65536)
    scripted.pause, scripted.text = 0.05, "y" * 10_000
    with scripted_server.connect() as client:
        client.sendall(_raw(body))
        until(lambda: scripted.running == 1)
        client.sendall(_raw(body))
        time.sleep(0.2)
    until(lambda: scripted.running == 0, seconds=20)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"model": "scripted", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"a": ' + b"[" * 40_000 + b"]" * 40_000 + b"}",
        b'{"n": NaN}',
        b'{"n": ' + b"9" * 6000 + b"}",
        json.dumps({"model": "scripted", "messages": QUESTION, "n": 9}).encode(),
    ],
)
def test_broken_bodies_are_refused_in_json(scripted_server: Serving, body: bytes) -> None:
    answer = httpx.post(f"{scripted_server.url}/v1/chat/completions", content=body, timeout=30)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/api/nothing", 404)])
def test_other_paths_and_methods_are_refused_in_json(scripted_server: Serving, path: str, status: int) -> None:
    assert httpx.get(scripted_server.url + path).status_code == status
    assert "error" in httpx.get(scripted_server.url + path).json()
    wrong = httpx.delete(f"{scripted_server.url}/v1/chat/completions")
    assert wrong.status_code == 405
    assert "error" in wrong.json()


def test_the_models_own_sampling_holds_where_nothing_is_set(scripted: Scripted, scripted_server: Serving) -> None:
    _post(scripted_server)
    _post(scripted_server, temperature=0.25, seed=7)
    first, second = (request.sampling for request in scripted.seen)
    own = scripted.info.sampling
    assert (first.temperature, first.top_p) == (own.temperature, own.top_p)
    assert first.max_tokens == scripted.info.context_length
    assert (second.temperature, second.seed) == (0.25, 7)


def test_health_and_metrics(scripted_server: Serving) -> None:
    _post(scripted_server)
    text = httpx.get(f"{scripted_server.url}/metrics").text
    assert 'thinksmith_requests_total{route="/v1/chat/completions",model="scripted",status="200"} 1' in text
    assert 'thinksmith_tokens_total{model="scripted",kind="answer"} 3' in text
    assert 'thinksmith_running{model="scripted"} 0' in text
    assert 'thinksmith_request_seconds_count{model="scripted"} 1' in text
    assert httpx.get(f"{scripted_server.url}/health").json() == {"status": "ok"}
    scripted_server.app.drain()
    assert httpx.get(f"{scripted_server.url}/health").status_code == 503
    assert _post(scripted_server).status_code == 503


def test_stopping_finishes_what_runs(scripted: Scripted, scripted_app: Any) -> None:
    scripted.pause, scripted.text = 0.02, "y" * 60
    with serving(scripted_app, grace=30) as server:
        client = server.connect()
        client.sendall(_raw(_stream_body()))
        until(lambda: scripted.running == 1)
    got = b""
    while piece := client.recv(65536):
        got += piece
    client.close()
    assert got.count(b'"content":"y"') == 60
    assert b"data: [DONE]" in got
    assert scripted.cancelled == 0


def test_what_is_answered_is_kept_where_that_is_wanted(scripted: Scripted, own_store: Any) -> None:
    from thinksmith.serve.app import create_app
    from thinksmith.serve.models import Base, Shelf
    from thinksmith.serve.saving import Saver
    from thinksmith.store.store import Store

    shelf = Shelf([Base.of("scripted", scripted, places=4, queue=4)])
    failures: list[str] = []
    with serving(create_app(shelf, saver=Saver(Store.open(), failures.append))) as server:
        for stream in (False, True):
            _post(server, n=2, stream=stream)
    with Store.open() as store:
        (run,) = store.runs()
        kept = [each.attempt for each in store.attempts(run.id)]
    assert (run.kind, run.model, failures) == ("serve", "scripted", [])
    assert run.finished is not None
    assert [each.trace.answer for each in kept] == ["yes"] * 4
    assert [each.notes["completion"] for each in kept] == [0, 1, 0, 1]
    assert kept[0].problem.messages == tuple(QUESTION)


def test_the_log_has_numbers_and_no_words(scripted: Scripted) -> None:
    from thinksmith.serve.app import create_app
    from thinksmith.serve.models import Base, Shelf

    scripted.text, scripted.thinking = "ANSWERED", "THOUGHT"
    lines: list[str] = []
    with serving(create_app(Shelf([Base.of("scripted", scripted, places=4, queue=4)]), log=lines.append)) as server:
        for body in ({}, {"stream": True}, {"model": "QUESTION"}, {"messages": "QUESTION"}):
            _post(server, **({"messages": [{"role": "user", "content": "QUESTION"}]} | body))
    assert len(lines) == 4
    assert "200 scripted" in lines[0]
    assert not any(word in line for line in lines for word in ("QUESTION", "THOUGHT", "ANSWERED"))


def test_a_store_that_fails_costs_no_answer(scripted: Scripted, own_store: Any) -> None:
    from thinksmith.serve.app import create_app
    from thinksmith.serve.models import Base, Shelf
    from thinksmith.serve.saving import Saver
    from thinksmith.store.store import Store

    store, failures = Store.open(), list[str]()
    with store.reading() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON attempts BEGIN SELECT RAISE(FAIL, 'full'); END"
        )
        connection.commit()
    shelf = Shelf([Base.of("scripted", scripted, places=4, queue=4)])
    with serving(create_app(shelf, saver=Saver(store, failures.append))) as server:
        assert _post(server).json()["choices"][0]["message"]["content"] == "yes"
        until(lambda: bool(failures))
        assert "thinksmith_unsaved_total 1" in httpx.get(f"{server.url}/metrics").text
