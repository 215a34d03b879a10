"""Students that know nothing yet: the family's, of the size that was asked for, and the same from the same seed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from thinksmith.errors import UserError
from thinksmith.policy.fresh import fresh_policy
from thinksmith.policy.load import load_policy
from thinksmith.records import Message
from thinksmith.training.model_folder import save_model

QUESTION = [Message(role="user", content="What is 3 + 4?")]


def size(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_it_has_about_that_share_of_the_parameters_and_reads_the_same_ids(share: float) -> None:
    known, fresh = load_policy("tiny"), fresh_policy("tiny", share)
    layer = size(known.model.model.layers[0])
    assert abs(size(fresh.model) - share * size(known.model)) <= layer / 2
    assert fresh.render(QUESTION) == known.render(QUESTION)
    assert (fresh.eos_ids, fresh.context_length, fresh.sampling) == (
        known.eos_ids,
        known.context_length,
        known.sampling,
    )


@pytest.mark.parametrize("kind", ["Qwen2", "Qwen3", "Llama"])
def test_every_family_can_be_begun_anew_saved_and_loaded(
    kind: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    fresh = fresh_policy(checkpoints[kind], 0.7, seed=3)
    save_model(tmp_path / "student", fresh.model, fresh.tokenizer)
    assert load_policy(str(tmp_path / "student")).weights_hash() == fresh.weights_hash()
    ids = torch.tensor([fresh.render(QUESTION).ids])
    assert torch.isfinite(fresh.model(ids).logits).all()


def test_the_seed_decides_and_nothing_else_is_disturbed() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    hashes = [fresh_policy("tiny", 0.5, seed).weights_hash() for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert hashes[0] == hashes[1] != hashes[2] != load_policy("tiny").weights_hash()


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, 0.05])
def test_what_cannot_be(share: float) -> None:
    with pytest.raises(UserError):
        fresh_policy("tiny", share)
