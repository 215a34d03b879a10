"""Attention over a packed row by torch's products, in pieces: for any type of numbers, and where no C compiler is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinksmith.training.packed.blocks import attend, attend_backward, see_all, see_all_backward
from thinksmith.training.packed.layout import Layout


class PieceAttention(torch.autograd.Function):
    """[H, N, D] of queries [H, N, D] and keys and values [K, N, D]."""

    @staticmethod
    def forward(ctx: Any, q_HND: Tensor, k_KND: Tensor, v_KND: Tensor, layout: Layout, scale: float) -> Tensor:
        heads, kv_heads, buckets = len(q_HND), len(k_KND), layout.buckets
        group = heads // kv_heads
        wide_q_HND, wide_k_KND, wide_v_KND = _wide(q_HND), _wide(k_KND), _wide(v_KND)
        q_XD, k_YD, v_YD = buckets.into(wide_q_HND, group), buckets.into(wide_k_KND, 1), buckets.into(wide_v_KND, 1)
        out_XD, lse_X1 = torch.empty_like(q_XD), q_XD.new_empty(len(q_XD), 1)
        outs, lses = buckets.parts(out_XD, heads, group), buckets.parts(lse_X1, heads, group)
        keys, values = buckets.parts(k_YD, kv_heads, 1), buckets.parts(v_YD, kv_heads, 1)
        for part, key, value, out, lse in zip(buckets.parts(q_XD, heads, group), keys, values, outs, lses, strict=True):
            attend(part, key[:, 0], value[:, 0], scale, out, lse[..., 0], causal=True)
        out_HND, lse_HN = buckets.back(out_XD, heads, group), buckets.back(lse_X1, heads, group)[..., 0]
        for crossing in layout.crossings:
            seers, seen = (slice(part.start, part.end) for part in (crossing.seers, crossing.seen))
            q_KGTD = wide_q_HND.view(kv_heads, group, *q_HND.shape[1:])[:, :, seers]
            more_KGTD, lse_KGT = see_all(q_KGTD, wide_k_KND[:, seen], wide_v_KND[:, seen], scale)
            _join(out_HND[:, seers], lse_HN[:, seers], more_KGTD.flatten(0, 1), lse_KGT.flatten(0, 1))
        out_HND = out_HND.to(q_HND.dtype)
        ctx.save_for_backward(q_HND, k_KND, v_KND, out_HND, lse_HN)
        ctx.layout, ctx.scale = layout, scale
        return out_HND

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad_HND,) = grads
        q_HND, k_KND, v_KND, out_HND, lse_HN = ctx.saved_tensors
        numbers = (q_HND.dtype, k_KND.dtype, v_KND.dtype)
        q_HND, k_KND, v_KND, out_HND, grad_HND = map(_wide, (q_HND, k_KND, v_KND, out_HND, grad_HND))
        layout, scale = ctx.layout, ctx.scale
        heads, kv_heads = len(q_HND), len(k_KND)
        group = heads // kv_heads
        dot_HN = (grad_HND * out_HND).sum(-1)
        dq_HND, dk_KND, dv_KND = _backward_within(grad_HND, q_HND, k_KND, v_KND, lse_HN, dot_HN, layout, scale)
        for crossing in layout.crossings:
            seers, seen = (slice(part.start, part.end) for part in (crossing.seers, crossing.seen))
            grad, q, out, lse, dot = (
                x.reshape(kv_heads, group, *x.shape[1:])[:, :, seers]
                for x in (grad_HND, q_HND, out_HND, lse_HN, dot_HN)
            )
            more = see_all_backward(grad, q, k_KND[:, seen], v_KND[:, seen], out, lse, dot, scale)
            dq_HND[:, seers] += more[0].reshape(heads, -1, more[0].shape[-1])
            dk_KND[:, seen] += more[1]
            dv_KND[:, seen] += more[2]
        grads = tuple(x.to(number) for x, number in zip((dq_HND, dk_KND, dv_KND), numbers, strict=True))
        return *grads, None, None


def _backward_within(
    grad_HND: Tensor,
    q_HND: Tensor,
    k_KND: Tensor,
    v_KND: Tensor,
    lse_HN: Tensor,
    dot_HN: Tensor,
    layout: Layout,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients from each segment's attention to itself."""
    heads, kv_heads, buckets = len(q_HND), len(k_KND), layout.buckets
    group = heads // kv_heads
    seers = [buckets.into(x, group) for x in (grad_HND, q_HND, lse_HN[..., None], dot_HN[..., None])]
    seers[2].masked_fill_(buckets.padding(heads, group)[:, None], torch.inf)  # so padding weighs nothing
    narrow = [buckets.into(x, 1) for x in (k_KND, v_KND)]
    parts = zip(
        *(buckets.parts(x, heads, group) for x in seers), *(buckets.parts(x, kv_heads, 1) for x in narrow), strict=True
    )
    found = [
        attend_backward(grad, q, k[:, 0], v[:, 0], lse[..., 0], dot[..., 0], scale, causal=True)
        for grad, q, lse, dot, k, v in parts
    ]
    dq, dk, dv = (torch.cat([each[i].reshape(-1, each[i].shape[-1]) for each in found]) for i in range(3))
    return buckets.back(dq, heads, group), buckets.back(dk, kv_heads, 1), buckets.back(dv, kv_heads, 1)


def _wide(x: Tensor) -> Tensor:
    """Products and their softmax are taken in float32 at least, as fused kernels do."""
    return x.float() if x.dtype.itemsize < 4 else x


def _join(out_HTD: Tensor, lse_HT: Tensor, more_HTD: Tensor, more_lse_HT: Tensor) -> None:
    """Put the attention to further keys into that to the first ones, in place."""
    whole_HT = torch.logaddexp(lse_HT, more_lse_HT)
    out_HTD.mul_((lse_HT - whole_HT).exp()[..., None]).addcmul_(more_HTD, (more_lse_HT - whole_HT).exp()[..., None])
    lse_HT.copy_(whole_HT)
