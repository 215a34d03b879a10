"""Losses against a loop over tokens that has its own gradients, and the laws that hold for any step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from thinksmith.training.rl.advantages import group_advantages
from thinksmith.training.rl.losses import (
    KLEstimator,
    Loss,
    LossRules,
    LossType,
    Normaliser,
    kl_estimate,
    policy_loss,
    top_entropy_mask,
)

MAX_TOKENS = 50
CLIPPED: tuple[LossType, ...] = ("grpo", "bnpo", "dr_grpo", "dapo")
TYPES: tuple[LossType, ...] = (*CLIPPED, "cispo", "gspo")
ESTIMATORS: tuple[KLEstimator, ...] = ("k1", "k2", "k3")
Rows = list[list[float]]


@dataclass(frozen=True)
class Step:
    """Completions of one optimiser step: log-probs per token of the policy, the old one and the reference; whether a
    token is kept by the mask; one advantage per completion. The rollout has `more` tokens besides, for other steps."""

    new: Rows
    old: Rows
    reference: Rows
    keep: list[list[bool]]
    advantages: list[float]
    more: int = 0
    minibatches: int = 1

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(map(len, self.new))

    def normaliser(self, kind: LossType) -> Normaliser:
        return Normaliser(kind, self.lengths, MAX_TOKENS, sum(self.lengths) + self.more, self.minibatches)


def step_of(seed: int, *, empty: bool = False) -> Step:
    rng = Random(seed)
    lengths = [rng.randint(0 if empty else 1, 9) for _ in range(rng.randint(1, 8))]
    old = [[-rng.expovariate(1) for _ in range(n)] for n in lengths]
    new = [[x + rng.gauss(0, 0.5) for x in row] for row in old]
    reference = [[x + rng.gauss(0, 0.5) for x in row] for row in old]
    keep = [[rng.random() < 0.6 for _ in row] for row in old]
    return Step(new, old, reference, keep, [rng.gauss(0, 1) for _ in lengths], rng.randint(0, 30), rng.randint(1, 3))


def rules_of(kind: LossType, seed: int) -> LossRules:
    rng = Random(seed)
    high = rng.choice([0.9, 1.5]) if kind == "cispo" else 0.28
    beta, delta = rng.choice([0.0, 0.3]), rng.choice([0.0, 1.4])
    return LossRules(kind, 0.2, high, delta, beta, rng.choice(ESTIMATORS))


def divisor(step: Step, kind: LossType, length: int) -> float:
    return {
        "grpo": length * len(step.new),
        "gspo": length * len(step.new),
        "dr_grpo": MAX_TOKENS * len(step.new),
        "bnpo": sum(step.lengths),
        "dapo": (sum(step.lengths) + step.more) / step.minibatches,
        "cispo": (sum(step.lengths) + step.more) / step.minibatches,
    }[kind]


def clipped_gain(ratio: float, advantage: float, rules: LossRules) -> tuple[float, float]:
    """The gain, and its derivative by the logarithm of the ratio, case by case."""
    if advantage >= 0:
        top = 1 + rules.clip_high
        return (ratio * advantage, ratio * advantage) if ratio <= top else (top * advantage, 0.0)
    if ratio < 1 - rules.clip_low:
        return (1 - rules.clip_low) * advantage, 0.0
    if rules.delta and ratio > rules.delta:
        return rules.delta * advantage, 0.0
    return ratio * advantage, ratio * advantage


def kl_and_slope(new: float, reference: float, estimator: KLEstimator) -> tuple[float, float]:
    gap = new - reference
    return {
        "k1": (gap, 1.0),
        "k2": (gap * gap / 2, gap),
        "k3": (math.exp(-gap) + gap - 1, 1 - math.exp(-gap)),
    }[estimator]


def plain(step: Step, rules: LossRules, *, masked: bool) -> tuple[float, Rows]:
    """Value and gradient with respect to the new log-probs, token by token."""
    value, gradient = 0.0, []
    for new, old, reference, keep, advantage in zip(
        step.new, step.old, step.reference, step.keep, step.advantages, strict=True
    ):
        weight = 1 / divisor(step, rules.loss_type, len(new)) if new else 0.0
        row = [0.0] * len(new)
        mean = sum(a - b for a, b in zip(new, old, strict=True)) / max(len(new), 1)
        for t, (a, b) in enumerate(zip(new, old, strict=True)):
            if keep[t] or not masked:
                if rules.loss_type == "cispo":
                    bounded = min(math.exp(a - b), rules.clip_high)
                    gain, slope = bounded * advantage * a, bounded * advantage
                    row[t] -= weight * slope
                elif rules.loss_type == "gspo":
                    gain, slope = clipped_gain(math.exp(mean), advantage, rules)
                    row = [x - weight * slope / len(new) for x in row]
                else:
                    gain, slope = clipped_gain(math.exp(a - b), advantage, rules)
                    row[t] -= weight * slope
                value -= weight * gain
            kl, slope = kl_and_slope(a, reference[t], rules.kl_estimator)
            value += weight * rules.beta * kl
            row[t] += weight * rules.beta * slope
        gradient.append(row)
    return value, gradient


def loss_of(
    step: Step, indices: list[int], rules: LossRules, *, masked: bool = False, shuffle: int | None = None
) -> tuple[Loss, Rows]:
    """The loss of some of the step's completions, their tokens in any order, and the gradient of each completion."""
    places = [(row, i, t) for row, i in enumerate(indices) for t in range(step.lengths[i])]
    if shuffle is not None:
        Random(shuffle).shuffle(places)

    def flat(rows: Rows) -> Tensor:
        return torch.tensor([rows[i][t] for _, i, t in places], dtype=torch.float64)

    weights = step.normaliser(rules.loss_type).weights(indices)
    new_N = flat(step.new).requires_grad_()
    loss = policy_loss(
        new_N,
        flat(step.old),
        torch.tensor([step.advantages[i] for _, i, _ in places], dtype=torch.float64),
        torch.tensor([weights[row] for row, _, _ in places], dtype=torch.float64),
        rules,
        rows_N=torch.tensor([row for row, _, _ in places], dtype=torch.int64),
        reference_N=flat(step.reference),
        mask_N=torch.tensor([step.keep[i][t] for _, i, t in places], dtype=torch.bool) if masked else None,
    )
    loss.value.backward()
    gradient = [[0.0] * step.lengths[i] for i in indices]
    for (row, _, t), slope in zip(places, new_N.grad.tolist(), strict=True):
        gradient[row][t] = slope
    return loss, gradient


def everything(step: Step) -> list[int]:
    return list(range(len(step.new)))


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 4), masked=st.booleans())
def test_any_cut_in_any_order_sums_to_the_plain_loop(kind: LossType, seed: int, rows: int, masked: bool) -> None:
    step, rules = step_of(seed, empty=True), rules_of(kind, seed)
    order = everything(step)
    Random(seed).shuffle(order)
    value, gradient = 0.0, [[] for _ in order]
    for start in range(0, len(order), rows):
        indices = order[start : start + rows]
        loss, found = loss_of(step, indices, rules, masked=masked, shuffle=seed)
        value += loss.value.item()
        for i, part in zip(indices, found, strict=True):
            gradient[i] = part
    expected, expected_gradient = plain(step, rules, masked=masked)
    assert value == pytest.approx(expected, rel=1e-11, abs=1e-12)
    for found_row, wanted in zip(gradient, expected_gradient, strict=True):
        assert found_row == pytest.approx(wanted, rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_the_sums_for_metrics(kind: LossType, seed: int) -> None:
    step, rules = step_of(seed), rules_of(kind, seed)
    loss, _ = loss_of(step, everything(step), rules, shuffle=seed)
    pairs = [list(zip(new, old, strict=True)) for new, old in zip(step.new, step.old, strict=True)]
    gaps = [a - b for row in pairs for a, b in row]
    ratios = [
        ([math.exp(sum(a - b for a, b in row) / len(row))] if kind == "gspo" else [math.exp(a - b) for a, b in row])
        for row in pairs
    ]
    top, bottom = (rules.clip_high, -1.0) if kind == "cispo" else (1 + rules.clip_high, 1 - rules.clip_low)
    each = [(r, advantage) for row, advantage in zip(ratios, step.advantages, strict=True) for r in row]
    assert (loss.tokens, loss.ratios) == (len(gaps), len(each))
    assert loss.clipped_low == sum(a < 0 and r < bottom for r, a in each)
    assert loss.clipped_high == sum(a > 0 and r > top for r, a in each)
    assert loss.largest_ratio == pytest.approx(max(r for r, _ in each))
    assert loss.drift_sum == pytest.approx(sum(math.exp(g) - 1 - g for g in gaps))
    kls = [
        kl_and_slope(a, r, rules.kl_estimator)[0]
        for new, ref in zip(step.new, step.reference, strict=True)
        for a, r in zip(new, ref, strict=True)
    ]
    assert loss.kl_sum == pytest.approx(sum(kls), abs=1e-12)


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_on_the_first_pass_all_are_the_plain_policy_gradient(kind: LossType, seed: int) -> None:
    step = step_of(seed)
    step = replace(step, new=step.old)
    rules = LossRules(kind, 0.2, 5.0 if kind == "cispo" else 0.28, 1.4)
    loss, gradient = loss_of(step, everything(step), rules)
    weights = step.normaliser(kind).weights(everything(step))
    for row, advantage, weight in zip(gradient, step.advantages, weights, strict=True):
        assert row == pytest.approx([-advantage * weight] * len(row), rel=1e-12)
    assert (loss.clipped_low, loss.clipped_high, loss.drift_sum, loss.largest_ratio) == (0, 0, 0.0, 1.0)


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), reward=st.floats(-10, 10), spread=st.floats(0.1, 1e4))
def test_equal_rewards_give_exactly_no_gradient(kind: LossType, seed: int, reward: float, spread: float) -> None:
    step = step_of(seed)
    count = len(step.new)
    advantages = group_advantages([reward] * count, [0] * count).tolist()
    new = [[b + spread * (a - b) for a, b in zip(*rows, strict=True)] for rows in zip(step.new, step.old, strict=True)]
    step = replace(step, new=new, advantages=advantages)
    loss, gradient = loss_of(step, everything(step), replace(rules_of(kind, seed), beta=0.0))
    assert loss.value.item() == 0
    assert not any(any(row) for row in gradient)


@pytest.mark.parametrize("kind", [*CLIPPED, "gspo"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("delta", [0.0, 1.4])
def test_gradcheck(kind: LossType, estimator: KLEstimator, delta: float) -> None:
    generator = torch.Generator().manual_seed(3)
    old_N, gap_N, advantages_N, reference_N = torch.randn(4, 24, generator=generator, dtype=torch.float64)
    rows_N = torch.arange(24) % 5
    advantages_N = advantages_N[rows_N]

    def value(new_N: Tensor) -> Tensor:
        weights_N = torch.linspace(0.1, 0.5, 24, dtype=torch.float64)
        rules = LossRules(kind, 0.2, 0.28, delta, 0.5, estimator)
        mask_N = torch.arange(24) % 3 > 0
        return policy_loss(
            new_N, old_N, advantages_N, weights_N, rules, rows_N=rows_N, reference_N=reference_N, mask_N=mask_N
        ).value

    assert torch.autograd.gradcheck(value, ((old_N + 0.4 * gap_N).requires_grad_(),))


@pytest.mark.parametrize("kind", CLIPPED)
@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [
        (1.29, 1.0, False),  # good and already more likely: enough
        (0.79, -1.0, False),  # bad and already less likely: enough
        (1.29, -1.0, True),  # bad but more likely than before: must come back
        (0.79, 1.0, True),  # good but less likely than before: must come back
        (1.27, 1.0, True),
        (0.81, -1.0, True),
        (1.21, 1.0, True),  # between the two bounds: the upper one is its own (clip-higher)
        (2.9, -1.0, True),
        (3.1, -1.0, False),  # beyond delta: the dual clip
        (3.1, 1.0, False),
    ],
)
def test_the_clip_stops_only_what_has_gone_far_enough(
    kind: LossType, ratio: float, advantage: float, moves: bool
) -> None:
    step = Step([[math.log(ratio)]], [[0.0]], [[0.0]], [[True]], [advantage])
    loss, [[slope]] = loss_of(step, [0], LossRules(kind, 0.2, 0.28, 3.0))
    assert (slope != 0) == moves
    assert loss.clipped_low == (not moves and ratio < 1)
    assert loss.clipped_high == (not moves and ratio > 1 and advantage > 0)


def extreme(
    rules: LossRules, log_ratio: float, advantage: float, *, keep: bool = True
) -> tuple[float, list[float], Loss]:
    """Two completions in fp32, an ordinary token and an extreme one each; value, and the gradients."""
    old_N = torch.full((4,), -1.0)
    new_N = (old_N + torch.tensor([0.0, log_ratio, 0.0, 0.1])).requires_grad_()
    advantages_N = torch.tensor([advantage, advantage, 1.0, 1.0])
    rows_N = torch.tensor([0, 0, 1, 1])
    mask_N = torch.tensor([keep, keep, True, True])
    loss = policy_loss(new_N, old_N, advantages_N, torch.full((4,), 0.25), rules, rows_N=rows_N, mask_N=mask_N)
    loss.value.backward()
    return loss.value.item(), new_N.grad.tolist(), loss


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("log_ratio", [61.0, 88.0, 90.0, 1e3, 1e30, -90.0, -1e3, -1e30])
@pytest.mark.parametrize(("advantage", "delta", "keep"), [(1.0, 0, 1), (0.0, 0, 1), (-1.0, 1.5, 1), (-1.0, 0, 0)])
def test_extreme_ratios_are_finite(
    kind: LossType, log_ratio: float, advantage: float, delta: float, keep: bool
) -> None:
    value, gradient, loss = extreme(LossRules(kind, delta=delta), log_ratio, advantage, keep=bool(keep))
    assert math.isfinite(value)
    assert all(map(math.isfinite, gradient))
    assert not math.isnan(loss.largest_ratio)
    if kind != "cispo":  # gone far enough: exactly none; or so unlikely that r itself is next to nothing
        assert gradient[1] == 0 if log_ratio > 0 or advantage <= 0 else abs(gradient[1]) < 1e-18
    assert gradient[2] != 0


@pytest.mark.parametrize("kind", [*CLIPPED, "gspo"])
def test_a_ratio_without_a_bound_is_infinite_and_not_nan(kind: LossType) -> None:
    value, gradient, loss = extreme(LossRules(kind), 1e3, -1.0)
    assert (value, gradient[1], loss.largest_ratio) == (math.inf, math.inf, math.inf)
    assert math.isfinite(gradient[2])
    big, slopes, _ = extreme(LossRules(kind), 140.0 if kind == "gspo" else 70.0, -1.0)  # exp(70) fits: it is not cut
    ordinary = (1.0 if kind == "gspo" else 0.5) * math.exp(70) / 2
    assert big == pytest.approx(ordinary if kind == "gspo" else math.exp(70) / 4, rel=1e-4)
    assert slopes[1] > 0


def test_a_reference_far_above_is_infinite_and_not_nan() -> None:
    new_N = torch.tensor([-1e3, -1.0], requires_grad=True)
    one_N, old_N = torch.ones(2), torch.tensor([-1e3, -1.0])
    rules = LossRules("dapo", beta=0.1)
    loss = policy_loss(new_N, old_N, one_N, one_N, rules, rows_N=torch.arange(2), reference_N=-one_N)
    loss.value.backward()
    assert loss.value.item() == math.inf
    assert new_N.grad.tolist() == [-math.inf, -1.0]
    watched = policy_loss(
        new_N, old_N, one_N, one_N, LossRules("dapo"), rows_N=torch.arange(2), reference_N=-one_N
    )  # without beta the KL is only told
    assert (watched.value.item(), watched.kl_sum) == (-2.0, math.inf)


def test_small_kls_keep_their_digits_in_fp32() -> None:
    gap = 2.0**-12  # exact beside 1 in fp32
    new_N, reference_N = torch.tensor([-1.0]), torch.tensor([-1.0 + gap])
    assert kl_estimate(new_N, reference_N, "k3").item() == pytest.approx(math.expm1(gap) - gap, rel=1e-3)
    loss = policy_loss(reference_N, new_N, new_N, new_N, LossRules("dapo"), rows_N=torch.tensor([0]))
    assert loss.drift_sum == pytest.approx(math.expm1(gap) - gap, rel=1e-3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_what_the_gradient_of_a_kl_estimate_is_in_expectation(estimator: KLEstimator) -> None:
    """Over a whole vocabulary, each token weighted by its probability: the claims of `kl_estimate`."""
    generator = torch.Generator().manual_seed(1)
    logits_V = torch.randn(9, generator=generator, dtype=torch.float64).requires_grad_()
    reference_V = torch.randn(9, generator=generator, dtype=torch.float64).log_softmax(0)
    logprobs_V = logits_V.log_softmax(0)
    kl = (logprobs_V.exp() * (logprobs_V - reference_V)).sum()
    kl_back = (reference_V.exp() * (reference_V - logprobs_V)).sum()
    zero_V = torch.zeros(9, dtype=torch.float64)
    wanted = {
        "k1": zero_V,
        "k2": torch.autograd.grad(kl, logits_V, retain_graph=True)[0],
        "k3": torch.autograd.grad(kl_back, logits_V, retain_graph=True)[0],
    }[estimator]
    old_V, rules = logprobs_V.detach(), LossRules("dapo", beta=1.0, kl_estimator=estimator)
    rows_V = torch.zeros(9, dtype=torch.int64)
    loss = policy_loss(logprobs_V, old_V, zero_V, old_V.exp(), rules, rows_N=rows_V, reference_N=reference_V)
    (found,) = torch.autograd.grad(loss.value, logits_V)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    if estimator != "k2":  # the two that are unbiased as a number
        assert loss.value.item() == pytest.approx(kl.item(), rel=1e-12)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=20))
def test_k3_is_never_negative(gaps: list[float]) -> None:
    reference_N = torch.tensor(gaps, dtype=torch.float64)
    assert (kl_estimate(torch.zeros_like(reference_N), reference_N, "k3") >= 0).all()


def test_beta_needs_a_reference() -> None:
    one_N = torch.ones(1)
    with pytest.raises(ValueError, match="reference"):
        policy_loss(one_N, one_N, one_N, one_N, LossRules("dapo", beta=0.1), rows_N=torch.tensor([0]))


@pytest.mark.parametrize("kind", TYPES)
def test_a_micro_batch_without_tokens(kind: LossType) -> None:
    step = Step([[], []], [[], []], [[], []], [[], []], [1.0, -1.0])
    loss, gradient = loss_of(step, [0, 1], LossRules(kind, beta=0.1), masked=True)
    assert (loss.value.item(), loss.tokens, loss.ratios, loss.largest_ratio) == (0.0, 0, 0, 0.0)
    assert gradient == [[], []]


@given(st.lists(st.lists(st.integers(0, MAX_TOKENS), min_size=2, max_size=6), min_size=1, max_size=4))
def test_the_weights_of_all_tokens(steps: list[list[int]]) -> None:
    """Each list is one optimiser step of a pass over the rollout; a completion of no tokens is one that is masked."""
    whole = sum(map(sum, steps))

    def total(kind: LossType, lengths: list[int]) -> float:
        weights = Normaliser(kind, tuple(lengths), MAX_TOKENS, whole, len(steps)).weights(range(len(lengths)))
        return sum(n * w for n, w in zip(lengths, weights, strict=True))

    for lengths in steps:
        share = sum(n > 0 for n in lengths) / len(lengths)  # masked completions stay in the mean
        assert total("grpo", lengths) == pytest.approx(share)
        assert total("gspo", lengths) == pytest.approx(share)
        assert total("bnpo", lengths) == pytest.approx(float(sum(lengths) > 0))
        assert total("dr_grpo", lengths) == pytest.approx(sum(lengths) / len(lengths) / MAX_TOKENS)
        alone = Normaliser("dapo", tuple(lengths), MAX_TOKENS)  # one step that is the whole rollout
        assert alone.weights([0, 1]) == Normaliser("bnpo", tuple(lengths), MAX_TOKENS).weights([0, 1])
    for kind in ("dapo", "cispo"):  # every token of the pass weighs the same, and on average a step's sum to 1
        assert sum(total(kind, lengths) for lengths in steps) == pytest.approx(len(steps) * (whole > 0))


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), share=st.floats(0.01, 0.99), cut=st.integers(0, 60))
def test_the_entropy_mask_keeps_the_highest_whatever_the_cut(seed: int, count: int, share: float, cut: int) -> None:
    entropy_N = torch.rand(count, generator=torch.Generator().manual_seed(seed))
    mask_N = top_entropy_mask(entropy_N, share)
    place = (1 - share) * (count - 1)  # of the threshold, among the sorted
    if abs(place - round(place)) > 1e-3:
        assert int(mask_N.sum()) == count - 1 - math.floor(place)
    assert mask_N[entropy_N.argmax()]
    assert entropy_N[mask_N].min() >= entropy_N[~mask_N].max() if not mask_N.all() else True
    parts = [top_entropy_mask(part, share, of_step=entropy_N) for part in (entropy_N[:cut], entropy_N[cut:])]
    assert torch.equal(torch.cat(parts), mask_N)


def test_the_entropy_mask_at_its_edges() -> None:
    assert top_entropy_mask(torch.tensor([0.0, 0.0, 1.0]), 0.8).tolist() == [True] * 3  # tied at the threshold
    assert top_entropy_mask(torch.tensor([3.0, 1.0, 2.0]), 0.5).tolist() == [True, False, True]
    assert top_entropy_mask(torch.tensor([3.0, 1.0]), 1.0).tolist() == [True, True]
    assert top_entropy_mask(torch.tensor([3.0]), 1.0, of_step=torch.tensor([9.0])).tolist() == [True]
    assert top_entropy_mask(torch.zeros(0), 0.2).tolist() == []
