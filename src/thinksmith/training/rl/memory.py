"""How many tokens a micro-batch of GRPO may have, by what memory is free; asked before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from thinksmith.fit.memory.training import Precision, Training
from thinksmith.policy.load import taken_apart
from thinksmith.policy.policy import Policy
from thinksmith.records import Problem
from thinksmith.training.fits import check_fits, fits
from thinksmith.training.rl.recipe import GRPORecipe

# More tokens at a time make nothing faster: on a CPU the activations of so many stay near its cache, and a GPU is busy.
ENOUGH = {"cpu": 2048, "cuda": 16384}
SPARE = 0.8  # of what is free: others may want some, and the estimate may be 10 % too low


def room_for(policy: Policy, recipe: GRPORecipe, problems: Sequence[Problem]) -> int:
    """`training.micro_tokens`, or where that is 0 the most that fits, up to what makes a step faster.

    Raises UserError, in one line that says what to change, where the recipe does not fit into the free memory.
    """
    training = grpo_training(policy, recipe, problems)
    if not recipe.training.micro_tokens:
        training = replace(training, micro_tokens=ENOUGH.get(policy.device.type, ENOUGH["cpu"]))
        while training.micro_tokens > training.length and not fits(policy, training, SPARE):
            training = replace(training, micro_tokens=max(training.length, training.micro_tokens // 2))
    check_fits(policy, training)
    return training.micro_tokens


def grpo_training(policy: Policy, recipe: GRPORecipe, problems: Sequence[Problem]) -> Training:
    """What a recipe comes to, with the longest prompt of `problems`."""
    longest = max(problems, key=lambda problem: len(problem.text))
    table = recipe.training
    lora = table.tuning == "lora"
    base = taken_apart(recipe.model)[1].get("quantize", "") if lora else ""
    precision: Precision = "fp32" if policy.model.dtype.itemsize > 2 else "bf16"
    return Training(
        method="grpo",
        tuning=table.tuning,
        precision=precision,
        base=base,
        optimizer=table.optimizer,
        prompts=recipe.rollout.prompts,
        num_generations=recipe.rollout.num_generations,
        prompt_tokens=len(policy.render(longest.messages).ids),
        max_tokens=recipe.rollout.max_tokens,
        micro_tokens=table.micro_tokens,
        checkpointing=table.gradient_checkpointing,
        lora_rank=recipe.lora.rank,
        lora_targets=recipe.lora.targets,
        reference=("adapter" if lora else "copy") if table.beta else "none",
    )
