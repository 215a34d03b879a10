"""From rewards to advantages: how much better a completion was than its group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scale = Literal["group", "none"]


def group_advantages(
    rewards: Sequence[float | None], groups: Sequence[int], *, scale: Scale = "group", eps: float = 1e-4
) -> NDArray[np.float64]:
    """A_i = (r_i - mean of i's group) / (std of i's group + eps), shape [len(rewards)], no unit.

    `groups[i]` is the group (the prompt) of completion i; groups need neither be equal in size nor adjacent. A reward
    of None leaves its completion out of the mean and gives it advantage 0. A group of equal rewards has exactly zero
    advantages. std is the sample standard deviation (n - 1), as in TRL.

    scale="group" is GRPO (Shao et al. 2024, arXiv:2402.03300, section 4.1.2); scale="none" leaves the division out, as
    Dr. GRPO does (Liu et al. 2025, arXiv:2503.20783), so that easy and hard prompts weigh the same.
    """
    if len(rewards) != len(groups):
        raise ValueError(f"{len(rewards)} rewards but {len(groups)} group ids")
    rewards_N = np.array([np.nan if r is None else r for r in rewards], dtype=np.float64)
    groups_N = np.asarray(groups)
    advantages_N = np.zeros(len(rewards_N))
    for group in np.unique(groups_N):
        members = np.flatnonzero((groups_N == group) & ~np.isnan(rewards_N))
        values = rewards_N[members]
        # Equal rewards are caught here and not left to the subtraction: the mean of equal numbers may differ from them.
        if len(values) < 2 or np.all(values == values[0]):
            continue
        centred = values - values.mean()
        advantages_N[members] = centred / (values.std(ddof=1) + eps) if scale == "group" else centred
    return advantages_N
