"""One GRPO step: its gradient against a plain loop, its rollouts' log-probs against the training forward's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_kit import random_examples, rollout_of, same_bits, small_model, weights, word_tokenizer

from thinksmith.engines.local.engine import LocalEngine
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.problems.families import sample
from thinksmith.records import Sampling, Trace
from thinksmith.training.optimizer import Optimizers
from thinksmith.training.rl.advantages import Scale, group_advantages
from thinksmith.training.rl.grpo import Metrics, describe, update
from thinksmith.training.rl.losses import LossType
from thinksmith.training.rl.recipe import TrainingTable
from thinksmith.training.rl.rollout import Rollout, roll_out

MAX_TOKENS = 24
FREE = TrainingTable(max_grad_norm=1e9, micro_tokens=256)


def sampled(policy: Policy, groups: int = 3, each: int = 4) -> Rollout:
    """Completions by the engine, rewarded by how many different tokens they have: any reward will do here."""
    rollout = roll_out(
        LocalEngine(policy),
        sample("arithmetic", {}, groups, split="train", seed=0),
        Sampling(temperature=1.0, max_tokens=MAX_TOKENS),
        num_generations=each,
        step=0,
        weights={"correctness": 1.0},
    )
    rewards = tuple(float(len(set(a.trace.token_ids)) + i % 2) for i, a in enumerate(rollout.attempts))
    return replace(rollout, rewards=rewards)


def gradient_of(policy: Policy, rollout: Rollout, training: TrainingTable) -> tuple[torch.Tensor, Metrics]:
    """The gradient that `update` made: AdamW's first moment after its first step is a tenth of it."""
    before = weights(policy.model)
    optimizers = Optimizers(policy.model, "adamw", 1e-4)
    metrics = update(policy, rollout, training, optimizers, 1.0, MAX_TOKENS)
    state = optimizers.parts[0].state
    policy.model.load_state_dict(before)
    policy.touch()
    return torch.cat([state[p]["exp_avg"].flatten() * 10 for p in policy.model.parameters()]), metrics


def plain_gradient(policy: Policy, rollout: Rollout, kind: LossType, scale: Scale) -> torch.Tensor:
    """-sum of weight · advantage · grad log p over tokens, a completion at a time, from the whole model's logits."""
    advantages = group_advantages(rollout.rewards, rollout.groups, scale=scale)
    lengths = [len(attempt.trace.token_ids) for attempt in rollout.attempts]
    count = len(lengths)
    policy.model.zero_grad(set_to_none=True)
    for attempt, advantage, length in zip(rollout.attempts, advantages, lengths, strict=True):
        divisor = {"grpo": length * count, "dapo": sum(lengths), "dr_grpo": MAX_TOKENS * count}[kind]
        prompt, completion = attempt.trace.prompt_ids, torch.tensor(attempt.trace.token_ids)
        logits_TV = policy.model(input_ids=torch.tensor([prompt + attempt.trace.token_ids])).logits[0].float()
        logprobs_TV = logits_TV[len(prompt) - 1 : -1].log_softmax(-1)
        (-advantage / divisor * logprobs_TV.gather(-1, completion[:, None]).sum()).backward()
    found = torch.cat([p.grad.flatten() for p in policy.model.parameters()])
    policy.model.zero_grad(set_to_none=True)
    return found


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_rollouts_and_training_agree_on_every_log_prob(checkpoint: Path) -> None:
    policy = load_policy(str(checkpoint))
    rollout = sampled(policy)
    _, metrics = gradient_of(policy, rollout, FREE)
    assert metrics["kept_share"] > 0.5
    assert 0 < metrics["largest_logprob_gap"] <= 1e-4
    assert metrics["logprob_gap"] <= metrics["largest_logprob_gap"]
    assert (metrics["clip_share"], metrics["kl"]) == (0.0, pytest.approx(0.0, abs=1e-6))


@pytest.fixture(scope="module")
def qwen(checkpoints: dict[str, Path]) -> tuple[Policy, Rollout]:
    policy = load_policy(str(checkpoints["Qwen2"]))
    return policy, sampled(policy)


@pytest.mark.parametrize(
    ("kind", "scale"), [("grpo", "group"), ("dapo", "group"), ("dr_grpo", "none")], ids=lambda x: str(x)
)
def test_the_first_step_follows_the_plain_policy_gradient(
    qwen: tuple[Policy, Rollout], kind: LossType, scale: Scale
) -> None:
    policy, rollout = qwen
    training = FREE.model_copy(update={"loss_type": kind, "scale_rewards": scale})
    found, _ = gradient_of(policy, rollout, training)
    assert distance(found, plain_gradient(policy, rollout, kind, scale)) <= 1e-4


def test_what_the_engine_forced_is_read_and_not_learnt(qwen: tuple[Policy, Rollout]) -> None:
    """The forced tokens stay in the context of those after them; loss, normaliser and metrics leave them out."""
    policy, rollout = qwen
    forced = [tuple(range(1, len(a.trace.token_ids), 3)) for a in rollout.attempts]
    attempts = tuple(
        replace(a, trace=replace(a.trace, forced=f)) for a, f in zip(rollout.attempts, forced, strict=True)
    )
    rollout = replace(rollout, attempts=attempts)
    found, metrics = gradient_of(policy, rollout, FREE)
    advantages = group_advantages(rollout.rewards, rollout.groups, scale="group")
    chosen = [[t for t in range(len(a.trace.token_ids)) if t not in a.trace.forced] for a in attempts]
    policy.model.zero_grad(set_to_none=True)
    for attempt, advantage, free in zip(attempts, advantages, chosen, strict=True):
        prompt, ids = attempt.trace.prompt_ids, torch.tensor(attempt.trace.token_ids)
        logits_TV = policy.model(input_ids=torch.tensor([prompt + attempt.trace.token_ids])).logits[0].float()
        logprobs_T = logits_TV[len(prompt) - 1 : -1].log_softmax(-1).gather(-1, ids[:, None])[:, 0]
        (-advantage / sum(map(len, chosen)) * logprobs_T[free].sum()).backward()
    plain = torch.cat([p.grad.flatten() for p in policy.model.parameters()])
    policy.model.zero_grad(set_to_none=True)
    assert distance(found, plain) <= 1e-4
    assert metrics["largest_logprob_gap"] <= 1e-4


def test_micro_batches_change_nothing(qwen: tuple[Policy, Rollout]) -> None:
    policy, rollout = qwen
    whole, one = gradient_of(policy, rollout, FREE.model_copy(update={"micro_tokens": 10**6}))
    single, other = gradient_of(policy, rollout, FREE.model_copy(update={"micro_tokens": 1}))
    assert distance(single, whole) <= 1e-6
    assert other == pytest.approx(one, rel=1e-3, abs=1e-5)


def test_the_order_of_the_attempts_changes_nothing(qwen: tuple[Policy, Rollout]) -> None:
    policy, rollout = qwen
    order = sorted(range(len(rollout.attempts)), key=lambda i: (i * 7) % len(rollout.attempts))
    moved = Rollout(*(tuple(values[i] for i in order) for values in (
        rollout.attempts, rollout.groups, rollout.rewards, rollout.parts
    )))  # fmt: skip
    assert distance(gradient_of(policy, moved, FREE)[0], gradient_of(policy, rollout, FREE)[0]) <= 1e-6


@pytest.fixture
def small() -> Policy:
    return Policy(small_model("Qwen2", 9), word_tokenizer(), "words")


def made_up(policy: Policy, count: int) -> list[Trace]:
    """Traces of random tokens with the log-probs that the policy itself gives them."""
    traces = []
    for example in random_examples(count, 9):
        ids_BT = torch.tensor([example.prompt_ids + example.completion_ids])
        where_BT = torch.arange(ids_BT.shape[1])[None] >= len(example.prompt_ids)
        with torch.no_grad():
            logprobs = policy.logprobs(ids_BT, where_BT).logprobs_BT[where_BT].tolist()
        traces.append(
            Trace("", "", token_ids=example.completion_ids, prompt_ids=example.prompt_ids, logprobs=tuple(logprobs))
        )
    return traces


def moved_by(policy: Policy, rollout: Rollout, **training: Any) -> tuple[bool, Metrics]:
    before = weights(policy.model)
    table = TrainingTable(weight_decay=0.1, **training)
    metrics = update(policy, rollout, table, Optimizers(policy.model, "adamw", 1e-2, weight_decay=0.1), 1.0, 64)
    return not same_bits(weights(policy.model), before), metrics


@pytest.mark.parametrize("reward", [0.0, 0.1, 1.0, None])
def test_groups_of_equal_rewards_leave_the_weights_as_they_are(small: Policy, reward: float | None) -> None:
    rollout = rollout_of(made_up(small, 6), [0, 0, 0, 1, 1, 1], [reward] * 6)
    moved, metrics = moved_by(small, rollout)
    assert not moved
    assert (metrics["kept_share"], metrics["trained_tokens"], metrics["grad_norm"]) == (0, 0, 0)


def test_only_groups_that_differ_and_completions_that_count_are_trained_on(small: Policy) -> None:
    traces = made_up(small, 9)
    groups, rewards = [0, 0, 0, 1, 1, 1, 2, 2, 2], [1.0, 0.0, None, 1.0, 1.0, None, 0.1, 0.1, 0.1]
    moved, metrics = moved_by(small, rollout_of(traces, groups, rewards))
    assert moved
    assert metrics["kept_share"] == pytest.approx(2 / 9)
    assert metrics["trained_tokens"] == sum(len(t.prompt_ids) + len(t.token_ids) for t in traces[:2])


def test_a_step_makes_the_better_completion_more_likely(small: Policy) -> None:
    traces = made_up(small, 2)
    moved_by(small, rollout_of(traces, [0, 0], [1.0, 0.0]))
    # Scored again, against the log-probs of before: the good one gained on the bad one.
    ids = [torch.tensor([t.prompt_ids + t.token_ids]) for t in traces]
    where = [torch.arange(i.shape[1])[None] >= len(t.prompt_ids) for i, t in zip(ids, traces, strict=True)]
    with torch.no_grad():
        now = [float(small.logprobs(i, w).logprobs_BT.sum()) for i, w in zip(ids, where, strict=True)]
    gained = [after - sum(t.logprobs) for after, t in zip(now, traces, strict=True)]
    assert gained[0] > gained[1]


def test_an_empty_completion_does_no_harm(small: Policy) -> None:
    traces = [*made_up(small, 2), Trace("", "", prompt_ids=(3,), logprobs=())]
    _, metrics = moved_by(small, rollout_of(traces, [0, 0, 0], [1.0, 0.0, 0.5]))
    assert all(torch.isfinite(p).all() for p in small.model.parameters())
    assert metrics["kept_share"] == pytest.approx(2 / 3)


def test_an_engine_without_log_probs_cannot_be_trained_on(small: Policy) -> None:
    traces = [replace(trace, logprobs=None) for trace in made_up(small, 2)]
    with pytest.raises(ValueError, match="log-probabilities"):
        moved_by(small, rollout_of(traces, [0, 0], [1.0, 0.0]))


def test_means_leave_out_what_has_no_reward(small: Policy) -> None:
    metrics = describe(rollout_of(made_up(small, 3), [0, 0, 0], [1.0, None, 0.0]))
    assert (metrics["reward"], metrics["reward/correctness"]) == (0.5, 0.5)
    assert metrics["accuracy"] == 0.0
