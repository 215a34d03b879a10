"""A student that knows nothing yet: a known model's architecture, tokenizer and chat template with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from thinksmith.errors import UserError
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy


def fresh_policy(like: str | Path, share: float = 1.0, seed: int = 0) -> Policy:
    """A policy with weights drawn anew, of about `share` (0..1] of the parameters of the model `like`.

    It has fewer layers and is as wide: so tokenizer, heads and context stay as they are (as DistilBERT is made, Sanh et
    al. 2019, arXiv:1910.01108). The share is met as nearly as whole layers allow. UserError for a share that is none,
    and for one that the embeddings alone exceed.
    """
    if not 0 < share <= 1:
        raise UserError(f"a fresh student has a share of the model's parameters above 0 and at most 1, not {share:g}")
    known = load_policy(str(like))
    config = known.model.config
    layers = _layers(known.model, share)
    if not layers:
        raise UserError(
            f"{share:g} of {known.name} is less than its embeddings and one layer: ask for a larger share of it"
        )
    text = config.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    if getattr(text, "max_window_layers", None) is not None:
        text.max_window_layers = min(text.max_window_layers, layers)
    before = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        model: Any = type(known.model)(config)
    finally:
        torch.set_rng_state(before)
    model.generation_config = known.model.generation_config
    return Policy(model.to(known.model.dtype).eval(), known.tokenizer, f"{known.name}-fresh-{layers}")


def _layers(model: Any, share: float) -> int:
    """How many of the layers come nearest to this share of all parameters; 0 where less than one would."""
    whole = sum(parameter.numel() for parameter in model.parameters())
    layers = model.get_decoder().layers
    one = sum(parameter.numel() for parameter in layers[0].parameters())
    rest = whole - one * len(layers)
    return int(max(0, min(len(layers), round((share * whole - rest) / one))))
