"""Micro-batches: what is computed in one forward and backward pass, packed where the model allows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from thinksmith.policy.logprobs import Scores
from thinksmith.policy.policy import Policy
from thinksmith.training.batches import Batch, Example, micro_batches
from thinksmith.training.packed.forward import packable, packed_scores
from thinksmith.training.packed.pack import Pack, packs


@dataclass(frozen=True, slots=True)
class Micro:
    """M learnt tokens: `indices` tells which example each row is, `rows_M` the row of each token (in whole runs, in
    order). `score(policy, entropy, temperature)` gives their log-probabilities. `computed`: tokens that the decoder
    sees, padding included; `padding` of them are that."""

    indices: tuple[int, ...]
    rows_M: Tensor
    score: Callable[[Policy, bool, float], Scores]
    computed: int
    padding: int = 0


def micros(policy: Policy, examples: Sequence[Example], tokens: int) -> list[Micro]:
    """Every example once, in passes of at most `tokens` tokens (at least one example each)."""
    if not examples:
        return []
    if packable(policy, max(example.tokens for example in examples)):
        return [
            Micro(pack.indices, pack.rows_M, partial(_packed, pack=pack), pack.tokens)
            for pack in packs(examples, tokens, policy.device)
        ]
    pad_id = policy.tokenizer.pad_token_id or 0
    return [_padded(batch, policy.device) for batch in micro_batches(examples, pad_id, tokens)]


def _packed(policy: Policy, entropy: bool, temperature: float, *, pack: Pack) -> Scores:
    return packed_scores(policy, pack, entropy=entropy, temperature=temperature)


def _padded(batch: Batch, device: torch.device) -> Micro:
    ids_BT, learnt_BT = batch.input_ids_BT.to(device), batch.completion_BT.to(device)

    def scored(policy: Policy, entropy: bool, temperature: float) -> Scores:
        found = policy.logprobs(ids_BT, learnt_BT, entropy=entropy, temperature=temperature)
        entropy_BT = found.entropy_BT
        return Scores(found.logprobs_BT[learnt_BT], None if entropy_BT is None else entropy_BT[learnt_BT])

    padding = ids_BT.numel() - batch.tokens
    return Micro(batch.indices, learnt_BT.nonzero()[:, 0], scored, ids_BT.numel(), padding)
