"""A GGUF file as a `Shape`: the size of the model from the file's header, with the exact bytes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from thinksmith.errors import UserError
from thinksmith.fit.formats.formats import FORMATS
from thinksmith.fit.formats.gguf_header import GGUFTensor, Header, read_gguf
from thinksmith.fit.shapes.shape import Cache, Part, Shape, Tensor

__all__ = ["Header", "gguf_shape", "header_shape", "read_gguf"]

LARGEST = 1 << 40  # of a number in the metadata that counts something
NAMES: Mapping[str, tuple[str, Part]] = MappingProxyType(
    {
        "token_embd": ("embed_tokens", "embedding"),
        "output": ("lm_head", "head"),
        "output_norm": ("norm", "norm"),
        "attn_norm": ("input_layernorm", "norm"),
        "ffn_norm": ("post_attention_layernorm", "norm"),
        "attn_q_norm": ("q_norm", "norm"),
        "attn_k_norm": ("k_norm", "norm"),
        "attn_q": ("q_proj", "attention"),
        "attn_k": ("k_proj", "attention"),
        "attn_v": ("v_proj", "attention"),
        "attn_qkv": ("qkv_proj", "attention"),
        "attn_output": ("o_proj", "attention"),
        "attn_sinks": ("sinks", "bias"),
        "attn_q_a": ("q_a_proj", "attention"),
        "attn_q_b": ("q_b_proj", "attention"),
        "attn_kv_a_mqa": ("kv_a_proj_with_mqa", "attention"),
        "attn_kv_b": ("kv_b_proj", "attention"),
        "attn_k_b": ("k_b_proj", "attention"),
        "attn_v_b": ("v_b_proj", "attention"),
        "ffn_gate": ("gate_proj", "mlp"),
        "ffn_up": ("up_proj", "mlp"),
        "ffn_down": ("down_proj", "mlp"),
        "ffn_gate_shexp": ("gate_proj", "mlp"),
        "ffn_up_shexp": ("up_proj", "mlp"),
        "ffn_down_shexp": ("down_proj", "mlp"),
        "ffn_gate_exps": ("gate_proj", "expert"),
        "ffn_up_exps": ("up_proj", "expert"),
        "ffn_down_exps": ("down_proj", "expert"),
        "ffn_gate_up_exps": ("gate_up_proj", "expert"),
        "ffn_gate_inp": ("gate", "router"),
        "ffn_gate_inp_shexp": ("shared_expert_gate", "router"),
        "exp_probs_b": ("e_score_correction_bias", "bias"),
    }
)
# general.file_type: the numbers of `enum llama_ftype` in llama.cpp's include/llama.h.
FILE_TYPES = {
    **{0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1", 10: "q2_k", 11: "q3_k_s"},
    **{12: "q3_k_m", 13: "q3_k_l", 14: "q4_k_s", 15: "q4_k_m", 16: "q5_k_s", 17: "q5_k_m", 18: "q6_k"},
    **{19: "iq2_xxs", 20: "iq2_xs", 21: "q2_k_s", 22: "iq3_xs", 23: "iq3_xxs", 24: "iq1_s", 25: "iq4_nl"},
    **{26: "iq3_s", 27: "iq3_m", 28: "iq2_s", 29: "iq2_m", 30: "iq4_xs", 31: "iq1_m", 32: "bf16_gguf"},
    **{36: "tq1_0", 37: "tq2_0", 38: "mxfp4_moe"},
}
# Where a file names a window and not the layers that have it: every so many layers, the last of them sees everything
# (`set_swa_pattern` of llama.cpp's src/models/).
PATTERNS = {"gpt-oss": 2, "gemma2": 2, "gemma3": 6, "cohere2": 4, "exaone4": 4}
BLOCK = re.compile(r"blk\.(\d{1,6})\.(.+)")


def gguf_shape(path: str | Path) -> Shape:
    """The shape of the model in this file, or in this file and its other parts.

    Raises UserError for a file that cannot be read, or is no language model.
    """
    return header_shape(read_gguf(path))


def header_shape(header: Header) -> Shape:
    """The shape of the model that a header tells of."""
    told = _Told(header)
    hidden, heads = told.count("embedding_length"), told.count("attention.head_count")
    draft_layers = told.count("nextn_predict_layers", 0)
    layers = told.count("block_count") - draft_layers
    if layers <= 0 or heads <= 0:
        raise told.bad("it has no layers with attention")
    tensors, draft = _tensors(header, layers, told.count("expert_used_count", 0))
    embedding = next((tensor for tensor in tensors if tensor.part == "embedding"), None)
    if embedding is None or len(embedding.shape) != 2:
        raise told.bad("it has no table of tokens: is it a language model?")
    mla = "attention.key_length_mla" in told
    suffix = "_mla" if mla else ""
    key_dim = told.count(f"attention.key_length{suffix}", hidden // heads)
    return Shape(
        name=" ".join(str(header.metadata.get("general.name") or Path(header.path).stem).split())[:100],
        architecture=header.architecture,
        layers=layers,
        hidden=hidden,
        inner=_inner(tensors),
        heads=heads,
        kv_heads=heads if mla else told.count("attention.head_count_kv", heads),
        key_dim=key_dim,
        value_dim=told.count(f"attention.value_length{suffix}", key_dim),
        vocab=embedding.shape[0],
        tied=not any(tensor.part == "head" for tensor in tensors),
        context=told.count("context_length"),
        tensors=tensors,
        caches=_caches(told, tensors, layers, hidden // heads),
        published=_published(header),
        draft=draft,
        stored=header.bytes,
        source=header.path,
    )


class _Told:
    """What the metadata says, by the last part of its keys."""

    def __init__(self, header: Header) -> None:
        self.header = header

    def __contains__(self, key: str) -> bool:
        return f"{self.header.architecture}.{key}" in self.header.metadata

    def bad(self, why: str) -> UserError:
        return UserError(f"{self.header.path} cannot be used: {why}")

    def each(self, key: str, default: int | None = None) -> tuple[int, ...]:
        """Whole numbers, one or one for each layer."""
        value = self.header.metadata.get(f"{self.header.architecture}.{key}", default)
        if value is None:
            raise self.bad(f"its metadata lacks {key}")
        values = value if isinstance(value, tuple) else (value,)
        if not values or not all(isinstance(each, int) and 0 <= each < LARGEST for each in values):
            raise self.bad(f"{key} in its metadata is no sensible number")
        return tuple(int(each) for each in values)

    def count(self, key: str, default: int | None = None) -> int:
        """One whole number, the largest where there are several. Raises UserError if there is none and no default."""
        return max(self.each(key, default))


def _tensors(header: Header, layers: int, used: int) -> tuple[tuple[Tensor, ...], int]:
    """The tensors, those of the same kind as one record; and the parameters of the layers behind the last (MTP)."""
    kinds: dict[Tensor, list[int]] = {}
    draft = 0
    for each in header.tensors:
        block = BLOCK.fullmatch(each.name)
        layer = int(block[1]) if block else None
        tensor = _tensor(each, block[2] if block else each.name, used)
        if layer is not None and layer >= layers:
            draft += tensor.params
        elif not each.name.startswith("rope_"):  # tables that can be computed
            kinds.setdefault(tensor, []).extend([] if layer is None else [layer])
    found = tuple(
        Tensor(kind.name, kind.part, kind.shape, tuple(sorted(where)), kind.copies, kind.active)
        for kind, where in kinds.items()
    )
    return found, draft


def _tensor(each: GGUFTensor, name: str, used: int) -> Tensor:
    stem, _, last = name.rpartition(".")
    if last not in ("weight", "bias"):
        stem, last = name, "weight"
    ours, part = NAMES.get(stem, (stem, _part(stem, each)))
    expert = part == "expert"
    if last == "bias" and part != "bias":
        ours, part = f"{ours}.bias", "bias"
    dims = each.dims
    flat = 1 if part == "bias" else 2  # an expert's bias is (outputs, experts), its matrix (inputs, outputs, experts)
    while len(dims) > flat and dims[-1] == 1:
        dims = dims[:-1]
    copies = 1
    for number in dims[flat:]:
        copies *= number
    active = min(used, copies) if expert and used else copies
    return Tensor(ours, part, tuple(reversed(dims[:flat])), (), copies, active)


def _part(stem: str, each: GGUFTensor) -> Part:
    if "norm" in stem or len(each.dims) == 1:
        return "norm" if "norm" in stem else "bias"
    return "expert" if stem.endswith("_exps") else "mlp" if stem.startswith("ffn") else "attention"


def _inner(tensors: tuple[Tensor, ...]) -> int:
    """Inputs of the way down from the widest feed-forward of a layer."""
    widths: dict[int, int] = {}
    for tensor in tensors:
        if tensor.name == "down_proj" and len(tensor.shape) == 2:
            for layer in tensor.layers:
                widths[layer] = widths.get(layer, 0) + tensor.shape[1] * tensor.active
    return max(widths.values(), default=0)


def _caches(told: _Told, tensors: tuple[Tensor, ...], layers: int, head: int) -> tuple[Cache, ...]:
    attending = _having(tensors, ("k_proj", "qkv_proj", "kv_b_proj", "k_b_proj"))
    recurrent = {layer for tensor in tensors if tensor.name.startswith("ssm_") for layer in tensor.layers}
    window = told.count("attention.sliding_window", 0)
    sizes: dict[tuple[int, int | None, int], int] = {}
    for layer in range(layers):
        if layer in recurrent:
            kind: tuple[int, int | None, int] = (0, None, _state(told))
        elif layer in attending:
            slides = bool(window) and _slides(told, layer)
            kind = (_per_token(told, layer, head), window if slides else None, 0)
        else:
            continue
        sizes[kind] = sizes.get(kind, 0) + 1
    return tuple(Cache(count, per, seen, fixed) for (per, seen, fixed), count in sizes.items())


def _having(tensors: tuple[Tensor, ...], names: tuple[str, ...]) -> set[int]:
    return {layer for tensor in tensors if tensor.name in names for layer in tensor.layers}


def _per_token(told: _Told, layer: int, head: int) -> int:
    """Numbers of one token in this layer: of latent attention the latent and the part that is turned."""
    if "attention.key_length_mla" in told:
        return told.count("attention.kv_lora_rank") + told.count("rope.dimension_count")
    groups = told.each("attention.head_count_kv", told.count("attention.head_count"))
    heads = groups[0] if len(groups) == 1 else groups[layer] if layer < len(groups) else max(groups)
    key = told.count("attention.key_length", head)
    return heads * (key + told.count("attention.value_length", key))


def _slides(told: _Told, layer: int) -> bool:
    """Does this layer see only a window?"""
    if "attention.sliding_window_pattern" in told:
        pattern = told.each("attention.sliding_window_pattern")
        if len(pattern) > 1:
            return bool(pattern[layer % len(pattern)])
        every = pattern[0]
    else:
        every = PATTERNS.get(told.header.architecture, 0)
    return bool(every) and layer % every < every - 1


def _state(told: _Told) -> int:
    """Numbers of a recurrent layer's state in llama.cpp (`n_embd_r` and `n_embd_s` of src/llama-hparams.cpp)."""
    kernel, inner = told.count("ssm.conv_kernel", 0), told.count("ssm.inner_size", 0)
    state, groups = told.count("ssm.state_size", 0), told.count("ssm.group_count", 0)
    return max(0, kernel - 1) * (inner + 2 * groups * state) + state * inner


def _published(header: Header) -> str:
    """The format that the file says it is of; else the mix whose bits for each number are nearest."""
    said = header.metadata.get("general.file_type")
    if isinstance(said, int) and said in FILE_TYPES:
        return FILE_TYPES[said]
    numbers = 0
    for tensor in header.tensors:
        size = 1
        for dim in tensor.dims:
            size *= dim
        numbers += size
    bits = 8 * header.bytes / max(1, numbers)
    return min((each for each in FORMATS.values() if each.mix), key=lambda each: abs(each.bits - bits)).name
