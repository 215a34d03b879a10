"""GRPO from the first step to the last: it learns, and which problems come when."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_kit import full_disk, word_policy

from thinksmith.engines.local.engine import LocalEngine
from thinksmith.errors import UserError
from thinksmith.records import Problem, Request, Sampling
from thinksmith.training.rl.grpo import Metrics, step_problems, train
from thinksmith.training.rl.recipe import GRPORecipe, RolloutTable, TrainingTable

PROBLEMS = [Problem(f"say/{word}", f"say {word}", word, "exact") for word in ("yes", "no")]


def recipe(steps: int) -> GRPORecipe:
    return GRPORecipe(
        steps=steps,
        rollout=RolloutTable(prompts=2, num_generations=64, max_tokens=6),
        training=TrainingTable(lr=4e-3, save_every=0),
    )


def test_a_random_model_learns_to_close_its_thinking_and_to_answer_each_prompt(tmp_path: Path) -> None:
    """At first one completion in a hundred is right. Answering every prompt with the same word would be 50 %."""
    rows: list[Metrics] = []
    policy = word_policy(seed=1)
    train(policy, LocalEngine(policy), PROBLEMS, recipe(40), tmp_path, on_step=rows.append)

    def mean(name: str, part: slice) -> float:
        return sum(row[name] for row in rows[part]) / len(rows[part])

    first, last = slice(0, 3), slice(-3, None)
    assert mean("reward", first) < 0.15
    assert mean("reward", last) > 0.85
    assert mean("truncated_share", last) < 0.1 < mean("truncated_share", first)
    assert max(row["largest_logprob_gap"] for row in rows) <= 1e-4


def test_the_cache_is_given_back_before_the_backward_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = word_policy(seed=1)
    engine = LocalEngine(policy)
    engine.sample_all([Request(messages=PROBLEMS[0].messages, n=64, sampling=Sampling(max_tokens=6))])
    busy = engine.memory
    held: list[int] = []
    backward = torch.Tensor.backward

    def watched(*args: object, **kwargs: object) -> None:
        held.append(engine.memory)
        backward(*args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "backward", watched)
    train(policy, engine, PROBLEMS, recipe(2), tmp_path)
    assert held
    assert max(held) < busy / 2


def test_metrics_on_a_full_disk_are_told_in_a_line(tmp_path: Path) -> None:
    policy = word_policy()
    with full_disk(10), pytest.raises(UserError, match=r"cannot write .*metrics\.jsonl: File too large"):
        train(policy, LocalEngine(policy), PROBLEMS, recipe(1), tmp_path)


pools = st.integers(1, 30).map(lambda n: [Problem(f"p/{i}", "?") for i in range(n)])


@given(pools, st.integers(1, 12), st.integers(0, 5))
def test_every_pass_over_the_pool_has_each_problem_once(pool: list[Problem], count: int, seed: int) -> None:
    steps = 3 * len(pool) // count + 1
    drawn = [problem.id for step in range(steps) for problem in step_problems(pool, count, step, seed)]
    assert len(drawn) == steps * count
    for start in range(0, len(drawn) - len(pool) + 1, len(pool)):
        assert sorted(drawn[start : start + len(pool)]) == sorted(problem.id for problem in pool)


def test_passes_and_seeds_have_their_own_orders() -> None:
    pool = [Problem(f"p/{i}", "?") for i in range(20)]
    orders = [tuple(p.id for p in step_problems(pool, 20, step, seed)) for step in range(3) for seed in range(3)]
    assert len(set(orders)) == len(orders)
