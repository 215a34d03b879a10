"""A model's tensors under its own names, with what adapters add merged in, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy


def load_to_convert(name: str) -> Policy:
    """The model on the CPU, its weights in the type that its checkpoint has. Raises UserError."""
    from transformers import AutoConfig

    from thinksmith import models
    from thinksmith.policy.load import plain_name

    plain = plain_name(name)
    folder = models.path(plain) if plain in models.EMBEDDED else plain
    dtype = None
    try:
        stored = AutoConfig.from_pretrained(folder, local_files_only=True).dtype
    except (OSError, ValueError):  # an adapter, or not here yet: load_policy says what is wrong
        stored = None
    if stored in (torch.bfloat16, torch.float16):
        dtype = str(stored).removeprefix("torch.")
    return load_policy(name, "cpu", dtype)


def tensors(policy: Policy) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of every weight, without those that are tied to another. What LoRA adds is in it."""
    model: Any = policy.model
    seen: set[int] = set()
    with torch.no_grad():
        for name, weight in model.named_parameters(remove_duplicate=False):
            if "lora_" in name:
                continue
            if weight.data_ptr() in seen:
                continue
            seen.add(weight.data_ptr())
            if name.endswith(".base_layer.weight"):
                module = model.get_submodule(name.removesuffix(".base_layer.weight"))
                yield name.replace(".base_layer", ""), merged(module)
            else:
                yield name.replace(".base_layer", ""), weight.data


def merged(module: Any) -> Tensor:
    """W + sum of scaling · B A over a LoRA layer's active adapters (Hu et al.

    2021, arXiv:2106.09685), in W's own type.
    """
    weight: Tensor = module.base_layer.weight.data
    if module.merged or module.disable_adapters:
        return weight
    total = weight.float()
    for name in module.active_adapters:
        if name in module.lora_A:
            total = total + module.get_delta_weight(name).float()
    return total.to(weight.dtype)
