"""How many tokens a pass of SFT or DPO may have, by what memory is free; asked before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from thinksmith.fit.memory.training import Method, Precision, Training
from thinksmith.policy.load import taken_apart
from thinksmith.policy.policy import Policy
from thinksmith.training.fits import ENOUGH, SPARE, check_fits, fits
from thinksmith.training.packed.forward import packable
from thinksmith.training.supervised.recipe import TaughtRecipe


def room_for(policy: Policy, recipe: TaughtRecipe, method: Method, sizes: Sequence[int], prompt: int) -> int:
    """`training.micro_tokens`, or where that is 0 the most that fits, up to what makes a step faster.

    `sizes`: tokens of each sample (of DPO, of each pair); `prompt`: those of the shortest prompt. Raises UserError, in
    one line that says what to change, where not even the longest sample fits into the free memory.
    """
    longest = max(sizes)
    training = training_of(policy, recipe, method, longest, prompt, batch=_batch(recipe, sizes))
    if not recipe.training.micro_tokens:
        enough = ENOUGH.get(policy.device.type, ENOUGH["cpu"])
        training = replace(training, micro_tokens=max(longest, enough))
        while training.micro_tokens > longest and not fits(policy, training, SPARE):
            training = replace(training, micro_tokens=max(longest, training.micro_tokens // 2))
    check_fits(policy, training)
    return training.micro_tokens


def training_of(
    policy: Policy, recipe: TaughtRecipe, method: Method, longest: int, prompt: int, *, batch: int
) -> Training:
    """What a recipe comes to, for the planner. A pair of DPO is one sequence here: its prompt stands once."""
    table = recipe.training
    lora = table.tuning == "lora"
    precision: Precision = "fp32" if policy.model.dtype.itemsize > 2 else "bf16"
    return Training(
        method="sft" if method == "dpo" else method,
        tuning=table.tuning,
        precision=precision,
        base=taken_apart(recipe.model)[1].get("quantize", "") if lora else "",
        optimizer=table.optimizer,
        length=max(2, longest),
        prompt_tokens=min(prompt, max(1, longest - 1)),
        batch=batch,
        micro_tokens=table.micro_tokens,
        checkpointing=table.gradient_checkpointing,
        chunk_logits=True,
        lora_rank=recipe.lora.rank,
        lora_targets=recipe.lora.targets,
        packed=packable(policy, longest),
    )


def _batch(recipe: TaughtRecipe, sizes: Sequence[int]) -> int:
    """Sequences of the longest's length that a step has at most."""
    if recipe.batch.tokens:
        return max(1, recipe.batch.tokens // max(sizes))
    return min(recipe.batch.samples, len(sizes))
