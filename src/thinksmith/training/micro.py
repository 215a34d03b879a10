"""Micro-batches: what is computed in one forward and backward pass, packed where the model allows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from thinksmith.policy.logprobs import Scores
from thinksmith.policy.policy import Policy
from thinksmith.training.batches import Batch, Example, micro_batches
from thinksmith.training.packed.forward import packable, packed_scores
from thinksmith.training.packed.pack import Pack, packs
from thinksmith.training.ranks import Ranks
from thinksmith.training.sharding import is_sharded

IDLE = Example((0,), (0,))
MICRO_TOKENS = 2048  # where neither the recipe nor the free memory says another number


class Score(Protocol):
    """Log-probabilities of a micro-batch's learnt tokens under a policy; differentiable."""

    def __call__(
        self, policy: Policy, entropy: bool = False, temperature: float = 1.0, likeliest: bool = False
    ) -> Scores: ...


@dataclass(frozen=True, slots=True)
class Micro:
    """M learnt tokens: `indices` tells which example each row is, `rows_M` the row of each token (in whole runs, in
    order). `score` gives their log-probabilities. `computed`: tokens that the decoder sees, padding included; `padding`
    of them are that."""

    indices: tuple[int, ...]
    rows_M: Tensor
    score: Score
    computed: int
    padding: int = 0


def micros(
    policy: Policy, examples: Sequence[Example], tokens: int, units: Sequence[Sequence[int]] | None = None
) -> list[Micro]:
    """Every example once, in passes of at most `tokens` tokens (at least one example each).

    `units`: indices of examples of one prompt that must be in the same pass, such as DPO's pairs; every example is in
    one. By default each example may stand alone.
    """
    if not examples:
        return []
    if packable(policy, max(example.tokens for example in examples)):
        return [
            Micro(pack.indices, pack.rows_M, partial(_packed, pack=pack), pack.tokens)
            for pack in packs(examples, tokens, policy.device, units)
        ]
    pad_id = policy.tokenizer.pad_token_id or 0
    return [_padded(batch, policy.device) for batch in micro_batches(examples, pad_id, tokens, units)]


def idle_micros(policy: Policy, count: int, ranks: Ranks) -> list[Micro]:
    """What a rank with `count` passes computes, and learns nothing from, beside them: sharded layers are gathered in
    every pass, so all ranks need equally many."""
    most = max(ranks.gather(count)) if is_sharded(policy.model) else 0
    return micros(policy, [IDLE], 1) * (most - count)


def _packed(
    policy: Policy, entropy: bool = False, temperature: float = 1.0, likeliest: bool = False, *, pack: Pack
) -> Scores:
    return packed_scores(policy, pack, entropy=entropy, temperature=temperature, likeliest=likeliest)


def _padded(batch: Batch, device: torch.device) -> Micro:
    ids_BT, learnt_BT = batch.input_ids_BT.to(device), batch.completion_BT.to(device)

    def scored(policy: Policy, entropy: bool = False, temperature: float = 1.0, likeliest: bool = False) -> Scores:
        found = policy.logprobs(ids_BT, learnt_BT, entropy=entropy, temperature=temperature, likeliest=likeliest)
        entropy_BT, likeliest_BT = found.entropy_BT, found.likeliest_BT
        return Scores(
            found.logprobs_BT[learnt_BT],
            None if entropy_BT is None else entropy_BT[learnt_BT],
            None if likeliest_BT is None else likeliest_BT[learnt_BT],
        )

    padding = ids_BT.numel() - batch.tokens
    return Micro(batch.indices, learnt_BT.nonzero()[:, 0], scored, ids_BT.numel(), padding)
