"""Optimiser steps of our SFT and of TRL's SFTTrainer on the same examples, timed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from thinksmith.policy.policy import Policy
from thinksmith.training.batches import Example
from thinksmith.training.supervised.recipe import SFTRecipe
from thinksmith.training.supervised.sft import SFT
from thinksmith.training.supervised.train import train

LR = 1e-6


@dataclass
class Timed:
    """Wall seconds of each step but the first, and the loss of each step, the first one too."""

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def extend(self, other: Timed) -> None:
        self.seconds += other.seconds
        self.losses += other.losses


@dataclass(frozen=True)
class Way:
    """How TRL's trainer is told to batch: `rows` of a pass, packed rows of `length` tokens (0: not packed), and whether
    a pass is one row without padding."""

    rows: int
    length: int = 0
    padding_free: bool = False


def run_ours(
    policy: Policy, examples: Sequence[Example], steps: int, *, micro_tokens: int = 0, checkpointing: bool = False
) -> Timed:
    """`steps` steps after a first one that is not counted; each has all examples."""
    recipe = SFTRecipe.model_validate(
        {
            "data": "bench",
            "steps": steps + 1,
            "batch": {"samples": len(examples)},
            "training": {"lr": LR, "lr_scheduler_type": "trapezoid", "warmup": 0.0},
            "evaluation": {"held_out": 0.0},
        }
    )
    if checkpointing:
        from thinksmith.training.recompute import recompute_layers

        recompute_layers(policy.model)
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        lesson = SFT(policy, examples, micro_tokens=micro_tokens)
        train(policy, lesson, recipe, Path(folder), on_step=rows.append)
    return Timed([row["seconds"] for row in rows[1:]], [row["loss"] for row in rows])


def run_trl(policy: Policy, examples: Sequence[Example], steps: int, way: Way, *, checkpointing: bool = False) -> Timed:
    """The same by TRL: float32 on a CPU, nothing saved; its defaults where they do not matter here."""
    from datasets import Dataset, disable_progress_bars
    from transformers import PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer, pack_dataset

    from _grpo_trl import quiet

    quiet()
    disable_progress_bars()
    timed = Timed()

    class Clock(TrainerCallback):  # type: ignore[misc]
        ended = 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            now = time.perf_counter()
            if self.ended:
                timed.seconds.append(now - self.ended)
            self.ended = now

    rows = [
        {
            "input_ids": [*each.prompt_ids, *each.completion_ids],
            "labels": [-100] * len(each.prompt_ids) + list(each.completion_ids),
        }
        for each in examples
    ]
    gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:

        def arguments(accumulate: int) -> Any:
            return SFTConfig(
                output_dir=folder, use_cpu=not gpu, bf16=gpu, report_to=[], logging_strategy="steps", logging_steps=1,
                save_strategy="no", disable_tqdm=True, gradient_checkpointing=checkpointing, learning_rate=LR,
                lr_scheduler_type="constant", adam_beta2=0.95, max_steps=steps + 1, shuffle_dataset=False,
                per_device_train_batch_size=way.rows, gradient_accumulation_steps=accumulate,
                packing=bool(way.length), packing_strategy="bfd", max_length=way.length or None,
                padding_free=way.padding_free, dataloader_pin_memory=gpu,
            )  # fmt: skip

        data = Dataset.from_list(rows)
        # A step has all examples, so how many passes it takes is known when they are packed.
        count = len(pack_dataset(data, way.length, "bfd")) if way.length else len(data)
        trainer = SFTTrainer(
            model=policy.model.train(), args=arguments(-(-count // way.rows)), train_dataset=data,
            processing_class=policy.tokenizer, callbacks=[Clock()],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        timed.losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    policy.model.eval()
    return timed
