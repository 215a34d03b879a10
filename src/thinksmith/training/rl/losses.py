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

LossType = Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "gspo"]
KLEstimator = Literal["k1", "k2", "k3"]

# exp of more than 88 nats is infinite in fp32, and its gradient is NaN as soon as it meets a zero. No bound of a ratio
# that anyone sets is near exp(60), so where a ratio has an upper bound at all, this one changes nothing.
CAP = 60.0


@dataclass(frozen=True, slots=True)
class LossRules:
    """Which loss, and its bounds. `clip_low` and `clip_high` are distances from 1, but for cispo: there `clip_high` is
    the bound itself. `delta`: the largest ratio that a bad token may weigh (0: no bound). `beta`: the weight of the KL
    to the reference, per token."""

    loss_type: LossType
    clip_low: float = 0.2
    clip_high: float = 0.28
    delta: float = 0.0
    beta: float = 0.0
    kl_estimator: KLEstimator = "k3"


@dataclass(frozen=True, slots=True)
class Normaliser:
    """What a token's loss is divided by: a function of all completions of the optimiser step, never of the micro-batch.

    grpo, gspo:  |o_i| * G            mean over tokens of a completion, then over completions (Shao et al. 2024,
                                      arXiv:2402.03300, equation 3; Zheng et al. 2025, arXiv:2507.18071, equation 5)
    bnpo:        T                    mean over the tokens of the optimiser step
    dapo, cispo: T_rollout / M        mean over the tokens of the rollout, shared by the M optimiser steps of one pass
                                      over it (Yu et al. 2025, arXiv:2503.14476, equation 8; MiniMax 2025,
                                      arXiv:2506.13585, equation 4)
    dr_grpo:     max_tokens * G       a constant, so length is neither rewarded nor punished (Liu et al. 2025,
                                      arXiv:2503.20783, section 3.3)

    G = len(lengths) is the number of completions of this optimiser step, on all ranks, also of those without advantage.
    `lengths` are their learnt tokens |o_i|, T their sum. A completion that is masked because it was cut off has length
    0: its tokens leave T, but it stays in G. `of_rollout` is T_rollout; none: this step trains on the whole rollout, in
    `minibatches` = 1. bnpo and dapo differ only where there are several minibatches.

    As in TRL 1.16, but for bnpo: TRL takes the tokens of the micro-batch, so there the cut changes the loss.
    """

    loss_type: LossType
    lengths: tuple[int, ...]
    max_tokens: int
    of_rollout: int | None = None
    minibatches: int = 1

    def weights(self, indices: Sequence[int]) -> list[float]:
        """The weight of one token of each of these completions."""
        count, tokens = len(self.lengths), sum(self.lengths)
        if self.loss_type in ("grpo", "gspo"):
            return [1.0 / (max(self.lengths[i], 1) * count) for i in indices]
        if self.loss_type == "dr_grpo":
            return [1.0 / (self.max_tokens * count)] * len(indices)
        if self.loss_type == "bnpo":
            return [1.0 / max(tokens, 1)] * len(indices)
        whole = tokens if self.of_rollout is None else self.of_rollout
        return [self.minibatches / max(whole, 1)] * len(indices)


@dataclass(frozen=True, slots=True)
class Loss:
    """A micro-batch's share of the step's loss (`value`), and sums for metrics.

    ratios: how many importance ratios there were: tokens, for gspo completions. `clipped_low`, `clipped_high`: those of
    them that have gone far enough down or up, so that they have no gradient (for cispo: good tokens whose weight was
    cut; nothing is cut below). `kl_sum`: KL(policy || reference) by the rules' estimator, over tokens, in nats, without
    beta; 0 without a reference. `drift_sum`: KL(old || policy), over tokens, in nats, by k3; it is one where the
    completions were drawn at temperature 1. `largest_ratio` may be infinite.
    """

    value: Tensor
    tokens: int
    ratios: int
    clipped_low: int
    clipped_high: int
    kl_sum: float
    drift_sum: float
    largest_ratio: float


def policy_loss(
    logprobs_N: Tensor,
    old_logprobs_N: Tensor,
    advantages_N: Tensor,
    weights_N: Tensor,
    rules: LossRules,
    *,
    rows_N: Tensor,
    reference_N: Tensor | None = None,
    mask_N: Tensor | None = None,
) -> Loss:
    """sum over tokens of w (-m gain + beta KL), where r = exp(logprob - old logprob), A is the advantage, and gain is

    grpo, bnpo, dr_grpo, dapo:  min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), the PPO clip token by token (Schulman
                                et al. 2017, arXiv:1707.06347, equation 7); clip_high > clip_low is DAPO's clip-higher.
                                With delta, r A becomes min(r, delta) A: the dual clip (Ye et al. 2020,
                                arXiv:1912.09729), which matters where A < 0 and needs delta > 1 + clip_high.
    gspo:                       the same, with s = exp(mean of logprob - old logprob over the completion) in the place
                                of r (Zheng et al. 2025, arXiv:2507.18071, equations 5 and 7); its clips are of the
                                order of 1e-4, since a mean over many tokens moves little.
    cispo:                      stop-gradient(min(r, clip_high)) A logprob (MiniMax 2025, arXiv:2506.13585, equation 4),
                                so that no token is left out; there is no lower bound, and `clip_high` is no distance.

    All tensors have one entry per learnt token of the micro-batch ([N], natural log, any order). w = `weights_N` is of
    `Normaliser.weights`. `rows_N` (int64) tells which completion a token belongs to; a completion must not be split
    over micro-batches. m = `mask_N` (bool; none: all) keeps tokens in the policy loss; the others have their KL and
    count in s and in w all the same, as in TRL 1.16. KL is `kl_estimate` to `reference_N`; ValueError if there is none
    though beta is not 0.

    Two terms have no upper bound and may overflow in fp32, beyond 88 nats: r where A < 0 without delta, and k3 where
    the policy is that far below the reference. Value and gradient are infinite then, as the formulas have it, but not
    NaN. All others are finite for any finite log-probs.
    """
    if rules.beta != 0.0 and reference_N is None:
        raise ValueError("beta needs the log-probs of the reference")
    log_ratio_N = logprobs_N - old_logprobs_N
    counts_N = _row_sums(torch.ones_like(weights_N), rows_N) if rules.loss_type == "gspo" else None
    log_weight_N = log_ratio_N if counts_N is None else _row_sums(log_ratio_N, rows_N) / counts_N
    if rules.loss_type == "cispo":
        bounded_N = torch.exp(log_weight_N.detach()).clamp(max=rules.clip_high)
        gain_N = bounded_N * advantages_N * logprobs_N
    else:
        gain_N = _clipped_gain(log_weight_N, advantages_N, rules, mask_N)
    if mask_N is not None:
        gain_N = torch.where(mask_N, gain_N, 0.0)
    loss_N, kl_N = -gain_N, None
    if reference_N is not None:
        kl_N = kl_estimate(logprobs_N, reference_N, rules.kl_estimator)
    if kl_N is not None and rules.beta != 0.0:
        loss_N = loss_N + rules.beta * kl_N
    return _measured((weights_N * loss_N).sum(), log_ratio_N, log_weight_N, advantages_N, kl_N, counts_N, rules)


def kl_estimate(logprobs_N: Tensor, reference_N: Tensor, estimator: KLEstimator) -> Tensor:
    """An estimate of KL(p || ref) from each sampled token, in nats, [N] (Schulman 2020, "Approximating KL divergence").

    With d = log ref - log p:     k1 = -d        k2 = d^2 / 2        k3 = exp(d) - d - 1

    As a number, k1 and k3 are unbiased where the tokens were drawn from p (k3 varies less and is never negative); k2 is
    biased. As a loss it is another matter, because the gradient of a sample's value is not that of the expectation. At
    one position, over the whole vocabulary, with tokens drawn from p:

    k1:  gradient     grad log p  expectation 0: no pull towards the reference, only noise
    k2:  gradient  -d grad log p  expectation: the gradient of KL(p || ref), which is what one means
    k3:  gradient  (1 - exp(d)) grad log p  expectation -sum(ref grad log p): the gradient of KL(ref || p), the other
         direction; about that of k2 where p and ref are close

    Once p has moved from the policy that drew the tokens, none of this is exact: no ratio corrects it.
    """
    distance_N = reference_N - logprobs_N
    if estimator == "k1":
        return -distance_N
    if estimator == "k2":
        return distance_N.square() / 2
    return torch.expm1(distance_N) - distance_N  # expm1: near 0 the sum would lose all its digits


def top_entropy_mask(entropy_N: Tensor, quantile: float, *, of_step: Tensor | None = None) -> Tensor:
    """Which tokens are among the share `quantile` (0..1] of highest entropy: entropy >= its (1 - quantile) quantile,
    bool [N] (Wang et al. 2025, arXiv:2506.01939).

    The threshold is that of all learnt tokens of the optimiser step (`of_step`, any length; none: `entropy_N` is all of
    them), so it does not depend on the micro-batch. TRL 1.16 takes it from each micro-batch. Of tied tokens at the
    threshold all are kept. Entropies in any unit; at most 2^24 tokens (a limit of torch.quantile).
    """
    all_N = (entropy_N if of_step is None else of_step).detach().float()
    if quantile >= 1.0 or all_N.numel() == 0:
        return torch.ones_like(entropy_N, dtype=torch.bool)
    return entropy_N.detach().float() >= torch.quantile(all_N, 1 - quantile)


def _row_sums(values_N: Tensor, rows_N: Tensor) -> Tensor:
    """For each token the sum over its completion, [N]."""
    rows = int(rows_N.max()) + 1 if rows_N.numel() else 0
    return values_N.new_zeros(rows).index_add(0, rows_N, values_N)[rows_N]


def _clipped_gain(log_weight_N: Tensor, advantages_N: Tensor, rules: LossRules, mask_N: Tensor | None) -> Tensor:
    unbounded_N = advantages_N < 0
    if rules.delta:
        unbounded_N = torch.zeros_like(unbounded_N)
    elif mask_N is not None:
        unbounded_N = unbounded_N & mask_N
    capped_N = torch.where(~unbounded_N & (log_weight_N > CAP), CAP, log_weight_N)
    ratio_N = torch.exp(capped_N)
    clipped_N = ratio_N.clamp(1 - rules.clip_low, 1 + rules.clip_high)
    if rules.delta:
        ratio_N = ratio_N.clamp(max=rules.delta)
    return torch.minimum(ratio_N * advantages_N, clipped_N * advantages_N)


@torch.no_grad()
def _measured(
    value: Tensor,
    log_ratio_N: Tensor,
    log_weight_N: Tensor,
    advantages_N: Tensor,
    kl_N: Tensor | None,
    counts_N: Tensor | None,
    rules: LossRules,
) -> Loss:
    ratio_N = torch.exp(log_weight_N)
    if rules.loss_type == "cispo":
        low_N, high = torch.zeros_like(ratio_N, dtype=torch.bool), rules.clip_high
    else:
        low_N, high = (ratio_N < 1 - rules.clip_low) & (advantages_N < 0), 1 + rules.clip_high
    high_N = (ratio_N > high) & (advantages_N > 0)
    share_N = torch.ones_like(ratio_N) if counts_N is None else 1 / counts_N  # the tokens of a completion make one
    drift_N = torch.expm1(log_ratio_N) - log_ratio_N
    zero = ratio_N.new_zeros(())
    sums = [share_N.sum(), (share_N * low_N).sum(), (share_N * high_N).sum(), drift_N.sum()]
    sums += [zero if kl_N is None else kl_N.sum(), ratio_N.max() if ratio_N.numel() else zero]
    ratios, low_sum, high_sum, drift, kl, largest = torch.stack(sums).tolist()  # one wait for the device, not six
    return Loss(value, log_ratio_N.numel(), round(ratios), round(low_sum), round(high_sum), kl, drift, largest)
