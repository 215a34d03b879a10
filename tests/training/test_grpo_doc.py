"""docs/grpo.md says what is so: every key with its default, every reward, every loss, every column."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

from thinksmith.recipes.load import to_toml
from thinksmith.training.rl.losses import LossType
from thinksmith.training.rl.recipe import GRPORecipe
from thinksmith.training.rl.rewards import REWARDS

DOC = (Path(__file__).parents[2] / "docs" / "grpo.md").read_text(encoding="utf-8")


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for key, value in table.items():
        pairs |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return pairs


def test_every_key_and_its_default() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \|", DOC, re.M)
    told = {key: tomllib.loads(f"x = {default}")["x"] for key, default in rows}
    assert told == flat(tomllib.loads(to_toml(GRPORecipe())))


def test_every_reward_and_every_loss() -> None:
    assert set(re.findall(r"^- `(\w+)`: ", DOC, re.M)) == set(REWARDS)
    assert set(re.findall(r"^\| `(\w+)` \| 1 / ", DOC, re.M)) == set(get_args(LossType))
