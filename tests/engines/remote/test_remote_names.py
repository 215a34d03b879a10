"""Names of endpoints, the configuration file, prices."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinksmith.engines import is_remote, open_engine
from thinksmith.engines.remote import prices
from thinksmith.engines.remote.names import endpoint
from thinksmith.engines.remote.presets import PRESETS
from thinksmith.engines.remote.settings import Settings, default_model, load
from thinksmith.errors import UserError

OWN = Settings.model_validate(
    {"endpoints": {"box": {"kind": "vllm", "url": "http://gpu:8000/v1", "history": "all", "key_variable": "BOX_KEY"}}}
)
KEYS = {"OPENAI_API_KEY": "sk-1", "DEEPSEEK_API_KEY": "sk-2", "BOX_KEY": "sk-3"}


@pytest.mark.parametrize(
    ("name", "kind", "model", "base"),
    [
        ("ollama/deepseek-r1:7b", "ollama", "deepseek-r1:7b", "http://127.0.0.1:11434"),
        ("vllm/Qwen/Qwen3-8B@http://box:8000", "vllm", "Qwen/Qwen3-8B", "http://box:8000"),
        ("vllm/Qwen/Qwen3-8B@localhost:8000/v1/", "vllm", "Qwen/Qwen3-8B", "http://localhost:8000"),
        ("vllm/org/model@revision", "vllm", "org/model@revision", "http://127.0.0.1:8000"),
        ("vllm/org/model@v1@gpu.example.com:443", "vllm", "org/model@v1", "https://gpu.example.com:443"),
        ("sglang/m@[::1]:30000", "sglang", "m", "http://[::1]:30000"),
        ("openrouter/deepseek/r1@https://openrouter.ai/api/v1", "openrouter", "deepseek/r1", "https://openrouter.ai"),
        ("endpoint/m@https://host.example/some/prefix/v1", "endpoint", "m", "https://host.example/some/prefix"),
        ("box/a/b:c", "box", "a/b:c", "http://gpu:8000"),
        ("openai/gpt-5?think=high", "openai", "gpt-5", "https://api.openai.com"),
    ],
)  # fmt: skip
def test_a_name_is_taken_apart_and_put_together(name: str, kind: str, model: str, base: str) -> None:
    environment = KEYS | {"OPENROUTER_API_KEY": "sk-4"}
    found = endpoint(name, environment, OWN)
    assert (found.kind, found.model, found.base) == (kind, model, base)
    again = endpoint(found.name, environment, OWN)
    assert again == found
    assert not any(key in repr(found) for key in environment.values())


def test_where_ollama_is() -> None:
    for told, base in (
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        (":8001", "http://127.0.0.1:8001"),
        ("box", "http://box:11434"),
        ("https://ollama.example.com", "https://ollama.example.com"),
    ):
        assert endpoint("ollama/m", {"OLLAMA_HOST": told}).base == base


def test_an_own_endpoint_has_its_settings() -> None:
    found = endpoint("box/m", KEYS, OWN)
    assert (found.preset, found.history, found.key) == (PRESETS["vllm"], "all", "sk-3")
    assert endpoint("vllm/m?history=tool_loop&think=off&stream=off", {}).history == "tool_loop"
    low = endpoint("ollama/gpt-oss?think=low", {})
    assert (low.think, low.effort, low.streamed) == (True, "low", True)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("olama/m", "did you mean 'ollama'"),
        ("ollama/", "names no model"),
        ("endpoint/m", "has no address"),
        ("vllm/m@http://user:secret@host:1", "does not belong into an address"),
        ("vllm/m@ftp://host", "no address"),
        ("vllm/m@http://host:99999", "no address"),
        ("vllm/m@http://host/v1?key=1", "not known"),
        ("vllm/m?thnk=on", "think=on"),
        ("openai/gpt-5", "set OPENAI_API_KEY"),
        ("vllm/" + "x" * 999, "no kind of endpoint"),
    ],
)
def test_a_name_that_cannot_be(name: str, why: str) -> None:
    with pytest.raises(UserError, match=why) as told:
        endpoint(name, {})
    assert "secret" not in str(told.value)


def test_a_key_goes_to_its_own_address_alone() -> None:
    with pytest.raises(UserError, match=r"OPENAI_API_KEY is for https://api.openai.com alone"):
        endpoint("openai/m@https://evil.example", KEYS)
    with pytest.raises(UserError, match="without encryption"):
        endpoint("deepseek/m@http://api.deepseek.com", KEYS)
    assert endpoint("openai/m@http://127.0.0.1:8000", KEYS).key == ""
    assert endpoint("openai/m@http://127.0.0.1:8000", KEYS).preset.dialect == "chat"
    with pytest.raises(UserError, match="no header can carry"):
        endpoint("openai/m", {"OPENAI_API_KEY": "sk\n1"})


def write(folder: Path, text: str) -> dict[str, str]:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return {"THINKSMITH_CONFIG": str(path)}


def test_the_default_model(tmp_path: Path) -> None:
    environment = write(tmp_path, 'model = "ollama/qwen3:8b"\n')
    assert default_model(environment) == "ollama/qwen3:8b"
    assert default_model(environment | {"THINKSMITH_MODEL": "tiny-base"}) == "tiny-base"
    assert default_model({}) == "tiny"
    with pytest.raises(UserError, match=r"THINKSMITH_CONFIG names .* no file"):
        default_model({"THINKSMITH_CONFIG": str(tmp_path / "none.toml")})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("modle = 1", "did you mean 'model'"),
        ('[endpoints.box]\nkind = "vlm"', "did you mean 'vllm'"),
        ('[endpoints.box]\nurl = "http://x"\nkey = "sk-123"', "unknown key 'endpoints.box.key'"),
        ('[endpoints.box]\nkey_variable = "sk-abc"', "not the name of a variable"),
        ('[endpoints.ollama]\nurl = "http://x"', "is taken"),
        ("model =", "not valid TOML"),
    ],
)
def test_a_file_that_says_what_cannot_be(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(UserError, match=why) as told:
        load(write(tmp_path, text))
    assert "\n" not in str(told.value)
    assert "sk-" not in str(told.value)  # a key that stands in the file is not told


def test_prices_go_by_the_longest_beginning(tmp_path: Path) -> None:
    found = endpoint("openai/gpt-5-2025-08-07", KEYS)
    shipped = prices.load()
    assert shipped.cost(found, 1_000_000, 0, 0) == 1.25
    assert shipped.cost(found, 1_000_000, 400_000, 100_000) == pytest.approx(0.6 * 1.25 + 0.4 * 0.125 + 1.0)
    assert shipped.of("openai/gpt-5-nano") != shipped.of("openai/gpt-5")
    assert shipped.of("openai/gpt-50") is None
    assert shipped.cost(endpoint("box/m", KEYS, OWN), 10, 0, 10) is None
    assert shipped.cost(endpoint("ollama/m", {}), 10, 0, 10) == 0.0
    own = tmp_path / "prices.toml"
    own.write_text('["openai/gpt-5"]\nprompt = 1\noutput = 2\n["box/"]\nprompt = 3\ncached = 1\noutput = 4\n')
    mine = prices.load(str(own))
    assert mine.cost(found, 1_000_000, 0, 1_000_000) == 3
    assert mine.cost(endpoint("box/m", KEYS, OWN), 1_000_000, 1_000_000, 0) == 1
    own.write_text('["x"]\nprompt = "much"\n')
    with pytest.raises(UserError, match="needs prompt, cached and output"):
        prices.load(str(own))


def test_what_a_name_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_remote("ollama/m")
    assert not is_remote("tiny")
    assert not is_remote("Qwen/Qwen3-0.6B")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ollama" / "m").mkdir(parents=True)
    assert not is_remote("ollama/m")  # a folder goes first
    with pytest.raises(UserError, match="dtype: only for models in this process"):
        open_engine("vllm/m", dtype="bfloat16")
