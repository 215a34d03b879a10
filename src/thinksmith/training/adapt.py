"""Making a loaded policy ready to be trained, as a recipe says: all weights or an adapter."""

from __future__ import annotations

from typing import Protocol

import torch

from thinksmith.errors import UserError
from thinksmith.policy.adapter import LoRA, add_lora
from thinksmith.policy.load import plain_name, taken_apart
from thinksmith.policy.policy import Policy
from thinksmith.training.recipe import LoRATable
from thinksmith.training.recompute import recompute_layers

COARSE = 1e-4  # below it bfloat16 loses too much of a step


class Tuning(Protocol):
    """The table `training`, as far as it says what is trained."""

    @property
    def tuning(self) -> str: ...

    @property
    def lr(self) -> float: ...

    @property
    def gradient_checkpointing(self) -> bool: ...


class Recipe(Protocol):
    """A recipe of any trainer."""

    @property
    def model(self) -> str: ...

    @property
    def seed(self) -> int: ...

    @property
    def training(self) -> Tuning: ...

    @property
    def lora(self) -> LoRATable: ...


def adapt(policy: Policy, recipe: Recipe) -> None:
    """Make ready what is trained: all weights, or an adapter; and say whether layers are computed twice."""
    if recipe.training.tuning == "lora":
        table = recipe.lora
        add_lora(policy, LoRA(table.rank, table.alpha, table.targets, table.dropout, recipe.seed))
    if recipe.training.gradient_checkpointing:
        recompute_layers(policy.model)


def check_precision(recipe: Recipe, policy: Policy) -> None:
    """Raises UserError where the steps of training all weights would be lost in rounding.

    bfloat16 has 8 bits, so a weight of 0.02 moves in steps of 1e-4 or not at all, and AdamW's are of the size of the
    learning rate.
    """
    numbers = {parameter.dtype for parameter in policy.model.parameters() if parameter.requires_grad}
    if torch.bfloat16 in numbers and recipe.training.lr < COARSE:
        raise UserError(
            f"training all weights of {recipe.model} in bfloat16 at lr = {recipe.training.lr:g} would be lost in "
            f'rounding: name {plain_name(recipe.model)}:float32, or set training.tuning = "lora"'
        )


def check_quantised(recipe: Recipe) -> None:
    """Raises UserError where the recipe would train quantised weights themselves."""
    plain, said = taken_apart(recipe.model)
    if recipe.training.tuning == "full" and "quantize" in said:
        raise UserError(
            f"the weights of {recipe.model} are quantised and cannot be trained themselves: set training.tuning = "
            f'"lora", or name {plain}'
        )
