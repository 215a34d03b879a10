"""The size of a model: its tensors and what its layers remember of a sequence, as its config says.

Everything else in this room is arithmetic on these records. They hold numbers only, so a shape is there at once,
without torch and without weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Literal

Part = Literal["embedding", "attention", "mlp", "expert", "router", "norm", "bias", "head"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a checkpoint, or the same one of several layers.

    `name`: the last part of its name there (`q_proj`, `embed_tokens`, `input_layernorm`; a bias is `q_proj.bias`).
    `shape`: (outputs, inputs) of a matrix, (size,) of a vector. `layers`: those that have one, by number; empty for
    what the model has once. `copies`: how many a layer has of it, as of an expert's matrices; `active`: how many of
    these a token is multiplied by.
    """

    name: str
    part: Part
    shape: tuple[int, ...]
    layers: tuple[int, ...] = ()
    copies: int = 1
    active: int = 1

    @property
    def count(self) -> int:
        """How many there are in the model."""
        return self.copies * max(1, len(self.layers))

    @property
    def params(self) -> int:
        """Parameters of all of them."""
        return self.count * prod(self.shape)

    @property
    def active_params(self) -> int:
        """Parameters of those that one token is multiplied by."""
        return self.params // self.copies * self.active


@dataclass(frozen=True, slots=True)
class Cache:
    """What some layers remember of a sequence.

    `per_token`: numbers kept for each token in one of the `layers`: keys and values of all its heads, or the latent of
    multi-head latent attention. `window`: only of so many tokens, the last ones (None: of all). `fixed`: numbers that
    do not grow with the sequence, such as the state of linear attention.
    """

    layers: int
    per_token: int
    window: int | None = None
    fixed: int = 0

    def numbers(self, tokens: int) -> int:
        """Numbers kept of a sequence of so many tokens."""
        seen = tokens if self.window is None else min(tokens, self.window)
        return self.layers * (self.per_token * seen + self.fixed)


@dataclass(frozen=True, slots=True)
class Shape:
    """A model, as far as memory and speed go.

    `inner`: width of the widest feed-forward that a token passes through in one layer (of a mixture of experts: all
    experts that it uses, and the shared ones). `key_dim` and `value_dim`: of one head, where a product of attention is
    computed. `context`: the most tokens that the config allows. `published`: the format of the weights as published
    (a name of `formats.py`). `draft`: parameters beside the model proper that only speculative decoding uses
    (DeepSeek's multi-token prediction); they are in none of the other figures. `stored`: bytes of the weights as they
    were published, where a file says so. `source`: where the config is from.
    """

    name: str
    architecture: str
    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    vocab: int
    tied: bool
    context: int
    tensors: tuple[Tensor, ...] = field(repr=False)
    caches: tuple[Cache, ...]
    published: str = "bf16"
    draft: int = 0
    stored: int = 0
    source: str = ""

    @property
    def params(self) -> int:
        """All parameters, those of a tied head once."""
        return sum(tensor.params for tensor in self.tensors)

    @property
    def active_params(self) -> int:
        """Parameters that a token is multiplied by: without the table of embeddings, of which it reads one row, unless
        that is the head too."""
        return sum(t.active_params for t in self.tensors if t.part != "embedding" or self.tied)

    @property
    def mixture(self) -> bool:
        """Is it a mixture of experts?"""
        return any(tensor.part == "expert" for tensor in self.tensors)

    def cache_numbers(self, tokens: int) -> int:
        """Numbers that all layers keep of a sequence of so many tokens."""
        return sum(cache.numbers(tokens) for cache in self.caches)

    @property
    def cache_per_token(self) -> int:
        """Numbers that all layers keep of one more token while no window is full."""
        return self.cache_numbers(1) - self.cache_numbers(0)
