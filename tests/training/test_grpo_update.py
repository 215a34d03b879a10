"""One GRPO update: its gradient against a plain loop, its rollouts' log-probs against the training forward's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_kit import random_examples, rollout_of, same_bits, small_model, weights, word_tokenizer

from thinksmith.engines.local.engine import LocalEngine
from thinksmith.policy.adapter import LoRA, add_lora
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.problems.families import sample
from thinksmith.records import Trace
from thinksmith.training.optimizer import Optimizers
from thinksmith.training.recompute import recompute_layers
from thinksmith.training.reference import reference_of
from thinksmith.training.rl.advantages import Scale, group_advantages
from thinksmith.training.rl.losses import LossType
from thinksmith.training.rl.prompts import Prompts
from thinksmith.training.rl.recipe import CurriculumTable, GRPORecipe, RolloutTable, TrainingTable
from thinksmith.training.rl.rewards import scorer
from thinksmith.training.rl.rollout import Rollout, roll_out
from thinksmith.training.rl.update import update
from thinksmith.training.rows import Metrics
from thinksmith.training.step import NotFiniteError

MAX_TOKENS = 24
ALL: tuple[LossType, ...] = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "gspo")


def recipe_of(max_tokens: int = MAX_TOKENS, temperature: float = 1.0, **training: Any) -> GRPORecipe:
    settings = {"max_grad_norm": 1e9, "micro_tokens": 256} | training
    if settings.get("loss_type") == "cispo":
        settings["epsilon_high"] = 5.0
    return GRPORecipe(
        rollout=RolloutTable(max_tokens=max_tokens, temperature=temperature), training=TrainingTable(**settings)
    )


def sampled(policy: Policy, groups: int = 3, each: int = 4) -> Rollout:
    """Completions by the engine, rewarded by how many different tokens they have: any reward will do here."""
    problems = sample("arithmetic", {}, groups, split="train", seed=0)
    table = RolloutTable(prompts=groups, num_generations=each, max_tokens=MAX_TOKENS)
    prompts = Prompts(problems, 0, CurriculumTable())
    rollout = roll_out(LocalEngine(policy), prompts, table, scorer({"correctness": 1.0}), seed=0, step=0)
    rewards = tuple(float(len(set(a.trace.token_ids)) + i % 2) for i, a in enumerate(rollout.attempts))
    return replace(rollout, rewards=rewards)


def gradient_of(policy: Policy, rollout: Rollout, recipe: GRPORecipe, **more: Any) -> tuple[torch.Tensor, Metrics]:
    """The gradient that `update` made: AdamW's first moment after its first step is a tenth of it."""
    before = weights(policy.model)
    optimizers = Optimizers(policy.model, "adamw", 1e-4)
    metrics = update(policy, rollout, recipe, optimizers, 1.0, **more)
    state = optimizers.parts[0].state
    policy.model.load_state_dict(before)
    policy.touch()
    learnt = [p for p in policy.model.parameters() if p.requires_grad]
    return torch.cat([state[p]["exp_avg"].flatten() * 10 for p in learnt]), metrics


def logprobs_of(policy: Policy, trace: Trace, temperature: float = 1.0) -> torch.Tensor:
    """[T], from the whole model's logits."""
    logits_TV = policy.model(input_ids=torch.tensor([trace.prompt_ids + trace.token_ids])).logits[0].float()
    logprobs_TV = (logits_TV[len(trace.prompt_ids) - 1 : -1] / temperature).log_softmax(-1)
    return logprobs_TV.gather(-1, torch.tensor(trace.token_ids)[:, None])[:, 0]


def plain(policy: Policy, loss: Callable[[], torch.Tensor]) -> torch.Tensor:
    """The gradient of a loss."""
    policy.model.zero_grad(set_to_none=True)
    loss().backward()
    found = torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.requires_grad])
    policy.model.zero_grad(set_to_none=True)
    return found


def plain_gradient(
    policy: Policy, rollout: Rollout, kind: LossType, scale: Scale, temperature: float = 1.0
) -> torch.Tensor:
    """-sum of weight · advantage · grad log p over tokens, a completion at a time: what every loss is on the first
    pass, where the ratio is 1 (of gspo's, the mean over a completion's tokens is that of the ratio's logarithm)."""
    advantages = group_advantages(rollout.rewards, rollout.groups, scale=scale)
    lengths = [len(attempt.trace.token_ids) for attempt in rollout.attempts]
    count, total = len(lengths), sum(lengths)

    def loss() -> torch.Tensor:
        parts = []
        for attempt, advantage, length in zip(rollout.attempts, advantages, lengths, strict=True):
            by_length = {"grpo": length * count, "gspo": length * count, "dr_grpo": MAX_TOKENS * count}
            logprobs_T = logprobs_of(policy, attempt.trace, temperature)
            parts.append(-advantage / by_length.get(kind, total) * logprobs_T.sum())
        return torch.stack(parts).sum()

    return plain(policy, loss)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_rollouts_and_training_agree_on_every_log_prob(checkpoint: Path) -> None:
    policy = load_policy(str(checkpoint))
    rollout = sampled(policy)
    _, metrics = gradient_of(policy, rollout, recipe_of())
    assert metrics["kept_share"] > 0.5
    assert 0 < metrics["largest_logprob_gap"] <= 1e-4
    assert metrics["logprob_gap"] <= metrics["largest_logprob_gap"]
    assert (metrics["clip_low_share"], metrics["clip_high_share"]) == (0.0, 0.0)
    assert metrics["drift"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["largest_ratio"] == pytest.approx(1.0, abs=1e-3)
    assert metrics["computed_tokens"] < metrics["trained_tokens"]  # each prompt once


@pytest.fixture(scope="module")
def qwen(checkpoints: dict[str, Path]) -> tuple[Policy, Rollout]:
    policy = load_policy(str(checkpoints["Qwen2"]))
    return policy, sampled(policy)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_the_first_step_follows_the_plain_policy_gradient(
    qwen: tuple[Policy, Rollout], kind: LossType, scale: Scale
) -> None:
    policy, rollout = qwen
    found, _ = gradient_of(policy, rollout, recipe_of(loss_type=kind, scale_rewards=scale))
    assert distance(found, plain_gradient(policy, rollout, kind, scale)) <= 1e-4


def test_at_another_temperature_it_is_the_gradient_of_what_was_sampled(qwen: tuple[Policy, Rollout]) -> None:
    policy, rollout = qwen
    found, metrics = gradient_of(policy, rollout, recipe_of(temperature=0.7))
    assert distance(found, plain_gradient(policy, rollout, "dapo", "group", 0.7)) <= 1e-4
    assert metrics["largest_ratio"] == 1.0  # not the log-probabilities at temperature 1
    assert metrics["largest_logprob_gap"] == 0.0


def test_log_probs_that_are_computed_again_make_the_first_ratio_exactly_one(qwen: tuple[Policy, Rollout]) -> None:
    policy, rollout = qwen
    found, metrics = gradient_of(policy, rollout, recipe_of(old_logprobs="computed"))
    assert metrics["largest_ratio"] == 1.0
    assert distance(found, gradient_of(policy, rollout, recipe_of())[0]) <= 1e-4


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
@pytest.mark.parametrize("adapter", [False, True])
def test_the_penalty_pulls_towards_where_training_began(checkpoints: dict[str, Path], kind: Any, adapter: bool) -> None:
    """After the weights have moved: gradient and value against the formulas, with a copy and with the adapter off."""
    policy = load_policy(str(checkpoints["Qwen2"]))
    rollout = sampled(policy)
    if adapter:
        add_lora(policy, LoRA(rank=4))
    with torch.no_grad():
        base = [logprobs_of(policy, a.trace) for a in rollout.attempts]
    reference = reference_of(policy)
    recipe = recipe_of(beta=0.3, kl_estimator=kind)
    optimizers = Optimizers(policy.model, "adamw", 1e-2)
    update(policy, rollout, recipe, optimizers, 1.0, reference=reference)
    with torch.no_grad():
        old = [logprobs_of(policy, a.trace) for a in rollout.attempts]
    moved = replace(
        rollout,
        attempts=tuple(
            replace(a, trace=replace(a.trace, logprobs=tuple(o.tolist())))
            for a, o in zip(rollout.attempts, old, strict=True)
        ),
    )
    advantages = group_advantages(rollout.rewards, rollout.groups, scale="group")
    total = sum(len(a.trace.token_ids) for a in rollout.attempts)
    values = []

    def loss() -> torch.Tensor:
        parts = []
        for attempt, advantage, was, ref in zip(rollout.attempts, advantages, old, base, strict=True):
            now = logprobs_of(policy, attempt.trace)
            kl = {"k1": now - ref, "k2": (now - ref) ** 2 / 2, "k3": (ref - now).exp() - (ref - now) - 1}[kind]
            values.append(float(kl.detach().sum()))
            parts.append(((now - was).exp() * -advantage + 0.3 * kl).sum() / total)
        return torch.stack(parts).sum()

    wanted = plain(policy, loss)
    found, metrics = gradient_of(policy, moved, recipe, reference=reference)
    assert distance(found, wanted) <= 2e-4
    assert metrics["kl"] == pytest.approx(sum(values) / total, rel=1e-3)
    assert abs(metrics["kl"]) > 1e-4


def test_several_passes_and_minibatches_are_steps_of_their_own(qwen: tuple[Policy, Rollout]) -> None:
    """Two passes over two minibatches, by AdamW, against four plain steps; dapo divides by half of the rollout."""
    policy, rollout = qwen
    start = weights(policy.model)
    recipe = recipe_of(num_iterations=2, minibatches=2, loss_type="dapo", epsilon=0.05, epsilon_high=0.05)
    metrics = update(policy, rollout, recipe, Optimizers(policy.model, "adamw", 3e-4), 1.0)
    ended = weights(policy.model)
    policy.model.load_state_dict(start)
    advantages = group_advantages(rollout.rewards, rollout.groups, scale="group")
    total = sum(len(a.trace.token_ids) for a in rollout.attempts)
    optimizers = Optimizers(policy.model, "adamw", 3e-4)
    for _ in range(2):
        for part in ({0}, {1, 2}):  # three groups in two parts
            for attempt, group, advantage in zip(rollout.attempts, rollout.groups, advantages, strict=True):
                if group in part:
                    ratio_T = (logprobs_of(policy, attempt.trace) - torch.tensor(attempt.trace.logprobs)).exp()
                    gain_T = torch.minimum(ratio_T * advantage, ratio_T.clamp(0.95, 1.05) * advantage)
                    (-gain_T.sum() / (total / 2)).backward()
            optimizers.step(1.0)
    plain_end = weights(policy.model)
    policy.model.load_state_dict(start)
    policy.touch()
    moved = torch.cat([(ended[name] - start[name]).flatten() for name in start])
    wanted = torch.cat([(plain_end[name] - start[name]).flatten() for name in start])
    assert distance(moved, wanted) <= 0.02  # Adam divides by what may be next to nothing
    assert metrics["clip_low_share"] + metrics["clip_high_share"] > 0


def test_only_tokens_of_high_entropy_are_learnt(qwen: tuple[Policy, Rollout]) -> None:
    policy, rollout = qwen
    with torch.no_grad():
        logits = [
            policy.model(input_ids=torch.tensor([a.trace.prompt_ids + a.trace.token_ids])).logits[0]
            for a in rollout.attempts
        ]
        entropies = [
            torch.distributions.Categorical(logits=rows[len(a.trace.prompt_ids) - 1 : -1]).entropy()
            for rows, a in zip(logits, rollout.attempts, strict=True)
        ]
    advantages = group_advantages(rollout.rewards, rollout.groups, scale="group")
    counted = [each for each, advantage in zip(entropies, advantages, strict=True) if advantage]
    least = torch.quantile(torch.cat(counted), 0.8)
    total = sum(len(a.trace.token_ids) for a in rollout.attempts)

    def loss() -> torch.Tensor:
        return torch.stack([
            -advantage * (logprobs_of(policy, a.trace) * (entropy >= least)).sum() / total
            for a, advantage, entropy in zip(rollout.attempts, advantages, entropies, strict=True)
        ]).sum()  # fmt: skip

    for micro_tokens in (1, 10_000):
        found, _ = gradient_of(policy, rollout, recipe_of(top_entropy_quantile=0.2, micro_tokens=micro_tokens))
        assert distance(found, plain(policy, loss)) <= 1e-4


def test_what_was_masked_counts_in_its_group_and_is_not_learnt(qwen: tuple[Policy, Rollout]) -> None:
    policy, rollout = qwen
    masked = tuple(i % 4 == 1 for i in range(len(rollout.attempts)))
    found, _ = gradient_of(policy, replace(rollout, masked=masked), recipe_of())
    advantages = group_advantages(rollout.rewards, rollout.groups, scale="group")
    total = sum(len(a.trace.token_ids) for a, off in zip(rollout.attempts, masked, strict=True) if not off)

    def loss() -> torch.Tensor:
        return torch.stack([
            -advantage * logprobs_of(policy, a.trace).sum() / total
            for a, advantage, off in zip(rollout.attempts, advantages, masked, strict=True) if not off
        ]).sum()  # fmt: skip

    assert distance(found, plain(policy, loss)) <= 1e-4


def test_what_the_engine_forced_is_read_and_not_learnt(qwen: tuple[Policy, Rollout]) -> None:
    """The forced tokens stay in the context of those after them; loss, normaliser and metrics leave them out."""
    policy, rollout = qwen
    forced = [tuple(range(1, len(a.trace.token_ids), 3)) for a in rollout.attempts]
    attempts = tuple(
        replace(a, trace=replace(a.trace, forced=f)) for a, f in zip(rollout.attempts, forced, strict=True)
    )
    rollout = replace(rollout, attempts=attempts)
    found, metrics = gradient_of(policy, rollout, recipe_of())
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


@pytest.mark.parametrize("kind", ALL)
def test_micro_batches_change_nothing(qwen: tuple[Policy, Rollout], kind: LossType) -> None:
    policy, rollout = qwen
    whole, one = gradient_of(policy, rollout, recipe_of(loss_type=kind, micro_tokens=10**6))
    single, other = gradient_of(policy, rollout, recipe_of(loss_type=kind, micro_tokens=1))
    assert distance(single, whole) <= 1e-5
    del one["computed_tokens"], other["computed_tokens"]  # a prompt stands in each row that has a completion of it
    assert other == pytest.approx(one, rel=1e-3, abs=1e-5)


def test_padded_sequences_give_the_same_as_packed_ones(
    qwen: tuple[Policy, Rollout], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, rollout = qwen
    packed, one = gradient_of(policy, rollout, recipe_of())
    monkeypatch.setattr("thinksmith.training.micro.packable", lambda policy, longest: False)
    padded, other = gradient_of(policy, rollout, recipe_of())
    assert distance(padded, packed) <= 1e-5
    assert (one["padding_share"], other["padding_share"] > 0) == (0.0, True)
    assert max(each["largest_logprob_gap"] for each in (one, other)) < 1e-4
    for name in ("computed_tokens", "padding_share", "largest_logprob_gap"):
        del one[name], other[name]
    assert other == pytest.approx(one, rel=1e-3, abs=1e-5)


def test_recomputed_layers_give_the_same(checkpoints: dict[str, Path], qwen: tuple[Policy, Rollout]) -> None:
    policy, rollout = qwen
    other = load_policy(str(checkpoints["Qwen2"]))
    recompute_layers(other.model)
    one, two = (gradient_of(each, rollout, recipe_of())[0] for each in (policy, other))
    assert torch.equal(one, two)


def test_the_order_of_the_attempts_changes_nothing(qwen: tuple[Policy, Rollout]) -> None:
    policy, rollout = qwen
    order = sorted(range(len(rollout.attempts)), key=lambda i: (i * 7) % len(rollout.attempts))
    moved = Rollout(*(tuple(values[i] for i in order) for values in (
        rollout.attempts, rollout.groups, rollout.rewards, rollout.parts
    )))  # fmt: skip
    assert distance(gradient_of(policy, moved, recipe_of())[0], gradient_of(policy, rollout, recipe_of())[0]) <= 1e-6


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
    recipe = GRPORecipe(rollout=RolloutTable(max_tokens=64), training=table)
    metrics = update(
        policy,
        rollout,
        recipe,
        Optimizers(policy.model, "adamw", 1e-2, weight_decay=0.1),
        1.0,
        reference=reference_of(policy),
    )
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


def test_a_loss_that_is_no_number_leaves_the_weights_as_they_are(small: Policy) -> None:
    before = weights(small.model)
    good, bad = made_up(small, 2)
    bad = replace(bad, logprobs=tuple(-1e30 for _ in bad.token_ids))  # so unlikely that its ratio is infinite
    with pytest.raises(NotFiniteError):
        moved_by(small, rollout_of([good, bad], [0, 0], [1.0, 0.0]))
    assert same_bits(weights(small.model), before)
    assert all(p.grad is None for p in small.model.parameters())
    assert not small.model.training


def test_groups_that_teach_nothing_are_not_computed(small: Policy) -> None:
    traces, groups, rewards = made_up(small, 4), [0, 0, 1, 1], [1.0, 0.0, 1.0, 1.0]
    tokens = [len(trace.prompt_ids) + len(trace.token_ids) for trace in traces]
    _, metrics = moved_by(small, rollout_of(traces, groups, rewards))
    assert metrics["computed_tokens"] == sum(tokens[:2])
    _, metrics = moved_by(small, rollout_of(traces, groups, rewards), beta=0.1)  # the penalty holds for all
    assert metrics["computed_tokens"] == sum(tokens)
