"""Model servers on this machine: told by what they answer, and none of them can hurt by what it answers.

The servers here are real ones on loopback that say what the true ones say, or misbehave.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thinksmith.health.endpoints import PORTS, Candidates, candidates, findings
from thinksmith.health.servers import MOST_BYTES, Patience, look

Raw = Callable[[socket.socket], None]


def models(owner: str, *names: str) -> dict[str, object]:
    return {"object": "list", "data": [{"id": name, "object": "model", "owned_by": owner} for name in names]}


@contextmanager
def serving(answers: dict[str, object], asked: list[str] | None = None) -> Iterator[str]:
    """A web server: a path's answer is JSON, bytes as they are, (status, headers, bytes), or a call that gives one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if asked is not None:
                asked.append(self.path)
            answer = answers.get(self.path, (404, {}, b"not here"))
            answer = answer() if callable(answer) else answer
            if not isinstance(answer, tuple):
                answer = (200, {}, answer if isinstance(answer, bytes) else json.dumps(answer).encode())
            status, headers, body = answer
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            with suppress(
                ConnectionError
            ):  # who asked may be gone, and what is said of that would land in another test
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def raw(talk: Raw) -> Iterator[str]:
    """A listener that does with each connection what `talk` does, until the other side has gone."""
    with socket.create_server(("127.0.0.1", 0)) as door, ExitStack() as held:

        def accept() -> None:
            while True:
                try:
                    connection, _ = door.accept()
                except OSError:
                    return
                held.enter_context(connection)
                threading.Thread(target=quietly, args=(connection,), daemon=True).start()

        def quietly(connection: socket.socket) -> None:
            try:
                connection.recv(65536)
                talk(connection)
            except OSError:  # the other side has had enough
                pass

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            door.shutdown(socket.SHUT_RDWR)
            thread.join()


LM_STUDIO = {"data": [{"id": "qwen3-8b", "object": "model", "type": "llm", "arch": "qwen3", "state": "not-loaded"}]}
KNOWN = {
    "Ollama 0.12.6": {"/v1/models": models("library", "qwen3:8b", "gemma3"), "/api/version": {"version": "0.12.6"}},
    "vLLM 0.11.0": {"/v1/models": models("vllm", "Qwen/Qwen3-8B"), "/version": {"version": "0.11.0"}},
    "NIM 1.8.4": {
        "/v1/models": models("vllm", "meta/llama-3.1-8b-instruct"),
        "/version": {"version": "0.9.2"},
        "/v1/version": {"release": "1.8.4", "api": "1.8.4"},
    },
    "SGLang 0.5.3": {"/v1/models": models("sglang", "Qwen/Qwen3-8B"), "/get_server_info": {"version": "0.5.3"}},
    "llama.cpp b8681-Debian": {"/v1/models": models("llamacpp", "q.gguf"), "/props": {"build_info": "b8681-Debian"}},
    "LM Studio": {"/v1/models": models("organization_owner", "qwen3-8b"), "/api/v0/models": LM_STUDIO},
    "SGLang": {"/v1/models": models("sglang", "Qwen/Qwen3-8B")},  # it does not tell its version
    "an OpenAI-compatible server": {"/v1/models": models("someone", "m")},
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_server_is_known_by_what_it_answers(name):
    with serving(KNOWN[name]) as base:
        (endpoint,) = look([base])
        (finding,) = findings(Candidates((base,)))
    told = [entry["id"] for entry in KNOWN[name]["/v1/models"]["data"]]
    assert " ".join(filter(None, (endpoint.server, endpoint.version))) == name.replace(
        "an OpenAI-compatible server", ""
    )
    assert list(endpoint.models) == told
    assert 0 < endpoint.seconds < 1
    assert not endpoint.trouble
    assert finding.status == "ok"
    assert finding.value.startswith(f"{name}, {', '.join(told)} (")
    assert finding.value.endswith(" ms)")


@pytest.mark.parametrize("none", [[], None])
def test_an_ollama_without_models_says_how_to_get_one(none):
    with serving({"/v1/models": {"object": "list", "data": none}, "/api/version": {"version": "0.12.6"}}) as base:
        (finding,) = findings(Candidates((base,)))
    assert (finding.status, finding.remedy) == ("note", "ollama pull NAME")
    assert finding.value.startswith("Ollama 0.12.6, no models (")


def test_many_models_are_counted():
    with serving({"/v1/models": models("library", *map(str, range(1500)))}) as base:
        (finding,) = findings(Candidates((base,)))
    assert "0, 1, 2 and 1,497 more" in finding.value


HOSTILE = {
    "a web page": (b"<!DOCTYPE html><title>Jupyter</title>", "not JSON"),
    "not UTF-8": (b'{"data": [{"id": "\xff\xfe"}]}', "not JSON"),
    "nested without end": (b"[" * 500_000, "not JSON"),
    "a number without end": (b'{"data": [{"id": ' + b"9" * 100_000 + b"}]}", "not JSON"),
    "a list of numbers": (b"[1, 2, 3]", "names no models"),
    "a text": (b'"hello"', "no list of models"),
    "null": (b"null", "no list of models"),
    "data is a text": (b'{"data": "hello"}', "no list of models"),
    "names are no texts": (b'{"data": [{"id": 7}, {"id": null}, {"id": ["a"]}]}', "names no models"),
    "empty": (b"", "not JSON"),
    "too much": (b'{"data": [], "x": "' + b"y" * MOST_BYTES + b'"}', "answers more than"),
    "a bomb": ((200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(10**8))), "compressed"),
    "not found": ((404, {}, b"{}"), "HTTP 404"),
    "loading": ((503, {}, b'{"error": "Loading model"}'), "not ready (HTTP 503)"),
    "a key": ((401, {}, b"{}"), "asks for a key"),
    "a redirect to nowhere": ((302, {}, b""), "redirects to nowhere"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_list_of_models_is_told_in_words(name):
    answer, words = HOSTILE[name]
    with serving({"/v1/models": answer}) as base:
        (endpoint,) = look([base])
        (finding,) = findings(Candidates((base,)))
    assert words in endpoint.trouble
    assert not endpoint.models
    assert (finding.status, finding.value) == ("ok", endpoint.trouble)  # some other server: nothing is wrong


def test_signs_and_lengths_are_made_harmless():
    evil = "a\x1b[2J\x9b\x00\r\n\u202eb" + "c" * 10_000
    with serving({"/v1/models": models("library", evil), "/api/version": {"version": evil}}) as base:
        (finding,) = findings(Candidates((base,)))
    assert finding.value.isprintable()
    assert len(finding.value) < 200
    with serving({"/v1/models": (302, {"Location": "http://x/\x1b[31m" + "y" * 5000}, b"")}) as base:
        (finding,) = findings(Candidates((base,)))
    assert finding.value.isprintable()
    assert len(finding.value) < 120


def test_a_redirect_is_not_followed():
    asked: list[str] = []
    with serving(KNOWN["vLLM 0.11.0"], asked) as other:
        moved = {"/v1/models": (307, {"Location": f"{other}/v1/models"}, b"")}
        with serving(moved) as base:
            (endpoint,) = look([base])
    assert endpoint.trouble.startswith(f"redirects to {other}")
    assert asked == []


def test_no_proxy_stands_between_us_and_ourselves(monkeypatch):
    asked: list[str] = []
    with serving({}, asked) as proxy, serving(KNOWN["vLLM 0.11.0"]) as base:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        (endpoint,) = look([base])
    assert endpoint.server == "vLLM"
    assert asked == []


OK = b"HTTP/1.1 200 OK\r\n"


def drip(connection: socket.socket) -> None:
    connection.sendall(OK + b"Content-Length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.02)


def flood(connection: socket.socket) -> None:
    connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


def headers_without_end(connection: socket.socket) -> None:
    connection.sendall(OK)
    while True:
        connection.sendall(b"X-A: " + b"b" * 1000 + b"\r\n")


def informs_without_end(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


RAW: dict[str, tuple[Raw, str]] = {
    "says nothing": (lambda connection: time.sleep(5), "does not answer within 0.4 s"),
    "drips": (drip, "does not answer within 0.4 s"),
    "floods": (flood, "answers more than"),
    "headers without end": (headers_without_end, "does not speak HTTP"),
    "informs without end": (informs_without_end, "does not answer within 0.4 s"),
    "hangs up": (lambda connection: connection.close(), "does not speak HTTP"),
    "speaks SSH": (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"), "does not answer within 0.4 s"),
    "ends early": (lambda c: (c.sendall(OK + b"Content-Length: 9\r\n\r\n{"), c.close())[1], "does not speak HTTP"),
    "noise": (lambda connection: connection.sendall(bytes(range(256)) * 40), "does not speak HTTP"),
}


@pytest.mark.parametrize("name", RAW)
def test_whoever_listens_is_left_in_time(name):
    talk, words = RAW[name]
    with raw(talk) as base:
        began = time.monotonic()
        (endpoint,) = look([base], Patience(whole=0.4 if "within 0.4 s" in words else 10))
        assert time.monotonic() - began < 3
    assert words in endpoint.trouble
    assert not endpoint.silent


def test_all_are_asked_at_once_and_in_their_order():
    with ExitStack() as held:
        hanging = [held.enter_context(raw(lambda connection: time.sleep(5))) for _ in range(8)]
        good = held.enter_context(serving(KNOWN["Ollama 0.12.6"]))
        began = time.monotonic()
        found = look([*hanging, good], Patience(whole=1))
        assert time.monotonic() - began < 5  # one after the other would be 8
    assert [endpoint.base for endpoint in found] == [*hanging, good]
    assert [endpoint.server for endpoint in found] == [""] * 8 + ["Ollama"]
    assert [endpoint.hangs for endpoint in found] == [True] * 8 + [False]


def test_a_server_that_hangs_is_noted_with_what_to_do_and_a_closed_port_is_not():
    with socket.create_server(("127.0.0.1", 0)) as door:
        closed = f"http://127.0.0.1:{door.getsockname()[1]}"
    with raw(lambda connection: time.sleep(5)) as base:
        note, silent = findings(Candidates((closed, base)), Patience(whole=0.3))
    assert (note.status, note.remedy) == ("note", "restart it, if it is meant to be a model server")
    assert (silent.name, silent.value, silent.status) == ("silent", closed.removeprefix("http://"), "ok")


def test_the_version_is_not_waited_for_longer_than_the_rest():
    answers = dict(KNOWN["vLLM 0.11.0"])
    answers["/version"] = lambda: time.sleep(4)
    with serving(answers) as base:
        began = time.monotonic()
        (endpoint,) = look([base], Patience(whole=1))
        assert time.monotonic() - began < 3
    assert (endpoint.server, endpoint.version) == ("vLLM", "")
    assert endpoint.models


USUAL = tuple(f"http://127.0.0.1:{port}" for port in PORTS)


@pytest.mark.parametrize(
    ("told", "ollama"),
    [
        ("", "http://127.0.0.1:11434"),
        ("127.0.0.1", "http://127.0.0.1:11434"),
        ("localhost:9999", "http://127.0.0.1:9999"),
        (":9999", "http://127.0.0.1:9999"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1", "http://127.0.0.1:80"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("127.0.0.1:11434/", "http://127.0.0.1:11434"),
        ("127.0.0.1:99999", "http://127.0.0.1:11434"),  # Ollama takes its own port instead of one that cannot be
        ("127.9.9.9:7", "http://127.9.9.9:7"),
        ("[::1]:7", "http://[::1]:7"),
        ("::1", "http://[::1]:11434"),
        ("[::]:7", "http://[::1]:7"),
        ("'127.0.0.1:7' ", "http://127.0.0.1:7"),
    ],
)
def test_ollama_is_asked_where_it_was_told_to_listen(told, ollama):
    asked = candidates({"OLLAMA_HOST": told})
    assert asked.bases[0] == ollama
    assert set(USUAL[1:]) <= set(asked.bases)
    assert not asked.elsewhere


@pytest.mark.parametrize(
    "told",
    [
        "192.168.1.5",
        "10.0.0.1:11434",
        "ollama.example.com",
        "https://127.0.0.1",
        "[2001:db8::1]:11434",
        "127.0.0.1.example",
    ],
)
def test_another_machine_is_not_asked_and_that_is_told(told):
    asked = candidates({"OLLAMA_HOST": told})
    assert asked.bases == USUAL
    assert asked.elsewhere == told
    (finding,) = findings(Candidates((), told))
    assert (finding.name, finding.status) == ("OLLAMA_HOST", "ok")
    assert finding.value == f"{told}: not asked, it is not on this machine's loopback"


@given(st.text() | st.from_regex(r"(https?://)?[0-9a-fx.:\[\]%@/]{0,20}(:[0-9]{1,6})?(/.*)?", fullmatch=True))
@example("127.0.0.1@evil.example:80")
@example("http://evil.example#127.0.0.1")
@example("127.0.0.1\\evil.example")
@example("::ffff:8.8.8.8")
@example("2130706433")
def test_whatever_the_environment_says_only_loopback_is_asked(told):
    for base in candidates({"OLLAMA_HOST": told}).bases:
        assert ip_address(urlsplit(base).hostname or "").is_loopback
        assert 0 <= (urlsplit(base).port or 0) < 65536
