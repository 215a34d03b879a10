"""How many tokens a micro-batch of GRPO may have, by what memory is free; asked before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from thinksmith.fit.memory.training import Precision, Training
from thinksmith.policy.load import taken_apart
from thinksmith.policy.policy import Policy
from thinksmith.records import Problem
from thinksmith.training.batches import Example
from thinksmith.training.fits import ENOUGH, SPARE, check_fits, fits
from thinksmith.training.packed.forward import packable
from thinksmith.training.packed.pack import largest_row
from thinksmith.training.rl.recipe import GRPORecipe

FEW = 8  # groups: parts of those that are cut are more than a quarter of a row, so a row has no more


def room_for(policy: Policy, recipe: GRPORecipe, problems: Sequence[Problem]) -> int:
    """`training.micro_tokens`, or where that is 0 the most that fits, up to what makes a step faster; and no more than
    the rows of completions that are all as long as they may be have, so that what is foreseen then is what is taken.

    Raises UserError, in one line that says what to change, where the recipe does not fit into the free memory.
    """
    training = grpo_training(policy, recipe, problems)
    if not recipe.training.micro_tokens:
        enough = training.prompt_tokens + ENOUGH.get(policy.device.type, ENOUGH["cpu"])
        training = _filled(training, enough)
        while training.micro_tokens > training.length and not fits(policy, training, SPARE):
            training = _filled(training, max(training.length, training.micro_tokens // 2))
    check_fits(policy, training)
    return training.micro_tokens


def _filled(training: Training, tokens: int) -> Training:
    """Rows of up to so many tokens, or the largest that full completions make within them."""
    if training.packs:
        completion = (0,) * training.max_tokens
        group = training.prompt_tokens + training.num_generations * training.max_tokens
        count = min(training.prompts, max(FEW, tokens // group + 1))
        prompts = ((number,) + (0,) * (training.prompt_tokens - 1) for number in range(count))
        whole = [Example(prompt, completion) for prompt in prompts for _ in range(training.num_generations)]
        tokens = largest_row(whole, tokens)
    return replace(training, micro_tokens=tokens)


def grpo_training(policy: Policy, recipe: GRPORecipe, problems: Sequence[Problem]) -> Training:
    """What a recipe comes to, with the longest prompt of `problems`."""
    asked = max(problems, key=lambda problem: len(problem.text))
    table = recipe.training
    lora = table.tuning == "lora"
    base = taken_apart(recipe.model)[1].get("quantize", "") if lora else ""
    precision: Precision = "fp32" if policy.model.dtype.itemsize > 2 else "bf16"
    prompt = len(policy.render(asked.messages).ids)
    longest = recipe.rollout.max_tokens
    if recipe.agent:  # what tools give comes to what is sampled, and no more than the context has room for
        longest = max(longest, min(2 * longest * recipe.agent.steps, policy.context_length - prompt))
    return Training(
        method="grpo",
        tuning=table.tuning,
        precision=precision,
        base=base,
        optimizer=table.optimizer,
        prompts=recipe.rollout.prompts,
        num_generations=recipe.rollout.num_generations,
        prompt_tokens=prompt,
        max_tokens=longest,
        micro_tokens=table.micro_tokens,
        checkpointing=table.gradient_checkpointing,
        lora_rank=recipe.lora.rank,
        lora_targets=recipe.lora.targets,
        reference=("adapter" if lora else "copy") if table.beta else "none",
        packed=packable(policy, prompt + longest),
    )
