"""Segments of a packed row as batches: those of similar lengths side by side, padded to one length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

import torch
from torch import Tensor

WASTE = 0.25  # of a bucket's queries may be padding
LEAST = 24  # tokens, from which on that is looked at: below it a product of its own costs more than the padding


class Span(Protocol):
    """Tokens start..end of a row."""

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...

    @property
    def length(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Bucket:
    """Segments of similar lengths, padded to one: `rows` of them of `length` tokens."""

    rows: int
    length: int


class Buckets:
    """Where each token of a row of `tokens` tokens stands in its bucket, and the way back."""

    def __init__(self, segments: Sequence[Span], tokens: int, device: torch.device) -> None:
        self.tokens, self._device = tokens, device
        order = sorted(segments, key=lambda segment: -segment.length)
        self.shapes = _buckets([segment.length for segment in order])
        padded = [bucket.length for bucket in self.shapes for _ in range(bucket.rows)]
        self.padded = sum(padded)
        self._source, self._padding = _places(order, padded, tokens)
        self._index: dict[tuple[str, int, int], Tensor] = {}

    def into(self, x_HND: Tensor, group: int) -> Tensor:
        """[K * padded * G, D]: bucket by bucket, in each a batch of (key head, segment) with its G heads' queries."""
        heads, width = len(x_HND), x_HND.shape[-1]
        if not x_HND.is_contiguous() and x_HND.transpose(0, 1).is_contiguous():  # token by token, as products leave it
            flat = x_HND.transpose(0, 1).reshape(-1, width)
            return flat.index_select(0, self._indices("into, by token", heads, group))
        return x_HND.reshape(-1, width).index_select(0, self._indices("into", heads, group))

    def back(self, x_XD: Tensor, heads: int, group: int) -> Tensor:
        """[H, N, D] of what `into` has in buckets, stored token by token; padding is left out."""
        found = x_XD.index_select(0, self._indices("back", heads, group))
        return found.view(self.tokens, heads, x_XD.shape[-1]).transpose(0, 1)

    def parts(self, x_XD: Tensor, heads: int, group: int) -> list[Tensor]:
        """[B, G, T, D] of each bucket, as views."""
        sizes = [heads * bucket.rows * bucket.length for bucket in self.shapes]
        shapes = [(heads // group * bucket.rows, group, bucket.length, -1) for bucket in self.shapes]
        return [part.view(shape) for part, shape in zip(torch.split(x_XD, sizes), shapes, strict=True)]

    def padding(self, heads: int, group: int) -> Tensor:
        """[K * padded * G]: True where `into` has padding."""
        return self._indices("padding", heads, group)

    def _indices(self, what: str, heads: int, group: int) -> Tensor:
        """Every layer asks for the same ones."""
        if (what, heads, group) not in self._index:
            head_KG = torch.arange(heads).view(-1, group)[:, None, :, None]
            by_head = self._spread(self._source, lambda source_RT: head_KG * self.tokens + source_RT)
            by_token = self._spread(self._source, lambda source_RT: source_RT * heads + head_KG)
            padding = self._spread(self._padding, lambda padding_RT: padding_RT.expand(heads // group, -1, group, -1))
            back = torch.empty(heads * self.tokens, dtype=torch.int64)
            back[by_token[~padding]] = (~padding).nonzero()[:, 0]
            found = {"into": by_head, "into, by token": by_token, "back": back, "padding": padding}
            self._index |= {(name, heads, group): index.to(self._device) for name, index in found.items()}
        return self._index[what, heads, group]

    def _spread(self, places: Tensor, over_heads: Callable[[Tensor], Tensor]) -> Tensor:
        """Bucket by bucket, what `over_heads` makes of a bucket's [1, R, 1, T] places, flat."""
        parts = torch.split(places, [bucket.rows * bucket.length for bucket in self.shapes])
        shaped = (part.view(1, each.rows, 1, each.length) for part, each in zip(parts, self.shapes, strict=True))
        return torch.cat([over_heads(part).reshape(-1) for part in shaped])


def _buckets(lengths: Sequence[int]) -> tuple[Bucket, ...]:
    """`lengths` fall; a bucket ends where its padding would be too much."""
    found: list[Bucket] = []
    rows = real = 0
    for index, length in enumerate(lengths):
        longest = lengths[index - rows]
        if rows and longest > LEAST and (rows + 1) * longest * (1 - WASTE) > real + length:
            found.append(Bucket(rows, longest))
            rows = real = 0
        rows, real = rows + 1, real + length
    if rows:
        found.append(Bucket(rows, lengths[len(lengths) - rows]))
    return tuple(found)


def _places(order: Sequence[Span], padded: Sequence[int], tokens: int) -> tuple[Tensor, Tensor]:
    """For each place of the padded segments: which token is there (the segment's first for padding), and is it that."""
    source, padding = torch.empty(sum(padded), dtype=torch.int64), torch.ones(sum(padded), dtype=torch.bool)
    ends = list(accumulate(padded, initial=0))
    for segment, (start, end) in zip(order, pairwise(ends), strict=True):
        source[start:end] = segment.start
        source[start : start + segment.length] = torch.arange(segment.start, segment.end)
        padding[start : start + segment.length] = False
    return source, padding
