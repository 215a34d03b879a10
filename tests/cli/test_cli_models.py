"""`thinksmith models`, and commands that ask an endpoint."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from thinksmith.cli.main import run
from thinksmith.health.models import models_here
from thinksmith.store.store import Store

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))
from _chaos import Chaos, text_of


def test_what_is_embedded_cached_and_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = tmp_path / "hub/models--me--mine/snapshots/0123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"]}')
    (snapshot / "model.safetensors").write_bytes(b"x" * 1000)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    with Chaos() as chaos:
        monkeypatch.setenv("OLLAMA_HOST", chaos.base)
        names = {each.name: each.where for each in models_here({"OLLAMA_HOST": chaos.base})}
        assert names["tiny"] == "embedded"
        assert names["me/mine"] == "cache"
        assert names[f"endpoint/m@{chaos.base}"] == "endpoint"
        assert run(["models", "--json"]) == 0
        listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert {each["name"] for each in listed} >= set(names)
        assert [each["name"] for each in listed if each["default"]] == ["tiny"]
        chaos.seen.clear()
        assert run(["models", "--no-endpoints"]) == 0
        assert "default: tiny" in capsys.readouterr().out
        assert chaos.seen == []


def test_ask_streams_an_endpoint_and_keeps_the_attempt(own_store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    thinking, answer = text_of("Why?")
    with Chaos(["cut_in_event", ""]) as chaos:
        assert run(["ask", "Why?", "--model", f"endpoint/m@{chaos.base}"]) == 0
    shown = capfd.readouterr()
    assert answer.strip() in shown.out
    assert thinking.split()[0] in shown.out
    assert "the connection broke: the model begins again" in shown.err
    with Store.open() as store:
        (kept,) = store.attempts("last")
    assert (kept.attempt.trace.thinking, kept.attempt.trace.answer) == (thinking, answer)
    assert kept.attempt.trace.usage is not None
    assert kept.attempt.trace.usage.calls == 2


def test_an_evaluation_of_an_endpoint(own_store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Chaos(["", "http_500", "", "cut_in_character", "", "html_200"], style="tags") as chaos:
        assert run(["eval", "arithmetic", "-n", "20", "--samples", "2", "--model", f"vllm/m@{chaos.base}"]) == 0
    with Store.open() as store:
        found = list(store.attempts("last"))
    assert len(found) == 40
    for each in found:
        assert (each.attempt.trace.thinking, each.attempt.trace.answer) == text_of(each.attempt.problem.text)


def test_mistakes_are_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    for arguments, why in (
        (["ask", "?", "--model", "ollama/m@http://127.0.0.1:9"], "nothing answers at http://127.0.0.1:9"),
        (["ask", "?", "--model", "openai/gpt-5"], "set OPENAI_API_KEY to it"),
        (["eval", "arithmetic", "-n", "2", "--model", "replay/nowhere.jsonl"], "nowhere.jsonl"),
    ):
        assert run(arguments) == 2
        lines = capfd.readouterr().err.strip().splitlines()
        assert why in lines[-1], lines
