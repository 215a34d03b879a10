"""The recipe of the embedded models, whole, in miniature: every stage, a model that loads at the end of each branch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from thinksmith.policy.load import load_policy
from thinksmith.recipes.load import load
from thinksmith.recipes.tiny import card, make
from thinksmith.training.rl.recipe import GRPORecipe

SMALLER = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "sequences": 4, "steps": 2, "warmup": 1, "decay": 1, "save_every": 1, "prompts": 2,
    "num_generations": 2, "max_tokens": 16, "pool": 8, "compile": "false", "bf16": "false",
}  # fmt: skip


@pytest.fixture
def miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to make the models in, by the shipped recipes with every size cut down."""
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    for name in make.STAGES:
        text = (make.HERE / f"{name}.toml").read_text(encoding="utf-8")
        for key, value in SMALLER.items():
            text = re.sub(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
        (recipes / f"{name}.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(make, "HERE", recipes)
    monkeypatch.setattr(card, "PROBLEMS_PER_FAMILY", 2)
    monkeypatch.setattr(card, "MAX_TOKENS", 16)
    return tmp_path / "made"


def test_all_stages_end_in_two_models_with_their_cards(miniature: Path) -> None:
    make.main([str(miniature)])
    for name, (stages, _) in make.MODELS.items():
        told = (miniature / name / "README.md").read_text(encoding="utf-8")
        assert all(f"- `{stage}`: " in told for stage in stages)
        assert load_policy(str(miniature / name)).model.config.hidden_size == 32
    assert load_policy(str(miniature / "tiny")).weights_hash() != load_policy(str(miniature / "sft")).weights_hash()


def test_a_finished_stage_made_again_gives_the_same_model(miniature: Path) -> None:
    make.main([str(miniature), "--stage", "pretrain", "--stage", "base"])
    once = load_policy(str(miniature / "tiny-base")).weights_hash()
    make.main([str(miniature), "--stage", "base"])
    assert load_policy(str(miniature / "tiny-base")).weights_hash() == once


def test_the_last_stage_is_a_recipe_like_any_other() -> None:
    recipe = load(str(make.HERE / "polish.toml"), GRPORecipe)
    assert recipe.rewards["correctness"] > sum(
        weight for name, weight in recipe.rewards.items() if name != "correctness"
    )
