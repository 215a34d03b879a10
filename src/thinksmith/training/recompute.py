"""Gradient checkpointing: a layer keeps its input alone, and is computed again in the backward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from thinksmith.training.packed.native.fused import as_now


def recompute_layers(model: Any) -> None:
    """Do so from now on, while the model is in training mode (Chen et al. 2016, arXiv:1604.06174): memory for one layer
    and the inputs of all, for a third more time. Results are the same to the last bit."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), as_now(model.get_decoder())

    options = {"use_reentrant": False, "context_fn": contexts}
    if hasattr(model, "activation_checkpointing_enable"):  # the other name is on its way out
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    # transformers lets the embeddings' output ask for a gradient, which only the reentrant way needs: it would cost the
    # first layer's backward pass where the weights are frozen, and a hook keeps the engine from its code in C.
    if getattr(model, "_require_grads_hook", None) is not None:
        model.disable_input_require_grads()
