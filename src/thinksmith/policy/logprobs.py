"""Log-probabilities of given tokens without a tensor of sequence × vocabulary.

The decoder runs once over the padded batch; its output layer then runs over the wanted positions only, in chunks, and
each chunk is computed again in the backward pass. So at most `chunk_tokens` rows of logits exist at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from thinksmith.policy.softmax import LogSoftmax

CHUNK_ELEMENTS = 1 << 24  # logits in one chunk: 64 MB in float32


@dataclass(frozen=True, slots=True)
class LogProbs:
    """`logprobs_BT[b, t]` = log p(ids[b, t] | ids[b, :t]) in nats, 0 where it was not asked for.

    `entropy_BT`: of the distribution that position t was drawn from, in nats; `likeliest_BT` (bool): is the token that
    which the model would choose greedily? None unless asked for.
    """

    logprobs_BT: torch.Tensor
    entropy_BT: torch.Tensor | None = None
    likeliest_BT: torch.Tensor | None = None


def sequence_logprobs(
    model: Any,
    ids_BT: torch.Tensor,
    where_BT: torch.Tensor,
    *,
    entropy: bool = False,
    temperature: float = 1.0,
    likeliest: bool = False,
    chunk_tokens: int | None = None,
) -> LogProbs:
    """Score the tokens at `where_BT` (bool; False at position 0, which has nothing before it) of `ids_BT` (int64).

    Sequences are padded on the right with any valid id. No attention mask is needed: in a causal model nothing before
    the padding sees it. Differentiable with respect to the weights, also through the entropy where it is asked for.
    The softmax is taken in float32, of the distribution sampled at `temperature`. `chunk_tokens` bounds the rows of
    logits that exist at one time.
    """
    if bool(where_BT[:, 0].any()):
        raise ValueError("the first token of a sequence has no log-probability")
    hidden_BTD = model.get_decoder()(input_ids=ids_BT, use_cache=False).last_hidden_state
    hidden_ND = hidden_BTD[:, :-1][where_BT[:, 1:]]
    del hidden_BTD  # nothing else wants it, and logits come
    target_N = ids_BT[:, 1:][where_BT[:, 1:]]
    found = score(
        model,
        hidden_ND,
        target_N,
        entropy=entropy,
        temperature=temperature,
        likeliest=likeliest,
        chunk_tokens=chunk_tokens,
    )
    return LogProbs(
        _scatter(found.logprobs_N, where_BT),
        _scatter(found.entropy_N, where_BT) if found.entropy_N is not None else None,
        _scatter(found.likeliest_N, where_BT) if found.likeliest_N is not None else None,
    )


@dataclass(frozen=True, slots=True)
class Scores:
    """`logprobs_N` of given tokens in nats, `entropy_N` of what each was drawn from, `likeliest_N`: is it the greedy
    choice? The last two are None unless asked for."""

    logprobs_N: torch.Tensor
    entropy_N: torch.Tensor | None = None
    likeliest_N: torch.Tensor | None = None


def score(
    model: Any,
    hidden_ND: torch.Tensor,
    target_N: torch.Tensor,
    *,
    entropy: bool = False,
    temperature: float = 1.0,
    likeliest: bool = False,
    chunk_tokens: int | None = None,
) -> Scores:
    """Score tokens after the decoder's outputs `hidden_ND`, of the distribution sampled at `temperature`."""
    rows = chunk_tokens or max(1, CHUNK_ELEMENTS // model.get_output_embeddings().weight.shape[0])
    # Recomputation pays only if there is more than one chunk to save.
    saving = torch.is_grad_enabled() and len(target_N) > rows
    parts = []
    for hidden_CD, target_C in zip(torch.split(hidden_ND, rows), torch.split(target_N, rows), strict=True):
        if saving:
            how = (entropy, temperature, likeliest)
            parts.append(checkpoint(_score, model, hidden_CD, target_C, *how, use_reentrant=False))
        else:
            parts.append(_score(model, hidden_CD, target_C, entropy, temperature, likeliest))
    if not parts:
        nothing = hidden_ND.new_zeros(0, dtype=torch.float32)
        return Scores(nothing, nothing if entropy else None, nothing.bool() if likeliest else None)
    return Scores(
        torch.cat([part[0] for part in parts]),
        torch.cat([part[1] for part in parts]) if entropy else None,
        torch.cat([part[2] for part in parts]) if likeliest else None,
    )


def likeliest(
    model: Any, ids: Sequence[int], top: int, chunk_tokens: int | None = None
) -> tuple[tuple[float, ...], tuple[tuple[tuple[int, float], ...], ...]]:
    """Log-probability (nats) of each of `ids` but the first, after those before it, and the `top` likeliest (id,
    log-probability) pairs there. No gradients; at most `chunk_tokens` rows of logits exist at one time."""
    weight = model.get_output_embeddings().weight
    rows = chunk_tokens or max(1, CHUNK_ELEMENTS // weight.shape[0])
    found: list[float] = []
    best: list[tuple[tuple[int, float], ...]] = []
    with torch.no_grad():
        ids_1T = torch.tensor([list(ids)], device=weight.device)
        hidden_TD = model.get_decoder()(input_ids=ids_1T, use_cache=False).last_hidden_state[0, :-1]
        for hidden_CD, target_C in zip(torch.split(hidden_TD, rows), torch.split(ids_1T[0, 1:], rows), strict=True):
            logprobs_CV = head_logits(model, hidden_CD).log_softmax(-1)
            found += logprobs_CV.gather(-1, target_C[:, None])[:, 0].tolist()
            values_CK, ids_CK = logprobs_CV.topk(min(top, logprobs_CV.shape[1]), -1)
            best += [tuple(zip(*row, strict=True)) for row in zip(ids_CK.tolist(), values_CK.tolist(), strict=True)]
    return tuple(found), tuple(best)


def head_logits(model: Any, hidden_ND: torch.Tensor) -> torch.Tensor:
    """The model's logits in float32 for decoder outputs, with what some architectures do after the output layer."""
    logits_NV: torch.Tensor = model.get_output_embeddings()(hidden_ND).float()
    config = model.config.get_text_config()
    if scale := getattr(config, "logit_scale", None):  # Cohere
        logits_NV = logits_NV * scale
    if divisor := getattr(config, "logits_scaling", None):  # Granite
        logits_NV = logits_NV / divisor
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma 2 and 3
        logits_NV = torch.tanh(logits_NV / cap) * cap
    return logits_NV


def _score(
    model: Any, hidden_CD: torch.Tensor, target_C: torch.Tensor, entropy: bool, temperature: float, likeliest: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probability and entropy of each row, and is it the greedy choice (0 and False where not wanted)?"""
    logits_CV = head_logits(model, hidden_CD)
    if temperature != 1.0:
        logits_CV = logits_CV / temperature
    top_C = logits_CV.argmax(-1) == target_C if likeliest else torch.zeros_like(target_C, dtype=torch.bool)
    logprobs_C, entropy_C = LogSoftmax.apply(logits_CV, target_C, entropy)  # type: ignore[no-untyped-call]
    return logprobs_C, entropy_C, top_C


def _scatter(values_N: torch.Tensor, where_BT: torch.Tensor) -> torch.Tensor:
    return torch.zeros(where_BT.shape, dtype=values_N.dtype, device=values_N.device).masked_scatter(where_BT, values_N)
