"""Draws tokens: random numbers keyed by (seed, sample, position), inverse of the cumulative distribution.

A counter-based generator (SplitMix64, Steele et al. 2014, "Fast splittable pseudorandom number generators") gives one
uniform number a token. It has no state, so what a row draws depends on nothing but its own key, position and logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as int64
BLOCK = 256  # vocabulary entries summed as one in the first level of the cumulative sum


@dataclass(frozen=True, slots=True)
class Rules:
    """How each of B rows is drawn. A filter is None where no row uses it; `temperature_B` 0 is greedy.

    `ban` (rows, ids): pairs of a row and an id that it may not draw. `allow` (rows, bits [rows, vocabulary / 32] in
    int32): these rows draw only ids whose bit is set, which is bit i % 32 of number i // 32. `swap` (rows, ids,
    instead): where a row draws one of the ids, it gets its own `instead`. `force` (rows, id of each): taken whatever
    the distribution says.
    `seen_BV` marks the ids that `penalty_B` is for. `top`: so many of the likeliest tokens are told.
    """

    key_B: torch.Tensor
    step_B: torch.Tensor
    temperature_B: torch.Tensor
    greedy: bool = False  # every row is
    top_k_B: torch.Tensor | None = None
    top_p_B: torch.Tensor | None = None
    min_p_B: torch.Tensor | None = None
    penalty_B: torch.Tensor | None = None
    seen_BV: torch.Tensor | None = None
    ban: tuple[torch.Tensor, torch.Tensor] | None = None
    allow: tuple[torch.Tensor, torch.Tensor] | None = None
    swap: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
    force: tuple[torch.Tensor, torch.Tensor] | None = None
    top: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """The next token of each row (-1 where its logits are not finite) and its log-probability at temperature 1, without
    penalty and filters. `swapped_B` tells where `swap` took place; `top` holds ids and log-probabilities [B, top]."""

    token_B: torch.Tensor
    logprob_B: torch.Tensor
    swapped_B: torch.Tensor | None = None
    top: tuple[torch.Tensor, torch.Tensor] | None = None

    def first(self, count: int) -> Drawn:
        """Of the first `count` rows."""
        top = None if self.top is None else (self.top[0][:count], self.top[1][:count])
        swapped_B = None if self.swapped_B is None else self.swapped_B[:count]
        return Drawn(self.token_B[:count], self.logprob_B[:count], swapped_B, top)


def row_key(seed: int, sample: int) -> int:
    """The key (int64) of a request's sample number `sample`."""
    return _mix_int(_mix_int(seed & _ALL) + sample)


def uniform(key_B: torch.Tensor, step_B: torch.Tensor) -> torch.Tensor:
    """One number in [0, 1) for each row (float32, multiples of 2^-24): a function of key and step alone."""
    return (_mix(key_B + (step_B + 1) * GOLDEN) >> 40 & 0xFFFFFF).float() * 2.0**-24


def draw(logits_BV: torch.Tensor, rules: Rules) -> Drawn:
    """Draw the next token of each row; logits in float32."""
    total_B = logits_BV.logsumexp(-1)
    allowed_BV = _allowed(logits_BV, rules)
    token_B = allowed_BV.argmax(-1)
    if not rules.greedy:
        drawn_B = _inverse_cdf(_probabilities(allowed_BV, rules), uniform(rules.key_B, rules.step_B))
        token_B = torch.where(rules.temperature_B > 0, drawn_B, token_B)
    swapped_B = None
    if rules.swap is not None:
        rows, ids, instead = rules.swap
        hit = torch.isin(token_B[rows], ids)
        token_B[rows] = torch.where(hit, instead, token_B[rows])
        swapped_B = torch.zeros_like(token_B, dtype=torch.bool).index_copy_(0, rows, hit)
    if rules.force is not None:
        rows, ids = rules.force
        token_B[rows] = ids
    logprob_B = logits_BV.gather(-1, token_B[:, None])[:, 0] - total_B
    top = None
    if rules.top:
        likeliest = logits_BV.topk(rules.top, -1)
        top = (likeliest.indices, likeliest.values - total_B[:, None])
    return Drawn(token_B.masked_fill_(~torch.isfinite(logprob_B), -1), logprob_B, swapped_B, top)


def _allowed(logits_BV: torch.Tensor, rules: Rules) -> torch.Tensor:
    """The logits after penalties, bans and grammars; the caller's tensor stays as it is."""
    if rules.penalty_B is not None and rules.seen_BV is not None:
        penalty_B1 = rules.penalty_B[:, None]
        punished_BV = torch.where(logits_BV > 0, logits_BV / penalty_B1, logits_BV * penalty_B1)
        logits_BV = torch.where(rules.seen_BV, punished_BV, logits_BV)
    if rules.ban is not None:
        rows, ids = rules.ban
        logits_BV = logits_BV.clone()
        logits_BV[rows, ids] = -torch.inf
    if rules.allow is not None:
        rows, bits_RW = rules.allow
        logits_BV = logits_BV.clone()
        logits_BV[rows] = logits_BV[rows].masked_fill(~_unpacked(bits_RW, logits_BV.shape[1]), -torch.inf)
    return logits_BV


def _unpacked(bits_RW: torch.Tensor, vocab: int) -> torch.Tensor:
    """[R, vocabulary] (bool); what has no bit is not set."""
    bits_RV = (bits_RW[:, :, None] >> torch.arange(32, device=bits_RW.device, dtype=torch.int32) & 1).bool().flatten(1)
    return torch.nn.functional.pad(bits_RV, (0, vocab - bits_RV.shape[1]))


def _probabilities(logits_BV: torch.Tensor, rules: Rules) -> torch.Tensor:
    """What is drawn from, not normalised. Filters apply in the usual order: temperature, top-k, top-p, min-p."""
    # A greedy row among others: any temperature does, its draw is not used.
    temperature_B = torch.where(rules.temperature_B > 0, rules.temperature_B, 1.0)
    probs_BV = torch.softmax(logits_BV / temperature_B[:, None], -1)
    if rules.top_k_B is not None or rules.top_p_B is not None:
        probs_BV = _keep_top(probs_BV, rules.top_k_B, rules.top_p_B)
    if rules.min_p_B is not None:
        floor_B = probs_BV.amax(-1) * rules.min_p_B
        probs_BV = probs_BV.masked_fill(probs_BV < floor_B[:, None], 0.0)
    return probs_BV


def _keep_top(probs_BV: torch.Tensor, top_k_B: torch.Tensor | None, top_p_B: torch.Tensor | None) -> torch.Tensor:
    """Zero what lies outside the top k and outside the smallest set of mass top_p; the first is always kept."""
    sorted_BV, order_BV = probs_BV.sort(dim=-1, descending=True, stable=True)
    kept_BV = torch.ones_like(sorted_BV, dtype=torch.bool)
    if top_k_B is not None:
        kept_BV &= torch.arange(sorted_BV.shape[1], device=sorted_BV.device) < top_k_B[:, None]
    if top_p_B is not None:
        head_BV = sorted_BV.masked_fill(~kept_BV, 0.0)
        before_BV = head_BV.cumsum(-1) - head_BV
        kept_BV &= (before_BV < top_p_B[:, None] * head_BV.sum(-1, keepdim=True)) | (top_p_B[:, None] >= 1.0)
    kept_BV[:, 0] = True
    return torch.zeros_like(probs_BV).scatter_(-1, order_BV, sorted_BV.masked_fill(~kept_BV, 0.0))


def _inverse_cdf(mass_BV: torch.Tensor, uniform_B: torch.Tensor) -> torch.Tensor:
    """The index at which the cumulative mass passes uniform × total.

    In two levels, blocks and then entries of one block: rounding does not pile up over a large vocabulary.
    """
    batch, vocab = mass_BV.shape
    blocks = -(-vocab // BLOCK)
    mass_BNK = torch.nn.functional.pad(mass_BV, (0, blocks * BLOCK - vocab)).view(batch, blocks, BLOCK)
    block_B, rest_B = _pass(mass_BNK.sum(-1), uniform_B, share=True)
    inside_BK = mass_BNK[torch.arange(batch, device=mass_BV.device), block_B]
    entry_B, _ = _pass(inside_BK, rest_B, share=False)
    return (block_B * BLOCK + entry_B).clamp_(max=vocab - 1)  # a row that is not finite may end in the padding


def _pass(mass_BN: torch.Tensor, target_B: torch.Tensor, share: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The first index whose cumulative mass exceeds the target (a share of the total or a mass), and the rest."""
    cumulative_BN = mass_BN.cumsum(-1)
    total_B = cumulative_BN[:, -1]
    target_B = target_B * total_B if share else target_B
    # Rounding may put the target at the total; below it lies an entry that has mass.
    target_B = torch.minimum(target_B, torch.nextafter(total_B, torch.zeros_like(total_B)))
    index_B = torch.searchsorted(cumulative_BN, target_B[:, None], right=True)[:, 0].clamp_(max=mass_BN.shape[1] - 1)
    before_B = torch.where(index_B > 0, cumulative_BN.gather(-1, (index_B - 1).clamp(min=0)[:, None])[:, 0], 0.0)
    return index_B, (target_B - before_B).clamp_(min=0.0)


_ALL = (1 << 64) - 1


def _mix(x: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finaliser on int64 (products wrap; shifts are made logical by a mask)."""
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * -0x40A7B892E31B1A47
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * -0x6B2FB644ECCEEE15
    return x ^ (x >> 31 & (1 << 33) - 1)


def _mix_int(x: int) -> int:
    """The same for a Python integer, with the counter's increment, as int64."""
    x = x + 0x9E3779B97F4A7C15 & _ALL
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _ALL
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _ALL
    x ^= x >> 31
    return x - (1 << 64) if x >> 63 else x
