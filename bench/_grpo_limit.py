"""The least time that training on a batch can take: its matrix products alone, at the shapes that its real tokens have.

Of each packed row: the linear layers over all its tokens and the head over the learnt ones, attention of each prompt
and completion to itself (a full square: the products of masked scores are counted) and of completions to their prompt.
Each product forward, and both of its backward pass; nothing is computed twice. Products of one shape are one batch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from thinksmith.training.batches import Example
from thinksmith.training.packed.pack import packs


@dataclass(frozen=True)
class Row:
    """A packed row: its tokens, those learnt, the lengths of what looks at itself, and (prompt, what looks at it)."""

    tokens: int
    learnt: int
    segments: tuple[int, ...]
    crossings: tuple[tuple[int, int], ...]


def rows_of(examples: Sequence[Example], micro_tokens: int) -> list[Row]:
    """The rows that these examples are packed into."""
    found = []
    for pack in packs(examples, micro_tokens, torch.device("cpu")):
        segments: list[int] = []
        crossings = []
        chosen = [examples[index] for index in pack.indices]
        for prompt, group in groupby(chosen, key=lambda example: example.prompt_ids):
            lengths = [len(example.completion_ids) for example in group]
            segments += [len(prompt), *lengths]
            crossings.append((len(prompt), sum(lengths)))
        found.append(Row(pack.tokens, len(pack.targets_M), tuple(segments), tuple(crossings)))
    return found


class Products:
    """The matrix products of training a model on rows, with memory that is there beforehand."""

    def __init__(self, model: Any) -> None:
        head = model.get_output_embeddings().weight.detach()
        linears = [m.weight.detach() for m in model.get_decoder().modules() if isinstance(m, torch.nn.Linear)]
        self._linears, self._head = linears, head
        config = model.config.get_text_config()
        self._layers, self._kv_heads = config.num_hidden_layers, config.num_key_value_heads
        self._group = config.num_attention_heads // self._kv_heads
        self._dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._pools: dict[str, Tensor] = {}

    def seconds(self, rows: Sequence[Row]) -> dict[str, float]:
        """Wall seconds of each part, one after the other."""
        parts = {"linear": self._linear, "head": self._of_head, "attention": self._attention}
        found = dict.fromkeys(parts, 0.0)
        for row in rows:
            for name, part in parts.items():
                began = time.perf_counter()
                part(row)
                found[name] += time.perf_counter() - began
        return found

    def flops(self, rows: Sequence[Row]) -> float:
        """Of all that `seconds` computes."""
        linear = sum(weight.numel() for weight in self._linears)
        heads = self._kv_heads * self._group * self._dim * self._layers
        return sum(
            6.0 * (row.tokens * linear + row.learnt * self._head.numel())
            + 12.0 * heads * (sum(n * n for n in row.segments) + sum(p * s for p, s in row.crossings))
            for row in rows
        )

    def _linear(self, row: Row) -> None:
        for weight in self._linears:
            self._dense(weight, row.tokens)

    def _of_head(self, row: Row) -> None:
        self._dense(self._head, row.learnt)

    def _dense(self, weight: Tensor, rows: int) -> None:
        """Forward, and the gradients of the input and of the weight."""
        outer, inner = weight.shape
        x, y = self._some("x", rows, inner), self._some("y", rows, outer)
        torch.mm(x, weight.T, out=self._some("forward", rows, outer))
        torch.mm(y, weight, out=self._some("dx", rows, inner))
        torch.mm(y.T, x, out=self._some("dw", outer, inner))

    def _attention(self, row: Row) -> None:
        for batch, queries, keys in self._looks(row):
            q, out = (self._some(name, batch, queries, self._dim) for name in ("q", "o"))
            k, v = (self._some(name, batch, keys, self._dim) for name in ("k", "v"))
            scores = self._some("scores", batch, queries, keys)
            torch.bmm(q, k.mT, out=self._some("s", batch, queries, keys))
            torch.bmm(scores, v, out=self._some("pv", batch, queries, self._dim))
            torch.bmm(scores.mT, out, out=self._some("dv", batch, keys, self._dim))
            torch.bmm(out, v.mT, out=self._some("s", batch, queries, keys))
            torch.bmm(scores, k, out=self._some("pv", batch, queries, self._dim))
            torch.bmm(scores.mT, q, out=self._some("dv", batch, keys, self._dim))

    def _looks(self, row: Row) -> Iterator[tuple[int, int, int]]:
        """(batch, queries, keys) of attention's products, in each layer. Heads that share keys are one product."""
        for _ in range(self._layers):
            for length, count in Counter(row.segments).items():
                yield count * self._kv_heads, self._group * length, length
            for (prompt, seers), count in Counter(row.crossings).items():
                yield count * self._kv_heads, self._group * seers, prompt

    def _some(self, name: str, *shape: int) -> Tensor:
        """Numbers that are there already; what they are does not matter."""
        size = 1
        for each in shape:
            size *= each
        if name not in self._pools or self._pools[name].numel() < size:
            self._pools[name] = torch.randn(size, dtype=self._head.dtype)
        return self._pools[name][:size].view(shape)
