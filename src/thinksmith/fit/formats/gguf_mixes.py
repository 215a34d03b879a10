"""Which block type llama.cpp gives each tensor of a model: the mixes behind names such as Q4_K_M.

The rules are those of `llama-quantize` (src/llama-quant.cpp of https://github.com/ggml-org/llama.cpp: the functions
`llama_tensor_get_type_impl` and `tensor_type_fallback`), told by what a tensor does instead of by its name. The tests
quantise small models with llama.cpp itself and compare every tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from thinksmith.fit.formats.ggml import BLOCKS
from thinksmith.fit.shapes.shape import Shape, Tensor


@dataclass(frozen=True, slots=True)
class Mix:
    """A file type of llama.cpp: the block type of most tensors, and whether an importance matrix is taken for granted.

    Some rules depend on the matrix. The smallest mixes cannot be made without one, and the other i-quants are published
    with one, as a rule; the rest are as `llama-quantize` makes them without.
    """

    name: str
    most: str
    matrix: bool = False


_MIXES = (
    Mix("F32", "F32"),
    Mix("F16", "F16"),
    Mix("BF16", "BF16"),
    Mix("Q8_0", "Q8_0"),
    Mix("Q6_K", "Q6_K"),
    Mix("Q5_K_M", "Q5_K"),
    Mix("Q5_K_S", "Q5_K"),
    Mix("Q5_1", "Q5_1"),
    Mix("Q5_0", "Q5_0"),
    Mix("Q4_K_M", "Q4_K"),
    Mix("Q4_K_S", "Q4_K"),
    Mix("Q4_1", "Q4_1"),
    Mix("Q4_0", "Q4_0"),
    Mix("IQ4_NL", "IQ4_NL", matrix=True),
    Mix("IQ4_XS", "IQ4_XS", matrix=True),
    Mix("Q3_K_L", "Q3_K"),
    Mix("Q3_K_M", "Q3_K"),
    Mix("Q3_K_S", "Q3_K"),
    Mix("IQ3_M", "IQ3_S", matrix=True),
    Mix("IQ3_S", "IQ3_S", matrix=True),
    Mix("IQ3_XS", "IQ3_S", matrix=True),
    Mix("IQ3_XXS", "IQ3_XXS", matrix=True),
    Mix("Q2_K", "Q2_K"),
    Mix("Q2_K_S", "Q2_K", matrix=True),
    Mix("IQ2_M", "IQ2_S", matrix=True),
    Mix("IQ2_S", "IQ2_XS", matrix=True),
    Mix("IQ2_XS", "IQ2_XS", matrix=True),
    Mix("IQ2_XXS", "IQ2_XXS", matrix=True),
    Mix("IQ1_M", "IQ1_M", matrix=True),
    Mix("IQ1_S", "IQ1_S", matrix=True),
    Mix("TQ2_0", "TQ2_0"),
    Mix("TQ1_0", "TQ1_0"),
    Mix("MXFP4_MOE", "MXFP4"),
)
MIXES: Mapping[str, Mix] = MappingProxyType({mix.name: mix for mix in _MIXES})

TINY = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M")  # mixes with rules of their own
PLAIN = ("F32", "F16", "BF16")
# What a tensor does, by the last part of its name in a checkpoint. What is not here has the type of most tensors.
ROLES = {
    "q_proj": "q",
    "k_proj": "k",
    "v_proj": "v",
    "qkv_proj": "qkv",
    "o_proj": "out",
    "dense": "out",
    "gate_proj": "gate",
    "up_proj": "up",
    "gate_up_proj": "up",  # two tensors in a GGUF of experts, one of a dense layer; both go by the same rules
    "fc1": "up",
    "down_proj": "down",
    "fc2": "down",
    **{"w1": "gate", "w3": "up", "w2": "down"},  # of Mixtral's experts
}
# For rows that are no multiple of a block: llama-quantize's substitutes, of 32 numbers a block.
FALLBACK = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor stands: the how-manieth of its role it is (`index` of `count`), and in which layer of how many."""

    role: str
    index: int
    count: int
    layer: int
    layers: int


@dataclass(frozen=True, slots=True)
class _Model:
    """What the rules ask of a model."""

    experts: int
    grouped: bool  # four or more heads share keys and values
    seventy: bool  # llama.cpp's "70B" of Llama and Qwen2: attn_v is small, and gets more bits
    tied: bool


def mix_bytes(tensor: Tensor, shape: Shape, mix: Mix) -> int:
    """Bytes of all copies and layers of `tensor` in a GGUF of this mix, without the padding between tensors."""
    return sum(
        copies * outputs * BLOCKS[kind].row(inputs) * layers
        for (outputs, inputs), copies, kind, layers in mix_types(tensor, shape, mix)
    )


def mix_types(tensor: Tensor, shape: Shape, mix: Mix) -> list[tuple[tuple[int, int], int, str, int]]:
    """What becomes of `tensor`: (outputs, inputs), copies, block type and how many layers have that."""
    if len(tensor.shape) != 2 or tensor.part in ("norm", "bias", "router"):
        size = 1
        for number in tensor.shape:
            size *= number
        return [((1, size), tensor.copies, "F32", max(1, len(tensor.layers)))]
    model = _model_of(shape)
    found: list[tuple[tuple[int, int], int, str, int]] = []
    for matrix, copies, role in _matrices(tensor, shape):
        kinds: dict[str, int] = {}
        for place in _places(tensor, shape, role):
            kind = _fitting(_block_type(mix, model, place, copies, matrix[1]), matrix[1])
            kinds[kind] = kinds.get(kind, 0) + 1
        found += [(matrix, copies, kind, layers) for kind, layers in kinds.items()]
    return found


def _model_of(shape: Shape) -> _Model:
    groups = shape.heads // shape.kv_heads if shape.kv_heads else 0
    return _Model(
        experts=max((tensor.copies for tensor in shape.tensors if tensor.part == "expert"), default=1),
        grouped=groups >= 4,
        seventy=shape.architecture in ("llama", "mistral", "qwen2") and shape.layers == 80 and groups > 1,
        tied=not any(tensor.part == "head" for tensor in shape.tensors),
    )


def _matrices(tensor: Tensor, shape: Shape) -> list[tuple[tuple[int, int], int, str]]:
    """The matrices that a tensor becomes in a GGUF: its own, or for latent attention keys and values apart.

    The part of `kv_b_proj` that makes keys is turned about, so that it can be multiplied into the query
    (`attn_k_b`: for each head the latent's rows, with a key's inputs; convert_hf_to_gguf.py, DeepseekV2Model).
    """
    outputs, inputs = tensor.shape
    if tensor.name == "kv_b_proj" and shape.heads and outputs % shape.heads == 0:
        key = outputs // shape.heads - shape.value_dim
        if key > 0:
            heads = tensor.copies * shape.heads
            return [((inputs, key), heads, "other"), ((shape.value_dim, inputs), heads, "other")]
    role = {"embedding": "embedding", "head": "head"}.get(tensor.part) or ROLES.get(tensor.name, "other")
    return [((outputs, inputs), tensor.copies, role)]


def _places(tensor: Tensor, shape: Shape, role: str) -> list[_Place]:
    alike = ("v", "qkv") if role in ("v", "qkv") else (role,)
    peers = sorted(
        (layer, other.part != "expert")  # in a file, routed experts stand before shared ones
        for other in shape.tensors
        if len(other.shape) == 2 and ROLES.get(other.name) in alike and other.part not in ("router", "norm", "bias")
        for layer in other.layers
    )
    order = {peer: index for index, peer in enumerate(peers)}
    return [
        _Place(role, order.get((layer, tensor.part != "expert"), 0), len(peers), layer, shape.layers)
        for layer in tensor.layers or (0,)
    ]


def _fitting(kind: str, inputs: int) -> str:
    """The type itself, or what stands in for it where rows are no whole blocks.

    F16 is llama-quantize's last resort; where it would refuse a type instead, F16 is what we count.
    """
    if inputs % BLOCKS[kind].numbers == 0:
        return kind
    other = FALLBACK.get(kind, "F16")
    return other if inputs % BLOCKS[other].numbers == 0 else "F16"


def _more_bits(index: int, count: int) -> bool:
    """The first and the last eighth of the layers, and every third between them."""
    return index < count // 8 or index >= 7 * count // 8 or (index - count // 8) % 3 == 2


def _block_type(mix: Mix, model: _Model, place: _Place, copies: int, inputs: int) -> str:
    if mix.name in PLAIN:
        return mix.most
    if place.role == "head" or (model.tied and place.role == "embedding"):
        return _head_type(mix, inputs)
    if mix.name == "MXFP4_MOE":
        return "MXFP4" if copies > 1 else "Q8_0"
    if place.role == "embedding":
        return _EMBEDDING.get(mix.name, mix.most)
    if mix.name in TINY:
        return _tiny_type(mix, model, place)
    if place.role in ("v", "qkv"):
        return _value_type(mix, model, place)
    if place.role == "k" and model.experts == 8:
        return "Q8_0"
    if place.role in ("q", "k"):
        return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(mix.name, mix.most)
    if place.role == "down":
        return _down_type(mix, model, place)
    if place.role == "out":
        return _out_type(mix, model)
    if place.role in ("gate", "up") and mix.name == "IQ3_XS":
        layer, layers = _layer(model, place)
        return "IQ3_XXS" if layers // 8 <= layer < 7 * layers // 8 else mix.most
    return mix.most


_EMBEDDING = {
    **dict.fromkeys(("IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M"), "Q2_K"),
    **dict.fromkeys(("IQ2_S", "IQ2_M", "IQ3_XXS"), "IQ3_S"),
    **dict.fromkeys(("TQ1_0", "TQ2_0"), "Q4_K"),
}


def _head_type(mix: Mix, inputs: int) -> str:
    if mix.name == "MXFP4_MOE" or inputs % BLOCKS[mix.most].numbers:
        return "Q8_0"
    if mix.name in TINY or mix.name == "IQ3_XXS":
        return "Q5_K"
    return "Q8_0" if mix.most == "Q8_0" else "Q6_K"


def _tiny_type(mix: Mix, model: _Model, place: _Place) -> str:
    larger = mix.name in ("IQ2_S", "IQ2_M")
    if place.role in ("v", "qkv"):
        return "Q4_K" if model.grouped or model.experts >= 4 else "IQ3_S" if larger else "Q2_K"
    if place.role == "k" and model.experts == 8:
        return "Q4_K"
    if place.role == "down" and place.index < place.layers // 8:
        return "IQ3_S" if larger else "Q2_K"
    if place.role == "out" and model.experts == 8:
        return "Q5_K"
    if place.role == "out":
        return "IQ3_S" if larger else "IQ2_XXS" if mix.name in ("IQ1_S", "IQ1_M") else mix.most
    return mix.most


def _value_type(mix: Mix, model: _Model, place: _Place) -> str:
    if model.experts == 8:
        return "Q8_0"
    kind = mix.most
    if mix.name == "Q2_K":
        kind = "Q4_K" if model.grouped else "Q3_K"
    elif mix.name in ("Q2_K_S", "IQ3_XXS", "IQ3_XS", "IQ3_S"):
        kind = "Q4_K" if model.grouped else mix.most
    elif mix.name == "IQ3_M":
        kind = "Q4_K"
    elif mix.name == "Q3_K_M":
        kind = "Q5_K" if place.index < 2 else "Q4_K"
    elif mix.name == "Q3_K_L":
        kind = "Q5_K"
    elif mix.name in ("IQ4_NL", "IQ4_XS"):
        kind = "Q5_K" if model.grouped else mix.most
    elif mix.name in ("Q4_K_M", "Q5_K_M"):
        kind = "Q6_K" if _more_bits(place.index, place.count) else mix.most
    elif mix.name == "Q4_K_S":
        kind = "Q5_K" if place.index < 4 else mix.most
    return "Q5_K" if model.seventy and kind in ("Q3_K", "Q4_K") else kind


def _layer(model: _Model, place: _Place) -> tuple[int, int]:
    """The layer that the rules for feed-forwards go by; without experts they count the tensors instead."""
    return (place.layer if model.experts > 1 else place.index), place.layers


def _down_type(mix: Mix, model: _Model, place: _Place) -> str:
    layer, layers = _layer(model, place)
    first = layer < layers // 8
    if mix.name == "Q2_K":
        return "Q3_K"
    if mix.name == "Q2_K_S":
        return "Q4_K" if first else mix.most
    if mix.name == "Q3_K_M":
        return "Q5_K" if layer < layers // 16 else "Q4_K"
    if mix.name == "Q3_K_L":
        return "Q5_K"
    if mix.name == "IQ3_M":
        return "Q4_K" if first or (model.experts == 8 and _more_bits(layer, layers)) else mix.most
    if mix.name in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if _more_bits(layer, layers) else mix.most
    return "Q5_K" if mix.name == "Q4_K_S" and first else mix.most


def _out_type(mix: Mix, model: _Model) -> str:
    if model.experts == 8:
        return "Q5_K" if mix.name in _OUT_OF_EIGHT else mix.most
    return _OUT.get(mix.name, mix.most)


_OUT = {"Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}
_OUT_OF_EIGHT = (
    *("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M"),
    *("IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_NL", "IQ4_XS"),
)
