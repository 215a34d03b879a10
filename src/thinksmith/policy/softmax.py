"""Log-probability and entropy of given tokens from rows of logits, and their gradients: in C where there is a compiler.

The code in C goes over the logits while a row of them is in the processor's cache, and makes one tensor of their size
less than torch's operations.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from thinksmith.native.build import Sources, library

SOFTMAX = Sources("softmax", (Path(__file__).parent / "softmax.c",), ())


class LogSoftmax(torch.autograd.Function):
    """log p(target) [C] and the entropy [C] of each row of logits [C, V]; entropies are 0 unless they are wanted.

    Of tensors of the logits' size it keeps the probabilities alone.

    d log p(y) / d logit_v = [v = y] - p_v,  and  d H / d logit_v = -p_v (log p_v + H).
    """

    @staticmethod
    def forward(ctx: Any, logits_CV: Tensor, target_C: Tensor, entropy: bool) -> tuple[Tensor, Tensor]:
        native = _native(logits_CV)
        if native is None:
            prob_CV, logprobs_C, entropy_C = _forward(logits_CV, target_C, entropy)
        else:
            logits_CV, target_C = logits_CV.contiguous(), _known(target_C, logits_CV.shape[1])
            prob_CV, logprobs_C, entropy_C = torch.empty_like(logits_CV), *(torch.empty(len(logits_CV)) for _ in "LH")
            tensors = (logits_CV, target_C, prob_CV, logprobs_C, entropy_C)
            native.softmax_forward(*_sizes(logits_CV), *map(_at, tensors))
        ctx.save_for_backward(prob_CV, target_C, entropy_C)
        ctx.set_materialize_grads(False)
        return logprobs_C, entropy_C if entropy else torch.zeros_like(entropy_C)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        prob_CV, target_C, entropy_C = ctx.saved_tensors
        logprob_grad_C, entropy_grad_C = grads
        if logprob_grad_C is None:
            logprob_grad_C = torch.zeros_like(entropy_C)
        native = _native(prob_CV) if entropy_grad_C is None else None
        if native is None:
            return _backward(prob_CV, target_C, entropy_C, logprob_grad_C, entropy_grad_C), None, None
        grad_CV = torch.empty_like(prob_CV)
        tensors = (prob_CV, target_C, logprob_grad_C.contiguous(), grad_CV)  # named, so that none goes before the call
        native.softmax_backward(*_sizes(prob_CV), *map(_at, tensors))
        return grad_CV, None, None


def _forward(logits_CV: Tensor, target_C: Tensor, entropy: bool) -> tuple[Tensor, Tensor, Tensor]:
    log_CV = logits_CV - logits_CV.logsumexp(-1, keepdim=True)
    logprobs_C = log_CV.gather(-1, target_C[:, None])[:, 0]
    if not entropy:
        return log_CV.exp_(), logprobs_C, torch.zeros_like(logprobs_C)
    prob_CV = log_CV.exp()
    # A token that cannot come (logit -inf) has no part in the entropy: 0 log 0 is 0.
    return prob_CV, logprobs_C, -log_CV.mul_(prob_CV).nan_to_num_(nan=0.0).sum(-1)


def _backward(
    prob_CV: Tensor, target_C: Tensor, entropy_C: Tensor, logprob_grad_C: Tensor, entropy_grad_C: Tensor | None
) -> Tensor:
    if entropy_grad_C is None:
        grad_CV = prob_CV * -logprob_grad_C[:, None]
    else:
        surprise_CV = prob_CV.log().nan_to_num_(neginf=0.0).add_(entropy_C[:, None])
        grad_CV = surprise_CV.mul_(-entropy_grad_C[:, None]).sub_(logprob_grad_C[:, None]).mul_(prob_CV)
    return grad_CV.scatter_add_(-1, target_C[:, None], logprob_grad_C[:, None])


def _native(x: Tensor) -> ctypes.CDLL | None:
    plain = x.dtype == torch.float32 and x.device.type == "cpu" and type(x) is Tensor and x.numel() > 0
    return library(SOFTMAX) if plain else None


def _known(target_C: Tensor, vocab: int) -> Tensor:
    """Checked, as C does not. Raises IndexError."""
    if len(target_C) and not 0 <= int(target_C.min()) <= int(target_C.max()) < vocab:
        raise IndexError(f"ids lie between 0 and {vocab - 1}")
    return target_C.long().contiguous()


def _sizes(x_CV: Tensor) -> tuple[c_int64, ...]:
    return tuple(c_int64(size) for size in (torch.get_num_threads(), *x_CV.shape))


def _at(x: Tensor) -> c_void_p:
    return c_void_p(x.data_ptr())
