"""Laws of supervised fine-tuning: the loss is the model's own, whatever the batches; a kill changes nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from training_kit import in_child, random_examples, same_bits, small_model, weights
from transformers import AutoModelForCausalLM

from thinksmith.training.batches import Example, pad
from thinksmith.training.sft import SFTConfig, SFTStep, sft, summed_loss

VOCAB = 40
STEPS = 6


def gradient(model: Any, batches: Sequence[Sequence[Example]], pad_id: int = 0) -> tuple[float, torch.Tensor]:
    """Loss and gradient (as one vector) of the summed loss over the batches."""
    model.zero_grad(set_to_none=True)
    loss = 0.0
    for batch in batches:
        part = summed_loss(model, model.get_decoder(), pad(batch, range(len(batch)), pad_id))
        part.backward()
        loss += part.item()
    return loss, torch.cat([p.grad.flatten() for p in model.parameters()])


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.fixture
def model(checkpoint: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(checkpoint)


def test_one_batch_of_eight_is_eight_of_one(model: Any) -> None:
    examples = random_examples(8, model.config.vocab_size)
    whole_loss, whole = gradient(model, [examples])
    single_loss, single = gradient(model, [[example] for example in examples])
    assert single_loss == pytest.approx(whole_loss, rel=1e-6)
    assert distance(single, whole) <= 1e-6


def test_padding_and_order_change_nothing(model: Any) -> None:
    examples = random_examples(6, model.config.vocab_size)
    loss, plain = gradient(model, [examples])
    other_pad_loss, other_pad = gradient(model, [examples], pad_id=5)
    assert other_pad_loss == loss
    assert torch.equal(other_pad, plain)
    Random(1).shuffle(examples)
    moved_loss, moved = gradient(model, [examples])
    assert moved_loss == pytest.approx(loss, rel=1e-6)
    assert distance(moved, plain) <= 1e-6


def test_the_loss_is_that_of_transformers(model: Any) -> None:
    examples = random_examples(5, model.config.vocab_size)
    loss, found = gradient(model, [examples])
    model.zero_grad(set_to_none=True)
    expected = 0.0
    for example in examples:
        ids = torch.tensor([example.prompt_ids + example.completion_ids])
        labels = ids.clone()
        labels[:, : len(example.prompt_ids)] = -100
        own = model(input_ids=ids, labels=labels).loss * len(example.completion_ids)
        own.backward()
        expected += own.item()
    assert loss == pytest.approx(expected, rel=1e-5)
    assert distance(found, torch.cat([p.grad.flatten() for p in model.parameters()])) <= 1e-5


def train(folder: Path | None, on_step: Callable[[SFTStep], object], micro_tokens: int = 128) -> Any:
    """The run that the laws of resuming are about: both optimisers, a schedule, several micro-batches."""
    model = small_model("Qwen2", VOCAB, seed=3)
    config = SFTConfig(
        STEPS, lr=1e-2, muon_lr=1e-2, optimizer="muon", warmup=2, decay=2, micro_tokens=micro_tokens, save_every=2
    )
    sft(model, lambda step: random_examples(6, VOCAB, seed=step), config, pad_id=1, folder=folder, on_step=on_step)
    return model


KILLED = """
import os, signal, sys
from pathlib import Path
from test_sft import train
train(Path(sys.argv[1]), lambda step: step.step == 5 and os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_killed_run_ends_bit_for_bit_where_the_uninterrupted_one_does(tmp_path: Path) -> None:
    whole: list[SFTStep] = []
    expected = train(None, whole.append)
    assert in_child(KILLED, tmp_path).returncode == -signal.SIGKILL
    rest: list[SFTStep] = []
    resumed = train(tmp_path, rest.append)
    assert [(s.step, s.loss, s.grad_norm) for s in rest] == [(s.step, s.loss, s.grad_norm) for s in whole[4:]]
    assert same_bits(weights(resumed), weights(expected))


def test_the_trajectory_does_not_depend_on_micro_batches() -> None:
    large: list[SFTStep] = []
    small: list[SFTStep] = []
    train(None, large.append, micro_tokens=10**6)
    train(None, small.append, micro_tokens=1)
    assert [s.tokens for s in small] == [s.tokens for s in large]
    # Muon divides by the size of what it steps along, so rounding grows a little with every step.
    assert [s.loss for s in small] == pytest.approx([s.loss for s in large], rel=1e-3)
    assert small[0].loss == pytest.approx(large[0].loss, rel=1e-6)
