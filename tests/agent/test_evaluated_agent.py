"""The agent as a strategy by name: its tools and options, what is allowed, verdicts, and evaluations that go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_scripts import Scripted, calls, heard

from thinksmith.agent import evaluated
from thinksmith.agent.evaluated import agent
from thinksmith.agent.office.scripted import ScriptedEngine
from thinksmith.errors import UserError
from thinksmith.evaluate.evaluate import evaluate
from thinksmith.problems.load import load
from thinksmith.records import Problem, Request, Sampling, Trace
from thinksmith.store.store import Store
from thinksmith.strategies.contract import Outcome
from thinksmith.strategies.names import strategy
from thinksmith.verify import check_gold, judged, require, verify, verify_all

SAMPLING = Sampling(max_tokens=400)
SUM = Problem("sum/1", "How much is 12345 * 6789?", str(12345 * 6789), "number")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.db") as opened:
        yield opened


def go(problem: Problem, engine: Any, **options: Any) -> Outcome:
    return asyncio.run(agent(SAMPLING, **options)(problem, engine))


# --- by name


def test_it_is_a_strategy_by_name():
    plan = strategy("agent:tools=calculator+python,steps=6,planning=no,history=ids,reflect_every=0")
    assert plan.options == {
        "tools": "calculator+python",
        "steps": 6,
        "planning": False,
        "history": "ids",
        "reflect_every": 0,
    }
    assert strategy("agent").spec == "agent"
    assert strategy("agent:steps=30").spec == "agent", "defaults are left out"


@pytest.mark.parametrize(
    ("text", "specs"),
    [
        ("calculator", ["calculator"]),
        ("calculator+python", ["calculator", "python"]),
        ("calculator python", ["calculator", "python"]),
        ("http:a.example+b.example+python", ["http:a.example+b.example", "python"]),
        ("files:./a+sql:shop.db+calculator", ["files:./a", "sql:shop.db", "calculator"]),
        ("my.tools:double calculator", ["my.tools:double", "calculator"]),
        ("files:./c+calculators", ["files:./c+calculators"]),
        ("", []),
    ],
)
def test_tools_are_named_with_a_plus_or_white_space(text, specs):
    assert evaluated._specs(text) == specs


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("agent:tools=calculater", "did you mean 'calculator'"),
        ("agent:tools=calculator+calculator", "comes twice"),
        ("agent:steps=0", "at least one step"),
        ("agent:history=text", "none of messages, ids"),
        ("agent:plan=no", "has no option 'plan'"),
    ],
)
def test_a_mistake_is_told_at_once(spec, said):
    with pytest.raises(UserError) as told:
        strategy(spec)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_no_client_of_a_server_names_an_agent():
    from thinksmith.serve.asked import Refusal
    from thinksmith.serve.models import ours

    for spec in ("agent", "agent:tools=python", "agent:tools=calculator", " agent:steps=2"):
        with pytest.raises(Refusal, match="operator's to name"):
            ours(spec)


# --- tools that are named


def test_any_problems_get_tools_and_their_verifier_judges(store):
    ask = calls("calculator", "Too big for my head.", expression="12345 * 6789")
    engine = Scripted("1. Compute it.", ask, lambda request: f"The answer is {heard(request).splitlines()[1]}.")
    run, summary = evaluate(
        [SUM], engine, sampling=SAMPLING, store=store, name="sums", strategy="agent:tools=calculator"
    )
    assert summary.accuracy.mean == 1
    (stored,) = store.attempts(run)
    notes = stored.attempt.notes
    assert stored.attempt.verdict.reason.startswith("extracted")
    assert {key: notes[key] for key in ("steps", "calls", "failed", "refused", "repeats", "tools", "traces")} == {
        "steps": 3,
        "calls": 1,
        "failed": 0,
        "refused": 0,
        "repeats": 0,
        "tools": ["calculator"],
        "traces": 3,
    }
    assert stored.attempt.strategy == "agent:tools=calculator"
    assert notes["spent"] == sum(trace.tokens for trace in _steps(store))


def _steps(store: Store) -> list[Trace]:
    """What is kept of the steps, beside the evaluation."""
    return [each.attempt.trace for run in store.runs() if run.kind == "draws" for each in store.attempts(run.id)]


def test_nobody_says_yes_to_writing_and_sending(tmp_path):
    (tmp_path / "in.txt").write_text("7\n")
    engine = Scripted(
        calls("files_read", path="in.txt"),
        calls("files_write", path="out.txt", text="x"),
        calls("python", code="print(6 * 7)"),
        "7",
    )
    done = go(SUM, engine, tools=f"files:{tmp_path}+python", planning=False, reflect_every=0)
    assert (done.notes["refused"], done.notes["failed"], done.notes["calls"]) == (1, 0, 3)
    assert not (tmp_path / "out.txt").exists()
    assert "not allowed" in engine.asked[2].messages[-1]["content"]
    assert "42" in engine.asked[3].messages[-1]["content"]
    assert done.verdict is None


def test_a_problem_without_tools_is_told(store):
    with pytest.raises(UserError, match="sum/1 brings no tools: name some"):
        evaluate([SUM], Scripted("x"), sampling=SAMPLING, store=store, name="s", strategy="agent")
    with pytest.raises(UserError, match="agent:tools=calculator"):
        go(SUM, Scripted("x"))


def test_a_task_needs_an_agent(store):
    tasks = load("agent/office", 2)
    with pytest.raises(UserError, match="is a task for an agent, and vote@3 only answers: --strategy agent"):
        evaluate(tasks, Scripted("x"), sampling=SAMPLING, store=store, name="t", strategy="vote@3")
    assert store.runs() == []


def test_a_verifier_says_that_a_task_is_none_of_its_own():
    (task,) = load("agent/office:task=org_chart")
    trace = Trace("", "Answer: 3")
    found = verify(task, trace)
    assert (found.status, "--strategy agent" in found.reason) == ("error", True)
    assert judged(task, trace) == found == verify_all([(task, trace)])[0]
    assert check_gold(task) is None
    with pytest.raises(UserError, match="an agent does them"):
        require("task")
    assert verify(task, Trace("", "", finish="error", error="gone")).reason == "gone"


def test_tasks_can_be_trained_on_with_an_agent():
    from thinksmith.training.rl.check import _check_verifiable
    from thinksmith.training.rl.recipe import AgentTable, GRPORecipe

    tasks = load("agent/office/train", 2)
    _check_verifiable(GRPORecipe(agent=AgentTable()), tasks, tasks)
    with pytest.raises(UserError, match="an agent does them"):
        _check_verifiable(GRPORecipe(), tasks, tasks)


# --- verdicts


def test_the_world_is_asked_and_not_the_words():
    (task,) = load("agent/office:task=sum_column")
    done = go(task, ScriptedEngine([task], "lazy"))
    assert done.verdict
    assert done.verdict.status == "wrong"
    assert "is not there" in done.verdict.reason


def test_a_limit_that_comes_too_early_is_truncated_and_one_that_does_not_is_right():
    (task,) = load("agent/office:task=sum_column")
    early = go(task, ScriptedEngine([task], "oracle"), steps=2)
    assert early.verdict
    assert early.verdict.status == "truncated"
    assert early.verdict.reason.startswith("the limit of 2 steps is reached: ")
    late = go(task, ScriptedEngine([task], "oracle"), steps=4)  # the plan and all three calls
    assert late.verdict
    assert late.verdict.correct


def test_a_model_that_fails_is_no_wrong_answer(store):
    class Broken(Scripted):
        async def sample(self, request: Request) -> list[Trace]:
            return [Trace("", "", finish="error", error="out of memory")]

    tasks = load("agent/office", 2)
    run, summary = evaluate(tasks, Broken("x"), sampling=SAMPLING, store=store, name="t", strategy="agent")
    assert summary.counts == {"error": 2}
    assert summary.accuracy.mean == 0
    assert {stored.attempt.verdict.reason for stored in store.attempts(run)} == {"out of memory"}


# --- seeds, and going on


class Mortal(ScriptedEngine):
    """Plays as the oracle does, and dies at a request; counts what it is asked."""

    def __init__(self, problems: Any, lives: int = 10**9) -> None:
        super().__init__(problems, "oracle")
        self.lives, self.asked = lives, list[Request]()

    async def sample(self, request: Request) -> list[Trace]:
        await asyncio.sleep(0)
        if len(self.asked) >= self.lives:
            raise ConnectionError("gone")
        self.asked.append(request)
        return await super().sample(request)


def kept(request: Request) -> str:
    return json.dumps([list(request.messages), request.sampling.seed], sort_keys=True)


@pytest.mark.parametrize("lives", [1, 17, 40])
def test_an_interrupted_evaluation_goes_on_in_fresh_worlds(store, lives, tmp_path):
    tasks = load("agent/office:level=3")
    options: dict[str, Any] = {"sampling": SAMPLING, "name": "t", "strategy": "agent", "samples": 2}
    dead = Mortal(tasks, lives)
    with pytest.raises(UserError, match="attempts failed"):
        evaluate(tasks, dead, store=store, **options)
    alive = Mortal(tasks)
    run, summary = evaluate(tasks, alive, store=store, **options)
    whole = Mortal(tasks)
    with Store.open(tmp_path / "other.db") as other:
        uninterrupted, _ = evaluate(tasks, whole, store=other, **options)
        expected = {
            (each.attempt.problem.id, each.attempt.sample): each.attempt for each in other.attempts(uninterrupted)
        }
    assert summary.accuracy.mean == 1
    assert len(dead.asked) + len(alive.asked) == len(whole.asked), "nothing is sampled twice, nothing is lost"
    assert sorted(map(kept, dead.asked + alive.asked)) == sorted(map(kept, whole.asked))
    for stored in store.attempts(run):
        made = stored.attempt
        like = expected[made.problem.id, made.sample]
        assert (made.verdict, made.notes, made.trace.text) == (like.verdict, like.notes, like.trace.text)


def test_a_seed_is_of_problem_sample_and_step_alone():
    (one, other) = load("agent/office", 2)

    def seeds(problem: Problem, **options: Any) -> list[int]:
        engine = Mortal([one, other])
        asyncio.run(agent(SAMPLING, **options)(problem, engine))
        return [request.sampling.seed for request in engine.asked]

    assert seeds(one) == seeds(one)
    assert seeds(one, steps=3) == seeds(one)[:4], "however many steps there may be"
    every = seeds(one) + seeds(one, sample=1) + seeds(other)
    assert len(set(every)) == len(every)


def test_a_history_of_ids_is_one_trace():
    from thinksmith.engines import open_engine

    engine = open_engine("tiny")
    try:
        done = asyncio.run(
            agent(
                Sampling(max_tokens=24, seed=1),
                tools="calculator",
                steps=2,
                planning=False,
                history="ids",
                instructed=False,
                described=False,
            )(SUM, engine)
        )
    finally:
        asyncio.run(engine.aclose())
    assert done.chosen.prompt_ids == done.traces[0].prompt_ids
    sampled = [id for at, id in enumerate(done.chosen.token_ids) if at not in set(done.chosen.forced)]
    assert sampled == [id for trace in done.traces for at, id in enumerate(trace.token_ids) if at not in trace.forced]
    assert done.tokens == sum(len(trace.token_ids) for trace in done.traces)


def test_ids_need_a_local_model():
    with pytest.raises(UserError, match="needs a local model"):
        go(SUM, Scripted("x"), tools="calculator", history="ids")
