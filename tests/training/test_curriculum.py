"""The curriculum: what is asked by the pass rates that were measured, against a plain reading of its rules."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.training.rl.curriculum import Curriculum
from thinksmith.training.rl.recipe import CurriculumTable

tables = st.builds(
    CurriculumTable,
    lowest=st.sampled_from([0.0, 0.2, 0.5]),
    highest=st.sampled_from([0.6, 0.9, 1.0]),
    measure=st.integers(0, 3),
    again=st.integers(0, 4),
)
groups = st.tuples(st.integers(0, 4), st.integers(0, 4)).map(lambda pair: (min(pair), max(pair)))
histories = st.lists(st.tuples(st.sampled_from("abc"), groups), max_size=25)


def noted(table: CurriculumTable, history: list[tuple[str, tuple[int, int]]]) -> Curriculum:
    curriculum = Curriculum(table)
    for step, (name, (correct, of)) in enumerate(history):
        curriculum.note(name, correct, of, step)
    return curriculum


def plainly_asked(
    table: CurriculumTable, history: list[tuple[str, tuple[int, int]]], name: str, step: int
) -> tuple[bool, str]:
    """The rules once more, from the whole history."""
    mine = [group for who, group in history if who == name]
    judged = [group for group in mine if group[1] > 0][-table.measure :] if table.measure else []
    if not table.measure or len(judged) < table.measure:
        return True, "unmeasured"
    correct, of = sum(c for c, _ in judged), sum(n for _, n in judged)
    if correct == 0 or correct == of:
        why = "never" if correct == 0 else "always"
    else:
        why = "inside" if table.lowest <= correct / of <= table.highest else "outside"
    last = max(i for i, (who, _) in enumerate(history) if who == name)
    return why == "inside" or (table.again > 0 and step - last >= table.again), why


@given(tables, histories, st.integers(0, 8))
def test_the_rules(table: CurriculumTable, history: list[tuple[str, tuple[int, int]]], later: int) -> None:
    curriculum = noted(table, history)
    step = len(history) + later
    told = {name: plainly_asked(table, history, name, step) for name in "abcd"}
    assert {name: (curriculum.asked(name, step), curriculum.standing(name)) for name in "abcd"} == told
    aside = [why for asked, why in told.values() if not asked]
    expected = {
        "curriculum/pool": 4 - len(aside),
        "curriculum/unmeasured": sum(why == "unmeasured" for _, why in told.values()),
        "curriculum/aside_never": aside.count("never"),
        "curriculum/aside_always": aside.count("always"),
        "curriculum/aside_band": aside.count("outside"),
    }
    assert curriculum.metrics("abcd", step) == (expected if table.measure else {})


@given(tables, histories, histories)
def test_put_down_and_taken_up_it_goes_on_the_same(
    table: CurriculumTable,
    first: list[tuple[str, tuple[int, int]]],
    second: list[tuple[str, tuple[int, int]]],
) -> None:
    whole = noted(table, [*first, *second])
    resumed = Curriculum(table)
    resumed.restore(json.loads(json.dumps(noted(table, first).state())))
    for step, (name, (correct, of)) in enumerate(second, start=len(first)):
        resumed.note(name, correct, of, step)
    assert resumed.state() == whole.state()
    for step in range(len(first), len(first) + len(second) + 5):
        assert [resumed.asked(name, step) for name in "abc"] == [whole.asked(name, step) for name in "abc"]


def test_the_nearest_is_that_in_the_band_last_asked_longest_ago() -> None:
    curriculum = Curriculum(CurriculumTable(lowest=0.25, highest=0.75, measure=1))
    for step, (name, correct) in enumerate([("far", 0), ("near", 7), ("late", 7), ("farthest", 8)]):
        curriculum.note(name, correct, 8, step)
    curriculum.note("far", 0, 8, 9)
    assert sorted(["far", "near", "late", "farthest"], key=curriculum.distance) == ["near", "late", "farthest", "far"]


def test_one_right_answer_brings_a_problem_back() -> None:
    curriculum = Curriculum(CurriculumTable(measure=2, again=10))
    curriculum.note("p", 0, 8, 0)
    assert curriculum.asked("p", 1)
    curriculum.note("p", 0, 8, 1)
    assert [curriculum.asked("p", step) for step in (2, 10, 11)] == [False, False, True]
    curriculum.note("p", 1, 8, 11)
    assert curriculum.asked("p", 12)


@pytest.mark.parametrize(("correct", "of"), [(2, 1), (-1, 3)])
def test_what_is_no_rate(correct: int, of: int) -> None:
    with pytest.raises(ValueError, match="no pass rate"):
        Curriculum(CurriculumTable(measure=1)).note("p", correct, of, 0)
