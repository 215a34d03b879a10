"""Small models whose mixes are compared with llama.cpp's, and what it said of them (gguf_types.txt).

`python tests/fit/gguf_cases.py` writes that file anew, with the llama-cpp-python of the `bench` extra (0.3.36): each
model's header is written over a hole, `llama-quantize --dry-run` is asked for the type of every tensor, and the numbers
in each type are counted, those of tensors with more than one type.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from gguf_files import llama_types, tensors_of, write

from thinksmith.fit.formats.gguf_mixes import MIXES, Mix, mix_types
from thinksmith.fit.shapes.configs import shape_of
from thinksmith.fit.shapes.shape import Shape

RECORDED = Path(__file__).with_name("gguf_types.txt")
BASE: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 18,
    "vocab_size": 512,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "head_dim": 64,
    "rms_norm_eps": 1e-6,
}
MOE = {"num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 256, "mlp_only_layers": []}
LATENT = {
    "q_lora_rank": 256,
    "kv_lora_rank": 256,
    "qk_nope_head_dim": 128,  # no multiple of 256: attn_k_b gets another type
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "n_shared_experts": 1,
    "moe_intermediate_size": 256,
    "first_k_dense_replace": 3,
}
CASES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "num_key_value_heads": 1},
    "llama-own-keys": {"model_type": "llama", "num_key_value_heads": 4, "num_hidden_layers": 9},
    "llama-80-layers": {"model_type": "llama", "num_hidden_layers": 80},
    "qwen2-tied": {"model_type": "qwen2", "tie_word_embeddings": True, "intermediate_size": 288},
    "qwen2-odd": {"model_type": "qwen2", "hidden_size": 96, "num_attention_heads": 3, "head_dim": 32}
    | {"intermediate_size": 224, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "mixtral": {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2, "num_key_value_heads": 1},
    "qwen3-moe": {"model_type": "qwen3_moe", **MOE},
    "qwen2-moe": {"model_type": "qwen2_moe", **MOE, "shared_expert_intermediate_size": 256},
    "deepseek": {"model_type": "deepseek_v3", "num_key_value_heads": 4, **LATENT},
    "gpt-oss": {"model_type": "gpt_oss", "num_local_experts": 16, "num_experts_per_tok": 4, "sliding_window": 128}
    | {"intermediate_size": 320},
    "gemma3": {"model_type": "gemma3_text", "tie_word_embeddings": True, "sliding_window": 64},
    "phi3": {"model_type": "phi3"},
}


KEPT = ("llama", "llama-80-layers", "qwen2-odd", "mixtral", "qwen2-moe", "deepseek")  # in the file


def case(name: str) -> tuple[Shape, dict[str, Any]]:
    config = {**BASE, **CASES[name]}
    return shape_of(config, name), config


def theirs(path: Path, shape: Shape, mix: Mix) -> dict[str, Counter[str]]:
    """Numbers in each block type by kind of tensor, as llama.cpp would store them."""
    said = llama_types(path, mix.name, matrix=mix.matrix)
    pairs = tensors_of(shape)
    assert set(said) == {name for name, _, _ in pairs}
    found: dict[str, Counter[str]] = {}
    for name, dims, tensor in pairs:
        found.setdefault(f"{tensor.name}/{tensor.part}", Counter())[said[name]] += prod(dims)
    return found


def ours(shape: Shape, mix: Mix) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for tensor in shape.tensors:
        count = found.setdefault(f"{tensor.name}/{tensor.part}", Counter())
        for (outputs, inputs), copies, kind, layers in mix_types(tensor, shape, mix):
            count[kind] += outputs * inputs * copies * layers
    return found


def line(name: str, mix: Mix, found: dict[str, Counter[str]]) -> str:
    """Kinds of tensors that are alike stand together; what is in 32 bits is left out."""
    alike: dict[str, list[str]] = {}
    for kind, count in sorted(found.items()):
        several = "+".join(f"{each}*{numbers}" for each, numbers in sorted(count.items()))
        parts = several if len(count) > 1 else next(iter(count))
        if set(count) != {"F32"} or mix.name == "F32":
            alike.setdefault(parts, []).append(kind)
    return f"{name} {mix.name} " + " ".join(f"{','.join(kinds)}={parts}" for parts, kinds in sorted(alike.items()))


def record() -> None:
    lines = []
    path = RECORDED.with_suffix(".gguf")
    for name in KEPT:
        shape, config = case(name)
        write(path, shape, config)
        lines += [line(name, mix, theirs(path, shape, mix)) for mix in MIXES.values()]
    path.unlink()
    RECORDED.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    record()
