"""Bytes of weights and caches, against what others made and published, and laws that hold for every format."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gguf_cases import CASES, case
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.errors import UserError
from thinksmith.fit.formats.formats import (
    FORMATS,
    KV_FORMATS,
    PUBLISHED,
    bits_per_weight,
    cache_bytes,
    find_format,
    find_kv_format,
    packed_bytes,
    read_bytes,
    tensor_bytes,
    weights_bytes,
)
from thinksmith.fit.shapes.catalogue import find_shape
from thinksmith.fit.shapes.configs import shape_of
from thinksmith.fit.shapes.shape import Cache, Shape, Tensor

# bits/weight of Llama-3.1-8B in tools/quantize/README.md of https://github.com/ggml-org/llama.cpp; IQ4_XS and IQ4_NL
# stand there as they are without an importance matrix, and are published with one.
LLAMA_8B = {
    **{"iq1_s": 2.0042, "iq1_m": 2.1460, "iq2_xxs": 2.3824, "iq2_xs": 2.5882, "iq2_s": 2.7403, "iq2_m": 2.9294},
    **{"iq3_xxs": 3.2548, "iq3_xs": 3.4977, "iq3_s": 3.6606, "iq3_m": 3.7628, "q2_k_s": 2.9697, "q2_k": 3.1593},
    **{"q3_k_s": 3.6429, "q3_k_l": 4.2979, "q4_k_s": 4.6672, "q4_k_m": 4.8944, "q5_k_s": 5.5704, "q5_k_m": 5.7036},
    **{"q6_k": 6.5633, "q8_0": 8.5008, "f16": 16.0005},
}
# Sizes of published files in GB, as told where they lie.
R1 = "deepseek-ai/DeepSeek-R1"
FILES = [
    ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "q4_k_m", 4.92),  # hf.co/bartowski/DeepSeek-R1-Distill-Llama-8B-GGUF
    ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "q8_0", 8.54),
    ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "iq4_xs", 4.45),
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "q4_k_m", 19.85),  # hf.co/bartowski/DeepSeek-R1-Distill-Qwen-32B-GGUF
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "q8_0", 34.82),
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "q4_k_m", 4.683075271),  # Ollama's deepseek-r1:7b, by its /api/tags
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", "q4_k_m", 8.988112040),  # deepseek-r1:14b
    (R1, "q4_k_m", 404.0),  # ollama.com/library/deepseek-r1:671b
    (R1, "q8_0", 713.0),  # hf.co/unsloth/DeepSeek-R1-GGUF
    ("openai/gpt-oss-20b", "published", 13.780162412),  # Ollama's gpt-oss:20b
    ("openai/gpt-oss-20b", "published", 12.8 * 1.0737),  # 12.8 GiB: arXiv:2508.10925, table 1
    ("openai/gpt-oss-120b", "published", 60.8 * 1.0737),  # 60.8 GiB, in the same table
]


def test_bits_per_weight_are_those_that_llama_cpp_tells() -> None:
    shape = find_shape("deepseek-ai/DeepSeek-R1-Distill-Llama-8B")
    assert {name: round(bits_per_weight(shape, FORMATS[name]), 4) for name in LLAMA_8B} == LLAMA_8B


@pytest.mark.parametrize(("name", "form", "gigabytes"), FILES)
def test_files_are_as_large_as_was_published(name: str, form: str, gigabytes: float) -> None:
    # a file has a tokenizer besides, of 6 to 11 MB, and its size is told in three digits
    assert weights_bytes(find_shape(name), find_format(form)) / 1e9 == pytest.approx(gigabytes, rel=0.0025)


def test_r1_is_as_large_as_its_files() -> None:
    shape = find_shape(R1)
    # 688,586,727,753 bytes of DeepSeek-V3 and R1 on the hub, with the layer for multi-token prediction, which has an
    # embedding and a head of its own there.
    draft = shape.draft + 2 * 2 * shape.vocab * shape.hidden
    assert weights_bytes(shape, PUBLISHED) + draft == pytest.approx(688_586_727_753, rel=2.5e-4)


@pytest.mark.parametrize(("kind", "form"), [("int8", "int8"), ("int4", "int4_cpu")])
def test_torchao_takes_as_many_bytes(kind: str, form: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    from thinksmith.policy.quantize import quantize_weights

    config = {**case("llama")[1], "num_hidden_layers": 2, "intermediate_size": 352}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.bfloat16)
    quantize_weights(model, "small", kind)
    taken = sum(_bytes(weight) for weight in model.parameters())
    assert taken == weights_bytes(shape_of(config, "small"), find_format(kind, "local", "cpu"))
    assert find_format(kind, "local", "cpu").name == form


def _bytes(tensor: torch.Tensor) -> int:
    if not hasattr(tensor, "__tensor_flatten__"):
        return tensor.nbytes
    return sum(_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])


# Sums of what bitsandbytes 0.50.2 made of random matrices by quantize_4bit(compress_statistics=True, quant_type="nf4"):
# the packed numbers, their scales, the scales' scales and mean, and both tables.
@pytest.mark.parametrize(("size", "taken"), [((96, 256), 13_772), ((1000, 666), 344_663), ((4096, 1024), 2_164_804)])
def test_bitsandbytes_takes_as_many_bytes(size: tuple[int, int], taken: int) -> None:
    packing = find_format("nf4").packing
    assert packing is not None
    assert packed_bytes(packing, *size) == taken


@pytest.mark.parametrize(
    ("form", "taken"),
    [
        ("fp8", 300 * 640 + 3 * 5 * 4),  # 128×128 blocks, the last ones smaller
        ("fp8_tensor", 300 * 640 + 4),
        ("int8", 300 * 640 + 300 * 5),
        ("w8a8", 300 * 640 + 300 * 4),
        ("int4", 300 * 320 + 300 * 5 * 5 // 2),  # a 16-bit scale and a 4-bit zero for 128
        ("gptq", 300 * 320 + 300 * 5 * 5 // 2 + 640 * 4),
        ("int4_32", 304 * 512 + 304 * 32 * 4),  # filled up to 304 outputs and 1024 inputs
        ("int4_cpu", 300 * 640 + 300 * 20 * 3),
        ("mxfp4", 300 * 320 + 300 * 20),
        ("nvfp4", 300 * 320 + 300 * 40 + 4),
        ("bf16", 300 * 640 * 2),
        ("fp32", 300 * 640 * 4),
    ],
)
def test_a_matrix_by_hand(form: str, taken: int) -> None:
    matrix = Tensor("up_proj", "mlp", (300, 640), (0, 1), 3, 2)
    shape = replace(case("llama")[0], tensors=(matrix,))
    assert tensor_bytes(matrix, shape, FORMATS[form]) == 6 * taken


def test_what_is_packed_and_what_is_not() -> None:
    shape, _ = case("qwen2-moe")
    packed = {t.part for t in shape.tensors if tensor_bytes(t, shape, FORMATS["int4"]) < 2 * t.params}
    assert packed == {"attention", "mlp", "expert"}
    experts = {t.part for t in shape.tensors if tensor_bytes(t, shape, FORMATS["mxfp4"]) < 2 * t.params}
    assert experts == {"expert"}
    dense, _ = case("llama")
    assert weights_bytes(dense, FORMATS["mxfp4"]) < 0.5 * weights_bytes(dense, FORMATS["bf16"])


SHAPES = {name: case(name)[0] for name in CASES if name != "llama-80-layers"}
shapes = st.sampled_from(list(SHAPES.values()))
forms = st.sampled_from(list(FORMATS.values()))


@given(shapes, forms)
def test_the_whole_is_its_parts_and_not_below_its_bits(shape: Shape, form) -> None:
    parts = {tensor.part: 0 for tensor in shape.tensors}
    for tensor in shape.tensors:
        parts[tensor.part] += tensor_bytes(tensor, shape, form)
    assert weights_bytes(shape, form) == sum(parts.values())
    assert bits_per_weight(shape, form) >= (1.5 if form.mix else min(form.bits, 16))
    if form.packing is None or form.packing.pad == (1, 1):
        assert bits_per_weight(shape, form) <= 33


@given(st.integers(1, 40), st.integers(1, 3000), st.integers(0, 3000), forms)
def test_more_inputs_never_take_less(outputs: int, inputs: int, more: int, form) -> None:
    if form.mix:  # rows that are no whole blocks have wider types: compare whole blocks
        inputs, more = inputs * 256, more * 256
    shape = SHAPES["llama"]
    sizes = []
    for width in (inputs, inputs + more):
        tensor = Tensor("up_proj", "mlp", (outputs, width), (0,))
        sizes.append(tensor_bytes(tensor, replace(shape, tensors=(tensor,)), form))
    assert sizes[0] <= sizes[1]


@given(shapes, forms, st.integers(1, 5000), st.integers(0, 5000))
def test_reading_grows_with_the_rows_up_to_everything(shape: Shape, form, rows: int, more: int) -> None:
    one, other = read_bytes(shape, form, rows), read_bytes(shape, form, rows + more)
    assert 0 < one <= other <= weights_bytes(shape, form) * (1 + 1e-9)
    assert read_bytes(shape, form, 10**9) == pytest.approx(weights_bytes(shape, form))


def test_one_token_reads_what_it_is_multiplied_by() -> None:
    shape, bf16 = SHAPES["qwen2-moe"], FORMATS["bf16"]
    row = 2 * shape.hidden
    biases = sum(t.params - t.active_params for t in shape.tensors if t.part == "bias")
    assert read_bytes(shape, bf16, 1) == pytest.approx(2 * (shape.active_params + biases) + row)
    assert read_bytes(SHAPES["qwen2-tied"], bf16, 1) == weights_bytes(SHAPES["qwen2-tied"], bf16)
    assert read_bytes(shape, bf16, 0) == 0


def test_different_experts_are_counted_as_drawn_at_random() -> None:
    generator = torch.Generator().manual_seed(1)
    expert = Tensor("up_proj", "expert", (8, 8), (0,), copies=16, active=4)
    shape = replace(SHAPES["llama"], tensors=(expert,))
    drawn = [
        len({e for _ in range(5) for e in torch.randperm(16, generator=generator)[:4].tolist()}) for _ in range(4000)
    ]
    assert read_bytes(shape, FORMATS["bf16"], 5) == pytest.approx(128 * sum(drawn) / len(drawn), rel=0.01)


def test_as_published() -> None:
    shape = replace(SHAPES["llama"], published="fp8")
    assert weights_bytes(shape, PUBLISHED) == weights_bytes(shape, FORMATS["fp8"])
    stored = replace(shape, stored=2 * weights_bytes(shape, FORMATS["fp8"]))
    assert weights_bytes(stored, PUBLISHED) == stored.stored
    assert read_bytes(stored, PUBLISHED, 3) == pytest.approx(2 * read_bytes(shape, PUBLISHED, 3))
    assert find_format("Published") is PUBLISHED


def test_names_in_any_spelling() -> None:
    for said, name in {
        **{"Q4_K_M": "q4_k_m", "q4-k-m": "q4_k_m", "IQ4_XS": "iq4_xs", "BF16": "bf16", "float16": "fp16"},
        **{"AWQ": "int4", "4bit": "int4", "8bit": "int8", "MXFP4_MOE": "mxfp4_moe", " fp8 ": "fp8", "bnb-4bit": "nf4"},
    }.items():
        assert find_format(said).name == name
    assert find_format("int4", "local", "cuda").name == "int4_32"
    assert find_format("bf16", "ollama").name == "bf16_gguf"
    words = [word.casefold() for form in FORMATS.values() for word in (form.name, *form.aliases)]
    assert len(words) == len(set(words))
    assert [form.rank for form in FORMATS.values()] == list(range(len(FORMATS)))


@given(st.text(max_size=60))
def test_other_names_are_one_line(name: str) -> None:
    for find in (find_format, find_kv_format):
        said = ""
        try:
            find(name)
        except UserError as error:
            said = str(error)
        assert len(said.splitlines()) <= 1


def test_the_nearest_name_is_told() -> None:
    with pytest.raises(UserError, match="q4_k_m"):
        find_format("q4_km")
    with pytest.raises(UserError, match="q8_0"):
        find_kv_format("q8")


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(list(KV_FORMATS.values())))
def test_caches_grow_with_tokens_and_bits(tokens: int, more: int, kv) -> None:
    shape = replace(SHAPES["llama"], caches=(Cache(3, 128), Cache(2, 96, window=512), Cache(1, 0, fixed=1000)))
    assert cache_bytes(shape, tokens, kv) <= cache_bytes(shape, tokens + more, kv)
    growing = 3 * 128 * tokens + 2 * 96 * min(tokens, 512)
    assert cache_bytes(shape, tokens, kv) == growing * kv.bytes // kv.numbers + 1000 * kv.state


def test_a_block_that_is_begun_is_there() -> None:
    shape = replace(SHAPES["llama"], caches=(Cache(1, 40),))
    assert [cache_bytes(shape, tokens, "q8_0") for tokens in (0, 1, 2)] == [0, 2 * 34, 3 * 34]


def test_caches_of_known_models() -> None:
    for name, each in {
        "DeepSeek-R1-Distill-Llama-8B": 131_072,
        "DeepSeek-R1-Distill-Qwen-1.5B": 28_672,
        "DeepSeek-R1": 70_272,
    }.items():
        shape = find_shape(f"deepseek-ai/{name}")
        assert cache_bytes(shape, 1000, "bf16") == 1000 * each
        assert cache_bytes(shape, 1000, "Q8_0") == 1000 * each * 34 // 64
