"""How large rows are: what is foreseen of full completions is what is packed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.records import Problem
from thinksmith.training.batches import Example
from thinksmith.training.fits import ENOUGH
from thinksmith.training.packed.pack import largest_row, packs
from thinksmith.training.rl.memory import grpo_training, room_for
from thinksmith.training.rl.recipe import GRPORecipe

CPU = torch.device("cpu")
PROBLEMS = [Problem(f"own/{n}", f"How much is {n} times {n + 7}?", str(n * (n + 7))) for n in range(10, 22)]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy("tiny")


def recipe_of(**tables: object) -> GRPORecipe:
    return GRPORecipe.model_validate({"model": "tiny", **tables})


@given(
    lengths=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 60)), min_size=1, max_size=40),
    tokens=st.integers(1, 200),
)
def test_the_largest_row_is_the_largest_that_is_packed(lengths: list[tuple[int, int]], tokens: int) -> None:
    examples = [Example((1,) + (prompt,) * (1 + 3 * prompt), (2,) * length) for prompt, length in lengths]
    assert largest_row(examples, tokens) == max(row.tokens for row in packs(examples, tokens, CPU))


@pytest.mark.parametrize(
    ("prompts", "count", "most"), [(16, 16, 256), (4, 8, 192), (1, 8, 1024), (2, 2, 300), (3, 12, 70), (12, 64, 31)]
)
def test_rows_of_full_completions_are_as_large_as_foreseen(policy: Policy, prompts: int, count: int, most: int) -> None:
    recipe = recipe_of(rollout={"prompts": prompts, "num_generations": count, "max_tokens": most})
    prompt = grpo_training(policy, recipe, PROBLEMS).prompt_tokens
    room = room_for(policy, recipe, PROBLEMS)
    whole = [Example((number,) * prompt, (9,) * most) for number in range(prompts) for _ in range(count)]
    assert max(row.tokens for row in packs(whole, room, CPU)) == room <= max(prompt + ENOUGH["cpu"], prompt + most)
    # No completion more would go in: the next larger row is beyond what makes a step faster, or is all there is.
    assert room > (prompt + ENOUGH["cpu"]) // 2 or room == prompts * (prompt + count * most)


def test_what_a_recipe_says_is_kept(policy: Policy) -> None:
    assert room_for(policy, recipe_of(training={"micro_tokens": 777}), PROBLEMS) == 777


def test_where_memory_is_scarce_rows_are_smaller(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(rollout={"prompts": 4, "num_generations": 8, "max_tokens": 128})
    plenty = room_for(policy, recipe, PROBLEMS)
    monkeypatch.setattr("thinksmith.training.fits.free_bytes", lambda device: 100_000_000)
    assert 128 < room_for(policy, recipe, PROBLEMS) < plenty
