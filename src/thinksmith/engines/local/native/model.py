"""A policy's live weights, as structures of the C decoder.

Nothing is copied: the structures hold the addresses of the model's parameters, so what training changes in place is
seen at once.
"""

from __future__ import annotations

from ctypes import POINTER, Structure, c_float, c_int64, c_void_p
from typing import Any

import torch
from torch import nn

FAMILIES = {"llama", "mistral", "qwen2", "qwen3"}  # whose layers are what decoder.c computes
ROPES = {"default", "linear", "llama3", "yarn"}  # whose angles depend on the position alone
GREATEST_DIM = 512  # of a head: it lies on the C stack


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
    return Model(
        layers=len(body.layers),
        hidden=body.embed_tokens.weight.shape[1],
        inner=_linear(body.layers[0].mlp.gate_proj).outputs,
        heads=_linear(attention.q_proj).outputs // attention.head_dim,
        kv_heads=_linear(attention.k_proj).outputs // attention.head_dim,
        dim=attention.head_dim,
        vocab=_linear(head).outputs,
        eps=body.norm.variance_epsilon,
        scale=attention.scaling,
        layer=(Layer * len(body.layers))(*map(_layer, body.layers)),
        embedding=_address(body.embed_tokens.weight),
        norm=_address(body.norm.weight),
        head=_linear(head),
    )


def _check(model: Any) -> None:
    """Raises Unfit for what decoder.c does not compute."""
    config = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    if not (
        config.model_type in FAMILIES
        and type(model).__module__.startswith("transformers.models.")
        and model.device.type == "cpu"
        and getattr(config, "hidden_act", "") == "silu"
        and rope.get("rope_type", "default") in ROPES
        and rope.get("partial_rotary_factor", 1.0) == 1.0
        and model.model.layers[0].self_attn.head_dim % 8 == 0
        and model.model.layers[0].self_attn.head_dim <= GREATEST_DIM
    ):
        raise Unfit
    if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
        raise Unfit  # somebody wants to see, or change, what passes there


def _layer(layer: Any) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return Layer(
        norm=_address(layer.input_layernorm.weight),
        mlp_norm=_address(layer.post_attention_layernorm.weight),
        query_norm=_address(attention.q_norm.weight) if hasattr(attention, "q_norm") else None,
        key_norm=_address(attention.k_norm.weight) if hasattr(attention, "k_norm") else None,
        query=_linear(attention.q_proj),
        key=_linear(attention.k_proj),
        value=_linear(attention.v_proj),
        output=_linear(attention.o_proj),
        gate=_linear(mlp.gate_proj),
        up=_linear(mlp.up_proj),
        down=_linear(mlp.down_proj),
        window=_window(attention),
    )


def _window(attention: Any) -> int:
    own = getattr(attention, "sliding_window", None)
    if attention.config.model_type == "mistral":
        own = getattr(attention.config, "sliding_window", None)
    return int(own or 0)


def _linear(module: Any) -> Linear:
    """A linear layer, or one with an adapter of peft's, which stays a side path. Raises Unfit for any other."""
    if type(module) is nn.Linear:
        bias = None if module.bias is None else _address(module.bias)
        outputs, inputs = module.weight.shape
        return Linear(weight=_address(module.weight), bias=bias, inputs=inputs, outputs=outputs, scale=1.0)
    if not (hasattr(module, "base_layer") and hasattr(module, "lora_A")) or module.merged:
        raise Unfit
    found = _linear(module.base_layer)
    active = [name for name in module.active_adapters if name in module.lora_A]
    if module.disable_adapters or not active:
        return found
    name, *more = active
    down, up = module.lora_A[name], module.lora_B[name]
    if more or name in module.lora_variant or type(down) is not nn.Linear or up.bias is not None:
        raise Unfit
    found.down, found.up = _address(down.weight), _address(up.weight)
    found.rank, found.scale = down.weight.shape[0], module.scaling[name]
    return found


def _address(tensor: torch.Tensor) -> int:
    if tensor.dtype != torch.float32 or not tensor.is_contiguous() or type(tensor.data) is not torch.Tensor:
        raise Unfit
    return tensor.data_ptr()
