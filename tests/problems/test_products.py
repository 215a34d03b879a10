"""Products of two sizes: what they ask, who can do them, and that they stay out of `mixed`."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from thinksmith.audit.audit import audit
from thinksmith.errors import UserError
from thinksmith.problems.families import EVERY, FAMILIES, mixture, sample, stream, write_solution
from thinksmith.problems.load import load
from thinksmith.problems.products import FAMILY
from thinksmith.problems.writer import Style
from thinksmith.records import Trace
from thinksmith.verify import check_gold, verify


def test_half_are_too_big_for_a_head_and_say_so() -> None:
    problems = sample("products", {}, 400, split="train", seed=1)
    big = [problem for problem in problems if problem.meta["needs_tool"]]
    assert 160 < len(big) < 240
    for problem in problems:
        a, b = problem.meta["a"], problem.meta["b"]
        assert problem.answer == str(a * b)
        assert f"{a} * {b}" == problem.meta["expression"]
        assert problem.meta["expression"] in problem.text
        assert check_gold(problem) is None
        short, long = sorted((len(str(a)), len(str(b))))
        if problem.meta["needs_tool"]:
            assert 3 <= short <= long <= 5
            assert long >= 4
        else:
            assert short == 1
            assert long <= 3


def test_the_split_is_by_what_is_asked() -> None:
    splits: dict[tuple[int, ...], str] = {}
    again = 0
    rng, settings = Random(2), FAMILY.settings({"size": "small", "small": "2"})
    for _ in range(4000):
        problem = FAMILY.generate(rng, settings)
        pair = tuple(sorted((problem.meta["a"], problem.meta["b"])))
        again += pair in splits
        assert splits.setdefault(pair, problem.meta["split"]) == problem.meta["split"]
    assert again > 1000
    held_out = sum(split == "test" for split in splits.values()) / len(splits)
    assert 0.05 < held_out < 0.15
    train, test = (sample("products", {}, 200, split=split, seed=0) for split in ("train", "test"))
    assert not {p.id for p in train} & {p.id for p in test}
    assert all(p.id.startswith("products/test/") for p in test)


@pytest.mark.parametrize("size", ["small", "big"])
def test_the_solver_is_right_where_it_does_not_slip(size: str) -> None:
    rng = Random(3)
    for problem in islice(stream("products", {"size": size, "big": "6"}, split="train", seed=4), 60):
        solution = write_solution(problem, rng, Style(check=0.0))
        trace = Trace(solution.thinking, solution.answer, thinking_tokens=100)
        assert verify(problem, trace).correct, solution
        assert audit(trace, problem).share_true == 1.0, solution.thinking
        wrong = write_solution(problem, rng, Style(direct=1.0))
        assert not verify(problem, Trace(wrong.thinking, wrong.answer)).correct


def test_it_has_a_name_and_no_part_in_what_the_embedded_models_were_made_of() -> None:
    assert "products" in EVERY
    assert "products" not in FAMILIES
    assert not [problem for problem in mixture(60, split="test", seed=0) if problem.meta["family"] == "products"]
    assert load("products:size=big", 5, seed=1) == sample("products", {"size": "big"}, 5, split="test", seed=1)
    with pytest.raises(UserError, match="one of any, small, big"):
        load("products:size=huge", 5)
