"""Against servers that others wrote, on loopback: transformers' own `serve`, and llama-cpp-python's where it is built.

What they say of `tiny` greedily is known from the model itself, so what the engine brings through a proxy that breaks
connections must be exactly that.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from _chaos import CUTS, Chaos
from thinksmith import models
from thinksmith.engines.remote.engine import RemoteEngine
from thinksmith.engines.remote.names import Endpoint, endpoint
from thinksmith.engines.remote.presets import PRESETS
from thinksmith.engines.remote.wire.client import Patience
from thinksmith.engines.remote.wire.retries import Retries
from thinksmith.policy.load import load_policy
from thinksmith.records import Request, Sampling, Trace
from thinksmith.thinking import split

QUESTIONS = ("What is 27 * 34?", "What is 15 + 68?", "What is 91 - 47?")
START_SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(command: list[str], port: int, log: Path) -> Iterator[int]:
    """Start a server, wait until it answers, and end it."""
    with log.open("wb") as out:
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        server = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        try:
            end = time.monotonic() + START_SECONDS
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/docs", timeout=2)
                    break
                except (urllib.error.URLError, OSError):
                    assert server.poll() is None, log.read_text(errors="replace")[-2000:]
                    assert time.monotonic() < end, log.read_text(errors="replace")[-2000:]
                    time.sleep(0.2)
            yield port
        finally:
            server.terminate()
            server.wait(20)


@pytest.fixture(scope="module")
def transformers_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    pytest.importorskip("fastapi", reason="transformers[serving] is not installed")
    port = free_port()
    program = str(Path(sys.executable).parent / "transformers")
    command = [program, "serve", str(models.path("tiny")), "--host", "127.0.0.1", "--port", str(port)]
    yield from serve(
        [*command, "--device", "cpu", "--dtype", "float32"], port, tmp_path_factory.mktemp("serve") / "log"
    )


@pytest.fixture(scope="module")
def llama_cpp_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if importlib.util.find_spec("llama_cpp") is None or importlib.util.find_spec("starlette_context") is None:
        pytest.skip("llama-cpp-python's server is not installed (extra bench)")
    from thinksmith.convert.gguf import write_gguf

    folder = tmp_path_factory.mktemp("llama")
    write_gguf(load_policy("tiny"), folder / "tiny.gguf", "f32")
    port = free_port()
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(folder / "tiny.gguf"), "--host", "127.0.0.1"]
    yield from serve([*command, "--port", str(port), "--n_ctx", "1024", "--n_threads", "1"], port, folder / "log")


def of(port: int, kind: str = "endpoint", model: str = "", **more: Any) -> RemoteEngine:
    found: Endpoint = endpoint(f"{kind}/{model or models.path('tiny')}@http://127.0.0.1:{port}", {})
    engine = RemoteEngine(
        replace(found, **({"tokenizer": "tiny"} | more)),
        patience=Patience(connect=5, first=60, between=60),
        retries=Retries(base=0.01, cap=0.05),
    )
    return engine


def ask(question: str, **sampling: Any) -> Request:
    settings = Sampling(**{"temperature": 0.0, "max_tokens": 200} | sampling)
    return Request(messages=({"role": "user", "content": question},), sampling=settings)


@pytest.fixture(scope="module")
def expected() -> dict[str, tuple[str, str]]:
    """What transformers itself generates, with the tokenizer that its server uses."""
    name = str(models.path("tiny"))
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(name)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    found = {}
    for question in QUESTIONS:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(text, return_tensors="pt")
        out = model.generate(**ids, do_sample=False, max_new_tokens=200)[0, ids.input_ids.shape[1] :]
        parts = split(tokenizer.decode(out, skip_special_tokens=True), opened=True)
        found[question] = parts.thinking.strip(), parts.answer.strip()
    return found


def said(trace: Trace) -> tuple[str, str]:
    assert (trace.finish, trace.thinking_status, trace.error) == ("stop", "closed", "")
    assert trace.usage is not None
    return trace.thinking.strip(), trace.answer.strip()


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("dialect", ["chat", "responses"])
def test_transformers_serve(
    transformers_serve: int, expected: dict[str, tuple[str, str]], streamed: bool, dialect: str
) -> None:
    preset = PRESETS["endpoint"] if dialect == "chat" else replace(PRESETS["openai"], samplers=frozenset({"top_p"}))
    engine = of(transformers_serve, streamed=streamed, preset=preset)
    for question, (thinking, answer) in expected.items():
        (trace,) = engine.sample_all([ask(question)])[0]
        assert said(trace) == (thinking, answer)
        assert trace.thinking_tokens > 20 * trace.answer_tokens / 10


def test_raw_completions_bound_the_thinking(transformers_serve: int, expected: dict[str, tuple[str, str]]) -> None:
    question = QUESTIONS[0]
    thinking, _ = expected[question]
    (trace,) = of(transformers_serve).sample_all([ask(question, max_thinking_tokens=20)])[0]
    assert trace.opened == "<think>\n"
    assert thinking.startswith(trace.thinking.strip())
    assert 0 < trace.thinking_tokens <= 20
    assert trace.answer.strip()
    prefill = f"<think>\n{thinking[:30]}"
    (trace,) = of(transformers_serve).sample_all([replace(ask(question), prefill=prefill)])[0]
    assert trace.text.startswith(prefill)
    assert trace.thinking_status == "closed"


@pytest.mark.parametrize("streamed", [True, False])
def test_every_cut_in_front_of_it(
    transformers_serve: int, expected: dict[str, tuple[str, str]], streamed: bool
) -> None:
    faults = [f"{how}_{where}" for how in ("cut", "reset") for where in CUTS] + [
        "http_502_html",
        "html_200",
        "empty_body",
    ]
    with Chaos([each for fault in faults for each in (fault, "")], upstream=("127.0.0.1", transformers_serve)) as chaos:
        engine = of(int(chaos.base.rsplit(":", 1)[1]), streamed=streamed, tokenizer="")
        for index in range(len(faults)):
            question = QUESTIONS[index % len(QUESTIONS)]
            (trace,) = engine.sample_all([ask(question)])[0]
            assert said(trace) == expected[question], chaos.seen[-1].fault
        assert len({seen.fault for seen in chaos.seen}) > 5


@pytest.mark.parametrize("streamed", [True, False])
def test_llama_cpps_server(llama_cpp_server: int, streamed: bool) -> None:
    engine = of(llama_cpp_server, model="tiny", streamed=streamed)
    for question in QUESTIONS:
        (trace,) = engine.sample_all([ask(question)])[0]
        thinking, answer = said(trace)
        assert thinking
        assert answer.startswith("The answer is")
    (trace,) = engine.sample_all([ask(QUESTIONS[0], max_thinking_tokens=15)])[0]
    assert trace.thinking_tokens <= 15
    assert trace.answer.strip()
    with Chaos(["cut_in_event", "", "http_503", ""], upstream=("127.0.0.1", llama_cpp_server)) as chaos:
        broken = of(int(chaos.base.rsplit(":", 1)[1]), model="tiny", streamed=streamed)
        for question in QUESTIONS[:2]:
            (through,) = broken.sample_all([ask(question)])[0]
            (direct,) = engine.sample_all([ask(question)])[0]
            assert (through.thinking, through.answer) == (direct.thinking, direct.answer)
