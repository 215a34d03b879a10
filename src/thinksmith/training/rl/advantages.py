"""From rewards to advantages: how much better a completion was than its group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scale = Literal["group", "batch", "none"]


def group_advantages(
    rewards: Sequence[float | None], groups: Sequence[int], *, scale: Scale = "group", eps: float = 1e-4
) -> NDArray[np.float64]:
    """A_i = (r_i - mean of i's group) / (std + eps), shape [len(rewards)], no unit.

    `groups[i]` is the group (the prompt) of completion i; groups need neither be equal in size nor adjacent. A reward
    of None leaves its completion out of mean and std and gives it advantage 0. A group of equal rewards has exactly
    zero advantages. std is a sample standard deviation (n - 1), as in TRL 1.16. Which one, says `scale`:

    group:  that of i's group: GRPO (Shao et al. 2024, arXiv:2402.03300, section 4.1.2).
    batch:  that of all rewards, whatever their group (Liu et al. 2025, arXiv:2508.08221): a group whose rewards barely
            differ is not blown up. Give it the rewards of the whole step, of all ranks; so groups of equal rewards,
            though they teach nothing themselves, do count in it.
    none:   no division, as Dr. GRPO does (Liu et al. 2025, arXiv:2503.20783), so easy and hard prompts weigh the same.

    ValueError if there are not as many groups as rewards.
    """
    if len(rewards) != len(groups):
        raise ValueError(f"{len(rewards)} rewards but {len(groups)} group ids")
    rewards_N = np.array([np.nan if r is None else r for r in rewards], dtype=np.float64)
    groups_N = np.asarray(groups)
    advantages_N = np.zeros(len(rewards_N))
    given_N = ~np.isnan(rewards_N)
    deviation = float(rewards_N[given_N].std(ddof=1)) if given_N.sum() > 1 else 0.0
    for group in np.unique(groups_N):
        members = np.flatnonzero((groups_N == group) & given_N)
        values = rewards_N[members]
        # Equal rewards are caught here and not left to the subtraction: the mean of equal numbers may differ from them.
        if len(values) < 2 or np.all(values == values[0]):
            continue
        divisor = {"group": values.std(ddof=1) + eps, "batch": deviation + eps, "none": 1.0}[scale]
        advantages_N[members] = (values - values.mean()) / divisor
    return advantages_N
