"""Supervised fine-tuning: every token of a completion is made likelier, given all before it.

    loss = - sum over learnt tokens of log p(token | before) / their number

over all samples of the optimiser step, on all ranks: a token weighs the same in a short sample and in a long one, and
neither the cut into passes nor the packing enters. It is TRL's and transformers' loss, with `num_items_in_batch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from thinksmith.policy.policy import Policy
from thinksmith.training.batches import Example
from thinksmith.training.micro import MICRO_TOKENS, idle_micros, micros
from thinksmith.training.optimizer import Optimizers
from thinksmith.training.ranks import ALONE, Ranks
from thinksmith.training.rows import Metrics
from thinksmith.training.step import take_step
from thinksmith.training.supervised.lesson import in_training
from thinksmith.training.supervised.shelf import Shelf


@dataclass(frozen=True, slots=True)
class SFT:
    """A `Lesson` of examples. `micro_tokens`: the most tokens of a pass (0: 2,048), which changes no result."""

    policy: Policy
    examples: Sequence[Example]
    held_out: Sequence[Example] = ()
    max_grad_norm: float = 1.0
    micro_tokens: int = 0
    ranks: Ranks = ALONE

    @property
    def sizes(self) -> list[int]:
        return self.examples.sizes if isinstance(self.examples, Shelf) else [each.tokens for each in self.examples]

    def learn(self, indices: Sequence[int], optimizers: Optimizers, lr_scale: float) -> Metrics:
        chosen = [self.examples[index] for index in indices]
        learnt = sum(example.learnt for example in chosen)
        passes = micros(self.policy, self.ranks.own(chosen), self.micro_tokens or MICRO_TOKENS)
        idle = idle_micros(self.policy, len(passes), self.ranks)
        loss = 0.0
        with in_training(self.policy.model):
            for micro in passes:
                part = -micro.score(self.policy).logprobs_N.sum() / max(learnt, 1)
                part.backward()  # type: ignore[no-untyped-call]
                loss += float(part.detach())
            for micro in idle:
                nothing = 0.0 * micro.score(self.policy).logprobs_N.sum()
                nothing.backward()  # type: ignore[no-untyped-call]
            norm = take_step(self.policy, optimizers, lr_scale, self.max_grad_norm, loss, self.ranks)
        parts = self.ranks.gather((loss, sum(each.computed for each in passes), sum(each.padding for each in passes)))
        computed = sum(part[1] for part in parts)
        return {
            "loss": sum(part[0] for part in parts),
            "grad_norm": norm,
            "samples": float(len(chosen)),
            "trained_tokens": float(sum(example.tokens for example in chosen)),
            "learnt_tokens": float(learnt),
            "computed_tokens": float(computed),
            "padding_share": sum(part[2] for part in parts) / max(computed, 1),
        }

    def measure(self) -> Metrics:
        """The loss of held-out samples, and the share of their tokens that the model would choose greedily."""
        if not self.held_out:
            return {}
        passes = micros(self.policy, self.ranks.own(self.held_out), self.micro_tokens or MICRO_TOKENS)
        idle = idle_micros(self.policy, len(passes), self.ranks)
        loss = right = 0.0
        with torch.no_grad():
            for micro in passes:
                found = micro.score(self.policy, likeliest=True)
                loss -= float(found.logprobs_N.sum())
                right += float(found.likeliest_N.sum()) if found.likeliest_N is not None else 0.0
            for micro in idle:
                micro.score(self.policy)
        tokens = max(sum(example.learnt for example in self.held_out), 1)
        parts = self.ranks.gather((loss, right))
        return {
            "held_out_loss": sum(part[0] for part in parts) / tokens,
            "held_out_token_accuracy": sum(part[1] for part in parts) / tokens,
        }
