"""Laws of SFT: packed is unpacked, the cut changes nothing, the loss is TRL's and transformers', each sample once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_kit import random_examples, small_model, word_policy

from thinksmith.policy.adapter import LoRA, add_lora
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.training.batches import Example
from thinksmith.training.micro import micros
from thinksmith.training.optimizer import Optimizers
from thinksmith.training.supervised.alarms import alarms, given_up
from thinksmith.training.supervised.order import Order
from thinksmith.training.supervised.sft import SFT
from thinksmith.training.supervised.shelf import Shelf


class Still(Optimizers):
    """Optimisers that leave weights and gradients where they are, for whoever looks at the gradients."""

    def step(self, lr_scale: float = 1.0) -> None:
        pass


def gradients(policy: Policy, examples: Sequence[Example], micro_tokens: int) -> tuple[float, torch.Tensor]:
    """The loss of one step on all examples, and its gradient as one vector."""
    policy.model.zero_grad(set_to_none=True)
    lesson = SFT(policy, examples, max_grad_norm=1e9, micro_tokens=micro_tokens)
    row = lesson.learn(range(len(examples)), Still(policy.model, "adamw", 1e-3), 1.0)
    found = [p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]
    assert row["learnt_tokens"] == sum(example.learnt for example in examples)
    return row["loss"], torch.cat(found)


def alone(policy: Policy, examples: Sequence[Example]) -> tuple[float, torch.Tensor]:
    """The same by transformers' own loss, a sample at a time."""
    policy.model.zero_grad(set_to_none=True)
    total = 0.0
    learnt = sum(example.learnt for example in examples)
    for example in examples:
        ids = torch.tensor([example.prompt_ids + example.completion_ids])
        labels = ids.clone()
        labels[:, : len(example.prompt_ids)] = -100
        loss = policy.model(input_ids=ids, labels=labels).loss * len(example.completion_ids) / learnt
        loss.backward()
        total += loss.item()
    return total, torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def shared(vocab: int) -> list[Example]:
    """Samples of very different lengths, some of the same prompt."""
    examples = random_examples(9, vocab, seed=4)
    return [*examples, *(Example(examples[0].prompt_ids, each.completion_ids) for each in examples[5:8])]


def test_packed_is_unpacked(checkpoint: Path) -> None:
    """Qwen2, Qwen3 and Llama: loss and gradients of packed rows are those of samples that are computed alone."""
    policy = load_policy(str(checkpoint), dtype="float32")
    examples = shared(policy.vocab_size)
    assert all("Pack" in repr(each.score) for each in micros(policy, examples, 4096))  # it does pack
    loss, wanted = alone(policy, examples)
    for micro_tokens in (4096, 150, 1):
        packed_loss, packed = gradients(policy, examples, micro_tokens)
        assert packed_loss == pytest.approx(loss, rel=1e-5)
        assert distance(packed, wanted) <= 1e-5


def test_a_model_that_cannot_be_packed_is_padded_to_the_same(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    policy = load_policy(str(checkpoint), dtype="float32")
    examples = shared(policy.vocab_size)
    loss, wanted = alone(policy, examples)
    monkeypatch.setattr("thinksmith.training.micro.packable", lambda policy, longest: False)
    for micro_tokens in (4096, 100):
        padded_loss, padded = gradients(policy, examples, micro_tokens)
        assert padded_loss == pytest.approx(loss, rel=1e-5)
        assert distance(padded, wanted) <= 1e-5


def test_recomputing_layers_and_an_adapter_change_nothing_of_the_law(checkpoint: Path) -> None:
    from thinksmith.training.recompute import recompute_layers

    policy = load_policy(str(checkpoint), dtype="float32")
    add_lora(policy, LoRA(rank=4, seed=1))
    for name, weight in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(1))
    examples = shared(policy.vocab_size)
    loss, wanted = alone(policy, examples)
    assert len(wanted) < sum(p.numel() for p in policy.model.parameters()) / 4  # the adapter alone
    recompute_layers(policy.model)
    packed_loss, packed = gradients(policy, examples, 300)
    assert packed_loss == pytest.approx(loss, rel=1e-5)
    assert distance(packed, wanted) <= 1e-5


def test_the_step_is_one_of_trls(tmp_path: Path) -> None:
    """One optimiser step of its SFTTrainer, unpacked, on the same ids: the same loss, and the same weights after it."""
    trl = pytest.importorskip("trl", reason="needs trl, of the bench extra")
    from datasets import Dataset

    policy = word_policy(seed=3)
    examples = random_examples(6, policy.vocab_size, seed=2)
    rows = [
        {
            "input_ids": [*each.prompt_ids, *each.completion_ids],
            "labels": [-100] * len(each.prompt_ids) + list(each.completion_ids),
        }
        for each in examples
    ]
    other = word_policy(seed=3)
    arguments = trl.SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], logging_strategy="steps", logging_steps=1,
        save_strategy="no", disable_tqdm=True, gradient_checkpointing=False, per_device_train_batch_size=3,
        gradient_accumulation_steps=2, max_steps=1, learning_rate=1e-3, lr_scheduler_type="constant", adam_beta2=0.95,
        weight_decay=0.0, max_grad_norm=1.0, dataset_kwargs={"skip_prepare_dataset": True}, max_length=None,
    )  # fmt: skip
    trainer = trl.SFTTrainer(
        model=other.model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=other.tokenizer
    )
    trainer.train()
    (logged,) = [row for row in trainer.state.log_history if "loss" in row]
    row = SFT(policy, examples).learn(range(6), Optimizers(policy.model, "adamw", 1e-3), 1.0)
    assert row["loss"] == pytest.approx(logged["loss"], abs=1e-4)
    assert row["grad_norm"] == pytest.approx(logged["grad_norm"], rel=1e-4)
    for (name, mine), theirs in zip(policy.model.named_parameters(), other.model.parameters(), strict=True):
        assert (mine - theirs).abs().max().item() <= 2e-5, name  # a hundredth of AdamW's first step


def test_held_out_figures_are_plain(checkpoint: Path) -> None:
    """Loss and greedy choices, by the logits of whole sequences."""
    policy = load_policy(str(checkpoint), dtype="float32")
    examples = shared(policy.vocab_size)
    loss = right = count = 0.0
    with torch.no_grad():
        for example in examples:
            ids = torch.tensor([example.prompt_ids + example.completion_ids])
            logits = policy.model(input_ids=ids).logits[0, len(example.prompt_ids) - 1 : -1]
            targets = torch.tensor(example.completion_ids)
            loss -= float(logits.log_softmax(-1).gather(1, targets[:, None]).sum())
            right += float((logits.argmax(-1) == targets).sum())
            count += len(targets)
    found = SFT(policy, [], examples, micro_tokens=200).measure()
    assert found["held_out_loss"] == pytest.approx(loss / count, rel=1e-5)
    assert found["held_out_token_accuracy"] == pytest.approx(right / count)
    assert SFT(policy, examples).measure() == {}


sizes = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@given(sizes, st.integers(1, 8), st.integers(0, 60), st.integers(0, 5))
def test_an_epoch_has_each_sample_once_and_whole(sizes: list[int], samples: int, tokens: int, seed: int) -> None:
    order = Order(sizes, seed, samples=samples, tokens=tokens)
    steps = order.steps(2)
    drawn: list[list[int]] = [order.next() for _ in range(steps)]
    assert order.epoch == 2
    flat = [index for batch in drawn for index in batch]
    for epoch in (flat[: len(sizes)], flat[len(sizes) :]):
        assert sorted(epoch) == list(range(len(sizes)))
    for batch in drawn:
        held = sum(sizes[index] for index in batch)
        assert len(batch) == 1 or (held <= tokens if tokens else len(batch) <= samples)


@given(sizes, st.integers(1, 8), st.integers(0, 60), st.integers(0, 20))
def test_the_order_goes_on_where_it_was(sizes: list[int], samples: int, tokens: int, before: int) -> None:
    order, other = (Order(sizes, 3, samples=samples, tokens=tokens) for _ in range(2))
    for _ in range(before):
        order.next()
    other.restore(order.state())
    assert [order.next() for _ in range(9)] == [other.next() for _ in range(9)]


def test_the_order_is_another_in_every_epoch_and_for_every_seed() -> None:
    def drawn(seed: int) -> list[int]:
        order = Order([1] * 30, seed, samples=30)
        return [*order.next(), *order.next()]

    assert drawn(0) == drawn(0) != drawn(1)
    assert drawn(0)[:30] != drawn(0)[30:]
    with pytest.raises(ValueError, match="31 samples"):
        Order([1] * 30, 0, samples=3).restore(Order([1] * 31, 0, samples=3).state())


def measured(losses: Sequence[float], **more: Any) -> list[dict[str, float]]:
    return [{"step": float(i), "loss": 1.0 - i / 10, "held_out_loss": loss, **more} for i, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "patience", "stops"),
    [
        ([3.0, 2.0, 1.0], 1, False),
        ([3.0, 2.0, 2.0], 1, True),
        ([3.0, 2.0, 2.5], 2, False),
        ([3.0, 2.0, 2.5, 2.1], 2, True),
        ([3.0, 2.0, 2.5, 1.9], 2, False),
        ([3.0], 1, False),
        ([3.0, 4.0, 5.0], 0, False),
    ],
)
def test_it_gives_up_when_the_last_measurements_are_no_better(losses: list[float], patience: int, stops: bool) -> None:
    between = [{"step": 0.5, "loss": 1.0}]  # steps that are not measured do not count
    rows = [row for each in measured(losses) for row in (each, *between)]
    assert given_up(rows, patience, "loss") is stops


def test_learning_by_heart_is_told_once() -> None:
    told = [alarm.kind for end in range(1, 9) for alarm in alarms(measured([3, 2, 1, 1.1, 1.2, 1.3, 1.4, 1.5])[:end])]
    assert told == ["by_heart"]
    assert not alarms(measured([3, 2, 1, 1.1, 1.2, 1.1]))
    assert not alarms([row | {"loss": 1.0 + row["step"]} for row in measured([1, 1.1, 1.2, 1.3])])  # it learns nothing


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.sampled_from(["Qwen2", "Llama"]))
def test_the_order_within_a_step_changes_nothing(seed: int, architecture: str) -> None:
    policy = Policy(small_model(architecture, 40, seed=seed), None, "small")
    examples = random_examples(7, 40, seed=seed)
    loss, wanted = gradients(policy, examples, 400)
    moved_loss, moved = gradients(policy, examples[::-1], 90)
    assert moved_loss == pytest.approx(loss, rel=1e-5)
    assert distance(moved, wanted) <= 1e-5


@given(st.lists(st.tuples(st.lists(st.integers(0, 2**31 - 1)), st.lists(st.integers(0, 2**31 - 1), min_size=1))))
def test_a_shelf_gives_back_what_was_put_in(rows: list[tuple[list[int], list[int]]]) -> None:
    examples = [
        Example(tuple(prompt), tuple(completion), tuple(range(0, len(completion) - 1, 1 + len(prompt))))
        for prompt, completion in rows
    ]
    shelf = Shelf(examples)
    assert list(shelf) == examples
    assert shelf.sizes == [example.tokens for example in examples]
    assert shelf[1:] == examples[1:]
    if examples:
        assert shelf[-1] == examples[-1]
    for index in (len(examples), -len(examples) - 1):
        with pytest.raises(IndexError):
            shelf[index]


def test_dpo_that_unlearns_both_sides_is_told() -> None:
    rows = [
        {"step": float(i), "loss": 0.5, "reward_right": value} for i, value in enumerate([0.1, -1, -3, -3, -3, -4, -4])
    ]
    assert [alarm.kind for end in range(1, 8) for alarm in alarms(rows[:end])] == ["unlearns"]
    assert not alarms([row | {"reward_right": 0.5} for row in rows])
