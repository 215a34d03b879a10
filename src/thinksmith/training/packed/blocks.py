"""Attention of some queries to some keys, forward and backward, in pieces that stay in a processor's cache.

Softmax over several sets of keys can be taken set by set: with the logarithm of each set's sum of exponentials (`lse`)
the outputs are put together, and with the output and the `lse` of the whole, each set's share of the gradient is exact
(Dao et al. 2022, arXiv:2205.14135, algorithm 4; Liu et al. 2023, arXiv:2310.01889).

Shapes: B independent products (a head of a sequence, or of a prompt), G query heads that share a key head, T queries, S
keys, D numbers a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

SCORES = 1 << 19  # at a time: 2 MB in float32
FUSED = 128  # keys that all queries see, from which on torch's fused kernel is faster, up to twice
QUERIES = 128  # a causal piece has so many at most: what it must not see costs it half as many keys

_FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def attend(
    q_BGTD: Tensor, k_BSD: Tensor, v_BSD: Tensor, scale: float, out_BGTD: Tensor, lse_BGT: Tensor, *, causal: bool
) -> None:
    """Write the outputs and their lse. With `causal`, query t sees keys 0..t, and T = S."""
    q_BGTD = q_BGTD * scale
    for rows, queries, keys in _pieces(q_BGTD, k_BSD.shape[1], causal):
        weight_bXs = torch.bmm(_stacked(q_BGTD, rows, queries), k_BSD[rows, keys].mT)
        _hide(weight_bXs, queries if causal else None)
        largest_bX1 = weight_bXs.amax(-1, keepdim=True)
        weight_bXs.sub_(largest_bX1).exp_()
        sum_bX1 = weight_bXs.sum(-1, keepdim=True)
        out_bXD = torch.bmm(weight_bXs, v_BSD[rows, keys])
        piece = out_BGTD[rows, :, queries]
        torch.div(out_bXD.view(piece.shape), sum_bX1.view(*piece.shape[:3], 1), out=piece)
        torch.add(
            largest_bX1.view(piece.shape[:3]), sum_bX1.log_().view(piece.shape[:3]), out=lse_BGT[rows, :, queries]
        )


def attend_backward(
    grad_BGTD: Tensor,
    q_BGTD: Tensor,
    k_BSD: Tensor,
    v_BSD: Tensor,
    lse_BGT: Tensor,
    dot_BGT: Tensor,
    scale: float,
    *,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values. `lse_BGT` is that of all the keys that a query sees, those that are not
    here too, and `dot_BGT` the product of its whole output with that output's gradient."""
    q_BGTD, lse_BGT1, dot_BGT1 = q_BGTD * scale, lse_BGT[..., None], dot_BGT[..., None]
    dq_BGTD = torch.empty_like(q_BGTD, memory_format=torch.contiguous_format)
    dk_BSD, dv_BSD = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (k_BSD, v_BSD))
    for rows, queries, keys in _pieces(q_BGTD, k_BSD.shape[1], causal):
        q_bXD, k_bsD, grad_bXD = _stacked(q_BGTD, rows, queries), k_BSD[rows, keys], _stacked(grad_BGTD, rows, queries)
        weight_bXs = torch.bmm(q_bXD, k_bsD.mT).sub_(_stacked(lse_BGT1, rows, queries))
        _hide(weight_bXs, queries if causal else None)
        weight_bXs.exp_()
        last = queries.stop == q_BGTD.shape[2]  # comes first, and sees all keys
        _add(dv_BSD[rows, keys], weight_bXs.mT, grad_bXD, new=last)
        change_bXs = torch.bmm(grad_bXD, v_BSD[rows, keys].mT).sub_(_stacked(dot_BGT1, rows, queries)).mul_(weight_bXs)
        _add(dk_BSD[rows, keys], change_bXs.mT, q_bXD, new=last)
        piece = dq_BGTD[rows, :, queries]
        torch.mul(torch.bmm(change_bXs, k_bsD).view(piece.shape), scale, out=piece)
    return dq_BGTD, dk_BSD, dv_BSD


def see_all(q_BGTD: Tensor, k_BSD: Tensor, v_BSD: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Outputs [B, G, T, D] and lse [B, G, T] where every query sees all keys."""
    if k_BSD.shape[1] >= FUSED:
        found: tuple[Tensor, Tensor] = _FORWARD(q_BGTD, k_BSD[:, None], v_BSD[:, None], scale=scale)
        return found
    out_BGTD = torch.empty_like(q_BGTD, memory_format=torch.contiguous_format)
    lse_BGT = q_BGTD.new_empty(q_BGTD.shape[:3])
    attend(q_BGTD, k_BSD, v_BSD, scale, out_BGTD, lse_BGT, causal=False)
    return out_BGTD, lse_BGT


def see_all_backward(
    grad_BGTD: Tensor,
    q_BGTD: Tensor,
    k_BSD: Tensor,
    v_BSD: Tensor,
    out_BGTD: Tensor,
    lse_BGT: Tensor,
    dot_BGT: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `attend_backward`; `out_BGTD` is the whole output."""
    if k_BSD.shape[1] < FUSED:
        return attend_backward(grad_BGTD, q_BGTD, k_BSD, v_BSD, lse_BGT, dot_BGT, scale, causal=False)
    known = (k_BSD[:, None], v_BSD[:, None], out_BGTD, lse_BGT)
    dq_BGTD, dk_B1SD, dv_B1SD = _BACKWARD(grad_BGTD, q_BGTD, *known, 0.0, False, scale=scale)
    return dq_BGTD, dk_B1SD[:, 0], dv_B1SD[:, 0]


def _add(to_bsD: Tensor, one_bsX: Tensor, other_bXD: Tensor, *, new: bool) -> None:
    if new:
        torch.bmm(one_bsX, other_bXD, out=to_bsD)
    else:
        to_bsD.baddbmm_(one_bsX, other_bXD)


def _pieces(q_BGTD: Tensor, keys: int, causal: bool) -> Iterator[tuple[slice, slice, slice]]:
    """Rows of B, queries (the last first), and the keys that these see."""
    batch, group, length, _ = q_BGTD.shape
    most = max(1, SCORES // (group * keys))
    step = min(length, QUERIES if causal else length, most)
    rows = max(1, most // step)
    for row in range(0, batch, rows):
        for end in range(length, 0, -step):
            yield slice(row, row + rows), slice(max(0, end - step), end), slice(0, end if causal else keys)


def _stacked(x_BGTD: Tensor, rows: slice, queries: slice) -> Tensor:
    """[b, G * t, D]: the heads of a group one under the other."""
    piece = x_BGTD[rows, :, queries]
    return piece.reshape(len(piece), -1, piece.shape[-1])


def _hide(score_bXs: Tensor, queries: slice | None) -> None:
    """Minus infinity where a query of a causal piece (`queries`) must not look."""
    if queries is not None:
        count = queries.stop - queries.start
        score_bXs.view(len(score_bXs), -1, count, score_bXs.shape[-1])[..., queries.start :] += _hidden(
            count, score_bXs.dtype
        )


@lru_cache(QUERIES)
def _hidden(count: int, dtype: torch.dtype) -> Tensor:
    """Minus infinity above the diagonal."""
    return torch.full((count, count), -torch.inf, dtype=dtype).triu_(1)
