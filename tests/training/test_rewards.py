from __future__ import annotations

from dataclasses import replace

import pytest
from training_kit import attempt, word_policy

from thinksmith.engines.local.engine import LocalEngine
from thinksmith.errors import UserError
from thinksmith.records import Problem, Sampling
from thinksmith.training.rl.rewards import REWARDS, combine, correctness, think_format, true_equations
from thinksmith.training.rl.rollout import roll_out


@pytest.mark.parametrize("status", ["error", "bad_gold"])
def test_what_is_not_the_models_fault_is_left_out(status: str) -> None:
    assert correctness(attempt(status=status, score=0.0)) is None


@pytest.mark.parametrize("status", ["correct", "wrong", "no_answer", "truncated", "timeout"])
def test_all_else_has_the_verdicts_score(status: str) -> None:
    assert correctness(attempt(status=status, score=0.25)) == 0.25


def test_an_engine_that_failed_is_not_judged_for_its_format() -> None:
    assert think_format(attempt("", status="error", finish="error", error="out of memory")) is None


@pytest.mark.parametrize(
    ("thinking", "share"),
    [
        ("2 + 2 = 4", 1.0),
        ("2 + 2 = 4, 4 * 3 = 13", 0.5),
        ("7 - 9 = -(9 - 7) = -2", 1.0),
        ("It is four.", 0.0),
        ("", 0.0),
    ],
)
def test_equations_are_counted_by_their_truth(thinking: str, share: float) -> None:
    made = attempt("4")
    assert true_equations(replace(made, trace=replace(made.trace, thinking=thinking))) == share
    assert true_equations(attempt(status="error", finish="error")) is None


def test_format_under_a_template_that_opens_the_thinking() -> None:
    """The completion never holds the start tag, since the template wrote it; that must not zero the reward."""
    policy = word_policy()
    problems = [Problem("say/yes", "say yes", "yes", "exact")]
    sampling = Sampling(temperature=1.0, max_tokens=6)
    rollout = roll_out(
        LocalEngine(policy), problems, sampling, num_generations=64, step=0, weights={"think_format": 1.0}
    )
    for made, reward in zip(rollout.attempts, rollout.rewards, strict=True):
        _, closed, answer = made.trace.completion.partition("</think>")
        assert made.trace.opened.strip() == "<think>"
        if "<think>" not in made.trace.completion and "</think>" not in answer:
            assert reward == float(bool(closed) and bool(answer.strip()))
    assert 0 < sum(rollout.rewards) < 64


def test_weights_sum_and_none_wins() -> None:
    reward = combine({"correctness": 2.0, "think_format": -0.5})
    good = attempt("4", thinking_status="closed")
    assert reward(good) == (1.5, {"correctness": 1.0, "think_format": 1.0})
    assert reward(attempt("4", status="bad_gold"))[0] is None
    assert reward(attempt(" ", status="no_answer", score=0.0)) == (0.0, {"correctness": 0.0, "think_format": 0.0})


def test_an_unknown_reward_is_told_with_those_that_there_are() -> None:
    with pytest.raises(UserError, match="unknown reward 'corectness'") as told:
        combine({"correctness": 1.0, "corectness": 1.0})
    assert all(name in str(told.value) for name in REWARDS)


def test_rollouts_depend_on_seed_step_and_problem_alone() -> None:
    engine = LocalEngine(word_policy())
    first, second = Problem("say/yes", "say yes", "yes", "exact"), Problem("say/no", "say no", "no", "exact")

    def tokens(problems: list[Problem], step: int, seed: int = 0) -> dict[tuple[str, int], tuple[int, ...]]:
        sampling = Sampling(temperature=1.0, max_tokens=12, seed=seed)
        made = roll_out(engine, problems, sampling, num_generations=4, step=step, weights={"correctness": 1.0})
        assert made.groups == tuple(i // 4 for i in range(4 * len(problems)))
        return {(each.problem.id, each.sample): each.trace.token_ids for each in made.attempts}

    both = tokens([first, second], step=3)
    assert both == tokens([second, first], step=3)
    assert {key: value for key, value in both.items() if key[0] == "say/no"} == tokens([second], step=3)
    assert len(set(both.values())) > 4
    assert {sample for _, sample in both} == set(range(12, 16))  # numbered through the run
    assert set(both.values()) != set(tokens([first, second], step=4).values())
    assert set(both.values()) != set(tokens([first, second], step=3, seed=1).values())
