"""What the code in C is told of a packed row: who sees whom, and how the backward pass is shared out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

PARTS = 4  # of a prompt's completions at most, whose gradients of the prompt are summed apart
NONE = -1  # no buffer: prompts write to their own gradients


@dataclass(frozen=True, slots=True)
class Plan:
    """`segments_S4`: start, end, and those of the prompt that a segment sees beside itself (int32).

    `parts_P3`: segments first..last that see one prompt, and where their gradients of it lie: in a buffer at a token,
    of `buffers` tokens in all. Which sums are taken apart depends on the row alone, and not on the number of threads:
    so the results do not either.
    """

    segments_S4: Tensor
    parts_P3: Tensor
    buffers: int

    @classmethod
    def of(cls, segments: Sequence[tuple[int, int, int, int]]) -> Plan:
        """`segments` in the order of the row."""
        parts, buffers = [], 0
        for (start, end), numbers in groupby(range(len(segments)), key=lambda number: segments[number][2:]):
            members = list(numbers)
            if start == end:
                parts += [(number, number + 1, NONE) for number in members]
                continue
            for first, last in _shares([_work(segments[number]) for number in members]):
                parts.append((members[0] + first, members[0] + last, buffers))
                buffers += end - start
        return cls(torch.tensor(segments, dtype=torch.int32), torch.tensor(parts, dtype=torch.int32), buffers)


def _work(segment: tuple[int, int, int, int]) -> int:
    """Pairs of a query and a key, about."""
    start, end, seen_start, seen_end = segment
    return (end - start) * (seen_end - seen_start + (end - start + 1) // 2)


def _shares(work: Sequence[int]) -> Iterator[tuple[int, int]]:
    """At most PARTS ranges of `work`, each of about as much."""
    first = done = made = 0
    for number, each in enumerate(work):
        done += each
        if done * PARTS >= sum(work) * (made + 1) or number == len(work) - 1:
            yield first, number + 1
            first, made = number + 1, max(made + 1, done * PARTS // sum(work))
