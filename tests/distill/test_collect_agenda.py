"""Which draws are made: the fewest, counted from 0, that hold as many correct ones as are wanted, in whatever order the
answers come, whatever fails on the way, and however often it is begun again."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.distill.collect.agenda import Agenda, Draw
from thinksmith.distill.collect.goal import Goal
from thinksmith.errors import UserError
from thinksmith.records import Problem

PROBLEMS = [Problem(f"p/{at}", f"question {at}", "1") for at in range(4)]
MOST = 12
goals = st.one_of(
    st.builds(Goal, st.just("single"), st.integers(1, 5)),
    st.builds(Goal, st.just("first"), st.integers(1, MOST)),
    st.integers(1, 4).flatmap(lambda k: st.builds(Goal, st.just("correct"), st.just(k), st.integers(k, MOST))),
)
tables = st.lists(st.lists(st.booleans(), min_size=MOST, max_size=MOST), min_size=4, max_size=4)


def one_at_a_time(goal: Goal, right: list[bool]) -> int:
    """How many draws of a problem whose draws are right or wrong like this."""
    if goal.kind == "single":
        return goal.k
    wanted = 1 if goal.kind == "first" else goal.k
    for made in range(goal.tries):
        if sum(right[:made]) >= wanted:
            return made
    return goal.tries


@given(goal=goals, table=tables, data=st.data())
def test_the_draws_do_not_depend_on_the_order_of_answers_or_on_interruptions(
    goal: Goal, table: list[list[bool]], data: st.DataObject
) -> None:
    right = {problem.id: row for problem, row in zip(PROBLEMS, table, strict=True)}

    def status(key: tuple[str, int]) -> str:
        return "correct" if right[key[0]][key[1]] else "wrong"

    made: set[tuple[str, int]] = set()
    agenda, running = Agenda(PROBLEMS, goal), list[Draw]()
    while not (agenda.done and not running):
        step = data.draw(st.sampled_from(["ask", "ask", "end", "kill"]))
        if step == "kill":
            agenda = Agenda(data.draw(st.permutations(PROBLEMS)), goal, [(*key, status(key)) for key in made])
            running = []
        elif step == "ask" and (draw := agenda.next()):
            assert draw.key not in made
            running.append(draw)
        elif running:
            ended = running.pop(data.draw(st.integers(0, len(running) - 1)))
            made.add(ended.key)
            agenda.came(ended, status(ended.key))
        assert agenda.running == len(running)
    expected = {(name, at) for name, row in right.items() for at in range(one_at_a_time(goal, row))}
    assert made == expected
    wanted = goal.k if goal.kind != "first" else 1
    enough = [sum(row[: one_at_a_time(goal, row)]) >= wanted for row in table]
    assert agenda.reached == (len(PROBLEMS) if goal.kind == "single" else sum(enough))


@given(goal=goals, table=tables, failing=st.sets(st.tuples(st.integers(0, 3), st.integers(0, MOST - 1))))
def test_a_draw_that_is_given_up_is_a_try_that_is_lost_and_is_made_by_the_next_run(
    goal: Goal, table: list[list[bool]], failing: set[tuple[int, int]]
) -> None:
    bad = {(PROBLEMS[at].id, number) for at, number in failing}
    right = {(problem.id, at): row[at] for problem, row in zip(PROBLEMS, table, strict=True) for at in range(MOST)}
    agenda, made = Agenda(PROBLEMS, goal), set[tuple[str, int]]()
    while draw := agenda.next():
        if draw.key in bad:
            agenda.gave_up(draw)
        else:
            made.add(draw.key)
            agenda.came(draw, "correct" if right[draw.key] else "wrong")
    assert agenda.done
    assert agenda.given_up <= len(bad)
    assert all(number < goal.tries for _, number in made)
    again = Agenda(PROBLEMS, goal, [(*key, "correct" if right[key] else "wrong") for key in made])
    asked = []
    while draw := again.next():
        asked.append(draw.key)
        again.came(draw, "wrong")
    assert not set(asked) & made


def test_every_problem_has_its_first_draw_before_any_has_its_second_and_the_order_is_shuffled() -> None:
    many = [Problem(f"p/{at}", "q", "1") for at in range(50)]
    agenda = Agenda(many, Goal("single", 3))
    asked = [draw.key for draw in iter(agenda.next, None)]
    assert [number for _, number in asked] == [0] * 50 + [1] * 50 + [2] * 50
    order = [name for name, _ in asked[:50]]
    assert order != [problem.id for problem in many]
    assert order == [name for name, _ in asked[50:100]]
    other = Agenda(many[::-1], Goal("single", 3))
    assert [draw.key for draw in iter(other.next, None)] == asked
    assert agenda.first(60) == asked[:60]
    seeded = Agenda(many, Goal("single", 3), seed=1)
    assert [draw.key for draw in iter(seeded.next, None)] != asked


def test_draws_of_problems_that_are_not_asked_for_do_not_matter() -> None:
    agenda = Agenda(PROBLEMS[:1], Goal("single", 1), [("other", 0, "correct"), ("p/0", 5, "wrong")])
    assert agenda.next() is None
    assert agenda.done


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("single", 0), "1 or more"),
        (("correct", -1), "1 or more"),
        (("correct", 5, 4), "larger most"),
        (("first", 5, 4), "most is for"),
        (("singel", 1), "did you mean 'single'"),
    ],
)
def test_goals_that_cannot_be(given: tuple[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Goal(*given)  # type: ignore[arg-type]


def test_how_goals_are_written() -> None:
    written = {"single@4": Goal(), "first@8": Goal("first", 8), "correct@2:most=8": Goal("correct", 2)}
    assert {goal.spec: goal for goal in written.values()} == written
    assert Goal("correct", 2, 5).tries == 5


@pytest.mark.parametrize("goal", [Goal("single", 3), Goal("first", 6), Goal("correct", 2, 7), Goal("correct", 3, 3)])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 1.0])
def test_the_expected_draws_are_the_mean_over_all_outcomes(goal: Goal, rate: float) -> None:
    mean = 0.0
    for outcome in product([True, False], repeat=goal.tries):
        chance = 1.0
        for right in outcome:
            chance *= rate if right else 1 - rate
        mean += chance * one_at_a_time(goal, [*outcome])
    assert goal.draws_expected(rate) == pytest.approx(mean)
