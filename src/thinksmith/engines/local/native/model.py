"""A policy's live weights, as structures of the C decoder.

Nothing is copied: the structures hold the addresses of the model's parameters, so what training changes in place is
seen at once.
"""

from __future__ import annotations

from ctypes import POINTER, Structure, c_float, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as everywhere

from thinksmith.engines.local.road import hooked

FAMILIES = {"llama", "mistral", "qwen2", "qwen3"}  # whose layers are what decoder.c computes
ROPES = {"default", "linear", "llama3", "yarn"}  # whose angles depend on the position alone
GREATEST_DIM = 512  # of a head: it lies on the C stack
KNOWN_CODE = ("transformers.models.", "transformers.activations", "torch.nn.modules.", "peft.tuners.lora.")


class Linear(Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("weight", "bias", "down", "up")),
        *((name, c_int64) for name in ("inputs", "outputs", "rank")),
        ("scale", c_float),
    )


class Layer(Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("norm", "mlp_norm", "query_norm", "key_norm")),
        *((name, Linear) for name in ("query", "key", "value", "output", "gate", "up", "down")),
        *((name, c_void_p) for name in ("keys", "values")),
        ("window", c_int64),
    )


class Model(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("layers", "hidden", "inner", "heads", "kv_heads", "dim", "vocab")),
        *((name, c_float) for name in ("eps", "scale")),
        ("layer", POINTER(Layer)),
        *((name, c_void_p) for name in ("embedding", "norm")),
        ("head", Linear),
        *((name, c_void_p) for name in ("cos", "sin")),
    )


class Rows(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("n", "drawn", "width")),
        *((name, c_void_p) for name in ("token", "position", "shared", "line", "table")),
    )


class Unfit(Exception):
    """The C decoder does not compute this model."""


def model_of(model: Any) -> Model:
    """The structure of a transformers model; keys, values, cosines and sines are left out. Raises Unfit."""
    _check(model)
    body, head = model.model, model.lm_head
    attention = body.layers[0].self_attn
    vocab, hidden = body.embed_tokens.weight.shape
    shape = Shape(
        hidden=hidden,
        inner=body.layers[0].mlp.gate_proj.out_features,
        queries=attention.q_proj.out_features,
        keys=attention.k_proj.out_features,
        dim=attention.head_dim,
        eps=body.norm.variance_epsilon,
        scale=attention.scaling,
    )
    heads, kv_heads = shape.queries // shape.dim, shape.keys // shape.dim
    _demand(shape.dim % 8 == 0 and shape.dim <= GREATEST_DIM and heads % kv_heads == 0)
    return Model(
        layers=len(body.layers),
        hidden=hidden,
        inner=shape.inner,
        heads=heads,
        kv_heads=kv_heads,
        dim=shape.dim,
        vocab=vocab,
        eps=shape.eps,
        scale=shape.scale,
        layer=(Layer * len(body.layers))(*(_layer(layer, shape) for layer in body.layers)),
        embedding=_address(body.embed_tokens.weight),
        norm=_norm(body.norm, hidden, shape),
        head=_linear(head, hidden, vocab),
    )


@dataclass(frozen=True)
class Shape:
    """What all layers must have in common."""

    hidden: int
    inner: int
    queries: int
    keys: int
    dim: int
    eps: float
    scale: float


def _demand(holds: bool) -> None:
    if not holds:
        raise Unfit


def _check(model: Any) -> None:
    """Raises Unfit for what decoder.c does not compute, and for what somebody has put in its way."""
    config = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    _demand(config.model_type in FAMILIES and getattr(config, "hidden_act", "") == "silu")
    _demand(rope.get("rope_type", "default") in ROPES and rope.get("partial_rotary_factor", 1.0) == 1.0)
    _demand(type(model.model.embed_tokens) is nn.Embedding)
    _demand(not everywhere._global_forward_hooks and not everywhere._global_forward_pre_hooks)
    for module in model.modules():
        _demand(type(module).__module__.startswith(KNOWN_CODE) and "forward" not in module.__dict__)
        _demand(not hooked(module))


def _layer(layer: Any, shape: Shape) -> Layer:
    attention, mlp, normed = layer.self_attn, layer.mlp, hasattr(layer.self_attn, "q_norm")
    _demand(attention.head_dim == shape.dim and attention.scaling == shape.scale)
    return Layer(
        norm=_norm(layer.input_layernorm, shape.hidden, shape),
        mlp_norm=_norm(layer.post_attention_layernorm, shape.hidden, shape),
        query_norm=_norm(attention.q_norm, shape.dim, shape) if normed else None,
        key_norm=_norm(attention.k_norm, shape.dim, shape) if normed else None,
        query=_linear(attention.q_proj, shape.hidden, shape.queries),
        key=_linear(attention.k_proj, shape.hidden, shape.keys),
        value=_linear(attention.v_proj, shape.hidden, shape.keys),
        output=_linear(attention.o_proj, shape.queries, shape.hidden),
        gate=_linear(mlp.gate_proj, shape.hidden, shape.inner),
        up=_linear(mlp.up_proj, shape.hidden, shape.inner),
        down=_linear(mlp.down_proj, shape.inner, shape.hidden),
        window=_window(attention),
    )


def _window(attention: Any) -> int:
    own = getattr(attention, "sliding_window", None)
    if attention.config.model_type == "mistral":
        own = getattr(attention.config, "sliding_window", None)
    return int(own or 0)


def _norm(module: Any, size: int, shape: Shape) -> int:
    _demand(module.variance_epsilon == shape.eps and module.weight.shape == (size,))
    return _address(module.weight)


def _linear(module: Any, inputs: int, outputs: int) -> Linear:
    """A linear layer, or one with an adapter of peft's, which stays a side path. Raises Unfit for any other."""
    if type(module) is nn.Linear:
        _demand(module.weight.shape == (outputs, inputs))
        bias = None if module.bias is None else _address(module.bias)
        return Linear(weight=_address(module.weight), bias=bias, inputs=inputs, outputs=outputs, scale=1.0)
    _demand(hasattr(module, "lora_A") and type(module.base_layer) is nn.Linear)
    found = _linear(module.base_layer, inputs, outputs)
    if module.merged:
        _demand(not module.disable_adapters)  # the next forward would take it out of the weights again
        return found
    active = [name for name in module.active_adapters if name in module.lora_A]
    if module.disable_adapters or not active:
        return found
    name, *more = active
    down, up = module.lora_A[name], module.lora_B[name]
    _demand(not more and name not in module.lora_variant and type(down) is type(up) is nn.Linear and up.bias is None)
    rank = down.weight.shape[0]
    _demand(down.weight.shape == (rank, inputs) and up.weight.shape == (outputs, rank))
    found.down, found.up = _address(down.weight), _address(up.weight)
    found.rank, found.scale = rank, module.scaling[name]
    return found


def _address(tensor: torch.Tensor) -> int:
    _demand(type(tensor.data) is torch.Tensor and tensor.device.type == "cpu")
    _demand(tensor.dtype == torch.float32 and tensor.is_contiguous())
    return tensor.data_ptr()
