"""Names of models: what is built in against what was published, and what lies here or on the hub."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub import errors
from safetensors.torch import save_file

from thinksmith import models
from thinksmith.errors import UserError
from thinksmith.fit.shapes.catalogue import catalogue, find_shape
from thinksmith.fit.shapes.configs import shape_of
from thinksmith.fit.shapes.stored import stored_bytes

# Bytes of keys and values of a token in 16 bits, and parameters: known figures, told in the sources of the catalogue
# or computed from the papers by hand.
KNOWN = {
    "DeepSeek-R1-Distill-Qwen-1.5B": (1_777_088_000, 28_672),
    "DeepSeek-R1-Distill-Qwen-7B": (7_615_616_512, 57_344),
    "DeepSeek-R1-Distill-Llama-8B": (8_030_261_248, 131_072),
    "DeepSeek-R1-Distill-Qwen-14B": (14_770_033_664, 196_608),
    "DeepSeek-R1-Distill-Qwen-32B": (32_763_876_352, 262_144),
    "QwQ-32B": (32_763_876_352, 262_144),
    "DeepSeek-R1-Distill-Llama-70B": (70_553_706_496, 327_680),
    "DeepSeek-R1": (671_026_419_200, 70_272),
}
ON_META = (
    "openai/gpt-oss-120b",
    "deepseek-ai/DeepSeek-R1",
    "Qwen/Qwen3-235B-A22B",
    "meta-llama/Llama-3.1-405B-Instruct",
)
ON_META += ("Qwen/Qwen3-Next-80B-A3B-Thinking", "allenai/Olmo-3-32B-Think", "google/gemma-3-1b-it", "microsoft/phi-4")


@pytest.mark.parametrize("name", KNOWN)
def test_known_figures_come_out(name: str) -> None:
    shape = find_shape(name)
    assert (shape.params, 2 * shape.cache_per_token) == KNOWN[name]


@pytest.mark.parametrize("name", catalogue())
def test_parameters_are_those_that_were_published(name: str) -> None:
    entry = catalogue()[name]
    assert entry.shape.params == entry.params > 0
    assert entry.shape.source == entry.source
    assert entry.source.startswith("https://")


@pytest.mark.parametrize("name", ON_META)
def test_large_models_are_those_of_transformers(name: str) -> None:
    config = dict(catalogue()[name].config)
    config.pop("quantization_config", None)
    with torch.device("meta"):
        made = transformers.AutoConfig.for_model(config.pop("model_type"), **config, pad_token_id=None)
        model = transformers.AutoModelForCausalLM.from_config(made)
    corrections = sum(b.numel() for n, b in model.named_buffers() if "correction" in n)
    assert find_shape(name).params == corrections + sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "active"),
    [
        ("gpt-oss:20b", 3.61e9),  # Table 1 of arXiv:2508.10925; like ours without the table of embeddings
        ("gpt-oss:120b", 5.13e9),
        ("Mixtral-8x7B-Instruct-v0.1", 12.75e9),  # 12.9B of arXiv:2401.04088, which count the embeddings, 0.13B
        ("r1", 36.6e9),  # 37B of arXiv:2412.19437, which count them too, 0.93B
    ],
)
def test_what_a_token_uses_of_a_mixture(name: str, active: float) -> None:
    assert find_shape(name).active_params == pytest.approx(active, rel=0.002)


def test_windows_and_formats_of_the_catalogue() -> None:
    small = find_shape("gpt-oss:20b")
    assert sorted((cache.layers, cache.window or 0) for cache in small.caches) == [(12, 0), (12, 128)]
    assert (small.published, find_shape("r1").published, find_shape("qwq").published) == ("mxfp4", "fp8", "bf16")
    assert [cache.window for cache in find_shape("mistral").caches] == [None]
    assert find_shape("Qwen3-4B-Thinking-2507").context == 262_144


def test_names_lead_to_one_model() -> None:
    names = [name for entry in catalogue().values() for name in (entry.id, *entry.names)]
    assert len({name.casefold() for name in names}) == len(names)
    for entry in catalogue().values():
        for name in (entry.id, *entry.names, entry.id.rpartition("/")[2]):
            assert find_shape(name).name == find_shape(name.upper()).name == entry.id


@pytest.mark.parametrize("name", models.EMBEDDED)
def test_embedded_models_with_what_they_weigh(name: str) -> None:
    shape = find_shape(name)
    model = transformers.AutoModelForCausalLM.from_pretrained(models.path(name), dtype=torch.bfloat16)
    assert shape.params == sum(parameter.numel() for parameter in model.parameters())
    assert shape.stored == 2 * shape.params
    assert (shape.name, shape.tied, shape.published) == (name, True, "bf16")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model without weights."""
    made = tmp_path / "mine"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(dict(catalogue()["Qwen/Qwen3-0.6B"].config)))
    return made


def test_folders_and_files_are_read(folder: Path) -> None:
    for name in (str(folder), str(folder / "config.json"), f"{folder}/"):
        shape = find_shape(name)
        assert (shape.params, shape.name, shape.stored) == (596_049_920, "mine", 0)
        assert shape.source == str(folder / "config.json")


def test_a_folder_comes_before_the_catalogue(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    (folder.parent / "qwq").mkdir()
    assert find_shape("qwq").params == 32_763_876_352  # a folder without a model is none
    folder.rename(folder.parent / "mistral")
    assert find_shape("mistral").params == 596_049_920


def test_weights_of_a_folder_are_counted(folder: Path) -> None:
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(7, dtype=torch.int8)}, folder / "model-1.safetensors")
    save_file({"c": torch.zeros(11, dtype=torch.bfloat16)}, folder / "model-2.safetensors", {"format": "pt"})
    save_file({"a": torch.zeros(100)}, folder / "consolidated.safetensors")
    assert find_shape(str(folder)).stored == 60 + 7 + 22 + 400
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "c": "model-2.safetensors"}}))
    assert find_shape(str(folder)).stored == 60 + 7 + 22
    (folder / "model-2.safetensors").unlink()
    assert find_shape(str(folder)).stored == 0  # not all of it is here


def broken_header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 0) + b"{}",
        broken_header(b"[" * 200_000),
        broken_header(b"[]"),
        broken_header(b'{"a": {"data_offsets": "x"}}'),
        broken_header(b'{"a": {"data_offsets": [0]}}'),
        broken_header(b'{"a": {"data_offsets": [0, 8]}}') + b"1234",
        broken_header(b'{"a": {"data_offsets": [0, null]}}'),
        broken_header(b'{"a": {"data_offsets": [0, 1e9]}}'),
    ],
)
def test_broken_weights_are_told_in_a_line(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="copy it again"):
        find_shape(str(folder))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"weight_map": 3}', '{"weight_map": [1]}', "[" * 200_000])
def test_a_broken_index_is_told_in_a_line(folder: Path, content: str) -> None:
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError, match="copy it again"):
        stored_bytes(folder)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"3", b"{", b"\xff\xfe", b"[" * 200_000, b'{"hidden_size": ' + b"9" * 5000]
)
def test_a_broken_config_is_told_in_a_line(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(UserError, match="copy it again"):
        find_shape(str(folder))


def test_a_config_of_a_gigabyte_is_not_read(folder: Path) -> None:
    with (folder / "config.json").open("r+b") as file:
        file.truncate(1 << 30)
    with pytest.raises(UserError, match="it is no config"):
        find_shape(str(folder))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "a model needs a name"),
        (" ", "a model needs a name"),
        ("a\0b", "a model needs a name"),
        ("x" * 10**5, "a model needs a name"),
        ("x" * 300, "neither in the catalogue nor a folder"),
        ("qwen3:9b", "did you mean Qwen/Qwen3-8B"),
        ("DeepSeek-R1-Distill-Qwen-13B", "did you mean deepseek-ai/DeepSeek-R1-Distill-Qwen-"),
        ("a/b/c", "use a built-in model, a folder, or a hub id"),
        ("./qwq", "neither in the catalogue nor a folder"),
        ("~nobody-of-this-name/x", "neither in the catalogue nor a folder"),
    ],
)
def test_unknown_names_are_told_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        find_shape(name)
    assert "\n" not in str(error.value)


def test_a_gguf_file_is_read_as_one(tmp_path: Path) -> None:
    (tmp_path / "some.GGUF").write_bytes(b"no such thing")
    with pytest.raises(UserError, match=r"some.GGUF") as error:
        find_shape(str(tmp_path / "some.GGUF"))
    assert "\n" not in str(error.value)


def test_folders_that_hold_something_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no config"):
        find_shape(str(tmp_path))
    (tmp_path / "note.txt").write_text("x")
    with pytest.raises(UserError, match="is no model: name a folder"):
        find_shape(str(tmp_path / "note.txt"))
    (tmp_path / "some.gguf").write_text("x")
    with pytest.raises(UserError, match=r"holds no config.json, but some.gguf: name that file"):
        find_shape(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="holds an adapter and no model"):
        find_shape(str(tmp_path))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """A hub that answers the download with this; nothing is in its cache."""

    def answer(what: Any) -> None:
        def download(name: str, file: str, local_files_only: bool = False) -> str:
            assert file == "config.json"
            if local_files_only:
                raise errors.LocalEntryNotFoundError("not here")
            if isinstance(what, Exception):
                raise what
            (tmp_path / file).write_text(json.dumps(what))
            return str(tmp_path / file)

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr(httpx, "head", lambda *args, **kwargs: None)
    return answer


def test_of_the_hub_only_the_config_is_asked_for(hub: Callable[[Any], None]) -> None:
    config = dict(catalogue()["Qwen/Qwen3-0.6B"].config)
    hub(config)
    shape = find_shape("someone/some-model")
    assert shape == shape_of(
        config, "someone/some-model", "https://huggingface.co/someone/some-model/blob/main/config.json"
    )


ANSWER = httpx.Response(404, request=httpx.Request("GET", "https://example.org"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.RepositoryNotFoundError("no", response=ANSWER), "no such public repository; did you mean Qwen/QwQ-32B"),
        (errors.GatedRepoError("no", response=ANSWER), "hf auth login"),
        (errors.RemoteEntryNotFoundError("no", response=ANSWER), "it holds no config.json"),
        (errors.LocalEntryNotFoundError("no"), "could not be reached"),
        (errors.HFValidationError("no"), "no name of a repository"),
        (errors.HfHubHTTPError("500 from there", response=ANSWER), "500 from there"),
        (OSError("disk is full"), "disk is full"),
    ],
)
def test_what_the_hub_says_is_told_in_a_line(hub: Callable[[Any], None], error: Exception, message: str) -> None:
    hub(error)
    with pytest.raises(UserError, match=message) as told:
        find_shape("qwen/QwQ-33B")
    assert "\n" not in str(told.value)


def test_without_a_network_nothing_is_waited_for(hub: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    hub({})
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    with pytest.raises(UserError, match="downloads are switched off; did you mean Qwen/QwQ-32B"):
        find_shape("qwen/QwQ-33B")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE")

    def refuse(*args: object, **kwargs: object) -> None:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(httpx, "head", refuse)
    with pytest.raises(UserError, match="cannot be reached"):
        find_shape("qwen/QwQ-33B")
