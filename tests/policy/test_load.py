"""Loading: what can be broken in a model folder is told in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from thinksmith import models
from thinksmith.errors import UserError
from thinksmith.policy.load import load_policy


@pytest.fixture(scope="module")
def source(checkpoints):
    return checkpoints["Qwen2"]


@pytest.fixture
def folder(source, tmp_path):
    """A copy that may be broken."""
    return shutil.copytree(source, tmp_path / "model")


def fails(name: str | Path, *words: str, **options: str) -> None:
    with pytest.raises(UserError) as caught:
        load_policy(str(name), **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    for word in words:
        assert word in message


def test_loads_in_evaluation_mode_in_fp32(source):
    policy = load_policy(str(source), device="cpu")
    assert not policy.model.training
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32}
    assert policy.eos_ids == {policy.tokenizer.eos_token_id}
    assert policy.context_length == 512
    assert load_policy(str(source), device="cpu", dtype="bfloat16").model.dtype == torch.bfloat16


def test_unknown_names(tmp_path):
    fails("tinny", "did you mean tiny?")
    fails("zzzzzzzz", "tiny-base", "folder", "hub id")
    fails(tmp_path / "nowhere", "folder")
    fails("owner/no-such-model", "owner/no-such-model", "hub cache")
    fails("../x/y", "folder")


def test_bad_options(source):
    fails(source, "dtype", "bfloat16", dtype="int3")
    fails(source, "device", "cpu", device="abacus")


@pytest.mark.parametrize(
    ("file", "word"),
    [("config.json", "config.json"), ("tokenizer.json", "tokenizer"), ("model.safetensors", "safetensors")],
)
def test_missing_files(folder, file, word):
    (folder / file).unlink()
    fails(folder, word)


def test_corrupt_shard(folder):
    whole = (folder / "model.safetensors").read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"\xff" * 100):
        (folder / "model.safetensors").write_bytes(broken)
        fails(folder, "model.safetensors", "corrupt")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_text_that_is_not_utf8(folder, file):
    (folder / file).write_bytes(b'{"a": "\xff\xfe"}')
    fails(folder, file, "UTF-8")


def test_malformed_json_and_unknown_architecture(folder):
    (folder / "config.json").write_text("{")
    fails(folder, "config.json")
    (folder / "config.json").write_text('{"model_type": "abacus"}')
    fails(folder, "abacus")


def test_weights_that_do_not_fit_the_config(folder):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    fails(folder)
    (folder / "config.json").write_text(text.replace('"hidden_size": 64', '"hidden_size": 40'))
    fails(folder)


def test_embedded_paths():
    assert models.path("tiny").name == "tiny"
    assert models.path("tiny").parent == Path(models.__file__).parent
    with pytest.raises(KeyError):
        models.path("../policy")
