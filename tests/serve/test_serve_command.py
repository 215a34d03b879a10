"""`thinksmith serve` as a user starts it: what is wrong is one line and exit code 2; a signal ends it in good order."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from serve_parts import until  # type: ignore[import-not-found]

TOKEN = "correct-horse-battery"


def _fails(program: Path, *arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [str(program), "serve", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


@contextmanager
def _started(program: Path, *arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [str(program), "serve", "tiny", "--port", "0", *arguments],
        env={**os.environ, **variables},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        yield process, line.split(" at ")[1].split("/v1")[0]
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        (["nobody"], {}, "no model 'nobody'"),
        (["tiny:nothing"], {}, "no strategy 'nothing'"),
        (["tiny:vote@0"], {}, "at least one draw"),
        (["tiny", "--host", "0.0.0.0"], {}, "set a token"),
        (["tiny", "--host", "no.such.host.invalid"], {}, "--host no.such.host.invalid"),
        (["tiny", "--host", "192.0.2.1"], {"THINKSMITH_SERVE_TOKEN": TOKEN}, "no address of this machine"),
        (["tiny", "--port", "70000"], {}, "65535"),
        (["tiny"], {"THINKSMITH_SERVE_TOKEN": "short"}, "at least 16"),
        (["tiny"], {"THINKSMITH_SERVE_TOKEN": ""}, "at least 16"),
        (["tiny", "--token-file", "nowhere"], {}, "No such file"),
        (["tiny", "--public", "chat.example.org"], {}, "--public chat.example.org"),
    ],
)
def test_mistakes_are_one_line(program: Path, arguments: list[str], variables: dict[str, str], told: str) -> None:
    assert told in _fails(program, *arguments, **variables)


def test_a_port_that_is_taken(program: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"port {port} is in use" in _fails(program, "tiny", "--port", port)


@pytest.mark.skipif(sys.platform == "win32", reason="modes of files are POSIX's")
def test_a_token_that_others_can_read(program: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o644)
    assert "chmod 600" in _fails(program, "tiny", "--token-file", str(file))


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_it_serves_with_a_token_and_ends_what_runs_before_it_ends(
    program: Path, tmp_path: Path, own_store: Path
) -> None:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(TOKEN + "\n")
    with _started(program, "tiny:vote@2", "--token-file", str(file), "--save") as (process, url):
        assert httpx.get(f"{url}/v1/models").status_code == 401
        client = httpx.Client(base_url=url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=120)
        until(lambda: client.get("/health").status_code == 200)
        names = [each["id"] for each in client.get("/v1/models").json()["data"]]
        assert names == ["tiny", "tiny:vote@2"]
        said = [{"role": "user", "content": "What is 12 * 13?"}]
        body = {"model": "tiny", "messages": said, "stream": True, "min_thinking_tokens": 300}
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines: Any = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            last = [line for line in lines if line][-1]
        assert last == "data: [DONE]"
        assert process.wait(60) == 0
    from thinksmith.store.store import Store

    with Store.open(str(own_store)) as store:
        (run,) = store.runs()
        assert (run.kind, run.attempts) == ("serve", 1)
        assert run.finished is not None
        (kept,) = store.attempts(run.id)
        assert [dict(each) for each in kept.attempt.problem.messages] == said
