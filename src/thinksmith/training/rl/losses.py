"""Policy-gradient losses over completion tokens. Each docstring states the formula, its source and its normaliser.

A loss is computed from a micro-batch but normalised by the whole step (`Normaliser`), so that the sum of the
micro-batches' gradients is the gradient of the step, however it is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LossType = Literal["grpo", "dapo", "dr_grpo"]


@dataclass(frozen=True, slots=True)
class Normaliser:
    """What a token's loss is divided by: a function of all completions of the step, not of the micro-batch.

    grpo:    |o_i| * G          mean over tokens of a completion, then over completions (Shao et al. 2024, equation 3)
    dapo:    sum of all |o_i|   mean over the tokens of the step (Yu et al. 2025, arXiv:2503.14476, equation 8)
    dr_grpo: max_tokens * G     a constant, so length is neither rewarded nor punished (Liu et al. 2025, section 3.3)
    """

    loss_type: LossType
    lengths: tuple[int, ...]
    max_tokens: int

    def weights(self, indices: Sequence[int]) -> list[float]:
        """The weight of one token of each of these completions."""
        count = len(self.lengths)
        if self.loss_type == "grpo":
            return [1.0 / (max(self.lengths[i], 1) * count) for i in indices]
        if self.loss_type == "dapo":
            return [1.0 / max(sum(self.lengths), 1)] * len(indices)
        return [1.0 / (self.max_tokens * count)] * len(indices)


@dataclass(frozen=True, slots=True)
class Loss:
    """`value` is this micro-batch's share of the step's loss; the rest are sums over its tokens, for metrics."""

    value: Tensor
    tokens: int
    clipped: int
    kl_sum: float


def clipped_loss(
    logprobs_N: Tensor,
    old_logprobs_N: Tensor,
    advantages_N: Tensor,
    weights_N: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> Loss:
    """sum over tokens of w · -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), with r = exp(logprob - old logprob).

    All tensors have one entry per completion token of the micro-batch ([N], natural log). The PPO clip (Schulman et al.
    2017, arXiv:1707.06347, equation 7) token by token; clip_high > clip_low is DAPO's clip-higher. `kl_sum` estimates
    KL(old || new) from samples of old by k3 = r - 1 - log r (Schulman 2020, "Approximating KL divergence").
    """
    log_ratio_N = logprobs_N - old_logprobs_N
    ratio_N = torch.exp(log_ratio_N)
    clipped_N = torch.clamp(ratio_N, 1 - clip_low, 1 + clip_high)
    surrogate_N = torch.minimum(ratio_N * advantages_N, clipped_N * advantages_N)
    value = -(weights_N * surrogate_N).sum()
    with torch.no_grad():
        active_N = clipped_N * advantages_N < ratio_N * advantages_N
        kl_N = ratio_N - 1 - log_ratio_N
    return Loss(value, logprobs_N.numel(), int(active_N.sum()), float(kl_N.sum()))
