"""Episodes as rollouts: trajectories are learnt as they were sampled, and rewarded for their end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from episode_kit import Calling
from training_kit import same_bits, weights

from thinksmith.agent.trained import Trained, manner_of, write_manner
from thinksmith.cli.grpo import train
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.errors import UserError
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.problems.families import sample
from thinksmith.recipes.load import checked
from thinksmith.records import Attempt, Problem, Request, Sampling, Trace, Verdict
from thinksmith.training.optimizer import Optimizers
from thinksmith.training.rl.calling import call_shares, calling
from thinksmith.training.rl.check import check
from thinksmith.training.rl.episodes import spec_of, trained_as
from thinksmith.training.rl.metrics import describe
from thinksmith.training.rl.prompts import Prompts
from thinksmith.training.rl.recipe import (
    AgentTable,
    CurriculumTable,
    GRPORecipe,
    RolloutTable,
    TrainingTable,
    WarmupTable,
)
from thinksmith.training.rl.rewards import Calls, scorer
from thinksmith.training.rl.rollout import Rollout, roll_out
from thinksmith.training.rl.update import update
from thinksmith.training.rl.warmup import Solver, trajectories, turns_of

AGENT = AgentTable(tools=("calculator",), steps=3, describe=False)
TABLE = RolloutTable(prompts=3, num_generations=4, max_tokens=48)
REWARDS: Any = {"correctness": 1.0, "calls": 0.5}


@pytest.fixture
def at_work() -> Iterator[tuple[Policy, Calling]]:
    policy = load_policy("tiny-base", dtype="float32")
    engine = LocalEngine(policy)
    yield policy, Calling(engine)
    engine.close()


def products() -> list[Problem]:
    found = sample("products", {}, 40, split="train", seed=0)
    return [problem for problem in found if problem.text.startswith("What is")]


def rolled(engine: Calling, agent: AgentTable = AGENT) -> Rollout:
    prompts = Prompts(products(), 0, CurriculumTable())
    return roll_out(engine, prompts, TABLE, scorer(REWARDS), seed=3, step=0, agent=agent)


def test_a_trajectory_is_learnt_as_it_was_sampled_and_rewarded_once(at_work: tuple[Policy, Calling]) -> None:
    policy, engine = at_work
    rollout = rolled(engine)
    assert engine.calls == sum(attempt.notes["calls"] > 0 for attempt in rollout.attempts) > 0
    for attempt, reward in zip(rollout.attempts, rollout.rewards, strict=True):
        trace, called = attempt.trace, attempt.notes["calls"] > 0
        assert trace.logprobs is not None
        assert len(trace.logprobs) == len(trace.token_ids)
        assert bool(trace.forced) == (attempt.notes["steps"] > 1)
        read = policy.decode([trace.token_ids[place] for place in trace.forced])
        if called:
            assert f"<tool_response>\n{attempt.problem.answer}\n</tool_response>" in read
        cost = 0.0 if called == attempt.problem.meta["needs_tool"] else -0.5
        assert reward == pytest.approx(float(attempt.verdict.correct) + cost)


def test_the_update_sees_the_log_probabilities_of_the_rollout(at_work: tuple[Policy, Calling]) -> None:
    """Promise 3 for trajectories. And of tokens that were only read it learns nothing: their labels do not matter."""
    policy, engine = at_work
    rollout = rolled(engine)
    recipe = GRPORecipe(rollout=TABLE, training=TrainingTable(micro_tokens=2048, max_grad_norm=1e9))
    before = weights(policy.model)
    row = update(policy, rollout, recipe, Optimizers(policy.model, "adamw", 1e-4), 1.0)
    assert row["largest_logprob_gap"] < 1e-4
    assert row["trained_tokens"] > 0
    after = weights(policy.model)
    assert not same_bits(before, after)
    policy.model.load_state_dict({name: tensor.clone() for name, tensor in before.items()}, strict=False)
    told = replace(rollout, attempts=tuple(map(_with_other_log_probabilities, rollout.attempts)))
    update(policy, told, recipe, Optimizers(policy.model, "adamw", 1e-4), 1.0)
    assert same_bits(weights(policy.model), after)


def _with_other_log_probabilities(attempt: Attempt) -> Attempt:
    """Of what was only read."""
    trace = attempt.trace
    assert trace.logprobs is not None
    read = set(trace.forced)
    changed = tuple(-9.0 if place in read else value for place, value in enumerate(trace.logprobs))
    return replace(attempt, trace=replace(trace, logprobs=changed))


def test_the_same_again(at_work: tuple[Policy, Calling]) -> None:
    _, engine = at_work
    once, twice = rolled(engine), rolled(engine)
    for one, other in zip(once.attempts, twice.attempts, strict=True):
        assert (one.trace.token_ids, one.sample, one.verdict) == (other.trace.token_ids, other.sample, other.verdict)
    assert len({attempt.sample for attempt in once.attempts}) == 12


def test_an_episode_that_fails_is_left_out_and_a_mistake_of_the_users_is_told(at_work: tuple[Policy, Calling]) -> None:
    _, engine = at_work
    rollout = rolled(engine, replace_agent(strategy="episode_kit:failing"))
    failed = [attempt for attempt in rollout.attempts if attempt.trace.finish == "error"]
    assert [attempt.sample % 3 for attempt in failed] == [2] * 4
    assert "gone" in failed[0].trace.error
    assert [reward is None for reward in rollout.rewards] == [a.trace.finish == "error" for a in rollout.attempts]
    with pytest.raises(UserError, match="no such tool"):
        rolled(engine, replace_agent(strategy="episode_kit:failing", tools=("user",)))


def replace_agent(**changed: Any) -> AgentTable:
    return AGENT.model_copy(update=changed)


def attempt(needs: bool | None, calls: int, right: bool) -> Attempt:
    meta = {} if needs is None else {"needs_tool": needs}
    verdict = Verdict("correct" if right else "wrong", float(right))
    problem = Problem(f"p/{needs}/{calls}/{right}", "?", "1", meta=meta)
    return Attempt(problem, Trace("", "1"), verdict, notes={"calls": calls})


def test_calls_cost_where_they_are_needless_or_missing() -> None:
    reward = Calls(needless=0.25, missing=2.0)
    assert [reward(attempt(needs, calls, True)) for needs in (True, False) for calls in (0, 1, 2)] == [
        -2.0, 0.0, 0.0, 0.0, -0.25, -0.25,
    ]  # fmt: skip
    assert reward(attempt(None, 1, True)) is None
    with pytest.raises(UserError, match=r"calls.*costs"):
        scorer({"calls": {"weight": 1.0, "missing": -1.0}})


def test_the_shares_of_calls_are_told_apart() -> None:
    every = [attempt(True, 1, True), attempt(True, 0, True), attempt(False, 1, True), attempt(False, 0, False)]
    every.append(attempt(None, 1, True))
    assert call_shares(every) == {"call_share_needed": 0.5, "call_share_needless": 0.5, "fitting_share": 0.25}
    found = calling(every)
    assert found is not None
    assert (found.where_needed.mean, found.where_not.mean, found.fitting.mean) == (0.5, 0.5, 0.25)
    assert calling(every[:2]) is None
    assert call_shares(every[-1:]) == {}
    row = describe(Rollout(tuple(every), (0,) * 5, (1.0,) * 5, ({},) * 5))
    assert row["fitting_share"] == 0.25


def test_a_recipe_is_refused_where_its_agent_cannot_be() -> None:
    pool = products()[:4]
    for data, fault in (
        ({"warmup": {}}, r"add that table"),
        ({"rewards": {"calls": 1.0}}, r"'calls' does nothing without \[agent\]"),
        ({"agent": {"strategy": "nothing"}}, r"\[agent\]: no strategy 'nothing'"),
        ({"agent": {"tools": ["a b"]}}, "white space"),
        ({"agent": {}, "warmup": {}, "training": {"tuning": "lora"}}, "all weights"),
    ):
        with pytest.raises(UserError, match=fault):
            check(checked(data, GRPORecipe), pool)
    with pytest.raises(UserError, match=r"unknown key 'agent.stepz'; did you mean 'steps'"):
        checked({"agent": {"stepz": 3}}, GRPORecipe)


def test_the_name_of_the_strategy_says_all_of_the_table() -> None:
    assert spec_of(AgentTable(tools=("calculator", "files:./x"), describe=False)) == (
        "agent:tools=calculator files:./x,steps=8,planning=no,reflect_every=0,instructed=no,described=no,history=ids"
    )


def test_the_manner_of_training_lies_in_the_models_folder(tmp_path: Path) -> None:
    assert manner_of(str(tmp_path)) is None
    assert manner_of("tiny") is None
    write_manner(tmp_path, trained_as(AGENT))
    found = manner_of(str(tmp_path))
    assert isinstance(found, Trained)
    assert (found.history, found.steps, found.manner.described, found.manner.instructed) == ("ids", 3, False, False)
    for text in ("{", '{"manner": {"planning": 1}, "history": "ids", "steps": 3}', '{"manner": {}, "history": "no"}'):
        (tmp_path / "agent.json").write_text(text)
        with pytest.raises(UserError, match=r"agent\.json"):
            manner_of(str(tmp_path))


def test_the_solver_writes_what_a_rollout_reads(at_work: tuple[Policy, Calling]) -> None:
    """The warm-up's examples are the prompt and the turns that the engine would be asked with, and a call with its
    result where one was made; half of the big and of the small ones have a call."""
    policy, _ = at_work
    pool = products()
    recipe = GRPORecipe(agent=AGENT, warmup={"trajectories": 60})  # type: ignore[arg-type]
    examples = trajectories(policy, pool, recipe)
    by_prompt = {policy.render(problem.messages).ids: problem for problem in pool}
    called = []
    for example in examples:
        problem = by_prompt[example.prompt_ids]
        read = policy.decode([example.completion_ids[place] for place in example.given])
        learnt = policy.decode([each for at, each in enumerate(example.completion_ids) if at not in set(example.given)])
        assert example.completion_ids[-1] in policy.eos_ids
        assert len(example.completion_ids) - 1 not in example.given
        if "tool_call" in learnt:
            called.append(problem)
            assert read == policy.decode(policy.turn([{"role": "tool", "content": str(problem.answer)}], ended=True))
            assert learnt.count("<|im_end|>") == 2
        else:
            assert not example.given
    shares = [sum(problem.meta["needs_tool"] == needs for problem in called) for needs in (True, False)]
    assert min(shares) >= 5
    assert len(called) <= 45
    with pytest.raises(UserError, match="such as products"):
        trajectories(policy, sample("arithmetic", {}, 2, split="train", seed=0), recipe)


def test_in_the_head_big_products_come_out_wrong_and_small_ones_right() -> None:
    for problem in products():
        ((_, answer),) = turns_of(problem, WarmupTable(calls=0.0, direct=0.0), Random(1))
        assert (f"is {problem.answer}." in answer) == (not problem.meta["needs_tool"])


def test_a_solver_that_is_asked_once_more_says_so(at_work: tuple[Policy, Calling]) -> None:
    policy, engine = at_work
    solver = Solver(engine.local, policy, [("One.", "Two.")])
    request = Request(messages=products()[0].messages, sampling=Sampling())
    said = [asyncio.run(solver.sample(request))[0] for _ in range(2)]
    assert [(trace.thinking.strip(), trace.answer.strip()) for trace in said] == [
        ("One.", "Two."),
        ("", "I do not know."),
    ]
    assert torch.tensor(said[0].token_ids).max() < policy.vocab_size


def test_the_command_warms_up_trains_and_tells_when_tools_were_called(
    tmp_path: Path, own_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hundredth of tool-tiny: all stages, the shares by stage, the chart, the model's manner; and the same command
    goes on where it stands."""
    small = {"warmup.steps": 3, "warmup.trajectories": 24, "warmup.batch": 8, "rollout.prompts": 4}
    overrides: Any = {**small, "rollout.num_generations": 2, "evaluation.n": 12, "steps": 2}
    result = train("tool-tiny", overrides, tmp_path / "run")
    assert set(result.calls) == {"before", "warmed", "after"}
    assert result.warmed is not None
    said = capsys.readouterr().out
    assert "called exactly where needed" in said
    assert [line.split()[1] for line in said.splitlines() if line.startswith("   calls")] == [
        "before",
        "warmed",
        "after",
    ]
    assert "Calls of tools" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    found = manner_of(str(tmp_path / "run" / "model"))
    assert found is not None
    assert found.history == "ids"
    assert not found.manner.planning
    again = train("tool-tiny", overrides, tmp_path / "run")
    assert (again.warmed, again.after) == (result.warmed, result.after)
