"""What the layers of each family of models consist of, by its config: as transformers builds them.

A family is a function from a config to tensors, made of `parts.py`; `FAMILIES` names them by `model_type`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from thinksmith.errors import UserError
from thinksmith.fit.shapes.fields import LINEAR, MOST_LAYERS, Fields
from thinksmith.fit.shapes.parts import (
    Layers,
    attention,
    experts,
    experts_of,
    fused_mlp,
    heads_of,
    latent_attention,
    linear,
    linear_attention,
    mlp,
    sparse,
    vectors,
)
from thinksmith.fit.shapes.shape import Tensor
from thinksmith.fit.shapes.windows import Rule, always, asked, early_odd, every, full, kinds_of, late, unplaced

Build = Callable[[Fields, Layers], list[Tensor]]


@dataclass(frozen=True, slots=True)
class Family:
    """`build`: the tensors of the layers. `defaults`: what transformers takes where a config says nothing, for fields
    that published configs leave out. `rule`: how layer i attends where `layer_types` does not say. `latent`: multi-head
    latent attention. `draft`: parameters of what only speculative decoding uses."""

    build: Build
    defaults: Mapping[str, Any] = field(default_factory=dict)
    rule: Rule = full
    latent: bool = False
    draft: Callable[[Fields], int] = lambda c: 0


def llama(c: Fields, layers: Layers) -> list[Tensor]:
    bias = c.flag("attention_bias")
    return [
        *attention(c, layers, bias=bias, out_bias=bias),
        *mlp(c, layers, c.whole("intermediate_size"), bias=c.flag("mlp_bias")),
        *vectors(c.whole("hidden_size"), layers, "input_layernorm", "post_attention_layernorm"),
    ]


def qwen2(c: Fields, layers: Layers) -> list[Tensor]:
    return [
        *attention(c, layers, bias=True),
        *mlp(c, layers, c.whole("intermediate_size")),
        *vectors(c.whole("hidden_size"), layers, "input_layernorm", "post_attention_layernorm"),
    ]


def mistral(c: Fields, layers: Layers) -> list[Tensor]:
    return [
        *attention(c, layers),
        *mlp(c, layers, c.whole("intermediate_size")),
        *vectors(c.whole("hidden_size"), layers, "input_layernorm", "post_attention_layernorm"),
    ]


def mixtral(c: Fields, layers: Layers) -> list[Tensor]:
    return [
        *attention(c, layers),
        *experts(c, layers, c.whole("intermediate_size"), names=("w1", "w3", "w2")),
        *vectors(c.whole("hidden_size"), layers, "input_layernorm", "post_attention_layernorm"),
    ]


def qwen3(c: Fields, layers: Layers) -> list[Tensor]:
    return [*llama(c, layers), *vectors(heads_of(c).key_dim, layers, "q_norm", "k_norm")]


def qwen2_moe(c: Fields, layers: Layers) -> list[Tensor]:
    return [*attention(c, layers, bias=c.flag("qkv_bias", True)), *_qwen_rest(c, layers), *shared_expert(c, layers)]


def qwen3_moe(c: Fields, layers: Layers) -> list[Tensor]:
    bias = c.flag("attention_bias")
    return [
        *attention(c, layers, bias=bias, out_bias=bias),
        *vectors(heads_of(c).key_dim, layers, "q_norm", "k_norm"),
        *_qwen_rest(c, layers),
    ]


def qwen3_next(c: Fields, layers: Layers) -> list[Tensor]:
    bias = c.flag("attention_bias")
    kinds = kinds_of(c, FAMILIES["qwen3_next"].rule)
    full = tuple(i for i in layers if kinds[i] != LINEAR)
    return [
        *linear_attention(c, tuple(i for i in layers if kinds[i] == LINEAR)),
        *attention(c, full, bias=bias, out_bias=bias, gated=True),
        *vectors(heads_of(c).key_dim, full, "q_norm", "k_norm"),
        *_qwen_rest(c, layers),
        *shared_expert(c, layers),
    ]


def _qwen_rest(c: Fields, layers: Layers) -> list[Tensor]:
    """What Qwen's mixtures have beside attention and the shared expert."""
    dense, mixed = sparse(c, layers)
    return [
        *(mlp(c, dense, c.whole("intermediate_size")) if dense else []),
        *(experts(c, mixed, c.whole("moe_intermediate_size")) if mixed else []),
        *vectors(c.whole("hidden_size"), layers, "input_layernorm", "post_attention_layernorm"),
    ]


def shared_expert(c: Fields, layers: Layers) -> list[Tensor]:
    """The feed-forward beside the experts, through which every token passes, and its gate."""
    mixed = sparse(c, layers)[1]
    shared = mlp(c, mixed, c.whole("shared_expert_intermediate_size"))
    return [*shared, *linear("shared_expert_gate", "router", 1, c.whole("hidden_size"), mixed)]


def deepseek(c: Fields, layers: Layers, *, corrected: bool) -> list[Tensor]:
    """The first layers are dense, the others mixtures with shared experts. `corrected`: the router has a bias that
    balances its choices (DeepSeek-AI 2024, arXiv:2412.19437)."""
    first = c.whole("first_k_dense_replace", least=0, most=MOST_LAYERS)
    if c.maybe("moe_layer_freq", 1) != 1:
        raise UserError("the config's moe_layer_freq is not 1: such a model of this family is not known")
    dense, mixed = tuple(i for i in layers if i < first), tuple(i for i in layers if i >= first)
    inner, bias = c.whole("moe_intermediate_size"), c.flag("mlp_bias")
    many = experts_of(c)[0]
    correction = vectors(many, mixed, "e_score_correction_bias", part="bias") if corrected else []
    return [
        *latent_attention(c, layers),
        *(mlp(c, dense, c.whole("intermediate_size"), bias=bias) if dense else []),
        *([*experts(c, mixed, inner), *correction] if mixed else []),
        *(mlp(c, mixed, inner * c.whole("n_shared_experts"), bias=bias) if mixed else []),
        *vectors(c.whole("hidden_size"), layers, "input_layernorm", "post_attention_layernorm"),
    ]


def deepseek_v2(c: Fields, layers: Layers) -> list[Tensor]:
    return deepseek(c, layers, corrected=False)


def deepseek_v3(c: Fields, layers: Layers) -> list[Tensor]:
    return deepseek(c, layers, corrected=True)


def next_tokens(c: Fields) -> int:
    """Parameters of DeepSeek-V3's layers for multi-token prediction: each is a layer of the mixture, a matrix that
    joins the token with what was thought of it, and three norms; embedding and head are the model's
    (https://huggingface.co/deepseek-ai/DeepSeek-V3/blob/main/README_WEIGHTS.md: 11.5B of its own)."""
    hidden, many = c.whole("hidden_size"), c.maybe("num_nextn_predict_layers", 0, least=0)
    layer = sum(tensor.params for tensor in deepseek_v3(c, (MOST_LAYERS,)))  # far behind the dense ones
    return many * (layer + 2 * hidden * hidden + 3 * hidden)


def gpt_oss(c: Fields, layers: Layers) -> list[Tensor]:
    """Biases, experts with two matrices in one, and a sink for each head: a logit that takes attention away."""
    hidden, inner, bias = c.whole("hidden_size"), c.whole("intermediate_size"), c.flag("attention_bias", True)
    many, used = experts_of(c)
    return [
        *attention(c, layers, bias=bias, out_bias=bias),
        *vectors(c.whole("num_attention_heads"), layers, "sinks", part="bias"),
        *linear("router", "router", many, hidden, layers, True),
        Tensor("gate_up_proj", "expert", (2 * inner, hidden), layers, many, used),
        Tensor("gate_up_proj.bias", "bias", (2 * inner,), layers, many, used),
        Tensor("down_proj", "expert", (hidden, inner), layers, many, used),
        Tensor("down_proj.bias", "bias", (hidden,), layers, many, used),
        *vectors(hidden, layers, "input_layernorm", "post_attention_layernorm"),
    ]


def gemma2(c: Fields, layers: Layers) -> list[Tensor]:
    around = ("pre_feedforward_layernorm", "post_feedforward_layernorm")
    return [*llama(c, layers), *vectors(c.whole("hidden_size"), layers, *around)]


def gemma3(c: Fields, layers: Layers) -> list[Tensor]:
    return [*gemma2(c, layers), *vectors(heads_of(c).key_dim, layers, "q_norm", "k_norm")]


def phi3(c: Fields, layers: Layers) -> list[Tensor]:
    h, hidden = heads_of(c), c.whole("hidden_size")
    return [
        *linear("qkv_proj", "attention", (h.queries + 2 * h.keys) * h.key_dim, hidden, layers),
        *linear("o_proj", "attention", hidden, h.queries * h.key_dim, layers),
        *fused_mlp(c, layers),
        *vectors(hidden, layers, "input_layernorm", "post_attention_layernorm"),
    ]


def olmo2(c: Fields, layers: Layers) -> list[Tensor]:
    """Norms after attention and feed-forward, and over all heads of queries and of keys."""
    h, bias = heads_of(c), c.flag("attention_bias")
    return [
        *attention(c, layers, bias=bias, out_bias=bias),
        *vectors(h.queries * h.key_dim, layers, "q_norm"),
        *vectors(h.keys * h.key_dim, layers, "k_norm"),
        *mlp(c, layers, c.whole("intermediate_size")),
        *vectors(c.whole("hidden_size"), layers, "post_attention_layernorm", "post_feedforward_layernorm"),
    ]


def glm4(c: Fields, layers: Layers) -> list[Tensor]:
    around = ("input_layernorm", "post_attention_layernorm", "post_self_attn_layernorm", "post_mlp_layernorm")
    return [
        *attention(c, layers, bias=c.flag("attention_bias", True)),
        *fused_mlp(c, layers),
        *vectors(c.whole("hidden_size"), layers, *around),
    ]


_WINDOW = {"sliding_window": 4096}
_TIED = {"tie_word_embeddings": True}
_GEMMA3 = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262_208}
_GEMMA3 |= {"max_position_embeddings": 131_072, **_WINDOW, **_TIED}

FAMILIES: dict[str, Family] = {
    "llama": Family(llama),
    "mistral": Family(mistral, {"num_key_value_heads": 8, **_WINDOW}, always),
    "mixtral": Family(mixtral, {"num_key_value_heads": 8}, always),
    "qwen2": Family(qwen2, {**_WINDOW, "max_window_layers": 28}, late),
    "qwen3": Family(qwen3, {**_WINDOW, "max_window_layers": 28, "head_dim": 128}, late),
    "qwen2_moe": Family(qwen2_moe, {**_WINDOW, "max_window_layers": 28}, early_odd),
    "qwen3_moe": Family(qwen3_moe, _WINDOW, asked),
    "qwen3_next": Family(qwen3_next, {"head_dim": 256}, every(4, "full_attention_interval", LINEAR)),
    "deepseek_v2": Family(deepseek_v2, {"first_k_dense_replace": 0}, latent=True),
    "deepseek_v3": Family(deepseek_v3, latent=True, draft=next_tokens),
    "gpt_oss": Family(gpt_oss, {"head_dim": 64, "sliding_window": 128}, every(2)),
    "gemma2": Family(gemma2, {"head_dim": 256, **_WINDOW, **_TIED}, every(2)),
    "gemma3_text": Family(gemma3, _GEMMA3, every(6, "sliding_window_pattern")),
    "phi3": Family(phi3, rule=always),
    "olmo2": Family(olmo2),
    "olmo3": Family(olmo2, _WINDOW, every(4)),
    "granite": Family(llama),
    "smollm3": Family(llama, {"num_key_value_heads": 4, **_TIED}, unplaced),
    "glm4": Family(glm4, {"num_key_value_heads": 2, "head_dim": 128}),
}
