"""GGUF files for tests: the header that llama.cpp's converter would write for a model, over data that is a hole."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

from thinksmith.fit.shapes.shape import Shape, Tensor

ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "mixtral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen2_moe": "qwen2moe",
    "qwen3_moe": "qwen3moe",
    "deepseek_v3": "deepseek2",
    "gpt_oss": "gpt-oss",
    "gemma3_text": "gemma3",
    "phi3": "phi3",
}
# As convert_hf_to_gguf.py of llama.cpp names what transformers names so.
NAMES = {
    "embed_tokens": "token_embd",
    "lm_head": "output",
    "norm": "output_norm",
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "qkv_proj": "attn_qkv",
    "o_proj": "attn_output",
    "sinks": "attn_sinks",
    "q_a_proj": "attn_q_a",
    "q_b_proj": "attn_q_b",
    "kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "pre_feedforward_layernorm": "ffn_pre_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm",
    "q_a_layernorm": "attn_q_a_norm",
    "kv_a_layernorm": "attn_kv_a_norm",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "gate_up_proj": "ffn_up",
    "down_proj": "ffn_down",
    **{"w1": "ffn_gate", "w3": "ffn_up", "w2": "ffn_down"},
    "gate": "ffn_gate_inp",
    "router": "ffn_gate_inp",
    "shared_expert_gate": "ffn_gate_inp_shexp",
    "e_score_correction_bias": "exp_probs_b",
}


def tensors_of(shape: Shape) -> list[tuple[str, tuple[int, ...], Tensor]]:
    """Name and dimensions, outputs first, of each tensor in a GGUF; and which of the shape's it came from."""
    mixed = {layer for tensor in shape.tensors if tensor.part == "expert" for layer in tensor.layers}
    found = []
    for tensor in shape.tensors:
        for layer in tensor.layers or (None,):
            before = "" if layer is None else f"blk.{layer}."
            found += [(before + name, dims, tensor) for name, dims in _renamed(tensor, shape, layer in mixed)]
    return found


def _renamed(tensor: Tensor, shape: Shape, mixed: bool) -> list[tuple[str, tuple[int, ...]]]:
    base, _, bias = tensor.name.partition(".")
    if base == "e_score_correction_bias":
        bias = "bias"
    outputs = tensor.shape[0]
    if base == "kv_b_proj":
        key = outputs // shape.heads - shape.value_dim
        rank = tensor.shape[1]
        return [
            ("attn_k_b.weight", (shape.heads, rank, key)),
            ("attn_v_b.weight", (shape.heads, shape.value_dim, rank)),
        ]
    name = NAMES[base]
    last = "bias" if bias else "weight"
    if tensor.copies > 1:
        dims = (tensor.copies, *tensor.shape)
        if base == "gate_up_proj":
            half = (tensor.copies, outputs // 2, *tensor.shape[1:])
            return [(f"ffn_gate_exps.{last}", half), (f"ffn_up_exps.{last}", half)]
        return [(f"{name}_exps.{last}", dims)]
    if mixed and name in ("ffn_gate", "ffn_up", "ffn_down"):
        name += "_shexp"
    return [(f"{name}.{last}", (tensor.shape[1],) if base == "shared_expert_gate" else tensor.shape)]


def write(path: Path, shape: Shape, config: dict[str, Any]) -> None:
    """A GGUF of this shape in 16 bits. Its data is a hole in the file: nothing is written there."""
    import gguf
    import numpy as np

    arch = ARCHITECTURES[shape.architecture]
    file = gguf.GGUFWriter(path, arch)
    file.add_file_type(1)
    file.add_block_count(shape.layers)
    file.add_context_length(shape.context)
    file.add_embedding_length(shape.hidden)
    file.add_feed_forward_length(config.get("intermediate_size", shape.inner))
    file.add_head_count(shape.heads)
    file.add_layer_norm_rms_eps(1e-6)
    file.add_vocab_size(shape.vocab)
    file.add_token_list([f"token {number}" for number in range(64)])  # something to step over
    if "kv_lora_rank" in config:
        rank, turned = config["kv_lora_rank"], config["qk_rope_head_dim"]
        file.add_head_count_kv(1)
        file.add_kv_lora_rank(rank)
        file.add_q_lora_rank(config["q_lora_rank"])
        file.add_key_length(rank + turned)
        file.add_value_length(rank)
        file.add_key_length_mla(shape.key_dim)
        file.add_value_length_mla(shape.value_dim)
        file.add_rope_dimension_count(turned)
        file.add_leading_dense_block_count(config["first_k_dense_replace"])
        file.add_expert_shared_count(config["n_shared_experts"])
        file.add_expert_weights_scale(1.0)
    else:
        file.add_head_count_kv(shape.kv_heads)
        file.add_key_length(shape.key_dim)
        file.add_value_length(shape.value_dim)
        file.add_rope_dimension_count(shape.key_dim)
    window = next((cache.window for cache in shape.caches if cache.window), None)
    if window:
        file.add_sliding_window(window)
    experts = next((tensor for tensor in shape.tensors if tensor.part == "expert"), None)
    if experts:
        file.add_expert_count(experts.copies)
        file.add_expert_used_count(experts.active)
        file.add_expert_feed_forward_length(config.get("moe_intermediate_size", config["intermediate_size"]))
        file.add_expert_shared_feed_forward_length(config.get("shared_expert_intermediate_size", 1))
    size = 0
    for name, dims, tensor in tensors_of(shape):
        whole = len(dims) == 1 or tensor.part in ("router", "bias", "norm")
        dtype = np.dtype(np.float32 if whole else np.float16)
        nbytes = int(np.prod([int(each) for each in dims], dtype=np.int64)) * dtype.itemsize
        file.add_tensor_info(name, dims, dtype, nbytes)
        size += gguf.GGUFWriter.ggml_pad(nbytes, 32)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_ti_data_to_file()
    file.close()
    with path.open("r+b") as again:
        again.truncate(-(-path.stat().st_size // 32) * 32 + size)


LINE = re.compile(r"\] +(\S+) +- \[ *(\d+),[^]]*\], type = +(\S+), size[^\n]*?(?:\((\w+)\))?\s*(?=\n|$)")


def llama_types(path: Path, mix: str, *, matrix: bool) -> dict[str, str]:
    """The type that `llama-quantize --dry-run` would give each tensor of the file."""
    import llama_cpp

    said: list[str] = []
    listen = llama_cpp.llama_log_callback(lambda level, text, data: said.append(text.decode()))
    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread, params.dry_run = 1, True
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_{'ALL' if mix == 'F32' else 'MOSTLY'}_{mix}")
    one = (ctypes.c_float * 1)(1.0)
    entry = llama_cpp.llama_model_imatrix_data
    some = (entry * 2)(entry(b"any", ctypes.cast(one, ctypes.POINTER(ctypes.c_float)), 1), entry(None, None, 0))
    if matrix:  # that there is one is all that the choice of types asks
        params.imatrix = some
    llama_cpp.llama_log_set(listen, None)
    try:
        failed = llama_cpp.llama_model_quantize(bytes(path), bytes(path) + b".out", ctypes.byref(params))
    finally:
        llama_cpp.llama_log_set(QUIET, None)
    text = "".join(said)
    assert not failed, text[-2000:]
    text = re.sub(r"\n?warning: [^\n]*\n|\(WARNING[^\n]*\n|-> falling back[^\n]*\n", "", text)
    return {line[1]: (line[4] or line[3]).upper() for line in LINE.finditer(text)}


def _quiet() -> Any:
    try:
        import llama_cpp
    except ImportError:
        return None
    return llama_cpp.llama_log_callback(lambda level, text, data: None)


QUIET = _quiet()
