"""The optimiser's step, once the gradients of all micro-batches are there: the same in every trainer."""

from __future__ import annotations

import math

from thinksmith.policy.policy import Policy
from thinksmith.training.optimizer import Optimizers
from thinksmith.training.ranks import Ranks
from thinksmith.training.sharding import clip_gradients


class NotFiniteError(Exception):
    """A loss or a gradient is NaN or infinite; the weights are as they were before the optimiser step."""


def spoilt(step: int, error: NotFiniteError) -> str:
    """What to tell of it, as the step after `step` finished ones."""
    return (
        f"step {step + 1}: {error} is not finite, so the weights were left as they were; "
        "the last checkpoint is kept; begin anew with a lower training.lr"
    )


def take_step(
    policy: Policy, optimizers: Optimizers, lr_scale: float, max_grad_norm: float, loss: float, ranks: Ranks
) -> float:
    """Sum the gradients of all ranks, cut them to `max_grad_norm`, and step; returns their norm before the cut.

    `loss` is this rank's. Raises NotFiniteError, on all ranks, before a step that would spoil the weights.
    """
    learnt = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
    ranks.sum_gradients(learnt)
    norm = clip_gradients(learnt, max_grad_norm)
    if not all(ranks.gather(math.isfinite(norm) and math.isfinite(loss))):
        optimizers.zero_grad()
        raise NotFiniteError("the loss" if not math.isfinite(loss) else "the gradient")
    optimizers.step(lr_scale)
    policy.touch()
    return norm
