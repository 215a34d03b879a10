"""GRPO from the first step to the last: it learns, in every way of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_kit import full_disk, same_bits, untimed, weights, word_policy

from thinksmith.engines.local.engine import LocalEngine
from thinksmith.errors import UserError
from thinksmith.evaluate.report import read_metrics
from thinksmith.policy.adapter import load_adapter
from thinksmith.policy.policy import Policy
from thinksmith.records import Problem, Request, Sampling
from thinksmith.training.checkpoint import load_weights
from thinksmith.training.rl import update as update_module
from thinksmith.training.rl.grpo import train
from thinksmith.training.rl.recipe import CurriculumTable, GRPORecipe, LoRATable, RolloutTable, TrainingTable
from thinksmith.training.rl.run import adapt
from thinksmith.training.rows import Metrics

PROBLEMS = [Problem(f"say/{word}", f"say {word}", word, "exact") for word in ("yes", "no")]


def recipe(steps: int) -> GRPORecipe:
    return GRPORecipe(
        steps=steps,
        rollout=RolloutTable(prompts=2, num_generations=64, max_tokens=6),
        training=TrainingTable(lr=4e-3, save_every=0),
    )


def test_a_random_model_learns_to_close_its_thinking_and_to_answer_each_prompt(tmp_path: Path) -> None:
    """At first one completion in a hundred is right. Answering every prompt with the same word would be 50 %."""
    rows: list[Metrics] = []
    policy = word_policy(seed=1)
    train(policy, LocalEngine(policy), PROBLEMS, recipe(40), tmp_path, on_step=rows.append)

    def mean(name: str, part: slice) -> float:
        return sum(row[name] for row in rows[part]) / len(rows[part])

    first, last = slice(0, 3), slice(-3, None)
    assert mean("reward", first) < 0.15
    assert mean("reward", last) > 0.85
    assert mean("truncated_share", last) < 0.1 < mean("truncated_share", first)
    assert max(row["largest_logprob_gap"] for row in rows) <= 1e-4


def test_the_cache_is_given_back_before_the_backward_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = word_policy(seed=1)
    engine = LocalEngine(policy)
    engine.sample_all([Request(messages=PROBLEMS[0].messages, n=64, sampling=Sampling(max_tokens=6))])
    busy = engine.memory
    held: list[int] = []
    backward = torch.Tensor.backward

    def watched(*args: object, **kwargs: object) -> None:
        held.append(engine.memory)
        backward(*args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "backward", watched)
    train(policy, engine, PROBLEMS, recipe(2), tmp_path)
    assert held
    assert max(held) < busy / 2


def settings(training: dict[str, Any] | None = None, **more: Any) -> GRPORecipe:
    """Six steps in some way of training; `more` goes into the tables of these names."""
    return GRPORecipe(
        steps=6,
        rewards={"think_format": 1.0, "correctness": 0.5},
        rollout=RolloutTable(**{"prompts": 2, "num_generations": 8, "max_tokens": 6} | more.pop("rollout", {})),
        training=TrainingTable(**{"lr": 4e-3, "save_every": 1} | (training or {})),
        **more,
    )


WAYS = {
    "plain": settings(),
    "lora": settings({"tuning": "lora", "beta": 0.05}, lora=LoRATable(rank=4, dropout=0.1)),
    "reference": settings({"beta": 0.05, "kl_estimator": "k2"}),
    "passes": settings({"num_iterations": 2, "minibatches": 2, "loss_type": "gspo", "old_logprobs": "computed"}),
    "dynamic": settings(rollout={"dynamic_sampling": True, "mask_truncated_completions": True}),
    "curriculum": settings(curriculum=CurriculumTable(lowest=0.05, highest=0.95, measure=1, again=2)),
    "warm": settings(
        {"lr_scheduler_type": "cosine", "warmup": 2, "gradient_checkpointing": True}, rollout={"temperature": 1.3}
    ),
}


def policy_for(recipe: GRPORecipe) -> Policy:
    policy = word_policy(seed=1)
    adapt(policy, recipe)
    return policy


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_was_stopped_ends_bit_for_bit_where_the_uninterrupted_one_does(way: str, tmp_path: Path) -> None:
    recipe = WAYS[way]
    policy = policy_for(recipe)
    before = weights(policy.model)
    train(policy, LocalEngine(policy), PROBLEMS, recipe, tmp_path / "one")
    assert not same_bits(weights(policy.model), before)

    def stop(metrics: Metrics) -> None:
        if metrics["step"] == 3:
            raise KeyboardInterrupt

    first, again = policy_for(recipe), policy_for(recipe)
    with pytest.raises(KeyboardInterrupt):
        train(first, LocalEngine(first), PROBLEMS, recipe, tmp_path / "two", on_step=stop)
    torch.manual_seed(99)  # the states of the generators come from the checkpoint
    train(again, LocalEngine(again), PROBLEMS, recipe, tmp_path / "two")
    assert same_bits(weights(again.model), weights(policy.model))
    resumed = read_metrics(tmp_path / "two" / "metrics.jsonl")
    assert untimed(resumed) == untimed(read_metrics(tmp_path / "one" / "metrics.jsonl"))
    assert [row["step"] for row in resumed] == list(range(1, 7))


def test_an_adapter_is_saved_in_pefts_format_and_the_weights_stay(tmp_path: Path) -> None:
    recipe = WAYS["lora"]
    policy = policy_for(recipe)
    frozen = {n: p.detach().clone() for n, p in policy.model.named_parameters() if not p.requires_grad}
    train(policy, LocalEngine(policy), PROBLEMS, recipe, tmp_path)
    assert all(torch.equal(p, frozen[n]) for n, p in policy.model.named_parameters() if n in frozen)
    assert {file.name for file in (tmp_path / "adapter").iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert not (tmp_path / "model").exists()
    other = word_policy(seed=1)
    load_adapter(other, tmp_path / "adapter")
    request = Request(messages=PROBLEMS[0].messages, n=4, sampling=Sampling(temperature=1.0, max_tokens=6))
    (one,), (two,) = (LocalEngine(each).sample_all([request]) for each in (policy, other))
    assert [trace.logprobs for trace in one] == [trace.logprobs for trace in two]
    assert max(p.stat().st_size for p in (tmp_path / "checkpoints").glob("*.pt")) < 200_000


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = update_module.policy_loss

    def spoilt(*args: Any, **kwargs: Any) -> Any:
        loss = real(*args, **kwargs)
        return replace(loss, value=loss.value * torch.nan) if len(seen) == 3 else loss

    seen: list[Metrics] = []
    monkeypatch.setattr(update_module, "policy_loss", spoilt)
    policy = word_policy(seed=1)
    with pytest.raises(UserError, match=r"step 4: the loss is not finite, .* lower training\.lr"):
        train(policy, LocalEngine(policy), PROBLEMS, WAYS["plain"], tmp_path, on_step=seen.append)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    kept, kept_base = word_policy(seed=2), word_policy(seed=1).weights_hash()
    assert load_weights(tmp_path / "checkpoints" / "step-000003.pt", kept.model, base=kept_base) == 3
    assert same_bits(weights(kept.model), weights(policy.model))


def test_metrics_on_a_full_disk_are_told_in_a_line(tmp_path: Path) -> None:
    policy = word_policy()
    with full_disk(10), pytest.raises(UserError, match=r"cannot write .*metrics\.jsonl: File too large"):
        train(policy, LocalEngine(policy), PROBLEMS, recipe(1), tmp_path)
