"""Optimisers and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from thinksmith.errors import UserError

OptimizerName = Literal["adamw", "adamw8bit", "muon"]
BETAS = (0.9, 0.95)
Schedule = Literal["trapezoid", "linear", "cosine"]


class Optimizers:
    """One or two torch optimisers that step together; `lr_scale` multiplies each one's own learning rate.

    adamw: AdamW (Loshchilov & Hutter 2019) on all parameters. muon: Muon (Jordan 2024; scaled to AdamW's update size as
    in Liu et al. 2025, arXiv:2502.16982) on the matrices inside the layers, AdamW on embeddings, norms and biases.
    adamw8bit: AdamW with its two moments in 8 bits (Dettmers et al. 2022, arXiv:2110.02861), by torchao, which compiles
    its step: on a CPU that needs a C++ compiler. Raises UserError where torchao is missing.
    """

    def __init__(
        self, model: nn.Module, name: OptimizerName, lr: float, *, muon_lr: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        matrices = [p for n, p in named if name == "muon" and p.ndim == 2 and ".layers." in n]
        chosen = {id(p) for p in matrices}
        rest = [p for _, p in named if id(p) not in chosen]
        adam = _adam8bit() if name == "adamw8bit" else torch.optim.AdamW
        self.parts: list[torch.optim.Optimizer] = [
            adam(rest, lr=lr, betas=BETAS, weight_decay=0.0 if matrices else weight_decay)
        ]
        if matrices:
            muon = torch.optim.Muon(
                matrices, lr=muon_lr or lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            )
            self.parts.append(muon)
        self._base = [[float(group["lr"]) for group in part.param_groups] for part in self.parts]

    def step(self, lr_scale: float = 1.0) -> None:
        for part, base in zip(self.parts, self._base, strict=True):
            for group, lr in zip(part.param_groups, base, strict=True):
                if isinstance(group["lr"], torch.Tensor):  # torchao's: another object would mean another compilation
                    group["lr"].fill_(lr * lr_scale)
                else:
                    group["lr"] = lr * lr_scale
            part.step()
            part.zero_grad(set_to_none=True)

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def _adam8bit() -> Any:
    try:
        from torchao.optim import AdamW8bit
    except ImportError:
        raise UserError("optimizer adamw8bit needs torchao: pip install 'thinksmith[quant]'") from None
    return AdamW8bit


def lr_factor(schedule: Schedule, step: int, steps: int, warmup: int, decay: int) -> float:
    """Learning-rate factor of step 0..steps-1: linear up over `warmup` steps, and then

    trapezoid: constant, and linear to almost 0 over the last `decay` steps (Hägele et al. 2024, arXiv:2405.18392)
    linear:    linear to almost 0 over all that is left
    cosine:    half a cosine to 0.1 (Loshchilov & Hutter 2017, arXiv:1608.03983; the floor as Open-R1 has it)
    """
    up = (step + 1) / warmup if warmup else 1.0
    if schedule == "trapezoid":
        down = (steps - step) / decay if decay else 1.0
    elif schedule == "linear":
        down = (steps - step) / max(1, steps - warmup)
    else:
        done = max(0, step - warmup) / max(1, steps - warmup)
        down = 0.55 + 0.45 * math.cos(math.pi * done)
    return max(0.0, min(1.0, up, down))
