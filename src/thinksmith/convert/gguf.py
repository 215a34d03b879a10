"""Writes GGUF (github.com/ggml-org/ggml, docs/gguf.md) through the `gguf` library: Llama, Qwen2 and Qwen3.

Tensors are read, changed and written one at a time, so a model takes the memory of its largest tensor over its mapped
checkpoint. The file appears whole or not at all.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from thinksmith.convert import tokenizer as tokenizers
from thinksmith.convert.weights import tensors
from thinksmith.errors import UserError
from thinksmith.policy.policy import Policy

Kind = Literal["f32", "f16", "bf16", "q8_0"]
KINDS: tuple[str, ...] = get_args(Kind)
ARCHITECTURES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}
_FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}  # llama.h, llama_ftype
_BLOCK = 32  # numbers that share a scale in q8_0


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was made: `tensors` of each type, and what is to be known about it."""

    path: Path
    bytes: int
    tensors: Mapping[str, int]
    notes: tuple[str, ...] = ()


def require_gguf() -> Any:
    """The library. Raises UserError where it is not installed."""
    try:
        import gguf
    except ImportError:
        raise UserError("converting needs the gguf library: pip install 'thinksmith[gguf]'") from None
    return gguf


def write_gguf(
    policy: Policy, path: Path, kind: Kind = "f16", *, on_tensor: Callable[[int, int], None] = lambda done, all: None
) -> Written:
    """The model at `path`. `on_tensor` is told how many of how many tensors are written. Raises UserError."""
    library = require_gguf()
    config: Any = policy.model.config
    architecture = _architecture(type(policy.model).__name__, config, policy.name)
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent}: make it, or name another --out")
    part = path.with_name(f".{path.name}.part")
    writer = library.GGUFWriter(part, architecture)
    try:
        _metadata(writer, config, policy)
        _sampling(writer, policy)
        notes = _vocabulary(writer, policy)
        return _tensors(library, writer, policy, architecture, kind, path, part, on_tensor, notes)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; free some space or name another --out") from None
    finally:
        writer.close()
        part.unlink(missing_ok=True)


def _architecture(found: str, config: Any, name: str) -> str:
    if found not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UserError(f"{name} is a {found}, which cannot be converted to GGUF here: known are {known}")
    if getattr(config, "hidden_act", "silu") != "silu":
        raise UserError(f"{name} has the activation {config.hidden_act}: llama.cpp computes silu for this architecture")
    if getattr(config, "mlp_bias", False):
        raise UserError(f"{name} has biases in its MLP, which llama.cpp has not for this architecture")
    if getattr(config, "use_sliding_window", False):
        raise UserError(f"{name} has sliding windows, which llama.cpp has not for this architecture")
    return ARCHITECTURES[found]


def _metadata(writer: Any, config: Any, policy: Policy) -> None:
    heads, dim = config.num_attention_heads, _head_dim(config)
    writer.add_name(Path(policy.name).name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", None) or heads)
    writer.add_key_length(dim)
    writer.add_value_length(dim)
    writer.add_rope_dimension_count(dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    rope = dict(getattr(config, "rope_parameters", None) or {})
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    kind = rope.get("rope_type", "default")
    if kind in ("linear", "yarn"):
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR if kind == "linear" else RopeScalingType.YARN)
        writer.add_rope_scaling_factor(float(rope["factor"]))
        if kind == "yarn":
            writer.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))
    elif kind not in ("default", "llama3"):
        raise UserError(
            f"{policy.name} has rope {kind!r}, which cannot be converted: known are default, linear, yarn, llama3"
        )


def _head_dim(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _sampling(writer: Any, policy: Policy) -> None:
    """What the model's makers advise, so that llama.cpp samples so by default."""
    advised: Any = policy.model.generation_config
    if advised is None or not getattr(advised, "do_sample", False):
        return
    for name, add in (
        ("temperature", writer.add_sampling_temp),
        ("top_p", writer.add_sampling_top_p),
        ("top_k", writer.add_sampling_top_k),
        ("min_p", writer.add_sampling_min_p),
    ):
        value = getattr(advised, name, None)
        if value is not None:
            add(value)


def _vocabulary(writer: Any, policy: Policy) -> list[str]:
    """Returns what is to be known about it."""
    tokenizer: Any = policy.tokenizer
    rows = policy.model.get_input_embeddings().weight.shape[0]
    found = tokenizers.vocabulary(tokenizer, rows, policy.name)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(found.rule)
    writer.add_token_list(list(found.tokens))
    writer.add_token_types(list(found.types))
    writer.add_token_merges(list(found.merges))
    ends: Any = policy.model.generation_config and policy.model.generation_config.eos_token_id
    end = ends[0] if isinstance(ends, list) else ends
    end = end if isinstance(end, int) else tokenizers.token_id(tokenizer, "eos")
    for add, token in (
        (writer.add_bos_token_id, tokenizers.token_id(tokenizer, "bos")),
        (writer.add_eos_token_id, end),
        (writer.add_pad_token_id, tokenizers.token_id(tokenizer, "pad")),
    ):
        if token is not None:
            add(token)
    writer.add_add_bos_token(tokenizers.adds_bos(tokenizer))
    if template := tokenizers.template_of(tokenizer):
        writer.add_chat_template(template)
    return [found.note] if found.note else []


def _tensors(
    library: Any,
    writer: Any,
    policy: Policy,
    architecture: str,
    kind: Kind,
    path: Path,
    part: Path,
    on_tensor: Callable[[int, int], None],
    notes: list[str],
) -> Written:
    config: Any = policy.model.config
    names = library.get_tensor_name_map(library.MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    extra = _rope_factors(config)
    planned = [(name, _name_of(names, name, policy.name), tensor) for name, tensor in tensors(policy)]
    counts: dict[str, int] = {}
    if extra is not None:
        writer.add_tensor_info("rope_freqs.weight", extra.shape, extra.dtype, extra.nbytes)
    for _, theirs, tensor in planned:
        stored = _type_of(tuple(tensor.shape), kind)
        counts[stored] = counts.get(stored, 0) + 1
        if kind == "q8_0" and stored == "f16":
            notes.append(f"{theirs} stays f16: its rows of {tensor.shape[-1]} numbers are no multiple of {_BLOCK}")
        _plan(library, writer, theirs, tuple(tensor.shape), stored)
    writer.add_file_type(_FILE_TYPES[kind])
    writer.add_quantization_version(library.GGML_QUANT_VERSION)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if extra is not None:
        writer.write_tensor_data(extra)
    for done, (name, _, tensor) in enumerate(planned):
        on_tensor(done, len(planned))
        whole = _permuted(name, tensor, config) if architecture == "llama" else tensor
        writer.write_tensor_data(_stored(library, whole, _type_of(tuple(tensor.shape), kind)))
    on_tensor(len(planned), len(planned))
    writer.flush()
    size = part.stat().st_size
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    return Written(path, size, counts, tuple(notes))


def _name_of(names: Any, name: str, model: str) -> str:
    found = names.get_name(name, try_suffixes=(".weight", ".bias"))
    if found is None:
        raise UserError(f"{model} has a tensor {name}, for which GGUF has no place in this architecture")
    return str(found)


def _type_of(shape: tuple[int, ...], kind: Kind) -> str:
    """Norms and biases stay f32, as llama.cpp expects them."""
    if len(shape) == 1:
        return "f32"
    return "f16" if kind == "q8_0" and shape[-1] % _BLOCK else kind


def _plan(library: Any, writer: Any, name: str, shape: tuple[int, ...], stored: str) -> None:
    """The tensor's place in the file, before its data is there."""
    types, numbers = library.GGMLQuantizationType, math.prod(shape)
    if stored in ("f32", "f16"):
        number: Any = np.dtype(np.float32 if stored == "f32" else np.float16)
        writer.add_tensor_info(name, shape, number, numbers * number.itemsize)
        return
    kind = types.Q8_0 if stored == "q8_0" else types.BF16
    in_bytes = library.quant_shape_to_byte_shape(shape, kind)
    writer.add_tensor_info(name, in_bytes, np.dtype(np.uint8), math.prod(in_bytes), raw_dtype=kind)


def _stored(library: Any, tensor: Tensor, stored: str) -> Any:
    if stored == "bf16":
        return tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(np.uint8)
    plain = tensor.float().contiguous().numpy()
    if stored == "q8_0":
        return library.quants.quantize(plain, library.GGMLQuantizationType.Q8_0)
    return plain.astype(np.float16) if stored == "f16" else plain


def _permuted(name: str, tensor: Tensor, config: Any) -> Tensor:
    """llama.cpp turns neighbouring numbers of a Llama's head by one angle, transformers those half a head apart: so the
    rows of queries and keys change places."""
    leaf = name.split(".")[-2] if "." in name else ""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(leaf)
    if heads is None:
        return tensor
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)


def _rope_factors(config: Any) -> Any:
    """By what each frequency is divided, of Llama 3's scaling (transformers, modeling_rope_utils.py);

    None for others.
    """
    rope = dict(getattr(config, "rope_parameters", None) or {})
    if rope.get("rope_type") != "llama3":
        return None
    dim = _head_dim(config)
    wavelength_D = 2 * np.pi * rope["rope_theta"] ** (np.arange(0, dim, 2) / dim)
    original, low, high = rope["original_max_position_embeddings"], rope["low_freq_factor"], rope["high_freq_factor"]
    smooth_D = np.clip((original / wavelength_D - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth_D) / rope["factor"] + smooth_D)).astype(np.float32)
