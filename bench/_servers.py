"""Servers for bench/serve.py, each in a process of its own, on a free port of this machine, with the same weights."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

START = 180.0  # seconds that a server may take until it answers
PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True)
class Server:
    """A command in which {port} and {folder} stand for the port and for a folder with the weights, the name by which it
    knows the model, and what is asked to see whether it is there."""

    name: str
    command: tuple[str, ...]
    model: str
    ready: str = "/v1/models"


OURS = Server("thinksmith", (str(PROGRAMS / "thinksmith"), "serve", "tiny", "--port", "{port}"), "tiny", "/health")
_SERVE = (str(PROGRAMS / "transformers"), "serve", "{folder}", "--host", "127.0.0.1", "--port", "{port}")
_SERVE += ("--device", "cpu", "--dtype", "float32", "--log-level", "error")
_PAGES = ("--cb-block-size", "32", "--cb-num-blocks", "256", "--cb-max-batch-tokens", "512")
_LLAMA = (sys.executable, "-m", "llama_cpp.server", "--model", "{folder}/model.gguf", "--port", "{port}")
OTHERS = (
    Server("transformers serve", _SERVE, "{folder}", "/health"),
    Server("transformers serve, continuous", (*_SERVE, "--continuous-batching", *_PAGES), "{folder}", "/health"),
    Server("llama-cpp-python", (*_LLAMA, "--n_ctx", "1024", "--interrupt_requests", "false"), "tiny"),
)


def missing(server: Server) -> str:
    """Why a server cannot be started here; empty if it can."""
    needs = {"transformers": "fastapi", "llama-cpp-python": "llama_cpp"}
    for name, package in needs.items():
        if server.name.startswith(name) and find_spec(package) is None:
            return f"{package} is not installed"
    return ""


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    server: Server
    port: int
    model: str
    pid: int
    start_seconds: float

    def resident_mb(self) -> float:
        """Resident memory of the process and of all below it; what they share counts once each."""
        return sum(map(_resident_mb, _tree(self.pid)))


@contextmanager
def started(server: Server, folder: Path, log: Path) -> Iterator[Running]:
    """Start, wait until it answers, and end it by SIGTERM. Raises RuntimeError with the last lines of its log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = {"port": str(port), "folder": str(folder)}
    command = [word.format(**words) for word in server.command]
    began = time.perf_counter()
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment)
    try:
        while not _answers(f"http://127.0.0.1:{port}{server.ready}"):
            if process.poll() is not None or time.perf_counter() - began > START:
                raise RuntimeError(f"{server.name} does not start: {' '.join(log.read_text().split()[-40:])}")
            time.sleep(0.05)
        taken = time.perf_counter() - began
        yield Running(server, port, server.model.format(**words), process.pid, taken)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def weights() -> Iterator[Path]:
    """A folder with `tiny`: in Hugging Face's format, and model.gguf where llama.cpp is here. The tokenizer is declared
    as what its tokenizer.json says, since transformers' `AutoTokenizer` cuts by rules of its own otherwise."""
    from thinksmith.models import path as model_path

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "tiny"
        shutil.copytree(model_path("tiny"), folder)
        path = folder / "tokenizer_config.json"
        config = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
        path.write_text(json.dumps(config), encoding="utf-8")
        if find_spec("llama_cpp") is not None:
            command = [str(PROGRAMS / "thinksmith"), "convert", "tiny", "--to", "gguf", "--quantize", "f32"]
            subprocess.run([*command, "--out", str(folder / "model.gguf")], check=True, stdout=subprocess.DEVNULL)
        yield folder


def _tree(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def _resident_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)
