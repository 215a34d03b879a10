"""Which problems come when: shuffled passes, no repeats, resumable at every step, put aside and back."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.errors import UserError
from thinksmith.records import Problem
from thinksmith.training.rl.prompts import Drawn, Prompts
from thinksmith.training.rl.recipe import CurriculumTable

OFF = CurriculumTable()


def pool_of(size: int) -> list[Problem]:
    return [Problem(f"p/{i}", "?", "1") for i in range(size)]


def ids(drawn: list[Drawn]) -> list[str]:
    return [one.problem.id for one in drawn]


sizes = st.integers(1, 30)
counts = st.lists(st.integers(0, 12), min_size=1, max_size=12)
seeds = st.integers(0, 5)
measuring = st.builds(
    CurriculumTable,
    lowest=st.sampled_from([0.0, 0.3]),
    highest=st.sampled_from([0.7, 1.0]),
    measure=st.integers(0, 2),
    again=st.integers(0, 3),
)


@given(sizes, seeds)
def test_the_first_pass_is_the_pool_shuffled_by_seed_and_pass(size: int, seed: int) -> None:
    order = pool_of(size)
    Random(f"{seed}:0").shuffle(order)
    prompts = Prompts(pool_of(size), seed, OFF)
    assert ids([one for step in range(size) for one in prompts.take(1, step)]) == [problem.id for problem in order]


@given(sizes, counts, seeds)
def test_without_a_curriculum_all_are_asked_equally_often_and_never_twice_at_once(
    size: int, counts: list[int], seed: int
) -> None:
    prompts = Prompts(pool_of(size), seed, OFF)
    asked: Counter[str] = Counter()
    draws: list[int] = []
    for step, n in enumerate(counts):
        drawn = prompts.take(n, step)
        assert len(drawn) == n
        assert max(Counter(ids(drawn)).values(), default=0) <= -(-n // size)
        asked.update(ids(drawn))
        draws += [one.draw for one in drawn]
        often = [asked[problem.id] for problem in pool_of(size)]
        assert max(often) - min(often) <= 1
    assert draws == list(range(sum(counts)))
    assert prompts.counts.seen == sum(counts)


def test_passes_and_seeds_have_their_own_orders() -> None:
    orders = set()
    for seed in range(3):
        prompts = Prompts(pool_of(20), seed, OFF)
        orders |= {tuple(ids(prompts.take(20, step))) for step in range(3)}
    assert len(orders) == 9


@given(sizes, st.integers(1, 8), st.integers(1, 8), seeds)
def test_what_the_step_asked_already_comes_last(size: int, first: int, second: int, seed: int) -> None:
    prompts = Prompts(pool_of(size), seed, OFF)
    for step in range(4):
        began = ids(prompts.take(first, step))
        more = ids(prompts.take(second, step, besides=began))
        fresh = size - len(set(began))
        assert len(set(more[:fresh])) == min(second, fresh)
        assert not set(more[:fresh]) & set(began)


def learn(prompts: Prompts, drawn: list[Drawn], step: int) -> None:
    """Every problem has its own chance, and every draw its own luck."""
    for one in drawn:
        hard = Random(one.problem.id).choice([0.0, 0.05, 0.5, 0.95, 1.0])
        luck = Random(f"{one.problem.id}:{one.draw}")
        prompts.note(one.problem.id, sum(luck.random() < hard for _ in range(4)), 4, step)


@given(sizes, st.integers(1, 9), seeds, measuring, st.integers(0, 11))
def test_resumed_at_any_step_it_asks_what_the_uninterrupted_one_does(
    size: int, n: int, seed: int, table: CurriculumTable, stop: int
) -> None:
    def steps(prompts: Prompts, start: int, end: int) -> list[tuple[str, int]]:
        out = []
        for step in range(start, end):
            drawn = prompts.take(n, step)
            drawn += prompts.take(n // 2, step, besides=ids(drawn))
            learn(prompts, drawn, step)
            prompts.keep(1)
            out += [(one.problem.id, one.draw) for one in drawn]
        return out

    whole = Prompts(pool_of(size), seed, table)
    expected = steps(whole, 0, 12)
    began = Prompts(pool_of(size), seed, table)
    first = steps(began, 0, stop)
    resumed = Prompts(pool_of(size), seed, table)
    resumed.restore(json.loads(json.dumps(began.state())))
    assert first + steps(resumed, stop, 12) == expected
    assert resumed.state() == whole.state()
    assert resumed.metrics(12) == whole.metrics(12)


@given(sizes, st.integers(1, 9), seeds, measuring)
def test_what_is_put_aside_is_asked_only_where_too_few_others_are_left(
    size: int, n: int, seed: int, table: CurriculumTable
) -> None:
    prompts = Prompts(pool_of(size), seed, table)
    for step in range(12):
        active = {problem.id for problem in pool_of(size) if prompts.curriculum.asked(problem.id, step)}
        before = prompts.counts.returned
        drawn = prompts.take(n, step)
        assert len(drawn) == n
        assert len(set(ids(drawn))) == min(n, size)
        back = {one for one in ids(drawn) if one not in active}
        assert len(back) == min(max(0, n - len(active)), size - len(active))
        assert prompts.counts.returned - before == sum(one in back for one in ids(drawn))
        left = {problem.id for problem in pool_of(size)} - active - back
        distance = prompts.curriculum.distance
        assert all(distance(one) <= distance(other) for one in back for other in left)
        learn(prompts, drawn, step)


def test_problems_in_turn_that_are_put_aside_are_skipped_and_counted() -> None:
    prompts = Prompts(pool_of(10), 0, CurriculumTable(measure=1))
    for step, one in enumerate(prompts.take(10, 0)):
        prompts.note(one.problem.id, 0 if step < 4 else 1, 2, 0)
    assert {one for step in (1, 2) for one in ids(prompts.take(6, step))} == {
        problem.id for problem in pool_of(10) if prompts.curriculum.standing(problem.id) == "inside"
    }
    # The second of these takes ends its pass with the last problem that is asked, wherever those put aside stand.
    assert 4 < prompts.counts.skipped <= 8
    assert prompts.metrics(3)["curriculum/aside_never"] == 4


def test_the_state_does_not_grow_with_the_pool_nor_with_time() -> None:
    prompts = Prompts(pool_of(5000), 0, OFF)
    for step in range(400):
        prompts.take(48, step)
        prompts.keep(40)
    assert len(json.dumps(prompts.state())) < 1000
    assert prompts.counts.kept == 400 * 40


def test_a_state_of_another_pool_is_told() -> None:
    prompts = Prompts(pool_of(5), 0, OFF)
    with pytest.raises(UserError, match="are not those that the run began with"):
        prompts.restore(Prompts(pool_of(6), 0, OFF).state())


def test_no_problems_at_all() -> None:
    with pytest.raises(UserError, match="no problems to train on"):
        Prompts([], 0, OFF)
