"""`thinksmith doctor` as a user starts it: what it prints, what it says in JSON, and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from thinksmith.sandbox import LAYERS, Host, Layer, probe

AREAS = ["machine", "torch", "memory", "disk", "store", "programs", "endpoints", "sandbox"]


def told(done: Any) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON of what the `cli` fixture ran."""
    assert done.err == ""
    return done.code, json.loads(done.out)


def named(area: list[dict[str, str]], name: str) -> dict[str, str]:
    (one,) = [finding for finding in area if finding["name"] == name]
    return one


@pytest.fixture
def ollama() -> Iterator[tuple[str, list[str]]]:
    """The address of a server that answers as Ollama does, and the paths that it was asked for."""
    asked: list[str] = []
    answers = {"/v1/models": {"data": [{"id": "r1:8b", "owned_by": "library"}]}, "/api/version": {"version": "0.12.6"}}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps(answers.get(self.path, {})).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_everything_is_told_and_the_exit_code_says_whether_all_is_well(program, own_store, ollama):
    address, _ = ollama
    done = subprocess.run(
        [program, "doctor", "--json"], env=os.environ | {"OLLAMA_HOST": address}, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    assert list(found["areas"]) == AREAS
    listed = [finding for area in found["areas"].values() for finding in area]
    assert all(finding.keys() == {"name", "value", "status", "remedy"} for finding in listed)
    ill = [finding for finding in listed if finding["status"] == "problem"]
    assert all(finding["remedy"] for finding in ill)
    assert (done.returncode, done.stderr, found["well"]) == (int(bool(ill)), "", not ill)
    assert named(found["areas"]["endpoints"], address)["value"].startswith("Ollama 0.12.6, r1:8b (")
    assert not own_store.exists()


def test_no_endpoints_means_none(cli, ollama, monkeypatch):
    address, asked = ollama
    monkeypatch.setenv("OLLAMA_HOST", address)
    _, found = told(cli("doctor", "--json", "--no-endpoints"))
    assert list(found["areas"]) == [area for area in AREAS if area != "endpoints"]
    assert asked == []
    told(cli("doctor", "--json"))
    assert asked


def test_a_problem_is_marked_and_told_again_with_its_remedy(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("THINKSMITH_STORE", str(tmp_path))
    done = cli("doctor", "--no-endpoints")
    assert done.code == 1
    lines = [line.split() for line in done.out.splitlines()]
    assert ["✗", "file", str(tmp_path), "is", "a", "folder"] in lines
    assert f"✗ to mend: store, file: name a file in it: THINKSMITH_STORE={tmp_path}/store.db\n" in done.out
    assert lines[-1][1] in ("problem", "problems")
    assert lines[-1][0] != "no"


def test_a_gpu_that_this_torch_cannot_use_is_a_problem(cli, tmp_path, monkeypatch):
    """A program in front of the path says that there is a GPU, one so old that no torch of ours has code for it."""
    smi = tmp_path / "nvidia-smi"
    line = "0, GPU-1, NVIDIA Imaginary, 81920, 80000, 3.0, 570.172.08"
    smi.write_text(f'#!/bin/sh\ncase "$1" in --query-gpu=*) echo "{line}";; esac\n')
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    code, found = told(cli("doctor", "--json", "--no-endpoints"))
    card = named(found["areas"]["machine"], "GPU 0")
    assert card["value"].startswith("NVIDIA Imaginary, 78.1 GiB of 80.0 GiB free, compute capability 3.0")
    assert code == 1
    assert any(finding["status"] == "problem" for finding in found["areas"]["torch"])


def test_where_nothing_isolates_that_is_a_problem(cli, monkeypatch):
    layers = tuple(
        Layer(name, True) if name in ("seccomp", "limits") else Layer(name, False, "refused", f"get {name}")
        for name in LAYERS
    )
    monkeypatch.setattr(probe, "_probe", lambda: Host(layers, "user"))
    code, found = told(cli("doctor", "--json", "--no-endpoints"))
    assert code == 1
    assert found["sandbox"] == {
        "isolates": False,
        "layers": [
            {"name": layer.name, "active": layer.active, "reason": layer.reason, "remedy": layer.remedy}
            for layer in layers
        ],
        "keeps": {"files": [], "network": ["seccomp"], "processes": ["seccomp"], "resources": ["limits"]},
    }
    area = found["areas"]["sandbox"]
    assert named(area, "landlock") == {
        "name": "landlock",
        "value": "missing: refused",
        "status": "note",
        "remedy": "get landlock",
    }
    assert named(area, "files")["value"] == "kept by nothing"
    assert named(area, "untrusted code")["status"] == "problem"
