"""The peak memory of an SFT step in this process, ours or TRL's; `sft_vs_trl.py` asks for each in a process of its own.

    python bench/_sft_passes.py NAME SIDE        # a JSON object as the last line

What is counted begins before the model comes, after a first small step has loaded and made all that a process has once.
The C library maps blocks one by one on both sides, so it takes what is used and no more (`training/fits.py`).
"""

from __future__ import annotations

import gc
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from _fit_training import COMMON, status
from _grpo_passes import HEAD
from _grpo_work import tokenizer_of_tiny
from _sft_sides import Way, run_ours, run_trl
from _sft_work import Work, examples_of
from thinksmith.policy.policy import Policy
from thinksmith.training.fits import map_blocks


@dataclass(frozen=True)
class Memory:
    """A work, the way of each of TRL's sides, and whether it is the short form."""

    work: Work
    sides: dict[str, Way]
    quick: bool = False


# Unpacked: TRL's default of 8 rows, and its least. Packed: into rows of 2,048 tokens, what our passes have too.
MEMORY = {
    "vocab": Memory(Work(32, 256, 1.0, 1984), {"trl": Way(8), "trl-1": Way(1), "trl-packed": Way(1, 2048)}),
    "vocab quick": Memory(Work(4, 48, 0.8, 160), {"trl": Way(4), "trl-packed": Way(1, 256)}, quick=True),
}
SMALL = Work(4, 16, 0.5, 32)


def main() -> None:
    print(json.dumps(measure(MEMORY[sys.argv[1]], sys.argv[2])))


def measure(memory: Memory, side: str) -> dict[str, Any]:
    """Bytes: `before` the model came, its `weights`, the `peak`."""
    map_blocks(torch.device("cpu"))
    policy = policy_of(vocab=1024)
    run(policy, SMALL, side, memory)
    del policy
    gc.collect()
    before = status("VmRSS")
    policy = policy_of(vocab=HEAD["vocab_size"])
    weights = status("VmRSS") - before
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    began = time.perf_counter()
    losses = run(policy, memory.work, side, memory)
    return {
        "before": before, "weights": weights, "peak": status("VmHWM"), "seconds": time.perf_counter() - began,
        "loss": losses[0],
    }  # fmt: skip


def run(policy: Policy, work: Work, side: str, memory: Memory) -> list[float]:
    """Two steps, so that the optimiser has its states in the second."""
    examples = examples_of(work)
    if side == "ours":
        return run_ours(policy, examples, 1, checkpointing=True).losses
    return run_trl(policy, examples, 1, memory.sides[side], checkpointing=True).losses


def policy_of(vocab: int) -> Policy:
    """Random weights under so large a head, and tiny-base's tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = tokenizer_of_tiny()
    ends = {"eos_token_id": tokenizer.eos_token_id, "max_position_embeddings": 8192, "vocab_size": vocab}
    config = AutoConfig.for_model("qwen2", **(COMMON | HEAD | ends))
    torch.manual_seed(0)
    return Policy(AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval(), tokenizer, "head")


if __name__ == "__main__":
    main()
