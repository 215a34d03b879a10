"""Attention over a packed row on a GPU, by torch's flex attention (Dong et al. 2024, arXiv:2412.05496).

A token sees those before it in its own segment, and the whole of its prompt. Blocks of the row in which nobody sees
anything are not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Flex:
    """`mask` is torch's BlockMask of the row."""

    mask: Any

    @classmethod
    def of(cls, segments: Sequence[tuple[int, int, int | None]], device: torch.device) -> Flex:
        """`segments` are (start, end, last) in the order of the row: `last` is the end of what sees all of a prompt,
        None for what is no prompt."""
        from torch.nn.attention.flex_attention import create_block_mask

        tokens = segments[-1][1]
        own_N, until_N = torch.empty(tokens, dtype=torch.int32), torch.zeros(tokens, dtype=torch.int32)
        for number, (start, end, last) in enumerate(segments):
            own_N[start:end] = number
            until_N[start:end] = last or 0
        own_N, until_N = own_N.to(device), until_N.to(device)

        def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (key <= query) & ((own_N[query] == own_N[key]) | (query < until_N[key]))

        return cls(create_block_mask(sees, None, None, tokens, tokens, device=str(device)))

    def attend(self, q_HND: Tensor, k_KND: Tensor, v_KND: Tensor, scale: float) -> Tensor:
        """[H, N, D]."""
        gqa = len(q_HND) != len(k_KND)
        found: Tensor = _compiled(q_HND.is_cuda)(
            q_HND[None], k_KND[None], v_KND[None], block_mask=self.mask, scale=scale, enable_gqa=gqa
        )
        return found[0]


@cache
def _compiled(on_gpu: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if on_gpu else flex_attention
