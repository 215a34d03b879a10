"""Headers of GGUF files: read as the gguf package reads them, and refused in one line when they lie."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from math import prod
from pathlib import Path
from typing import Any

import pytest
from gguf_cases import CASES, case
from gguf_files import tensors_of, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thinksmith.errors import UserError
from thinksmith.fit.formats.formats import FORMATS, PUBLISHED, find_format, weights_bytes
from thinksmith.fit.formats.gguf import FILE_TYPES, gguf_shape
from thinksmith.fit.formats.gguf_header import MOST_ELEMENTS, read_gguf
from thinksmith.fit.formats.gguf_mixes import MIXES

KINDS = {"I": 4, "i": 5, "f": 6, "?": 7, "Q": 10, "H": 2}
TEXT, ARRAY = 8, 9


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def said(key: str, kind: str, value: Any) -> bytes:
    if kind == "text":
        return text(key) + struct.pack("<I", TEXT) + text(value)
    if kind == "texts":
        body = b"".join(text(each) for each in value)
        return text(key) + struct.pack("<IIQ", ARRAY, TEXT, len(value)) + body
    if isinstance(value, list):
        body = struct.pack(f"<{len(value)}{kind}", *value)
        return text(key) + struct.pack("<IIQ", ARRAY, KINDS[kind], len(value)) + body
    return text(key) + struct.pack("<I" + kind, KINDS[kind], value)


def tensor(name: str, dims: list[int], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def file_of(
    keys: list[bytes], tensors: list[bytes], data: int = 0, *, version: int = 3, magic: bytes = b"GGUF"
) -> bytes:
    head = magic + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)


SMALL_KEYS = [
    said("general.architecture", "text", "llama"),
    said("general.file_type", "I", 15),
    said("llama.block_count", "I", 2),
    said("llama.context_length", "I", 4096),
    said("llama.embedding_length", "I", 256),
    said("llama.attention.head_count", "I", 4),
    said("llama.attention.head_count_kv", "I", [2, 1]),
    said("tokenizer.ggml.tokens", "texts", [f"<{number}>" for number in range(5000)]),
    said("tokenizer.chat_template", "text", "{{ messages }}" * 1000),
]
Q4_K = 144 * 256  # of 256×256 numbers
SMALL_TENSORS = [
    tensor("token_embd.weight", [256, 256], 12, 0),
    *(
        tensor(f"blk.{layer}.{name}.weight", [256, 256], 12, Q4_K * (1 + 2 * layer + index))
        for layer in range(2)
        for index, name in enumerate(("attn_k", "ffn_down"))
    ),
    tensor("output_norm.weight", [256], 0, Q4_K * 5),
]
SMALL = file_of(SMALL_KEYS, SMALL_TENSORS, Q4_K * 5 + 1024)


def put(folder: Path, content: bytes, name: str = "model.gguf") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_a_small_file(tmp_path: Path) -> None:
    header = read_gguf(put(tmp_path, SMALL))
    assert header.architecture == "llama"
    assert header.metadata["llama.attention.head_count_kv"] == (2, 1)
    assert header.lengths["tokenizer.ggml.tokens"] == 5000
    assert not {"tokenizer.ggml.tokens", "tokenizer.chat_template"} & set(header.metadata)
    shape = gguf_shape(tmp_path / "model.gguf")
    assert shape.stored == header.bytes == 5 * Q4_K + 1024 == weights_bytes(shape, PUBLISHED)
    assert (shape.vocab, shape.layers, shape.context, shape.tied) == (256, 2, 4096, True)
    assert shape.published == "q4_k_m"
    assert shape.inner == 256
    assert shape.cache_per_token == (2 + 1) * 64 * 2
    assert shape.params == 5 * 256 * 256 + 256


@pytest.mark.parametrize("name", CASES)
def test_the_gguf_package_reads_the_same(name: str, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="needs gguf, of the bench extra")
    shape, config = case(name)
    path = tmp_path / "model.gguf"
    write(path, shape, config)
    header = read_gguf(path)
    reader = gguf.GGUFReader(path)
    assert [(each.name, each.dims, each.type, each.bytes) for each in header.tensors] == [
        (each.name, tuple(each.shape.tolist()), each.tensor_type.name, int(each.n_bytes)) for each in reader.tensors
    ]
    for key, value in header.metadata.items():
        assert reader.fields[key].contents() == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize("name", CASES)
def test_a_shape_comes_back_from_its_file(name: str, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="needs gguf, of the bench extra")
    shape, config = case(name)
    write(tmp_path / "model.gguf", shape, config)
    back = gguf_shape(tmp_path / "model.gguf")
    for field in ("layers", "hidden", "inner", "heads", "kv_heads", "key_dim", "value_dim", "vocab", "tied", "context"):
        assert getattr(back, field) == getattr(shape, field), field
    assert (back.params, back.draft) == (shape.params, 0)
    assert back.active_params == shape.active_params
    for tokens in (1, 50, 100, 1000):
        assert back.cache_numbers(tokens) == shape.cache_numbers(tokens)
    assert back.stored == sum(prod(dims) * width(dims, each.part) for _, dims, each in tensors_of(shape))
    assert back.stored == weights_bytes(shape, FORMATS["f16"]) == weights_bytes(back, FORMATS["f16"])
    assert back.published == "f16"
    for mix in ("q4_k_m", "iq2_m", "mxfp4_moe"):
        assert weights_bytes(back, FORMATS[mix]) == weights_bytes(shape, FORMATS[mix])


def width(dims: tuple[int, ...], part: str) -> int:
    return 4 if len(dims) == 1 or part in ("router", "bias", "norm") else 2


def test_every_file_type_is_a_format() -> None:
    assert {find_format(name).mix for name in FILE_TYPES.values()} == set(MIXES)


def test_a_file_in_parts(tmp_path: Path) -> None:
    first = put(tmp_path, file_of(SMALL_KEYS, SMALL_TENSORS[:2], 3 * Q4_K), "m-00001-of-00002.gguf")
    with pytest.raises(UserError, match=r"m-00002-of-00002\.gguf is missing"):
        gguf_shape(first)
    rest = [tensor(f"blk.1.{name}.weight", [256, 256], 12, at) for name, at in (("attn_k", 0), ("ffn_down", Q4_K))]
    second = put(tmp_path, file_of([], rest, 2 * Q4_K), "m-00002-of-00002.gguf")
    shape = gguf_shape(second)
    assert shape == gguf_shape(first)
    assert shape.stored == 4 * Q4_K
    put(tmp_path, file_of([], SMALL_TENSORS[:1], Q4_K), "m-00002-of-00002.gguf")
    with pytest.raises(UserError, match="two tensors of one name"):
        gguf_shape(first)


def test_a_draft_layer_is_told_apart(tmp_path: Path) -> None:
    keys = [*SMALL_KEYS, said("llama.nextn_predict_layers", "I", 1)]
    shape = gguf_shape(put(tmp_path, file_of(keys, SMALL_TENSORS, Q4_K * 5 + 1024)))
    assert (shape.layers, shape.draft) == (1, 2 * 256 * 256)


def hostile() -> dict[str, tuple[bytes, str]]:
    arrays = struct.pack("<IQ", ARRAY, 1) * 50
    nested = text("a") + struct.pack("<I", ARRAY) + arrays + struct.pack("<IQ", 0, 0)
    many = text("a") + struct.pack("<IIQ", ARRAY, TEXT, MOST_ELEMENTS + 1)
    return {
        "nothing": (b"", "cut off"),
        "another format": (b"PK\3\4" + bytes(100), "does not begin with GGUF"),
        "version 1": (file_of([], [], version=1), "version 1"),
        "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big endian"),
        "2**60 keys": (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "keys"),
        "2**60 tensors": (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "tensors"),
        "a long key": (file_of([struct.pack("<Q", 2**60)], []), "long"),
        "a text past the end": (file_of([text("a") + struct.pack("<IQ", TEXT, 2**62)], []), "cut off"),
        "an array past the end": (file_of([text("a") + struct.pack("<IIQ", ARRAY, 10, 2**61)], []), "cut off"),
        "texts without end": (file_of([many], []), "more than"),
        "nested arrays": (file_of([nested], []), "nested"),
        "an unknown kind": (file_of([text("a") + struct.pack("<I", 77)], []), "unknown kind"),
        "a key twice": (file_of([said("a", "I", 1)] * 2, []), "twice"),
        "five dimensions": (file_of([], [tensor("a", [1] * 5, 0, 0)]), "5 dimensions"),
        "an unknown type": (file_of([], [tensor("a", [32], 99, 0)]), "unknown type"),
        "half a block": (file_of([], [tensor("a", [48], 2, 0)]), "cannot be Q4_0"),
        "an empty tensor": (file_of([], [tensor("a", [32, 0], 2, 0)]), "cannot be Q4_0"),
        "a tensor past the end": (file_of([], [tensor("a", [32, 2**60], 0, 0)]), "should have"),
        "one tensor over another": (file_of([], [tensor(n, [256], 0, 0) for n in "ab"], 1024), "overlap"),
        "an odd alignment": (file_of([said("general.alignment", "I", 0)], []), "alignment"),
        "no architecture": (file_of([], []), "block_count|embedding_length"),
        "a number for a name": (file_of([said("general.architecture", "I", 1)], []), "architecture"),
        "no tokens": (file_of(SMALL_KEYS, SMALL_TENSORS[1:], 5 * Q4_K + 1024), "table of tokens"),
        "a text for a number": (without("llama.block_count", said("llama.block_count", "text", "2")), "block_count"),
        "no number": (without("llama.block_count", said("llama.block_count", "f", float("nan"))), "block_count"),
        "too many layers": (without("llama.block_count", said("llama.block_count", "Q", 2**50)), "block_count"),
        "no heads": (without("llama.attention.head_count", said("llama.attention.head_count", "I", 0)), "attention"),
        "cut off": (SMALL[:-1], "should have"),
    }


def without(key: str, instead: bytes) -> bytes:
    keys = [each for each in SMALL_KEYS if not each.startswith(text(key))]
    assert len(keys) == len(SMALL_KEYS) - 1
    return file_of([*keys, instead], SMALL_TENSORS, Q4_K * 5 + 1024)


@pytest.mark.parametrize("name", hostile())
def test_a_file_that_lies_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    content, why = hostile()[name]
    path = put(tmp_path, content)
    tracemalloc.start()
    begun = time.perf_counter()
    with pytest.raises(UserError, match=why) as caught:
        gguf_shape(path)
    assert time.perf_counter() - begun < 5
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()
    assert len(str(caught.value).splitlines()) == 1


def test_no_file_at_all(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.gguf", tmp_path / "x-00001-of-00000.gguf"):
        with pytest.raises(UserError):
            gguf_shape(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.integers(1, 6), st.booleans())
def test_spoilt_files_never_crash(tmp_path: Path, seed: int, changes: int, cut: bool) -> None:
    dice = random.Random(seed)
    content = bytearray(file_of(SMALL_KEYS[:7], SMALL_TENSORS, Q4_K * 5 + 1024))
    head = len(content) - Q4_K * 5 - 1024
    for _ in range(changes):
        at = dice.randrange(head)
        content[at] = dice.choice([0, 1, 9, 255, dice.randrange(256)])
    path = put(tmp_path, bytes(content[: dice.randrange(len(content))] if cut else content))
    try:
        shape = gguf_shape(path)
    except UserError:
        return
    assert shape.params > 0
    assert shape.stored <= len(content)
