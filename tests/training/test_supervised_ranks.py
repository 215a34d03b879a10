"""SFT and DPO by two processes: they do what one does with the same batches. One pair of children works through all."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from test_dpo import pairs_of
from test_ranks import ended, start
from training_kit import random_examples, word_policy

from thinksmith.training.adapt import adapt
from thinksmith.training.ranks import ALONE, Ranks, opened
from thinksmith.training.sharding import shard, whole
from thinksmith.training.supervised.dpo import DPO, reference_sums
from thinksmith.training.supervised.recipe import DPORecipe, SFTRecipe, TaughtRecipe
from thinksmith.training.supervised.sft import SFT
from thinksmith.training.supervised.train import train


def recipe(kind: type[TaughtRecipe] = SFTRecipe, *, samples: int = 5, **training: Any) -> TaughtRecipe:
    return kind.model_validate(
        {
            "data": "made up",
            "epochs": 2,
            "batch": {"samples": samples},
            "training": {"lr": 4e-3, "micro_tokens": 120, "save_every": 1, **training},
            "lora": {"rank": 4},
            "evaluation": {"every": 2},
        }
    )


CASES = {
    "sft": recipe(),
    "one sample a step": recipe(samples=1),  # the second rank has nothing to learn
    "adapter": recipe(tuning="lora"),
    "sharded": recipe(sharding="full", max_grad_norm=0.1),
    "sharded, one sample a step": recipe(samples=1, sharding="full"),
    "dpo": recipe(DPORecipe, samples=3),
}


def trained(case: TaughtRecipe, folder: Path, ranks: Ranks = ALONE) -> dict[str, Any]:
    """What came of it on this rank."""
    policy = word_policy(seed=1)
    rows: list[dict[str, float]] = []
    if isinstance(case, DPORecipe):
        pairs = pairs_of(policy.vocab_size)
        before = reference_sums(policy, pairs, 120, ranks)
        lesson: Any = DPO(policy, pairs[:5], before[:5], 0.5, pairs[5:], before[5:], 1.0, 120, ranks)
    else:
        examples = random_examples(14, policy.vocab_size)
        adapt(policy, case)
        lesson = SFT(policy, examples[:11], examples[11:], case.training.max_grad_norm, 120, ranks)
    if case.training.sharding == "full" and ranks.size > 1:
        shard(policy, ranks)
    found = train(policy, lesson, case, folder, on_step=rows.append, ranks=ranks)
    with whole(policy.model):
        weights = {name: tensor.detach().clone() for name, tensor in policy.model.state_dict().items()}
    return {"weights": weights, "rows": rows, "after": found.after}


def all_cases(folder: Path) -> None:
    with opened() as ranks:
        torch.save(
            {name: trained(case, folder / name, ranks) for name, case in CASES.items()}, folder / str(ranks.rank)
        )


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("both")
    code = "import sys, torch; torch.set_num_threads(1); import test_supervised_ranks as t, pathlib\n"
    code += "t.all_cases(pathlib.Path(sys.argv[1]))"
    for exit_code, _, err in ended(start([sys.executable, "-c", code, str(folder)])):
        assert exit_code == 0, err
    return [torch.load(folder / str(rank), weights_only=False) for rank in range(2)]


@cache
def alone(name: str, folder: Path) -> dict[str, Any]:
    return trained(CASES[name], folder)


@pytest.mark.parametrize("name", CASES)
def test_two_do_what_one_does(both: list[dict[str, Any]], tmp_path: Path, name: str) -> None:
    first, second = (each[name] for each in both)
    wanted = alone(name, tmp_path)
    assert second["rows"] == []
    assert len(first["rows"]) == len(wanted["rows"]) > 0
    for mine, theirs in zip(first["rows"], wanted["rows"], strict=True):
        for key in ("loss", "grad_norm", "samples", "learnt_tokens", "epoch", "lr"):
            assert mine[key] == pytest.approx(theirs[key], rel=1e-4, abs=1e-6), key
    assert first["after"]["held_out_loss"] == pytest.approx(wanted["after"]["held_out_loss"], rel=1e-4)
    for key, tensor in wanted["weights"].items():
        assert torch.equal(first["weights"][key], second["weights"][key])
        # The gradient of a key's bias is nothing but rounding, which AdamW makes as large as any other.
        near = 2e-2 if key.endswith("k_proj.bias") else 4e-4  # a tenth of one step
        assert torch.allclose(first["weights"][key], tensor, rtol=0, atol=near), key
