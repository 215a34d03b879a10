"""What every test may use: small random models in true architectures, and a store that is not the user's.

Random weights are enough wherever a law is tested (padding, caching, replay, gradients). They are drawn wider than
for training, so that the next token is not a coin toss between all of them and an error moves the result.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

# Before anything imports these libraries: no test goes to the network, and parallel workers share the cores.
os.environ["HF_HUB_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

# A shell that starts the tests in the background has them ignore Ctrl-C, and they would hand that down.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARCHITECTURES = ("Qwen2", "Qwen3", "Llama")


@pytest.fixture(scope="session", autouse=True)
def _not_the_users_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever a test forgets to name lands in a temporary folder: the store, and all of the user's folders."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("THINKSMITH_STORE", str(home / "store.db"))
        for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of an empty store of this test alone; THINKSMITH_STORE names it, also for programs that are started."""
    path = tmp_path / "store.db"
    monkeypatch.setenv("THINKSMITH_STORE", str(path))
    return path


@pytest.fixture(scope="session")
def rows() -> Callable[[str], list[dict[str, Any]]]:
    """Reads a file of the real data sets by its name, such as `gsm8k/test.jsonl`; skips where they are not."""
    data = Path(os.environ.get("THINKSMITH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")

    def read(name: str) -> list[dict[str, Any]]:
        if not (data / name).exists():
            pytest.skip(f"{data / name} is not here; set THINKSMITH_DATA to the folder with the data sets")
        with (data / name).open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    return read


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A tokenizer made as the embedded models' is, from fewer texts."""
    from thinksmith.recipes.tiny.tokenizer import corpus, train_tokenizer

    return train_tokenizer(corpus(seed=7, problems=200), 1024)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> dict[str, Path]:
    """Hugging Face folders by architecture: Qwen2, Qwen3 and Llama, 2 layers, grouped queries, float32."""
    return {name: _checkpoint(tmp_path_factory.mktemp(name.lower()), name, tokenizer) for name in ARCHITECTURES}


@pytest.fixture(scope="session", params=ARCHITECTURES)
def checkpoint(request: pytest.FixtureRequest, checkpoints: dict[str, Path]) -> Path:
    """Each of `checkpoints` in turn."""
    return checkpoints[request.param]


def _checkpoint(folder: Path, architecture: str, tokenizer: Any) -> Path:
    import torch
    import transformers

    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        initializer_range=0.3,
        tie_word_embeddings=architecture != "Llama",
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(ARCHITECTURES.index(architecture))
        model = getattr(transformers, f"{architecture}ForCausalLM")(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def program() -> Path:
    """The installed `thinksmith`, for tests that start it as a user does."""
    path = Path(sys.executable).parent / "thinksmith"
    assert path.exists(), "thinksmith is not installed beside this Python: pip install -e ."
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for the tests of pages; they are skipped where it is not installed."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()
