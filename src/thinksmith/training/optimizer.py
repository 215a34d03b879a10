"""Optimisers and the learning-rate schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

OptimizerName = Literal["adamw", "muon"]


class Optimizers:
    """One or two torch optimisers that step together; `lr_scale` multiplies each one's own learning rate.

    adamw: AdamW (Loshchilov & Hutter 2019) on all parameters. muon: Muon (Jordan 2024; scaled to AdamW's update size as
    in Liu et al. 2025, arXiv:2502.16982) on the matrices inside the layers, AdamW on embeddings, norms and biases.
    """

    def __init__(
        self, model: nn.Module, name: OptimizerName, lr: float, *, muon_lr: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        matrices = [p for n, p in named if name == "muon" and p.ndim == 2 and ".layers." in n]
        chosen = {id(p) for p in matrices}
        rest = [p for _, p in named if id(p) not in chosen]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=0.0 if matrices else weight_decay)
        ]
        if matrices:
            muon = torch.optim.Muon(
                matrices, lr=muon_lr or lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            )
            self.parts.append(muon)
        self._base = [[group["lr"] for group in part.param_groups] for part in self.parts]

    def step(self, lr_scale: float = 1.0) -> None:
        for part, base in zip(self.parts, self._base, strict=True):
            for group, lr in zip(part.param_groups, base, strict=True):
                group["lr"] = lr * lr_scale
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def warmup_stable_decay(step: int, steps: int, warmup: int, decay: int) -> float:
    """Learning-rate factor of step 0..steps-1: linear up over `warmup`, constant, linear to almost 0 over `decay`."""
    up = (step + 1) / warmup if warmup else 1.0
    down = (steps - step) / decay if decay else 1.0
    return max(0.0, min(1.0, up, down))
