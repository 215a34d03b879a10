"""The decoder over a packed row, and the log-probabilities of what is learnt in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from thinksmith.engines.local.attention import register
from thinksmith.errors import UserError
from thinksmith.policy.logprobs import Scores, score
from thinksmith.policy.policy import Policy
from thinksmith.training.packed.attention import packed_attention
from thinksmith.training.packed.layout import Layout
from thinksmith.training.packed.native.fused import fused
from thinksmith.training.packed.pack import Pack


@dataclass(frozen=True, slots=True)
class _Step:
    """What `engines/local/attention.py` asks in each layer, in place of a cache."""

    layout: Layout

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, scale: float, window: int | None) -> Tensor:
        """[1, H, N, D]. No window is narrower than a sequence: `packable` looked."""
        # By `squeeze`, whose gradient is a view; that of an index would be a copy.
        query, keys, values = (each.squeeze(0) for each in (query, keys, values))
        return packed_attention(query, keys, values, self.layout, scale)[None]


def packable(policy: Policy, longest: int) -> bool:
    """Can the model be computed over packed rows whose sequences have at most `longest` tokens?

    It can where all layers are attention to all that came before, which is what a window wider than the sequence is,
    and where nothing else passes from token to token. Else sequences are padded one beside the other.
    """
    config = policy.model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    if kinds > {"full_attention"} and "sliding_attention" in kinds and (window is None or window < longest):
        return False
    if "sliding_attention" not in kinds and getattr(config, "use_sliding_window", True) and window and window < longest:
        return False
    try:
        register(policy.model, policy.name)
    except UserError:
        return False
    return True


def packed_scores(
    policy: Policy, pack: Pack, *, entropy: bool = False, temperature: float = 1.0, likeliest: bool = False
) -> Scores:
    """Log-probability [M] of each learnt token; where asked for the entropy of what it was drawn from, and whether it
    is the likeliest. Differentiable. Only for a model that is `packable`."""
    register(policy.model, policy.name)  # of a model with another attention the tokens would see all before them
    decoder: Any = policy.model.get_decoder()
    # A mask of four dimensions is passed on as it is, so transformers builds none.
    with fused(decoder):
        hidden_1ND = decoder(
            input_ids=pack.ids_N[None],
            attention_mask=torch.empty(1, 1, 1, 1, device=pack.ids_N.device),
            position_ids=pack.positions_N[None],
            use_cache=False,
            slots=_Step(pack.layout),
        ).last_hidden_state
    hidden_MD = hidden_1ND.squeeze(0).index_select(0, pack.before_M)
    del hidden_1ND  # nothing else wants it, and logits come
    return score(policy.model, hidden_MD, pack.targets_M, entropy=entropy, temperature=temperature, likeliest=likeliest)
