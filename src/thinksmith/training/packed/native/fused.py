"""Norms, gates and rotations of the Llama family in C while a row is computed: what stands between its matrix products.

torch takes six readings of a norm's input, three of a gate's and five of what is rotated, and twice as many for the
gradients; the code in C takes one each. The modules stay as they are: only their `forward` is another meanwhile.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from ctypes import c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from thinksmith.native.build import Sources, library

FUSED = Sources("fused", (Path(__file__).parent / "fused.c",), ("norm_parts",))
# Whose forward is `weight * x / rms(x)`, and `down(silu(gate(x)) * up(x))`, and whose queries and keys are rotated
# before attention: letter for letter in transformers.
FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3")
NORMS = {f"{family}RMSNorm" for family in FAMILIES}
GATED = {f"{family}MLP" for family in FAMILIES}
ATTENTIONS = {f"{family}Attention" for family in FAMILIES}

_active: ContextVar[bool] = ContextVar("fused", default=False)


@contextmanager
def fused(decoder: nn.Module) -> Iterator[None]:
    """Where there is a compiler, the norms, gates and rotations of these families are computed in C meanwhile.

    A tensor that is not of float32 on a CPU takes the module's own way.
    """
    found = _replacements(decoder)
    for module, forward in found:
        module.forward = forward
    before = _active.set(True)
    try:
        yield
    finally:
        _active.reset(before)
        for module, _ in found:
            del module.forward


def as_now(decoder: nn.Module) -> AbstractContextManager[None]:
    """For what is computed again later, and must then be what it is now: `fused` if that is in force here."""
    return fused(decoder) if _active.get() else nullcontext()


def _replacements(decoder: nn.Module) -> list[tuple[nn.Module, Callable[..., Any]]]:
    if library(FUSED) is None:
        return []
    found: list[tuple[nn.Module, Callable[..., Any]]] = []
    for module in decoder.modules():
        kind = type(module)
        if not kind.__module__.startswith("transformers.models.") or "forward" in module.__dict__:
            continue
        if kind.__name__ in NORMS:
            found.append((module, _norm(module)))
        elif kind.__name__ in GATED and type(module.act_fn).__name__ in ("SiLU", "SiLUActivation"):
            found.append((module, _gated(module)))
        elif kind.__name__ in ATTENTIONS:
            found.append((module, _rotated(module)))
    return found


def _norm(module: Any) -> Callable[[Tensor], Tensor]:
    own = module.forward

    def forward(x: Tensor) -> Tensor:
        if not _plain(x) or not _plain(module.weight):
            return own(x)  # type: ignore[no-any-return]
        return Norm.apply(x, module.weight, module.variance_epsilon)  # type: ignore[no-any-return, no-untyped-call]

    return forward


def _gated(module: Any) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        gate, up = module.gate_proj(x), module.up_proj(x)
        both = _plain(gate) and _plain(up)
        return module.down_proj(Gate.apply(gate, up) if both else module.act_fn(gate) * up)  # type: ignore[no-any-return, no-untyped-call]

    return forward


def _rotated(module: Any) -> Callable[..., Any]:
    own = module.forward

    def forward(hidden_states: Tensor, position_embeddings: Any = None, slots: Any = None, **more: Any) -> Any:
        if slots is None or not _plain(hidden_states) or not _whole(position_embeddings, module.head_dim):
            return own(hidden_states, position_embeddings=position_embeddings, slots=slots, **more)
        heads = (*hidden_states.shape[:-1], -1, module.head_dim)
        query, key, value = (each(hidden_states).view(heads) for each in (module.q_proj, module.k_proj, module.v_proj))
        if hasattr(module, "q_norm"):
            query, key = module.q_norm(query), module.k_norm(key)
        query, key = Rotation.apply(query, key, *position_embeddings)  # type: ignore[no-untyped-call]
        turned = (each.transpose(1, 2) for each in (query, key, value))
        out = slots.attend(*turned, module.scaling, None).transpose(1, 2)
        return module.o_proj(out.reshape(*heads[:-2], -1)), None

    return forward


def _whole(angles: tuple[Tensor, Tensor], dim: int) -> bool:
    """Are all numbers of a head rotated?"""
    return all(_plain(each) and each.shape[2:] == (dim,) for each in angles)


def _plain(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and type(x) in (Tensor, nn.Parameter)


class Norm(torch.autograd.Function):
    """[..., D] of x [..., D] and weight [D]: weight * x / sqrt(mean of x² + eps)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        x, weight_D = x.contiguous(), weight_D.contiguous()
        out, scale = torch.empty_like(x), torch.empty(x.shape[:-1])
        shape = _threads(), c_int64(scale.numel()), c_int64(x.shape[-1])
        _library().norm_forward(*shape, c_float(eps), _at(x), _at(weight_D), _at(out), _at(scale))
        ctx.save_for_backward(x, weight_D, scale)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight_D, scale = ctx.saved_tensors
        grad, dx = grad.contiguous(), torch.empty_like(x)
        rows, width = c_int64(scale.numel()), c_int64(x.shape[-1])
        dweight_D = parts = None
        if ctx.needs_input_grad[1]:
            dweight_D, parts = torch.empty_like(weight_D), torch.empty(_library().norm_parts(rows, width))
        inputs = (_at(each) for each in (grad, x, weight_D, scale))
        _library().norm_backward(_threads(), rows, width, *inputs, _at(dx), _at(dweight_D), _at(parts))
        return dx, dweight_D, None


class Gate(torch.autograd.Function):
    """silu(gate) * up, of one shape."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        out = torch.empty_like(gate)
        _library().gate_forward(_threads(), c_int64(gate.numel()), _at(gate), _at(up), _at(out))
        ctx.save_for_backward(gate, up)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        gate, up = ctx.saved_tensors
        grad, dgate, dup = grad.contiguous(), torch.empty_like(gate), torch.empty_like(up)
        addresses = (_at(x) for x in (grad, gate, up, dgate, dup))
        _library().gate_backward(_threads(), c_int64(gate.numel()), *addresses)
        return dgate, dup


class Rotation(torch.autograd.Function):
    """Queries [1, N, H, D] and keys [1, N, K, D], rotated by cosines and sines [1, N, D]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = cos.contiguous(), sin.contiguous()
        ctx.save_for_backward(cos, sin)
        return _rotate(query, cos, sin), _rotate(key, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        cos, sin = ctx.saved_tensors
        return *(_rotate(grad, cos, sin, back=True) for grad in grads), None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool = False) -> Tensor:
    x, (_, rows, heads, dim) = x.contiguous(), x.shape
    out = torch.empty_like(x)
    sizes = (c_int64(size) for size in (rows, heads, dim // 2))
    _library().rotate(_threads(), *sizes, *(_at(each) for each in (x, cos, sin, out)), c_int64(back))
    return out


@cache
def _library() -> ctypes.CDLL:
    found = library(FUSED)
    assert found is not None, "`fused` looked"
    return found


def _threads() -> c_int64:
    return c_int64(torch.get_num_threads())


def _at(x: Tensor | None) -> c_void_p:
    return c_void_p(None if x is None else x.data_ptr())
