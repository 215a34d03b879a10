"""The mixes of GGUF files, tensor by tensor, against llama.cpp: what it said once, and what it says if it is here."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf_cases import CASES, KEPT, RECORDED, case, line, ours, theirs
from gguf_files import write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thinksmith.fit.formats.ggml import BLOCKS
from thinksmith.fit.formats.gguf_mixes import MIXES, mix_bytes
from thinksmith.fit.shapes.configs import shape_of

NEEDS = "needs llama-cpp-python and gguf, of the bench extra; the recorded types are tested without"


def test_every_tensor_has_the_type_that_llama_cpp_recorded() -> None:
    recorded = RECORDED.read_text().splitlines()
    assert len(recorded) == len(KEPT) * len(MIXES)
    for name in KEPT:
        shape, _ = case(name)
        for mix in MIXES.values():
            assert line(name, mix, ours(shape, mix)) in recorded


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_has_the_type_that_llama_cpp_gives_it(name: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason=NEEDS)
    pytest.importorskip("gguf", reason=NEEDS)
    shape, config = case(name)
    write(tmp_path / "model.gguf", shape, config)
    for mix in MIXES.values():
        assert ours(shape, mix) == theirs(tmp_path / "model.gguf", shape, mix), mix.name


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(MIXES)),
    st.sampled_from(["llama", "qwen2", "mixtral"]),
    st.integers(1, 100),
    st.sampled_from([(1, 1), (4, 1), (4, 2), (8, 2), (6, 1)]),
    st.sampled_from([32, 96, 256, 320, 512]),
    st.sampled_from([32, 64, 256, 288]),
    st.booleans(),
)
def test_so_has_a_model_of_any_size(
    tmp_path: Path, mix: str, kind: str, layers: int, heads: tuple[int, int], hidden: int, inner: int, tied: bool
) -> None:
    pytest.importorskip("llama_cpp", reason=NEEDS)
    pytest.importorskip("gguf", reason=NEEDS)
    queries, keys = heads
    config = {**case(kind if kind != "qwen2" else "qwen2-tied")[1], "num_hidden_layers": layers, "hidden_size": hidden}
    config |= {"num_attention_heads": queries, "num_key_value_heads": keys, "head_dim": 32, "intermediate_size": inner}
    shape = shape_of(config | {"tie_word_embeddings": tied}, "any")
    write(tmp_path / "model.gguf", shape, config)
    assert ours(shape, MIXES[mix]) == theirs(tmp_path / "model.gguf", shape, MIXES[mix])


def test_blocks_are_as_large_as_the_gguf_package_says() -> None:
    gguf = pytest.importorskip("gguf", reason="needs gguf, of the bench extra")
    theirs = {kind.name: (kind.value, *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert {name: (block.id, block.numbers, block.bytes) for name, block in BLOCKS.items()} == theirs


def test_a_tensor_is_the_sum_of_its_rows() -> None:
    shape, _ = case("llama")
    down = next(tensor for tensor in shape.tensors if tensor.name == "down_proj")
    # 18 layers of 256 rows with 512 inputs: in Q4_K_M the first and last eighth and every third between are Q6_K.
    more = [0, 1, 4, 7, 10, 13, 15, 16, 17]
    assert mix_bytes(down, shape, MIXES["Q4_K_M"]) == 256 * 2 * (len(more) * 210 + (18 - len(more)) * 144)
