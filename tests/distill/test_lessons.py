"""Lessons: arms that are trained as they say, seeds that are paired, what was done not done again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from thinksmith.distill.lessons.arms import BOTH, Trained, cut
from thinksmith.distill.lessons.page import bounds, to_markdown, write_pages
from thinksmith.distill.lessons.recipe import LessonRecipe, check
from thinksmith.distill.lessons.trial import Trial, teach, trial_of
from thinksmith.errors import UserError
from thinksmith.policy.load import load_policy
from thinksmith.recipes.load import HERE, checked, load
from thinksmith.records import Attempt, Problem, Trace, Verdict
from thinksmith.store.store import Store
from thinksmith.training.batches import Example

EVIL = "<script>alert(1)</script>"
SMALL: dict[str, Any] = {
    "title": "Small",
    "claim": "it does",
    "model": "tiny",
    "seeds": 2,
    "first": "base",
    "traces": {"problems": "arithmetic", "n": 6, "k": 1, "max_tokens": 128},
    "measure": {"problems": "arithmetic", "n": 4, "max_tokens": 96},
    "sft": {"batch.samples": 3},
    "grpo": {
        "problems": "arithmetic",
        "steps": 1,
        "rollout.prompts": 2,
        "rollout.num_generations": 2,
        "rollout.max_tokens": 48,
        "rollout.pool": 8,
        "rewards.tag_count": 1.0,
    },
    "arms": {
        "base": {"how": "none"},
        "taught": {},
        "cut": {"cut": 32},
        "then RL": {"how": "grpo", "after": "taught"},
    },
}


class Looker:
    def __init__(self, stop_at: int = 0) -> None:
        self.steps, self.measures, self._stop_at = 0, list[tuple[str, int]](), stop_at

    def collecting(self, lesson: Any) -> None: ...

    def arm(self, name: str, seed: int) -> None: ...

    def step(self, row: dict[str, float]) -> None:
        self.steps += 1

    def measured(self, name: str, seed: int, found: float) -> None:
        self.measures.append((name, seed))
        if len(self.measures) == self._stop_at:
            raise KeyboardInterrupt


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.db") as found:
        yield found


def lesson(**changed: Any) -> LessonRecipe:
    return checked(json.loads(json.dumps(SMALL)) | changed, LessonRecipe)


examples = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 9), st.sets(st.integers(0, 8))).map(
        lambda made: Example(
            tuple(range(100, 100 + made[0])),
            tuple(range(200, 200 + made[1])),
            tuple(sorted(at for at in made[2] if at < made[1])),
        )
    ),
    min_size=1,
    max_size=6,
)


@given(examples=examples, length=st.integers(2, 40))
def test_a_stream_that_is_cut_has_every_token_once_and_learns_those_of_completions(
    examples: list[Example], length: int
) -> None:
    rows = cut(examples, length)
    stream, wanted = list[int](), list[bool]()
    for example in examples:
        stream += [*example.prompt_ids, *example.completion_ids]
        wanted += [False] * len(example.prompt_ids)
        wanted += [at not in example.given for at in range(len(example.completion_ids))]
    pieces = [(stream[at : at + length], wanted[at : at + length]) for at in range(0, len(stream), length)]
    kept = [(ids, learnt) for ids, learnt in pieces if any(learnt[1:])]  # a row's first token follows nothing
    assert [[*row.prompt_ids, *row.completion_ids] for row in rows] == [ids for ids, _ in kept]
    assert [row.learnt for row in rows] == [sum(learnt[1:]) for _, learnt in kept]
    for row, (_, learnt) in zip(rows, kept, strict=True):
        assert [at not in row.given for at in range(len(row.completion_ids))] == learnt[1:]


def test_every_arm_and_seed_and_all_of_it_again_for_nothing(tmp_path: Path, store: Store) -> None:
    first = Looker()
    made = teach(lesson(), tmp_path / "run", store, first)
    assert first.measures == [(name, seed) for seed in range(2) for name in SMALL["arms"]]
    assert [arm.name for arm in made.arms] == list(SMALL["arms"])
    assert [each.arm for each in made.versus] == ["taught", "cut", "then RL"]
    base, taught, torn, rl = made.arms
    assert (base.flops, base.seconds) == (0.0, 0.0)
    rows = [json.loads(line) for line in (tmp_path / "run/seed-0/taught/metrics.jsonl").read_text().splitlines()]
    size = sum(parameter.numel() for parameter in load_policy("tiny").model.parameters())
    assert taught.flops == pytest.approx(size * BOTH * sum(row["computed_tokens"] for row in rows), rel=0.05)
    assert rl.flops > taught.flops
    assert rl.seconds > taught.seconds > 0
    assert torn.flops > 0
    weights = [store.run(arm.runs[seed]).weights_hash for arm in (base, taught, torn) for seed in range(2)]
    assert len(set(weights)) == 5  # the base twice, and every other arm and seed once
    again = Looker()
    assert teach(lesson(), tmp_path / "run", store, again) == made
    assert again.steps == 0
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [arm["by_seed"] for arm in found["arms"]] == [list(arm.seeds_S) for arm in made.arms]


def test_interrupted_it_goes_on_to_the_same(tmp_path: Path, store: Store) -> None:
    small = lesson(arms={name: SMALL["arms"][name] for name in ("base", "taught")}, seeds=1)
    whole = teach(small, tmp_path / "whole", store, Looker())
    with Store.open(tmp_path / "other.db") as other:
        with pytest.raises(KeyboardInterrupt):
            teach(small, tmp_path / "run", other, Looker(stop_at=1))
        rest = teach(small, tmp_path / "run", other, Looker())
    assert [arm.seeds_S for arm in rest.arms] == [arm.seeds_S for arm in whole.arms]


def synthetic(store: Store, right: dict[str, list[list[int]]]) -> Trial:
    """A trial of made-up evaluations: by arm and seed, which problems are solved."""
    runs: dict[str, list[str]] = {}
    for name, seeds in right.items():
        for seed, solved in enumerate(seeds):
            run = store.start_run("eval", "made", name, f"{name}{seed}", {"sampling": {"temperature": 1.0}})
            store.add(
                run,
                [
                    Attempt(
                        Problem(f"p/{at}", "What?", "7"),
                        Trace("", "7", token_ids=(1,) * 4, answer_tokens=4),
                        Verdict("correct" if each else "wrong", float(each), "7"),
                    )
                    for at, each in enumerate(solved)
                ],
            )
            store.finish_run(run, {})
            runs.setdefault(name, []).append(run)
    recipe = lesson(arms={name: {"how": "none"} for name in right}, first=next(iter(right)), seeds=len(right["a"]))
    costs = {name: [Trained("m", 3e12, 2.0)] * len(seeds) for name, seeds in right.items()}
    return trial_of(recipe, 5, runs, costs, store)


def test_differences_are_paired_over_problems_and_over_seeds(store: Store) -> None:
    chance = np.random.default_rng(0)
    one = (chance.random((4, 60)) < 0.4).astype(int)
    other = np.maximum(one, chance.random((4, 60)) < 0.5).astype(int)
    made = synthetic(store, {"a": one.tolist(), "b": other.tolist(), "c": one.tolist()})
    better, same = made.versus
    assert better.difference.mean == pytest.approx((other - one).mean())
    seeds = other.mean(1) - one.mean(1)
    assert better.seeds == pytest.approx(reference.ttest_1samp(seeds, 0).confidence_interval(0.95))
    assert (better.verdict, same.verdict) == ("better", "not told apart")
    assert better.p_holm == pytest.approx(min(1.0, 2 * better.difference.p))
    assert made.arms[0].seeds_S == pytest.approx(tuple(one.mean(1)))
    assert made.arms[0].tokens == 4


def test_one_seed_alone_tells_nothing_apart(store: Store) -> None:
    made = synthetic(store, {"a": [[0] * 50], "b": [[1] * 50]})
    assert (made.versus[0].seeds, made.versus[0].verdict) == ((-1.0, 1.0), "not told apart")
    assert not math.isnan(made.versus[0].difference.low)


def test_pages_are_whole_and_safe(tmp_path: Path, store: Store) -> None:
    made = synthetic(store, {"a": [[0, 1] * 20, [1, 1] * 20], EVIL: [[1, 1] * 20, [0, 1] * 20]})
    write_pages(made, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    left, right = bounds(made)
    assert 0 <= left <= 0.5 < 1 <= right <= 1
    for name in ("a", "+0.0 points", "not told apart"):
        assert name in page
        assert name in to_markdown(made)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"first": "nobody"}, "no arm of this lesson"),
        ({"arms": {"base": {"how": "none"}, "x": {"after": "y"}, "y": {}}}, "an arm above it"),
        ({"arms": {"base": {"how": "none"}, "x": {"how": "grpo", "cut": 8}}}, "cut is the length"),
        ({"arms": {"base": {"how": "none", "keys": {"seed": 1}}, "x": {}}}, "not trained"),
        ({"arms": {"base": {"how": "none"}, "x": {"keys": {"training.lrr": 1.0}}}}, "training.lr"),
        ({"arms": {"base": {"how": "none"}, "x": {"keys": {"training.tuning": "lora"}}}}, "all weights"),
        ({"arms": {"base": {"how": "none"}, "x": {"how": "grpo", "keys": {"step": 3}}}}, "steps"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        check(lesson(**changed))


@pytest.mark.parametrize("path", sorted((HERE / "lessons").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_lessons_can_be_taught(path: Path) -> None:
    found = load(str(path), LessonRecipe)
    check(found)
    assert found.seeds == 5
    assert found.source
    assert load(f"lessons/{path.stem}", LessonRecipe) == found
