"""Calls the attention in C."""

from __future__ import annotations

import ctypes
from ctypes import Structure, byref, c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thinksmith.native.build import Sources, library
from thinksmith.training.packed.native.plan import Plan

ATTENTION = Sources("attention", (Path(__file__).parent / "attention.c",), ("attention_scratch", "attention_fits"))


class _Row(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("tokens", "heads", "kv_heads", "dim")),
        *((name, c_int64) for name in ("segments", "parts", "buffers", "threads")),
        ("segment", c_void_p),
        ("part", c_void_p),
        ("scale", c_float),
    )


class _Strided(Structure):
    _fields_ = (("at", c_void_p), ("token", c_int64), ("head", c_int64))


def fits(heads: int, kv_heads: int, dim: int) -> bool:
    """Can heads of this shape be computed in C, and is there a compiler?"""
    found = library(ATTENTION)
    return found is not None and bool(found.attention_fits(c_int64(dim), c_int64(heads // kv_heads)))


class NativeAttention(torch.autograd.Function):
    """[H, N, D] of queries [H, N, D] and keys and values [K, N, D], of 32 bits or of 16, which are widened."""

    @staticmethod
    def forward(ctx: Any, q_HND: Tensor, k_KND: Tensor, v_KND: Tensor, plan: Plan, scale: float) -> Tensor:
        row = _row(q_HND, k_KND, plan, scale)
        out_NHD = torch.empty(q_HND.shape[1], len(q_HND), q_HND.shape[2])
        lse_HN = torch.empty(q_HND.shape[:2])
        wide = [_wide(x) for x in (q_HND, k_KND, v_KND)]
        scratch = _scratch(row, backward=False)
        inputs = (byref(_strided(x)) for x in wide)
        _library().attention_forward(byref(row), *inputs, _at(out_NHD), _at(lse_HN), _at(scratch))
        out_HND = out_NHD.transpose(0, 1).to(q_HND.dtype)
        ctx.save_for_backward(q_HND, k_KND, v_KND, out_HND, lse_HN)
        ctx.plan, ctx.scale = plan, scale
        return out_HND

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        q_HND, k_KND, v_KND, out_HND, lse_HN = ctx.saved_tensors
        row = _row(q_HND, k_KND, ctx.plan, ctx.scale)
        wide = [_wide(x) for x in (q_HND, k_KND, v_KND, grads[0])]
        found = [torch.empty(x.shape[1], len(x), x.shape[2]) for x in (q_HND, k_KND, v_KND)]
        out_NHD, scratch = out_HND.float().transpose(0, 1).contiguous(), _scratch(row, backward=True)
        inputs = (byref(_strided(x)) for x in wide)
        outputs = (_at(x) for x in (out_NHD, lse_HN, *found, scratch))
        _library().attention_backward(byref(row), *inputs, *outputs)
        return *(x.transpose(0, 1).to(q_HND.dtype) for x in found), None, None


@cache
def _library() -> ctypes.CDLL:
    found = library(ATTENTION)
    assert found is not None, "ask `fits` first"
    return found


def _wide(x_HND: Tensor) -> Tensor:
    """In float32, the numbers of a head side by side; how the heads and tokens lie does not matter."""
    x_HND = x_HND.float()
    return x_HND if x_HND.stride(2) == 1 else x_HND.contiguous()


def _row(q_HND: Tensor, k_KND: Tensor, plan: Plan, scale: float) -> _Row:
    heads, tokens, dim = q_HND.shape
    return _Row(
        tokens=tokens,
        heads=heads,
        kv_heads=len(k_KND),
        dim=dim,
        segments=len(plan.segments_S4),
        parts=len(plan.parts_P3),
        buffers=plan.buffers,
        threads=torch.get_num_threads(),
        segment=plan.segments_S4.data_ptr(),
        part=plan.parts_P3.data_ptr(),
        scale=scale,
    )


def _scratch(row: _Row, *, backward: bool) -> Tensor:
    return torch.empty(_library().attention_scratch(byref(row), c_int64(backward)))


def _strided(x_HND: Tensor) -> _Strided:
    return _Strided(x_HND.data_ptr(), x_HND.stride(1), x_HND.stride(0))


def _at(x: Tensor) -> c_void_p:
    return c_void_p(x.data_ptr())
