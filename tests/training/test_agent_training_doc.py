"""docs/agent-training.md says what is so: every key of [agent] and [warmup] with its default, and its examples."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from thinksmith.distill.examples import examples_of, turn_of
from thinksmith.distill.formats import read_set
from thinksmith.policy.load import load_policy
from thinksmith.recipes.load import checked
from thinksmith.training.rl.recipe import AgentTable, GRPORecipe, WarmupTable

DOC = (Path(__file__).parents[2] / "docs" / "agent-training.md").read_text(encoding="utf-8")


def test_every_key_and_its_default() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \|", DOC, re.M)
    told = {key: tomllib.loads(f"x = {default}")["x"] for key, default in rows}
    tables = {"agent": AgentTable(), "warmup": WarmupTable()}
    mine = {f"{name}.{key}": value for name, table in tables.items() for key, value in table.model_dump().items()}
    assert told == mine | {"agent.tools": []}


def test_the_recipe_and_the_row_are_read(tmp_path: Path) -> None:
    (recipe,) = re.findall(r"```toml\n(.*?)```", DOC, re.S)
    assert checked(tomllib.loads(recipe), GRPORecipe).agent == AgentTable(
        tools=("calculator",), steps=3, describe=False
    )
    (row,) = re.findall(r"```json\n(.*?)```", DOC, re.S)
    (tmp_path / "row.jsonl").write_text(json.dumps(json.loads(row)) + "\n", encoding="utf-8")
    policy = load_policy("tiny")
    made = examples_of(read_set(tmp_path / "row.jsonl"), policy, turn_of(policy))
    assert not made.dropped
    assert made.examples[0].given
