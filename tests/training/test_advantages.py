"""Advantages against a plain formula, and the laws that hold for any rewards."""

from __future__ import annotations

import statistics
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from thinksmith.training.rl.advantages import Scale, group_advantages

EPS = 1e-4
reward = st.one_of(st.floats(-10, 10), st.sampled_from([0.0, 0.1, 0.3, 1.0]))
batch = st.lists(st.tuples(st.one_of(st.none(), reward), st.integers(0, 4)), max_size=24)
scales = st.sampled_from(["group", "batch", "none"])


def plain(rewards: list[float | None], groups: list[int], scale: str) -> list[float]:
    """The formula of the docstring, one completion after another, with exact sums."""
    out = []
    for own, group in zip(rewards, groups, strict=True):
        peers = [r for r, g in zip(rewards, groups, strict=True) if g == group and r is not None]
        if own is None or len(set(peers)) < 2:
            out.append(0.0)
            continue
        among = peers if scale == "group" else [r for r in rewards if r is not None]
        centred = own - statistics.fmean(peers)
        out.append(centred if scale == "none" else centred / (statistics.stdev(among) + EPS))
    return out


@given(batch, scales)
def test_plain_formula(rows: list[tuple[float | None, int]], scale: Scale) -> None:
    rewards, groups = [r for r, _ in rows], [g for _, g in rows]
    found = group_advantages(rewards, groups, scale=scale, eps=EPS)
    np.testing.assert_allclose(found, plain(rewards, groups, scale), rtol=1e-9, atol=1e-10)


@given(reward, st.integers(1, 40), scales)
def test_equal_rewards_have_exactly_no_advantage(value: float, count: int, scale: Scale) -> None:
    assert not group_advantages([value] * count, [7] * count, scale=scale).any()


def test_the_mean_of_equal_numbers_is_not_always_that_number() -> None:
    # Why the law above cannot be left to the subtraction.
    assert np.mean([0.1] * 3) != 0.1
    assert not group_advantages([0.1] * 3, [0] * 3).any()


@given(batch, scales, st.randoms(use_true_random=False))
def test_order_and_interleaving_change_nothing(rows: list[tuple[float | None, int]], scale: Scale, rng: Random) -> None:
    found = group_advantages([r for r, _ in rows], [g for _, g in rows], scale=scale)
    order = list(range(len(rows)))
    rng.shuffle(order)
    moved = group_advantages([rows[i][0] for i in order], [rows[i][1] for i in order], scale=scale)
    np.testing.assert_allclose(moved, found[order], rtol=1e-9, atol=1e-10)


@given(batch, scales)
def test_a_reward_of_none_is_as_if_it_were_not_there(rows: list[tuple[float | None, int]], scale: Scale) -> None:
    found = group_advantages([r for r, _ in rows], [g for _, g in rows], scale=scale)
    kept = [i for i, (r, _) in enumerate(rows) if r is not None]
    without = group_advantages([rows[i][0] for i in kept], [rows[i][1] for i in kept], scale=scale)
    np.testing.assert_array_equal(found[kept], without)
    assert not np.delete(found, kept).any()


@given(st.lists(reward, min_size=2, max_size=12), st.floats(-5, 5), scales)
def test_adding_a_constant_changes_nothing(rewards: list[float], shift: float, scale: Scale) -> None:
    assume(np.std(rewards) > 1e-3)
    groups = [0] * len(rewards)
    found = group_advantages(rewards, groups, scale=scale)
    shifted = group_advantages([r + shift for r in rewards], groups, scale=scale)
    np.testing.assert_allclose(shifted, found, rtol=1e-6, atol=1e-8)


@given(st.lists(reward, min_size=2, max_size=12), st.floats(0.1, 100))
def test_a_factor_changes_nothing_but_for_eps(rewards: list[float], factor: float) -> None:
    deviation = statistics.stdev(rewards)
    assume(deviation > 1e-2)
    groups = [0] * len(rewards)
    found = group_advantages(rewards, groups, eps=EPS)
    scaled = group_advantages([r * factor for r in rewards], groups, eps=EPS)
    bound = EPS / deviation * max(1.0, 1.0 / factor)  # relative: eps stands beside the deviation in either
    np.testing.assert_allclose(scaled, found, rtol=bound, atol=1e-10)
    plain_scaled = group_advantages([r * factor for r in rewards], groups, scale="none")
    np.testing.assert_allclose(plain_scaled, factor * group_advantages(rewards, groups, scale="none"), atol=1e-8)


@given(batch, scales)
def test_the_advantages_of_a_group_sum_to_zero(rows: list[tuple[float | None, int]], scale: Scale) -> None:
    groups = np.array([g for _, g in rows], dtype=int)
    found = group_advantages([r for r, _ in rows], groups.tolist(), scale=scale)
    for group in set(groups.tolist()):
        assert abs(found[groups == group].sum()) < 1e-8


@given(batch, st.lists(reward, min_size=2, max_size=6))
def test_of_other_groups_only_the_scale_of_the_batch_knows(
    rows: list[tuple[float | None, int]], own: list[float]
) -> None:
    assume(statistics.stdev(own) > 1e-3)
    rewards, groups = [r for r, _ in rows] + own, [g for _, g in rows] + [9] * len(own)
    for scale in ("group", "none"):
        together = group_advantages(rewards, groups, scale=scale)[len(rows) :]
        np.testing.assert_array_equal(together, group_advantages(own, [9] * len(own), scale=scale))
    together = group_advantages(rewards, groups, scale="batch")[len(rows) :]
    given_rewards = [r for r in rewards if r is not None]
    bare = group_advantages(own, [9] * len(own), scale="none")
    np.testing.assert_allclose(together, bare / (statistics.stdev(given_rewards) + EPS), rtol=1e-9, atol=1e-10)


def test_a_group_that_barely_differs_is_blown_up_by_its_own_scale_alone() -> None:
    rewards, groups = [0.5, 0.51, 0.0, 1.0], [0, 0, 1, 1]
    by_group, by_batch = (group_advantages(rewards, groups, scale=scale) for scale in ("group", "batch"))
    assert by_group[1] > 0.6
    assert 0 < by_batch[1] < 0.02


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rewards", [[], [None], [1.0], [1.0, None]])
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_one_reward_is_compared_to_nothing(rewards: list[float | None], scale: Scale) -> None:
    assert group_advantages(rewards, [0] * len(rewards), scale=scale).tolist() == [0.0] * len(rewards)


def test_as_many_rewards_as_groups() -> None:
    with pytest.raises(ValueError, match="2 rewards but 1 group"):
        group_advantages([1.0, 0.0], [0])
