"""Losses against a loop over tokens, and the laws of clipping and of normalising by the whole step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from thinksmith.training.rl.losses import Loss, LossType, Normaliser, clipped_loss

LOW, HIGH, MAX_TOKENS = 0.2, 0.28, 50
TYPES: tuple[LossType, ...] = ("grpo", "dapo", "dr_grpo")


@dataclass(frozen=True)
class Step:
    """Completions of one step: `new` and `old` hold the log-probs of their tokens, `advantages` one number each."""

    new: list[list[float]]
    old: list[list[float]]
    advantages: list[float]

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(map(len, self.new))


def step_of(seed: int, empty: bool = False) -> Step:
    rng = Random(seed)
    lengths = [rng.randint(0 if empty else 1, 9) for _ in range(rng.randint(1, 8))]
    old = [[-rng.expovariate(1) for _ in range(n)] for n in lengths]
    new = [[x + rng.gauss(0, 0.4) for x in row] for row in old]
    return Step(new, old, [rng.gauss(0, 1) for _ in lengths])


def plain(step: Step, kind: LossType) -> tuple[float, list[list[float]]]:
    """Value and gradient with respect to the new log-probs, token by token."""
    value, gradient, count = 0.0, [], len(step.new)
    for new, old, advantage in zip(step.new, step.old, step.advantages, strict=True):
        divisor = {
            "grpo": len(new) * count,
            "dapo": sum(map(len, step.new)),
            "dr_grpo": MAX_TOKENS * count,
        }[kind]
        row = []
        for a, b in zip(new, old, strict=True):
            ratio = math.exp(a - b)
            bounded = min(max(ratio, 1 - LOW), 1 + HIGH)
            value -= min(ratio * advantage, bounded * advantage) / divisor
            row.append(-ratio * advantage / divisor if ratio * advantage <= bounded * advantage else 0.0)
        gradient.append(row)
    return value, gradient


def loss_of(step: Step, indices: list[int], kind: LossType, normaliser: Normaliser) -> tuple[Loss, Tensor]:
    """The loss of some of the step's completions, and the leaf that its gradient goes to."""
    lengths = torch.tensor([step.lengths[i] for i in indices])

    def flat(rows: list[list[float]]) -> Tensor:
        return torch.tensor([x for i in indices for x in rows[i]], dtype=torch.float64)

    def per_token(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).repeat_interleave(lengths)

    new_N = flat(step.new).requires_grad_()
    advantages_N = per_token([step.advantages[i] for i in indices])
    weights_N = per_token(normaliser.weights(indices))
    return clipped_loss(new_N, flat(step.old), advantages_N, weights_N, clip_low=LOW, clip_high=HIGH), new_N


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), tokens=st.integers(1, 4))
def test_micro_batches_sum_to_the_plain_loop(kind: LossType, seed: int, tokens: int) -> None:
    step = step_of(seed, empty=True)
    normaliser = Normaliser(kind, step.lengths, MAX_TOKENS)
    order = list(range(len(step.new)))
    Random(seed).shuffle(order)
    value, gradient = 0.0, [[] for _ in order]
    for start in range(0, len(order), tokens):
        indices = order[start : start + tokens]
        loss, new_N = loss_of(step, indices, kind, normaliser)
        loss.value.backward()
        value += loss.value.item()
        for i, part in zip(indices, new_N.grad.split([step.lengths[i] for i in indices]), strict=True):
            gradient[i] = part.tolist()
    expected, expected_gradient = plain(step, kind)
    assert value == pytest.approx(expected, rel=1e-12, abs=1e-12)
    for found, wanted in zip(gradient, expected_gradient, strict=True):
        assert found == pytest.approx(wanted, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("kind", TYPES)
def test_on_the_first_pass_it_is_the_plain_policy_gradient(kind: LossType) -> None:
    step = step_of(5)
    step = Step(step.old, step.old, step.advantages)
    normaliser = Normaliser(kind, step.lengths, MAX_TOKENS)
    loss, new_N = loss_of(step, list(range(len(step.new))), kind, normaliser)
    loss.value.backward()
    each = zip(step.advantages, normaliser.weights(range(len(step.new))), step.lengths, strict=True)
    assert new_N.grad.tolist() == pytest.approx([-a * w for a, w, n in each for _ in range(n)], rel=1e-12)
    assert (loss.clipped, loss.kl_sum) == (0, 0.0)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [
        (1 + HIGH + 0.01, 1.0, False),  # good and already more likely: enough
        (1 - LOW - 0.01, -1.0, False),  # bad and already less likely: enough
        (1 + HIGH + 0.01, -1.0, True),  # bad but more likely than before: must come back
        (1 - LOW - 0.01, 1.0, True),  # good but less likely than before: must come back
        (1 + HIGH - 0.01, 1.0, True),
        (1 - LOW + 0.01, -1.0, True),
        (1 + LOW + 0.01, 1.0, True),  # between the two bounds: the upper one is its own (clip-higher)
    ],
)
def test_the_clip_stops_only_what_has_gone_far_enough(ratio: float, advantage: float, moves: bool) -> None:
    new_N = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    one_N = torch.ones(1, dtype=torch.float64)
    loss = clipped_loss(new_N, 0 * one_N, advantage * one_N, one_N, clip_low=LOW, clip_high=HIGH)
    loss.value.backward()
    assert (new_N.grad.item() != 0) == moves
    assert loss.clipped == (not moves)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=20))
def test_the_kl_estimate_is_never_negative(log_ratios: list[float]) -> None:
    new_N = torch.tensor(log_ratios, dtype=torch.float64)
    zero_N = torch.zeros_like(new_N)
    expected = sum(math.exp(x) - 1 - x for x in log_ratios)
    loss = clipped_loss(new_N, zero_N, zero_N, zero_N)
    assert loss.kl_sum == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert loss.kl_sum >= -1e-15 * len(log_ratios)  # but for rounding


@given(st.lists(st.integers(1, MAX_TOKENS), min_size=1, max_size=20))
def test_the_weights_of_all_tokens(lengths: list[int]) -> None:
    def total(kind: LossType) -> float:
        weights = Normaliser(kind, tuple(lengths), MAX_TOKENS).weights(range(len(lengths)))
        return sum(n * w for n, w in zip(lengths, weights, strict=True))

    assert total("grpo") == pytest.approx(1)
    assert total("dapo") == pytest.approx(1)
    assert total("dr_grpo") == pytest.approx(sum(lengths) / len(lengths) / MAX_TOKENS)
