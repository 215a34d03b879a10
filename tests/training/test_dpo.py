"""Laws of DPO: the loss is TRL's, packing and order change nothing, and it begins at log 2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_kit import random_examples, small_model, word_policy

from thinksmith.policy.adapter import LoRA, add_lora
from thinksmith.policy.adapter import reference as adapter_off
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.training.batches import Example
from thinksmith.training.optimizer import Optimizers
from thinksmith.training.reference import reference_of
from thinksmith.training.supervised.dpo import DPO, Pair, Sums, preference_loss, reference_sums


def pairs_of(vocab: int, count: int = 6, seed: int = 0) -> list[Pair]:
    """Pairs of very different lengths, two of them of one prompt."""
    examples = random_examples(2 * count, vocab, seed=seed)
    pairs = [
        Pair(right, Example(right.prompt_ids, wrong.completion_ids))
        for right, wrong in zip(examples[::2], examples[1::2], strict=True)
    ]
    first, second = pairs[0], pairs[1]
    return [*pairs, Pair(first.right, Example(first.right.prompt_ids, second.wrong.completion_ids))]


def plain_sums(policy: Policy, pairs: Sequence[Pair]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Summed log-probabilities, a sequence at a time, by the logits."""

    def total(example: Example) -> torch.Tensor:
        ids = torch.tensor([example.prompt_ids + example.completion_ids])
        logits = policy.model(input_ids=ids).logits[0, len(example.prompt_ids) - 1 : -1].float()
        return logits.log_softmax(-1).gather(1, torch.tensor(example.completion_ids)[:, None]).sum()

    return [(total(pair.right), total(pair.wrong)) for pair in pairs]


class Still(Optimizers):
    def step(self, lr_scale: float = 1.0) -> None:
        pass


def gradients(policy: Policy, lesson: DPO) -> tuple[dict[str, float], torch.Tensor]:
    policy.model.zero_grad(set_to_none=True)
    row = lesson.learn(range(len(lesson.pairs)), Still(policy.model, "adamw", 1e-3), 1.0)
    return row, torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def shaken(policy: Policy, seed: int = 0, by: float = 0.02) -> Policy:
    """Weights that are not the reference's any more."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in policy.model.parameters():
            if weight.requires_grad:
                weight.add_(by * torch.randn(weight.shape, generator=generator))
    policy.touch()
    return policy


def test_it_begins_at_log_2(checkpoint: Path) -> None:
    policy = load_policy(str(checkpoint), dtype="float32")
    pairs = pairs_of(policy.vocab_size)
    before = reference_sums(policy, pairs, 300)
    row = DPO(policy, pairs, before, 0.5).learn(range(len(pairs)), Still(policy.model, "adamw", 1e-3), 1.0)
    assert row["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert abs(row["margin"]) <= 1e-3
    add_lora(policy, LoRA(rank=4))
    row = DPO(policy, pairs, before, 0.5).learn(range(len(pairs)), Still(policy.model, "adamw", 1e-3), 1.0)
    assert row["loss"] == pytest.approx(math.log(2), abs=1e-4)


def test_packed_is_a_sequence_at_a_time(checkpoint: Path) -> None:
    """Loss, rewards and gradients for every cut, by the plain formula over the logits of single sequences."""
    policy = load_policy(str(checkpoint), dtype="float32")
    pairs = pairs_of(policy.vocab_size)
    before = reference_sums(policy, pairs)
    shaken(policy)
    policy.model.zero_grad(set_to_none=True)
    losses, margins, won = [], [], 0
    for (right, wrong), (right_before, wrong_before) in zip(plain_sums(policy, pairs), before, strict=True):
        margin = 0.1 * ((right - right_before) - (wrong - wrong_before))
        losses.append(-torch.nn.functional.logsigmoid(margin))
        margins.append(float(margin.detach()))
        won += float(margin.detach()) > 0
    mean = torch.stack(losses).mean()
    mean.backward()
    wanted = torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])
    for micro_tokens in (10_000, 200, 1):
        lesson = DPO(policy, pairs, before, 0.1, max_grad_norm=1e9, micro_tokens=micro_tokens)
        row, found = gradients(policy, lesson)
        assert row["loss"] == pytest.approx(mean.item(), rel=1e-5)
        assert row["margin"] == pytest.approx(sum(margins) / len(margins), abs=1e-4)
        assert row["pair_accuracy"] == pytest.approx(won / len(pairs))
        assert row["reward_right"] - row["reward_wrong"] == pytest.approx(row["margin"], abs=1e-6)
        assert distance(found, wanted) <= 1e-5


def test_order_and_padding_change_nothing(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    policy = load_policy(str(checkpoint), dtype="float32")
    pairs = pairs_of(policy.vocab_size)
    before = reference_sums(policy, pairs)
    shaken(policy)
    row, wanted = gradients(policy, DPO(policy, pairs, before, 0.1, max_grad_norm=1e9))
    order = Random(1).sample(range(len(pairs)), len(pairs))
    moved = DPO(policy, [pairs[i] for i in order], [before[i] for i in order], 0.1, max_grad_norm=1e9)
    other, found = gradients(policy, moved)
    assert other["loss"] == pytest.approx(row["loss"], rel=1e-6)
    assert distance(found, wanted) <= 1e-5
    monkeypatch.setattr("thinksmith.training.micro.packable", lambda policy, longest: False)
    for micro_tokens in (10_000, 150):
        padded = DPO(policy, pairs, before, 0.1, max_grad_norm=1e9, micro_tokens=micro_tokens)
        other, found = gradients(policy, padded)
        assert other["loss"] == pytest.approx(row["loss"], rel=1e-5)
        assert distance(found, wanted) <= 1e-5


def test_the_reference_is_the_frozen_copys_and_the_adapters_absence(checkpoint: Path) -> None:
    policy = load_policy(str(checkpoint), dtype="float32")
    pairs = pairs_of(policy.vocab_size)
    before, copied = reference_sums(policy, pairs), reference_of(policy)
    shaken(policy)
    with copied() as frozen, torch.no_grad():
        for found, wanted in zip(before, plain_sums(frozen, pairs), strict=True):
            assert found == pytest.approx([float(each) for each in wanted], abs=1e-3)
    policy = load_policy(str(checkpoint), dtype="float32")
    add_lora(policy, LoRA(rank=4))
    shaken(policy)  # the adapter alone
    assert reference_sums(policy, pairs) != before
    with adapter_off(policy):
        assert reference_sums(policy, pairs) == before


logs = st.lists(st.floats(-200, 0), min_size=8, max_size=8)


@settings(max_examples=60, deadline=None)
@given(logs, logs, st.floats(0.01, 2.0))
def test_the_loss_is_trls(policy_sums: list[float], before_sums: list[float], beta: float) -> None:
    """`DPOTrainer._compute_loss` on the same sums: value, gradient and metrics."""
    pytest.importorskip("trl", reason="needs trl, of the bench extra")
    ours = torch.tensor(policy_sums, dtype=torch.float64, requires_grad=True)
    theirs = torch.tensor(policy_sums, dtype=torch.float64, requires_grad=True)
    before = torch.tensor(before_sums, dtype=torch.float64)
    loss_P, right_P, wrong_P = preference_loss(ours[:4], ours[4:], before[:4], before[4:], beta)
    loss_P.mean().backward()
    wanted, logged = trls(theirs, before, beta)
    wanted.backward()
    assert loss_P.mean().item() == pytest.approx(wanted.item(), rel=1e-9, abs=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)
    assert right_P.mean().item() == pytest.approx(logged["rewards/chosen"], rel=1e-9, abs=1e-12)
    assert wrong_P.mean().item() == pytest.approx(logged["rewards/rejected"], rel=1e-9, abs=1e-12)
    assert (right_P - wrong_P).mean().item() == pytest.approx(logged["rewards/margins"], rel=1e-9, abs=1e-9)
    assert float((right_P > wrong_P).double().mean()) == logged["rewards/accuracies"]


def trls(sums_B: torch.Tensor, before_B: torch.Tensor, beta: float) -> tuple[torch.Tensor, dict[str, float]]:
    """As much of a trainer and of a model as its `_compute_loss` reads: every completion is one token."""
    from trl import DPOTrainer

    class Metrics(dict[str, list[float]]):
        def __missing__(self, key: str) -> list[float]:
            self[key] = []
            return self[key]

    ones = torch.ones(len(sums_B), 2, dtype=torch.int64)

    def outputs(sums: torch.Tensor) -> Any:
        one = sums[:, None]
        return SimpleNamespace(
            log_probs=one, entropy=torch.zeros_like(one), mean_logits=torch.zeros_like(one), is_top1=one > 0
        )

    class Model:
        training = True

        def __call__(self, **inputs: Any) -> Any:
            return outputs(sums_B)

    model = Model()
    half = len(sums_B) // 2
    self = SimpleNamespace(
        accelerator=SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x),
        model=model, args=SimpleNamespace(gradient_checkpointing_kwargs=None), aux_loss_enabled=False, ld_alpha=None,
        precompute_ref_logps=True, f_divergence_type="reverse_kl", loss_types=["sigmoid"], loss_weights=[1.0],
        beta=beta, label_smoothing=0.0, use_weighting=False, _metrics={"train": Metrics()}, _total_train_tokens=0,
        _tp_size=1,
    )  # fmt: skip
    inputs = {
        "input_ids": ones, "attention_mask": ones, "completion_mask": torch.tensor([[0, 1]] * len(sums_B)),
        "ref_chosen_logps": before_B[:half], "ref_rejected_logps": before_B[half:],
    }  # fmt: skip
    loss = partial(DPOTrainer._compute_loss, self)(model, inputs, False)
    return loss, {name: values[0] for name, values in self._metrics["train"].items()}


def test_the_whole_step_is_one_of_trls(tmp_path: Path) -> None:
    """One optimiser step of its DPOTrainer on the same ids: the same rewards, and the same weights after it."""
    trl = pytest.importorskip("trl", reason="needs trl, of the bench extra")
    from datasets import Dataset

    policy, other = word_policy(seed=5), word_policy(seed=5)
    pairs = pairs_of(policy.vocab_size, 3, seed=1)[:4]
    rows = [
        {
            "prompt_ids": list(pair.right.prompt_ids),
            "chosen_ids": list(pair.right.completion_ids),
            "rejected_ids": list(pair.wrong.completion_ids),
        }
        for pair in pairs
    ]
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], logging_strategy="steps", logging_steps=1,
        save_strategy="no", disable_tqdm=True, gradient_checkpointing=False, per_device_train_batch_size=4,
        max_steps=2, learning_rate=1e-3, lr_scheduler_type="constant", adam_beta2=0.95, weight_decay=0.0,
        max_grad_norm=1.0, beta=0.3, max_length=None, dataset_num_proc=None,
    )  # fmt: skip

    class Given(trl.DPOTrainer):  # type: ignore[misc, name-defined]
        """With ids that are there already."""

        def _prepare_dataset(self, dataset: Any, *arguments: Any, **options: Any) -> Any:
            return dataset

    trainer = Given(
        model=other.model,
        ref_model=word_policy(seed=5).model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=other.tokenizer,
    )
    trainer.train()
    logged = [row for row in trainer.state.log_history if "rewards/margins" in row]
    lesson = DPO(policy, pairs, reference_sums(policy, pairs), 0.3)
    optimizers = Optimizers(policy.model, "adamw", 1e-3)
    found = [lesson.learn(range(4), optimizers, 1.0) for _ in range(2)]
    assert found[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    for mine, theirs in zip(found, logged, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-4)
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)
        assert mine["reward_right"] == pytest.approx(theirs["rewards/chosen"], abs=1e-4)
        assert mine["reward_wrong"] == pytest.approx(theirs["rewards/rejected"], abs=1e-4)
        assert mine["pair_accuracy"] == pytest.approx(theirs["rewards/accuracies"])


def test_it_learns_to_prefer(checkpoint: Path) -> None:
    """A few steps separate the pairs it learns from; held-out figures are those of the same formula."""
    policy = Policy(small_model("Qwen2", 40, seed=1), word_policy().tokenizer, "small")
    pairs = pairs_of(40)
    before: list[Sums] = reference_sums(policy, pairs)
    lesson = DPO(policy, pairs, before, 0.1, pairs, before)
    optimizers = Optimizers(policy.model, "adamw", 3e-3)
    assert lesson.measure()["held_out_loss"] == pytest.approx(math.log(2), abs=1e-5)
    rows = [lesson.learn(range(len(pairs)), optimizers, 1.0) for _ in range(20)]
    assert rows[-1]["pair_accuracy"] == 1.0
    assert rows[-1]["margin"] > 1.0
    held = lesson.measure()
    assert held["held_out_margin"] >= rows[-1]["margin"]
    assert held["held_out_pair_accuracy"] == 1.0
