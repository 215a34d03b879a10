"""What the layers of decoders are made of: attention, feed-forwards, experts, norms, as lists of tensors.

Each takes the config's fields and the numbers of the layers that have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thinksmith.errors import UserError
from thinksmith.fit.shapes.fields import MOST_LAYERS, Fields
from thinksmith.fit.shapes.shape import Part, Tensor

Layers = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Heads:
    """Query heads, key and value heads, and the width of one of them."""

    queries: int
    keys: int
    key_dim: int
    value_dim: int


def heads_of(c: Fields) -> Heads:
    """The heads of ordinary attention; key and value heads fewer than query heads, or as many."""
    queries = c.whole("num_attention_heads")
    keys = c.maybe("num_key_value_heads", queries)
    if queries % keys:
        raise UserError(f"the config's num_attention_heads {queries} is no multiple of its num_key_value_heads {keys}")
    dim = c.maybe("head_dim", max(1, c.whole("hidden_size") // queries))
    return Heads(queries, keys, dim, dim)


def latent_heads(c: Fields) -> Heads:
    """The heads of multi-head latent attention (DeepSeek-AI 2024, arXiv:2405.04434), after the latent was expanded."""
    heads = c.whole("num_attention_heads")
    return Heads(heads, heads, c.whole("qk_nope_head_dim") + c.whole("qk_rope_head_dim"), c.whole("v_head_dim"))


def linear(name: str, part: Part, outputs: int, inputs: int, layers: Layers, bias: bool = False) -> list[Tensor]:
    """A matrix, and its bias if it has one."""
    matrix = [Tensor(name, part, (outputs, inputs), layers)]
    return [*matrix, Tensor(f"{name}.bias", "bias", (outputs,), layers)] if bias else matrix


def vectors(size: int, layers: Layers, *names: str, part: Part = "norm") -> list[Tensor]:
    return [Tensor(name, part, (size,), layers) for name in names]


def attention(
    c: Fields, layers: Layers, *, bias: bool = False, out_bias: bool = False, gated: bool = False
) -> list[Tensor]:
    """Four matrices. `gated`: the queries' has twice the outputs, half of them a gate."""
    h, hidden = heads_of(c), c.whole("hidden_size")
    width = h.queries * h.key_dim
    return [
        *linear("q_proj", "attention", width * (2 if gated else 1), hidden, layers, bias),
        *linear("k_proj", "attention", h.keys * h.key_dim, hidden, layers, bias),
        *linear("v_proj", "attention", h.keys * h.value_dim, hidden, layers, bias),
        *linear("o_proj", "attention", hidden, width, layers, out_bias),
    ]


def latent_attention(c: Fields, layers: Layers) -> list[Tensor]:
    """Queries and keys by way of narrow latents; the queries' latent is missing in small models."""
    h, hidden, rank = latent_heads(c), c.whole("hidden_size"), c.whole("kv_lora_rank")
    bias = c.flag("attention_bias")
    width = h.queries * h.key_dim
    if c.get("q_lora_rank") is None:
        queries = linear("q_proj", "attention", width, hidden, layers)
    else:
        narrow = c.whole("q_lora_rank")
        queries = [
            *linear("q_a_proj", "attention", narrow, hidden, layers, bias),
            *vectors(narrow, layers, "q_a_layernorm"),
            *linear("q_b_proj", "attention", width, narrow, layers),
        ]
    both = h.queries * (c.whole("qk_nope_head_dim") + h.value_dim)
    return [
        *queries,
        *linear("kv_a_proj_with_mqa", "attention", rank + c.whole("qk_rope_head_dim"), hidden, layers, bias),
        *vectors(rank, layers, "kv_a_layernorm"),
        *linear("kv_b_proj", "attention", both, rank, layers),
        *linear("o_proj", "attention", hidden, h.queries * h.value_dim, layers, bias),
    ]


def linear_attention(c: Fields, layers: Layers) -> list[Tensor]:
    """A gated delta net (Yang et al. 2024, arXiv:2412.06464) as in Qwen3-Next."""
    hidden, heads = c.whole("hidden_size"), c.whole("linear_num_value_heads")
    keys, values = linear_widths(c)
    channels = 2 * keys + values
    return [
        *linear("in_proj_qkvz", "attention", channels + values, hidden, layers),
        *linear("in_proj_ba", "attention", 2 * heads, hidden, layers),
        Tensor("conv1d", "attention", (channels, 1, c.whole("linear_conv_kernel_dim")), layers),
        *vectors(heads, layers, "dt_bias", "A_log", part="bias"),
        *vectors(c.whole("linear_value_head_dim"), layers, "norm"),
        *linear("out_proj", "attention", hidden, values, layers),
    ]


def linear_widths(c: Fields) -> tuple[int, int]:
    """Widths of all keys and of all values of linear attention."""
    keys = c.whole("linear_num_key_heads") * c.whole("linear_key_head_dim")
    return keys, c.whole("linear_num_value_heads") * c.whole("linear_value_head_dim")


def mlp(c: Fields, layers: Layers, inner: int, *, bias: bool = False) -> list[Tensor]:
    """A gated feed-forward: every token passes through it."""
    hidden = c.whole("hidden_size")
    return [
        *linear("gate_proj", "mlp", inner, hidden, layers, bias),
        *linear("up_proj", "mlp", inner, hidden, layers, bias),
        *linear("down_proj", "mlp", hidden, inner, layers, bias),
    ]


def fused_mlp(c: Fields, layers: Layers) -> list[Tensor]:
    """The same with two of its matrices in one tensor."""
    hidden, inner = c.whole("hidden_size"), c.whole("intermediate_size")
    return [
        *linear("gate_up_proj", "mlp", 2 * inner, hidden, layers),
        *linear("down_proj", "mlp", hidden, inner, layers),
    ]


def experts(
    c: Fields, layers: Layers, inner: int, names: Sequence[str] = ("gate_proj", "up_proj", "down_proj")
) -> list[Tensor]:
    """Feed-forwards of which a token passes through some, and the router that chooses."""
    hidden, (many, used) = c.whole("hidden_size"), experts_of(c)
    gate, up, down = names
    return [
        *linear("gate", "router", many, hidden, layers),
        *(Tensor(name, "expert", (inner, hidden), layers, many, used) for name in (gate, up)),
        Tensor(down, "expert", (hidden, inner), layers, many, used),
    ]


def experts_of(c: Fields) -> tuple[int, int]:
    """How many experts a layer has, and how many a token uses."""
    many = c.whole("num_experts", "num_local_experts", "n_routed_experts", most=MOST_LAYERS)
    return many, c.whole("num_experts_per_tok", most=many)


def sparse(c: Fields, layers: Layers) -> tuple[Layers, Layers]:
    """The layers that are dense, and those with experts (Qwen)."""
    step, dense = c.maybe("decoder_sparse_step", 1), c.listed("mlp_only_layers") or []
    mixed = tuple(i for i in layers if i not in dense and (i + 1) % step == 0)
    return tuple(i for i in layers if i not in mixed), mixed
