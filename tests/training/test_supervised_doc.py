"""docs/sft.md and docs/dpo.md say what is so: every key with its default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from thinksmith.recipes.load import to_toml
from thinksmith.training.supervised.recipe import DPORecipe, SFTRecipe

DOCS = Path(__file__).parents[2] / "docs"


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for key, value in table.items():
        pairs |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return pairs


def told(page: str) -> dict[str, Any]:
    rows = re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \|", (DOCS / page).read_text(encoding="utf-8"), re.M)
    return {key: tomllib.loads(f"x = {default}")["x"] for key, default in rows}


def test_every_key_of_sft_and_its_default() -> None:
    assert told("sft.md") == flat(tomllib.loads(to_toml(SFTRecipe())))


def test_what_is_other_in_dpo() -> None:
    sft, dpo = (flat(tomllib.loads(to_toml(kind()))) for kind in (SFTRecipe, DPORecipe))
    other = {key: value for key, value in dpo.items() if sft.get(key) != value}
    assert other.pop("training.lr") == 1e-6
    assert "`training.lr` is `1e-6`" in (DOCS / "dpo.md").read_text(encoding="utf-8")
    assert told("dpo.md") == other
