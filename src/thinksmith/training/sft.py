"""Supervised fine-tuning: next-token loss on completions, over a source of examples that is a function of the step.

Because step s always gets the same examples, a run that is resumed from a checkpoint ends where an uninterrupted
one does, bit for bit on CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thinksmith.fit.rounding import round_up
from thinksmith.training import checkpoint
from thinksmith.training.batches import Batch, Example, micro_batches
from thinksmith.training.optimizer import OptimizerName, Optimizers, lr_factor


@dataclass(frozen=True, slots=True)
class SFTConfig:
    """steps, warmup, decay and save_every are in optimiser steps, micro_tokens in padded tokens."""

    steps: int
    lr: float = 3e-3
    muon_lr: float = 6e-3
    optimizer: OptimizerName = "adamw"
    weight_decay: float = 0.0
    warmup: int = 0
    decay: int = 0
    max_grad_norm: float = 1.0
    micro_tokens: int = 2048
    save_every: int = 0
    bf16: bool = False
    compile: bool = False


@dataclass(frozen=True, slots=True)
class SFTStep:
    """What a step tells: loss in nats per completion token, tokens of the step (padding not counted), seconds."""

    step: int
    loss: float
    tokens: int
    grad_norm: float
    seconds: float


Source = Callable[[int], Sequence[Example]]


def sft(
    model: Any,
    source: Source,
    config: SFTConfig,
    *,
    pad_id: int,
    folder: Path | None = None,
    on_step: Callable[[SFTStep], None] = lambda step: None,
) -> None:
    """Train `model` in place. With a folder, checkpoints are written there and an interrupted run is resumed."""
    optimizers = Optimizers(
        model, config.optimizer, config.lr, muon_lr=config.muon_lr, weight_decay=config.weight_decay
    )
    start = checkpoint.load(folder, model, optimizers)[0] if folder else 0
    model.train()
    decoder = torch.compile(model.get_decoder(), dynamic=True) if config.compile else model.get_decoder()
    for step in range(start, config.steps):
        began = time.perf_counter()
        examples = source(step)
        loss, grad_norm = _accumulate(model, decoder, examples, config, pad_id)
        optimizers.step(lr_factor("trapezoid", step, config.steps, config.warmup, config.decay))
        seconds = time.perf_counter() - began
        on_step(SFTStep(step + 1, loss, sum(e.tokens for e in examples), grad_norm, seconds))
        if folder and config.save_every and (step + 1) % config.save_every == 0:
            checkpoint.save(folder, step + 1, model, optimizers, {})
    model.eval()


def _accumulate(
    model: Any, decoder: Any, examples: Sequence[Example], config: SFTConfig, pad_id: int
) -> tuple[float, float]:
    """Gradients of the mean loss per completion token of the whole step, so micro-batching changes nothing."""
    total = sum(e.learnt for e in examples)
    loss = 0.0
    for batch in micro_batches(examples, pad_id, config.micro_tokens):
        with _precision(config.bf16, model.device.type):
            part = summed_loss(model, decoder, batch) / total
        part.backward()  # type: ignore[no-untyped-call]
        loss += part.item()
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
    return loss, float(norm)


def summed_loss(model: Any, decoder: Any, batch: Batch) -> Tensor:
    """Sum over the completion tokens of -log p(token | before); logits are made at those positions alone."""
    device = model.device
    input_ids_BT, completion_BT = batch.input_ids_BT.to(device), batch.completion_BT.to(device)
    hidden_BTD = decoder(input_ids=input_ids_BT, use_cache=False).last_hidden_state
    # The hidden state at t - 1 predicts the token at t. A few ignored positions round the number up.
    positions_N = completion_BT[:, 1:].flatten().nonzero()[:, 0]
    fill = round_up(len(positions_N), 256) - len(positions_N)
    hidden_ND = nn.functional.pad(hidden_BTD[:, :-1].flatten(0, 1)[positions_N], (0, 0, 0, fill))
    targets_N = nn.functional.pad(input_ids_BT[:, 1:].flatten()[positions_N], (0, fill), value=-100)
    logits_NV = model.get_output_embeddings()(hidden_ND).float()
    return nn.functional.cross_entropy(logits_NV, targets_N, reduction="sum", ignore_index=-100)


def _precision(bf16: bool, device: str) -> AbstractContextManager[Any]:
    return torch.autocast(device, dtype=torch.bfloat16) if bf16 else nullcontext()
