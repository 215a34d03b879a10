"""The 24 tasks: what holds for every seed; and the oracle, the fool and the lazy one that play them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.agent.evaluated import agent
from thinksmith.agent.office.checking import FOLDER, judge
from thinksmith.agent.office.scripted import Manner, ScriptedEngine
from thinksmith.errors import UserError
from thinksmith.problems.load import brings_tasks, load, load_checked
from thinksmith.problems.office import TASKS, office
from thinksmith.records import Problem, Sampling
from thinksmith.store.attempts import problem_row
from thinksmith.strategies.contract import Outcome

SEEDS = st.integers(0, 10**9)


def play(problems: Sequence[Problem], manner: Manner) -> list[Outcome]:
    engine = ScriptedEngine(problems, manner)

    async def every() -> list[Outcome]:
        return [await agent(Sampling(max_tokens=500))(problem, engine) for problem in problems]

    return asyncio.run(every())


def right(outcome: Outcome) -> bool:
    assert outcome.verdict
    return outcome.verdict.correct


@pytest.mark.parametrize("seed", [0, 1, 77])
def test_the_oracle_solves_all_and_the_fool_none(seed):
    problems = load("agent/office", seed=seed)
    solved, failed = play(problems, "oracle"), play(problems, "fool")
    assert [problem.id for problem, each in zip(problems, solved, strict=True) if not right(each)] == []
    assert [problem.id for problem, each in zip(problems, failed, strict=True) if right(each)] == []
    assert sum(each.notes["failed"] + each.notes["refused"] + each.notes["repeats"] for each in solved) == 0
    assert all(each.notes["answered"] and each.notes["steps"] == len(each.traces) for each in solved + failed)


def test_saying_the_right_thing_is_not_enough_where_files_are_asked_for():
    problems = load("agent/office", seed=5)
    said = play(problems, "lazy")
    assert {problem.meta["task"] for problem, each in zip(problems, said, strict=True) if right(each)} == {
        problem.meta["task"] for problem in problems if not problem.meta["wanted"]
    }
    assert sum(bool(problem.meta["wanted"]) for problem in problems) == 18


def test_the_train_split_is_solved_too():
    problems = load("agent/office/train", 6, seed=3)
    assert all(map(right, play(problems, "oracle")))


@given(SEEDS)
@settings(max_examples=30)
def test_every_seed_has_24_tasks_that_are_data(seed):
    problems = office({}, seed=seed)
    assert [problem.meta["task"] for problem in problems] == list(TASKS)
    assert len({problem.id for problem in problems}) == len({problem.text for problem in problems}) == 24
    assert office({}, seed=seed) == problems
    for problem in problems:
        assert json.loads(json.dumps(dict(problem.meta))) == problem.meta, "it is stored and read as it is"
        assert problem_row(problem)
        assert re.fullmatch(r"agent/office/test/[a-z_]+-[0-9a-f]{10}", problem.id)
        for path in [*problem.meta["files"], *problem.meta["wanted"]]:
            assert not PurePosixPath(path).is_absolute()
            assert ".." not in PurePosixPath(path).parts
        assert all(len(text) < 6000 for text in problem.meta["files"].values()), "one look shows all of it"
        asked = problem.meta["answer"]
        assert (problem.answer is None) == (asked is None) == ("Answer:" not in problem.text)


def after_calls(problem: Problem, calls: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """What a folder holds after the writes and edits of these calls, as the tools would do them."""
    folder = dict(problem.meta["files"])
    for call in calls:
        given_ = call["arguments"]
        if call["name"] == "files_write":
            folder[given_["path"]] = given_["text"]
        elif call["name"] == "files_edit":
            assert folder[given_["path"]].count(given_["old"]) == 1 or given_.get("every")
            folder[given_["path"]] = folder[given_["path"]].replace(given_["old"], given_["new"])
    return {FOLDER + path: text.encode() for path, text in folder.items()}


def uses_programs(problem: Problem) -> bool:
    return any("runs" in check for check in problem.meta["wanted"].values())


@given(SEEDS)
@settings(max_examples=25)
def test_checks_tell_right_from_wrong_for_every_seed(seed):
    """Without tools, so for many seeds: the solution is right, its neighbours are not."""
    for problem in office({}, seed=seed):
        meta, before = problem.meta, after_calls(problem, ())
        if uses_programs(problem):
            continue
        if not any(call["takes"] for call in meta["solution"]):
            done = after_calls(problem, meta["solution"])
            assert judge(problem, before, done, meta["said"]).correct, problem.id
            for path in meta["files"]:
                if path not in meta["wanted"]:
                    spoilt = done | {FOLDER + path: done[FOLDER + path] + b"\n"}
                    assert not judge(problem, before, spoilt, meta["said"]).correct, (problem.id, path)
        foolish = after_calls(problem, meta["foolish"])
        assert not judge(problem, before, foolish, meta["nonsense"]).correct, problem.id
        if meta["wanted"]:
            assert not judge(problem, before, before, f"Answer: {problem.answer}").correct, problem.id


@given(SEEDS, st.integers(1, 24))
@settings(max_examples=15)
def test_a_draw_is_part_of_a_larger_one(seed, n):
    some, more = office({}, n, seed=seed), office({}, min(n + 3, 24), seed=seed)
    assert len(some) == n
    assert some == more[:n]
    assert {problem.id for problem in some} <= {problem.id for problem in office({}, seed=seed)}


def test_splits_and_seeds_share_no_task():
    ids = [
        problem.id.rpartition("-")[2]
        for split in ("train", "test")
        for seed in (0, 1)
        for problem in office({}, split=split, seed=seed)
    ]
    assert len(set(ids)) == len(ids) == 96


def test_options():
    assert {problem.meta["level"] for problem in load("agent/office:level=2")} == {2}
    assert len(load("agent/office:level=2")) == 8
    assert [problem.meta["task"] for problem in load("agent/office:task=fix_script,variants=3")] == ["fix_script"] * 3
    assert len({problem.id for problem in load("agent/office:variants=3")}) == 72
    assert len(load("agent/office", 8)) == 8
    assert load("agent/office:split=train", seed=2) == load("agent/office/train", seed=2)
    assert load_checked("agent/office").findings == ()
    assert brings_tasks("agent/office:level=1")
    assert brings_tasks("agent/office/train")
    assert not brings_tasks("arithmetic")


@pytest.mark.parametrize(
    ("spec", "n", "said"),
    [
        ("agent/office:size=3", None, "it has: level, task, variants"),
        ("agent/office:level=4", None, "must be 1, 2, 3 or any"),
        ("agent/office:task=fix_skript", None, "did you mean 'fix_script'"),
        ("agent/office:variants=0", None, "must be a whole number"),
        ("agent/office:variants=²", None, "must be a whole number"),
        ("agent/office/dev", None, "has no split 'dev'"),
        ("agent/office", 25, "variants=2"),
        ("agent/offices", None, "known are"),
    ],
)
def test_mistakes_are_told(spec, n, said):
    with pytest.raises(UserError) as told:
        load(spec, n)
    assert said in str(told.value)
    assert "\n" not in str(told.value)
