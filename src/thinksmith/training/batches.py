"""Examples and padded batches. Padding is on the right, so a causal model never sees it and needs no mask for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thinksmith.fit.rounding import round_up


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of a prompt and of the completion that is learnt. Nothing here is ever tokenised again.

    `given`: positions in the completion that are read and not learnt (tokens that the engine forced).
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    given: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)

    @property
    def learnt(self) -> int:
        """Tokens that are learnt."""
        return len(self.completion_ids) - len(self.given)


@dataclass(frozen=True, slots=True)
class Batch:
    """input_ids_BT is padded on the right; completion_BT marks (True) the completion's tokens that are learnt; indices
    tells which example each row is; `tokens` are those that are no padding."""

    input_ids_BT: Tensor
    completion_BT: Tensor
    indices: tuple[int, ...]
    tokens: int


# Lengths are rounded up to this many tokens: kernels are prepared per shape, and a few shapes serve all batches.
LENGTH_STEP = 16


def pad(examples: Sequence[Example], indices: Sequence[int], pad_id: int) -> Batch:
    """One batch of the examples at these indices, as long as its longest, rounded up to LENGTH_STEP."""
    rows = [examples[i] for i in indices]
    longest = round_up(max(row.tokens for row in rows), LENGTH_STEP)
    input_ids_BT = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    completion_BT = torch.zeros((len(rows), longest), dtype=torch.bool)
    for b, row in enumerate(rows):
        input_ids_BT[b, : row.tokens] = torch.tensor(row.prompt_ids + row.completion_ids)
        completion_BT[b, len(row.prompt_ids) : row.tokens] = True
        completion_BT[b, [len(row.prompt_ids) + position for position in row.given]] = False
    return Batch(input_ids_BT, completion_BT, tuple(indices), sum(row.tokens for row in rows))


def micro_batches(
    examples: Sequence[Example], pad_id: int, tokens: int, units: Sequence[Sequence[int]] | None = None
) -> Iterator[Batch]:
    """Every example once, in batches of similar length with at most `tokens` padded tokens (at least one unit each).

    Sorting by length keeps the padding small; the sum over micro-batches does not depend on how they are cut. `units`:
    indices that stay together; by default each stands alone.
    """
    parts = [list(unit) for unit in units] if units is not None else [[i] for i in range(len(examples))]
    longest = {id(part): max(examples[i].tokens for i in part) for part in parts}
    batch: list[int] = []
    most = 0
    for part in sorted(parts, key=lambda part: -longest[id(part)]):
        if batch and len(batch) + len(part) > most:
            yield pad(examples, batch, pad_id)
            batch = []
        if not batch:
            most = tokens // round_up(longest[id(part)], LENGTH_STEP)
        batch += part
    if batch:
        yield pad(examples, batch, pad_id)
